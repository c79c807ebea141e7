"""What every command shares: option types, errors as one line, reports to stdout or as JSON."""

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from kneeedge.cli.checks import (
    known_provider,
    known_providers,
    new_file,
    refuse_empty,
    refuse_empty_variable,
    refuse_no_number,
    refuse_overwriting,
)
from kneeedge.cli.exit_codes import FAILED, INTERRUPTED, WRONG_USAGE
from kneeedge.cli.stops import stoppable, was_stopped
from kneeedge.cli.together import refuse_torchrun
from kneeedge.errors import ConfigError, KneeEdgeError, MissingExtraError
from kneeedge.system.files import write_text
from kneeedge.system.outputs import DOCUMENT, check_output
from kneeedge.system.strict_json import to_json
from kneeedge.system.terminal import HarmlessConsole, harmless

TRAIN_MODULES = (
    "torch", "torchvision", "lightning_fabric", "onnx", "onnxscript", "safetensors", "matplotlib",
    "scipy",
)  # fmt: skip
PLAIN_WIDTH = 160
"columns of a report that goes to a file or a pipe"
RENAMED = {"--batch-sizes": "--batch-size"}
"spellings of before, which are still taken"
Wrote = Sequence[Path | None]
MOST_THREADS = 1024
"more would take all memory before they helped"
MOST_IMAGES = 65_536
"a run"


class Command(TyperCommand):
    """A command whose options are looked through before it works; SIGTERM stops it as Ctrl-C does.

    Raises ConfigError for an empty argument, an empty variable, and a number that is none.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        refuse_empty(args)
        args = [_renamed(argument) for argument in args]
        if "--model" in args and not any("--model" in parameter.opts for parameter in self.params):
            args = _model_first(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        refuse_torchrun(self.name)
        for parameter in self.params:
            refuse_empty_variable(parameter.envvar)
            refuse_no_number(parameter.opts[0], ctx.params.get(parameter.name))
        refuse_overwriting({p.opts[0]: ctx.params.get(p.name) for p in self.params})
        with stoppable():
            return super().invoke(ctx)


class OneLineErrors(TyperGroup):
    """Turns what kneeedge refuses into one line on stderr and FAILED or WRONG_USAGE."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise stopped() from error
        except BrokenPipeError:
            raise  # `kneeedge.cli.start` ends quietly
        except KneeEdgeError as error:
            self._fail(ctx, error, str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            remedy = "make the place readable and writable, with room left"
            self._fail(ctx, error, f"{where}{error.strerror or error}; {remedy}")
        except MemoryError as error:
            remedy = "free some, or ask for smaller batches or images"
            self._fail(ctx, error, f"memory does not suffice; {remedy}")

    def _fail(self, ctx: Any, error: Exception, message: str) -> None:
        if was_stopped():  # which a child's or a library's error may hide
            raise stopped() from error
        if ctx.params.get("debug"):
            raise error
        typer.echo(f"error: {harmless(message, '')}", err=True)
        raise typer.Exit(WRONG_USAGE if isinstance(error, ConfigError) else FAILED) from error


def _renamed(argument: str) -> str:
    """The argument, an option by its name of today."""
    name, equals, value = argument.partition("=")
    return f"{RENAMED.get(name, name)}{equals}{value}"


def _model_first(args: list[str]) -> list[str]:
    """`DATA --model FILE` as `FILE DATA`: the option of `infer` for the argument of the others."""
    place = args.index("--model")
    return [*args[place + 1 : place + 2], *args[:place], *args[place + 2 :]]


def stopped(message: str = "stopped") -> typer.Exit:
    """The end of a command that a signal stopped; says so."""
    typer.echo(harmless(message, ""), err=True)
    return typer.Exit(INTERRUPTED)


def completes(*values: str) -> Callable[[str], list[str]]:
    """What completes an option in the shell: one of the values, or several after commas."""

    def matching(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{value}" for value in values if value.startswith(last)]

    return matching


PROVIDER_NAMES = completes("auto", "cpu", "cuda", "tensorrt", "openvino", "coreml", "directml")
Provider = Annotated[
    str,
    typer.Option(
        callback=known_provider,
        autocompletion=PROVIDER_NAMES,
        help="auto, cpu, cuda, tensorrt, … Never falls back in silence.",
    ),
]
Providers = Annotated[
    str,
    typer.Option(
        callback=known_providers,
        autocompletion=PROVIDER_NAMES,
        help="auto, cpu, cuda, …, or several, separated by commas. Never falls back in silence.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Data = Annotated[
    Path | None, typer.Option(help="The data folder, where it has moved since the training.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST_THREADS, help="CPU threads; by default the physical cores left to us."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_IMAGES, help="Images a run; by default what suits the provider."),
]
GpuMemory = Annotated[
    float | None,
    typer.Option("--gpu-memory-gb", min=0.001, max=1e6, help="Most GPU memory to take, GiB."),
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
GroupRegex = Annotated[
    str | None,
    typer.Option(
        "--group-regex", help="Finds the patient in a path below CLASS, for the intervals."
    ),
]
AnswerAll = Annotated[
    bool,
    typer.Option(
        "--answer-all", help="Answer images unlike the training images too; they stay `abstain`."
    ),
]
DicomWindow = Annotated[
    int, typer.Option(min=0, max=1000, help="DICOM: which of several windows; the first is 0.")
]
Drift = Annotated[
    Path | None,
    typer.Option(
        callback=new_file,
        metavar="FILE",
        help="Say when images become other ones than before; what was seen so far stands in FILE.",
    ),
]
AlarmCommand = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="Run once for each alarm of --drift, which it gets as JSON on its stdin; no shell.",
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
    check_output(new_file(path), DOCUMENT)
    return path


Json = Annotated[
    Path | None,
    typer.Option("--json", callback=check_json, help="Write the result as JSON; - for stdout."),
]
Model = Annotated[
    Path | None, typer.Option(help="The .onnx file; else KNEEEDGE_MODEL, else the last run's best.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def require_train(command: str) -> None:
    """Raise MissingExtraError where the [train] extra is not installed."""
    for module in TRAIN_MODULES:
        if find_spec(module) is None:
            install = "pip install 'kneeedge[train,cpu]'"
            raise MissingExtraError(f"`kneeedge {command}`", module, install)


def require_tune() -> None:
    """Raise MissingExtraError where the [tune] extra is not installed."""
    for module in (*TRAIN_MODULES, "optuna"):
        if find_spec(module) is None:
            raise MissingExtraError("`kneeedge tune`", module, "pip install 'kneeedge[tune,cpu]'")


def show(report: Any, record: Any, json: Path | None, wrote: Wrote = (), then: str = "") -> None:
    """Print the report, then where what stands and what to do next; write the record as JSON.

    With `--json -` the record is all that stdout gets. The file comes before the report, whose
    reader may have gone away.
    """
    text = to_json(record)
    if json == Path("-"):
        typer.echo(text.encode())  # JSON is UTF-8, whatever the terminal is
        return
    if json:
        write_text(json, text + "\n")
    width = columns()
    if isinstance(report, str):
        typer.echo(fitted(harmless(report), width))
    else:
        HarmlessConsole(highlight=False, width=width or PLAIN_WIDTH).print(report)
    files = [str(path) for path in (*wrote, json) if path]
    if files:
        typer.echo(fitted(harmless(f"wrote: {', '.join(files)}"), width))
    if then:
        typer.echo(fitted(harmless(f"next: {then}"), width))


def columns() -> int | None:
    """Columns of the terminal that shows the report, or of COLUMNS; None for a file or a pipe."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns


def fitted(text: str, width: int | None) -> str:
    """Text whose longer lines are broken between words, never within one; indented as they are."""
    if width is None:
        return text
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        folded = textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
        lines += [line] if len(line) <= width else folded
    return "\n".join(lines)
