"""`kneeedge demo`: the whole job on synthetic radiographs, each command shown as one types it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneeedge.cli.checks import new_folder
from kneeedge.cli.console import Quiet, require_train
from kneeedge.errors import OutputExistsError
from kneeedge.system.outputs import check_output_folder

if TYPE_CHECKING:
    from kneeedge.runs.folder import Run

SIZE = 128
"side of the images, pixels: small, so that the demo trains in a minute or two"
HEATMAPS = "heatmaps"
TRAIN = (
    "--weights", "none", "--size", str(SIZE), "--width", "0.125", "--batch-norm", "--epochs", "10",
    "--lr", "3e-3", "--head-lr", "3e-3", "--lr-decay", "1", "--dropout", "0.1", "--ema", "0",
    "--patience", "0",
)  # fmt: skip


def demo(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option(callback=new_folder, help="A folder that is not there yet.")
    ] = Path("demo"),
    images: Annotated[
        int, typer.Option(min=40, help="Synthetic radiographs for each of train, val and test.")
    ] = 400,
    quiet: Quiet = False,
) -> None:
    """The whole job on synthetic radiographs: train, export, verify, infer, bench. Needs no data
    and no download.
    """
    require_train("demo")
    import shlex

    from kneeedge.pixels.phantom import write_dataset
    from kneeedge.runs.folder import Run

    check_output_folder(out)
    if out.exists() and any(out.iterdir()):
        raise OutputExistsError(out, "remove it or give another --out")
    data = out / "radiographs"
    run = Run(out / "runs" / "demo")
    if not quiet:
        typer.echo(f"# {3 * images} synthetic radiographs below {data}", err=True)
    write_dataset(data, dict.fromkeys(("train", "val", "test"), images), size=SIZE)
    kneeedge = ctx.find_root().command
    for command in commands(data, run, out):
        words = [*command, "--quiet"] if quiet else command
        typer.echo(f"\n$ kneeedge {shlex.join(words)}")
        code = kneeedge.main(words, standalone_mode=False)
        if code:
            raise typer.Exit(code)
    made = f"the run with its figures in {run.folder}, heat maps in {out / HEATMAPS}"
    typer.echo(f"\nall of it is in {out}: {made}")


def commands(data: Path, run: "Run", out: Path) -> list[list[str]]:
    """What is typed to train on the images below `data` and to use what comes of it."""
    models = [str(run.model_file("demo", precision)) for precision in ("fp32", "fp16", "int8")]
    int8 = models[-1]
    predictions = str(out / "predictions.csv")
    images = str(data / "test")
    train = ["train", str(data), "--runs", str(run.folder.parent), "--name", "demo", *TRAIN]
    infer = ["infer", images, "--model", int8, "--out", predictions]
    measured = ["--run", str(run.folder), "--data", str(data), "--seconds", "3"]
    return [
        train,
        ["export", str(run.folder)],
        ["verify", *models],
        [*infer, "--heatmaps", str(out / HEATMAPS)],
        ["evaluate", int8, str(data)],
        ["bench", *models, *measured, "--json", str(out / run.benchmark.name)],
    ]
