"""Share of images that a model refuses as unlike its training images, by kind.

    python -m benchmarks.refusals --model MODEL.onnx --data DATA [--dicom FOLDER] [--json FILE]

DATA is the folder that the model was trained from; its test split (else val) gives the genuine
images and those that are changed. Kinds whose images are not installed are listed as left out, with
what to install. Nothing is written but the JSON.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kneeedge.errors import ConfigError
from kneeedge.inference.evaluation import evaluation_samples
from kneeedge.model.spec import ModelSpec, Novelty
from kneeedge.pixels.pixel_path import load_input, to_input
from kneeedge.runtime.session import Session
from kneeedge.statistics.intervals import wilson
from kneeedge.system.machine import environment

Pixels = NDArray[np.uint8]
N_CROPS = 20
"random squares cut from each large picture, beside the whole"
BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one kind of image fared."""

    kind: str
    genuine: bool
    "whether the images are knees as they should be, of which few are to be refused"
    n: int
    refused: int
    share: float
    low: float
    "of the share, 95 % (Wilson 1927)"
    high: float
    median_distance: float


@dataclass(frozen=True)
class LeftOut:
    """A kind that could not be drawn here."""

    kind: str
    install: str


def rotated(degrees: float) -> Callable[[Pixels], Pixels]:
    return lambda knee: np.asarray(Image.fromarray(knee).rotate(degrees, Image.Resampling.BILINEAR))


def toned(contrast: float, brightness: float) -> Callable[[Pixels], Pixels]:
    return lambda knee: np.clip(knee * contrast + brightness, 0, 255).astype(np.uint8)


STILL_KNEES: dict[str, Callable[[Pixels], Pixels]] = {
    "mirrored": lambda knee: knee[:, ::-1],
    "rotated 5°": rotated(5),
    "rotated 10°": rotated(-10),
    "brighter": toned(1.1, 10),
    "darker": toned(0.85, 0),
}
TURNED = "inverted knees"
"which a model that turns them around is to answer"
WRONG_KNEES: dict[str, Callable[[Pixels], Pixels]] = {
    "upside-down knees": lambda knee: knee[::-1, ::-1],
    "knees on their side": np.rot90,
    TURNED: lambda knee: 255 - knee,
}


def blanks(side: int, _: np.random.Generator) -> Iterator[Pixels]:
    """Every fifteenth grey, and ramps."""
    for grey in range(0, 256, 15):
        yield np.full((side, side), grey, dtype=np.uint8)
    ramp = np.tile(np.linspace(0, 255, side), (side, 1)).astype(np.uint8)
    yield from (np.rot90(ramp, turns) for turns in range(4))


def noises(side: int, rng: np.random.Generator) -> Iterator[Pixels]:
    """Uniform noise in grains of 1 to 32 pixels, and normal noise of several strengths."""
    for grain in (1, 2, 4, 8, 16, 32):
        for _ in range(6):
            coarse = rng.integers(0, 256, (side // grain, side // grain), dtype=np.uint8)
            noise = Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)
            yield np.asarray(noise)
    for spread in (10, 30, 60):
        for _ in range(6):
            yield np.clip(rng.normal(128, spread, (side, side)), 0, 255).astype(np.uint8)


def pages(side: int, rng: np.random.Generator) -> Iterator[Pixels]:
    """Pages of random words, black on white and white on black."""
    for number in range(20):
        ink = 255 * (number % 2)
        page = Image.new("L", (3 * side, 3 * side), 255 - ink)
        draw = ImageDraw.Draw(page)
        for y in range(10, 3 * side, 26):
            letters = rng.integers(97, 123, 200).astype(np.uint8).tobytes().decode("ascii")
            words = " ".join(letters[i : i + 6] for i in range(0, 200, 6))
            draw.text((10, y), words, fill=ink, font_size=20)
        yield np.asarray(page)


def photographs() -> list[Pixels]:
    """The photographs that scikit-learn and Matplotlib bring, in grey."""
    from matplotlib.cbook import get_sample_data
    from sklearn.datasets import load_sample_images

    pictures = list(map(Image.fromarray, load_sample_images().images))
    pictures.append(Image.open(get_sample_data("grace_hopper.jpg")))
    return [np.asarray(picture.convert("L")) for picture in pictures]


def dicoms(folder: Path) -> dict[str, Pixels]:
    """Every DICOM file of a folder by its name, in grey, bright where the X-rays were stopped."""
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian

    pictures = {}
    for path in sorted(folder.glob("*.dcm")):
        file = dcmread(path, force=True)
        if not hasattr(file, "file_meta") or "TransferSyntaxUID" not in file.file_meta:
            file.file_meta = FileMetaDataset()
            file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        pixels = file.pixel_array.astype(np.float64)
        low, high = np.percentile(pixels, (0.5, 99.5))
        grey = 255 * np.clip((pixels - low) / (high - low), 0, 1)
        if file.PhotometricInterpretation == "MONOCHROME1":
            grey = 255 - grey
        pictures[path.name] = grey.astype(np.uint8)
    return pictures


def cut(pictures: list[Pixels], rng: np.random.Generator) -> Iterator[Pixels]:
    """Each picture whole, and random squares of a quarter to four fifths of its shorter side."""
    for picture in pictures:
        yield picture
        height, width = picture.shape
        for _ in range(N_CROPS):
            side = int(rng.uniform(0.25, 0.8) * min(height, width))
            top = rng.integers(0, height - side + 1)
            left = rng.integers(0, width - side + 1)
            yield picture[top : top + side, left : left + side]


def limit_of(spec: ModelSpec) -> Novelty:
    """The model's limit; raises ConfigError where it has none."""
    if spec.novelty is None:
        remedy = "train and export it anew, without --no-abstain"
        raise ConfigError(f"{spec.name} answers every image", remedy)
    return spec.novelty


def measure(session: Session, kind: str, genuine: bool, pictures: Iterable[Pixels]) -> Row:
    """Run pictures (H, W) uint8 of one kind through the pixel path and the model."""
    novelty = limit_of(session.spec)
    pixel_path = session.spec.pixel_path
    inputs = [to_input(np.ascontiguousarray(picture), pixel_path) for picture in pictures]
    parts = [np.stack(inputs[i : i + BATCH])[:, None] for i in range(0, len(inputs), BATCH)]
    distances = np.concatenate([session.run(part).distance for part in parts])
    refused = int(novelty.refuses(distances).sum())
    n = len(inputs)
    interval = wilson(refused, n)
    return Row(
        kind=kind,
        genuine=genuine,
        n=n,
        refused=refused,
        share=refused / n,
        low=interval.low,
        high=interval.high,
        median_distance=round(float(np.median(distances)), 2),
    )


def knee_rows(session: Session, data: Path, n: int, rng: np.random.Generator) -> Iterator[Row]:
    """All genuine images by class, and `n` of them changed in each way."""
    spec = session.spec
    split, samples = evaluation_samples(data, spec.classes)
    knees = [load_input(sample.path, spec.pixel_path) for sample in samples]
    for label, name in enumerate(spec.classes):
        pairs = zip(knees, samples, strict=True)
        members = [knee for knee, sample in pairs if sample.label == label]
        yield measure(session, f"{split}, {name}", True, members)
    chosen = [knees[i] for i in rng.permutation(len(knees))[:n]]
    for genuine, changes in ((True, STILL_KNEES), (False, WRONG_KNEES)):
        for kind, change in changes.items():
            is_turned = kind == TURNED and spec.polarity is not None
            yield measure(session, kind, genuine or is_turned, map(change, chosen))


def other_rows(
    session: Session, dicom: Path | None, rng: np.random.Generator
) -> Iterator[Row | LeftOut]:
    """What is no knee."""
    side = session.spec.pixel_path.size
    for kind, draw in (("blank and ramps", blanks), ("noise", noises), ("pages of text", pages)):
        yield measure(session, kind, False, draw(side, rng))
    try:
        yield measure(session, "photographs and crops", False, cut(photographs(), rng))
    except ImportError:
        yield LeftOut("photographs and crops", "pip install scikit-learn matplotlib")
    if dicom is None:
        yield LeftOut("DICOM", "give a folder of .dcm files with --dicom")
        return
    try:
        for name, picture in dicoms(dicom).items():
            yield measure(session, f"{name} and crops", False, cut([picture], rng))
    # pydicom raises RuntimeError where no plugin reads the compression
    except (ImportError, RuntimeError):
        yield LeftOut("DICOM", "pip install pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg")


def table(rows: list[Row | LeftOut]) -> str:
    """One line a kind."""
    lines = [f"{'kind':34} {'n':>4} {'refused':>8}  95 %              median distance"]
    for row in rows:
        if isinstance(row, LeftOut):
            lines.append(f"{row.kind:34} left out: {row.install}")
            continue
        figures = f"{row.kind:34} {row.n:4} {row.share:8.3f}"
        interval = f"[{row.low:.3f}, {row.high:.3f}]"
        lines.append(f"{figures}  {interval:17} {row.median_distance:.1f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dicom", type=Path)
    parser.add_argument("--n", type=int, default=100, help="knees that are changed in each way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    session = Session(arguments.model, "cpu")
    rng = np.random.default_rng(arguments.seed)
    rows: list[Row | LeftOut] = [
        *knee_rows(session, arguments.data, arguments.n, rng),
        *other_rows(session, arguments.dicom, rng),
    ]
    print(f"{session.spec.name}, limit {limit_of(session.spec).limit:.4g}\n{table(rows)}")
    if arguments.json:
        record = {
            "model": arguments.model.name,
            "novelty": asdict(limit_of(session.spec)),
            "environment": asdict(environment()),
            "results": [asdict(row) for row in rows if isinstance(row, Row)],
            "left_out": [asdict(row) for row in rows if isinstance(row, LeftOut)],
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
