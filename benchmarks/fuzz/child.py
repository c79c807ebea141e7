"""Reads files as `infer` does, under a limit of memory; says of each what came of it and how much
memory it took.

A line of JSON each: the limits, and then paths, on stdin; a Finding for each path on stdout.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kneeedge.bench.meters import peak_memory_mb, restart_peak_mb
from kneeedge.errors import ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.decoder import leave_no_core
from kneeedge.pixels.pixel_path import Input
from kneeedge.pixels.reader import ReadOptions, read_input

ANSWERED, REFUSED, NO_MEMORY, UNCLEAR, RAISED = (
    "answered",
    "refused",
    "out of memory",
    "unclear",
    "raised",
)
CRASHED, HUNG = "crashed", "hung"


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    kind: str
    """answered, refused, out of memory, unclear (a refusal of several lines or without a remedy),
    raised, crashed, hung
    """
    text: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    "most resident memory while it was read"


def examine(path: Path, options: ReadOptions) -> tuple[str, str]:
    """The kind of outcome and what was said; whatever is raised but ImageError is a finding."""
    try:
        found = read_input(path, options)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        line = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else ""
        return RAISED, f"{type(error).__name__}: {error} ({line})"
    if isinstance(found, Input):
        side = options.pixel_path.size
        good = found.pixels.shape == (side, side) and found.pixels.dtype == np.uint8
        return (
            (ANSWERED, "")
            if good
            else (UNCLEAR, f"pixels {found.pixels.shape} {found.pixels.dtype}")
        )
    return judged(found)


def judged(refusal: ImageError) -> tuple[str, str]:
    """Whether a refusal is one line that ends in a remedy."""
    line = str(refusal)
    if "not enough memory" in refusal.reason:
        return NO_MEMORY, refusal.reason
    clear = (
        line.isprintable()
        and refusal.reason.strip()
        and refusal.remedy.strip()
        and line.endswith(refusal.remedy)
    )
    return (REFUSED if clear else UNCLEAR), refusal.reason


def main() -> None:
    import resource

    leave_no_core()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    limits = json.loads(sys.stdin.readline())
    most = limits["address_space_mb"] * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    options = ReadOptions(PixelPath(), limits["max_pixels"])
    for line in sys.stdin:
        restart_peak_mb()
        start = time.perf_counter()
        kind, text = examine(Path(json.loads(line)), options)
        seconds = time.perf_counter() - start
        out.write(json.dumps(asdict(Outcome(kind, text, seconds, peak_memory_mb() or 0.0))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
