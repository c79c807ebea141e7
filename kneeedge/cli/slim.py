"""`kneeedge slim`: one option for each field of SlimConfig."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import new_folder, run_folder
from kneeedge.cli.console import Data, Json, Quiet, Seed, Threads, require_train, show, stopped
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.export import GATE_DATA_HELP, STRESS_HELP, STRESS_TOLERANCE_HELP
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError
from kneeedge.system.progress import Progress

OPTIONS = (
    "run", "curve", "out",
    "tolerance", "stress", "stress_tolerance", "data", "gate_data", "epochs", "threads", "seed",
)  # fmt: skip
"what --resume takes from the stopped run"


def slim(
    ctx: typer.Context,
    run: Annotated[
        Path | None, typer.Argument(help="Run folder of the original; runs/latest by default.")
    ] = None,
    speedup: Annotated[
        float | None,
        typer.Option(
            min=1.0, max=1e6, help="Times as fast as the original's own int8 file, measured here."
        ),
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1e6, help="Latency of one image in int8, measured on this machine."
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="As fast as with this share of every layer's channels, as 0.5."
        ),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Go through four widths and draw accuracy against latency."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(callback=new_folder, help="Folder of the new run; RUN-slim by default."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this stopped slim run, by its choices; a goal that was out of reach "
            "may be given anew."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Accuracy it may lose, as a share (default 0.01)."),
    ] = None,
    stress: Annotated[bool, typer.Option("--stress", help=STRESS_HELP)] = False,
    stress_tolerance: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help=STRESS_TOLERANCE_HELP)
    ] = None,
    data: Data = None,
    gate_data: Annotated[Path | None, typer.Option(metavar="FOLDER", help=GATE_DATA_HELP)] = None,
    epochs: Annotated[
        int, typer.Option(min=1, max=10_000, help="Epochs of distillation for each width.")
    ] = 10,
    threads: Threads = None,
    seed: Seed = 0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Narrow a trained run under the gate; without a goal, to the fastest network that passes.

    The goal is --speedup, --max-latency-ms or --keep.
    """
    require_train("slim")
    from kneeedge.report.training import slim_text
    from kneeedge.runs.folder import Run
    from kneeedge.runs.latest import latest_run
    from kneeedge.runs.slim_report import Goal, SlimConfig
    from kneeedge.slim.run import resume_slim
    from kneeedge.slim.run import slim as slim_run

    progress = Progress(quiet)
    command = ["kneeedge", *sys.argv[1:]]
    if resume is not None:
        if any(is_given(ctx, name) for name in OPTIONS):
            problem = "--resume takes its choices from the stopped run"
            raise ConfigError(problem, "leave out RUN and all other options but a goal")
        has_goal = any(goal is not None for goal in (speedup, max_latency_ms, keep))
        goal = Goal(speedup=speedup, max_latency_ms=max_latency_ms, keep=keep) if has_goal else None
        folder = resume
        job = partial(resume_slim, resume, command, progress, goal)
    else:
        original = run or latest_run()
        if original.is_symlink():  # `latest` is going to name another run
            original = original.parent / original.resolve().name
        folder = run_folder(out or original.parent / f"{original.name}-slim")
        config = SlimConfig(
            original=str(original),
            speedup=speedup,
            max_latency_ms=max_latency_ms,
            keep=keep,
            curve=curve,
            data=str(data) if data else None,
            gate_data=str(gate_data) if gate_data else None,
            tolerance=tolerance,
            stress=stress,
            stress_tolerance=stress_tolerance,
            threads=threads,
            epochs=epochs,
            seed=seed,
        )
        job = partial(slim_run, config, folder, command, progress)
    try:
        report = job()
    except KeyboardInterrupt:
        message = "stopped"
        if Run(folder).slim.is_file():
            message = f"stopped; go on with `kneeedge slim --resume {folder}`"
        raise stopped(message) from None
    show(slim_text(report, folder), stamped("slim", report), json)
    if report.failed:
        raise typer.Exit(DONE_WITH_FAULTS)


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether the user wrote the option, rather than its default standing in."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
