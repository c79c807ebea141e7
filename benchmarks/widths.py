"""Which channel counts ONNX Runtime's int8 convolutions like: a layer's time, width by width.

    python -m benchmarks.widths --run runs/knee-kl --json benchmarks/results/DATE-widths-cpu.json

The network has half of its channels but for one layer in the middle (the second of block 3), whose
outputs go up by four; the layer itself and the next one, which reads them, are timed in ONNX
Runtime's own trace. The widths take turns, and each one's median over the rounds counts.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from export.to_onnx import to_onnx
from kneeedge.runs.folder import open_run
from kneeedge.slim.layer_times import profile, resized, share_of, widths_of
from kneeedge.system import machine
from kneeedge.training.checkpoint import load_original

LAYER = 5
"conv3_2, counted from 0"
WIDTHS = tuple(range(64, 137, 4))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run_help = "a finished run; its widths matter, not its weights"
    parser.add_argument("--run", type=Path, required=True, help=run_help)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model, spec = load_original(open_run(arguments.run))
    fp32 = to_onnx(model, spec)
    half = [share_of(channels, 0.5) for channels in widths_of(fp32)]
    threads = machine.available_cpus()
    graphs = [resized(fp32, [*half[:LAYER], width, *half[LAYER + 1 :]]) for width in WIDTHS]
    # (rounds, widths, 2) milliseconds
    times = np.empty((arguments.rounds, len(WIDTHS), 2))
    for i, j in np.ndindex(arguments.rounds, len(WIDTHS)):
        times[i, j] = profile(graphs[j], threads)[LAYER : LAYER + 2]
    rows = []
    for width, (writes, reads) in zip(WIDTHS, np.median(times, axis=0), strict=True):
        print(f"{width:4d} channels: {writes:.3f} ms to write, {reads:.3f} ms to read")
        row = {
            "width": width,
            "writes_ms": round(float(writes), 4),
            "reads_ms": round(float(reads), 4),
        }
        rows.append(row)
    if arguments.json:
        record = {
            "environment": dataclasses.asdict(machine.environment()),
            "layer": LAYER,
            "threads": threads,
            "rounds": arguments.rounds,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
