"""What `kneeedge slim` gives for a goal, by seed: each file's verdict on val, and its cost.

    python -m benchmarks.slim_seeds RUN --speedup X … [--seeds 3] --out FOLDER [--json FILE]

The layers' times and sensitivity and the original's answers to the training views are taken once,
in FOLDER/shared, and are those of seed 0; a seed decides the images that layers are mended by and
the order of training. Otherwise a run, FOLDER/SPEEDUPx-SEED, is the command's own, export and gate
included. A run that is finished is read. What the files do on test is for `kneeedge bench`.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kneeedge.runs.folder import Run
from kneeedge.runs.slim_report import SlimConfig, SlimReport
from kneeedge.slim.run import Slimmer
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json


def by_seed(
    config: SlimConfig, speedups: Sequence[float], n_seeds: int, out: Path, progress: Progress
) -> tuple[Slimmer, list[dict[str, Any]]]:
    """What all runs share, and a row of each, which is slimmed where it is not yet."""
    folder = out / "shared"
    folder.mkdir(parents=True, exist_ok=True)
    shared = Slimmer(replace(config, speedup=max(speedups)), folder, [], progress)
    Run(folder).write_survey(shared.survey)
    rows = []
    for speedup in speedups:
        for seed in range(n_seeds):
            run = Run(out / f"{speedup:g}x-{seed}")
            begun = time.monotonic()
            report = slimmed(shared, replace(config, speedup=speedup, seed=seed), run)
            row = row_of(report, run)
            progress(f"{run.name}: {row['verdict']}, {time.monotonic() - begun:.0f} s")
            rows.append(row)
    return shared, rows


def slimmed(shared: Slimmer, config: SlimConfig, run: Run) -> SlimReport:
    """The report of one run with what `shared` measured and asked."""
    if not run.slim.is_file():
        run.folder.mkdir(parents=True)
        run.write_slim(SlimReport(config, shared.slimmed))
    report = run.read_slim()
    if report.chosen is not None:
        return report
    slimmer = Slimmer(config, run.folder, [], shared.progress)
    slimmer.survey = shared.survey
    slimmer.targets = shared.targets
    return slimmer.slim()


def row_of(report: SlimReport, run: Run) -> dict[str, Any]:
    """What is kept of a run."""
    (step,) = report.steps
    export = run.read_export_report()
    (file,) = [file for file in export.files if file.report.precision == "int8"]
    kept = {name: value for name, value in asdict(step).items() if name not in ("name", "model")}
    return {
        "speedup": report.config.speedup,
        "seed": report.config.seed,
        "file": file.path,
        **kept,
        "worst_loss": file.report.deciding.worst_loss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--speedup", type=float, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    config = SlimConfig(original=given.run)
    shared, rows = by_seed(config, given.speedup, given.seeds, given.out, Progress())
    result = {
        "data": shared.dataset.root.name,
        "original": shared.slimmed.sha256,
        "channels": shared.slimmed.channels,
        "seeds": given.seeds,
        "times": asdict(shared.survey.times),
        "environment": environment(),
        "runs": rows,
    }
    text = to_json(result) + "\n"
    if given.json:
        given.json.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
