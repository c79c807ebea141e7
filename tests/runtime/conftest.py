"""What the tests of the GPU providers share."""

from pathlib import Path

import pytest

from tests.fake_gpu import fake_gpu
from tests.tiny_onnx import write_tiny_model

__all__ = ["fake_gpu"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model file of each precision; nobody writes to them."""
    folder = tmp_path_factory.mktemp("models")
    precisions = ("fp32", "fp16", "int8")
    return {name: write_tiny_model(folder / f"tiny.{name}.onnx", name) for name in precisions}
