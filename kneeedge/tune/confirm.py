"""What a search was worth: its best recipe against the default, on images that it did not see."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kneeedge.model.provenance import SearchWorth
from kneeedge.runs.tuning import BETTER, CONFIRM, NO_BETTER, WORSE, Change, Confirmation, Trial
from kneeedge.statistics.crossed import crossed_estimate
from kneeedge.statistics.intervals import Interval
from kneeedge.statistics.reliability import log_loss
from kneeedge.training.loop import mean_auroc
from kneeedge.tune.parts import size_of
from kneeedge.tune.pool import Pool
from kneeedge.tune.trainings import ConfirmedAnswers, Pair

LOG_LOSS = "log_loss"


def confirm(pool: Pool, default: Trial, best: Trial, pairs: Sequence[Pair]) -> Confirmation:
    """Compare what trainings of both recipes answered; there are none where these are the same."""
    samples = pool.parts.split(CONFIRM)
    size = size_of(samples)
    labels = np.array([sample.label for sample in samples])
    names = [sample.group for sample in samples]
    clusters = np.unique(names, return_inverse=True)[1].astype(np.intp)
    changes = compare(labels, clusters, pairs) if pairs else {}
    worth = SearchWorth(
        verdict=verdict_of(changes),
        log_loss=changes[LOG_LOSS].delta if changes else 0.0,
        interval=changes[LOG_LOSS].interval if changes else Interval(0.0, 0.0),
        n_images=size["images"],
        n_groups=size["groups"],
        n_seeds=len(pairs),
    )
    gain = best.loss - default.loss
    return Confirmation(worth=worth, changes=changes, searched_gain=gain)


def verdict_of(changes: dict[str, Change]) -> str:
    """By the interval of the log loss alone: what was searched for, and said before it was seen."""
    if not changes:
        return NO_BETTER
    interval = changes[LOG_LOSS].interval
    if interval.high < 0:
        return BETTER
    return WORSE if interval.low > 0 else NO_BETTER


def compare(
    labels: NDArray[np.int64],
    clusters: NDArray[np.intp],
    pairs: Sequence[Pair],
) -> dict[str, Change]:
    """Log loss, AUROC and accuracy of the best recipe (second of each pair) against the default's.

    From the labels (N,) and the numbers of the images' groups (N,).
    """

    def of_log_loss(answers: ConfirmedAnswers, rows: NDArray[np.intp]) -> float:
        return log_loss(labels[rows], answers.probabilities[rows])

    def of_auroc(answers: ConfirmedAnswers, rows: NDArray[np.intp]) -> float | None:
        if len(np.unique(labels[rows])) < 2:
            return None
        return mean_auroc(np.log(np.clip(answers.probabilities[rows], 1e-300, 1)), labels[rows])

    def of_accuracy(answers: ConfirmedAnswers, rows: NDArray[np.intp]) -> float:
        return float((answers.predictions[rows] == labels[rows]).mean())

    figures = {LOG_LOSS: of_log_loss, "auroc": of_auroc, "accuracy": of_accuracy}
    return {name: change_of(figure, clusters, pairs) for name, figure in figures.items()}


def change_of(
    figure: Callable[[ConfirmedAnswers, NDArray[np.intp]], float | None],
    clusters: NDArray[np.intp],
    pairs: Sequence[Pair],
) -> Change:
    """The change of one figure."""

    def difference(rows: NDArray[np.intp], training: int) -> float | None:
        before, after = (figure(answers, rows) for answers in pairs[training])
        return None if before is None or after is None else after - before

    estimate = crossed_estimate(difference, clusters, len(pairs))
    all_rows = np.arange(len(clusters))
    default, best = (
        float(np.mean([figure(pair[k], all_rows) or 0.0 for pair in pairs])) for k in (0, 1)
    )
    return Change(
        default=default,
        best=best,
        delta=estimate.value,
        interval=estimate.interval,
        by_seed=estimate.by_training,
    )
