"""What validation images looked like to a model: a few figures of each, which its file carries."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kneeedge.errors import SpecError
from kneeedge.model.spec import REFERENCE_KEY
from kneeedge.system.strict_json import from_json, to_json

REFERENCE_FORMAT = 1
MAX_REFERENCE = 2**20
"characters; one of MOST_IMAGES has about a hundred thousand"
MOST_IMAGES = 1000
"of a reference: their ranks then have a standard error of 1.6 % at most"
DIGITS = 5
"of a figure: far below what differs from image to image"
NUMBERS = (
    "probability",
    "refused",
    "distance",
    "brightness",
    "contrast",
    "tone",
    "sharpness",
    "side",
    "tube_kv",
)
"the figures of an image that are numbers"


@dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """What is compared of one image; nothing in it shows a picture or names a patient."""

    answer: int
    "index of the class by the model's threshold, whether or not the image is refused"
    device: str = ""
    "maker and model of what took it; empty where no DICOM file says so"
    probability: float
    "0 to 1, of the positive class"
    refused: float
    "1 where the model abstains, else 0"
    distance: float | None = None
    "None where the model has none"
    brightness: float
    "mean grey level of the network's input, 0 to 255"
    contrast: float
    "its standard deviation"
    tone: float
    "0 to 1; where the middle grey level lies between dark and bright ones"
    sharpness: float
    "energy of the Laplacian over the variance"
    side: float
    "root of the number of pixels of the picture in its file"
    tube_kv: float | None = None
    "peak voltage of the X-ray tube; None where no DICOM file says so"

    def cells(self) -> list[int | float | str | None]:
        """What stands for the image in a journal."""
        return [self.answer, self.device, *(getattr(self, name) for name in NUMBERS)]

    @classmethod
    def of_cells(cls, cells: Sequence[object]) -> "ImageFigures":
        """The image for which these cells stand, as `cells` gives them."""
        answer, device, *numbers = cells
        named = dict(zip(NUMBERS, numbers, strict=True))
        return cls(answer=answer, device=device, **named)  # type: ignore[arg-type]


def rounded(value: float) -> float:
    """A figure as it is kept: the journal's and the memory's are the same to the last digit."""
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The figures of several images, a column each; raises ValueError where they do not fit."""

    answers: tuple[int, ...] = ()
    "of each image, its answer"
    devices: tuple[str, ...] = ()
    numbers: dict[str, tuple[float | None, ...]] = field(
        default_factory=lambda: dict.fromkeys(NUMBERS, ())
    )
    "by the name of the figure, in the order of the images"

    def __post_init__(self) -> None:
        columns = [self.devices, *self.numbers.values()]
        if tuple(self.numbers) != NUMBERS:
            raise ValueError(f"its figures are not {', '.join(NUMBERS)}")
        if any(len(column) != len(self.answers) for column in columns):
            raise ValueError("its figures are of different numbers of images")

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[ImageFigures]:
        rows = zip(self.answers, self.devices, *self.numbers.values(), strict=True)
        return map(ImageFigures.of_cells, rows)

    @classmethod
    def of(cls, images: Iterable[ImageFigures]) -> "Sample":
        """The columns of these images."""
        listed = list(images)
        return cls(
            answers=tuple(image.answer for image in listed),
            devices=tuple(image.device for image in listed),
            numbers={name: tuple(getattr(image, name) for image in listed) for name in NUMBERS},
        )


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the images of a split looked like to the very file that carries this."""

    split: str
    n: int
    "images of the split; at most MOST_IMAGES of them are kept"
    images: Sample
    format: int = REFERENCE_FORMAT


def to_metadata(reference: Reference) -> str:
    """The text that a model file carries as REFERENCE_KEY."""
    return to_json(reference, indent=None)


def reference_in(metadata: Mapping[str, str], path: Path) -> Reference | None:
    """The reference of the file `path`; None where it has none, SpecError where it is damaged."""
    text = metadata.get(REFERENCE_KEY)
    if text is None:
        return None
    if len(text) > MAX_REFERENCE:
        problem = f"its reference has {len(text):,} characters, and {MAX_REFERENCE:,} are the most"
        raise SpecError(path, problem)
    try:
        reference = from_json(Reference, text)
    except ValueError as error:
        raise SpecError(path, f"its reference is not one of kneeedge's: {error}") from error
    if reference.format != REFERENCE_FORMAT:
        known = f"this kneeedge reads {REFERENCE_FORMAT}"
        raise SpecError(path, f"its reference has format {reference.format}, and {known}")
    return reference
