"""The command line: parse, one library call, print. Reports go to stdout, progress and errors to stderr."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kneeedge import __version__
from kneeedge.cli_audit import audit
from kneeedge.cli_bench import bench
from kneeedge.cli_train import INTERRUPTED, train
from kneeedge.console import (
    BatchSize,
    CudaGraph,
    GpuMemory,
    Json,
    Model,
    OneLineErrors,
    Provider,
    Quiet,
    RequireSignature,
    Tf32,
    Threads,
    require_train,
    show,
    stoppable,
)
from kneeedge.errors import ConfigError
from kneeedge.progress import Progress
from kneeedge.spec import DISCLAIMER

if TYPE_CHECKING:
    from kneeedge.infer import Predictor

MAKE, DEVICE = "From X-rays to a model", "On the device"
MAX_MEGAPIXELS = 67.108864  # images.MAX_PIXELS, whose module costs too much time to import for --help


app = typer.Typer(
    cls=OneLineErrors, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help=f"Labelled knee X-rays to a verified edge model. {DISCLAIMER}",
)  # fmt: skip

app.command(rich_help_panel=MAKE)(audit)
app.command(rich_help_panel=MAKE)(train)


def print_version(asked: bool) -> None:
    """What `--version` does."""
    if asked:
        typer.echo(f"kneeedge {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Options that stand before the command."""


@app.command(rich_help_panel=MAKE)
def export(
    run: Annotated[Path | None, typer.Argument(help="Run folder; runs/latest by default.")] = None,
    precision: Annotated[str, typer.Option(help="Which variants, separated by commas.")] = "fp32,fp16,int8",
    int8_target: Annotated[str, typer.Option(help="auto, x86, x86-no-vnni, arm or tensorrt.")] = "auto",
    calibration_images: Annotated[int, typer.Option(min=1, help="Training images that set the int8 ranges.")] = 256,
    tolerance: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Accuracy a variant may lose, as a share (default 0.01).")
    ] = None,
    search_minutes: Annotated[
        float, typer.Option(min=0.0, help="Time for the search of the int8 recipe; 0: minmax, all layers in 8 bits.")
    ] = 5.0,
    data: Annotated[Path | None, typer.Option(help="The data folder, where it has moved.")] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY.pem",
            help="Sign each published file: `openssl genpkey -algorithm ed25519 -out KEY.pem` makes the key, and "
            "`openssl pkey -in KEY.pem -pubout -out PUBLIC.pem` what a device gets of it.",
        ),
    ] = None,
    provider: Provider = "cpu",
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write ONNX files and hold each against the original on the validation images."""
    require_train("export")
    from export.run import ExportOptions, export_run
    from kneeedge.choose import latest_run
    from kneeedge.summaries import gate_text

    options = ExportOptions(
        tuple(name for name in precision.split(",") if name), int8_target, calibration_images, tolerance, provider,
        str(data) if data else None, search_minutes, str(sign) if sign else None,
    )  # fmt: skip
    report = export_run(run or latest_run(), options, Progress(quiet))
    show(gate_text(report), report, json)
    if report.failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=DEVICE)
def infer(
    paths: Annotated[list[Path], typer.Argument(help="Images, and folders that are searched for images.")],
    model: Model = None,
    provider: Provider = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    require_signature: RequireSignature = None,
    heatmaps: Annotated[Path | None, typer.Option(help="Write class activation maps below this folder.")] = None,
    answer_all: Annotated[
        bool, typer.Option("--answer-all", help="Answer images unlike the training images too; they stay `abstain`.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run: do only what is missing.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for new files and answer each once, when it is fully written.")
    ] = False,
    dicom_sr: Annotated[
        Path | None, typer.Option(help="Write a DICOM Structured Report of each DICOM image below this folder.")
    ] = None,
    with_patient_id: Annotated[
        bool, typer.Option("--with-patient-id", help="Let those reports name the patient, as the images do.")
    ] = False,
    dicom_window: Annotated[int, typer.Option(min=0, help="DICOM: which of several windows; the first is 0.")] = 0,
    max_megapixels: Annotated[
        float, typer.Option(min=0.0, help="Refuse larger images before they are decoded.")
    ] = MAX_MEGAPIXELS,
    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate", help="Decode in processes that may crash; by default for several images."
        ),
    ] = None,
    file_timeout: Annotated[
        float,
        typer.Option(min=0.1, max=1e5, help="Seconds for one file, where isolated; then it is a row with that error."),
    ] = 60.0,
    gpu_memory_gb: GpuMemory = None,
    tf32: Tf32 = False,
    cuda_graph: CudaGraph = True,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Answer every image of a folder; an unreadable one is a row with its reason, and the exit code is 1."""
    from dataclasses import replace

    from kneeedge.choose import choose_model
    from kneeedge.gpu import GpuOptions
    from kneeedge.images import find_images
    from kneeedge.infer import FolderOptions, Predictor, infer_folder
    from kneeedge.model_file import open_model
    from kneeedge.reading import Reading
    from kneeedge.summaries import infer_text

    progress = Progress(quiet)
    choice = choose_model(model, provider)
    listing = find_images(paths, least=0 if watch else 1)
    gpu = GpuOptions(tf32=tf32, memory_gb=gpu_memory_gb, cuda_graph=cuda_graph)
    file = open_model(choice.path, require_signature)
    predictor = Predictor(file, provider, threads, batch_size, answer_all, len(listing.images), gpu)
    pixel_path = replace(predictor.spec.pixel_path, dicom_window=dicom_window)
    apart = isolate if isolate is not None else watch or len(listing.images) > 1
    predictor.reading = Reading(pixel_path, round(max_megapixels * 1e6), apart, file_timeout)
    progress(f"model: {choice.path} ({choice.why}), provider {predictor.session.provider}")
    if predictor.session.notice:
        progress(predictor.session.notice)
    if watch:
        if resume or heatmaps or dicom_sr or json:
            raise ConfigError("--watch writes rows alone, and always goes on", "leave out the other options")
        watch_folders(predictor, paths, out, progress)
    options = FolderOptions(heatmaps, dicom_sr, with_patient_id, keep=json is not None, resume=resume)
    with stoppable():
        try:
            result = infer_folder(predictor, listing, out, progress, options)
        except KeyboardInterrupt:
            typer.echo(f"stopped; the rows so far are kept: the same command with --resume ends {out}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    show(infer_text(result), result, json)
    if result.summary.n_errors:
        raise typer.Exit(1)


def watch_folders(predictor: "Predictor", folders: list[Path], out: Path, progress: Progress) -> NoReturn:
    """Answer what comes, until Ctrl-C or SIGTERM."""
    from kneeedge.watch import Watch, watch

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


@app.command(rich_help_panel=DEVICE)
def evaluate(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    data: Annotated[Path, typer.Argument(help="Folder of CLASS/… or {train,val,test}/CLASS/…")],
    split: Annotated[str | None, typer.Option(help="Which split of DATA; test by default.")] = None,
    prevalence: Annotated[float | None, typer.Option(help="PPV and NPV at this prevalence too, as 0.15.")] = None,
    group_regex: Annotated[str | None, typer.Option(help="Finds the patient in a path, for the intervals.")] = None,
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    gpu_memory_gb: GpuMemory = None,
    tf32: Tf32 = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """How a model does on labelled images: report, confusion matrix, AUROC, each with a 95 % interval."""
    from kneeedge.evaluation import evaluate_model
    from kneeedge.gpu import GpuOptions
    from kneeedge.model_file import open_model
    from kneeedge.session import Session
    from kneeedge.summaries import evaluation_text

    progress = Progress(quiet)
    file = open_model(model, require_signature)
    session = Session(file, provider, threads, GpuOptions(tf32=tf32, memory_gb=gpu_memory_gb))
    if session.notice:
        progress(session.notice)
    result = evaluate_model(session, data, split, batch_size, progress, group_regex, prevalence)
    show(evaluation_text(result), result.as_record(), json)


@app.command(rich_help_panel=DEVICE)
def verify(
    models: Annotated[list[Path], typer.Argument(help="The .onnx files.")],
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    threads: Threads = None,
    cuda_graph: CudaGraph = True,
    json: Json = None,
) -> None:
    """Does this device give the answers that the file's golden inputs ask for?"""
    from kneeedge import machine
    from kneeedge.golden import verify as verify_session
    from kneeedge.gpu import GpuOptions
    from kneeedge.model_file import open_model
    from kneeedge.session import Session
    from kneeedge.summaries import golden_text

    reports = []
    for model in models:
        file = open_model(model, require_signature)
        session = Session(file, provider, threads, GpuOptions(cuda_graph=cuda_graph))
        if session.notice:
            Progress()(session.notice)
        reports.append(verify_session(session, file.sha256, machine.cpu_model(), machine.isa_flags()))
    show("\n".join(map(golden_text, reports)), reports, json)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


@app.command(rich_help_panel=DEVICE)
def info(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    card: Annotated[bool, typer.Option("--card", help="Print the model card that the file carries.")] = False,
    require_signature: RequireSignature = None,
    json: Json = None,
) -> None:
    """What a model file says of itself, and what can run it here."""
    from dataclasses import asdict

    from kneeedge.card import card_in
    from kneeedge.model_file import open_model
    from kneeedge.session import Session, available_providers
    from kneeedge.summaries import info_text

    session = Session(open_model(model, require_signature), "cpu")
    text = card_in(session) if card else info_text(session.spec, session.file, available_providers())
    show(text, {"model_sha256": session.file.sha256, **asdict(session.spec)}, json)


app.command(rich_help_panel=DEVICE)(bench)


@app.command(rich_help_panel=MAKE)
def demo(
    out: Annotated[Path, typer.Option(help="A folder that is not there yet.")] = Path("demo"),
    images: Annotated[int, typer.Option(min=40, help="Synthetic radiographs for each of train, val and test.")] = 400,
) -> None:
    """The whole job on synthetic radiographs: train, export, verify, infer, bench. Needs no data and no download."""
    require_train("demo")
    from kneeedge.demo import run_demo

    run_demo(app, out, images)


def main() -> None:
    """The `kneeedge` command."""
    app()


if __name__ == "__main__":
    main()
