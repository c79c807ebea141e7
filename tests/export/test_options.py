"""What an export can be asked for, and what is refused before any work."""

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

from export.run import ExportOptions, export_run
from export.to_int8 import choose_target
from kneeedge.errors import ConfigError, NotFoundError
from kneeedge.system.progress import Progress


@pytest.mark.parametrize(
    ("isa", "target"),
    [(("avx2", "avx512_vnni"), "x86"), (("avx2",), "x86-no-vnni"), (("asimd", "asimddp"), "arm")],
)
def test_auto_reads_this_machine(monkeypatch, isa, target):
    monkeypatch.setattr("kneeedge.system.machine.isa_flags", lambda: isa)
    assert choose_target("auto") == target


def test_unknown_targets_and_precisions_are_refused():
    with pytest.raises(ConfigError, match="--int8-target npu is unknown"):
        choose_target("npu")
    with pytest.raises(ConfigError, match="--precision int4 is unknown"):
        ExportOptions(precisions=("int4",))
    with pytest.raises(ConfigError, match="--int8-target npu is unknown"):
        ExportOptions(int8_target="npu")


def test_a_folder_that_is_no_run_says_what_to_do(tmp_path):
    with pytest.raises(NotFoundError, match="train one with `kneeedge train DATA`"):
        export_run(tmp_path, ExportOptions(), Progress(quiet=True))
