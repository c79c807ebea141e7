"""All GPU measurements of the exported files in one go, within eight minutes.

    python -m benchmarks.gpu --model-folder runs/NAME/models [--images FOLDER] --json FILE

The folder holds the fp32, fp16 and perhaps the int8 `.onnx` file of one model. Every
configuration's answers are held against those of the CPU in fp32. Candidates of one table are timed
in turns, so that drift hits all alike; each run is waited for. The JSON is written after every
section, so that a run that is cut short leaves what it had. Exit code 1 where there is no GPU,
where a section failed, or where an answer of fp32 differs by more than TOLERANCE.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.gpu.measure import Agreement, Outcome, flops_of, nvidia_smi, run_sections
from benchmarks.gpu.sections import Bench, sections
from kneeedge.errors import ConfigError, KneeEdgeError
from kneeedge.model.metadata import read_model_spec
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import phantoms
from kneeedge.pixels.pixel_path import load_input
from kneeedge.runtime.providers import check_provider, load_runtime
from kneeedge.system.files import write_text
from kneeedge.system.machine import environment

BUDGET = 470.0
"seconds for all sections"
TOLERANCE = 5e-3
"largest logit change of fp32 on the GPU; sums are rounded in another order there"


def open_bench(folder: Path, images: Path | None) -> Bench:
    """The files by precision, and 64 images: those of the folder, else phantoms."""
    specs = {path: read_model_spec(path) for path in sorted(folder.glob("*.onnx"))}
    files = {spec.file.precision: path for path, spec in specs.items() if spec.file}
    if not {"fp32", "fp16"} <= set(files):
        problem = f"{folder} has no fp32 and fp16 file of a model"
        raise ConfigError(problem, "name the models/ folder of an exported run")
    spec = specs[files["fp32"]]
    if images is None:
        pixels = phantoms(64, spec.pixel_path.size)
    else:
        paths = [image.path for image in find_images([images]).images[:64]]
        pixels = np.stack([load_input(path, spec.pixel_path) for path in paths])[:, None]
    return Bench(folder=folder, files=files, spec=spec, images=pixels, image_folder=images)


def wrong_answers(outcomes: list[Outcome]) -> list[Agreement]:
    """The fp32 configurations whose answers are not those of the CPU."""
    rows = [row for outcome in outcomes for row in outcome.rows if isinstance(row, Agreement)]
    return [
        row
        for row in rows
        if row.name.startswith("fp32") and (row.flips or row.max_logit_change > TOLERANCE)
    ]


def measure(bench: Bench, budget: float, out: Path | None, only: Sequence[str] = ()) -> int:
    """Run all sections, keep the JSON up to date, and give the exit code."""
    state = load_runtime().capi.onnxruntime_pybind11_state
    failures = (
        state.Fail,
        state.RuntimeException,
        state.InvalidArgument,
        state.EPFail,
        state.NotImplemented,
    )
    before = nvidia_smi()

    def save(outcomes: list[Outcome]) -> None:
        last = outcomes[-1]
        print(f"{last.name}: {last.state} {last.why}", file=sys.stderr)
        record = {
            "environment": asdict(environment()),
            "gpu_before": before,
            "gpu_after": nvidia_smi(),
            "files": {name: path.name for name, path in bench.files.items()},
            "flops_an_image": flops_of(bench.spec),
            "sections": list(map(asdict, outcomes)),
        }
        text = json.dumps(record, indent=1, allow_nan=False) + "\n"
        if out:
            write_text(out, text)
        elif len(outcomes) == len(planned):
            print(text)

    planned = [one for one in sections(bench) if not only or one.name in only]
    outcomes = run_sections(planned, budget, failures, save)
    wrong = wrong_answers(outcomes)
    for row in wrong:
        problem = f"{row.name} does not answer as the CPU does: {row}"
        print(f"error: {problem}; do not use it", file=sys.stderr)
    return int(bool(wrong) or any(outcome.state == "failed" for outcome in outcomes))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-folder", type=Path, required=True)
    parser.add_argument(
        "--images", type=Path, help="radiographs to time and to compare on; phantoms without it"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures; stdout without it")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for all of it")
    parser.add_argument("--only", nargs="+", default=[], help="names of sections; all without it")
    args = parser.parse_args(argv)
    try:
        check_provider(load_runtime(), "cuda")
        return measure(
            open_bench(args.model_folder, args.images), args.budget, args.json, args.only
        )
    except KneeEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
