"""What the joint test and the search for wrong labels mean, in words."""

from kneeedge.audit.finding import NOTE, WARNING, Finding
from kneeedge.audit.joint import BESIDE, JointTest, ViewSeparation
from kneeedge.audit.labels import LabelSearch, Suspect
from kneeedge.audit.shortcut import MIN_GROUPS, TOO_FEW
from kneeedge.pixels.joint import MIN_AUROC, OFF_CENTRE
from kneeedge.system.plural import counted

BESIDE_JOINT, JOINT_TEST, LABELS = "BESIDE THE JOINT", "JOINT TEST", "LABELS"


def joint_finding(test: JointTest) -> Finding:
    """The AUROC of each view, and whether pictures without their joint tell the classes apart."""
    if test.verdict == TOO_FEW:
        return Finding(
            kind=JOINT_TEST,
            severity=NOTE,
            what=f"too few images for the joint test: it needs {MIN_GROUPS} groups of each class",
            cases=(),
            remedy="collect more images before you trust any figure on them",
        )
    several = len({separation.positive for separation in test.separations}) > 1
    cases = [view_line(separation, several) for separation in test.separations]
    if test.n_off_centre >= OFF_CENTRE * test.n:
        doubt = "in these the fixed band may miss it, and the test says less"
        cases.append(f"{_of(test.n_off_centre, test.n)} show no joint near the middle: {doubt}")
    if test.verdict == BESIDE:
        beside = [s for s in test.separations if s.is_beside_the_joint]
        strongest = max(beside, key=lambda separation: separation.auroc)
        figure = f"{_figure(strongest, several)} ({strongest.view})"
        what = (
            f"pictures without their joint still tell {figure}: "
            "a network can score that without a look at the joint"
        )
        remedy = (
            "see what it is: disease beside the joint, age and weight, or the machine and the "
            "export; test a trained model with `kneeedge evaluate --joint`"
        )
        return Finding(
            kind=BESIDE_JOINT, severity=WARNING, what=what, cases=tuple(cases), remedy=remedy
        )
    return Finding(
        kind=JOINT_TEST,
        severity=NOTE,
        what=(
            "pictures without their joint hardly tell the classes apart: no view without it is "
            f"surely above chance and reaches AUROC {MIN_AUROC:.2f}"
        ),
        cases=tuple(cases),
        remedy="nothing; a trained model is tested with `kneeedge evaluate --joint`",
    )


def view_line(separation: ViewSeparation, several: bool) -> str:
    """As joint masked: AUROC 0.66 [0.60, 0.72]; the class is named where there are several."""
    name = f" ({separation.positive} from the rest)" if several else ""
    return f"{separation.view}{name}: {_area(separation)}"


def label_finding(search: LabelSearch) -> Finding:
    """How many labels are to be looked at, the most doubtful first."""
    n_copies = sum(bool(suspect.conflicts) for suspect in search.suspects)
    remedy = (
        "look at each (--html), correct what is wrong, or keep its line in --write-labels FILE "
        "and leave it out with `kneeedge train --drop-labels FILE`"
    )
    what = f"{_of(len(search.suspects), search.n)} to look at first"
    if search.verdict == TOO_FEW:
        what = (
            f"too few images to search for wrong labels, which needs {MIN_GROUPS} groups of each "
            f"class; {counted(n_copies, 'image')} with a copy of another label"
        )
    else:
        confident = f"{search.n_confident:,} look as much like another class as its own images do"
        agreed = f"the probe agrees with {search.agreed:.0%} of all labels"
        what = f"{what}: {confident}, {n_copies:,} have a copy of another label; {agreed}"
    doubtful = n_copies or (search.verdict != TOO_FEW and search.n_confident)
    return Finding(
        kind=LABELS,
        severity=WARNING if doubtful else NOTE,
        what=what,
        cases=tuple(map(suspect_line, search.suspects)),
        remedy=remedy if search.suspects else "nothing",
    )


def suspect_line(suspect: Suspect) -> str:
    """1. path (label, probability 0.03): why."""
    label = f"{suspect.label}, probability {suspect.probability:.2f}"
    return f"{suspect.rank}. {suspect.name} ({label}): {suspect.why}"


def _of(n: int, total: int) -> str:
    return f"{n:,} of {counted(total, 'image')}"


def _figure(separation: ViewSeparation, several: bool) -> str:
    apart = f"{separation.positive} from the rest" if several else "the classes apart"
    return f"{apart} with {_area(separation)}"


def _area(separation: ViewSeparation) -> str:
    interval = separation.interval
    return f"AUROC {separation.auroc:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
