"""Whether a JPEG frame is whole, by what its own bytes say (ITU-T T.81; sections are of it).

libjpeg fills in what is missing and goes on. Here every scan must end in a marker and the frame in
its end marker, the restart markers must be those that the size asks for, and a lossless scan must
hold the very number of bits that its pixels take.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kneeedge.pixels.dicom_numbers import DamagedError

_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_DHT, _EOI, _SOS, _DRI = 0xC4, 0xD9, 0xDA, 0xDD
_RST = range(0xD0, 0xD8)
"markers: table B.1"
_SEQUENTIAL = (0xC0, 0xC1)
LOSSLESS = 0xC3
_LONGEST_ZEROS = 64
"bytes; a block of 64 coefficients that zeros code takes 24"
_SPARE_BYTES = 4
"that an encoder may flush beyond its last bit"


class Component(NamedTuple):
    """A component of a frame."""

    number: int
    across: int
    "sampling factor"
    down: int


class Huffman(NamedTuple):
    """The codes of a table, shortest first (C.2)."""

    lengths: list[int]
    "bits of each code"
    symbols: list[int]
    "what each stands for: of DC and lossless tables, how many bits of the difference follow"


@dataclass
class _State:
    """What the segments before a scan have said."""

    process: int = 0
    "the marker of the frame header"
    precision: int = 0
    rows: int = 0
    columns: int = 0
    components: list[Component] = field(default_factory=list)
    restart_interval: int = 0
    tables: dict[int, Huffman] = field(default_factory=dict)
    "by class × 16 + number"


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A scan, and how many bytes its entropy-coded segments take."""

    process: int
    precision: int
    rows_per_segment: int
    "lines of a single component between two restarts; 0 where they end within a line"
    predictor: int
    "of a lossless scan (H.1.2.1); in others the first coefficient"
    shift: int
    "the point transform of a lossless scan"
    table: Huffman | None
    "of the differences, of a scan of one component"
    segment_bytes: list[int]
    "without stuffed and fill bytes"


def scans_of(stream: bytes) -> list[Scan]:
    """The scans of a whole JPEG; raises DamagedError for one that is cut off or has a hole."""
    try:
        return _scans_of(stream)
    except DamagedError:
        raise
    except (struct.error, LookupError, ValueError, ArithmeticError) as error:
        raise DamagedError("a JPEG whose segments are damaged") from error


def _scans_of(stream: bytes) -> list[Scan]:
    state = _State()
    scans: list[Scan] = []
    markers = _markers(stream)
    marker, at = _next_marker(stream, 2)
    while marker != _EOI:
        (size,) = struct.unpack_from(">H", stream, at)
        segment = stream[at + 2 : at + size]
        at += size
        if marker == _SOS:
            following = markers[np.searchsorted(markers, at) :]
            if not len(following):
                raise DamagedError("a JPEG without its end")
            end = int(following[0])
            scans.append(_scan(stream[at:end], segment, state))
            at = end
        else:
            _heed(marker, segment, state)
        marker, at = _next_marker(stream, at)
    if b"\xff\xd8\xff" in stream[at:]:
        raise DamagedError("more than one frame")
    return scans


def _next_marker(stream: bytes, at: int) -> tuple[int, int]:
    """The marker at `at`, fill bytes before it or not, and where it ends."""
    if stream[at : at + 1] != b"\xff":
        raise DamagedError("a JPEG without its end")
    while stream[at] == 0xFF:
        at += 1
    return stream[at], at + 1


def _heed(marker: int, segment: bytes, state: _State) -> None:
    """Keep what a segment says of the scans that follow."""
    if marker in _SOF:
        state.process = marker
        state.precision, state.rows, state.columns, n = struct.unpack_from(">BHHB", segment)
        factors = [segment[6 + 3 * i : 8 + 3 * i] for i in range(n)]
        state.components = [Component(number, hv >> 4, hv & 15) for number, hv in factors]
    elif marker == _DRI:
        (state.restart_interval,) = struct.unpack(">H", segment)
    elif marker == _DHT:
        while len(segment) > 16:
            counts = segment[1:17]
            n = sum(counts)
            lengths = [bits + 1 for bits, count in enumerate(counts) for _ in range(count)]
            state.tables[segment[0]] = Huffman(lengths, [*segment[17 : 17 + n]])
            segment = segment[17 + n :]


def _markers(stream: bytes) -> NDArray[np.intp]:
    """Where 0xFF may begin a marker that ends a scan: one that is no restart, stuffing or fill."""
    data = np.frombuffer(stream, np.uint8)
    at = np.flatnonzero(data[:-1] == 0xFF)
    following = data[at + 1]
    restarts = (following & 0xF8) == _RST.start
    ends: NDArray[np.intp] = at[~restarts & (following != 0) & (following != 0xFF)]
    return ends


def _scan(coded: bytes, header: bytes, state: _State) -> Scan:
    """The scan of these entropy-coded bytes; raises DamagedError where segments are missing."""
    n = header[0]
    numbers = header[1 : 1 + 2 * n : 2]
    selectors = header[2 : 2 + 2 * n : 2]
    predictor, _, approximation = header[1 + 2 * n : 4 + 2 * n]
    components = [component for component in state.components if component.number in numbers]
    shift = approximation & 15
    if state.process == LOSSLESS and shift >= state.precision:
        raise DamagedError(f"a point transform of {shift} bits")
    segment_bytes = _segment_bytes(coded)
    n_segments = _n_segments(state, components)
    if len(segment_bytes) != n_segments:
        raise DamagedError(f"{len(segment_bytes)} segments between restarts, not {n_segments}")
    dense = state.process in _SEQUENTIAL and not _zeros_are_flat(selectors, state)
    if dense and bytes(_LONGEST_ZEROS) in coded:
        raise DamagedError("a JPEG with a hole of zeros")
    lines, rest = divmod(state.restart_interval, state.columns or 1)
    return Scan(
        process=state.process,
        precision=state.precision,
        rows_per_segment=0 if rest else lines or state.rows,
        predictor=predictor,
        shift=shift,
        table=state.tables.get(selectors[0] >> 4) if n == 1 else None,
        segment_bytes=segment_bytes,
    )


def _segment_bytes(coded: bytes) -> list[int]:
    """Bytes of each segment between restarts, which must come in turn (E.1.4)."""
    data = np.frombuffer(coded + b"\0", np.uint8)
    at = np.flatnonzero(data[:-1] == 0xFF)
    following = data[at + 1]
    # a stuffed zero, or the 0xFF that fills up before a marker; the scan's own end is none
    surplus = at[(following == 0) | (following == 0xFF)]
    restarts = at[(following & 0xF8) == _RST.start]
    turn = data[restarts + 1] - _RST.start
    if not np.array_equal(turn, np.arange(len(restarts)) % 8):
        raise DamagedError("restart markers out of turn")
    begins = np.concatenate([[0], restarts + 2])
    ends = np.concatenate([restarts, [len(coded)]])
    n_surplus = np.searchsorted(surplus, ends) - np.searchsorted(surplus, begins)
    return [int(n) for n in ends - begins - n_surplus]


def _n_segments(state: _State, components: list[Component]) -> int:
    """How many segments between restarts the size asks for (A.2)."""
    if not state.restart_interval or not components:
        return 1
    unit = 1 if state.process == LOSSLESS else 8
    widest = max(component.across for component in state.components)
    tallest = max(component.down for component in state.components)
    columns = state.columns
    rows = state.rows
    if len(components) == 1:
        columns = math.ceil(columns * components[0].across / widest)
        rows = math.ceil(rows * components[0].down / tallest)
        widest = tallest = 1
    n_units = math.ceil(columns / (unit * widest)) * math.ceil(rows / (unit * tallest))
    return math.ceil(n_units / state.restart_interval)


def _zeros_are_flat(selectors: bytes, state: _State) -> bool:
    """Whether zero bits code blocks without detail, so that a long run of them may be background.

    The first code of a table is all zeros (C.2), and stands for the end of the block where it may.
    """
    tables = [state.tables.get(16 + (selector & 15)) for selector in selectors]
    return all(table is not None and table.symbols[:1] == [0] for table in tables)


def check_lossless(scan: Scan, samples: NDArray[np.integer[Any]]) -> None:
    """Raise DamagedError where the samples (H, W) do not take the bits that the scan holds.

    A hole decodes to other samples, of another number of bits: either some are left over, or the
    decoder went on without any. Only scans of one component and whole lines are counted.
    """
    if scan.table is None or not scan.rows_per_segment or not 1 <= scan.predictor <= 7:
        return
    begins = np.arange(0, len(samples), scan.rows_per_segment)
    points = samples.astype(np.uint16)
    if scan.precision < 16 or scan.shift:
        points = (points & np.uint16(2**scan.precision - 1)) >> np.uint16(scan.shift)
    bits = np.take(_bits_of_differences(scan.table), _differences(scan, points, begins))
    n_bits = np.add.reduceat(bits.sum(axis=1, dtype=np.int64), begins)
    spare = np.array(scan.segment_bytes) - -(-n_bits // 8)
    if spare.min() < 0 or spare.max() > _SPARE_BYTES:
        raise DamagedError("a lossless JPEG with a hole")


def _differences(
    scan: Scan, points: NDArray[np.uint16], begins: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """What is coded of each point (H, W): its difference from the prediction, modulo 2**16 (H.1).

    A restart begins anew at the lines `begins`.
    """
    differences = points.copy()
    differences[:, 1:] -= _predictions(scan.predictor, points)
    differences[1:, 0] -= points[:-1, 0]
    differences[begins, 1:] = points[begins, 1:] - points[begins, :-1]
    differences[begins, 0] = points[begins, 0] - np.uint16(1 << (scan.precision - scan.shift - 1))
    return differences


def _predictions(predictor: int, points: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Predictions (H, W - 1) of all but the first column (table H.1); the first line's are void."""
    if predictor == 1:
        return points[:, :-1]
    wide = np.vstack([points[:1], points]).astype(np.int32)
    left = wide[1:, :-1]
    above = wide[:-1, 1:]
    corner = wide[:-1, :-1]
    plane = left + above - corner
    halves = (left + plane, above + plane, left + above)
    predicted = (above, corner, plane, *(half >> 1 for half in halves))[predictor - 2]
    return predicted.astype(np.uint16)


def _bits_of_differences(table: Huffman) -> NDArray[np.uint8]:
    """The bits that each difference modulo 2**16 takes (65536,): its code, and what follows it.

    A difference without a code takes more than there can be.
    """
    signed = np.arange(2**16, dtype=np.uint16).astype(np.int16)
    magnitudes = np.abs(signed.astype(np.int64))
    categories = np.ceil(np.log2(magnitudes + 1)).astype(int)
    bits = np.full(17, 255, dtype=np.uint8)
    for length, category in zip(table.lengths, table.symbols, strict=True):
        if category <= 16:
            # 32,768 is told by its category alone (H.1.2.2)
            bits[category] = length + (category if category < 16 else 0)
    taken: NDArray[np.uint8] = np.take(bits, categories)
    return taken
