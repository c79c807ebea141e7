"""`kneeedge infer`: folders to rows, once or as files come."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kneeedge.cli.checks import new_folder
from kneeedge.cli.console import (
    AlarmCommand,
    AnswerAll,
    BatchSize,
    CudaGraph,
    DicomWindow,
    Drift,
    GpuMemory,
    GreyBits,
    Json,
    Model,
    Provider,
    Quiet,
    RequireSignature,
    Tf32,
    Threads,
    completes,
    show,
    stopped,
)
from kneeedge.cli.exit_codes import DONE_WITH_FAULTS
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import DOCUMENT, STDOUT, check_output
from kneeedge.system.plural import counted
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from kneeedge.cluster.request import RayRequest
    from kneeedge.inference.request import InferRequest
    from kneeedge.inference.summary import FolderResult
    from kneeedge.node.studies import StudyRequest
    from kneeedge.runs.choose import Choice

LOCAL, RAY = ENGINES = ("local", "ray")
"what `--engine` takes"
MOST_WORKERS = 65_536
"of a cluster"


def known_engine(name: str) -> str:
    """The engine's name, of an option; raises ConfigError where there is no such engine."""
    if name not in ENGINES:
        raise ConfigError(f"--engine {name} is unknown", f"choose from {', '.join(ENGINES)}")
    return name


def infer(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATHS]...",
            help="Images, and folders that are searched for images; with --engine ray also s3://….",
        ),
    ] = None,
    model: Model = None,
    provider: Provider = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    out: Annotated[Path, typer.Option(help="The CSV file to write; - for stdout.")] = Path(
        "predictions.csv"
    ),
    require_signature: RequireSignature = None,
    heatmaps: Annotated[
        Path | None,
        typer.Option(callback=new_folder, help="Write class activation maps below this folder."),
    ] = None,
    answer_all: AnswerAll = False,
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
    new_only: Annotated[
        bool,
        typer.Option(
            "--new-only", help="Add the rows that the output lacks, as of new and changed files."
        ),
    ] = False,
    dicom_sr: Annotated[
        Path | None,
        typer.Option(
            callback=new_folder,
            help="Write a DICOM Structured Report of each DICOM image below this folder.",
        ),
    ] = None,
    with_patient_id: Annotated[
        bool,
        typer.Option(
            "--with-patient-id",
            help="Let the rows of DICOM images, and the reports, say who the patient is.",
        ),
    ] = False,
    dicomweb: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Answer studies of this DICOMweb archive, and store a report of each image there.",
        ),
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="UID", help="A study of the archive; may be given several times."),
    ] = None,
    drift: Drift = None,
    alarm_command: AlarmCommand = None,
    dicom_window: DicomWindow = 0,
    grey_bits: GreyBits = None,
    max_megapixels: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1e5, help="Refuse larger images before they are decoded; 67 by default."
        ),
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
    engine: Annotated[
        str,
        typer.Option(
            callback=known_engine,
            autocompletion=completes(*ENGINES),
            help="local: this machine. ray: a cluster, by Ray Data; one network a CPU or GPU.",
        ),
    ] = LOCAL,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The cluster's head, or auto; by default one of our own."
        ),
    ] = None,
    ray_workers: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_WORKERS, help="Networks at once, of one a CPU or GPU."),
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Answer every image of a folder; an unreadable one is a row with its reason, and the exit code
    is 3.
    """
    from kneeedge.inference.drift_log import drift_options
    from kneeedge.inference.folder import FolderOptions
    from kneeedge.inference.request import InferRequest
    from kneeedge.pixels.picture import MAX_PIXELS
    from kneeedge.report.inference import infer_text
    from kneeedge.runs.choose import choose_model
    from kneeedge.runtime.cuda import GpuOptions
    from kneeedge.system.strict_json import to_json

    options = FolderOptions(
        heatmaps=heatmaps,
        dicom_sr=dicom_sr,
        with_patient_id=with_patient_id,
        keep=json is not None,
        resume=resume,
        drift=drift_options(drift, alarm_command),
    )
    sources = paths or []
    local_paths = tuple(map(Path, sources if engine == LOCAL else ()))
    request = InferRequest(
        paths=local_paths,
        out=out,
        provider=provider,
        threads=threads,
        batch_size=batch_size,
        gpu=GpuOptions(tf32=tf32, memory_gb=gpu_memory_gb, cuda_graph=cuda_graph),
        public_key=require_signature,
        answer_all=answer_all,
        dicom_window=dicom_window,
        grey_bits=grey_bits,
        max_pixels=MAX_PIXELS if max_megapixels is None else round(max_megapixels * 1e6),
        isolate=isolate,
        file_timeout=file_timeout,
        watch=watch,
        new_only=new_only,
        options=options,
    )
    if out == STDOUT == json:
        raise ConfigError("--out and --json both go to stdout", "name a file for one of them")
    check_output(json, DOCUMENT, local_paths)
    archive = study_request(request, dicomweb, study or ())
    on_ray = ray_request(engine, sources, request, ray_address, ray_workers)
    if archive and (on_ray or sources):
        raise ConfigError("--dicomweb excludes paths and --engine ray", "leave out one of them")
    if not (archive or sources):
        remedy = "name images or folders, or --dicomweb URL and --study UID"
        raise ConfigError("there is nothing to answer", remedy)
    progress = Progress(quiet)
    choice = choose_model(model, provider)
    if watch:
        watch_folders(request, choice, progress)
    try:
        result = answered(on_ray or archive or request, choice, progress)
    except KeyboardInterrupt:
        raise stopped(stopped_text(request)) from None
    if out == STDOUT:
        typer.echo(infer_text(result), err=True)
        if json:
            write_text(json, to_json(stamped("infer", result)) + "\n")
    else:
        show(infer_text(result), stamped("infer", result), json, (out, heatmaps, dicom_sr, drift))
    if result.summary.n_errors:
        raise typer.Exit(DONE_WITH_FAULTS)


def ray_request(
    engine: str, sources: Sequence[str], request: "InferRequest", address: str | None, n: int | None
) -> "RayRequest | None":
    """What Ray is asked for; None where this machine works alone.

    Raises ConfigError for what only the other of the two engines does.
    """
    if engine == RAY:
        from kneeedge.cluster.request import RayRequest

        return RayRequest(sources=tuple(sources), infer=request, address=address, workers=n)
    far = [source for source in sources if "://" in source and not Path(source).exists()]
    only_ray = {
        "--ray-address": address,
        "--ray-workers": n,
        "Parquet": request.out.suffix.lower() == ".parquet",
        **dict.fromkeys(far, True),
    }
    for what, is_asked in only_ray.items():
        if is_asked:
            raise ConfigError(f"{what} is for --engine ray", "give that too, or leave it out")
    return None


def study_request(
    request: "InferRequest", url: str | None, uids: Sequence[str]
) -> "StudyRequest | None":
    """What a DICOMweb archive is asked for; None where there is none. Raises ConfigError."""
    if url is None:
        if uids:
            raise ConfigError("--study is of no archive", "name it with --dicomweb URL")
        return None
    from kneeedge.node.studies import StudyRequest

    return StudyRequest(url, tuple(dict.fromkeys(uids)), request)


def answered(
    request: "InferRequest | RayRequest | StudyRequest", choice: "Choice", progress: Progress
) -> "FolderResult":
    """What became of the run, by the engine that the request is for."""
    from kneeedge.inference.request import InferRequest, infer_request

    if isinstance(request, InferRequest):
        return infer_request(request, choice.path, choice.why, progress)
    from kneeedge.node.studies import StudyRequest, infer_studies

    if isinstance(request, StudyRequest):
        return infer_studies(request, choice.path, choice.why, progress)
    from kneeedge.cluster.run import infer_on_ray
    from kneeedge.model.file import open_model

    model = open_model(choice.path, request.infer.public_key)
    return infer_on_ray(request, model, choice.why, progress)


def stopped_text(request: "InferRequest") -> str:
    """What became of the rows of a run that was stopped, and how to go on."""
    from kneeedge.inference.journal import has_rows

    if request.out == STDOUT:
        return "stopped; the rows so far went to stdout"
    if request.new_only:
        return f"stopped; {request.out} is whole, and the same command goes on"
    state = "the rows so far are kept" if has_rows(request.out) else "there are no rows yet"
    return f"stopped; {state}: the same command with --resume ends {request.out}"


def watch_folders(request: "InferRequest", choice: "Choice", progress: Progress) -> NoReturn:
    """Answer what comes, until Ctrl-C or SIGTERM."""
    from kneeedge.inference.request import open_watch
    from kneeedge.inference.watch import watch

    watching = open_watch(request, choice.path, choice.why, progress)
    folders = ", ".join(map(str, request.paths))
    n_answered = len(watching.done)
    progress(
        f"watching {folders}; {counted(n_answered, 'image')} in {request.out}; stop with Ctrl-C"
    )
    try:
        watch(watching)
    except KeyboardInterrupt:
        message = f"stopped; {request.out} is whole, and the same command goes on"
    finally:
        watching.close()
    raise stopped(message)
