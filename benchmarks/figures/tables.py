"""The tables that a page can ask for by name."""

from collections.abc import Callable

from benchmarks.figures import audits, certified, drift, findings, novelty, speed, stress, versions

TABLES: dict[str, Callable[[], str]] = {
    "bench": speed.bench,
    "calibration": certified.calibration,
    "certified": certified.certified,
    "certified-draws": certified.certified_draws,
    "cluster": speed.cluster,
    "devices": findings.devices,
    "drift-delays": drift.delays,
    "drift-quiet": drift.quiet,
    "emulation": findings.emulation,
    "first-run": speed.first_run,
    "graph": speed.graph,
    "growth": speed.growth,
    "heatmaps": speed.heatmaps,
    "isolation": speed.isolation,
    "joint-data": audits.joint_data,
    "joint-models": audits.joint_models,
    "leakage": findings.leakage,
    "novelty": novelty.scores,
    "novelty-kinds": novelty.kinds,
    "one-image": speed.one_image,
    "peers": speed.peers,
    "planted-labels": audits.planted_labels,
    "recall": findings.recall,
    "refusals": findings.refusals,
    "results": findings.results,
    "slim": speed.slim,
    "slim-channels": speed.slim_channels,
    "train-cost": speed.train_cost,
    "versions": versions.versions,
    "wheels": versions.wheels,
    "stress": stress.results,
    "stress-kinds": stress.kinds,
    "stress-mended": stress.mended,
    "triton": speed.triton,
    "widths": speed.widths,
}
