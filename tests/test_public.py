"""What `import kneeedge` gives: the public names, found where one looks, at no cost until used."""

import pydoc
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

import kneeedge
from kneeedge.pixels.phantom import phantom
from tests.tiny_onnx import write_tiny_model

NAMES = ["ImageError", "InputError", "KneeEdgeError", "ModelSpec", "Prediction", "Predictor"]


def test_the_public_names_are_these() -> None:
    assert kneeedge.__all__ == [*NAMES, "__version__"]
    assert dir(kneeedge) == kneeedge.__all__
    for name in kneeedge.__all__:
        assert getattr(kneeedge, name) is not None
    with pytest.raises(AttributeError, match="'Predicter'"):
        kneeedge.Predicter  # noqa: B018


def test_help_shows_every_public_name_and_the_example() -> None:
    text = pydoc.render_doc(kneeedge, renderer=pydoc.plaintext)
    for name in NAMES:
        assert f"class {name}" in text
    assert "predictor.predict(" in text
    shown = pydoc.render_doc(kneeedge.Predictor, renderer=pydoc.plaintext)
    for name in ("predict", "predict_folder", "predict_all"):
        assert f" |  {name}(self, " in shown
    assert "images: 'ImageLike | Iterable[ImageLike]'" in shown


def test_the_example_of_the_module_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (kneeedge.__doc__ or "").splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))
    assert len(example.splitlines()) == 5
    write_tiny_model(tmp_path / "model.onnx")
    (tmp_path / "radiographs").mkdir()
    for path in (tmp_path / "xray.png", tmp_path / "radiographs/a.png"):
        Image.fromarray(phantom(1, 0.5, 64)).save(path)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "kneeedge", "exec"), {})  # noqa: S102 - our own text
    assert capsys.readouterr().out.startswith(("Healthy 0.", "Osteoporosis 0."))


def test_importing_kneeedge_loads_neither_numpy_nor_pillow_nor_a_runtime() -> None:
    code = (
        "import sys, kneeedge; dir(kneeedge); kneeedge.KneeEdgeError; kneeedge.__version__; "
        "print({'numpy', 'PIL', 'onnxruntime', 'torch', 'pydicom'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
