"""Which model runs when nobody names one, and which original a run's files are measured beside."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import CheckpointError, NotFoundError
from kneeedge.gate import FAIL, PASS, read_report
from kneeedge.spec import ModelSpec

RUNS = Path("runs")
LATEST = "latest"
MODEL_VARIABLE = "KNEEEDGE_MODEL"
PREFERENCE = {"cpu": ("int8", "fp32", "fp16"), "gpu": ("fp16", "fp32")}
"int8 is the fastest on a CPU; on a GPU's plain CUDA provider it runs in float and is slow"


@dataclass(frozen=True)
class Choice:
    """A model file and why it was taken."""

    path: Path
    why: str


def latest_run(runs: Path = RUNS) -> Path:
    """The folder that the last finished training wrote."""
    if not (runs / LATEST).exists():
        remedy = "train one with `kneeedge train DATA`, or name a run folder"
        raise NotFoundError(f"{runs / LATEST}: no finished run", remedy)
    return runs / LATEST


def exported_models(run: Path) -> list[Path]:
    """The published `.onnx` files of a run, in the order fp32, fp16, int8."""
    return [run / "models" / file.path for file in read_report(run / "models").files if file.report.verdict != FAIL]


def choose_model(named: Path | None, provider: str, runs: Path = RUNS) -> Choice:
    """The model named, else `KNEEEDGE_MODEL`'s, else the passing one of the last run that suits the provider."""
    if named is not None:
        return Choice(named, "named")
    if variable := os.environ.get(MODEL_VARIABLE):
        return Choice(Path(variable), f"from {MODEL_VARIABLE}")
    run = latest_run(runs)
    passed = {file.report.precision: file for file in read_report(run / "models").files if file.report.verdict == PASS}
    from kneeedge.session import CPU_PROVIDERS, gpu_works  # `kneeedge --help` comes past here and needs no session

    on_gpu = gpu_works() if provider == "auto" else provider not in CPU_PROVIDERS
    order = PREFERENCE["gpu" if on_gpu else "cpu"]
    for precision in order:
        if precision in passed:
            path = run / "models" / passed[precision].path
            return Choice(path, f"the first of {', '.join(order)} in {run} that passed its verification")
    raise NotFoundError(
        f"{run}: no exported model passed its verification", "run `kneeedge export`, or name one with --model"
    )


def bench_subjects(models: tuple[Path, ...], run: Path | None, runs: Path = RUNS) -> tuple[tuple[str, ...], str | None]:
    """The files to measure, and the run beside whose original they are measured: see `original_of`.

    Without a file, those of the run (the last one where none is named); without a run, the one in whose `models/`
    the first file stands, if it does.
    """
    if not models:
        run = run or latest_run(runs)
        return tuple(map(str, exported_models(run))), str(run)
    home = models[0].resolve().parent.parent
    if run is None and (home / "model.safetensors").is_file():
        run = home
    return tuple(map(str, models)), str(run) if run else None


def original_of(run: Path) -> tuple[Path, str]:
    """The run whose PyTorch model is the original of the finished `run`, and what is to be said of it, if anything.

    Of a slim run that is the run it was slimmed from, as long as that still holds the same weights; else the slim run
    itself, and a notice says why. Raises CheckpointError where `config.json` does not name the original.
    """
    slimmed = ModelSpec.read(run / "spec.json").training.slimmed
    if slimmed is None:
        return run, ""
    from kneeedge.dataset import file_sha256  # reads images otherwise, which no command needs on its way past here

    try:
        folder = Path(json.loads((run / "config.json").read_text(encoding="utf-8"))["original"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"it does not name the run that was slimmed ({error})"
        raise CheckpointError(run / "config.json", problem, "slim the original again with `kneeedge slim`") from error
    instead = f"the PyTorch row is the slimmed network's own, not that of its original, {slimmed.original}"
    if not all((folder / name).is_file() for name in ("spec.json", "model.safetensors")):
        return run, f"{instead}: no finished run is at {folder} any more"
    if file_sha256(folder / "model.safetensors") != slimmed.sha256:
        return run, f"{instead}: the run at {folder} holds other weights now"
    return folder, ""
