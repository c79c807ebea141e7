"""Golden inputs: synthetic radiographs inside the model file, and the original's answers to them.

`verify` repeats them on a device.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kneeedge.errors import SpecError
from kneeedge.model.file_record import INT8_TARGETS
from kneeedge.model.spec import GOLDEN_KEY, ModelSpec, softmax
from kneeedge.runtime.batches import joined
from kneeedge.runtime.golden_pictures import (
    RESIZING_INSIDE,
    GoldenPicture,
    PictureResult,
    check_picture,
    decode_png,
    decoded,
)
from kneeedge.runtime.placement import Placement, placement
from kneeedge.runtime.providers import CPU_PROVIDERS
from kneeedge.runtime.session import Outputs, Session
from kneeedge.system.machine import has_vnni
from kneeedge.system.strict_json import from_json, to_json

PHANTOM, AT_THRESHOLD, AT_LIMIT = "phantom", "at the threshold", "at the limit"
"kinds of golden inputs: the last two where a small change would change what is said"
PHANTOMS = "phantoms: synthetic radiographs, of no patient"


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """One input and its answers."""

    png: str
    "the (S, S) uint8 input as PNG, base64"
    kind: str
    "PHANTOM, AT_THRESHOLD or AT_LIMIT"
    original_logits: tuple[float, ...]
    "(K,) of the PyTorch model in fp32"
    file_logits: tuple[float, ...]
    "(K,) of this file on the machine that exported it"
    file_distance: float | None
    "of this file there; absent where the model never abstains"


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """What `kneeedge verify` repeats on a device."""

    cases: tuple[GoldenCase, ...]
    pictures: tuple[GoldenPicture, ...]
    "encoded files, and what they must become on the way to the network"
    device_tolerance: float
    "largest logit change allowed against this file's own answers on the exporting machine"
    original_tolerance: float
    "largest logit change allowed against the original's answers"
    distance_tolerance: float | None
    "largest change of the distance allowed against this file's own; absent where there is none"
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
    n_hard: int
    "cases at the threshold or at the limit to abstain"
    flips: tuple[int, ...]
    "indices of the cases that have another answer here, or are refused here and not there"
    pictures: tuple[PictureResult, ...]
    max_distance_change: float | None = None
    distance_tolerance: float | None = None
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
    outputs = joined([session.run(image[None]) for image in inputs])
    comparison = compare(session.spec, golden, outputs)
    pictures = check_pictures(session, golden)
    target = session.spec.file.int8_target if session.spec.file else None
    where = placement(session) if session.provider != "cpu" else None
    is_right = not comparison.wrong.any() and not comparison.flipped.any()
    return GoldenReport(
        model=str(session.path),
        sha256=sha256,
        provider=session.provider,
        cpu=cpu,
        n=len(golden.cases),
        passed=is_right
        and all(picture.passed for picture in pictures)
        and not (where and where.n_astray),
        max_change_from_file=float(comparison.from_file.max()),
        device_tolerance=golden.device_tolerance,
        max_change_from_original=float(comparison.from_original.max()),
        original_tolerance=golden.original_tolerance,
        wrong_cases=tuple(np.flatnonzero(comparison.wrong).tolist()),
        n_hard=sum(case.kind != PHANTOM for case in golden.cases),
        flips=tuple(np.flatnonzero(comparison.flipped).tolist()),
        pictures=pictures,
        max_distance_change=comparison.max_distance_change,
        distance_tolerance=golden.distance_tolerance,
        isa=isa,
        file_isa=golden.isa,
        int8_target=target,
        concern=int8_concern(target, session.provider, isa),
        placement=where,
    )


def check_pictures(session: Session, golden: GoldenSet) -> tuple[PictureResult, ...]:
    """What this device makes of the golden pictures; raises SpecError where one is damaged."""
    try:
        return tuple(check_on(session, picture) for picture in golden.pictures)
    except (ValueError, OSError) as error:
        raise SpecError(session.path, f"its golden pictures are damaged: {error}") from error


def check_on(session: Session, golden: GoldenPicture) -> PictureResult:
    """What this device makes of a golden picture, in the file too where that resizes itself."""
    path = session.spec.pixel_path
    result = check_picture(golden, path)
    if not session.takes_pictures or not result.passed:
        return result
    grey, square = decoded(golden, path)
    inside = session.run_picture(grey).logits
    if np.array_equal(inside, session.run(square[None, None]).logits):
        return result
    return replace(result, passed=False, step=RESIZING_INSIDE)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A device's answers to the golden inputs beside the file's and the original's."""

    from_file: NDArray[np.float64]
    "(N,) largest change of a logit against the exporting machine"
    from_original: NDArray[np.float64]
    "(N,) largest change of a logit against the PyTorch model"
    max_distance_change: float | None
    "against the exporting machine; absent where there is no distance"
    wrong: NDArray[np.bool_]
    "(N,) beyond a tolerance"
    flipped: NDArray[np.bool_]
    "(N,) another class, or refused in one place alone"


def compare(spec: ModelSpec, golden: GoldenSet, outputs: Outputs) -> Comparison:
    """Hold the answers to the golden inputs against what the file says of them."""
    file_logits = np.array([case.file_logits for case in golden.cases])
    original_logits = np.array([case.original_logits for case in golden.cases])
    from_file = np.abs(outputs.logits - file_logits).max(axis=1)
    from_original = np.abs(outputs.logits - original_logits).max(axis=1)
    wrong = (from_file > golden.device_tolerance) | (from_original > golden.original_tolerance)
    flipped = decided(spec, outputs.logits) != decided(spec, file_logits)
    max_distance_change = None
    if outputs.distance is not None and golden.distance_tolerance is not None:
        file_distances = np.array([case.file_distance for case in golden.cases], dtype=np.float64)
        changes = np.abs(outputs.distance - file_distances)
        max_distance_change = float(changes.max())
        wrong |= ~(changes <= golden.distance_tolerance)
        if spec.novelty is not None:
            refused = spec.novelty.refuses(outputs.distance)
            flipped |= refused != spec.novelty.refuses(file_distances)
    return Comparison(
        from_file=from_file,
        from_original=from_original,
        max_distance_change=max_distance_change,
        wrong=wrong,
        flipped=flipped,
    )


def decided(spec: ModelSpec, logits: NDArray[np.floating]) -> NDArray[np.intp]:
    """Class indices (N,) of logits (N, K), at the spec's temperature and threshold."""
    return spec.decide(softmax(logits, spec.temperature))


def int8_concern(target: str | None, provider: str, isa: tuple[str, ...]) -> str:
    """Why an int8 file made for `target` may not suit this device, and the remedy; empty: it does.

    Without VNNI, AVX2 adds pairs of u8×s8 products in 16 bits, which saturates where both are
    large. A session on ONNX Runtime's CPU provider keeps from that; what OpenVINO does there is its
    own affair, and the few golden inputs may miss what other images show.
    """
    if target in (None, "any") or provider not in CPU_PROVIDERS:
        return ""
    remedy = "export for every CPU with `kneeedge export --int8-target any`"
    if target == "vnni" and provider == "openvino" and not has_vnni(isa):
        reason = "made for CPUs with VNNI, which this one does not show"
        return f"{reason}, so that sums may saturate on other images; {remedy}"
    if not isa or suits(target, isa):
        return ""
    return f"made for {INT8_TARGETS[target]}; it may be slow on this CPU; {remedy}"


def suits(target: str, isa: tuple[str, ...]) -> bool:
    """Whether a CPU of these instruction sets has fast kernels for the int8 target."""
    if target == "vnni":
        return has_vnni(isa)
    return target == "arm" and "asimd" in isa


def to_metadata(golden: GoldenSet) -> str:
    """The JSON text that a model file carries under `kneeedge.golden`."""
    return to_json(golden, indent=None)
