"""A device's answers to the images of a folder, as rows that another device can be held against.

`kneeedge verify --rows FILE` writes them, as CSV or as JSON.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import PIL

from kneeedge.errors import ConfigError, DataError, NotFoundError
from kneeedge.inference.predictions import ABSTAIN, ERROR, OK, REFER, PredictedImage
from kneeedge.inference.predictor import Predictor
from kneeedge.model.spec import ModelSpec
from kneeedge.model.verdict import TOLERANCE
from kneeedge.runtime.providers import load_runtime
from kneeedge.system import machine
from kneeedge.system.files import write_csv, write_text
from kneeedge.system.outputs import ROWS_FORMAT
from kneeedge.system.spreadsheet import original_text
from kneeedge.system.strict_json import from_json, to_json
from kneeedge.version import __version__

ROW_SUFFIXES = (".csv", ".json")
"of files of rows; any other file that answers are held against is a model"
DIGITS = 9
"of a figure: they restore single precision"
ANSWER = ("path", "sha256", "input_sha256", "status", "prediction")
DEVICE = (
    "model", "model_sha256", "network", "precision", "positive", "pixel_path", "provider", "cpu",
    "isa", "kneeedge", "onnxruntime", "pillow",
)  # fmt: skip
PROBABILITY, LOGIT = "p_", "logit_"
"begin the names of the columns of each class"
WRITE_AGAIN = "write it again with `kneeedge verify MODEL --data FOLDER --rows FILE`"


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    """What became of one image, from its bytes to its answer."""

    path: str
    "POSIX path relative to the folder"
    sha256: str
    "of the file's bytes, hex; empty where they could not be read"
    input_sha256: str
    "of the network's input, S × S bytes row by row; empty where there is none"
    status: str
    "ok, abstain, refer or error"
    prediction: str | None
    "the class by the model's threshold, also where it abstains or refers; absent for an error"
    probabilities: tuple[float, ...]
    "of each class, in their order, nine digits; empty for an error"
    logits: tuple[float, ...]
    "likewise"
    distance: float | None
    "absent where the model never abstains"
    error: str
    "why there is no answer, or why it is not to be trusted"

    @property
    def is_read(self) -> bool:
        """Whether the file gave pixels."""
        return self.status != ERROR


@dataclass(frozen=True, kw_only=True)
class Device:
    """Which model file answered, and on what."""

    model: str
    "the file, as it was called there"
    model_sha256: str
    network: str
    "SHA-256 of the spec without the file's own and all limits: of a network's files one"
    precision: str
    "fp32, fp16 or int8"
    positive: str
    "the class whose probability is told of a changed answer"
    pixel_path: str
    "how pixels were brought to the network's input, as in the spec, in JSON"
    provider: str
    cpu: str
    isa: tuple[str, ...]
    "instruction sets that decide how numbers round"
    kneeedge: str
    "its version"
    onnxruntime: str
    pillow: str


@dataclass(frozen=True, kw_only=True)
class DeviceAnswers:
    """One model file's answers on one device; raises ValueError where a row does not fit."""

    format: str = ROWS_FORMAT
    device: Device
    classes: tuple[str, ...]
    rows: tuple[AnswerRow, ...]
    "in the order of the paths"

    def __post_init__(self) -> None:
        if self.format != ROWS_FORMAT:
            raise ValueError(f"its format is {self.format}, not {ROWS_FORMAT}")
        if self.device.precision not in TOLERANCE:
            raise ValueError(f"its precision is {self.device.precision!r}")
        if len({row.path for row in self.rows}) < len(self.rows):
            raise ValueError("it has two rows of one path")
        for row in self.rows:
            self._check(row)

    def _check(self, row: AnswerRow) -> None:
        n = len(self.classes) if row.is_read else 0
        fits = len(row.probabilities) == len(row.logits) == n
        fits = fits and row.status in (OK, ABSTAIN, REFER, ERROR)
        has_answer = row.prediction in self.classes if row.is_read else row.prediction is None
        if not fits or not has_answer:
            raise ValueError(f"its row of {row.path} is no answer of these classes")


def device_of(predictor: Predictor) -> Device:
    """The predictor's file and provider, and this machine."""
    session = predictor.session
    spec = predictor.spec
    return Device(
        model=str(session.path),
        model_sha256=session.file.sha256,
        network=network_of(spec),
        precision=spec.file.precision if spec.file else "fp32",
        positive=spec.positive,
        pixel_path=to_json(predictor.read_options.pixel_path, indent=None),
        provider=session.provider,
        cpu=machine.cpu_model(),
        isa=machine.isa_flags(),
        kneeedge=__version__,
        onnxruntime=load_runtime().__version__,
        pillow=PIL.__version__,
    )


def network_of(spec: ModelSpec) -> str:
    """The `network` of a Device."""
    text = replace(spec, file=None, novelty=None, certified=None).to_json()
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def row_of(answer: PredictedImage, spec: ModelSpec) -> AnswerRow:
    """The row of an answer of a Predictor that answers all."""
    prediction = answer.prediction
    pixels = answer.image
    probabilities = [prediction.probabilities[name] for name in spec.classes if pixels is not None]
    logits = [] if answer.logits is None else answer.logits.tolist()
    return AnswerRow(
        path=prediction.path,
        sha256=answer.stamp.sha256 if answer.stamp else "",
        input_sha256="" if pixels is None else hashlib.sha256(pixels.tobytes()).hexdigest(),
        status=prediction.status,
        prediction=prediction.prediction,
        probabilities=tuple(map(_figure, probabilities)),
        logits=tuple(map(_figure, logits)),
        distance=None if prediction.distance is None else _figure(prediction.distance),
        error=prediction.error,
    )


def _figure(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def is_rows(path: Path) -> bool:
    """Whether the path is named as a file of rows is."""
    return path.suffix.lower() in ROW_SUFFIXES


def check_rows_name(path: Path | None) -> None:
    """Raise ConfigError where a file of rows would not be known by its name."""
    if path is not None and not is_rows(path):
        raise ConfigError(f"--rows {path} is neither CSV nor JSON", "name it .csv or .json")


def check_one_table(path: Path | None, classes: Sequence[tuple[str, ...]]) -> None:
    """Raise ConfigError where models of these classes have no room in one CSV file."""
    if path is not None and path.suffix.lower() == ".csv" and len(set(classes)) > 1:
        problem = "the models have other classes, which are columns of one CSV file"
        raise ConfigError(problem, "name a .json file as --rows, or verify them one at a time")


def write_rows(path: Path, answers: Sequence[DeviceAnswers]) -> None:
    """Write the answers of one or more models, as JSON or as CSV by the path's name.

    In CSV they are all of the same classes.
    """
    if path.suffix.lower() == ".json":
        write_text(path, to_json(answers) + "\n")
        return
    columns = csv_columns(answers[0].classes)
    write_csv(path, columns, (cells for each in answers for cells in _cells(each)))


def csv_columns(classes: Sequence[str]) -> list[str]:
    """The first line of a CSV file of rows."""
    of_classes = [f"{prefix}{name}" for prefix in (PROBABILITY, LOGIT) for name in classes]
    return [*ANSWER, *of_classes, "distance", "error", *DEVICE]


def _cells(answers: DeviceAnswers) -> Iterator[list[object]]:
    device = answers.device
    of_device = [getattr(device, name) for name in DEVICE]
    of_device[DEVICE.index("isa")] = " ".join(device.isa)
    for row in answers.rows:
        figures: Sequence[object] = (*row.probabilities, *row.logits)
        if not row.is_read:
            figures = [""] * 2 * len(answers.classes)
        distance = "" if row.distance is None else row.distance
        answer = [row.path, row.sha256, row.input_sha256, row.status, row.prediction or ""]
        yield [*answer, *figures, distance, row.error, *of_device]


def read_rows(path: Path) -> list[DeviceAnswers]:
    """The answers in a file of rows, of each model by itself.

    Raises NotFoundError where there is none, and DataError where it is not as `write_rows` leaves
    it.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file of rows", WRITE_AGAIN)
    try:
        if path.suffix.lower() == ".json":
            found = list(from_json(tuple[DeviceAnswers, ...], path.read_bytes()))
        else:
            found = _from_csv(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (ValueError, csv.Error) as error:
        raise DataError(path, f"it is no table of answers: {error}", WRITE_AGAIN) from error
    if not found:
        raise DataError(path, "it holds no answers", WRITE_AGAIN)
    return found


def _from_csv(text: str) -> list[DeviceAnswers]:
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    columns = [original_text(cell) for cell in lines[0]] if lines else []
    classes = tuple(name.removeprefix(PROBABILITY) for name in columns[len(ANSWER) :])
    classes = classes[: (len(columns) - len(ANSWER) - len(DEVICE) - 2) // 2]
    if columns != csv_columns(classes):
        raise ValueError(f"its columns are not {', '.join(csv_columns(('<Class>',)))}")
    rows: dict[Device, list[AnswerRow]] = {}
    for line in lines[1:]:
        if len(line) != len(columns):
            raise ValueError(f"a row has {len(line)} cells, not {len(columns)}")
        cells = dict(zip(columns, map(original_text, line), strict=True))
        rows.setdefault(_device_of_cells(cells), []).append(_row_of_cells(cells, classes))
    return [
        DeviceAnswers(device=device, classes=classes, rows=tuple(of_device))
        for device, of_device in rows.items()
    ]


def _device_of_cells(cells: dict[str, str]) -> Device:
    texts: dict[str, Any] = {name: cells[name] for name in DEVICE}
    return Device(**texts | {"isa": tuple(cells["isa"].split())})


def _row_of_cells(cells: dict[str, str], classes: Sequence[str]) -> AnswerRow:
    is_read = cells["status"] != ERROR
    return AnswerRow(
        path=cells["path"],
        sha256=cells["sha256"],
        input_sha256=cells["input_sha256"],
        status=cells["status"],
        prediction=cells["prediction"] or None,
        probabilities=_numbers(cells, PROBABILITY, classes if is_read else ()),
        logits=_numbers(cells, LOGIT, classes if is_read else ()),
        distance=_number(cells["distance"]) if cells["distance"] else None,
        error=cells["error"],
    )


def _numbers(cells: dict[str, str], prefix: str, classes: Sequence[str]) -> tuple[float, ...]:
    return tuple(_number(cells[f"{prefix}{name}"]) for name in classes)


def _number(cell: str) -> float:
    """A finite number; raises ValueError for any other cell."""
    value = float(cell)
    if value - value != 0:  # NaN and infinity
        raise ValueError(f"{cell} is no number")
    return value
