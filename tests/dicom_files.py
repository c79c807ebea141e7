"""DICOM files made by code, for the tests and benchmarks/fuzz: by pydicom, compressed by GDCM."""

import io
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from kneeedge.pixels.dicom import decode_dicom

SHAPE = (40, 48)
RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, SHAPE, dtype=np.uint16)
EIGHT = RNG.integers(0, 256, SHAPE, dtype=np.uint8)
SIGNED = RNG.integers(-2048, 2048, SHAPE, dtype=np.int16)
RGB = RNG.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
CR = "1.2.840.10008.5.1.4.1.1.1"
GDCM_SYNTAXES = {
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    RLELossless: gdcm.TransferSyntax.RLELossless,
}


def dataset(
    pixels: np.ndarray, bits: int | None = None, photometric: str = "MONOCHROME2", **tags: object
) -> Dataset:
    """A CR image of these stored values; `tags` by keyword."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.SOPClassUID = CR
    image.SOPInstanceUID = "1.2.3.4"
    image.PatientName = "Doe^Jane"
    image.PatientID = "secret-id"
    image.PatientBirthDate = "19500101"
    image.Rows, image.Columns = pixels.shape[:2]
    image.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        image.PlanarConfiguration = 0
    image.PhotometricInterpretation = photometric
    image.BitsAllocated = pixels.dtype.itemsize * 8
    image.BitsStored = bits or image.BitsAllocated
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    image.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(image, name, value)
    return image


def with_element(image: Dataset, keyword: str, vr: str, value: object) -> Dataset:
    """The image with an element of this value representation and value, sound or not.

    Text is written as it is, or values of it.
    """
    tag = tag_for_keyword(keyword)
    assert tag is not None
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        raw = "\\".join(texts).encode()
        raw += b" " * (len(raw) % 2)
        image[tag] = RawDataElement(Tag(tag), vr, len(raw), raw, 0, False, True)
    else:
        image.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))
    return image


def lut(first: int, entries: list[int], bits: int) -> Dataset:
    """An item of a modality or VOI LUT sequence, an entry a word."""
    table = Dataset()
    table.LUTDescriptor = [len(entries) % 65536, first % 65536, bits]
    table["LUTDescriptor"].VR = "US"
    table.LUTData = entries
    table["LUTData"].VR = "US"
    return table


def grey(data: bytes, window: int = 0) -> np.ndarray:
    """The grey levels of a DICOM file."""
    return decode_dicom(data, Path("a.dcm"), window, 1 << 20)[0]


def grey_scale(data: bytes, window: int = 0) -> str:
    """What is said of how its grey levels were made."""
    return decode_dicom(data, Path("a.dcm"), window, 1 << 20)[1].grey_scale


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0…255 by a straight line, by the definition."""
    share = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(share * 255).astype(np.uint8)


def stored(image: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of its file."""
    file = io.BytesIO()
    if syntax == ExplicitVRBigEndian and image.BitsAllocated == 16:
        image.PixelData = np.frombuffer(image.PixelData, np.uint16).byteswap().tobytes()
    image.file_meta.TransferSyntaxUID = syntax
    words = image.BitsAllocated == 16 or syntax == ImplicitVRLittleEndian
    image["PixelData"].VR = "OW" if words else "OB"
    pydicom.dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


def encapsulated(image: Dataset, frame: bytes, syntax: str) -> bytes:
    """The bytes of its file with one compressed frame in place of its pixels."""
    image.PixelData = encapsulate([frame])
    image["PixelData"].is_undefined_length = True
    return stored(image, syntax)


def compressed(image: Dataset, syntax: str, folder: Path) -> bytes:
    """The bytes of its file, compressed by GDCM's encoder."""
    plain = folder / "plain.dcm"
    packed = folder / "packed.dcm"
    plain.write_bytes(stored(image))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(GDCM_SYNTAXES[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID == syntax
    return packed.read_bytes()
