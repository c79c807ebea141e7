"""What a view of VGG19 costs in training here: in fp32, bf16 and int8, by what is trained.

    python -m benchmarks.train_cost [--repeats 5] [--without bf16] > benchmarks/results/….json

Medians of interleaved repeats of 16 views; random weights, since the cost does not depend on them.
What a CPU only emulates takes long there: `--without` leaves out the cases of such a name.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from statistics import median

import torch
from torch.nn import functional as F

from export.frozen import frozen_graph, int8_file
from export.graph import layers
from kneeedge.model.spec import Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.system.machine import environment
from kneeedge.training.cpu import use_cpu
from kneeedge.training.loop import build_optimizer
from kneeedge.training.lower import TorchBlocks, open_int8
from kneeedge.training.model import KneeVGG
from kneeedge.training.plan import N_FROZEN

BATCH = 16
NARROW = ((16, 32), (32, 64), (64, 96, 64, 96), (128, 192, 136, 280), (256, 256, 128, 192))
"channels that `kneeedge slim --speedup 6` once left"


def network(n_frozen: int, architecture: Architecture | None = None) -> KneeVGG:
    """VGG19 with random weights, to be trained above its frozen blocks."""
    model = KneeVGG(architecture or Architecture(), 2, n_frozen=n_frozen)
    return model.to(memory_format=torch.channels_last).train()


def activations(model: KneeVGG, images: torch.Tensor) -> torch.Tensor:
    """What the frozen blocks give, as a training reads it."""
    with torch.inference_mode():
        outputs = model.lower(images)
    return outputs.clone()


def step(model: KneeVGG, x: torch.Tensor, bf16: bool) -> None:
    """Forward and backward of what is not frozen; the optimiser's own step is a case of its own."""
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(model(x).float(), torch.zeros(len(x), dtype=torch.long))
    loss.backward()


def cases() -> dict[str, Callable[[], object]]:
    """One run of each case over BATCH views, by its name."""
    images = torch.randint(0, 256, (BATCH, 1, 224, 224), dtype=torch.uint8)
    frozen, deeper, whole = (network(n) for n in (N_FROZEN, N_FROZEN - 1, 0))
    narrow = network(0, Architecture(NARROW))
    kept, kept_deeper = (activations(model, images) for model in (frozen, deeper))
    graph = frozen_graph(frozen.eval(), images.shape[-1])
    in_int8 = open_int8(int8_file(graph, {layer.output: (0.0, 1.0) for layer in layers(graph)}))
    optimizer = build_optimizer(frozen, TrainConfig(data=""))
    return {
        "blocks 1-4 forward, fp32": lambda: TorchBlocks(frozen, bf16=False).rows(images),
        "blocks 1-4 forward, bf16": lambda: TorchBlocks(frozen, bf16=True).rows(images),
        "blocks 1-4 forward, int8": lambda: in_int8.rows(images),
        "block 5 step, fp32": lambda: step(frozen, kept, False),
        "block 5 step, bf16": lambda: step(frozen, kept.to(torch.bfloat16), True),
        "block 5, the optimiser's own step": optimizer.step,  # on the gradients of the last
        "blocks 4 and 5 step, bf16": lambda: step(deeper, kept_deeper.to(torch.bfloat16), True),
        "all blocks step, bf16": lambda: step(whole, images, True),
        "a narrow network's step, fp32": lambda: step(narrow, images, False),
        "a narrow network's step, bf16": lambda: step(narrow, images, True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without", metavar="TEXT", help="leave out cases whose name holds it")
    given = parser.parse_args()
    facts = environment()
    use_cpu()
    runs = cases()
    if given.without:
        runs = {name: run for name, run in runs.items() if given.without not in name}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(given.repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            samples[name].append((time.perf_counter() - start) / BATCH)
    rows = []
    for name, (_, *timed) in samples.items():
        row = {
            "what": name,
            "seconds_a_view": round(median(timed), 4),
            "samples": [round(seconds, 4) for seconds in timed],
        }
        rows.append(row)
    print(json.dumps({"environment": asdict(facts), "batch": BATCH, "results": rows}, indent=2))


if __name__ == "__main__":
    main()
