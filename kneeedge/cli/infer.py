"""`kneeedge infer`: folders to rows, once or as files come."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kneeedge.cli.console import (
    INTERRUPTED,
    BatchSize,
    CudaGraph,
    GpuMemory,
    Json,
    Model,
    Provider,
    Quiet,
    RequireSignature,
    Tf32,
    Threads,
    show,
    stoppable,
)
from kneeedge.errors import ConfigError
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from kneeedge.inference.predictor import Predictor


def infer(
    paths: Annotated[
        list[Path], typer.Argument(help="Images, and folders that are searched for images.")
    ],
    model: Model = None,
    provider: Provider = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    require_signature: RequireSignature = None,
    heatmaps: Annotated[
        Path | None, typer.Option(help="Write class activation maps below this folder.")
    ] = None,
    answer_all: Annotated[
        bool,
        typer.Option(
            "--answer-all",
            help="Answer images unlike the training images too; they stay `abstain`.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an interrupted run: do only what is missing."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Wait for new files and answer each once, when it is fully written."
        ),
    ] = False,
    dicom_sr: Annotated[
        Path | None,
        typer.Option(help="Write a DICOM Structured Report of each DICOM image below this folder."),
    ] = None,
    with_patient_id: Annotated[
        bool,
        typer.Option(
            "--with-patient-id",
            help="Let the rows of DICOM images, and the reports, say who the patient is.",
        ),
    ] = False,
    dicom_window: Annotated[
        int, typer.Option(min=0, help="DICOM: which of several windows; the first is 0.")
    ] = 0,
    max_megapixels: Annotated[
        float | None,
        typer.Option(min=0.0, help="Refuse larger images before they are decoded; 67 by default."),
    ] = None,
    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate",
            help="Decode in processes that may crash; by default for several images.",
        ),
    ] = None,
    file_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=1e5,
            help="Seconds for one file, where isolated; then it is a row with that error.",
        ),
    ] = 60.0,
    gpu_memory_gb: GpuMemory = None,
    tf32: Tf32 = False,
    cuda_graph: CudaGraph = True,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Answer every image of a folder; an unreadable one is a row with its reason, and the exit code
    is 1.
    """
    from dataclasses import replace

    from kneeedge.inference.folder import FolderOptions, infer_folder
    from kneeedge.inference.predictor import Predictor
    from kneeedge.model.file import open_model
    from kneeedge.pixels.listing import find_images
    from kneeedge.pixels.picture import MAX_PIXELS
    from kneeedge.pixels.reader import ReadOptions
    from kneeedge.report.inference import infer_text
    from kneeedge.runs.choose import choose_model
    from kneeedge.runtime.cuda import GpuOptions

    progress = Progress(quiet)
    choice = choose_model(model, provider)
    listing = find_images(paths, least=0 if watch else 1)
    gpu = GpuOptions(tf32=tf32, memory_gb=gpu_memory_gb, cuda_graph=cuda_graph)
    file = open_model(choice.path, require_signature)
    predictor = Predictor(file, provider, threads, batch_size, answer_all, len(listing.images), gpu)
    pixel_path = replace(predictor.spec.pixel_path, dicom_window=dicom_window)
    apart = isolate if isolate is not None else watch or len(listing.images) > 1
    max_pixels = MAX_PIXELS if max_megapixels is None else round(max_megapixels * 1e6)
    predictor.read_options = ReadOptions(pixel_path, max_pixels, apart, file_timeout)
    progress(f"model: {choice.path} ({choice.why}), provider {predictor.session.provider}")
    if predictor.session.notice:
        progress(predictor.session.notice)
    if watch:
        if resume or heatmaps or dicom_sr or with_patient_id or json:
            raise ConfigError(
                "--watch writes rows alone, and always goes on", "leave out the other options"
            )
        watch_folders(predictor, paths, out, progress)
    options = FolderOptions(
        heatmaps=heatmaps,
        dicom_sr=dicom_sr,
        with_patient_id=with_patient_id,
        keep=json is not None,
        resume=resume,
    )
    with stoppable():
        try:
            result = infer_folder(predictor, listing, out, progress, options)
        except KeyboardInterrupt:
            typer.echo(
                f"stopped; the rows so far are kept: the same command with --resume ends {out}",
                err=True,
            )
            raise typer.Exit(INTERRUPTED) from None
    show(infer_text(result), result, json)
    if result.summary.n_errors:
        raise typer.Exit(1)


def watch_folders(
    predictor: "Predictor", folders: list[Path], out: Path, progress: Progress
) -> NoReturn:
    """Answer what comes, until Ctrl-C or SIGTERM."""
    from kneeedge.inference.watch import Watch, watch

    watching = Watch(predictor, folders, out, progress)
    progress(
        f"watching {', '.join(map(str, folders))}; {len(watching.done.stamps):,} images in {out}; stop with Ctrl-C"
    )
    with stoppable():
        try:
            watch(watching)
        except KeyboardInterrupt:
            typer.echo(f"stopped; {out} is whole, and the same command goes on", err=True)
        finally:
            watching.close()
    raise typer.Exit(INTERRUPTED)
