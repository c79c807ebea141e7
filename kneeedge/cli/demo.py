"""`kneeedge demo`: the main job on synthetic radiographs, each command shown as a user would type
it.
"""

from pathlib import Path
from typing import Annotated

import typer

from kneeedge.cli.console import require_train
from kneeedge.errors import OutputExistsError

SIZE = 128
"side of the images, pixels: small, so that the demo trains in a minute or two"
TRAIN = (
    "--weights", "none", "--size", str(SIZE), "--width", "0.125", "--batch-norm", "--epochs", "10",
    "--lr", "3e-3", "--head-lr", "3e-3", "--lr-decay", "1", "--dropout", "0.1", "--ema", "0", "--patience", "0",
)  # fmt: skip


def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="A folder that is not there yet.")] = Path("demo"),
    images: Annotated[
        int, typer.Option(min=40, help="Synthetic radiographs for each of train, val and test.")
    ] = 400,
) -> None:
    """The whole job on synthetic radiographs: train, export, verify, infer, bench. Needs no data
    and no download.
    """
    require_train("demo")
    import shlex

    from kneeedge.pixels.phantom import write_dataset

    if out.exists() and any(out.iterdir()):
        raise OutputExistsError(out, "remove it or give another --out")
    data = out / "radiographs"
    runs = out / "runs"
    typer.echo(f"# {3 * images} synthetic radiographs below {data}", err=True)
    write_dataset(data, dict.fromkeys(("train", "val", "test"), images), size=SIZE)
    kneeedge = ctx.find_root().command
    run = runs / "demo"
    models = [
        str(run / "models" / f"demo.{precision}.onnx") for precision in ("fp32", "fp16", "int8")
    ]
    for command in (
        ("train", str(data), "--runs", str(runs), "--name", "demo", *TRAIN),
        ("export", str(run)),
        ("verify", *models),
        (
            "infer",
            str(data / "test"),
            "--model",
            models[2],
            "--out",
            str(out / "predictions.csv"),
            "--heatmaps",
            str(out / "heatmaps"),
        ),
        ("evaluate", models[2], str(data)),
        (
            "bench",
            *models,
            "--run",
            str(run),
            "--data",
            str(data),
            "--seconds",
            "3",
            "--json",
            str(out / "bench.json"),
        ),
    ):
        typer.echo(f"\n$ kneeedge {shlex.join(command)}")
        kneeedge.main(list(command), standalone_mode=False)
    typer.echo(
        f"\nall of it is in {out}: the run with its figures in {run}, heat maps in {out / 'heatmaps'}"
    )
