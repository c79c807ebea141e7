"""`kneeedge verify`: a device beside the machine that exported."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.console import (
    CudaGraph,
    Json,
    Provider,
    Quiet,
    RequireSignature,
    Threads,
    show,
)
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.system.progress import Progress


def verify(
    models: Annotated[list[Path], typer.Argument(help="The .onnx files.")],
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    threads: Threads = None,
    cuda_graph: CudaGraph = True,
    json: Json = None,
    quiet: Quiet = False,
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
    progress = Progress(quiet)
    reports = []
    for model in models:
        file = open_model(model, require_signature)
        session = Session(file, provider, threads, GpuOptions(cuda_graph=cuda_graph))
        if session.notice:
            progress(session.notice)
        reports.append(verify_session(session, file.sha256, cpu, isa))
    passed = all(report.passed for report in reports)
    then = f"kneeedge infer PATHS --model {models[0]}"
    if not passed:
        then = "another --provider, or the file of another precision"
    show(verify_text(reports), stamped("verify", reports), json, then=then)
    if not passed:
        raise typer.Exit(DONE_WITH_FAULTS)
