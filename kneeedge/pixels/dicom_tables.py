"""Look-up tables of DICOM: modality LUT, VOI LUT and palettes (PS3.3, C.11.1, C.11.2, C.7.6.3.1.5).

They are read and followed in wide integers: a descriptor's words may be signed or not whatever
their value representation says, 8-bit entries may lie packed or in words of their own, and an index
must clip where it would wrap.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.pixels.dicom_numbers import DamagedError, values_of, words

if TYPE_CHECKING:
    from pydicom import Dataset


_MAX_ENTRIES = 2**16
_DISCRETE = 0
_LINEAR = 1
"the segments of a segmented palette: PS3.3, C.7.9.2"


@dataclass(frozen=True)
class LookUpTable:
    """What each of a range of values becomes."""

    first: int
    "the value that the first entry is for"
    bits: int
    "an entry, which is at most 2**bits - 1"
    entries: NDArray[np.int64]
    "(n,)"

    @property
    def top(self) -> int:
        """The largest entry that there could be."""
        return int(2**self.bits - 1)

    @property
    def remark(self) -> str:
        """What to say of entries that leave the highest bit unused, and look dark; or nothing."""
        largest = int(self.entries.max())
        return f" (entries end at {largest} of {self.top})" if 2 * largest < self.top else ""

    def of(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The entries for these values, those beyond the table by its first or last entry.

        A value between two whole ones is the one nearer zero, as it is in DCMTK.
        """
        index = np.clip(np.trunc(values) - self.first, 0, len(self.entries) - 1)
        looked_up: NDArray[np.int64] = self.entries[index.astype(np.int64)]
        return looked_up


def grey_table(item: "Dataset", signed: bool, little_endian: bool) -> LookUpTable:
    """The table of one item of a Modality or VOI LUT Sequence, for `signed` values or not.

    Raises DamagedError for a table that is not what its descriptor says.
    """
    n, first, bits = _descriptor(item, "LUTDescriptor", signed, little_endian)
    return LookUpTable(first, bits, _entries(item, "LUTData", n, bits, little_endian))


def palette(dataset: "Dataset", signed: bool, little_endian: bool) -> list[LookUpTable]:
    """The tables of red, green and blue, plain or segmented, for `signed` pixels or not.

    Raises DamagedError for a palette that is not what its descriptors say.
    """
    return [_channel(dataset, name, signed, little_endian) for name in ("Red", "Green", "Blue")]


def _channel(dataset: "Dataset", name: str, signed: bool, little_endian: bool) -> LookUpTable:
    keyword = f"{name}PaletteColorLookupTable"
    n, first, bits = _descriptor(dataset, f"{keyword}Descriptor", signed, little_endian)
    if bits not in (8, 16):
        raise DamagedError(f"{keyword}Descriptor has {bits} bits an entry, not 8 or 16")
    segmented = f"Segmented{keyword}Data"
    if values_of(dataset, f"{keyword}Data") or not values_of(dataset, segmented):
        entries = _entries(dataset, f"{keyword}Data", n, bits, little_endian)
    else:
        packed = words(dataset, segmented, little_endian).astype("<u2").tobytes()
        units = np.frombuffer(packed, np.uint8 if bits == 8 else "<u2").tolist()
        entries = np.array(_expanded(units, n), dtype=np.int64)
    return LookUpTable(first, bits, entries)


def _descriptor(
    dataset: "Dataset", keyword: str, signed: bool, little_endian: bool
) -> tuple[int, int, int]:
    """Entries, the first value that is mapped, and bits an entry (PS3.3, C.11.1.1.1)."""
    descriptor = words(dataset, keyword, little_endian)
    if len(descriptor) != 3:
        raise DamagedError(f"{keyword} has {len(descriptor)} values, not 3")
    n, first, bits = descriptor.tolist()
    if not 8 <= bits <= 16:
        raise DamagedError(f"{keyword} has {bits} bits an entry, not 8 to 16")
    if signed and first >= 2**15:
        first -= 2**16
    return n or _MAX_ENTRIES, first, bits


def _entries(
    dataset: "Dataset", keyword: str, n: int, bits: int, little_endian: bool
) -> NDArray[np.int64]:
    """The `n` entries, each in a word, or two of 8 bits in one with the first in its low byte.

    Which of the two it is, the length tells (PS3.3, C.11.1.1.1).
    """
    data = words(dataset, keyword, little_endian)
    if bits == 8 and len(data) == (n + 1) // 2 and n > 1:
        return np.frombuffer(data.astype("<u2").tobytes(), np.uint8)[:n].astype(np.int64)
    if len(data) != n:
        raise DamagedError(f"{keyword} has {2 * len(data)} bytes for {n} entries of {bits} bits")
    if data.max() >= 2**bits:
        raise DamagedError(f"{keyword} has an entry of {data.max()}, beyond {bits} bits")
    return data.astype(np.int64)


def _expanded(units: list[int], n: int) -> list[int]:
    """The `n` entries of a segmented table (PS3.3, C.7.9.2); raises DamagedError for others.

    Indirect segments, which repeat earlier ones, are not read.
    """
    entries: list[int] = []
    at = 0
    while at + 2 < len(units) and len(entries) < n:
        code, length = units[at : at + 2]
        if code == _LINEAR and entries:
            line = np.linspace(entries[-1], units[at + 2], length + 1)
            entries += np.rint(line[1:]).astype(int).tolist()
            at += 3
        elif code == _DISCRETE:
            entries += units[at + 2 : at + 2 + length]
            at += 2 + length
        else:
            raise DamagedError(f"a palette segment of kind {code} is not supported")
    if len(entries) != n:
        raise DamagedError(f"the palette's segments hold {len(entries)} entries, not {n}")
    return entries
