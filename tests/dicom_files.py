"""DICOM files made by code, for the tests and for benchmarks/fuzz: uncompressed by pydicom,
compressed by GDCM.
"""

import io
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

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
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.SOPClassUID, found.SOPInstanceUID = CR, "1.2.3.4"
    found.PatientName, found.PatientID, found.PatientBirthDate = "Doe^Jane", "secret-id", "19500101"
    found.Rows, found.Columns = pixels.shape[:2]
    found.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        found.PlanarConfiguration = 0
    found.PhotometricInterpretation = photometric
    found.BitsAllocated = pixels.dtype.itemsize * 8
    found.BitsStored = bits or found.BitsAllocated
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    found.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(found, name, value)
    return found


def stored(found: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The file's bytes."""
    file = io.BytesIO()
    if syntax == ExplicitVRBigEndian and found.BitsAllocated == 16:
        found.PixelData = np.frombuffer(found.PixelData, np.uint16).byteswap().tobytes()
    found.file_meta.TransferSyntaxUID = syntax
    found["PixelData"].VR = (
        "OW" if found.BitsAllocated == 16 or syntax == ImplicitVRLittleEndian else "OB"
    )
    pydicom.dcmwrite(file, found, enforce_file_format=True)
    return file.getvalue()


def compressed(found: Dataset, syntax: str, folder: Path) -> bytes:
    """The same, compressed by GDCM's encoder."""
    plain, packed = folder / "plain.dcm", folder / "packed.dcm"
    plain.write_bytes(stored(found))
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(GDCM_SYNTAXES[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID == syntax
    return packed.read_bytes()
