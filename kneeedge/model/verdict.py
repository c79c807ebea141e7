"""The export gate's verdict: may a file stand in for its original, by their paired answers?"""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from kneeedge.statistics.intervals import LEVEL
from kneeedge.statistics.paired import ChangedShare, PairedChange, tango, worst_loss
from kneeedge.statistics.partly_labelled import PartlyLabelledChange

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
EQUAL_LOGITS = {"fp32": 1e-3}
"largest logit change that is rounding alone: such a variant is the original, without statistics"
MAX_LOGIT_CHANGE = {"fp32": 1e-2, "fp16": 0.5}
"a larger change is a fault of the conversion, however few answers it flips"
EQUAL_DISTANCES = 1e-3
"largest change of a distance, as a share of the limit to abstain, that is rounding alone"
TOLERANCE = {"fp32": 0.01, "fp16": 0.01, "int8": 0.01}
"accuracy that a variant may lose, as a share of all images, and genuine images it may refuse more"
WORST_FIRST = (FAIL, INCONCLUSIVE, PASS)
AnyChange = PairedChange | PartlyLabelledChange
"of answers; some images may have no label"


def judge(
    change: AnyChange, max_logit_change: float, precision: str, tolerance: float
) -> tuple[str, str]:
    """Verdict and its reason, where the variant was converted from the original.

    Pass: the logits are the original's up to rounding, or the accuracy lost is, with 95 %
    confidence, within the tolerance. Fail: the loss is beyond it with the same confidence, or the
    logits moved further than the precision can. Anything else needs more images.
    """
    if fault := conversion_fault(max_logit_change, precision):
        return FAIL, fault
    if change.flips == 0 and is_rounding(max_logit_change, precision):
        return PASS, same_text(max_logit_change)
    return judge_loss(change, tolerance)


def judge_slimmed(
    change: AnyChange, own_logit_change: float, precision: str, tolerance: float
) -> tuple[str, str]:
    """Verdict and its reason, where the variant's network was slimmed from the original.

    The loss against the original alone can pass; logits that moved too far from the variant's own
    network still fail.
    """
    if fault := conversion_fault(own_logit_change, precision):
        return FAIL, fault
    return judge_loss(change, tolerance)


def is_rounding(max_logit_change: float, precision: str) -> bool:
    """Whether the logits moved by rounding alone, so that no statistics are asked for."""
    return max_logit_change <= EQUAL_LOGITS.get(precision, -np.inf)


def same_text(max_logit_change: float) -> str:
    """Why answers pass that moved by rounding alone."""
    return f"the same answers; no logit moved by more than {max_logit_change:.2g}"


def conversion_fault(max_logit_change: float, precision: str) -> str | None:
    """What is wrong where a logit moved further than the precision can move it; else None."""
    most = MAX_LOGIT_CHANGE.get(precision, np.inf)
    if max_logit_change <= most:
        return None
    return f"a logit moved by {max_logit_change:.3g}, and {precision} may move it by {most:g}"


def judge_loss(change: AnyChange, tolerance: float) -> tuple[str, str]:
    """Verdict and its reason by the accuracy that may be lost, by Tango's bounds.

    Answers lost and answers gained decide, and how many images there are; not the number of flips:
    two answers gained can pass where none flipped on as few images cannot. A flip without a label
    counts as lost for a pass, and as gained for a fail.
    """
    least = -change.interval.high  # below 0 where it may be a gain
    most = change.worst_loss
    limit = f"95 % confidence, tolerance {tolerance:.2%}"
    flips = flips_text(change)
    if most <= tolerance:
        lost = f"at most {most:.2%} of accuracy lost" if most > 0 else "no accuracy lost"
        return PASS, f"{lost} ({limit}): {flips}"
    if least > tolerance:
        return FAIL, f"at least {least:.2%} of accuracy lost ({limit}): {flips}"
    lost = f"up to {most:.2%} of accuracy may be lost ({limit})"
    return INCONCLUSIVE, f"{images_text(change)} are too few: {flips}, yet {lost}"


def cannot_pass(gained: int, lost: int, n: int, tolerance: float) -> bool:
    """Whether so many answers gained, at most, and lost, at least, of `n` are no pass.

    The bound falls with the answers gained and rises with those lost, and groups can only widen it.
    """
    return worst_loss(gained, lost, n) > tolerance


def judge_refusals(change: PairedChange, tolerance: float, is_equal: bool) -> tuple[str, str]:
    """Verdict and its reason by the genuine images that a variant refuses more, by Tango's bounds.

    `change` is of the images that are answered: one is lost where the variant alone refuses it, and
    gained where the original alone does. Where `is_equal`, the shares refused are known to be equal
    before any image is seen, so that these fail a variant but cannot be too few; so too where the
    variant refuses no image more.
    """
    least = -change.interval.high
    most = change.worst_loss
    limit = f"95 % confidence, tolerance {tolerance:.2%}"
    alone = (
        f"{change.lost} of {change.n} refused by it alone, {change.gained} by the original alone"
    )
    if least > tolerance:
        return FAIL, f"at least {least:.2%} more of the images refused ({limit}): {alone}"
    if is_equal or not change.lost or most <= tolerance:
        return PASS, f"no more images refused than the tolerance allows ({limit}): {alone}"
    more = f"up to {most:.2%} more of the images may be refused ({limit})"
    return INCONCLUSIVE, f"{change.n} images are too few: {alone}, yet {more}"


def worst(*verdicts: tuple[str, str]) -> tuple[str, str]:
    """Of verdicts with their reasons the worst, of equal ones the first."""
    return min(verdicts, key=lambda judged: WORST_FIRST.index(judged[0]))


def judge_share(change: ChangedShare, tolerance: float) -> tuple[str, str]:
    """Verdict and its reason by the share of answers that may change, where there are no labels.

    By Wilson's bounds, each with the confidence that `judge_loss` asks for. A pass is one there
    too, whatever the labels are: accuracy lost is at most the share of changed answers.
    """
    limit = f"95 % confidence, tolerance {tolerance:.2%}"
    n_changed = f"{change.changed} of {change.n}" if change.changed else "no"
    changed = f"{n_changed} answer{'s' * (change.changed > 0)} changed"
    if change.most <= tolerance:
        return PASS, f"at most {change.most:.2%} of the answers change ({limit}): {changed}"
    if change.interval.low > tolerance:
        return (
            FAIL,
            f"at least {change.interval.low:.2%} of the answers change ({limit}): {changed}",
        )
    most = f"up to {change.most:.2%} of the answers may change ({limit})"
    return INCONCLUSIVE, f"{change.n} images are too few: {changed}, yet {most}"


def judge_kinds(changes: Mapping[str, PairedChange], tolerance: float) -> tuple[str, str]:
    """Verdict and its reason by the accuracy lost on images corrupted in several ways, by name.

    Pass: under each kind the loss is within the tolerance, with the confidence of `judge_loss`;
    then it is so under all (an intersection-union test needs no correction: Berger 1982). Fail:
    under one kind it is beyond it, with 95 % confidence over all kinds together (Bonferroni), since
    among many one looks bad by chance. Fail and inconclusive name the kind that decides.
    """
    limit = f"95 % confidence, tolerance {tolerance:.2%}"
    worst = max(changes, key=lambda kind: changes[kind].worst_loss)
    change = changes[worst]
    if change.worst_loss <= tolerance:
        lost = max(0.0, change.worst_loss)
        return PASS, f"at most {lost:.2%} of accuracy lost under any of {len(changes)} ({limit})"
    surely = {kind: least_loss(change, len(changes)) for kind, change in changes.items()}
    failed = [kind for kind in changes if surely[kind] > tolerance]
    if failed:
        first = max(failed, key=lambda kind: surely[kind])
        others = f"; so under {', '.join(k for k in failed if k != first)}" if failed[1:] else ""
        return FAIL, (
            f"{first}: at least {surely[first]:.2%} of accuracy lost ({limit}, over all of "
            f"{len(changes)}): {flips_text(changes[first])}{others}"
        )
    over = [kind for kind in changes if -changes[kind].delta > tolerance]
    seen = f"; more than the tolerance is lost here under {', '.join(over)}" if over else ""
    return INCONCLUSIVE, (
        f"{change.n} images are too few: under {worst} {flips_text(change)}, yet up to "
        f"{change.worst_loss:.2%} of accuracy may be lost ({limit}){seen}"
    )


def least_loss(change: PairedChange, n_kinds: int) -> float:
    """The accuracy surely lost, -1 to 1, with 95 % confidence for all of `n_kinds` together."""
    z = NormalDist().inv_cdf(1 - (1 - LEVEL) / (2 * n_kinds))
    return -tango(*change.effective_counts, z).high


def flips_text(change: AnyChange) -> str:
    """How many answers changed, and to what: what the bounds on the loss follow from."""
    if change.flips == 0:
        return "no answer flipped"
    text = (
        f"{change.flips} of {change.n} answers flipped, "
        f"{change.lost} right to wrong, {change.gained} wrong to right"
    )
    if isinstance(change, PartlyLabelledChange) and change.unlabelled_flips:
        text += f", {change.unlabelled_flips} without a label"
    return text


def images_text(change: AnyChange) -> str:
    """How many images there are, and in how many groups where these are fewer."""
    of_all = change.if_lost if isinstance(change, PartlyLabelledChange) else change
    groups = f" in {of_all.n_groups} groups" if of_all.n_groups else ""
    return f"{change.n} images{groups}"
