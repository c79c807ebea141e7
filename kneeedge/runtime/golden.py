"""Golden inputs: synthetic radiographs inside the model file, and the original's answers to them.

`verify` repeats them on a device.
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

PHANTOMS = "phantoms: synthetic radiographs, of no patient"


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
    "why the file may not suit this CPU though its golden answers are right, and the remedy"
    placement: Placement | None = None
    "where the nodes ran; not profiled on provider cpu, which takes all"
    inputs: str = PHANTOMS
    "what the golden inputs are"


def encode_png(pixels: NDArray[np.uint8]) -> str:
    """A (S, S) uint8 image as base64 PNG text."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_png(text: str, size: int) -> NDArray[np.uint8]:
    """The (size, size) uint8 image in base64 PNG text; ValueError or OSError where it is none."""
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            # The header tells, before a pixel is decoded.
            if image.size != (size, size):
                pixels = f"{image.width} × {image.height} pixels"
                raise ValueError(f"one has {pixels}, not {size} × {size}")
            return np.asarray(image.convert("L"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from error


def read_golden(session: Session) -> GoldenSet:
    """The golden set inside a model file; SpecError where it is missing, damaged or empty."""
    if GOLDEN_KEY not in session.metadata:
        raise SpecError(session.path, "the file carries no golden answers")
    try:
        golden = from_json(GoldenSet, session.metadata[GOLDEN_KEY])
    except ValueError as error:
        raise SpecError(session.path, f"its golden answers are damaged: {error}") from error
    if not golden.cases:
        raise SpecError(session.path, "its golden set is empty")
    n_classes = len(session.spec.classes)
    for case in golden.cases:
        if {len(case.original_logits), len(case.file_logits)} != {n_classes}:
            problem = f"its golden answers are not of {n_classes} classes each"
            raise SpecError(session.path, problem)
    return golden


def golden_inputs(session: Session, golden: GoldenSet) -> NDArray[np.uint8]:
    """The inputs (N, 1, S, S) uint8; raises SpecError where one is damaged or of another size."""
    size = session.spec.pixel_path.size
    try:
        return np.stack([decode_png(case.png, size) for case in golden.cases])[:, None]
    except (ValueError, OSError) as error:
        raise SpecError(session.path, f"its golden inputs are damaged: {error}") from error


def verify(session: Session, sha256: str, cpu: str, isa: tuple[str, ...] = ()) -> GoldenReport:
    """Run the golden inputs on this device, beside the original's answers and the exporter's.

    `cpu` and `isa` say what this machine is, as `kneeedge.system.machine` does. Raises SpecError
    where the golden set is missing or damaged.
    """
    golden = read_golden(session)
    inputs = golden_inputs(session, golden)
    logits = np.concatenate([session.run(image[None]).logits for image in inputs])
    file_logits = np.array([case.file_logits for case in golden.cases])
    original_logits = np.array([case.original_logits for case in golden.cases])
    from_file = np.abs(logits - file_logits).max(axis=1)
    from_original = np.abs(logits - original_logits).max(axis=1)
    wrong = (from_file > golden.device_tolerance) | (from_original > golden.original_tolerance)
    target = session.spec.file.int8_target if session.spec.file else None
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
    """Why an int8 file made for `target` may not suit this device, and the remedy; empty: it does.

    The few golden inputs may miss what other images show: without VNNI, AVX2 adds pairs of u8×s8
    products in 16 bits, which saturates where both are large.
    """
    if target is None or provider not in CPU_PROVIDERS:
        return ""
    if not isa:
        reason = f"made for {target}, and this system does not say what its CPU is"
        return f"{reason}; hold `kneeedge evaluate` against fp32"
    suitable = suitable_target(isa)
    remedy = f"export for it with `kneeedge export --int8-target {suitable}`"
    if (target, suitable) == ("x86", "x86-no-vnni"):
        reason = "made for CPUs with VNNI, which this one lacks"
        return f"{reason}, so that sums may saturate on other images; {remedy}"
    if target == suitable or (target, suitable) == ("x86-no-vnni", "x86"):
        return ""
    return f"made for {target}, and this CPU is {suitable}; {remedy}"


def suitable_target(isa: tuple[str, ...]) -> str:
    """The int8 target that suits a CPU of these instruction sets: arm, x86 or x86-no-vnni."""
    if "asimd" in isa:
        return "arm"
    return "x86" if has_vnni(isa) else "x86-no-vnni"


def to_metadata(golden: GoldenSet) -> str:
    """The JSON text that a model file carries under `kneeedge.golden`."""
    return to_json(golden, indent=None)
