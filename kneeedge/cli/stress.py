"""`kneeedge stress`: when a model breaks, by kinds and severities of worse images."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import new_file
from kneeedge.cli.console import (
    BatchSize,
    GpuMemory,
    GreyBits,
    GroupRegex,
    Json,
    Provider,
    Quiet,
    RequireSignature,
    Tf32,
    Threads,
    show,
)
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import DOCUMENT, FIGURE, SHEET, check_outputs
from kneeedge.system.progress import Progress


def stress(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL… DATA",
            help="The .onnx files, the original first, and then the labelled images.",
        ),
    ],
    kinds: Annotated[
        str, typer.Option(help="Which kinds, separated by commas, as noise,blur; all by default.")
    ] = "",
    severities: Annotated[
        str, typer.Option(help="Which of 1 to 5, separated by commas; all by default.")
    ] = "",
    split: Annotated[str | None, typer.Option(help="Which split of DATA; test by default.")] = None,
    group_regex: GroupRegex = None,
    grey_bits: GreyBits = None,
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    gpu_memory_gb: GpuMemory = None,
    tf32: Tf32 = False,
    json: Json = None,
    markdown: Annotated[
        Path | None, typer.Option(callback=new_file, help="Write the tables as Markdown.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(callback=new_file, help="Draw accuracy by severity, as .png, .svg or .pdf."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """When it breaks: models on labelled images that are made worse, by kind and severity.

    Each further model is held against the first.
    """
    *models, data = paths
    if not models:
        remedy = "give one or more .onnx files, and then the labelled images"
        raise ConfigError(f"{data} stands alone", remedy)
    check_outputs([(out, FIGURE), (markdown, SHEET), (json, DOCUMENT)], models)
    from kneeedge.pixels.corruptions import parse_kinds
    from kneeedge.report.card import add_stress
    from kneeedge.report.stress import stress_markdown, stress_text
    from kneeedge.runtime.cuda import GpuOptions
    from kneeedge.stress.answers import BATCH
    from kneeedge.stress.figure import check_figure, draw_stress
    from kneeedge.stress.run import StressRequest
    from kneeedge.stress.run import stress as run_stress

    if out:
        check_figure(out)
    request = StressRequest(
        models=tuple(models),
        data=data,
        kinds=parse_kinds(kinds, "--kinds"),
        severities=parse_severities(severities),
        split=split,
        group_regex=group_regex,
        grey_bits=grey_bits,
        provider=provider,
        threads=threads,
        batch_size=batch_size or BATCH,
        gpu=GpuOptions(tf32=tf32, memory_gb=gpu_memory_gb),
        public_key=require_signature,
    )
    progress = Progress(quiet)
    report = run_stress(request, progress)
    if out:
        draw_stress(report, out)
    if markdown:
        write_text(markdown, stress_markdown(report))
    show(stress_text(report), stamped("stress", report), json, (out, markdown))
    kept = add_stress(models[0], report)
    if kept:
        progress(kept)


def parse_severities(text: str) -> tuple[int, ...]:
    """1,3,5 as numbers; raises ConfigError where one is none."""
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        problem = f"--severities {text!r} holds what is no number"
        raise ConfigError(problem, "give some of 1,2,3,4,5, separated by commas") from None
