"""The joint test and the doubtful labels as sections of the audit's page."""

from collections.abc import Mapping

from kneeedge.audit.joint import JointTest, ViewSeparation
from kneeedge.audit.labels import LabelSearch, Suspect
from kneeedge.audit.run import Audit
from kneeedge.inference.predictions import READ_INVERSE, Prediction
from kneeedge.pixels.joint import BOTTOM, TOP
from kneeedge.report.audit_parts import bar, figure, framed
from kneeedge.report.page import table, words

N_SUSPECTS = 100
"images of doubtful labels that are shown as pictures"


def joint_section(test: JointTest) -> list[str]:
    """The AUROC of each view, as a table with bars from chance to certainty."""
    if not test.separations:
        return []
    band = (
        f"The joint is taken to lie from {TOP:.0%} to {BOTTOM:.0%} of the height, "
        f"as in crops of one centred knee. By a guess it does not in {test.n_off_centre:,} of "
        f"{test.n:,} images."
    )
    rows = [_joint_row(separation) for separation in test.separations]
    return [
        "<h2>With and without the joint</h2>",
        _soft(f"{band} Probe: {test.features}; {test.method}."),
        table(("shown", "class", "AUROC", "95 % interval"), rows),
    ]


def _joint_row(separation: ViewSeparation) -> tuple[str, ...]:
    interval = separation.interval
    view = words(separation.view)
    if separation.is_beside_the_joint:
        view = f"<strong>{view}</strong>"
    span = f"{interval.low:.3f} to {interval.high:.3f}"
    return view, words(separation.positive), bar(separation.auroc), span


def suspects_section(
    audit: Audit, search: LabelSearch, answers: Mapping[str, Prediction]
) -> list[str]:
    """The images whose labels are most doubtful, each beside its class map where a model gave one.

    They are read again from the folder.
    """
    if not search.suspects:
        return []
    shown = search.suspects[:N_SUSPECTS]
    images = {image.name: image for image in audit.images}
    cards = []
    for suspect in shown:
        picture = figure(images[suspect.name], audit.root, audit.grey_bits)
        answer = answers.get(suspect.name)
        cards.append(_card(suspect, picture, _map(answer) if answer else ""))
    n_more = len(search.suspects) - len(shown)
    left_out = f" {n_more:,} more are not shown; --write-labels lists all." if n_more else ""
    order = (
        "The most doubtful first. A doubtful label is no wrong one: look, and nothing is changed "
        f"for you.{left_out}"
    )
    return [
        "<h2>Labels to look at</h2>",
        _soft(f"{order} Probe: {search.features}; {search.method}."),
        f'<div class="pairs">{"".join(cards)}</div>',
    ]


def _soft(text: str) -> str:
    """A paragraph in the lighter ink of what stands by the way."""
    return f'<p class="soft">{words(text)}</p>'


def _card(suspect: Suspect, picture: str, class_map: str) -> str:
    probability = f"{suspect.label}: {suspect.probability:.2f}"
    tags = [
        f'<span class="tag">{suspect.rank}</span>',
        f'<span class="tag">{words(probability)}</span>',
    ]
    is_bad = suspect.is_confident or bool(suspect.conflicts)
    why = f'<span class="tag{" bad" if is_bad else ""}">{words(suspect.why)}</span>'
    frame = "pair bad" if is_bad else "pair"
    return (
        f'<div class="{frame}">{"".join(tags)}{why}'
        f'<div class="two">{picture}{class_map}</div></div>'
    )


def _map(answer: Prediction) -> str:
    """The model's class map with what it answers; what it says where it gives none."""
    said = answer.prediction or answer.error or answer.status
    if answer.probabilities and answer.prediction:
        said = f"{answer.prediction}, {answer.probabilities[answer.prediction]:.2f}"
    if answer.inverted:
        said += f"; {READ_INVERSE}"
    caption = f"the model: {words(said)}"
    if answer.heatmap is None:
        return f"<figure><figcaption>{caption}</figcaption></figure>"
    return framed(answer.heatmap, caption)
