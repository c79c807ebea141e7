"""What `kneeedge infer` is asked for, and the one call that does it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kneeedge.errors import ConfigError
from kneeedge.inference.folder import (
    FolderOptions,
    folder_result,
    infer_folder,
)
from kneeedge.inference.heatmap import MOST_SHOWN
from kneeedge.inference.predictor import Predictor
from kneeedge.inference.summary import FolderResult, folder_summary, stage_seconds
from kneeedge.model.file import ModelFile, open_model
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.picture import MAX_PIXELS
from kneeedge.pixels.reader import ReadOptions
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.system.outputs import DRIFT, ROWS, STDOUT, check_output, check_output_folder
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from kneeedge.inference.watch import Watch


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """Which images to answer, how, and where to.

    Raises ConfigError where options exclude each other.
    """

    paths: tuple[Path, ...]
    "images, and folders that are searched for images"
    out: Path
    "the CSV file to write"
    provider: str = "auto"
    threads: int | None = None
    "of the CPU; None: the physical cores that this process may use"
    batch_size: int | None = None
    "images a run; None: what suits the provider"
    gpu: GpuOptions = field(default_factory=GpuOptions)
    public_key: Path | None = None
    "the key that must have signed the model; None: no signature is asked for"
    answer_all: bool = False
    "answer images unlike the training images too"
    dicom_window: int = 0
    "which of several windows of a DICOM image; the first is 0"
    grey_bits: int | None = None
    "bits that pixels of 16 use; None: what the model was trained with"
    max_pixels: int = MAX_PIXELS
    "an image of more is refused before it is decoded"
    isolate: bool | None = None
    "decode in processes that may crash; None: where there are several images"
    file_timeout: float = 60.0
    "seconds for one file, where isolated"
    watch: bool = False
    "wait for new files and answer each once"
    new_only: bool = False
    "add to the output the rows that it lacks, and leave those that it has"
    options: FolderOptions = field(default_factory=FolderOptions)

    def __post_init__(self) -> None:
        growing = "--watch" if self.watch else "--new-only" if self.new_only else ""
        if self.watch and self.new_only:
            raise ConfigError("--watch and --new-only exclude each other", "leave out one")
        if growing and self.options.resume:
            raise ConfigError(f"{growing} always goes on", "leave out --resume")
        if self.watch and self.options.keep:
            raise ConfigError("--watch has no end to report", "leave out --json")
        if self.out == STDOUT and (growing or self.options.resume):
            problem = f"{growing or '--resume'} needs an output that remembers its rows"
            raise ConfigError(problem, "name a file as --out")


def infer_request(request: InferRequest, model: Path, why: str, progress: Progress) -> FolderResult:
    """Answer every image of the request with the model file, and write the rows.

    `why` says in a word why it is this model. Raises what `find_images`, `open_model`, `Session`
    and `infer_folder` raise.
    """
    if request.new_only:
        return infer_new(request, model, why, progress)
    check_places(request)
    listing = find_images(request.paths)
    predictor = open_predictor(request, model, len(listing.images))
    say_model(predictor, why, progress)
    return infer_folder(predictor, listing, request.out, progress, request.options)


def infer_new(request: InferRequest, model: Path, why: str, progress: Progress) -> FolderResult:
    """Answer what the request's output lacks, and add the rows to it."""
    from kneeedge.inference.watch import answer_new

    start = time.perf_counter()
    watching = open_watch(request, model, why, progress)
    n_before = len(watching.done)
    try:
        answer_new(watching)
    finally:
        watching.close()
    watching.beside.say_what_was_written(progress)
    seconds = time.perf_counter() - start
    stages = stage_seconds(watching.stages, seconds)
    spec = watching.predictor.spec
    summary = folder_summary(watching.counts, spec, stages, seconds, request.out)
    return folder_result(
        watching.predictor,
        replace(summary, n_before=n_before, n_unfinished=len(watching.unsettled)),
        watching.listing,
        watching.predictions,
        watching.drift,
    )


def open_watch(request: InferRequest, model: Path, why: str, progress: Progress) -> "Watch":
    """What answers the files that come into the request's folders, with the model file."""
    from kneeedge.inference.watch import Watch

    check_places(request)
    n_images = len(find_images(request.paths, least=0).images)
    predictor = open_predictor(request, model, n_images)
    say_model(predictor, why, progress)
    return Watch(predictor, request.paths, request.out, progress, request.options)


def check_places(request: InferRequest) -> None:
    """Raise OutputExistsError where something else stands in the place of an output."""
    check_output(request.out, ROWS, request.paths)
    check_output_folder(request.options.heatmaps)
    check_output_folder(request.options.dicom_sr)
    check_heatmaps_apart(request.options.heatmaps, request.paths)
    if request.options.drift:
        check_output(request.options.drift.path, DRIFT, request.paths)


def check_heatmaps_apart(folder: Path | None, paths: Sequence[Path]) -> None:
    """Raise ConfigError where heat maps are to stand among the radiographs, whose names they have.

    None is no folder.
    """
    if folder is None or not folder.exists():
        return
    for path in paths:
        place = path if path.is_dir() else path.parent
        if place.exists() and folder.samefile(place):
            problem = f"--heatmaps {folder} is the folder of the radiographs"
            raise ConfigError(problem, "name another: a heat map has the name of its PNG")


def open_predictor(request: InferRequest, model: Path | ModelFile, n_images: int) -> Predictor:
    """The model file, ready to answer `n_images` images, about, as the request asks."""
    file = model if isinstance(model, ModelFile) else open_model(model, request.public_key)
    predictor = Predictor(
        file,
        provider=request.provider,
        threads=request.threads,
        batch_size=request.batch_size,
        answer_all=request.answer_all,
        n_images=n_images,
        gpu=request.gpu,
    )
    isolated = request.isolate
    if isolated is None:
        isolated = request.watch or request.new_only or n_images > 1
    pixel_path = replace(predictor.spec.pixel_path, dicom_window=request.dicom_window)
    if request.grey_bits is not None:
        pixel_path = replace(pixel_path, grey_bits=request.grey_bits)
    predictor.read_options = ReadOptions(
        pixel_path=pixel_path,
        max_pixels=request.max_pixels,
        isolated=isolated,
        timeout=request.file_timeout,
        shown_side=MOST_SHOWN if request.options.heatmaps else 0,
    )
    return predictor


def say_model(predictor: Predictor, why: str, progress: Progress) -> None:
    """Say which model answers, and on what."""
    session = predictor.session
    progress(f"model: {session.path} ({why}), provider {session.provider}")
    if session.notice:
        progress(session.notice)
