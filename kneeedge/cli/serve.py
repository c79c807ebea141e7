"""`kneeedge serve`: answers for other machines, by the protocol that they speak."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kneeedge.cli.checks import new_folder
from kneeedge.cli.console import (
    AlarmCommand,
    AnswerAll,
    DicomWindow,
    Drift,
    GreyBits,
    Model,
    Provider,
    Quiet,
    RequireSignature,
    Threads,
    stopped,
)
from kneeedge.system.progress import Progress

if TYPE_CHECKING:
    from kneeedge.node.run import Node

TLS = "TLS"
LIMITS = "Limits"


def serve(
    dicom: Annotated[
        bool, typer.Option("--dicom", help="A DICOM node: C-STORE and C-ECHO in, reports out.")
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            callback=new_folder,
            help="The folder of predictions.csv, of objects that wait, and of reports.",
        ),
    ] = Path("node"),
    model: Model = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The port to listen on; 0: any free one.")
    ] = 11_112,
    ae_title: Annotated[
        str, typer.Option(help="The node's AE title, by which it must be called.")
    ] = "KNEEEDGE",
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="AET[@ADDRESS]", help="Who may send; may be given several times."),
    ] = None,
    any_peer: Annotated[
        bool, typer.Option("--any-peer", help="Whoever reaches the address may send.")
    ] = False,
    send_to: Annotated[
        str | None,
        typer.Option(
            metavar="AET@HOST:PORT",
            help="Send a Structured Report of each answer there; else they stay in the folder.",
        ),
    ] = None,
    heatmaps: Annotated[
        bool,
        typer.Option(
            "--heatmaps", help="Also a Secondary Capture of each answer's class activation map."
        ),
    ] = False,
    with_patient_id: Annotated[
        bool,
        typer.Option(
            "--with-patient-id",
            help="Let rows, reports and captures say who the patient is, as an archive needs it.",
        ),
    ] = False,
    answer_all: AnswerAll = False,
    drift: Drift = None,
    alarm_command: AlarmCommand = None,
    provider: Provider = "auto",
    threads: Threads = None,
    grey_bits: GreyBits = None,
    dicom_window: DicomWindow = 0,
    require_signature: RequireSignature = None,
    max_queue: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, rich_help_panel=LIMITS, help="Objects that may wait; then A700."
        ),
    ] = 1000,
    max_object_mb: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=2000,
            rich_help_panel=LIMITS,
            help="A larger object ends its association.",
        ),
    ] = 64.0,
    max_rate: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, rich_help_panel=LIMITS, help="Objects a minute from an address."
        ),
    ] = 600,
    max_associations: Annotated[
        int, typer.Option(min=1, max=1000, rich_help_panel=LIMITS, help="Associations at once.")
    ] = 8,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1, max=3600, rich_help_panel=LIMITS, help="Seconds that a peer may be silent."
        ),
    ] = 30.0,
    tls_cert: Annotated[
        Path | None,
        typer.Option(rich_help_panel=TLS, help="The node's certificate; senders must speak TLS."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(rich_help_panel=TLS, help="Its key, where it is another file.")
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(rich_help_panel=TLS, help="Who must have signed the others' certificates."),
    ] = None,
    send_tls: Annotated[
        bool,
        typer.Option("--send-tls", rich_help_panel=TLS, help="The destination speaks TLS too."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Answer what other machines send, until Ctrl-C; each object once, whatever stops in between.

    Its one protocol is `--dicom`. Research use only.
    """
    from kneeedge.errors import ConfigError
    from kneeedge.inference.drift_log import drift_options
    from kneeedge.inference.request import InferRequest, open_predictor, say_model
    from kneeedge.node.options import Limits, NodeOptions, Tls, destination_of, peer_of
    from kneeedge.node.run import Node, require_pynetdicom
    from kneeedge.runs.choose import choose_model

    if not dicom:
        raise ConfigError("there is nothing to serve", "say which protocol: --dicom")
    options = NodeOptions(
        folder=out,
        ae_title=ae_title,
        host=host,
        port=port,
        peers=tuple(map(peer_of, peer or ())),
        any_peer=any_peer,
        destination=destination_of(send_to) if send_to else None,
        captures=heatmaps,
        with_patient_id=with_patient_id,
        drift=drift_options(drift, alarm_command),
        limits=Limits(
            max_queue=max_queue,
            max_object_mb=max_object_mb,
            max_associations=max_associations,
            max_rate=max_rate,
            timeout=timeout,
        ),
        tls=Tls(tls_cert, tls_key, tls_ca, send_tls),
    )
    require_pynetdicom()
    progress = Progress(quiet)
    choice = choose_model(model, provider)
    request = InferRequest(
        paths=(),
        out=out,
        provider=provider,
        threads=threads,
        batch_size=1,
        public_key=require_signature,
        answer_all=answer_all,
        dicom_window=dicom_window,
        grey_bits=grey_bits,
        isolate=True,
    )
    predictor = open_predictor(request, choice.path, n_images=1)
    say_model(predictor, choice.why, progress)
    run_node(Node(predictor, options, progress), progress)


def run_node(node: "Node", progress: Progress) -> NoReturn:
    """Answer until Ctrl-C or SIGTERM."""
    progress(f"{node}; stop with Ctrl-C")
    try:
        node.run()
    except KeyboardInterrupt:
        message = f"stopped; {node.spool.rows} is whole, and the same command goes on"
    raise stopped(message)
