"""The grey scale of DICOM is followed, or refused for what is no number or contradicts itself."""

import numpy as np
import pytest

from kneeedge.errors import ImageError

pytest.importorskip("gdcm", reason="pip install 'kneeedge[dicom]'")
pytest.importorskip("pydicom", reason="pip install 'kneeedge[dicom]'")

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from tests.dicom_files import (
    RGB,
    RNG,
    SHAPE,
    SIGNED,
    TWELVE,
    dataset,
    grey,
    grey_scale,
    lut,
    scaled,
    stored,
    with_element,
)

NO_NUMBERS = ["nan", "inf", "-inf", "1e99", "-1e10", "abc", "1_000", "0x10", "1,5", "１"]
WINDOW = {"WindowCenter": "2000", "WindowWidth": "1500"}
RESCALE = {"RescaleSlope": "2", "RescaleIntercept": "-1000"}


def refused(image: Dataset, reason: str, window: int = 0) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        grey(stored(image), window)
    assert "could not convert" not in str(caught.value)


# Numbers


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize(
    "keyword", ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"]
)
def test_what_is_no_number_is_refused(keyword: str, text: str) -> None:
    image = dataset(TWELVE, 12, **WINDOW, **RESCALE)
    refused(with_element(image, keyword, "DS", text), f"{keyword} is .*no number")


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("index", [0, 1])
def test_what_is_no_number_in_any_window_is_refused(keyword: str, index: int) -> None:
    image = dataset(TWELVE, 12, WindowCenter=[1000, 3000], WindowWidth=[501, 1001])
    values = ["1000", "nan"]
    refused(with_element(image, keyword, "DS", values), f"{keyword} is no number", index)


@pytest.mark.parametrize("value", ["", " ", None])
def test_empty_elements_are_as_good_as_absent(value: str | None) -> None:
    image = dataset(TWELVE, 12)
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        with_element(image, keyword, "DS", value)
    with_element(image, "VOILUTFunction", "CS", value)
    with_element(image, "PixelPaddingValue", "US", None)
    with_element(image, "PixelPaddingRangeLimit", "US", None)
    with_element(image, "HighBit", "US", None)
    with_element(image, "NumberOfFrames", "IS", value)
    assert (grey(stored(image)) == scaled(TWELVE, 0, 4095)).all()


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("WindowCenter", "", "window 0 has no centre"),
        ("WindowWidth", "", "window 0 has no width"),
        ("WindowCenter", ["", "2048"], "window 0 has no centre"),
        ("RescaleSlope", "", "a rescale without its slope"),
        ("RescaleIntercept", "", "a rescale without its intercept"),
        ("RescaleSlope", ["1", "2"], "RescaleSlope has 2 values"),
        ("RescaleSlope", "0", "a rescale of slope 0 and intercept -1000"),
        ("RescaleSlope", "1e-99", "a rescale of slope 1e-99 and intercept -1000"),
        ("WindowWidth", "0", "a window of width 0 and a function LINEAR"),
        ("WindowWidth", "-5", "a window of width -5 and a function LINEAR"),
    ],
)
def test_half_a_window_or_rescale_is_refused(
    keyword: str, value: str | list[str], reason: str
) -> None:
    image = dataset(TWELVE, 12, **WINDOW, **RESCALE)
    refused(with_element(image, keyword, "DS", value), f"damaged DICOM grey scale .*{reason}")


def test_zeros_pad_a_number() -> None:
    image = with_element(dataset(TWELVE, 12, WindowWidth=4096), "WindowCenter", "DS", "2048\0\0")
    assert (grey(stored(image)) == scaled(TWELVE, 0, 4095)).all()


def test_an_empty_value_behind_a_window_is_no_second_one() -> None:
    image = dataset(TWELVE, 12, WindowWidth=4096)
    data = stored(with_element(image, "WindowCenter", "DS", ["2048", ""]))
    assert (grey(data) == scaled(TWELVE, 0, 4095)).all()
    with pytest.raises(ImageError, match="has 1 windows, and --dicom-window asks for number 1"):
        grey(data, 1)


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "reason"),
    [
        ("Rows", "US", None, "no Rows"),
        ("Rows", "LO", "40", "Rows of a wrong value representation"),
        ("Columns", "US", [48, 48], "Columns has 2 values"),
        ("BitsAllocated", "US", None, "no BitsAllocated"),
        ("BitsStored", "US", None, "no BitsStored"),
        ("BitsStored", "OW", b"\x0c\0", "BitsStored is no number"),
        ("BitsStored", "US", 0, "pixels of 0 bits stored of 16, the highest 11 are not supported"),
        ("BitsStored", "US", 10, "pixels of 10 bits stored of 16, the highest 11 are not supp"),
        ("HighBit", "US", 15, "pixels of 12 bits stored of 16, the highest 15 are not supported"),
        ("HighBit", "US", [11, 12], "HighBit has 2 values"),
        ("SamplesPerPixel", "US", None, "no SamplesPerPixel"),
        ("PixelRepresentation", "US", None, "no PixelRepresentation"),
        ("PixelRepresentation", "US", 2, "a PixelRepresentation of 2"),
        ("PhotometricInterpretation", "CS", None, "no PhotometricInterpretation"),
        ("NumberOfFrames", "IS", ["1", "1"], "NumberOfFrames has 2 values"),
        ("NumberOfFrames", "DS", "1.5", "NumberOfFrames is 1.5, no whole number"),
        ("PixelPaddingValue", "US", [0, 1], "PixelPaddingValue has 2 values"),
        ("PixelPaddingValue", "DS", "nan", "PixelPaddingValue is no number"),
        ("PixelPaddingValue", "OW", b"\0\0\1\0", "PixelPaddingValue has 2 values"),
        ("PixelPaddingRangeLimit", "DS", "inf", "PixelPaddingRangeLimit is no number"),
        ("PixelPaddingRangeLimit", "US", 5, "a PixelPaddingRangeLimit without its"),
    ],
)
def test_a_layout_without_sound_numbers_is_refused(
    keyword: str, vr: str, value: object, reason: str
) -> None:
    refused(with_element(dataset(TWELVE, 12), keyword, vr, value), reason)


@pytest.mark.parametrize("value", [None, 2])
def test_colours_without_their_order_are_refused(value: int | None) -> None:
    image = with_element(dataset(RGB, 8, "RGB"), "PlanarConfiguration", "US", value)
    refused(image, "no PlanarConfiguration of 0 or 1")


@pytest.mark.parametrize(
    ("photometric", "dtype", "bits"),
    [("RGB", np.uint8, 5), ("RGB", np.int16, 12), ("YBR_FULL", np.uint16, 16)],
)
def test_colours_of_odd_depths_are_refused(photometric: str, dtype: type, bits: int) -> None:
    image = dataset(RGB.astype(dtype), bits, photometric)
    refused(image, rf"{photometric} pixels of {bits} (signed )?bits are not supported")


def test_no_text_of_the_file_is_repeated() -> None:
    """Any element may name a patient."""
    for keyword, vr in (("WindowCenter", "DS"), ("VOILUTFunction", "CS"), ("Rows", "LO")):
        image = with_element(dataset(TWELVE, 12, **WINDOW), keyword, vr, "Doe^Jane")
        with pytest.raises(ImageError) as caught:
            grey(stored(image))
        assert "Doe" not in str(caught.value).title()


# What all pixels end up as


@pytest.mark.parametrize("centre", [-90_000, 90_000])
def test_a_window_that_shows_none_of_the_values_is_refused(centre: int) -> None:
    image = dataset(TWELVE, 12, WindowCenter=[centre, 2048], WindowWidth=[100, 4096])
    refused(image, r"its grey scale makes all pixels alike \(window 0 \(LINEAR\)\); ask for anoth")
    assert (grey(stored(image), 1) == scaled(TWELVE, 0, 4095)).all()


def test_a_window_too_wide_for_any_contrast_is_refused() -> None:
    image = dataset(TWELVE, 12, WindowCenter=0, WindowWidth=900_000_000)
    refused(image, "its grey scale makes all pixels alike")


def test_a_picture_of_two_dark_levels_is_refused_where_it_had_more() -> None:
    image = dataset(
        TWELVE, 12, VOILUTSequence=Sequence([lut(0, [i // 16 for i in range(4096)], 16)])
    )
    refused(image, r"makes all pixels alike \(VOI LUT \(entries end at 255 of 65535\)\)")
    two = RNG.integers(0, 2, SHAPE, dtype=np.uint8)
    assert (grey(stored(dataset(two))) == two).all()


def test_a_flat_picture_beside_its_padding_is_refused() -> None:
    pixels = TWELVE.copy()
    pixels[:9] = 0
    image = dataset(pixels, 12, WindowCenter=-9000, WindowWidth=100, PixelPaddingValue=0)
    refused(image, "its grey scale makes all pixels alike")


def test_a_picture_of_padding_is_refused() -> None:
    image = dataset(TWELVE, 12, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    refused(image, "all its pixels are padding")


def test_a_picture_of_one_value_is_read() -> None:
    """It is blank, which the answer says."""
    assert (grey(stored(dataset(np.full(SHAPE, 2000, np.uint16), 12))) == 125).all()


# Windows


@pytest.mark.parametrize("function", ["sigmoid", "Linear_Exact", "LINEAR ", "linear"])
def test_a_function_is_known_however_it_is_spelt(function: str) -> None:
    spelt = with_element(dataset(TWELVE, 12, **WINDOW), "VOILUTFunction", "CS", function)
    proper = dataset(TWELVE, 12, **WINDOW, VOILUTFunction=function.strip().upper())
    assert (grey(stored(spelt)) == grey(stored(proper))).all()
    assert grey_scale(stored(spelt)) == f"window 0 ({function.strip().upper()})"


# Padding


@pytest.mark.parametrize(
    ("pixels", "bits", "vr", "value"),
    [
        (SIGNED, 16, "SS", -2000),
        (SIGNED, 16, "US", 63536),
        (SIGNED, 16, "OW", b"\x30\xf8"),
        (SIGNED, 12, "US", 63536),
        (SIGNED.astype(np.uint16), 16, "US", 63536),
        (SIGNED.astype(np.uint16), 16, "SS", -2000),
        (SIGNED.astype(np.uint16), 16, "OW", b"\x30\xf8"),
        (SIGNED.astype(np.uint16), 16, "DS", "63536"),
    ],
)
def test_padding_is_known_in_any_value_representation(
    pixels: np.ndarray, bits: int, vr: str, value: object
) -> None:
    """Words of -2000, or of 63536."""
    padded = pixels.copy()
    padded[:7] = np.int16(-2000).astype(pixels.dtype)
    image = dataset(padded, bits, "MONOCHROME1")
    levels = grey(stored(with_element(image, "PixelPaddingValue", vr, value)))
    assert (levels[:7] == 0).all()
    unpadded = grey(stored(dataset(padded, bits, "MONOCHROME1")))
    assert (levels[7:] == np.where(padded[7:] == padded[0, 0], 0, unpadded[7:])).all()


def test_padding_in_words_has_the_files_byte_order() -> None:
    pixels = TWELVE.copy()
    pixels[:7] = 0x0123
    for syntax, value in ((ExplicitVRLittleEndian, b"\x23\1"), (ExplicitVRBigEndian, b"\1\x23")):
        image = with_element(dataset(pixels, 12, "MONOCHROME1"), "PixelPaddingValue", "OW", value)
        levels = grey(stored(image, syntax))
        assert (levels[:7] == 0).all()
        assert levels[7:].max() > 200


def test_a_range_of_padding_may_be_of_the_other_sign() -> None:
    pixels = SIGNED.copy()
    pixels[:7] = RNG.integers(-2000, -1900, (7, SHAPE[1]))
    image = dataset(pixels, 12, "MONOCHROME1")
    with_element(image, "PixelPaddingValue", "US", 65536 - 2000)
    with_element(image, "PixelPaddingRangeLimit", "US", 65536 - 1901)
    levels = grey(stored(image))
    assert (levels[(pixels >= -2000) & (pixels <= -1901)] == 0).all()
    shown = (pixels < -2000) | (pixels > -1901)
    assert (levels[shown] == (255 - scaled(pixels, -2048, 2047))[shown]).all()


def test_padding_that_no_pixel_can_be_hides_none() -> None:
    """65535 in 12 bits, whose lowest 12 bits are those of white."""
    pixels = np.where(TWELVE > 4000, 4095, TWELVE).astype(np.uint16)
    data = stored(with_element(dataset(pixels, 12), "PixelPaddingValue", "US", 65535))
    assert (grey(data) == scaled(pixels, 0, 4095)).all()


def test_padding_above_the_stored_bits_is_told_by_all_bits() -> None:
    pixels = TWELVE.copy()
    pixels[:7] = 63536
    image = dataset(pixels, 12, "MONOCHROME1")
    levels = grey(stored(with_element(image, "PixelPaddingValue", "SS", -2000)))
    assert (levels[:7] == 0).all()
    assert (levels[7:] == 255 - scaled(TWELVE[7:], 0, 4095)).all()


# Polarity


@pytest.mark.parametrize(
    ("photometric", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")]
)
def test_two_words_on_what_is_dark_are_refused(photometric: str, shape: str) -> None:
    image = dataset(TWELVE, 12, photometric, PresentationLUTShape=shape)
    refused(image, f"is {photometric} with the Presentation LUT Shape {shape}, which contradict")


@pytest.mark.parametrize(
    ("photometric", "shape"),
    [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY"), ("MONOCHROME2", "identity ")],
)
def test_a_shape_that_says_the_same_changes_nothing(photometric: str, shape: str) -> None:
    image = with_element(dataset(TWELVE, 12, photometric), "PresentationLUTShape", "CS", shape)
    assert (grey(stored(image)) == grey(stored(dataset(TWELVE, 12, photometric)))).all()


def test_a_presentation_table_is_refused() -> None:
    tables = Sequence([lut(0, list(range(256)), 8)])
    refused(dataset(TWELVE, 12, PresentationLUTSequence=tables), "a Presentation LUT is not supp")


@pytest.mark.parametrize("presentation", ["COLOR", "MIXED"])
def test_colours_among_the_grey_are_refused(presentation: str) -> None:
    refused(dataset(TWELVE, 12, PixelPresentation=presentation), "grey pixels with colours among")


# Functional groups of enhanced images


def item(**elements: object) -> Dataset:
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def groups(rescale: dict[str, object] | None, window: dict[str, object] | None) -> Dataset:
    group = Dataset()
    if rescale:
        group.PixelValueTransformationSequence = Sequence([item(**rescale)])
    if window:
        group.FrameVOILUTSequence = Sequence([item(**window)])
    return group


SHARED = "SharedFunctionalGroupsSequence"
PER_FRAME = "PerFrameFunctionalGroupsSequence"


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("places", [(SHARED, SHARED), (SHARED, PER_FRAME), (PER_FRAME, PER_FRAME)])
def test_the_functional_groups_of_one_frame_are_heeded(
    places: tuple[str, str], function: str
) -> None:
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1000, "RescaleType": "US"}
    window = {"WindowCenter": 1000, "WindowWidth": 2001, "VOILUTFunction": function}
    plain = dataset(TWELVE, 12, **rescale, **window)
    enhanced = dataset(TWELVE, 12, NumberOfFrames=1)
    for place in {*places}:
        group = groups(
            rescale if place == places[0] else None, window if place == places[1] else None
        )
        setattr(enhanced, place, Sequence([group]))
    assert (grey(stored(enhanced)) == grey(stored(plain))).all()
    assert grey_scale(stored(enhanced)) == f"window 0 ({function})"


def test_a_window_in_two_places_is_refused() -> None:
    group = groups(None, {"WindowCenter": 1000, "WindowWidth": 2000})
    image = dataset(TWELVE, 12, **WINDOW, **{SHARED: Sequence([group])})
    refused(image, "WindowCenter, WindowWidth, VOILUTFunction stand in several places, and differ")


def test_the_same_window_in_two_places_is_one() -> None:
    twice = dataset(TWELVE, 12, **WINDOW, **{SHARED: Sequence([groups(None, dict(WINDOW))])})
    assert (grey(stored(twice)) == grey(stored(dataset(TWELVE, 12, **WINDOW)))).all()


def test_a_rescale_in_two_places_is_refused() -> None:
    group = groups({"RescaleSlope": 2, "RescaleIntercept": 0}, None)
    image = dataset(TWELVE, 12, **RESCALE, **{PER_FRAME: Sequence([group])})
    refused(image, "RescaleSlope, RescaleIntercept stand in several places, and differ")


def test_groups_of_more_frames_than_one_are_refused() -> None:
    group = groups(None, {"WindowCenter": 1000, "WindowWidth": 2000})
    image = dataset(TWELVE, 12, **{PER_FRAME: Sequence([group, group])})
    refused(image, f"{PER_FRAME} has 2 items for one frame")


def test_no_number_in_a_functional_group_is_refused() -> None:
    window = with_element(item(WindowCenter=1000), "WindowWidth", "DS", "nan")
    group = Dataset()
    group.FrameVOILUTSequence = Sequence([window])
    refused(dataset(TWELVE, 12, **{SHARED: Sequence([group])}), "WindowWidth is no number")
