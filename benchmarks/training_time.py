"""Where the minutes of trainings went, and what came of them: each run's own record of it.

    kneeedge train DATA --weights FILE --name RUN
    python -m benchmarks.training_time NAME=runs/RUN … --json FILE

A run must not have been stopped between; nothing else should have been at work on the machine.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.recipes import scores_of
from kneeedge.runs.folder import open_run
from kneeedge.system.progress import duration
from kneeedge.system.strict_json import to_json


def row_of(text: str) -> dict[str, Any]:
    """What NAME=RUN took and came to."""
    name, _, folder = text.partition("=")
    run = open_run(Path(folder))
    seconds = run.read_seconds()
    if not seconds:
        raise SystemExit(f"{run.folder}: the training was stopped between; train without a stop")
    record = run.read_config()
    metrics = json.loads(run.metrics.read_text())
    return {
        "name": name,
        "data": Path(record.data_root).name,
        "images": run.read_spec().training.n_images,
        "n_views": record.n_views,
        "bf16": record.bf16,
        "frozen_precision": record.frozen_precision,
        "epochs": metrics["epochs"],
        "kept_epoch": metrics["kept_epoch"],
        "seconds": seconds,
        "minutes": round(sum(seconds.values()) / 60, 1),
        **{split: scores_of(metrics[split]) for split in ("val", "test") if split in metrics},
        "environment": record.environment,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [row_of(text) for text in given.run]
    for row in rows:
        print(f"{row['name']}: {row['minutes']} min")
        for step, value in row["seconds"].items():
            print(f"  {step:16} {duration(value)}")
    if given.json:
        given.json.write_text(to_json({"runs": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
