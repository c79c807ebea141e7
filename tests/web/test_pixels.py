"""The page's own decoders and resize give the very bytes that kneeedge's Python gives."""

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom]'")
pydicom = pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom]'")

from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLSLossless,
)

from benchmarks.web.browser import cached
from kneeedge.errors import ImageError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.depth import depth_remark
from kneeedge.pixels.picture import decode_picture
from kneeedge.pixels.pixel_path import to_input
from kneeedge.web.packages import fetch, files_of, read_packages
from tests.dicom_files import EIGHT, SIGNED, TWELVE, compressed, dataset, encapsulated
from tests.tools import need
from tests.web import pixel_cases
from tests.web.pixel_cases import Case, encoded_j2k

RUNNER = Path(__file__).with_name("read_pixels.mjs")
SECONDS = 120
"for all files together; a file that hangs the decoders would take longer"


@dataclass(frozen=True)
class Read:
    """What became of one file, in the page or in Python."""

    refusal: str = ""
    remedy: str = ""
    grey: NDArray[np.uint8] | None = None
    square: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()

    def equals(self, other: "Read") -> bool:
        """Whether both give the same picture and input, and say the same of it."""
        if self.grey is None or other.grey is None:
            return False
        return (
            np.array_equal(self.grey, other.grey)
            and np.array_equal(self.square, other.square)
            and self.notes == other.notes
        )


def by_page(cases: dict[str, Case], folder: Path, vendor: Path | None = None) -> dict[str, Read]:
    """What the page's modules make of the files, all by one run of node."""
    need("node")
    told = []
    for i, case in enumerate(cases.values()):
        path = folder / str(i)
        path.write_bytes(case.data)
        options = {
            "dicomWindow": case.window,
            "greyBits": case.grey_bits,
            "maxPixels": case.max_pixels,
        }
        told.append({"path": str(path), "options": options, "size": case.size, "fit": case.fit})
    (folder / "cases.json").write_text(json.dumps(told))
    command = ["node", str(RUNNER), str(vendor or ""), str(folder / "cases.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    return {name: _read(answers[i], told[i]) for i, name in enumerate(cases)}


def _read(answer: dict[str, Any], told: dict[str, Any]) -> Read:
    assert "crash" not in answer, answer["crash"]
    if "refusal" in answer:
        return Read(answer["refusal"], answer["remedy"])
    grey = np.fromfile(f"{told['path']}.grey", np.uint8)
    square = np.fromfile(f"{told['path']}.input", np.uint8)
    return Read(
        grey=grey.reshape(answer["height"], answer["width"]),
        square=square.reshape(told["size"], told["size"]),
        # Python says nothing of the scale at which it decodes
        notes=tuple(note for note in answer["notes"] if not note.startswith("decoded at")),
    )


def by_python(case: Case) -> Read:
    """What kneeedge makes of a file."""
    try:
        picture = decode_picture(
            case.data, Path("a"), case.size, case.window, case.max_pixels, case.grey_bits
        )
    except ImageError as error:
        return Read(error.reason, error.remedy)
    notes = [f"grey scale: {picture.dicom.grey_scale}"] if picture.dicom else []
    if picture.depth_suspect:
        notes.append(depth_remark(picture.depth_suspect))
    square = to_input(picture.grey, PixelPath(size=case.size, fit=case.fit))
    return Read(grey=picture.grey, square=square, notes=tuple(notes))


def different(cases: dict[str, Case], pages: dict[str, Read]) -> list[str]:
    """The files of which the page and Python do not make the same, with the page's refusal."""
    return [
        f"{name}: {pages[name].refusal}"
        for name, case in cases.items()
        if not pages[name].equals(by_python(case))
    ]


@pytest.mark.parametrize(
    "make", [pixel_cases.resizes, pixel_cases.pngs, pixel_cases.jpegs, pixel_cases.dicoms]
)
def test_the_page_makes_of_every_file_what_python_does(
    make: Callable[[], Iterable[tuple[str, Case]]], tmp_path: Path
) -> None:
    cases = dict(make())
    assert different(cases, by_page(cases, tmp_path)) == []


def test_damaged_files_are_refused_or_read_as_python_does(tmp_path: Path) -> None:
    jpegs = {name: case for name, case in pixel_cases.jpegs() if name.endswith("1/8")}
    sound = jpegs | dict(pixel_cases.pngs()) | dict(pixel_cases.dicoms())
    cases = dict(pixel_cases.damaged(sound))
    pages = by_page(cases, tmp_path)
    read = {name: case for name, case in cases.items() if pages[name].grey is not None}
    assert len(cases) - len(read) > 100
    assert different(read, pages) == []


def test_what_neither_reads_is_refused_with_what_to_do(tmp_path: Path) -> None:
    cases = dict(pixel_cases.refused())
    pages = by_page(cases, tmp_path)
    for name, case in cases.items():
        python = by_python(case)
        assert python.refusal, name
        assert pages[name].refusal, name
        first = python.refusal.split()[0]
        assert pages[name].refusal.startswith(first), f"{name}: {pages[name].refusal}"
        assert pages[name].remedy, name


def test_what_the_page_leaves_out_is_refused_with_what_to_do(tmp_path: Path) -> None:
    cases = dict(pixel_cases.left_out())
    pages = by_page(cases, tmp_path)
    for name, case in cases.items():
        assert not by_python(case).refusal, name
        assert "not read here" in pages[name].refusal, name
        assert "save it" in pages[name].remedy, name


# Decoders from packages


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of DICOM's codecs, by their exact version and integrity."""
    need("node", "npm")
    folder = tmp_path_factory.mktemp("vendor")
    codecs = [package for package in read_packages() if "codec" in package.name]
    for package, tarball in fetch(codecs, cached(codecs)).items():
        for name, content in files_of(package, tarball).items():
            target = folder / package.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return folder


def packed_cases(folder: Path) -> dict[str, Case]:
    """DICOM that is compressed as JPEG-LS and JPEG 2000."""
    lossy = encoded_j2k(EIGHT, irreversible=True, quality_mode="rates", quality_layers=[4])
    files = {
        "JPEG 2000, lossy": encapsulated(dataset(EIGHT), lossy, JPEG2000),
        "JPEG 2000, tiles": encapsulated(
            dataset(EIGHT), encoded_j2k(EIGHT, tile_size=(16, 16)), JPEG2000Lossless
        ),
    }
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        files[f"{syntax.name}, 12 bits"] = compressed(dataset(TWELVE, 12), syntax, folder)
        files[f"{syntax.name}, 8 bits"] = compressed(dataset(EIGHT), syntax, folder)
        files[f"{syntax.name}, signed"] = compressed(dataset(SIGNED, 16), syntax, folder)
    return {name: Case(data=data) for name, data in files.items()}


def test_jpeg_ls_and_jpeg_2000_give_the_pixels_that_gdcm_gives(
    vendor: Path, tmp_path: Path
) -> None:
    cases = packed_cases(tmp_path)
    assert different(cases, by_page(cases, tmp_path, vendor)) == []


def test_damaged_frames_are_refused_or_read_as_gdcm_does(vendor: Path, tmp_path: Path) -> None:
    """One that breaks a decoder spoils no other file."""
    cases = dict(pixel_cases.damaged(packed_cases(tmp_path)))
    cases["a sound one behind them"] = packed_cases(tmp_path)["JPEG 2000, tiles"]
    pages = by_page(cases, tmp_path, vendor)
    assert pages["a sound one behind them"].grey is not None
    read = {name: case for name, case in cases.items() if pages[name].grey is not None}
    assert different(read, pages) == []


def test_pydicoms_own_files_are_read_as_python_does_or_refused(
    vendor: Path, tmp_path: Path
) -> None:
    """Only colour is left out that Python reads."""
    folder = Path(pydicom.__file__).parent
    paths = [path for path in sorted(folder.rglob("*.dcm")) if path.stat().st_size < 60_000]
    cases = {path.name: Case(data=path.read_bytes()) for path in paths}
    pages = by_page(cases, tmp_path, vendor)
    pythons = {name: by_python(case) for name, case in cases.items()}
    read = [name for name in cases if pages[name].grey is not None]
    assert len(read) > 20
    assert [name for name in read if not pages[name].equals(pythons[name])] == []
    left = [name for name in cases if pages[name].refusal and not pythons[name].refusal]
    for name in left:
        assert "not read here" in pages[name].refusal, name
