"""A graph and all that it says of itself → one self-contained `.onnx` file."""

import dataclasses
import json
from pathlib import Path

import onnx

from export.gate_data import GATE, GateImages
from export.graph import operators, opset, set_metadata
from kneeedge.data.dataset import Dataset
from kneeedge.model.file_record import FileRecord
from kneeedge.model.spec import SPEC_KEY, ModelSpec
from kneeedge.system import machine


def save(
    graph: onnx.ModelProto, path: Path, spec: ModelSpec, record: FileRecord, extra: dict[str, str]
) -> None:
    """Write one self-contained `.onnx` file with its spec and `extra` as metadata."""
    set_metadata(graph, {SPEC_KEY: dataclasses.replace(spec, file=record).to_json(), **extra})
    onnx.save(graph, path)


def file_record(precision: str, graph: onnx.ModelProto) -> FileRecord:
    """What every file says of its graph."""
    return FileRecord(
        precision=precision,
        opset=opset(graph),
        operators=operators(graph),
        versions=machine.versions(),
    )


def seen_metadata(dataset: Dataset, gate: GateImages | None = None) -> str:
    """JSON of the short hashes (16 hex digits) of the train and val images: it tells a leak.

    Also those of the gate's further images, which int8 recipes are chosen by.
    """
    seen = {split: dataset.split(split) for split in ("train", "val")}
    if gate is not None:
        seen[GATE] = gate.samples
    return json.dumps(
        {split: sorted(sample.short_hash for sample in samples) for split, samples in seen.items()}
    )
