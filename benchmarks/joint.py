"""What the pixels beside the joint tell: of data sets by a probe, and of trained models.

    python -m benchmarks.joint --data DATA … --weights FILE [--group-regex R …] [--split train]
        [--model FILE … --test DATA] [--json FILE]

The first part is `kneeedge audit --joint` of each DATA, of one split where it has splits; the
second `kneeedge evaluate --joint` of each model on the test split of --test. The first pattern of
--group-regex is that of the first DATA and of --test. No image is named in the result.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from kneeedge.audit.closer import look_closer
from kneeedge.audit.run import audit
from kneeedge.inference.joint import joint_report
from kneeedge.report.joint import joint_text
from kneeedge.runtime.session import Session
from kneeedge.system.machine import environment
from kneeedge.system.progress import Progress
from kneeedge.system.strict_json import to_json
from kneeedge.training.frozen import FrozenFeatures


def probe(
    data: Path, split: str, group_regex: str | None, extract: FrozenFeatures, progress: Progress
) -> dict[str, Any]:
    """The joint test of one data set, or of its split."""
    found = audit(data, group_regex, None, progress)
    images = tuple(image for image in found.images if image.split == split)
    if images:
        found = replace(found, images=images)
    test = look_closer(found, extract, joint=True, labels=False, progress=progress).joint
    record: dict[str, Any] = json.loads(to_json(test))
    return {"data": data.name, "split": split if images else "", **record}


def look(
    model: Path, data: Path, group_regex: str | None, threads: int | None, progress: Progress
) -> dict[str, Any]:
    """The joint test of one model, without the names of images."""
    report = joint_report(Session(model, "cpu", threads), data, None, None, progress, group_regex)
    print(joint_text(report))
    record: dict[str, Any] = json.loads(to_json(report))
    for pointing in record["pointing"]:
        pointing["furthest"] = [case["mass"] for case in pointing["furthest"]]
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable[..., object] = parser.add_argument
    add("--data", type=Path, nargs="*", default=[])
    add("--weights", default="imagenet")
    add("--group-regex", nargs="*", default=[])
    add("--split", default="train")
    add("--model", type=Path, nargs="*", default=[])
    add("--test", type=Path)
    add("--threads", type=int)
    add("--json", type=Path)
    given = parser.parse_args()
    progress = Progress()
    facts = asdict(environment())
    probes = []
    if given.data:
        extract = FrozenFeatures(given.weights, progress)
        for data, pattern in zip_longest(given.data, given.group_regex[: len(given.data)]):
            record = probe(data, given.split, pattern, extract, progress)
            probes.append(record)
            for row in record["separations"]:
                print(data.name, row)
    pattern = next(iter(given.group_regex), None)
    models = [look(model, given.test, pattern, given.threads, progress) for model in given.model]
    if given.json:
        record = {"environment": facts, "probes": probes, "models": models}
        given.json.write_text(to_json(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
