"""Elements of a DICOM file that are numbers: what they hold, nothing, or why it is no number.

Python takes more for a number than DICOM does: NaN, infinities, `1_000`. Each raises DamagedError
here, as do numbers that no grey scale of 16 bits can come to.
"""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset


class DamagedError(ValueError):
    """What a file says of itself that is not so, or is nothing that can be followed.

    No text of the file is repeated in it, since any element may name a patient.
    """


_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
"the value representations DS and IS: PS3.5, section 6.2"
MAX_DECIMAL = 1e9
"of a window or a rescale: beyond it no value of 16 bits is told from the next"
_UNREADABLE = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"what pydicom raises for an element that is not of its value representation"


def decimals(dataset: "Dataset", keyword: str) -> list[float | None]:
    r"""The numbers of an element of one value or several; none where it is absent or empty.

    None stands for an empty value between others; empty ones at the end (`2048\`) are left out.
    """
    numbers = [_decimal(value, keyword) for value in values_of(dataset, keyword)]
    while numbers and numbers[-1] is None:
        numbers.pop()
    return numbers


def decimal(dataset: "Dataset", keyword: str) -> float | None:
    """The number of an element of one value; None where it is absent or empty."""
    numbers = decimals(dataset, keyword)
    if len(numbers) > 1:
        raise DamagedError(f"{keyword} has {len(numbers)} values")
    return numbers[0] if numbers else None


def whole(dataset: "Dataset", keyword: str) -> int | None:
    """The whole number of an element of one value; None where it is absent or empty."""
    number = decimal(dataset, keyword)
    if number is None:
        return None
    if number != int(number):
        raise DamagedError(f"{keyword} is {number:g}, no whole number")
    return int(number)


def words(dataset: "Dataset", keyword: str, little_endian: bool) -> NDArray[np.uint16]:
    """The 16-bit words (n,) of an element, whether it is of US, SS, OW or UN.

    A packed one holds bytes in the file's order: `little_endian`, the low byte first.
    """
    values = values_of(dataset, keyword)
    if len(values) == 1 and isinstance(values[0], bytes) and len(values[0]) % 2 == 0:
        order = "<u2" if little_endian else ">u2"
        return np.frombuffer(values[0], order).astype(np.uint16)
    if not all(isinstance(value, int) and -(2**15) <= value < 2**16 for value in values):
        raise DamagedError(f"{keyword} does not hold words of 16 bits")
    return np.array(values, dtype=np.int64).astype(np.uint16)


def values_of(dataset: "Dataset", keyword: str) -> list[Any]:
    """All values of an element as pydicom reads them; none where it is absent or empty."""
    try:
        value = dataset.get(keyword)
    except _UNREADABLE as error:
        raise DamagedError(f"{keyword} is no number") from error
    if value is None or value in ("", b""):
        return []
    return [value] if isinstance(value, str | bytes) or not hasattr(value, "__len__") else [*value]


def items_of(dataset: "Dataset", keyword: str) -> "list[Dataset]":
    """The items of a sequence; none where it is absent or empty."""
    items = values_of(dataset, keyword)
    if not all(hasattr(item, "group_dataset") for item in items):
        raise DamagedError(f"{keyword} is no sequence")
    return items


def _decimal(value: Any, keyword: str) -> float | None:
    """One value as a number, as it was written."""
    text = str(getattr(value, "original_string", value) if value is not None else "").strip()
    if not text:
        return None
    if isinstance(value, bytes) or not _DECIMAL.fullmatch(text):
        raise DamagedError(f"{keyword} is no number")
    number = float(text)
    if not abs(number) <= MAX_DECIMAL:
        raise DamagedError(f"{keyword} is {number:g}, no number of grey values")
    return number
