"""`kneeedge certify`: limits between which a person answers, for a promise on the others."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import new_file
from kneeedge.cli.console import BatchSize, Json, Provider, Quiet, RequireSignature, Threads, show
from kneeedge.cli.json_format import stamped
from kneeedge.system.progress import Progress

PREVALENCE_HELP = "Share of the positive class where it will be used; by default as in DATA."
LEAST, MOST = 1e-6, 1 - 1e-6


def certify(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    data: Annotated[
        Path,
        typer.Argument(help="Folder of CLASS/… or {train,val,test}/CLASS/…, or CSV path,label."),
    ],
    ppv: Annotated[
        float, typer.Option(min=LEAST, max=MOST, help="Share of positive answers to be right.")
    ],
    npv: Annotated[
        float, typer.Option(min=LEAST, max=MOST, help="Share of negative answers to be right.")
    ],
    out: Annotated[
        Path, typer.Option(callback=new_file, help="The new .onnx file, with the limits in it.")
    ],
    confidence: Annotated[
        float, typer.Option(min=LEAST, max=MOST, help="That both are kept, on other images.")
    ] = 0.95,
    prevalence: Annotated[
        float | None, typer.Option(min=LEAST, max=MOST, help=PREVALENCE_HELP)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which split of DATA; val by default, else test.")
    ] = None,
    group_regex: Annotated[
        str | None, typer.Option(help="Finds the patient in a path below CLASS.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY.pem", help="Sign the new file with this key.")
    ] = None,
    require_signature: RequireSignature = None,
    provider: Provider = "auto",
    batch_size: BatchSize = None,
    threads: Threads = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Find limits between which a person is to answer, so that the other answers keep a promise."""
    from kneeedge.inference.certification import CertifyRequest, certify_model
    from kneeedge.model.certify import Promise
    from kneeedge.report.certification import certification_text

    request = CertifyRequest(
        model=model,
        data=data,
        out=out,
        promise=Promise(ppv=ppv, npv=npv, confidence=confidence),
        prevalence=prevalence,
        split=split,
        group_regex=group_regex,
        provider=provider,
        threads=threads,
        batch_size=batch_size,
        public_key=require_signature,
        sign=sign,
    )
    report = certify_model(request, Progress(quiet))
    then = f"kneeedge evaluate {out} DATA"
    show(certification_text(report), stamped("certify", report), json, (out,), then)
