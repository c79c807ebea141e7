"""`kneeedge verify`: a device beside the machine that exported, and beside another device."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneeedge.cli.checks import known_provider
from kneeedge.cli.console import (
    PROVIDER_NAMES,
    CudaGraph,
    GreyBits,
    GroupRegex,
    Json,
    Provider,
    Quiet,
    RequireSignature,
    Threads,
    completes,
    show,
)
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from kneeedge.inference.verification import VerifyRequest

DATA_HELP = "Answer these images too: what `infer` reads, or labelled ones as `evaluate` takes."
AGAINST_HELP = "Pair the answers with those of this .onnx file, or with the --rows of a device."


def cpu_names(incomplete: str) -> list[str]:
    """What completes `--emulate` in the shell."""
    from kneeedge.runtime.emulated_cpus import NAMES

    return completes(*NAMES)(incomplete)


def other_provider(name: str | None) -> str | None:
    """The provider's name, or None where no other one is asked for."""
    return None if name is None else known_provider(name)


def verify(
    models: Annotated[list[Path], typer.Argument(help="The .onnx files.")],
    data: Annotated[Path | None, typer.Option(help=DATA_HELP)] = None,
    split: Annotated[
        str | None, typer.Option(help="Which split of labelled images; test by default.")
    ] = None,
    group_regex: GroupRegex = None,
    against: Annotated[Path | None, typer.Option(help=AGAINST_HELP)] = None,
    against_provider: Annotated[
        str | None,
        typer.Option(
            callback=other_provider,
            autocompletion=PROVIDER_NAMES,
            help="Where the other file runs; without --against the same file.",
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="Write the answers, .csv or .json, for --against on another device."),
    ] = None,
    grey_bits: GreyBits = None,
    isolate: Annotated[
        bool,
        typer.Option(help="Decode several images in processes that may crash."),
    ] = True,
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    threads: Threads = None,
    cuda_graph: CudaGraph = True,
    emulate: Annotated[
        str | None,
        typer.Option(
            metavar="CPU,CPU,…",
            autocompletion=cpu_names,
            help="Not on this CPU but on those that qemu emulates: haswell, cortex-a72, …",
        ),
    ] = None,
    emulation_root: Annotated[
        Path | None,
        typer.Option(
            envvar="KNEEEDGE_EMULATION_ROOT",
            metavar="FOLDER",
            help="For Arm CPUs, made by `python -m kneeedge.runtime.arm64_root FOLDER`.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1.0, max=1e6, help="Seconds for a file on an emulated CPU.")
    ] = 3600.0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Does this device give the answers that the file's golden inputs ask for, and on your images
    those of another file or device?
    """
    from kneeedge.inference.verification import VerifyRequest, verify_models
    from kneeedge.report.verification import verify_text
    from kneeedge.runtime.cuda import GpuOptions

    request = VerifyRequest(
        models=tuple(models),
        data=data,
        split=split,
        group_regex=group_regex,
        against=against,
        against_provider=against_provider,
        rows=rows,
        provider=provider,
        threads=threads,
        gpu=GpuOptions(cuda_graph=cuda_graph),
        public_key=require_signature,
        grey_bits=grey_bits,
        isolate=isolate,
    )
    if emulate is not None:
        verify_emulated(request, emulate, emulation_root, timeout, json, Progress(quiet))
        return
    reports = verify_models(request, Progress(quiet))
    failed = any(report.failed for report in reports)
    then = f"kneeedge infer PATHS --model {models[0]}"
    if failed:
        then = "another --provider, or the file of another precision"
    show(verify_text(reports), stamped("verify", reports), json, (rows,), then)
    if failed:
        raise typer.Exit(DONE_WITH_FAULTS)


def verify_emulated(
    request: "VerifyRequest",
    cpus: str,
    root: Path | None,
    timeout_s: float,
    json: Path | None,
    progress: Progress,
) -> None:
    """The same on emulated CPUs: a row for each file on each of them."""
    from kneeedge.inference.emulation import EmulationRequest, emulate
    from kneeedge.report.emulation import emulation_report
    from kneeedge.runtime.emulated_cpus import emulated_cpus

    wanted = EmulationRequest(request, emulated_cpus(cpus), root, timeout_s)
    reports = emulate(wanted, progress)
    wrote = [request.rows] if any(report.answers for report in reports) else []
    show(emulation_report(reports), stamped("verify-emulate", reports), json, wrote)
    if not all(report.passed for report in reports):
        raise typer.Exit(DONE_WITH_FAULTS)
