"""Worker processes from the parent's side: they die, hang, or answer nonsense."""

import inspect
from pathlib import Path

import pytest

from kneeedge import errors
from kneeedge.bench import crew as crew_module
from kneeedge.bench.crew import read_reply
from kneeedge.bench.run import bench
from kneeedge.errors import KneeEdgeError, WorkerError
from kneeedge.system.processes import as_raised
from tests.bench.small import QUIET, small_request

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, KneeEdgeError)
]


def test_a_worker_that_dies_is_a_worker_error_with_its_last_line(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "import sys; input(); sys.exit('Traceback\\nMemoryError: too much')"
    (tmp_path / "dying.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(crew_module, "WORKER", "dying")
    message = r"tiny\.fp32\.onnx ended without a result: MemoryError: too much;"
    with pytest.raises(WorkerError, match=message):
        bench(small_request(models, ceiling=False), QUIET)


def test_a_worker_that_hangs_is_ended_with_the_remedy(
    models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hanging.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(crew_module, "WORKER", "hanging")
    message = r"did not answer within 0\.5 s; give more time with --timeout"
    with pytest.raises(WorkerError, match=message):
        bench(small_request(models, timeout=0.5, ceiling=False), QUIET)


@pytest.mark.parametrize("line", [b"noise{}", b'{"result": 1}', b'{"window": 1}', b"\xff"])
def test_a_damaged_reply_is_a_worker_error(line: bytes) -> None:
    with pytest.raises(WorkerError, match="its reply is damaged"):
        read_reply(line, "the benchmark of m.onnx")


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_crosses_the_process_with_its_class_and_message(
    kind: type[KneeEdgeError],
) -> None:
    error = as_raised(kind.__name__, "a reason; a remedy")
    assert type(error) is kind
    assert str(error) == "a reason; a remedy"
