"""The looks at the pixels that need a network: the joint test and the search for wrong labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kneeedge.audit.joint import joint_test
from kneeedge.audit.labels import search_labels
from kneeedge.audit.probe import Extractor, labelled
from kneeedge.audit.run import Audit, AuditedImage
from kneeedge.errors import DataError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.joint import VIEWS, WHOLE, seems_centred
from kneeedge.pixels.pixel_path import load_input
from kneeedge.system.machine import available_cpus
from kneeedge.system.progress import Progress
from kneeedge.system.threads import in_order

BATCH = 32


@dataclass(frozen=True)
class ViewFeatures:
    """What the extractor says of the images."""

    by_view: dict[str, NDArray[np.float32]]
    "(N, F) of each view"
    n_off_centre: int
    "images whose joint space does not seem to lie well within the joint's band"


def look_closer(
    audit: Audit, extract: Extractor, joint: bool, labels: bool, progress: Progress
) -> Audit:
    """The audit with the joint test, the search for wrong labels, or both.

    Raises DataError where the images have no classes, ImageError where one can no longer be read.
    """
    if not audit.classes:
        problem = "its images are in no class folders, so there are no labels to look at"
        raise DataError(audit.data, problem, "leave out --joint and --labels")
    images = [image for image in audit.images if image.label]
    found = view_features(audit, images, tuple(VIEWS) if joint else (WHOLE,), extract, progress)
    groups = [audit.copies.groups[image.name] for image in images]
    known = labelled([image.label for image in images], groups, audit.classes)
    source = extract.method
    if joint:
        test = joint_test(found.by_view, known, found.n_off_centre, source, progress)
        audit = replace(audit, joint=test)
    if labels:
        names = [image.name for image in images]
        conflicts = audit.copies.conflicts
        features = found.by_view[WHOLE]
        search = search_labels(features, names, known, conflicts, source, progress)
        audit = replace(audit, labels=search)
    return audit


def view_features(
    audit: Audit,
    images: Sequence[AuditedImage],
    views: Sequence[str],
    extract: Extractor,
    progress: Progress,
) -> ViewFeatures:
    """The features of each view of the images, which are read again, at the extractor's size."""
    parts: dict[str, list[NDArray[np.float32]]] = {view: [] for view in views}
    n_off_centre = 0
    with progress.stage("frozen features", len(images) * len(views)) as stage:
        for batch in _batches(audit, images, extract.size):
            n_off_centre += sum(not seems_centred(picture) for picture in batch)
            for view in views:
                parts[view].append(extract(np.stack([VIEWS[view](picture) for picture in batch])))
                stage.advance(len(batch))
    by_view = {view: np.concatenate(features) for view, features in parts.items()}
    return ViewFeatures(by_view, n_off_centre)


def _batches(
    audit: Audit, images: Sequence[AuditedImage], size: int
) -> Iterator[list[NDArray[np.uint8]]]:
    """The images as (S, S) uint8, up to BATCH at a time."""
    load = partial(load_input, pixel_path=PixelPath(size, grey_bits=audit.grey_bits))
    paths = [audit.root / image.name for image in images]
    batch = []
    for picture in in_order(load, paths, available_cpus(), 2 * BATCH):
        batch.append(picture)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
