"""The main job on synthetic radiographs, each command shown as a user would type it."""

import shlex
from pathlib import Path

import typer

from kneeedge.errors import OutputExistsError
from kneeedge.phantom import write_dataset

SIZE = 128
"side of the images, pixels: small, so that the demo trains in a minute or two"
TRAIN = (
    "--weights", "none", "--size", str(SIZE), "--width", "0.125", "--batch-norm", "--epochs", "10",
    "--lr", "3e-3", "--head-lr", "3e-3", "--lr-decay", "1", "--dropout", "0.1", "--ema", "0", "--patience", "0",
)  # fmt: skip


def run_demo(app: typer.Typer, out: Path, n_images: int) -> None:
    """Write phantoms below `out` and run train → export → verify → infer → evaluate → bench on them."""
    if out.exists() and any(out.iterdir()):
        raise OutputExistsError(out, "remove it or give another --out")
    data, runs = out / "radiographs", out / "runs"
    typer.echo(f"# {3 * n_images} synthetic radiographs below {data}", err=True)
    write_dataset(data, dict.fromkeys(("train", "val", "test"), n_images), size=SIZE)
    run = runs / "demo"
    models = [str(run / "models" / f"demo.{precision}.onnx") for precision in ("fp32", "fp16", "int8")]
    for command in (
        ("train", str(data), "--runs", str(runs), "--name", "demo", *TRAIN),
        ("export", str(run)),
        ("verify", *models),
        ("infer", str(data / "test"), "--model", models[2], "--out", str(out / "predictions.csv"),
         "--heatmaps", str(out / "heatmaps")),
        ("evaluate", models[2], str(data)),
        ("bench", *models, "--run", str(run), "--data", str(data), "--seconds", "3", "--json", str(out / "bench.json")),
    ):  # fmt: skip
        typer.echo(f"\n$ kneeedge {shlex.join(command)}")
        app(list(command), standalone_mode=False)
    typer.echo(f"\nall of it is in {out}: the run with its figures in {run}, heat maps in {out / 'heatmaps'}")
