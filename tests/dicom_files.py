"""DICOM files made by code, for the tests and benchmarks/fuzz: by pydicom, compressed by GDCM."""

import io
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

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
