"""A run's own network under corruption, in PyTorch: what `kneeedge stress` asks of exported files.

    python -m benchmarks.stress_original RUN [--split val] [--severities 1,3,5] --json FILE

On a GPU where there is one. No file is exported for it.
"""

import argparse
from pathlib import Path

from export.original import open_network
from export.stress import torch_subject
from kneeedge.runs.folder import open_run
from kneeedge.stress.answers import answer_cells
from kneeedge.stress.cells import cells_of
from kneeedge.stress.rows import rows_of
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json
from kneeedge.training.plan import training_device
from kneeedge.training.score import in_full_fp32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--severities", default="1,3,5")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    run = open_run(given.run)
    network = open_network(run)
    spec = network.spec
    device = training_device()
    network.model.to(device)
    samples = run.read_dataset(Path(run.read_config().data_root), spec.classes).split(given.split)
    cells = cells_of((), [int(text) for text in given.severities.split(",")])
    subject = torch_subject(network)
    with in_full_fp32():
        (answers,) = answer_cells([subject], samples, cells, Progress())
    record = {
        "run": run.name,
        "split": given.split,
        "n": len(samples),
        "device": device,
        "rows": rows_of(samples, cells, answers, None),
        "environment": environment(),
    }
    given.json.write_text(to_json(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
