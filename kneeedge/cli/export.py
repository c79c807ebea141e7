"""`kneeedge export`: a run to ONNX files, each held against the original."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import new_folder
from kneeedge.cli.console import Data, Json, Provider, Quiet, completes, require_train, show
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.system.progress import Progress

SIGN_HELP = (
    "Sign each published file: `openssl genpkey -algorithm ed25519 -out KEY.pem` makes the key, "
    "and `openssl pkey -in KEY.pem -pubout -out PUBLIC.pem` what a device gets of it."
)
SEARCH_HELP = "Time for the search of the int8 recipe; 0: minmax, all layers in 8 bits."
STRESS_HELP = (
    "Hold them against the original on images corrupted in 18 ways too: 19 times as many answers."
)
STRESS_TOLERANCE_HELP = "Accuracy a variant may lose under any of these (default 0.01)."
GATE_DATA_HELP = (
    "More images for the verdict, in class folders or without labels: what training has seen, "
    "and the run's test images, are left out."
)
TOLERANCE_HELP = (
    "Accuracy a variant may lose, and images it may refuse more, as a share (default 0.01)."
)


def export(
    run: Annotated[Path | None, typer.Argument(help="Run folder; runs/latest by default.")] = None,
    precision: Annotated[
        str,
        typer.Option(
            autocompletion=completes("fp32", "fp16", "int8"),
            help="Which variants, separated by commas.",
        ),
    ] = "fp32,fp16,int8",
    int8_target: Annotated[
        str,
        typer.Option(
            autocompletion=completes("any", "vnni", "arm", "tensorrt"),
            help="any CPU, x86 with vnni, arm or tensorrt.",
        ),
    ] = "any",
    calibration_images: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Training images that set the int8 ranges.")
    ] = 256,
    tolerance: Annotated[float | None, typer.Option(min=0.0, max=1.0, help=TOLERANCE_HELP)] = None,
    stress: Annotated[bool, typer.Option("--stress", help=STRESS_HELP)] = False,
    stress_tolerance: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help=STRESS_TOLERANCE_HELP)
    ] = None,
    search_minutes: Annotated[float, typer.Option(min=0.0, max=1e5, help=SEARCH_HELP)] = 5.0,
    any_size: Annotated[
        bool,
        typer.Option(
            "--any-size", help="Write files too that resize pictures of any size themselves."
        ),
    ] = False,
    data: Data = None,
    gate_data: Annotated[Path | None, typer.Option(metavar="FOLDER", help=GATE_DATA_HELP)] = None,
    sign: Annotated[Path | None, typer.Option(metavar="KEY.pem", help=SIGN_HELP)] = None,
    provider: Provider = "cpu",
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="REPOSITORY",
            callback=new_folder,
            help="Then write the file that passed, int8 if it did, for Triton: `kneeedge triton`.",
        ),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write ONNX files and hold each against the original on the validation images."""
    require_train("export")
    from export.options import ExportOptions
    from export.run import export_run
    from kneeedge.model.file import open_model
    from kneeedge.report.export import gate_text
    from kneeedge.runs.choose import choose_of_run
    from kneeedge.runs.folder import Run
    from kneeedge.runs.latest import latest_run
    from kneeedge.system.folders import check_folder
    from kneeedge.triton.config import ServerOptions
    from kneeedge.triton.repository import REPOSITORY, write_repository
    from kneeedge.triton.wording import start_command

    options = ExportOptions(
        precisions=tuple(name for name in precision.split(",") if name),
        int8_target=int8_target,
        n_calibration=calibration_images,
        tolerance=tolerance,
        provider=provider,
        data=str(data) if data else None,
        gate_data=str(gate_data) if gate_data else None,
        search_minutes=search_minutes,
        any_size=any_size,
        sign=str(sign) if sign else None,
        stress=stress,
        stress_tolerance=stress_tolerance,
    )
    progress = Progress(quiet)
    if triton:
        check_folder(triton, REPOSITORY)
    folder = run or latest_run()
    report = export_run(folder, options, progress)
    models = Run(folder).models
    then = f"kneeedge verify {models}/*.onnx, on the device"
    if report.failed:
        then = f"`kneeedge bench --run {folder}`, or --precision without what failed"
    show(gate_text(report), stamped("export", report), json, (models,), then)
    if triton:
        passed = open_model(choose_of_run(Run(folder), "cpu").path)
        repository = write_repository(passed, triton, ServerOptions(), progress)
        progress(f"wrote: {triton}, of {passed.path}; next: {start_command(repository)}")
    if report.failed:
        raise typer.Exit(DONE_WITH_FAULTS)
