"""A finished run → verified `.onnx` files in `<run>/models`: `kneeedge export`."""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import TensorsData

from export.calibration import N_IMAGES, CalibrationSet, choose_images, measure_ranges
from export.graph import operators, opset, set_metadata
from export.to_fp16 import to_fp16
from export.to_int8 import choose_target, to_int8
from export.to_onnx import to_onnx
from export.verify import pair
from kneeedge import machine
from kneeedge.dataset import Dataset, check_unchanged, file_sha256, read_split
from kneeedge.errors import ConfigError, ModelFileError, NoAnswerError
from kneeedge.evaluation import score_session
from kneeedge.gate import FAIL, REPORT, ExportedFile, ExportReport, VerifyReport, read_report, write_report
from kneeedge.golden import GoldenCase, GoldenSet, encode_png, to_metadata, verify
from kneeedge.phantom import phantoms
from kneeedge.progress import Progress
from kneeedge.session import Session, load_runtime
from kneeedge.spec import GOLDEN_KEY, SEEN_KEY, SPEC_KEY, FileRecord, ModelSpec, Verification
from kneeedge.training.checkpoint import load_original, open_run, predict_logits, read_record
from kneeedge.training.model import KneeVGG
from kneeedge.training.score import original_logits

PRECISIONS = ("fp32", "fp16", "int8")
REJECTED = "rejected"
N_GOLDEN = 8
DEVICE_FLOOR = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.1}
"logit change between two machines that run the same file: other kernels round otherwise"


@dataclass(frozen=True)
class ExportOptions:
    """What `kneeedge export` was asked for."""

    precisions: tuple[str, ...] = PRECISIONS
    int8_target: str = "auto"
    n_calibration: int = N_IMAGES
    "training images that set the int8 ranges"
    tolerance: float | None = None
    "accuracy that a variant may lose, as a share; None: the precision's own"
    provider: str = "cpu"
    "where the variants are verified"
    data: str | None = None
    "the data folder, where it is no longer where the run was trained"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.precisions if name not in PRECISIONS]:
            raise ConfigError(f"--precision {unknown[0]} is unknown", f"choose from {','.join(PRECISIONS)}")
        if not self.precisions:
            raise ConfigError("--precision names nothing", f"choose from {','.join(PRECISIONS)}")


class Exporter:
    """One run's original, its held-out answers, and everything the variants are made from and held against."""

    def __init__(self, folder: Path, options: ExportOptions, progress: Progress) -> None:
        load_runtime()  # a missing runtime is said before the work, not after
        self.options, self.progress = options, progress
        self.run = open_run(folder)
        self.model, self.spec = load_original(self.run)
        record = read_record(self.run)
        root = Path(options.data or record.data_root)
        self.dataset: Dataset = read_split(self.run.split, root, self.spec.classes)
        self.samples = self.dataset.split("val")
        check_unchanged(self.samples)

    def export(self) -> ExportReport:
        """Make, verify and publish each variant asked for; at the end raises NoAnswerError for one without answers."""
        self.run.models.mkdir(exist_ok=True)
        files: list[ExportedFile] = []
        refused: list[NoAnswerError] = []
        for precision in (name for name in PRECISIONS if name in self.options.precisions):
            try:
                files.append(self.publish(precision))
            except ModelFileError as error:
                refused.append(NoAnswerError(self._move(precision, FAIL), precision, error.problem))
        kept = [file for file in self._earlier() if file.report.precision not in self.options.precisions]
        order = sorted([*kept, *files], key=lambda file: PRECISIONS.index(file.report.precision))
        write_report(self.run.models, ExportReport(self.spec.name, tuple(order)))
        if refused:
            raise refused[0]
        return ExportReport(self.spec.name, tuple(files))

    def publish(self, precision: str) -> ExportedFile:
        """Write one variant beside the others, or below `rejected/` where it fails the gate."""
        self.progress(f"{precision}: making the graph")
        graph, record = self.build(precision)
        part = self._part(precision)
        save(graph, part, self.spec, record, {})
        report, golden = self.verify(part, precision)
        verification = Verification(
            report.verdict, report.split, report.n, len(report.flips), report.original, report.variant,
            report.max_abs_logit_change, report.mean_abs_logit_change, report.provider,
        )  # fmt: skip
        extra = {GOLDEN_KEY: to_metadata(golden), SEEN_KEY: seen_hashes(self.dataset)}
        save(graph, part, self.spec, dataclasses.replace(record, verification=verification), extra)
        confirmed = verify(Session(part, self.options.provider), "", "")
        if not confirmed.passed:
            reason = (
                f"the written file answers its own golden inputs otherwise (by {confirmed.max_change_from_file:.3g})"
            )
            report = dataclasses.replace(report, verdict=FAIL, reason=reason)
        path = self._move(precision, report.verdict)
        where = str(path.relative_to(self.run.models))
        self.progress(f"{where}: {report.verdict} ({report.reason})")
        return ExportedFile(where, file_sha256(path), round(path.stat().st_size / 1e6, 2), report)

    def build(self, precision: str) -> tuple[onnx.ModelProto, FileRecord]:
        """The graph of one precision, without metadata, and its record."""
        graph, target, calibration = self.fp32, None, None
        if precision == "fp16":
            graph = to_fp16(self.fp32)
        elif precision == "int8":
            target = choose_target(self.options.int8_target)
            images = choose_images(self.dataset, self.options.n_calibration, self.spec.training.seed)
            check_unchanged(images.samples)
            calibration = images.record()
            graph = to_int8(self.fp32, self.ranges(images), target)
        record = FileRecord(precision, opset(graph), operators(graph), machine.versions(), target, calibration)
        return graph, record

    def verify(self, path: Path, precision: str) -> tuple[VerifyReport, GoldenSet]:
        """The gate's report on the val split, and the golden answers, of a file."""
        session = Session(path, self.options.provider)
        _, _, logits = score_session(session, self.samples, 8, self.progress)
        report = pair(
            self.samples,
            self.val_logits,
            logits,
            self.spec,
            precision,
            session.provider,
            self.options.tolerance,
        )
        return report, golden_set(session, self.model, precision)

    def ranges(self, images: CalibrationSet) -> TensorsData:
        """The int8 ranges, measured on the fp32 graph."""
        return measure_ranges(self.fp32, images.samples, self.spec.pixel_path, self.progress)

    @cached_property
    def fp32(self) -> onnx.ModelProto:
        return to_onnx(self.model, self.spec)

    @cached_property
    def val_logits(self) -> NDArray[np.float32]:
        """The original's logits (N, K) on the val split."""
        return original_logits(self.model, self.samples, self.spec.pixel_path, "original on val", self.progress)

    def _earlier(self) -> tuple[ExportedFile, ...]:
        """What an earlier export reported, as far as it is still there."""
        if not (self.run.models / REPORT).is_file():
            return ()
        return tuple(file for file in read_report(self.run.models).files if (self.run.models / file.path).is_file())

    def _part(self, precision: str) -> Path:
        """Where a variant stands until its verdict is known."""
        return self.run.models / f".{self.spec.name}.{precision}.onnx.part"

    def _move(self, precision: str, verdict: str) -> Path:
        """Put a variant where its verdict belongs, in place of an earlier one, and give its path."""
        name = f"{self.spec.name}.{precision}.onnx"
        published, rejected = self.run.models / name, self.run.models / REJECTED / name
        for old in (published, rejected):
            old.unlink(missing_ok=True)
        path = rejected if verdict == FAIL else published
        path.parent.mkdir(exist_ok=True)
        self._part(precision).replace(path)
        return path


def export_run(folder: Path, options: ExportOptions, progress: Progress) -> ExportReport:
    """Export the run in `folder`; the report says which files passed."""
    return Exporter(folder, options, progress).export()


def save(graph: onnx.ModelProto, path: Path, spec: ModelSpec, record: FileRecord, extra: dict[str, str]) -> None:
    """Write one self-contained `.onnx` file with its spec and `extra` as metadata."""
    set_metadata(graph, {SPEC_KEY: dataclasses.replace(spec, file=record).to_json(), **extra})
    onnx.save(graph, path)


def golden_set(session: Session, model: KneeVGG, precision: str) -> GoldenSet:
    """Phantoms from healthy to diseased, with the original's answers and this file's."""
    images = phantoms(N_GOLDEN, session.spec.pixel_path.size)
    original = predict_logits(model, images)
    answers = np.concatenate([session.run(image[None]).logits for image in images])
    cases = tuple(
        GoldenCase(encode_png(image[0]), tuple(map(float, before)), tuple(map(float, after)))
        for image, before, after in zip(images, original, answers, strict=True)
    )
    floor = DEVICE_FLOOR[precision]
    # What the precision itself costs was measured here; another machine may add its own rounding to it.
    return GoldenSet(cases, floor, float(np.abs(answers - original).max()) + floor)


def seen_hashes(dataset: Dataset) -> str:
    """JSON of the first 16 hex digits of the hash of each train and val image, so that a device can tell a leak."""
    return json.dumps({split: sorted(s.short_hash for s in dataset.split(split)) for split in ("train", "val")})
