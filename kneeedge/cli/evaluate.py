"""`kneeedge evaluate`: how a model does on labelled images."""

from pathlib import Path
from typing import Annotated

import typer

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
from kneeedge.system.progress import Progress


def evaluate(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    data: Annotated[
        Path,
        typer.Argument(help="Folder of CLASS/… or {train,val,test}/CLASS/…, or CSV path,label."),
    ],
    split: Annotated[str | None, typer.Option(help="Which split of DATA; test by default.")] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1 - 1e-6, help="PPV and NPV at this prevalence too, as 0.15."),
    ] = None,
    group_regex: GroupRegex = None,
    joint: Annotated[
        bool,
        typer.Option(
            "--joint",
            help="Answer the images without their joint too, and say where the class maps lie.",
        ),
    ] = False,
    grey_bits: GreyBits = None,
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    gpu_memory_gb: GpuMemory = None,
    tf32: Tf32 = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """How a model does on labelled images: report, confusion matrix, AUROC, each with a 95 %
    interval.
    """
    from kneeedge.inference.evaluation import evaluate_model, read_with_depth
    from kneeedge.model.file import open_model
    from kneeedge.report.scorecard import evaluation_text
    from kneeedge.runtime.cuda import GpuOptions
    from kneeedge.runtime.session import Session

    progress = Progress(quiet)
    file = open_model(model, require_signature)
    session = Session(file, provider, threads, GpuOptions(tf32=tf32, memory_gb=gpu_memory_gb))
    if session.notice:
        progress(session.notice)
    read_with_depth(session, grey_bits)
    report = evaluate_model(session, data, split, batch_size, progress, group_regex, prevalence)
    record = report.as_record()
    text = evaluation_text(report)
    kept = ""
    if joint:
        from kneeedge.inference.joint import joint_report
        from kneeedge.report.card import add_joint
        from kneeedge.report.joint import joint_text

        looked = joint_report(session, data, split, batch_size, progress, group_regex)
        record["joint"] = looked
        text += f"\n\n{joint_text(looked)}"
        kept = add_joint(model, looked)
    then = f"kneeedge infer PATHS --model {model}"
    show(text, stamped("evaluate", record), json, then=then)
    if kept:
        progress(kept)
