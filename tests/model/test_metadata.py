"""The metadata of an ONNX file is read from its bytes, without a runtime."""

from pathlib import Path

import onnxruntime
import pytest

from kneeedge.errors import ModelFileError, SpecError
from kneeedge.model.metadata import read_metadata, read_model_spec, with_metadata
from kneeedge.model.spec import SPEC_KEY
from tests.tiny_onnx import write_tiny_model


def test_metadata_is_what_onnx_runtime_reads(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx", "fp16")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert read_metadata(path) == session.get_modelmeta().custom_metadata_map
    assert read_model_spec(path).file.precision == "fp16"


@pytest.mark.parametrize(
    "content", [b"\x3a\xff\xff\x01", b"\x0f\x01", b"\x80", b"\xff" * 11, b"\x72\x02\x0a\x00"]
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="no ONNX file"):
        read_metadata(path)


def test_a_file_without_a_spec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x0a")
    with pytest.raises(SpecError, match="no kneeedge spec"):
        read_model_spec(path)


def test_an_entry_is_replaced_and_every_other_byte_is_kept(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx")
    before = path.read_bytes()
    old = read_metadata(path)[SPEC_KEY]
    assert with_metadata(before, {SPEC_KEY: old}, path) == before
    text = "é" * 5000
    after = with_metadata(before, {SPEC_KEY: text}, path)
    path.write_bytes(after)
    session = onnxruntime.InferenceSession(after, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map[SPEC_KEY] == text
    assert with_metadata(after, {SPEC_KEY: old}, path) == before


def test_an_entry_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(SpecError, match="no entry 'other'"):
        with_metadata(path.read_bytes(), {"other": "x"}, path)
    with pytest.raises(ModelFileError, match="no ONNX file"):
        with_metadata(b"\xff" * 11, {}, path)
