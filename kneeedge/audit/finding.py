"""One finding of an audit, in words."""

from dataclasses import dataclass

FAULT, WARNING, NOTE = "fault", "warning", "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    kind: str
    severity: str
    "fault: `--strict` fails; warning; note"
    what: str
    cases: tuple[str, ...]
    "every file or pair concerned, in words"
    remedy: str
