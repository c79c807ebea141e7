"""The command line: parse, one library call, print. Reports go to stdout, progress and errors to stderr."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge import __version__
from kneeedge.cli_audit import audit
from kneeedge.cli_bench import bench
from kneeedge.cli_infer import infer
from kneeedge.cli_slim import slim
from kneeedge.cli_train import train
from kneeedge.console import (
    BatchSize,
    CudaGraph,
    GpuMemory,
    Json,
    OneLineErrors,
    Provider,
    Quiet,
    RequireSignature,
    Tf32,
    Threads,
    require_train,
    show,
)
from kneeedge.progress import Progress
from kneeedge.spec import DISCLAIMER

MAKE, DEVICE = "From X-rays to a model", "On the device"


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


app.command(rich_help_panel=MAKE)(slim)
app.command(rich_help_panel=DEVICE)(infer)


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
