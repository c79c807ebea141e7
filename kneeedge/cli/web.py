"""`kneeedge web`: a model file as a page that answers in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.checks import new_folder
from kneeedge.cli.console import Json, Quiet, RequireSignature, show
from kneeedge.cli.json_format import stamped
from kneeedge.system.progress import Progress


def web(
    model: Annotated[Path, typer.Argument(help="The .onnx file.")],
    out: Annotated[
        Path,
        typer.Option(callback=new_folder, help="The folder to write; an older site is replaced."),
    ],
    packages: Annotated[
        Path | None,
        typer.Option(help="A folder with the npm packages, where there is no npm or no network."),
    ] = None,
    serve: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, metavar="PORT", help="Then serve it, here alone."),
    ] = None,
    require_signature: RequireSignature = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """A folder of static files that answers radiographs in the browser, and proves itself first."""
    from kneeedge.model.file import open_model
    from kneeedge.web.site import write_site
    from kneeedge.web.wording import site_text

    progress = Progress(quiet)
    report = write_site(open_model(model, require_signature), out, packages, progress)
    then = f"python -m http.server --bind 127.0.0.1 --directory {out}"
    show(site_text(report), stamped("web", report), json, wrote=[out], then="" if serve else then)
    if serve:
        _serve(out, serve)


def _serve(out: Path, port: int) -> None:
    """Serve the site until Ctrl-C."""
    from kneeedge.web.server import HOST, site_server

    with site_server(out, port) as server:
        typer.echo(f"serving http://{HOST}:{port}/ until Ctrl-C", err=True)
        server.serve_forever()
