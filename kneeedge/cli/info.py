"""`kneeedge info`: what a model file says of itself."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.console import Json, Quiet, RequireSignature, show
from kneeedge.cli.json_format import stamped


def info(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    card: Annotated[
        bool, typer.Option("--card", help="Print the model card that the file carries.")
    ] = False,
    require_signature: RequireSignature = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """What a model file says of itself, and what can run it here."""
    from dataclasses import asdict

    from kneeedge.model.file import open_model
    from kneeedge.report.card import card_in
    from kneeedge.report.info import info_text
    from kneeedge.runtime.providers import available_providers

    file = open_model(model, require_signature)
    text = card_in(file) if card else info_text(file.spec, file, available_providers())
    spec = asdict(file.spec)
    record = {"model_sha256": file.sha256, "spec_format": spec.pop("format"), **spec}
    show(text, stamped("info", record), json, then=f"kneeedge verify {model}")
