"""DICOM objects for the node's tests, and the model that answers them."""

import io
from pathlib import Path

import numpy as np
import pydicom

from tests.dicom_files import dataset, stored

UID_ROOT = "1.2.826.0.1.3680043.10.99"
SHAPE = (96, 64)


def uid(i: int) -> str:
    return f"{UID_ROOT}.{i + 1}"


def image(i: int, **tags: object) -> pydicom.Dataset:
    """A CR image of 12 bits, other pixels for each number."""
    pixels = np.random.default_rng(i).integers(0, 4096, SHAPE, dtype=np.uint16)
    study = {
        "StudyInstanceUID": f"{UID_ROOT}.0.{i + 1}",
        "SeriesInstanceUID": f"{UID_ROOT}.0.{i + 1}.1",
        "StudyDate": "20260101",
        "Modality": "CR",
        "SOPInstanceUID": uid(i),
    }
    return pydicom.dcmread(io.BytesIO(stored(dataset(pixels, 12, **study | tags))))


def write_images(folder: Path, n: int) -> list[Path]:
    """Files of `n` images."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04}.dcm" for i in range(n)]
    for i, path in enumerate(paths):
        image(i).save_as(path)
    return paths
