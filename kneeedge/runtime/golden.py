"""Golden inputs: synthetic radiographs inside the model file, with the answers that the original
gave to them.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kneeedge.errors import SpecError
from kneeedge.model.spec import GOLDEN_KEY
from kneeedge.runtime.placement import Placement, placement
from kneeedge.runtime.providers import CPU_PROVIDERS
from kneeedge.runtime.session import Session
from kneeedge.system.machine import has_vnni
from kneeedge.system.strict_json import from_json, to_json


@dataclass(frozen=True)
class GoldenCase:
    """One input and its answers."""

    png: str
    "the (S, S) uint8 input as PNG, base64"
    original_logits: tuple[float, ...]
    "(K,) of the PyTorch model in fp32"
    file_logits: tuple[float, ...]
    "(K,) of this file on the machine that exported it"


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """What `kneeedge verify` repeats on a device."""

    cases: tuple[GoldenCase, ...]
    device_tolerance: float
    "largest logit change allowed against this file's own answers on the exporting machine"
    original_tolerance: float
    "largest logit change allowed against the original's answers"
    cpu: str = ""
    "of the exporting machine"
    isa: tuple[str, ...] = ()
    "its instruction sets that decide how numbers round"


@dataclass(frozen=True, kw_only=True)
class GoldenReport:
    """How this device answered the golden inputs."""

    model: str
    sha256: str
    provider: str
    cpu: str
    n: int
    passed: bool
    max_change_from_file: float
    "largest absolute logit difference to the answers of the exporting machine"
    device_tolerance: float
    max_change_from_original: float
    "largest absolute logit difference to the original's answers"
    original_tolerance: float
    wrong_cases: tuple[int, ...]
    "indices of the cases outside a tolerance"
    isa: tuple[str, ...] = ()
    "instruction sets of this CPU"
    file_isa: tuple[str, ...] = ()
    "those of the exporting machine"
    int8_target: str | None = None
    "what the file was made for"
    concern: str = ""
    """why the file does not suit this CPU though its golden answers may be right, with the remedy;
    or empty
    """
    placement: Placement | None = None
    "where the nodes ran; not profiled on provider cpu, which takes all"


def encode_png(pixels: NDArray[np.uint8]) -> str:
    """A (S, S) uint8 image as base64 PNG text."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_png(text: str, size: int) -> NDArray[np.uint8]:
    """The (size, size) uint8 image in base64 PNG text. Raises ValueError or OSError where it is
    another, or none.
    """
    try:
        with Image.open(
            io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)
        ) as image:
            if image.size != (size, size):  # known before a pixel is decoded
                raise ValueError(
                    f"one has {image.width} × {image.height} pixels, not {size} × {size}"
                )
            return np.asarray(image.convert("L"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from error


def read_golden(session: Session) -> GoldenSet:
    """The golden set inside a model file; raises SpecError where it is missing, damaged or empty."""
    if GOLDEN_KEY not in session.metadata:
        raise SpecError(session.path, "the file carries no golden answers")
    try:
        golden = from_json(GoldenSet, session.metadata[GOLDEN_KEY])
    except ValueError as error:
        raise SpecError(session.path, f"its golden answers are damaged: {error}") from error
    if not golden.cases:
        raise SpecError(session.path, "its golden set is empty")
    lengths = {
        len(logits) for case in golden.cases for logits in (case.original_logits, case.file_logits)
    }
    if lengths != {len(session.spec.classes)}:
        raise SpecError(
            session.path, f"its golden answers are not of {len(session.spec.classes)} classes each"
        )
    return golden


def verify(session: Session, sha256: str, cpu: str, isa: tuple[str, ...] = ()) -> GoldenReport:
    """Run the golden inputs here and hold the answers against the original's and the exporting
    machine's.

    `cpu` and `isa` say what this machine is, as `kneeedge.system.machine` does.
    """
    golden = read_golden(session)
    try:
        size = session.spec.pixel_path.size
        inputs = np.stack([decode_png(case.png, size) for case in golden.cases])[:, None]
    except (ValueError, OSError) as error:
        raise SpecError(session.path, f"its golden inputs are damaged: {error}") from error
    logits = np.concatenate([session.run(image[None]).logits for image in inputs])
    from_file = np.abs(logits - np.array([case.file_logits for case in golden.cases])).max(axis=1)
    from_original = np.abs(logits - np.array([case.original_logits for case in golden.cases])).max(
        axis=1
    )
    target = session.spec.file.int8_target if session.spec.file else None
    wrong = (from_file > golden.device_tolerance) | (from_original > golden.original_tolerance)
    where = placement(session) if session.provider != "cpu" else None
    return GoldenReport(
        model=str(session.path),
        sha256=sha256,
        provider=session.provider,
        cpu=cpu,
        n=len(golden.cases),
        passed=not wrong.any() and not (where and where.n_astray),
        max_change_from_file=float(from_file.max()),
        device_tolerance=golden.device_tolerance,
        max_change_from_original=float(from_original.max()),
        original_tolerance=golden.original_tolerance,
        wrong_cases=tuple(int(i) for i in np.flatnonzero(wrong)),
        isa=isa,
        file_isa=golden.isa,
        int8_target=target,
        concern=int8_concern(target, session.provider, isa),
        placement=where,
    )


def int8_concern(target: str | None, provider: str, isa: tuple[str, ...]) -> str:
    """Why an int8 file made for `target` does not suit this device, ending in the remedy; empty
    where it does.

    The few golden inputs may miss what other images show: without VNNI, AVX2 adds pairs of u8×s8
    products in 16 bits, which saturates where both are large.
    """
    if target is None or provider not in CPU_PROVIDERS:
        return ""
    if not isa:
        return f"made for {target}, and this system does not say what its CPU is; hold `kneeedge evaluate` against fp32"
    here = "arm" if "asimd" in isa else "x86" if has_vnni(isa) else "x86-no-vnni"
    remedy = f"export for it with `kneeedge export --int8-target {here}`"
    if (target, here) == ("x86", "x86-no-vnni"):
        return f"made for CPUs with VNNI, which this one lacks, so that sums may saturate on other images; {remedy}"
    if target == here or (target, here) == ("x86-no-vnni", "x86"):
        return ""
    return f"made for {target}, and this CPU is {here}; {remedy}"


def to_metadata(golden: GoldenSet) -> str:
    """The JSON text that a model file carries under `kneeedge.golden`."""
    return to_json(golden, indent=None)
