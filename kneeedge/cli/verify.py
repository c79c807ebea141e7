"""`kneeedge verify`: a device beside the machine that exported."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.console import CudaGraph, Json, Provider, RequireSignature, Threads, show
from kneeedge.system.progress import Progress


def verify(
    models: Annotated[list[Path], typer.Argument(help="The .onnx files.")],
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    threads: Threads = None,
    cuda_graph: CudaGraph = True,
    json: Json = None,
) -> None:
    """Does this device give the answers that the file's golden inputs ask for?"""
    from kneeedge.model.file import open_model
    from kneeedge.report.inference import verify_text
    from kneeedge.runtime.cuda import GpuOptions
    from kneeedge.runtime.golden import verify as verify_session
    from kneeedge.runtime.session import Session
    from kneeedge.system import machine

    cpu = machine.cpu_model()
    isa = machine.isa_flags()
    reports = []
    for model in models:
        file = open_model(model, require_signature)
        session = Session(file, provider, threads, GpuOptions(cuda_graph=cuda_graph))
        if session.notice:
            Progress()(session.notice)
        reports.append(verify_session(session, file.sha256, cpu, isa))
    show(verify_text(reports), reports, json)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)
