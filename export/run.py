"""A finished run → verified `.onnx` files in `<run>/models`: `kneeedge export`."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from export.any_size import prove, with_resize
from export.calibration import CalibrationSet, choose_images, draw
from export.gate import Dropped, Gated
from export.gate_data import GateImages, read_gate_data
from export.golden import Crossing, find_crossings, golden_set
from export.graph import operators
from export.judge import Judge
from export.options import PRECISIONS, ExportOptions
from export.original import AskedImages, Network, ask_original, open_network
from export.ranges import collect, load_chunks
from export.reference import ReferenceMaker
from export.refusals import spec_of_file
from export.sealed import file_record, save, seen_metadata
from export.search import IsBehind, search
from export.stress import OriginalUnderStress, original_of, torch_subject
from export.to_fp16 import N_IMAGES as N_HALF
from export.to_fp16 import half_range, to_fp16
from export.to_onnx import to_onnx
from export.trials import Material
from kneeedge.data.dataset import Dataset, check_unchanged
from kneeedge.errors import ModelFileError, NoAnswerError
from kneeedge.model.file_record import FileRecord, Verification
from kneeedge.model.signature import read_private_key, sign_file, signature_path
from kneeedge.model.spec import CARD_KEY, GOLDEN_KEY, REFERENCE_KEY, SEEN_KEY
from kneeedge.model.verdict import FAIL
from kneeedge.report.card import card, write_card
from kneeedge.report.card_facts import read_facts
from kneeedge.report.export import any_size_line
from kneeedge.runs.export_report import (
    AnySizeFile,
    ExportedFile,
    ExportReport,
    VerifyReport,
)
from kneeedge.runs.folder import open_run
from kneeedge.runtime.golden import GoldenSet, to_metadata, verify
from kneeedge.runtime.providers import load_runtime
from kneeedge.runtime.session import Session
from kneeedge.system.files import file_sha256, put_in_place
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress


@dataclass(frozen=True)
class Built:
    """One variant before it is written."""

    graph: onnx.ModelProto
    record: FileRecord
    gated: Gated | None = None
    "what the gate said, where the search has been through it with this graph"
    reference: str = ""
    "what the validation images look like to it, as the file carries it"


class Exporter:
    """One run's original, its held-out answers, and what the variants are made from."""

    def __init__(
        self,
        folder: Path,
        options: ExportOptions,
        progress: Progress,
        asked: AskedImages | None = None,
    ) -> None:
        load_runtime()  # a missing runtime is said before the work, not after
        self.options = options
        self.progress = progress
        self.key = read_private_key(Path(options.sign)) if options.sign else None
        self.run = open_run(folder)
        self.network: Network = open_network(self.run)
        self.spec = self.network.spec
        record = self.run.read_config()
        root = Path(options.data or record.data_root)
        self.dataset: Dataset = self.run.read_dataset(root, self.spec.classes)
        self.samples = self.dataset.split("val")
        check_unchanged(self.samples)
        self.references = ReferenceMaker(self.samples)
        self.asked = asked
        self.gate_images: GateImages | None = asked.images if asked else None
        if options.gate_data and asked is None:
            folder = Path(options.gate_data)
            self.gate_images = read_gate_data(folder, self.dataset, record.config, progress)

    def export(self) -> ExportReport:
        """Make, verify and publish each variant asked for.

        Raises NoAnswerError for one that gives none, when the others are done.
        """
        self.run.models.mkdir(exist_ok=True)
        earlier = self._earlier()
        wanted = [name for name in PRECISIONS if name in self.options.precisions]
        # what these refuse is said before the work, not after
        if "int8" in wanted:
            _ = self.calibration_set
        if self.options.stress:
            _ = self.original_under_stress
        _ = self.judge
        files: list[ExportedFile] = []
        failures: list[NoAnswerError] = []
        for precision in wanted:
            try:
                files.append(self.publish(precision))
            except ModelFileError as error:
                path = self._move(precision, FAIL)
                failures.append(NoAnswerError(path, precision, error.problem))
        kept = [file for file in earlier if file.report.precision not in wanted]
        self.run.write_export_report(self._report([*kept, *files]))
        write_card(self.run)
        if failures:
            raise failures[0]
        return self._report(files)

    def _report(self, files: list[ExportedFile]) -> ExportReport:
        order = sorted(files, key=lambda file: PRECISIONS.index(file.report.precision))
        return ExportReport(self.spec.name, tuple(order), self.spec.training.caveat)

    def publish(self, precision: str) -> ExportedFile:
        """Write one variant beside the others, or below `rejected/` where it fails the gate."""
        self.progress(f"{precision}: making the graph")
        built = self.build(precision)
        part = self._part(precision)
        gated = built.gated or self.judge.judge(precision, self.session(precision, built.graph))
        report = gated.report
        spec = spec_of_file(self.spec, report)
        reference = self.references.metadata(gated.answers, spec)
        built = dataclasses.replace(built, reference=reference)
        save(built.graph, part, spec, built.record, {})
        session = Session(part, self.options.provider)
        if self.options.stress and report.verdict != FAIL:
            report = self.stressed(precision, report, session)
        golden = golden_set(session, self.network.model, self.crossings, precision)
        self.seal(part, built, golden, report)
        confirmed = verify(Session(part, self.options.provider), "", "")
        if not confirmed.passed:
            reason = (
                "the written file answers its own golden inputs otherwise "
                f"(by {confirmed.max_change_from_file:.3g})"
            )
            report = dataclasses.replace(report, verdict=FAIL, reason=reason)
            self.seal(part, built, golden, report)
        path = self._move(precision, report.verdict)
        any_size = None
        if self.options.any_size and report.verdict != FAIL:
            any_size = self.publish_any_size(precision, built, golden, report)
        name = str(path.relative_to(self.run.models))
        self.progress(f"{name}: {report.verdict} ({report.reason})")
        return ExportedFile(
            path=name,
            sha256=file_sha256(path),
            size_mb=round(path.stat().st_size / 1e6, 2),
            report=report,
            int8_target=built.record.int8_target,
            calibration=built.record.calibration,
            half_range=built.record.half_range,
            any_size=any_size,
        )

    def publish_any_size(
        self, precision: str, built: Built, golden: GoldenSet, report: VerifyReport
    ) -> AnySizeFile:
        """Write the file that resizes pictures itself, held against the one that does not.

        It is removed where one logit of one picture differs.
        """
        graph = with_resize(built.graph, self.spec.pixel_path)
        record = dataclasses.replace(built.record, operators=operators(graph))
        path = self.run.any_size_file(self.spec.name, precision)
        path.parent.mkdir(exist_ok=True)
        signature_path(path).unlink(missing_ok=True)
        part = path.with_name(f".{path.name}.part")
        self.seal(part, Built(graph, record, reference=built.reference), golden, report)
        plain = Session(self.run.model_file(self.spec.name, precision), "cpu")
        proof = prove(Session(part, "cpu"), plain, self.samples, self.progress)
        sha256 = file_sha256(part)
        size_mb = round(part.stat().st_size / 1e6, 2)
        if proof.n_changed:
            part.unlink()
        else:
            put_in_place(part, path)
            if self.key:
                sign_file(path, self.key)
        file = AnySizeFile(
            path=str(path.relative_to(self.run.models)),
            sha256=sha256,
            size_mb=size_mb,
            n=proof.n,
            n_sizes=proof.n_sizes,
            n_changed=proof.n_changed,
        )
        self.progress(any_size_line(file))
        return file

    def seal(self, part: Path, built: Built, golden: GoldenSet, report: VerifyReport) -> None:
        """Write the file with all that it says of itself, the gate's report included."""
        verification = Verification(
            verdict=report.verdict,
            split=report.split,
            n=report.n,
            flips=len(report.flips),
            original=report.original,
            variant=report.variant,
            max_abs_logit_change=report.max_abs_logit_change,
            mean_abs_logit_change=report.mean_abs_logit_change,
            provider=report.provider,
            gate_data=report.gate_data,
        )
        # What was measured is of an earlier file, whose place this one takes.
        spec = spec_of_file(self.spec, report)
        facts = dataclasses.replace(
            read_facts(self.run), spec=spec, variants=(report,), speed=None, stale=()
        )
        extra = {
            GOLDEN_KEY: to_metadata(golden),
            SEEN_KEY: seen_metadata(self.dataset, self.gate_images),
            CARD_KEY: card(facts),
            REFERENCE_KEY: built.reference,
        }
        record = dataclasses.replace(built.record, verification=verification)
        save(built.graph, part, spec, record, extra)

    def build(self, precision: str) -> Built:
        """The graph of one precision, without metadata, and its record."""
        if precision == "int8":
            return self.build_int8()
        if precision == "fp16":
            return self.build_fp16()
        return Built(self.fp32, file_record("fp32", self.fp32))

    def build_fp16(self) -> Built:
        """The fp16 graph, whose layers stay in fp32 where training images overflow or underflow."""
        train = self.dataset.split("train")
        samples = draw(train, len(self.spec.classes), N_HALF, self.spec.training.seed)
        check_unchanged(samples)
        images = counted(len(samples), "training image")
        self.progress(f"fp16: looking for overflow and underflow on {images}")
        limits = half_range(self.fp32, load_chunks(samples, self.spec.pixel_path, 1))
        graph = to_fp16(self.fp32, limits.float_layers)
        record = dataclasses.replace(file_record("fp16", graph), half_range=limits)
        return Built(graph, record)

    def build_int8(self) -> Built:
        """The int8 graph that the search chose, for the target asked for."""
        target = self.options.int8_target
        images = self.calibration_set
        check_unchanged(images.samples + images.scored)
        pixel_path = self.spec.pixel_path
        histograms = collect(self.fp32, images.samples, pixel_path, self.progress)
        scored = list(load_chunks(images.scored, pixel_path, 1))
        material = Material(self.fp32, histograms, scored, target)
        result = search(
            material,
            self.gate_in_turn,
            self.options.search_minutes,
            self.progress,
            all_int8_first=self.spec.training.slimmed is not None,  # whose goal is time
        )
        recipe = result.recipe
        n_tried = counted(len(result.trials), "recipe")
        n_untried = len(result.untried)
        self.progress(f"int8: {recipe}; {n_tried} tried, {n_untried} left untried")
        record = dataclasses.replace(
            file_record("int8", result.graph),
            int8_target=target,
            calibration=images.record(
                recipe.method, recipe.float_layers, result.trials, result.untried
            ),
        )
        return Built(result.graph, record, result.gated)

    def gate_in_turn(self, graph: onnx.ModelProto, is_behind: IsBehind) -> Gated | Dropped:
        """What the gate says of an int8 graph of the search; see `Judge.judge_in_turn`."""
        return self.judge.judge_in_turn("int8", self.session("int8", graph), is_behind)

    def session(self, precision: str, graph: onnx.ModelProto) -> Session:
        """The graph run from a file, as a device runs it."""
        part = self._part(precision)
        save(graph, part, self.spec, file_record(precision, graph), {})
        return Session(part, self.options.provider)

    def stressed(self, precision: str, report: VerifyReport, session: Session) -> VerifyReport:
        """The report with what became of the variant on corrupted images; it fails where that does.

        Inconclusive is said there alone: few images leave it open for almost every variant.
        """
        gate = self.original_under_stress.judge(session, precision, self.options.stress_tolerance)
        report = dataclasses.replace(report, stress=gate)
        if gate.verdict != FAIL:
            return report
        return dataclasses.replace(
            report, verdict=FAIL, reason=f"under corruption, {gate.reason}", images_to_settle=None
        )

    @cached_property
    def original_under_stress(self) -> OriginalUnderStress:
        """The original's side of the gate under corruption."""
        is_slimmed = self.spec.training.slimmed is not None
        original = original_of(self.run, self.spec) if is_slimmed else torch_subject(self.network)
        return OriginalUnderStress(original, not is_slimmed, self.samples, self.progress)

    @cached_property
    def calibration_set(self) -> CalibrationSet:
        """The training images for int8."""
        return choose_images(self.dataset, self.options.n_calibration, self.spec.training.seed)

    @cached_property
    def fp32(self) -> onnx.ModelProto:
        return to_onnx(self.network.model, self.spec, self.network.gaussians)

    @cached_property
    def crossings(self) -> tuple[Crossing, ...]:
        """Between which the hard golden inputs of every variant are found."""
        return find_crossings(self.network.model, self.spec, self.network.gaussians)

    @cached_property
    def judge(self) -> Judge:
        """The gate, with what PyTorch answers to its images."""
        images = self.gate_images
        original = ask_original(
            self.run, self.network, self.samples, images, self.progress, self.asked
        )
        record = images.record if images else None
        if record and self.spec.novelty and original.distances is not None:
            refused = self.spec.novelty.refuses(original.distances[original.n_val :])
            record = dataclasses.replace(record, n_refused=int(refused.sum()))
        return Judge(
            spec=self.spec,
            original=original,
            gate_data=record,
            tolerance=self.options.tolerance,
            references=self.references,
            progress=self.progress,
        )

    def _earlier(self) -> tuple[ExportedFile, ...]:
        """The files of an earlier export that are still there.

        The report of another kneeedge's export is removed.
        """
        path = self.run.export_report
        if not path.is_file():
            return ()
        try:
            files = self.run.read_export_report().files
        except ModelFileError as error:
            remedy = "it is written anew, without what was exported then"
            self.progress(f"{path}: {error.problem}; {remedy}")
            path.unlink()
            return ()
        return tuple(file for file in files if (self.run.models / file.path).is_file())

    def _part(self, precision: str) -> Path:
        """Where a variant stands until its verdict is known."""
        final = self.run.model_file(self.spec.name, precision)
        return final.with_name(f".{final.name}.part")

    def _move(self, precision: str, verdict: str) -> Path:
        """Put a variant where its verdict belongs, in place of an earlier one; returns its path.

        What is published is signed where a key was given.
        """
        published = self.run.model_file(self.spec.name, precision)
        rejected = self.run.model_file(self.spec.name, precision, rejected=True)
        for old in (signature_path(published), published, rejected):
            old.unlink(missing_ok=True)
        path = rejected if verdict == FAIL else published
        path.parent.mkdir(exist_ok=True)
        put_in_place(self._part(precision), path)
        if self.key and path == published:
            sign_file(path, self.key)
        return path


def export_run(
    folder: Path, options: ExportOptions, progress: Progress, asked: AskedImages | None = None
) -> ExportReport:
    """Export the run in `folder`; the report says which files passed.

    `asked` are the images of --gate-data where they are read already, for a slimmed run.
    """
    return Exporter(folder, options, progress, asked).export()
