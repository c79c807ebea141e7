"""The gate at work: a variant's session answers the images, and is held against the original.

Within the search for an int8 recipe it stops as soon as nothing that is still to come could make it
the chosen one: a curtailed test (Eisenberg & Ghosh 1980, Annals of Statistics 8:1123). That is
certain, not probable, so that it spends no level and changes no verdict; and it asks nothing of the
order of the images, which are taken in the one that shows it soonest. A test that stops by chance,
as by an anytime-valid bound, needs a random order, and would give that up.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from export.gate import Dropped, Gated, compare_referrals, gate_report
from export.golden import margin_of
from export.original import Original
from export.reference import ReferenceMaker
from export.refusals import compare_refusals, judged
from export.search import IsBehind
from kneeedge.inference.evaluation import answer_batches, answer_samples
from kneeedge.model.file_record import GateData
from kneeedge.model.spec import ModelSpec
from kneeedge.model.verdict import TOLERANCE, cannot_pass
from kneeedge.runs.answers import Answers
from kneeedge.runtime.batches import joined
from kneeedge.runtime.session import Outputs, Session
from kneeedge.statistics.intervals import clusters_of
from kneeedge.system.progress import Progress

BATCH = 8
"images that a variant answers at once"


@dataclass(frozen=True)
class Judge:
    """What the variants of a run are held against, and by which tolerance."""

    spec: ModelSpec
    "of the network that they are converted from"
    original: Original
    gate_data: GateData | None
    "absent where the images are val's alone"
    tolerance: float | None
    "None: the precision's own"
    references: ReferenceMaker
    progress: Progress

    def judge(self, precision: str, session: Session) -> Gated:
        """The gate's report on all images."""
        outputs = answer_samples(
            session, self.original.samples, BATCH, self.progress, self.references.note
        )
        return self.gated(precision, session, outputs)

    def judge_in_turn(
        self, precision: str, session: Session, is_behind: IsBehind
    ) -> Gated | Dropped:
        """The gate's report, unless the graph is sure to come behind a better one before the end.

        That is after a batch from which on it cannot pass whatever is still to come, while its
        flips so far put it behind.
        """
        tally = Tally(self.original, self.spec, self.limit(precision))
        samples = [self.original.samples[i] for i in self.order]
        answered = answer_batches(session, samples, BATCH, self.progress, self.references.note)
        parts = []
        with closing(answered):
            for outputs in answered:
                parts.append(outputs)
                tally.add(self.order[tally.n : tally.n + len(outputs.logits)], outputs.logits)
                if is_behind(tally.flips) and tally.cannot_pass:
                    return Dropped(tally.n, tally.flips)
        return self.gated(precision, session, in_order(joined(parts), np.argsort(self.order)))

    def gated(self, precision: str, session: Session, outputs: Outputs) -> Gated:
        """What the gate says of the answers to all images, in the samples' order.

        A slimmed network's answers are held against those of the network that it was slimmed from.
        Which images it refuses or refers is held against its own PyTorch model, on val alone: those
        are the images that set the limits, and others may truly be unlike the training images.
        """
        original = self.original
        report = gate_report(
            original.samples,
            original.answers,
            Answers(precision, self.spec, outputs.logits),
            session.provider,
            self.tolerance,
            original.own_logits if original.is_slimmed else None,
            self.gate_data,
        )
        val = np.arange(original.n_val)
        of_val = in_order(outputs, val)
        samples = original.samples[: original.n_val]
        clusters = clusters_of([sample.group for sample in samples], original.n_val)
        distances = None if original.distances is None else original.distances[val]
        refusals = compare_refusals(
            self.spec.novelty, distances, of_val.distance, precision, clusters
        )
        referrals = compare_referrals(
            self.spec, original.labels[val], original.own_logits[val], of_val.logits
        )
        return Gated(judged(replace(report, referrals=referrals), refusals), of_val)

    def limit(self, precision: str) -> float:
        """The accuracy that a variant may lose."""
        return TOLERANCE[precision] if self.tolerance is None else self.tolerance

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The images in the order that soonest shows that a variant cannot pass.

        First those that the original answers wrongly, which alone can make up for a loss; then the
        others by how near the original is to another answer.
        """
        answers = self.original.answers
        margins = np.array([abs(margin_of(answers.spec, row)(row)) for row in answers.logits])
        return np.lexsort((margins, ~self.original.could_gain))


def in_order(outputs: Outputs, rows: NDArray[np.intp]) -> Outputs:
    """The answers to the images of these rows, in their order."""
    distance = None if outputs.distance is None else outputs.distance[rows]
    return Outputs(outputs.probabilities[rows], outputs.logits[rows], None, distance)


class Tally:
    """Answers changed, lost and gained among the images that a variant has answered so far.

    A flip without a label counts as lost, as `judge_loss` has it for a pass.
    """

    def __init__(self, original: Original, spec: ModelSpec, tolerance: float) -> None:
        self._original = original
        self._spec = spec
        self._tolerance = tolerance
        self._gained = 0
        self._lost = 0
        self._could_gain = int(original.could_gain.sum())
        self.n = 0
        self.flips = 0

    def add(self, rows: NDArray[np.intp], logits: NDArray[np.floating]) -> None:
        """Count the answers by logits (R, K) to the images of these rows (R,)."""
        labels = self._original.labels[rows]
        could_gain = self._original.could_gain[rows]
        after = Answers("", self._spec, logits).predictions
        flipped = after != self._original.answers.predictions[rows]
        self.n += len(rows)
        self.flips += int(flipped.sum())
        self._lost += int((flipped & ~could_gain).sum())
        self._gained += int((could_gain & (after == labels)).sum())
        self._could_gain -= int(could_gain.sum())

    @property
    def cannot_pass(self) -> bool:
        """Whether it would not pass even if every image to come were answered rightly."""
        n = len(self._original.samples)
        return cannot_pass(self._gained + self._could_gain, self._lost, n, self._tolerance)
