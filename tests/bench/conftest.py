"""Tiny models and a labelled folder, for the tests that really measure."""

import pytest

from kneeedge.pixels.phantom import write_dataset
from tests.tiny_onnx import write_tiny_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The paths of an fp32 and an int8 file."""
    folder = tmp_path_factory.mktemp("models")
    fp32 = write_tiny_model(folder / "tiny.fp32.onnx", "fp32")
    int8 = write_tiny_model(folder / "tiny.int8.onnx", "int8")
    return str(fp32), str(int8)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """{train,test}/{Healthy,Osteoporosis}/….png, eight of them in test."""
    folder = tmp_path_factory.mktemp("bench") / "data"
    write_dataset(folder, {"train": 2, "test": 8}, size=64)
    return str(folder)
