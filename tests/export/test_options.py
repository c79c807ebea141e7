"""What an export can be asked for, and what is refused before any work."""

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from export.options import ExportOptions
from export.run import export_run
from export.to_int8 import check_target
from kneeedge.errors import ConfigError, NotFoundError
from kneeedge.system.progress import Progress


def test_int8_is_made_for_every_cpu_whatever_machine_exports(monkeypatch):
    monkeypatch.setattr("kneeedge.system.machine.isa_flags", lambda: ("avx2", "avx512_vnni"))
    assert ExportOptions().int8_target == "any"


def test_unknown_targets_and_precisions_are_refused():
    with pytest.raises(ConfigError, match="--int8-target npu is unknown"):
        check_target("npu")
    with pytest.raises(ConfigError, match="--precision int4 is unknown"):
        ExportOptions(precisions=("int4",))
    with pytest.raises(ConfigError, match="--int8-target npu is unknown"):
        ExportOptions(int8_target="npu")


def test_a_folder_that_is_no_run_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="train one with `kneeedge train DATA`"):
        export_run(tmp_path, ExportOptions(), Progress(quiet=True))
