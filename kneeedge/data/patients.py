"""Who a radiograph is of, as a pattern finds it in the file's path, and what speaks against it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from kneeedge.errors import DataError


def patient_of(below: str, pattern: str | None, name: str = "") -> str:
    """The regular expression's first group, else all that it finds, in a file's path.

    The path is that below the class folder, which may hold digits too; `name` is the whole of it,
    for the error. "" for no pattern. Raises DataError where it is no regular expression, or finds
    no patient.
    """
    if pattern is None:
        return ""
    try:
        match = re.search(pattern, below)
    except re.error as error:
        problem = f"--group-regex {pattern!r} is no regular expression ({error})"
        raise DataError(name or below, problem, "correct it") from error
    patient = ""
    if match:
        patient = match.group(1) if match.re.groups else match.group()
    if not patient:  # a group that may be empty would leave patients apart in silence
        problem = f"--group-regex {pattern!r} finds no patient in {below}"
        raise DataError(name or below, problem, "make it match every file")
    return patient


def patients_line(owners: Iterable[tuple[str, str]]) -> str:
    """How many patients there are, with an example, for pairs of path and patient.

    "" where no patient is known.
    """
    known = [(name, patient) for name, patient in owners if patient]
    if not known:
        return ""
    n = len({patient for _, patient in known})
    return f"{n:,} patient{'s' if n > 1 else ''}, as {known[0][0]} → {known[0][1]}"


def patient_doubts(owners: Iterable[tuple[str, str]], classes: Sequence[str]) -> list[str]:
    """What makes it doubtful that the pattern, or the table, finds patients; none where all fits.

    `owners` are pairs of path and patient.
    """
    counts = Counter(patient for _, patient in owners if patient)
    if not counts:
        return []
    doubts = []
    names = {name.casefold() for name in classes}
    as_class = sorted(patient for patient in counts if patient.casefold() in names)
    if as_class:
        doubts.append(f"the patient {as_class[0]!r} has the name of a class")
    if counts.total() > 1 and len(counts) == 1:
        doubts.append(f"all {counts.total():,} images are of one patient")
    if counts.total() > 1 and len(counts) == counts.total():
        doubts.append(f"each of the {counts.total():,} images is of another patient")
    return doubts
