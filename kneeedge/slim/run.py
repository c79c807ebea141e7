"""A finished run → a narrower one that the gate has held against it: `kneeedge slim`."""

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import median

from export.gate_data import GateImages, read_gate_data
from export.options import PRECISIONS, ExportOptions
from export.original import AskedImages, open_network
from export.run import export_run
from export.to_onnx import fold_batch_norm
from kneeedge.data.dataset import Dataset, check_unchanged
from kneeedge.errors import CheckpointError, ConfigError, NotFoundError
from kneeedge.model.provenance import Slimmed
from kneeedge.model.verdict import FAIL, PASS
from kneeedge.pixels.phantom import phantoms
from kneeedge.report.card import write_card
from kneeedge.runs.export_report import ExportReport
from kneeedge.runs.folder import Run, open_run
from kneeedge.runs.latest import link_latest
from kneeedge.runs.record import RunRecord
from kneeedge.runs.slim_report import (
    Goal,
    SlimConfig,
    SlimReport,
    Step,
    choose,
    tolerance_of,
)
from kneeedge.runtime.session import Session
from kneeedge.slim.chain import narrow
from kneeedge.slim.checks import check_images, check_original
from kneeedge.slim.curve import draw_curve
from kneeedge.slim.distil import DistilBatches, Targets, compute_targets, distillation
from kneeedge.slim.refit import refit
from kneeedge.slim.survey import (
    Survey,
    goals_of,
    some_images,
    take_survey,
    wanted_ms,
)
from kneeedge.system import machine
from kneeedge.system.files import copy_file, file_sha256
from kneeedge.system.progress import Progress, duration
from kneeedge.training.cache import drop_cache
from kneeedge.training.checkpoint import load_original, save_weights
from kneeedge.training.cpu import use_cpu
from kneeedge.training.data import FileBatches
from kneeedge.training.loop import State, fit, read_history
from kneeedge.training.plan import training_device
from kneeedge.training.run import check_new, make_fabric, start_model
from kneeedge.training.score import score

N_TIMED = 50
N_WARM_UP = 5
N_REFIT = 160
"training images for the least squares"


class Slimmer:
    """One original and all that its narrower networks are made from."""

    def __init__(
        self, config: SlimConfig, folder: Path, command: Sequence[str], progress: Progress
    ) -> None:
        self.config = config
        self.folder = folder
        self.command = command
        self.progress = progress
        use_cpu()
        self.original = open_run(Path(config.original))
        self.record = self.original.read_config()
        model, self.spec = load_original(self.original)
        check_original(self.original, self.record, self.spec)
        model.features = fold_batch_norm(model.features)
        self.model = model
        self.architecture = replace(self.spec.architecture, batch_norm=False)
        root = Path(config.data or self.record.data_root)
        self.dataset: Dataset = self.original.read_dataset(root, self.spec.classes)
        check_images(self.dataset)
        check_unchanged(self.dataset.samples)
        self.original_files = original_files(self.original) if config.curve else []
        self.gate_images: GateImages | None = None
        if config.gate_data:
            folder = Path(config.gate_data)
            self.gate_images = read_gate_data(folder, self.dataset, self.record.config, progress)

    @cached_property
    def slimmed(self) -> Slimmed:
        """What every narrowed network says of its original."""
        spec = self.spec
        return Slimmed(
            original=spec.name,
            sha256=file_sha256(self.original.model),
            channels=spec.architecture.channels,
            temperature=spec.temperature,
            threshold=spec.threshold,
            scores=spec.training.scores,
        )

    @cached_property
    def gate(self) -> AskedImages | None:
        """The images of --gate-data with the original's answers, asked for once for all exports."""
        images = self.gate_images
        if images is None:
            return None
        network = open_network(self.original)
        title = f"{self.spec.name} on gate data"
        logits, _ = network.answers(images.samples, title, self.progress)
        return AskedImages(images, logits)

    @cached_property
    def survey(self) -> Survey:
        """What the run was begun with, else measured now."""
        run = Run(self.folder)
        return take_survey(self.model, self.spec, self.dataset, self.config, run, self.progress)

    @cached_property
    def targets(self) -> Targets:
        """The original's answers to the training views, from where networks are trained."""
        config = self.config.training(self.record.config)
        train = self.dataset.split("train")
        model = deepcopy(self.model).to(training_device())
        folder = Run(self.folder).cache
        bf16 = self.survey.bf16
        return compute_targets(model, bf16, train, config.views, config, folder, self.progress)

    def slim(self) -> SlimReport:
        """Go through the goals, take the best of what they gave, and finish the run folder."""
        run = Run(self.folder)
        report = run.read_slim()
        run.write_survey(self.survey)
        goals = self.goals()
        for i, milliseconds in enumerate(goals):
            if i < len(report.steps):
                continue
            begin = time.monotonic()
            step = self.step(milliseconds)
            report = replace(report, steps=(*report.steps, step))
            Run(self.folder).write_slim(report)
            self.progress(f"{step.name}: {step.verdict} ({step.reason})")
            goals_left = goals[i + 1 :]
            if goals_left:  # a width's training takes time by its work, and so does its inference
                seconds = time.monotonic() - begin
                left = duration(seconds * sum(goals_left) / milliseconds)
                self.progress(f"{len(goals_left)} widths to come, about {left}")
            if step.verdict == FAIL and not self.config.curve:
                break
        chosen = choose(report.steps, tolerance_of(self.config))
        self.finish(chosen)
        if self.config.curve:
            self.draw(report)
        report = replace(report, chosen=chosen.name)
        Run(self.folder).write_slim(report)
        drop_cache(Run(self.folder).cache)
        return report

    def goals(self) -> tuple[float, ...]:
        """The latencies, ms, to be reached; says which speeds of a search are out of reach."""
        times = self.survey.times
        goals = goals_of(times, self.config)
        left_out = wanted_ms(self.config, times.full_ms)[len(goals) :]
        if left_out:
            speeds = ", ".join(f"{times.full_ms / milliseconds:.1f}" for milliseconds in left_out)
            self.progress(f"out of reach of this network here: {speeds} times as fast")
        return goals

    def step(self, milliseconds: float) -> Step:
        """Narrow, mend, train, score and export for one latency."""
        times = self.survey.times
        allotment = self.survey.allot(milliseconds)
        full = times.full_ms
        expected = allotment.milliseconds + times.overhead_ms
        run = self.run_of(full / expected)
        run.folder.mkdir(parents=True, exist_ok=True)
        latencies = f"about {expected:.3g} ms in int8, the original {full:.3g} ms"
        widths = " ".join(map(str, allotment.widths))
        self.progress(f"{run.name}: {latencies}; channels {widths}")
        record = self.begin(run, allotment.widths)
        if not run.spec.is_file():
            self.score(run, record, self.train(run, record))
        exported = self.export(run, PRECISIONS if self.config.has_goal else ("int8",))
        (file,) = [file for file in exported.files if file.report.precision == "int8"]
        path = run.models / file.path
        deciding = file.report.deciding
        return Step(
            name=run.name,
            asked_ms=milliseconds,
            expected_ms=expected,
            expected_speedup=full / expected,
            measured_ms=single_image_ms(path, self.config.threads),
            channels=record.channels or (),
            size_mb=file.size_mb,
            verdict=file.report.verdict,
            reason=file.report.reason,
            flips=deciding.flips,
            n=deciding.n,
            accuracy_change=file.report.changes["accuracy"].delta,
            images=file.report.images,
            model=str(path.relative_to(self.folder)),
        )

    def run_of(self, speedup: float) -> Run:
        """Where a width is trained: a goal's in the run folder itself, a search's below it."""
        whole = Run(self.folder)
        return whole if self.config.has_goal else whole.step(f"{whole.name}-{speedup:.1f}x")

    def begin(self, run: Run, widths: tuple[int, ...]) -> RunRecord:
        """Write the narrowed and mended network to `run.start`; returns how it is to be trained."""
        if run.start.is_file() or run.spec.is_file():
            return run.read_config()
        kept = self.survey.kept(widths)
        slim, architecture = narrow(self.model, self.architecture, kept)
        images = some_images(self.dataset, self.spec.pixel_path, N_REFIT, self.config.seed + 1)
        refit(self.model, slim, kept, images, self.progress)
        record = replace(
            self.record,
            config=self.config.training(self.record.config),
            command=tuple(self.command),
            data_root=str(self.dataset.root),
            weights_origin=f"slimmed from sha256:{self.slimmed.sha256}",
            n_frozen_blocks=0,
            n_views=0,
            bf16=self.survey.bf16,
            device=training_device(),
            environment=machine.environment(),
            n_processes=1,
            slimmed=self.slimmed,
            original=str(self.original.folder.resolve()),
            channels=architecture.channels,
        )
        self.write_origin(run, record)
        save_weights(slim, run.start)
        return record

    def write_origin(self, run: Run, record: RunRecord) -> None:
        """Write what a slim run is trained from and held against."""
        copy_file(self.original.answers, run.original_answers)
        run.write_dataset(self.dataset)
        run.write_config(record)

    def train(self, run: Run, record: RunRecord) -> State:
        """Distil until the last epoch, from where a stopped training was."""
        config = record.config
        model = start_model(run, record)
        train = self.dataset.split("train")
        val = self.dataset.split("val")
        files = FileBatches(train, val, config, self.spec.pixel_path)
        batches = DistilBatches(self.targets, files, config)
        fabric = make_fabric(record.device, record.bf16)
        return fit(model, batches, config, run, fabric, self.progress, distillation(self.targets))

    def score(self, run: Run, record: RunRecord, state: State) -> None:
        """Fit temperature, threshold and limit anew, and write all that a finished run holds."""
        files = FileBatches(self.dataset.split("train"), (), record.config, self.spec.pixel_path)
        score(run, record, self.dataset, state, files, self.progress)
        for leftover in (run.start, run.last):
            leftover.unlink(missing_ok=True)
        write_card(run)

    def export(self, run: Run, precisions: tuple[str, ...]) -> ExportReport:
        """The verified files of a finished slim run, or what an earlier export reported."""
        options = ExportOptions(
            precisions=precisions,
            tolerance=self.config.tolerance,
            data=self.config.data,
            gate_data=self.config.gate_data,
            stress=self.config.stress,
            stress_tolerance=self.config.stress_tolerance,
        )
        try:
            return run.read_export_report()
        except NotFoundError:
            return export_run(run.folder, options, self.progress, self.gate)

    def finish(self, chosen: Step) -> None:
        """Make the chosen step's network the run folder's own, with all precisions exported.

        `latest` comes to name it where the gate passes a file: a command without a model finds one.
        """
        run = Run(self.folder)
        if not self.config.has_goal:
            step = run.step(chosen.name)
            self.progress(f"taken: {chosen.name}")
            record = step.read_config()
            copy_file(step.model, run.model)
            self.write_origin(run, record)
            copy_file(step.history, run.history)
            self.score(run, record, read_history(run))
        report = self.export(run, PRECISIONS)
        if any(file.report.verdict == PASS for file in report.files):
            link_latest(run)

    def draw(self, report: SlimReport) -> None:
        """Measure and draw the original's own files and every step."""
        models = [*self.original_files, *(self.folder / step.model for step in report.steps)]
        threads = self.config.threads
        draw_curve(Run(self.folder), self.original, models, self.dataset, threads, self.progress)


def slim(
    config: SlimConfig, folder: Path, command: Sequence[str], progress: Progress
) -> SlimReport:
    """Make a narrower network from a finished run, in a new `folder`."""
    check_new(folder, f"give another --out, or go on with `kneeedge slim --resume {folder}`")
    slimmer = Slimmer(config, folder, command, progress)
    run = Run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.write_slim(SlimReport(config, slimmer.slimmed))
    try:
        _ = slimmer.survey  # what is out of reach is said before anything is begun
    except BaseException as error:
        if isinstance(error, CheckpointError) or not run.survey.is_file():
            for path in (run.slim, run.survey):
                path.unlink(missing_ok=True)
            folder.rmdir()
        elif isinstance(error, ConfigError):
            less = f"kneeedge slim --resume {folder} --speedup X"
            progress(f"the layer times are kept in {folder}: `{less}` asks for less of them")
        raise
    return slimmer.slim()


def resume_slim(
    folder: Path, command: Sequence[str], progress: Progress, goal: Goal | None = None
) -> SlimReport:
    """Go on with a stopped `kneeedge slim`; the result equals that of an unbroken one.

    A `goal` takes the place of that of a run that has begun with no width yet, as where it was out
    of reach.
    """
    report = Run(folder).read_slim()
    if report.chosen is not None:
        remedy = "slim a run anew with `kneeedge slim RUN --out FOLDER`"
        raise ConfigError(f"{folder} is finished", remedy)
    if goal:
        report = with_goal(report, goal, Run(folder))
        Run(folder).write_slim(report)
    slimmer = Slimmer(report.config, folder, command, progress)
    if slimmer.slimmed.sha256 != report.original.sha256:
        problem = f"{report.config.original} is another run than this was begun with"
        raise ConfigError(problem, "slim it anew")
    return slimmer.slim()


def with_goal(report: SlimReport, goal: Goal, run: Run) -> SlimReport:
    """The report with another goal; raises ConfigError where a width for the first is begun."""
    if report.steps or run.config.is_file() or run.step("").folder.is_dir():
        problem = f"{run.folder} has begun with the widths of its goal"
        raise ConfigError(problem, "leave out the new one, or slim the original to another --out")
    return replace(report, config=report.config.with_goal(goal))


def single_image_ms(path: Path, threads: int | None) -> float:
    """The median latency of single images through the session, the first runs left out."""
    session = Session(path, "cpu", threads)
    image = phantoms(1, session.spec.pixel_path.size)
    milliseconds = []
    for _ in range(N_TIMED + N_WARM_UP):
        begin = time.perf_counter()
        session.run(image)
        milliseconds.append(1000.0 * (time.perf_counter() - begin))
    return float(median(milliseconds[N_WARM_UP:]))


def original_files(original: Run) -> list[Path]:
    """The int8 file of the original's export, which a curve draws too; none without an export."""
    if not original.export_report.is_file():
        return []
    files = original.read_export_report().files
    paths = [original.models / file.path for file in files if file.report.precision == "int8"]
    return [path for path in paths if path.is_file()]
