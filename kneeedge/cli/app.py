"""The command line: reports go to stdout, progress and errors to stderr."""

from typing import Annotated

import typer

from kneeedge.cli.audit import audit
from kneeedge.cli.bench import bench
from kneeedge.cli.certify import certify
from kneeedge.cli.console import Command, OneLineErrors
from kneeedge.cli.demo import demo
from kneeedge.cli.evaluate import evaluate
from kneeedge.cli.exit_codes import HELP
from kneeedge.cli.export import export
from kneeedge.cli.infer import infer
from kneeedge.cli.info import info
from kneeedge.cli.report import ReportCommand, report
from kneeedge.cli.runs import runs
from kneeedge.cli.serve import serve
from kneeedge.cli.slim import slim
from kneeedge.cli.stress import stress
from kneeedge.cli.train import train
from kneeedge.cli.triton import triton
from kneeedge.cli.tune import tune
from kneeedge.cli.verify import verify
from kneeedge.cli.web import web
from kneeedge.model.spec import DISCLAIMER
from kneeedge.version import __version__

MAKE = "From X-rays to a model"
DEVICE = "On the device"

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"Labelled knee X-rays to a verified edge model. {DISCLAIMER}",
)


def print_version(asked: bool) -> None:
    """Print the version and exit, where `--version` asked for it."""
    if asked:
        typer.echo(f"kneeedge {__version__}")
        raise typer.Exit


VERSION = typer.Option(
    "--version", "-V", is_eager=True, callback=print_version, help="Print the version and exit."
)


@app.callback()
def root(
    version: Annotated[bool, VERSION] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Options that stand before the command."""


app.command(cls=Command, epilog=HELP, rich_help_panel=MAKE)(audit)
app.command(cls=Command, epilog=HELP, rich_help_panel=MAKE)(train)
app.command(cls=Command, epilog=HELP, rich_help_panel=MAKE)(tune)
app.command(cls=Command, epilog=HELP, rich_help_panel=MAKE)(export)
app.command(cls=Command, epilog=HELP, rich_help_panel=MAKE)(slim)
app.command(cls=Command, epilog=HELP, rich_help_panel=MAKE)(runs)
app.command(cls=ReportCommand, epilog=HELP, rich_help_panel=MAKE)(report)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(infer)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(evaluate)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(stress)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(certify)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(verify)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(info)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(bench)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(web)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(serve)
app.command(cls=Command, epilog=HELP, rich_help_panel=DEVICE)(triton)
app.command(cls=Command, epilog=HELP, rich_help_panel=MAKE)(demo)


def main() -> None:
    """The command line alone; `kneeedge.cli.start` is what a shell calls."""
    app()


if __name__ == "__main__":
    main()
