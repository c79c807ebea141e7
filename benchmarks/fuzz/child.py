"""Reads files as `infer` does, under a limit of memory: what came of each, and what it took.

A line of JSON each: the limits, and then paths, on stdin; an Outcome for each path on stdout.
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
from kneeedge.pixels.reader import ReadOptions, read_input

ANSWERED = "answered"
REFUSED = "refused"
NO_MEMORY = "out of memory"
UNCLEAR = "unclear"
"pixels of the wrong kind, or a refusal of several lines or without a remedy"
RAISED = "raised"
CRASHED = "crashed"
HUNG = "hung"


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    kind: str
    "one of the seven above"
    text: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    "most resident memory while it was read"


def examine(path: Path, options: ReadOptions) -> tuple[str, str]:
    """The kind of outcome and a text on it; whatever is raised but ImageError is a finding."""
    try:
        answer = read_input(path, options).result
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return RAISED, f"{type(error).__name__}: {error} ({origin_of(error)})"
    if isinstance(answer, ImageError):
        return judge_refusal(answer)
    pixels = answer.pixels
    side = options.pixel_path.size
    if pixels.shape == (side, side) and pixels.dtype == np.uint8:
        return ANSWERED, ""
    return UNCLEAR, f"pixels {pixels.shape} {pixels.dtype}"


def origin_of(error: Exception) -> str:
    """The file and line that raised."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return ""
    return f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"


def judge_refusal(refusal: ImageError) -> tuple[str, str]:
    """Whether a refusal is one line that ends in a remedy, and its reason."""
    reason = refusal.reason
    remedy = refusal.remedy
    if "not enough memory" in reason:
        return NO_MEMORY, reason
    line = str(refusal)
    is_clear = line.isprintable() and reason.strip() and remedy.strip() and line.endswith(remedy)
    return (REFUSED if is_clear else UNCLEAR), reason


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
        outcome = Outcome(kind, text, seconds, peak_memory_mb() or 0.0)
        out.write(json.dumps(asdict(outcome)) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
