"""Which channel counts ONNX Runtime's int8 convolutions like: one layer's time as its width goes up
by four.

    python -m benchmarks.widths --run runs/knee-kl --json benchmarks/results/DATE-widths-cpu.json

The network has half of its channels but for one layer in the middle (the second of block 3), whose
outputs are varied; the layer itself and the next one, which reads them, are timed in ONNX Runtime's
own trace. The widths take turns, and each one's median over the rounds counts.
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
    parser.add_argument(
        "--run", type=Path, required=True, help="a finished run; its widths matter, not its weights"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model, spec = load_original(open_run(arguments.run))
    fp32 = to_onnx(model, spec)
    half = [share_of(channels, 0.5) for channels in widths_of(fp32)]
    threads = machine.available_cpus()
    graphs = [
        resized(fp32, [width if i == LAYER else c for i, c in enumerate(half)]) for width in WIDTHS
    ]
    rounds = np.array(
        [
            [profile(graph, threads)[LAYER : LAYER + 2] for graph in graphs]
            for _ in range(arguments.rounds)
        ]
    )
    writes, reads = np.median(rounds, axis=0).T
    rows = [
        {"width": width, "writes_ms": round(float(w), 4), "reads_ms": round(float(r), 4)}
        for width, w, r in zip(WIDTHS, writes, reads, strict=True)
    ]
    for row in rows:
        print(
            f"{row['width']:4d} channels: {row['writes_ms']:.3f} ms to write, {row['reads_ms']:.3f} ms to read"
        )
    if arguments.json:
        result = {
            "environment": dataclasses.asdict(machine.environment()),
            "layer": LAYER,
            "threads": threads,
        }
        arguments.json.write_text(
            json.dumps(result | {"rounds": arguments.rounds, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
