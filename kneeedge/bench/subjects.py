"""What is measured, and on which images."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from kneeedge.bench.accuracy import Truth, truth_of
from kneeedge.bench.messages import WorkRequest
from kneeedge.data.dataset import Sample
from kneeedge.errors import ConfigError, NotFoundError
from kneeedge.inference.evaluation import evaluation_samples, read_seen_hashes
from kneeedge.model.file import open_model
from kneeedge.model.spec import ModelSpec
from kneeedge.pixels.phantom import phantoms
from kneeedge.runs.answers import ORIGINAL
from kneeedge.runs.choose import original_of
from kneeedge.runs.folder import Run
from kneeedge.runtime.cuda import GpuOptions
from kneeedge.system.files import file_sha256

ORIGINAL_NEEDS = ("torch", "torchvision", "safetensors")
MAX_INPUTS = 64
N_PHANTOMS = 16


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model on one provider."""

    path: str
    spec: ModelSpec
    precision: str
    provider: str
    "as asked for"
    size_mb: float
    seen: frozenset[str] | None
    "short hashes of the images it was trained or chosen on"
    sha256: str
    "of the file; for the original, of its weights"
    notice: str = ""
    "why it is not the original that one would expect"

    @property
    def is_original(self) -> bool:
        return self.precision == ORIGINAL


@dataclass(frozen=True)
class Material:
    """The images that every subject gets."""

    description: str
    inputs: tuple[str, ...]
    "files to time on"
    split: str = ""
    samples: tuple[Sample, ...] = ()
    "labelled"

    @property
    def truth(self) -> Truth:
        """What the labelled images show."""
        return truth_of(self.samples, self.split)


def open_file(path: str, provider: str, public_key: Path | None = None) -> Subject:
    """What a model file says of itself.

    Raises NotFoundError where there is no such file, ModelFileError or SpecError where it is none
    of kneeedge's, and SignatureError where the key's other half has not signed it.
    """
    file = open_model(path, public_key)
    spec = file.spec
    return Subject(
        path=path,
        spec=spec,
        precision=spec.file.precision if spec.file else "unknown",
        provider=provider,
        size_mb=_size_mb(Path(path)),
        seen=read_seen_hashes(file.metadata, path),
        sha256=file.sha256,
    )


def open_original(run: str | None, provider: str) -> list[Subject]:
    """The run's PyTorch model, a slim run's original.

    Empty where no run is named or PyTorch is not installed; raises NotFoundError where the run is
    not finished.
    """
    if run is None or not torch_is_installed():
        return []
    if not Run(Path(run)).is_finished:
        remedy = "name a run folder, or leave out --run"
        raise NotFoundError(f"{run}: no finished training run here", remedy)
    original, notice = original_of(Run(Path(run)))
    spec = original.read_spec()
    seen = None
    if original.split.is_file():
        samples = original.read_dataset(original.folder, spec.classes).samples
        seen = frozenset(sample.short_hash for sample in samples if sample.split != "test")
    subject = Subject(
        path=str(original.folder),
        spec=spec,
        precision=ORIGINAL,
        provider=provider,
        size_mb=_size_mb(original.model),
        seen=seen,
        sha256=file_sha256(original.model),
        notice=notice,
    )
    return [subject]


def torch_is_installed() -> bool:
    """Whether the original could run, found out without importing PyTorch."""
    return all(find_spec(name) is not None for name in ORIGINAL_NEEDS)


def check_classes(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The classes that all subjects share; raises ConfigError where they differ."""
    first = subjects[0]
    classes = first.spec.classes
    for other in subjects[1:]:
        if other.spec.classes != classes:
            named = f"{first.path} ({', '.join(classes)})"
            problem = f"the classes of {named} are not those of {other.path}"
            raise ConfigError(problem, "bench models of the same classes together")
    return classes


def choose_material(
    data: str | None,
    images: Sequence[str],
    classes: Sequence[str],
    seed: int,
    scratch: Path,
    group_regex: str | None = None,
) -> Material:
    """The labelled images of `data`, whose patients `group_regex` finds, and the images to time on.

    The latter are 64 at most, drawn by the seed from `images`, else from `data`; where there is
    neither, they are phantoms written to `scratch`.
    """
    split = ""
    samples: Sequence[Sample] = ()
    if data:
        split, samples = evaluation_samples(Path(data), classes, group_regex=group_regex)
    paths = tuple(images) or tuple(str(sample.path) for sample in samples)
    if not paths:
        return Material(f"{N_PHANTOMS} phantoms, seed {seed}", write_phantoms(scratch, seed))
    n = min(len(paths), MAX_INPUTS)
    drawn = np.sort(np.random.default_rng(seed).choice(len(paths), n, replace=False))
    source = "the images given" if images else f"{data} ({split})"
    return Material(
        description=f"{n} of {source}, seed {seed}",
        inputs=tuple(paths[i] for i in drawn),
        split=split,
        samples=tuple(samples),
    )


def write_phantoms(folder: Path, seed: int, size: int = 256) -> tuple[str, ...]:
    """Paths of PNG files of phantoms, from healthy to severe."""
    paths = []
    for i, (image,) in enumerate(phantoms(N_PHANTOMS, size, seed)):
        path = folder / f"phantom-{i:02}.png"
        Image.fromarray(image).save(path)
        paths.append(str(path))
    return tuple(paths)


def work_request(
    subject: Subject,
    threads: int,
    material: Material,
    gpu: GpuOptions,
    public_key: str | None = None,
) -> WorkRequest:
    """What the subject's worker is told."""
    return WorkRequest(
        model=subject.path,
        is_original=subject.is_original,
        provider=subject.provider,
        threads=threads,
        pixel_path=subject.spec.pixel_path,
        inputs=material.inputs,
        labelled=tuple(str(sample.path) for sample in material.samples),
        labelled_sha256=tuple(sample.sha256 for sample in material.samples),
        gpu=gpu,
        public_key=public_key,
    )


def memory_needed_mb(subject: Subject, batch_size: int) -> float:
    """About what its process takes: a runtime, the weights three times, and the maps of each image.

    Measured on VGG19 with ONNX Runtime at batch 32: 54 MB an image, which is some four times the
    largest map of 12.8 MB (64 × 224² floats); the weights are there packed and as loaded.
    """
    spec = subject.spec
    largest_map_mb = spec.pixel_path.size**2 * spec.architecture.channels[0][0] * 4 / 1e6
    return 300 + 3 * subject.size_mb + batch_size * 4.5 * largest_map_mb


def _size_mb(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 2)
