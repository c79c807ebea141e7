"""A run as `kneeedge slim` leaves it, made in a second: the trained network less some channels."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import torch

from export.to_onnx import fold_batch_norm
from kneeedge.data.dataset import read_split, write_split
from kneeedge.model.provenance import Slimmed
from kneeedge.model.spec import Architecture
from kneeedge.report.card import write_card
from kneeedge.runs.folder import Run, open_run
from kneeedge.slim.chain import links, narrow
from kneeedge.system.files import file_sha256
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import load_original, save_weights
from kneeedge.training.data import FileBatches
from kneeedge.training.loop import State
from kneeedge.training.model import KneeVGG
from kneeedge.training.score import score

N_LEFT_OUT = 8
"channels of the last convolution"


def write_slim_run(original: Path, folder: Path) -> Path:
    """`folder` with the slim run of `original`."""
    source = open_run(original)
    run = Run(folder)
    model, spec = load_original(source)
    slim, channels = slim_network(model, spec.architecture)
    slimmed = Slimmed(
        original=spec.name,
        sha256=file_sha256(source.model),
        channels=spec.architecture.channels,
        temperature=spec.temperature,
        threshold=spec.threshold,
        scores=spec.training.scores,
    )
    record = dataclasses.replace(
        source.read_config(), slimmed=slimmed, original=str(original.resolve()), channels=channels
    )
    dataset = read_split(source.split, Path(record.data_root), record.classes)
    folder.mkdir(parents=True)
    shutil.copyfile(original / "answers.csv", run.original_answers)
    write_split(dataset, run.split)
    run.write_config(record)
    save_weights(slim, run.model)
    pixel_path = record.config.pixel_path
    files = FileBatches(dataset.split("train"), (), record.config, pixel_path)
    score(run, record, dataset, State(), files, Progress(quiet=True))
    write_card(Run(folder))
    return folder


def slim_network(
    model: KneeVGG, architecture: Architecture
) -> tuple[KneeVGG, tuple[tuple[int, ...], ...]]:
    """The network without the first channels of its last convolution, and its widths.

    Its logits are twice as large, so that its temperature becomes about twice the original's:
    whoever mixes the two up gives other answers.
    """
    model.features = fold_batch_norm(model.features)
    kept = [np.arange(link.conv.out_channels) for link in links(model)]
    kept[-1] = kept[-1][N_LEFT_OUT:]
    slim, narrower = narrow(model, architecture, tuple(kept))
    with torch.no_grad():
        for parameter in slim.classifier[-1].parameters():
            parameter.mul_(2.0)
    return slim, narrower.channels
