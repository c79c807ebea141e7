"""Does a trained network look at the joint? Its answers to masked pictures, and its class maps.

The joint is the fixed band of `kneeedge.pixels.joint`, with its limits: centred knees. A masked
picture is unlike what the network was trained on, so that an AUROC above chance says that it can
use what is left, and one at chance not that it never does. No image is refused here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kneeedge.data.dataset import Sample
from kneeedge.inference.evaluation import DEFAULT_BATCH, evaluation_samples, input_batches
from kneeedge.inference.metrics import Evaluation, evaluate
from kneeedge.pixels.joint import (
    BOTTOM,
    TOP,
    VIEWS,
    WHOLE,
    is_beside,
    mass_in_joint,
    seems_centred,
)
from kneeedge.runtime.batches import BatchRunner, joined
from kneeedge.runtime.session import Outputs, Session
from kneeedge.statistics.intervals import (
    Z_TWO_SIDED,
    Estimate,
    Interval,
    clustered_variance,
    clusters_of,
)
from kneeedge.system.progress import Progress

AREA = BOTTOM - TOP
"share of the picture that the joint's band takes: what a map without any aim has in it"
N_EXAMPLES = 3
RIGHT, WRONG = "right", "wrong"


@dataclass(frozen=True, kw_only=True)
class ViewAnswers:
    """How the network does on one part of the pictures."""

    view: str
    "whole picture, joint masked, border alone or joint alone"
    auroc: Estimate | None
    "0 to 1; of more than two classes the mean; absent where the images are of one class"
    accuracy: Estimate
    "0 to 1, at the model's own threshold"
    changed: float
    "0 to 1; share of the answers that are others than those to the whole pictures"

    @property
    def is_beside_the_joint(self) -> bool:
        """Whether what shows no joint surely tells the classes, and well enough to matter."""
        auroc = self.auroc
        return auroc is not None and is_beside(self.view, auroc.value, auroc.interval.low)


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image whose class map lies furthest from the joint."""

    name: str
    mass: float
    "0 to 1; share of the map's evidence in the joint's band"


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """Where the class maps of right or of wrong answers lie."""

    answers: str
    "right or wrong"
    n: int
    "images whose map of the answered class holds evidence for it"
    mass: float | None
    "0 to 1; mean share of the map's evidence in the joint's band; absent where n is 0"
    interval: Interval | None
    "absent where fewer than two groups are there"
    furthest: tuple[Example, ...]
    "with the least share in the band"


@dataclass(frozen=True, kw_only=True)
class JointReport:
    """What a trained network sees of one labelled split."""

    model: str
    model_sha256: str
    data: str
    "name of the folder or the table"
    split: str
    n: int
    "images"
    n_off_centre: int
    "images whose joint space does not seem to lie well within the joint's band; a guess"
    views: tuple[ViewAnswers, ...]
    pointing: tuple[Pointing, ...]
    "of right and of wrong answers; none where the model gives no class map"
    area: float = AREA
    "0 to 1; the band's share of the picture, which a map without any aim has in it"

    @property
    def is_beside_the_joint(self) -> bool:
        """Whether the network tells the classes apart without their joint."""
        return any(view.is_beside_the_joint for view in self.views)


def joint_report(
    session: Session,
    data: Path,
    split: str | None,
    batch_size: int | None,
    progress: Progress,
    group_regex: str | None = None,
) -> JointReport:
    """How the session's model answers a split of `data` (see `evaluation_samples`) view by view.

    Each image goes through the network four times. Raises what `evaluation_samples` raises.
    """
    spec = session.spec
    grey_bits = spec.pixel_path.grey_bits
    split_name, samples = evaluation_samples(
        data, spec.classes, split, group_regex, grey_bits=grey_bits
    )
    answers = answer_views(session, samples, batch_size or DEFAULT_BATCH, progress)
    labels = np.array([sample.label for sample in samples])
    groups = [sample.group for sample in samples]
    decided = {
        view: spec.decide(outputs.probabilities) for view, outputs in answers.by_view.items()
    }
    views = []
    for view, outputs in answers.by_view.items():
        evaluation = evaluate(labels, outputs.probabilities, spec, groups)
        changed = float((decided[view] != decided[WHOLE]).mean())
        views.append(_view(view, evaluation, changed))
    cam = answers.by_view[WHOLE].cam
    return JointReport(
        model=session.path.name,
        model_sha256=session.file.sha256,
        data=data.resolve().name,
        split=split_name,
        n=len(samples),
        n_off_centre=answers.n_off_centre,
        views=tuple(views),
        pointing=point(cam, decided[WHOLE], samples) if cam is not None else (),
    )


@dataclass(frozen=True)
class ViewOutputs:
    """The network's answers to each view of the images."""

    by_view: dict[str, Outputs]
    n_off_centre: int


def answer_views(
    session: Session, samples: Sequence[Sample], batch_size: int, progress: Progress
) -> ViewOutputs:
    """The answers to the samples, in their order, to each view; maps of the whole pictures."""
    runner = BatchRunner(session, progress)
    parts: dict[str, list[Outputs]] = {view: [] for view in VIEWS}
    n_off_centre = 0
    for batch in input_batches(samples, session.spec.pixel_path, batch_size, progress):
        n_off_centre += sum(not seems_centred(picture[0]) for picture in batch)
        for view, shown in VIEWS.items():
            pictures = np.stack([shown(picture[0]) for picture in batch])[:, None]
            parts[view].append(runner.run(pictures))
    by_view = {view: joined(outputs) for view, outputs in parts.items()}
    return ViewOutputs(by_view, n_off_centre)


def point(
    cam: NDArray[np.float32], decided: NDArray[np.intp], samples: Sequence[Sample]
) -> tuple[Pointing, ...]:
    """Where the maps (N, K, h, w) of the decided classes (N,) lie, of right and wrong answers."""
    masses = [mass_in_joint(cam[i, k]) for i, k in enumerate(decided)]
    is_right = [sample.label == k for sample, k in zip(samples, decided, strict=True)]
    found = []
    for answers in (RIGHT, WRONG):
        rows = [
            (sample, mass)
            for sample, mass, right in zip(samples, masses, is_right, strict=True)
            if mass is not None and right == (answers == RIGHT)
        ]
        found.append(_pointing(answers, rows))
    return tuple(found)


def _pointing(answers: str, rows: Sequence[tuple[Sample, float]]) -> Pointing:
    if not rows:
        return Pointing(answers=answers, n=0, mass=None, interval=None, furthest=())
    masses = np.array([mass for _, mass in rows])
    furthest = sorted(rows, key=lambda row: (row[1], row[0].name))[:N_EXAMPLES]
    return Pointing(
        answers=answers,
        n=len(rows),
        mass=float(masses.mean()),
        interval=mean_interval(masses, [sample.group for sample, _ in rows]),
        furthest=tuple(Example(name=sample.name, mass=mass) for sample, mass in furthest),
    )


def mean_interval(values: NDArray[np.float64], groups: Sequence[str]) -> Interval | None:
    """The normal interval of a mean of shares (N,), with groups as units; None below two groups."""
    clusters = clusters_of(groups, len(values))
    if clusters is None:
        clusters = np.arange(len(values))
    mean = float(values.mean())
    variance = clustered_variance((values - mean) / len(values), clusters)
    if variance is None:
        return None
    half = Z_TWO_SIDED * math.sqrt(variance)
    return Interval(max(0.0, mean - half), min(1.0, mean + half))


def _view(view: str, evaluation: Evaluation, changed: float) -> ViewAnswers:
    return ViewAnswers(
        view=view,
        auroc=evaluation.estimates.get("auroc"),
        accuracy=evaluation.estimates["accuracy"],
        changed=changed,
    )
