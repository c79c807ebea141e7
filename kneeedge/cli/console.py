"""What every command shares: option types, errors as one line, reports to stdout or as JSON."""

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from kneeedge.errors import ConfigError, KneeEdgeError, MissingExtraError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import DOCUMENT, check_output
from kneeedge.system.strict_json import to_json

WRONG_USAGE = 2
"exit code of contradicting options"
INTERRUPTED = 130
"exit code after Ctrl-C, as shells have it"
TRAIN_MODULES = (
    "torch", "torchvision", "lightning_fabric", "onnx", "onnxscript", "safetensors", "matplotlib",
    "scipy",
)  # fmt: skip
PLAIN_WIDTH = 160
"columns of a report that goes to a file or a pipe"

Provider = Annotated[
    str, typer.Option(help="auto, cpu, cuda, tensorrt, … Never falls back in silence.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; by default the physical cores left to us.")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images a run; by default what suits the provider.")
]
GpuMemory = Annotated[
    float | None, typer.Option("--gpu-memory-gb", help="Most GPU memory to take, GiB.")
]
GreyBits = Annotated[
    int | None,
    typer.Option(
        "--grey-bits",
        min=8,
        max=16,
        help="Bits that pixels of 16 use, as 12; by default the model's, else all 16.",
    ),
]
Tf32 = Annotated[
    bool, typer.Option("--tf32", help="GPU: round the products of an fp32 file to TF32; faster.")
]
CudaGraph = Annotated[
    bool, typer.Option(help="GPU: replay a recorded CUDA graph for the single image.")
]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        envvar="KNEEEDGE_REQUIRE_SIGNATURE",
        metavar="PUBLIC.pem",
        help="Run only a model that the owner of this Ed25519 key signed (`export --sign`).",
    ),
]


def check_json(path: Path | None) -> Path | None:
    """The place for the JSON; raises OutputExistsError, before any work, where it is none."""
    check_output(path, DOCUMENT)
    return path


Json = Annotated[
    Path | None,
    typer.Option("--json", callback=check_json, help="Write the result as JSON; - for stdout."),
]
Model = Annotated[
    Path | None, typer.Option(help="The .onnx file; else KNEEEDGE_MODEL, else the last run's best.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


class OneLineErrors(TyperGroup):
    """Turns what kneeedge refuses into one line on stderr and exit code 1, or WRONG_USAGE."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KneeEdgeError as error:
            self._fail(ctx, error, str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            remedy = "make the place readable and writable, with room left"
            self._fail(ctx, error, f"{where}{error.strerror or error}; {remedy}")

    def _fail(self, ctx: Any, error: Exception, message: str) -> None:
        if ctx.params.get("debug"):
            raise error
        typer.echo(f"error: {harmless(message, '')}", err=True)
        raise typer.Exit(WRONG_USAGE if isinstance(error, ConfigError) else 1) from error


def require_train(command: str) -> None:
    """Raise MissingExtraError where the [train] extra is not installed."""
    for module in TRAIN_MODULES:
        if find_spec(module) is None:
            install = "pip install 'kneeedge[train,cpu]'"
            raise MissingExtraError(f"`kneeedge {command}`", module, install)


def show(report: Any, record: Any, json: Path | None) -> None:
    """Print the report; write the record as JSON where it was asked for."""
    show_text(report, to_json(record), json)


def show_text(report: Any, record: str, json: Path | None) -> None:
    r"""Print the report and write the JSON text, or print that in its place for `--json -`.

    Bytes of a file name that are no UTF-8 appear as \udc80 to \udcff, which in JSON is the name
    again.
    """
    record = _encodable(record)
    if json == Path("-"):
        typer.echo(record)
        return
    console = Console(highlight=False, width=report_width())
    if isinstance(report, str):
        typer.echo(harmless(_encodable(report)))
    else:
        console.print(report)
    if json:
        write_text(json, record + "\n")


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM stops as Ctrl-C does: a service manager's stop loses nothing either."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def report_width() -> int:
    """Columns for a report, PLAIN_WIDTH at least.

    A narrower terminal breaks the lines of a wide table, which loses none of its figures.
    """
    if not sys.stdout.isatty():
        return PLAIN_WIDTH
    return max(shutil.get_terminal_size().columns, PLAIN_WIDTH)


def harmless(text: str, kept: str = "\n\t") -> str:
    """Text whose control characters, but for those `kept`, a terminal shows and does not obey.

    What a model file or a file name says was written by others.
    """

    def shown(char: str) -> str:
        if char.isprintable() or char in kept:
            return char
        return char.encode("unicode_escape").decode("ascii")

    return "".join(map(shown, text))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
