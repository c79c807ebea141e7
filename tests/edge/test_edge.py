"""The built wheel with [cpu] alone, without torch and onnx: what a device runs."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILES = Path(os.environ["KNEEEDGE_EDGE_FILES"])
DATA, RUN = FILES / "data", FILES / "runs/edge"
MODELS = {
    precision: RUN / f"models/edge.{precision}.onnx" for precision in ("fp32", "fp16", "int8")
}


def kneeedge(
    *arguments: object, cwd: Path = FILES, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The installed command, as a shell would run it."""
    command = [Path(sys.executable).parent / "kneeedge", *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    "module", ["torch", "torchvision", "onnx", "matplotlib", "safetensors", "scipy", "sklearn"]
)
def test_the_environment_is_an_edge_device(module):
    assert importlib.util.find_spec(module) is None


def test_kneeedge_comes_from_the_wheel():
    found = importlib.util.find_spec("kneeedge")
    assert "site-packages" in found.origin


def test_help_imports_no_runtime():
    code = (
        "import sys; from kneeedge.cli.app import app; "
        "assert not {'torch', 'onnxruntime', 'PIL'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "infer" in kneeedge("--help").stdout


@pytest.mark.parametrize("precision", MODELS)
def test_infer(precision, tmp_path):
    done = kneeedge(
        "infer", DATA / "test", "--model", MODELS[precision], "--out", tmp_path / "p.csv"
    )
    assert (done.returncode, len((tmp_path / "p.csv").read_text().splitlines())) == (0, 61), (
        done.stderr
    )
    assert "60 images" in done.stdout


def test_infer_without_a_model_takes_the_last_runs_best(tmp_path):
    done = kneeedge("infer", DATA / "test", "--out", tmp_path / "p.csv")
    assert done.returncode == 0, done.stderr
    assert "runs/latest/models/edge." in done.stderr


def test_infer_takes_the_model_of_the_environment(tmp_path):
    done = kneeedge("infer", DATA / "test", cwd=tmp_path, KNEEEDGE_MODEL=str(MODELS["fp16"]))
    assert done.returncode == 0, done.stderr
    assert "edge.fp16.onnx (from KNEEEDGE_MODEL)" in done.stderr


def test_infer_with_a_broken_image_exits_3_and_answers_the_others(tmp_path):
    shutil.copytree(DATA / "test", tmp_path / "night")
    (tmp_path / "night/broken.png").write_text("x")
    done = kneeedge("infer", "night", "--model", MODELS["fp32"], "--json", "-", cwd=tmp_path)
    assert done.returncode == 3
    result = json.loads(done.stdout)
    summary = result["summary"]
    assert (summary["n_ok"] + summary["n_abstained"], summary["n_errors"]) == (60, 1)


@pytest.mark.parametrize("precision", MODELS)
def test_evaluate(precision):
    done = kneeedge("evaluate", MODELS[precision], DATA, "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {
        "n",
        "classes",
        "positive",
        "threshold",
        "accuracy",
        "confusion",
        "per_class",
        "auroc",
        "intervals",
    } <= set(result)
    assert (result["n"], result["n_seen"]) == (60, 0)


def test_stress_pairs_a_variant_with_the_original_without_torch():
    models = (MODELS["fp32"], MODELS["int8"])
    done = kneeedge("stress", *models, DATA, "--kinds", "blur,text,inverted", "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [len(model["rows"]) for model in result["models"]] == [12, 12]
    assert result["models"][1]["rows"][0]["paired"]["change"]["n"] == 60


def test_python_answers_what_memory_holds_as_it_answers_the_file():
    import numpy as np
    from PIL import Image

    from kneeedge import Predictor

    predictor = Predictor(MODELS["int8"], "cpu", answer_all=True)
    path = next((DATA / "test/Healthy").glob("*.png"))
    expected = predictor.predict(path, heatmap=True)
    image = Image.open(path)
    for given in (path.read_bytes(), image, np.array(image)):
        answer = predictor.predict(given, heatmap=True)
        assert (answer.prediction, answer.confidence) == (expected.prediction, expected.confidence)
        assert np.array_equal(answer.heatmap, expected.heatmap)
    assert len(predictor.predict_folder(DATA / "test")) == 60


def test_python_names_the_extra_that_dicom_bytes_need():
    from kneeedge import KneeEdgeError, Predictor

    predictor = Predictor(MODELS["int8"], "cpu")
    dicom = bytes(128) + b"DICM"
    with pytest.raises(KneeEdgeError, match=r"pip install 'kneeedge\[dicom\]'"):
        predictor.predict(dicom)
    (unread,) = predictor.predict([dicom])
    assert "pip install 'kneeedge[dicom]'" in unread.error


def test_evaluate_on_training_images_says_leaky():
    done = kneeedge("evaluate", MODELS["fp32"], DATA, "--split", "train")
    assert "LEAKY: the model was trained or chosen on 120 of these images" in done.stdout


def test_verify_pairs_two_files_on_images():
    done = kneeedge(
        "verify", MODELS["fp16"], "--data", DATA / "test", "--against", MODELS["fp32"], "-q"
    )
    assert "60 images paired" in done.stdout, done.stderr


def test_verify():
    done = kneeedge("verify", *MODELS.values())
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASS") == 3


@pytest.mark.parametrize("precision", MODELS)
def test_info(precision):
    done = kneeedge("info", MODELS[precision])
    assert done.returncode == 0, done.stderr
    assert "Healthy, Osteoporosis" in done.stdout
    assert precision in done.stdout


def test_bench_without_torch_measures_the_files(tmp_path):
    done = kneeedge(
        "bench",
        MODELS["fp32"],
        MODELS["int8"],
        "--seconds",
        "0.3",
        "--batch-size",
        "1,4",
        "--data",
        DATA,
        "--json",
        tmp_path / "b.json",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "b.json").read_text())["results"]
    assert {row["precision"] for row in results} == {"fp32", "int8"}
    assert all(row["accuracy"]["n"] == 60 for row in results)


@pytest.mark.parametrize("command", ["verify", "info", "bench"])
def test_a_signature_is_required_or_the_extra_is_named(command, tmp_path):
    done = kneeedge(
        command, MODELS["fp32"], KNEEEDGE_REQUIRE_SIGNATURE=str(tmp_path / "PUBLIC.pem")
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("run: pip install 'kneeedge[sign]'")


def test_infer_leaves_nothing_in_the_users_home(tmp_path):
    (tmp_path / "home").mkdir()
    done = kneeedge(
        "infer", DATA / "test", "--model", MODELS["int8"], cwd=tmp_path, HOME=str(tmp_path / "home")
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "home").rglob("*")) == []


@pytest.mark.parametrize("command", [("train", "data"), ("export",), ("demo",)])
def test_what_needs_torch_says_what_to_install(command):
    done = kneeedge(*command)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'kneeedge[train,cpu]'" in done.stderr


def test_cuda_without_a_gpu_stops_with_the_remedy(tmp_path):
    for command in (("infer", DATA / "test", "--model", MODELS["fp32"]), ("bench", MODELS["fp32"])):
        done = kneeedge(*command, "--provider", "cuda", cwd=tmp_path)
        assert done.returncode == 1
        assert "pip install 'kneeedge[cuda]'" in done.stderr
        assert not list(tmp_path.glob("*.csv"))


def test_without_any_runtime_every_command_says_what_to_install(tmp_path):
    """onnxruntime is hidden by a module of that name that is not there."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    for command in (
        ("infer", DATA / "test", "--model", MODELS["fp32"]),
        ("evaluate", MODELS["fp32"], DATA),
        ("stress", MODELS["fp32"], DATA),
        ("verify", MODELS["fp32"]),
        ("info", MODELS["fp32"]),
    ):
        done = kneeedge(*command, PYTHONPATH=str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: running a model needs ONNX Runtime")
        assert "pip install 'kneeedge[cpu]'" in done.stderr
