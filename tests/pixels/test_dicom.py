"""DICOM: every transfer syntax and photometric interpretation, exact against the test's arrays."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kneeedge.cli.app import app
from kneeedge.errors import ImageError, MissingExtraError
from kneeedge.pixels.dicom import decode_dicom, is_dicom
from kneeedge.pixels.dicom_grey import windowed
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.picture import read_grey, read_picture
from tests.tiny_onnx import write_tiny_model

pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom]'")
pydicom = pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom]'")

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from tests.dicom_files import (
    EIGHT,
    GDCM_SYNTAXES,
    RGB,
    RNG,
    SHAPE,
    SIGNED,
    TWELVE,
    compressed,
    dataset,
    encapsulated,
    grey,
    lut,
    scaled,
    stored,
)
from tests.image_files import encode, luma

UNCOMPRESSED = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


@pytest.mark.parametrize("syntax", UNCOMPRESSED, ids=lambda uid: uid.name)
@pytest.mark.parametrize("pixels", [EIGHT, TWELVE], ids=["8 bit", "12 bit"])
def test_every_uncompressed_syntax_is_exact(syntax: str, pixels: np.ndarray) -> None:
    bits = 8 if pixels is EIGHT else 12
    assert (grey(stored(dataset(pixels, bits), syntax)) == scaled(pixels, 0, 2**bits - 1)).all()


@pytest.mark.parametrize("syntax", GDCM_SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("pixels", [EIGHT, TWELVE], ids=["8 bit", "12 bit"])
def test_every_lossless_compression_is_exact(
    syntax: str, pixels: np.ndarray, tmp_path: Path
) -> None:
    bits = 8 if pixels is EIGHT else 12
    data = compressed(dataset(pixels, bits), syntax, tmp_path)
    assert (grey(data) == scaled(pixels, 0, 2**bits - 1)).all()


def test_signed_pixels_are_exact_compressed_or_not(tmp_path: Path) -> None:
    wanted = scaled(SIGNED, -2048, 2047)
    assert (grey(stored(dataset(SIGNED, 12))) == wanted).all()
    assert (grey(compressed(dataset(SIGNED, 12), JPEG2000Lossless, tmp_path)) == wanted).all()


def test_baseline_jpeg_is_what_pillow_decodes() -> None:
    smooth = np.tile(np.arange(48, dtype=np.uint8) * 5, (40, 1))
    frame = encode(Image.fromarray(smooth), "JPEG", quality=90)
    with Image.open(io.BytesIO(frame)) as picture:
        wanted = np.array(picture).astype(int)
    data = encapsulated(dataset(smooth), frame, JPEGBaseline8Bit)
    assert np.abs(grey(data).astype(int) - wanted).max() <= 1


def test_a_file_without_preamble_or_transfer_syntax_is_read(tmp_path: Path) -> None:
    """As old archives hold them: the data set alone, implicit or explicit, in either byte order."""
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        whole = stored(dataset(TWELVE, 12), syntax)
        header = pydicom.dcmread(io.BytesIO(whole), stop_before_pixels=True)
        begin = 128 + 4 + 12 + header.file_meta.FileMetaInformationGroupLength
        bare = whole[begin:]
        assert is_dicom(bare)
        (tmp_path / "a").write_bytes(bare)
        assert (read_grey(tmp_path / "a", 32) == scaled(TWELVE, 0, 4095)).all()


@pytest.mark.parametrize(
    "tail", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"", b"hello"]
)
def test_other_files_are_no_dicom(tail: bytes) -> None:
    assert not is_dicom(tail + bytes(200))


def test_monochrome1_is_turned_over() -> None:
    assert (grey(stored(dataset(TWELVE, 12, "MONOCHROME1"))) == 255 - scaled(TWELVE, 0, 4095)).all()


def test_bits_above_those_stored_are_no_part_of_the_pixels() -> None:
    overlay = TWELVE | (RNG.integers(0, 2, SHAPE, dtype=np.uint16) << 12)
    assert (grey(stored(dataset(overlay, 12))) == scaled(TWELVE, 0, 4095)).all()


def test_the_rescale_comes_before_the_window() -> None:
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 2001}
    values = 2.0 * TWELVE - 1000
    wanted = np.rint(np.clip((values - 999.5) / 2000 + 0.5, 0, 1) * 255)  # PS3.3, C.11.2.1.2.1
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == wanted).all()


def test_a_falling_rescale_keeps_the_full_range() -> None:
    data = stored(dataset(TWELVE, 12, RescaleSlope=-1, RescaleIntercept=0))
    assert (grey(data) == 255 - scaled(TWELVE, 0, 4095)).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_pydicoms(function: str) -> None:
    tags = {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": function}
    theirs = apply_windowing(TWELVE, dataset(TWELVE, 12, **tags)) / 4095 * 255
    ours = windowed(TWELVE.astype(np.float64), 2000, 1500, function) * 255
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == np.rint(ours)).all()


def test_the_narrowest_window_is_a_step_and_less_is_refused() -> None:
    assert windowed(np.array([9.0, 9.6]), 10, 1, "LINEAR").tolist() == [0.0, 1.0]
    for width, function in ((0.5, "LINEAR"), (0, "LINEAR_EXACT"), (0, "SIGMOID")):
        with pytest.raises(ValueError, match=function):
            windowed(np.zeros(1), 0, width, function)
    with pytest.raises(ValueError, match="a function that is not known"):
        windowed(np.zeros(1), 0, 5, "CURVE")


def test_the_first_of_several_windows_is_taken_unless_another_is_asked_for(tmp_path: Path) -> None:
    data = stored(dataset(TWELVE, 12, WindowCenter=[1000, 3000], WindowWidth=[501, 1001]))
    assert (grey(data) == scaled(TWELVE - 999.5, -250, 250)).all()
    assert (grey(data, 1) == scaled(TWELVE - 2999.5, -500, 500)).all()
    with pytest.raises(ImageError, match="has 2 windows, and --dicom-window asks for number 2"):
        grey(data, 2)


def test_a_voi_lut_goes_before_a_window() -> None:
    table = (4095 - np.arange(4096)).tolist()
    tags = {"VOILUTSequence": Sequence([lut(0, table, 12)]), "WindowCenter": 5, "WindowWidth": 2}
    wanted = scaled(4095 - TWELVE.astype(int), 0, 4095)
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == wanted).all()


def test_a_modality_lut_is_followed() -> None:
    table = (np.arange(4096) // 16).tolist()
    modality = lut(0, table, 8)
    modality.ModalityLUTType = "US"
    tags = {"ModalityLUTSequence": Sequence([modality]), "WindowCenter": 128, "WindowWidth": 256}
    assert (grey(stored(dataset(TWELVE, 12, **tags))) == scaled(TWELVE // 16, 0, 255)).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_dark_in_either_polarity(photometric: str) -> None:
    pixels = TWELVE.copy()
    pixels[:5] = 4000
    pixels[5:10] = 4090
    tags = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}
    levels = grey(stored(dataset(pixels, 12, photometric, **tags)))
    assert (levels[:10] == 0).all()
    assert levels[10:].max() > 200


def test_rgb_becomes_luma() -> None:
    assert np.abs(grey(stored(dataset(RGB, 8, "RGB"))) - luma(RGB)).max() <= 1


def test_ybr_becomes_the_luma_of_its_colours() -> None:
    ybr = np.array(Image.fromarray(RGB).convert("YCbCr"))
    levels = grey(stored(dataset(ybr, 8, "YBR_FULL")))
    assert np.abs(levels - luma(RGB)).max() <= 3  # 8-bit YCbCr clips some colours


def test_a_palette_is_looked_up() -> None:
    indices = RNG.integers(0, 16, SHAPE, dtype=np.uint8)
    tags: dict[str, object] = {}
    levels = RNG.integers(0, 256, (3, 16), dtype=np.uint16)
    for name, channel in zip(("Red", "Green", "Blue"), levels, strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = (channel << 8).tobytes()
    data = stored(dataset(indices, 8, "PALETTE COLOR", **tags))
    assert np.abs(grey(data) - luma(levels.T[indices])).max() <= 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"NumberOfFrames": 2}, "holds 2 frames; save the one that is meant"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "is a PDF in a DICOM file"),
        ({"PixelData": None}, "is a Computed Radiography Image Storage without integer pixels"),
        ({"Rows": None}, r"damaged DICOM \(no Rows\)"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK pixels of 16 bits are not supported"),
        ({"BitsAllocated": 32}, "MONOCHROME2 pixels of 32 bits are not supported"),
        ({"BitsStored": 17}, "17 bits stored of 16, the highest 11 are not supported"),
        ({"HighBit": 15}, "the highest 15 are not supported"),
        ({"Rows": 4000}, "48 × 4000 is more than 100000 pixels"),
        ({"Columns": 1000}, "damaged or unsupported DICOM pixels"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "damaged DICOM grey scale"),
    ],
)
def test_what_is_no_single_image_is_refused_in_one_line(
    changes: dict[str, object], reason: str
) -> None:
    image = dataset(TWELVE, 12)
    for name, value in changes.items():
        if value is None:
            del image[name]
        else:
            setattr(image, name, value)
    file = io.BytesIO()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if "PixelData" in image:
        image["PixelData"].VR = "OW"
    pydicom.dcmwrite(file, image, enforce_file_format=True)
    with pytest.raises(ImageError, match=reason) as caught:
        decode_dicom(file.getvalue(), Path("a.dcm"), 0, 100_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [133, 200, 400, 2000])
def test_a_truncated_file_is_refused(n: int) -> None:
    with pytest.raises(ImageError):
        grey(stored(dataset(TWELVE, 12))[:n])


def test_pydicom_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"kneeedge\[dicom\]"):
        grey(b"\0" * 128 + b"DICM")


def test_files_are_found_by_suffix_or_by_content(tmp_path: Path) -> None:
    data = stored(dataset(TWELVE, 12))
    for name in ("a.dcm", "b", "1.2.840.77.3", "c.DCM", "d.dicom"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "DICOMDIR").write_bytes(data)
    (tmp_path / "README").write_text("no image")
    (tmp_path / "notes.txt").write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    listing = find_images([tmp_path])
    names = [image.name for image in listing.images]
    found = ["1.2.840.77.3", "DICOMDIR", "a.dcm", "b", "c.DCM", "d.dicom", "notes.txt"]
    assert names == found  # an image under the name of an index is one
    assert [path.name for path in listing.others] == ["README", "pipe"]


def test_the_facts_name_the_image_and_not_the_patient() -> None:
    data = stored(dataset(TWELVE, 12, Laterality="R", ViewPosition="AP"))
    _, facts, _ = decode_dicom(data, Path("a.dcm"), 0, 1 << 20)
    assert (facts.sop_instance_uid, facts.laterality, facts.view) == ("1.2.3.4", "R", "AP")
    assert facts.grey_scale == "full range of 12 bits"
    assert not any(word in repr(facts) for word in ("Doe", "secret", "1950"))


@pytest.mark.parametrize(
    ("tags", "device", "tube_kv"),
    [
        ({}, "", None),
        ({"Manufacturer": "ACME", "ManufacturerModelName": "DX 1", "KVP": "65"}, "ACME DX 1", 65.0),
        ({"Manufacturer": " ", "ManufacturerModelName": "DX 1", "KVP": "0"}, "DX 1", None),
        ({"KVP": "1e3"}, "", None),
    ],
)
def test_what_took_the_image_is_told_where_the_file_says_so(
    tags: dict[str, str], device: str, tube_kv: float | None
) -> None:
    data = stored(dataset(TWELVE, 12, **tags))
    _, _, study = decode_dicom(data, Path("a.dcm"), 0, 1 << 20)
    assert (study.device, study.tube_kv) == (device, tube_kv)


def test_a_folder_of_dicom_and_png_is_answered_with_uids_and_no_names(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    left = dataset(TWELVE, 12, ImageLaterality="L", ViewPosition="AP")
    (folder / "a.dcm").write_bytes(stored(left))
    (folder / "b.dcm").write_bytes(stored(dataset(TWELVE, 12, NumberOfFrames=3)))
    Image.fromarray(EIGHT).save(folder / "c.png")
    model = write_tiny_model(tmp_path / "m.onnx")
    out = tmp_path / "p.csv"
    command = ["infer", str(folder), "--model", str(model), "--out", str(out), "-q"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3  # one file is refused
    lines = out.read_text().splitlines()
    assert lines[0].endswith(",distance,inverted,sop_instance_uid,laterality,view,patient_id,error")
    assert lines[1].startswith("a.dcm,ok,")
    assert lines[1].endswith(",1.2.3.4,L,AP,,")
    assert lines[2].startswith("b.dcm,error,")
    assert lines[3].endswith(",,,,,")
    assert "DICOM brought to 8-bit grey" in done.stdout
    assert "1 by full range of 12 bits" in done.stdout
    assert not any(word in out.read_text() + done.stdout for word in ("Doe", "secret", "1950"))


def test_the_header_says_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(stored(dataset(TWELVE, 12)))
    header = read_picture(tmp_path / "a.dcm", 32).header
    assert (header.format, header.mode, header.bit_depth) == ("DICOM", "MONOCHROME2", 12)


BUNDLED = sorted(Path(pydicom.__file__).parent.glob("data/test_files/**/*.dcm"))


def read_or_reason(path: Path) -> np.ndarray | str:
    try:
        return read_grey(path, 32)
    except ImageError as error:
        return str(error)


def test_pydicoms_own_files_are_read_or_refused_in_one_line() -> None:
    """Files that others made: of every kind, and some damaged on purpose."""
    outcomes = [read_or_reason(path) for path in BUNDLED]
    reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
    pictures = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert len(pictures) >= 20
    assert len(reasons) >= 10
    assert not any("\n" in reason for reason in reasons)
    assert all(picture.dtype == np.uint8 and picture.ndim == 2 for picture in pictures)


def inverted_window(values: np.ndarray, header: Dataset) -> np.ndarray:
    """0…255 of MONOCHROME1 by its LINEAR window (PS3.3, C.11.2.1.2.1)."""
    centre = float(header.WindowCenter) - 0.5
    width = float(header.WindowWidth) - 1
    share = np.clip((values.astype(np.float64) - centre) / width + 0.5, 0, 1)
    return np.rint(255 * (1 - share))


@pytest.mark.real
def test_a_real_jpeg_2000_is_what_pillow_decodes_and_the_standard_says(real_data: Path) -> None:
    """RG3_J2KR.dcm: CR, MONOCHROME1, 10 bit; decoded by OpenJPEG through Pillow, not by GDCM."""
    path = real_data / "dicom" / "RG3_J2KR.dcm"
    header = pydicom.dcmread(path)
    (frame,) = generate_frames(header.PixelData, number_of_frames=1)
    stored_values = np.array(Image.open(io.BytesIO(frame))) >> 6  # Pillow lifts 10 bits to 16
    assert (read_grey(path, 224) == inverted_window(stored_values, header)).all()


@pytest.mark.real
def test_a_real_file_without_transfer_syntax_is_its_own_last_bytes(real_data: Path) -> None:
    path = real_data / "dicom" / "CR-MONO1-10-chest.dcm"
    header = pydicom.dcmread(path, force=True)
    stored_values = np.frombuffer(path.read_bytes()[-2 * 440 * 440 :], "<u2").reshape(440, 440)
    assert (read_grey(path, 224) == inverted_window(stored_values, header)).all()


@pytest.mark.real
def test_a_real_jpeg_is_within_one_level_of_pillows(real_data: Path) -> None:
    path = real_data / "dicom" / "txrv_rsna.dcm"
    (frame,) = generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
    wanted = np.array(Image.open(io.BytesIO(frame)).convert("L")).astype(int)
    assert np.abs(read_grey(path, 1024).astype(int) - wanted).max() <= 1


def test_the_rows_name_the_patient_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(stored(dataset(TWELVE, 12, PatientID="=cmd")))
    Image.fromarray(EIGHT).save(tmp_path / "b.png")
    model = write_tiny_model(tmp_path / "m.onnx")
    out = tmp_path / "p.csv"
    images = [str(tmp_path / "a.dcm"), str(tmp_path / "b.png")]
    command = ["infer", *images, "--model", str(model), "--out", str(out)]
    for options, expected in (([], ""), (["--with-patient-id"], "./=cmd")):
        assert CliRunner().invoke(app, [*command, "-q", *options]).exit_code == 0
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
        assert [row["patient_id"] for row in rows] == [expected, ""]
        assert "Doe" not in out.read_text()
