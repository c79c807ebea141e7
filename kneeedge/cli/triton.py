"""`kneeedge triton`: a model file as a model repository of NVIDIA's Triton Inference Server."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import known_provider, new_folder
from kneeedge.cli.console import (
    MOST_IMAGES,
    MOST_THREADS,
    Json,
    Quiet,
    RequireSignature,
    completes,
    show,
)
from kneeedge.cli.json_format import stamped
from kneeedge.system.progress import Progress


def triton(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    out: Annotated[
        Path,
        typer.Option(
            callback=new_folder, help="The model repository to write; an older one is replaced."
        ),
    ],
    name: Annotated[
        str, typer.Option(help="Of the model that takes files; NAME_network takes pixels.")
    ] = "kneeedge",
    provider: Annotated[
        str,
        typer.Option(
            callback=known_provider,
            autocompletion=completes("cpu", "cuda", "tensorrt"),
            help="What the server runs on: cpu, cuda or tensorrt.",
        ),
    ] = "cpu",
    instances: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="Copies that answer at once.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_THREADS, help="CPU threads a copy; by default the server's, shared out."
        ),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, max=MOST_IMAGES, help="Images that Triton gathers for a run.")
    ] = 32,
    files_only: Annotated[
        bool,
        typer.Option("--files-only", help="For a server that lacks Triton's onnxruntime backend."),
    ] = False,
    require_signature: RequireSignature = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """A model repository with which Triton answers image files, and pixels, as `infer` does."""
    from kneeedge.model.file import open_model
    from kneeedge.triton.config import ServerOptions
    from kneeedge.triton.repository import write_repository
    from kneeedge.triton.wording import repository_text, start_command

    options = ServerOptions(
        name=name,
        provider=provider,
        instances=instances,
        threads=threads,
        max_batch=max_batch,
        files_only=files_only,
    )
    file = open_model(model, require_signature)
    report = write_repository(file, out, options, Progress(quiet))
    show(
        repository_text(report),
        stamped("triton", report),
        json,
        wrote=[out],
        then=start_command(report),
    )
