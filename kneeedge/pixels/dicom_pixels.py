"""The words of a DICOM file's pixels, whole, as they were before they were compressed."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kneeedge.pixels.dicom_frames import check_frame, frame_of
from kneeedge.pixels.dicom_jpeg import LOSSLESS, check_lossless
from kneeedge.pixels.dicom_limits import check_stream
from kneeedge.pixels.dicom_numbers import DamagedError

if TYPE_CHECKING:
    from pydicom import Dataset


_HEADER_BYTES = 2**16
"before which the header of a frame has its JFIF"


def words_of(dataset: "Dataset") -> NDArray[np.unsignedinteger[Any]]:
    """The words (H, W), or (H, W, 3) with YBR made RGB, of BitsAllocated bits each.

    Those of one sample a pixel are as they are stored, with whatever lies above their BitsStored.
    Raises DamagedError for pixels that are not whole, and whatever pydicom and GDCM raise.
    """
    _ensure_syntax(dataset)
    if is_compressed(dataset):
        stored = _decoded(dataset)
    else:
        _check_length(dataset)
        stored = _as_array(dataset)
    # a decoder may give 8 bits for 16 allocated, or the other byte order
    n_bytes = dataset.BitsAllocated // 8
    kind = "i" if stored.dtype.kind == "i" else "u"
    return stored.astype(f"{kind}{n_bytes}", copy=False).view(f"u{n_bytes}")


def _ensure_syntax(dataset: "Dataset") -> None:
    """Give a data set without a transfer syntax the one that it was read by (PS3.5, section 10.1).

    Such a data set is not compressed.
    """
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if getattr(dataset, "file_meta", None) and "TransferSyntaxUID" in dataset.file_meta:
        return
    dataset.ensure_file_meta()
    implicit, little_endian = dataset.original_encoding
    explicit = ExplicitVRBigEndian if little_endian is False else ExplicitVRLittleEndian
    syntax = ImplicitVRLittleEndian if implicit else explicit
    dataset.file_meta.TransferSyntaxUID = syntax


def is_compressed(dataset: "Dataset") -> bool:
    """Whether the pixels come in fragments, by the transfer syntax."""
    syntax = (getattr(dataset, "file_meta", None) or {}).get("TransferSyntaxUID")
    return bool(syntax and syntax.is_transfer_syntax and syntax.is_encapsulated)


def _check_length(dataset: "Dataset") -> None:
    """Raise DamagedError where there are pixels for a line or a column more than are declared.

    One that is not would shear the picture; fewer bytes are padding. Too few pydicom refuses.
    """
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    n_bytes = samples * dataset.BitsAllocated // 8
    surplus = len(dataset.PixelData) - dataset.Rows * dataset.Columns * n_bytes
    # of a single byte, padding
    if surplus > 1 and surplus >= n_bytes * min(dataset.Rows, dataset.Columns):
        size = f"{dataset.Columns} × {dataset.Rows}"
        raise DamagedError(f"more than {size}, by {surplus} bytes")


def _as_array(dataset: "Dataset", plugin: str = "") -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    keeps_all_bits = dataset.SamplesPerPixel == 1
    return pixel_array(dataset, decoding_plugin=plugin, correct_unused_bits=not keeps_all_bits)


def _decoded(dataset: "Dataset") -> NDArray[Any]:
    """The one compressed frame, once it is seen to be whole."""
    frame = frame_of(dataset.PixelData)
    check_stream(frame, dataset)
    scans = check_frame(frame, dataset)
    stored = _decompressed(_of_known_jfif(frame), dataset)
    if len(scans) == 1 and scans[0].process == LOSSLESS:
        check_lossless(scans[0], stored)
    return _clipped(stored, dataset)


def _of_known_jfif(frame: bytes) -> bytes:
    """The frame with a JFIF header's version made 1, since GDCM ends the process at any other."""
    head, jfif, rest = frame.partition(b"JFIF\0")
    in_header = frame.startswith(b"\xff\xd8") and len(head) < _HEADER_BYTES
    return head + jfif + b"\1" + rest[1:] if in_header and jfif else frame


def _decompressed(frame: bytes, dataset: "Dataset") -> NDArray[Any]:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and dataset.BitsStored > 8 and dataset.SamplesPerPixel == 1:
        return _extended_jpeg(frame, dataset)
    # pydicom would go by the offset tables
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(keyword, None)
    dataset.PixelData = encapsulate([frame], has_bot=False)
    return _as_array(dataset, "pillow" if syntax == JPEGBaseline8Bit else "")


def _clipped(stored: NDArray[Any], dataset: "Dataset") -> NDArray[Any]:
    """Unsigned samples of a lossy frame with none above those that BitsStored bits hold.

    What was lost may lift white beyond them, where it would wrap to black.
    """
    from pydicom.uid import JPEG2000, JPEGExtended12Bit, JPEGLSNearLossless

    lossy = dataset.file_meta.TransferSyntaxUID in (JPEG2000, JPEGExtended12Bit, JPEGLSNearLossless)
    if not lossy or stored.dtype.kind != "u" or dataset.BitsStored >= 8 * stored.itemsize:
        return stored
    clipped: NDArray[Any] = np.minimum(stored, stored.dtype.type(2**dataset.BitsStored - 1))
    return clipped


def _extended_jpeg(frame: bytes, dataset: "Dataset") -> NDArray[np.uint16]:
    """The samples (H, W) of 12-bit JPEG Extended; pydicom does not ask GDCM, which decodes it.

    Raises DamagedError where GDCM gives none, RuntimeError where it is not installed.
    """
    try:
        import gdcm
    except ModuleNotFoundError as error:
        raise RuntimeError("12-bit JPEG needs gdcm, which is not installed") from error
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.JPEGExtendedProcess2_4
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    # GDCM returns char* as str
    text = image.GetBuffer()
    if text is None:
        raise DamagedError("a JPEG that does not decode")
    samples = np.frombuffer(text.encode("utf-8", "surrogateescape"), "<u2")
    return samples.reshape(dataset.Rows, dataset.Columns)
