"""`kneeedge info`: what a model file says of itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneeedge.cli.console import Json, Quiet, RequireSignature, show
from kneeedge.cli.json_format import stamped
from kneeedge.errors import ConfigError
from kneeedge.system.outputs import STDOUT

if TYPE_CHECKING:
    from kneeedge.model.file import ModelFile

VECTORS_HELP = "Write pictures into it, with what a program of yours must make of each."


def info(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    card: Annotated[
        bool, typer.Option("--card", help="Print the model card that the file carries.")
    ] = False,
    test_vectors: Annotated[Path | None, typer.Option(metavar="FOLDER", help=VECTORS_HELP)] = None,
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
    if test_vectors:
        if json and json != STDOUT and json.resolve().parent == test_vectors.resolve():
            raise ConfigError(f"{json} lies among the test vectors", "name another place")
        _write_vectors(file, test_vectors)
    text = card_in(file) if card else info_text(file.spec, file, available_providers())
    spec = asdict(file.spec)
    record = {"model_sha256": file.sha256, "spec_format": spec.pop("format"), **spec}
    wrote = (test_vectors,) if test_vectors else ()
    show(text, stamped("info", record), json, wrote, then=f"kneeedge verify {model}")


def _write_vectors(file: "ModelFile", folder: Path) -> None:
    """Write the file's test vectors; raises before any work where the folder is another's."""
    from kneeedge.runtime.session import Session
    from kneeedge.runtime.vectors import vectors_of
    from kneeedge.runtime.vectors_folder import check_vectors_folder, write_vectors
    from kneeedge.system.strict_json import to_json

    check_vectors_folder(folder)
    index, contents = vectors_of(Session(file, "cpu"))
    write_vectors(folder, to_json(stamped("vectors", index)) + "\n", contents)
