"""Which model runs when nobody names one, and which original a run's files are measured beside."""

import os
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import ConfigError, NotFoundError
from kneeedge.model.verdict import FAIL, PASS
from kneeedge.runs.folder import RUNS, Run
from kneeedge.runs.latest import latest_run
from kneeedge.system.files import file_sha256

MODEL_VARIABLE = "KNEEEDGE_MODEL"
PREFERENCE = {"cpu": ("int8", "fp32", "fp16"), "gpu": ("fp16", "fp32")}
"int8 is the fastest on a CPU; on a GPU's plain CUDA provider it runs in float and is slow"


@dataclass(frozen=True)
class Choice:
    """A model file and why it was taken."""

    path: Path
    why: str


def exported_models(run: Run) -> list[Path]:
    """The published `.onnx` files of a run, in the order fp32, fp16, int8."""
    files = run.read_export_report().files
    return [run.models / file.path for file in files if file.report.verdict != FAIL]


def choose_model(named: Path | None, provider: str, runs: Path = RUNS) -> Choice:
    """The model named, else `KNEEEDGE_MODEL`'s, else of the last run the one for the provider.

    Of a run only files that passed their verification are taken; raises NotFoundError where there
    is none, and ConfigError where the variable is set and empty.
    """
    if named is not None:
        return Choice(named, "named")
    variable = os.environ.get(MODEL_VARIABLE)
    if variable == "":
        raise ConfigError(f"{MODEL_VARIABLE} is set and empty", "name a file, or unset it")
    if variable is not None:
        return Choice(Path(variable), f"from {MODEL_VARIABLE}")
    return choose_of_run(Run(latest_run(runs)), provider)


def choose_of_run(run: Run, provider: str) -> Choice:
    """The exported file of the run for the provider; NotFoundError where none passed."""
    files = run.read_export_report().files
    passed = {file.report.precision: file for file in files if file.report.verdict == PASS}
    # `kneeedge --help` comes past here and needs no session.
    from kneeedge.runtime.providers import CPU_PROVIDERS, gpu_works

    on_gpu = gpu_works() if provider == "auto" else provider not in CPU_PROVIDERS
    order = PREFERENCE["gpu" if on_gpu else "cpu"]
    for precision in order:
        if precision in passed:
            path = run.models / passed[precision].path
            why = f"the first of {', '.join(order)} in {run.folder} that passed its verification"
            return Choice(path, why)
    problem = f"{run.folder}: no exported model passed its verification"
    raise NotFoundError(problem, "run `kneeedge export`, or name one with --model")


def bench_subjects(
    models: tuple[Path, ...], run: Path | None, runs: Path = RUNS
) -> tuple[tuple[str, ...], str | None]:
    """The files to measure, and the run beside whose original they are measured.

    Without a file, those of the run (the last one where none is named); without a run, the one in
    whose `models/` the first file stands, if it does. `original_of` says what a run's original is.
    """
    if not models:
        run = run or latest_run(runs)
        return tuple(map(str, exported_models(Run(run)))), str(run)
    home = models[0].resolve().parent.parent
    if run is None and Run(home).model.is_file():
        run = home
    return tuple(map(str, models)), str(run) if run else None


def original_of(run: Run) -> tuple[Run, str]:
    """The run whose PyTorch model is the original of the finished `run`, and a notice or "".

    Of a slim run that is the run it was slimmed from, as long as that still holds the same weights;
    else the slim run itself, and the notice says why. Raises CheckpointError where `config.json`
    does not name the original.
    """
    slimmed = run.read_spec().training.slimmed
    if slimmed is None:
        return run, ""
    original = Run(run.read_original_folder())
    own_row = "the PyTorch row is the slimmed network's own"
    instead = f"{own_row}, not that of its original, {slimmed.original}"
    if not original.is_finished:
        return run, f"{instead}: no finished run is at {original.folder} any more"
    if file_sha256(original.model) != slimmed.sha256:
        return run, f"{instead}: the run at {original.folder} holds other weights now"
    return original, ""
