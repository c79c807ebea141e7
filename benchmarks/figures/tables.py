"""The tables that a page can ask for by name."""

from collections.abc import Callable

from benchmarks.figures import findings, novelty, speed, stress, versions

TABLES: dict[str, Callable[[], str]] = {
    "bench": speed.bench,
    "cluster": speed.cluster,
    "devices": findings.devices,
    "emulation": findings.emulation,
    "first-run": speed.first_run,
    "graph": speed.graph,
    "growth": speed.growth,
    "isolation": speed.isolation,
    "leakage": findings.leakage,
    "novelty": novelty.scores,
    "novelty-kinds": novelty.kinds,
    "one-image": speed.one_image,
    "peers": speed.peers,
    "recall": findings.recall,
    "refusals": findings.refusals,
    "results": findings.results,
    "slim": speed.slim,
    "slim-channels": speed.slim_channels,
    "train-cost": speed.train_cost,
    "versions": versions.versions,
    "wheels": versions.wheels,
    "stress-kinds": stress.kinds,
    "triton": speed.triton,
    "widths": speed.widths,
}
