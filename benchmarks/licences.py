"""Every distribution that kneeedge's wheel brings, with version and licence; some are refused.

    python -m benchmarks.licences [--json FILE]

Exits 1 on a licence that is not allowed. It reads the metadata of what is installed here and asks
no network. A dependency that is not installed here, such as a GPU's, is named and not judged. The
licence is what the distribution says of itself: its SPDX expression, else its classifiers, else its
short licence text.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
ROOT = "kneeedge"
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSD",
    "CC0-1.0", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0",
    "Unlicense", "Zlib", "BSL-1.0",
}  # fmt: skip
"permissive, and MPL-2.0, whose terms end at its own files"
VENDOR = ("cuda-", "nvidia-")
"torch brings NVIDIA's libraries for the extra `train`; kneeedge passes none of them on"
NAMES = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "apache license v2.0": "Apache-2.0",
    "apache-2": "Apache-2.0", "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0", "apache license": "Apache-2.0",
    "mit license": "MIT", "mit": "MIT",
    "bsd license": "BSD", "3-clause bsd license": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause", "bsd 3-clause license": "BSD-3-Clause", "bsd-3": "BSD-3-Clause",
    "python software foundation license": "PSF-2.0", "psf": "PSF-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "isc license (iscl)": "ISC",
    "historical permission notice and disclaimer (hpnd)": "HPND",
}  # fmt: skip
"what distributions without an SPDX expression write"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One distribution."""

    name: str
    version: str
    "empty where it is not installed here"
    licence: str
    brought_by: str
    "the extra that asks for it first; base: the wheel itself"
    allowed: bool


def audit(project: Path = PROJECT) -> list[Row]:
    """All distributions that the project and its extras bring, in the order of their names."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    groups = {"base": table["dependencies"], **table["optional-dependencies"]}
    rows: dict[str, Row] = {}
    for extra, texts in groups.items():
        for text in texts:
            add_row(Requirement(text), extra, rows)
    return sorted(rows.values(), key=lambda row: row.name)


def add_row(requirement: Requirement, brought_by: str, rows: dict[str, Row]) -> None:
    """Add what `requirement` brings; its own extras are followed."""
    name = canonicalize_name(requirement.name)
    known = name in rows
    if name == ROOT or (known and not requirement.extras):
        return
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        licence = "not installed here"
        missing = Row(name=name, version="", licence=licence, brought_by=brought_by, allowed=True)
        rows.setdefault(name, missing)
        return
    if not known:
        licence = licence_of(installed)
        rows[name] = Row(
            name=name,
            version=installed.version,
            licence=licence,
            brought_by=brought_by,
            allowed=is_allowed(name, licence),
        )
    for needed in requirements(installed, {"", *requirement.extras}):
        if not (known and canonicalize_name(needed.name) in rows):
            add_row(needed, brought_by, rows)


def requirements(installed: Distribution, extras: set[str]) -> Iterator[Requirement]:
    """What it asks for on this machine with any of these extras."""
    for text in installed.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def licence_of(installed: Distribution) -> str:
    """Its SPDX expression, else its classifiers, else the first line of its licence field."""
    metadata = installed.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    names = []
    for classifier in metadata.get_all("Classifier", []):
        if classifier.startswith("License ::") and classifier != "License :: OSI Approved":
            _, _, name = classifier.rpartition(" :: ")
            names.append(name)
    lines = (metadata.get("License") or "").strip().splitlines()
    names = names or lines[:1] or ["none stated"]
    return " AND ".join(NAMES.get(name.strip().lower(), name.strip()) for name in names)


def is_allowed(name: str, licence: str) -> bool:
    """Whether each licence that binds at once, and one of each choice, is allowed."""
    if name.startswith(VENDOR):
        return True
    plain = licence.replace("(", " ").replace(")", " ")
    for binding in re.split(r"\s+AND\s+", plain):
        choices = [choice.strip() for choice in re.split(r"\s+OR\s+", binding)]
        if ALLOWED.isdisjoint(choices):
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the listing here")
    arguments = parser.parse_args()
    rows = audit()
    width = max(len(row.name) for row in rows)
    for row in rows:
        mark = "" if row.allowed else "  NOT ALLOWED"
        version = row.version or "-"
        print(f"{row.name:{width}}  {version:12}  {row.brought_by:8}  {row.licence}{mark}")
    if arguments.json:
        text = json.dumps(list(map(asdict, rows)), indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    refused = ", ".join(row.name for row in rows if not row.allowed)
    print(f"{len(rows)} distributions; with a licence that is not allowed: {refused or 'none'}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
