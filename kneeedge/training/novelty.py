"""How far an image's features lie from the training images': low-rank Gaussians and their limit.

Beyond the limit an image is not answered. The features are square roots of what the channels of a
block hold on average in each of three horizontal bands. The root steadies the spread of averages
that are never negative and often near 0. The bands keep what one average over the whole image
loses, which way up it is; a mirrored knee stays what it is.

There are two parts, and the larger distance counts. Block 4 has seen less of the classes than block
5, so that a severe case is no further off than a mild one, and keeps more of what no radiograph
shows. Block 1 has seen how sharp an image is, how noisy and how steep its greys, which block 4
looks past; its features are brought to one length (Mahalanobis++, Müller & Hein 2025), since
contrast alone would decide otherwise. What else was tried, on the networks of three seeds and on a
narrower one, stands in `benchmarks/refusals.md`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from kneeedge.errors import CheckpointError
from kneeedge.model.spec import Novelty
from kneeedge.system.files import replacing
from kneeedge.system.progress import Progress
from kneeedge.training.checkpoint import predict_logits
from kneeedge.training.model import KneeVGG

N_BANDS = 3
RANK = 64
"directions at most"
N_VIEWS = 4
"augmented views of each training image, so that a knee that lies askew stays a knee"
EARLY_VIEWS = (0, 2)
"the views, itself and a rotated one, where a block must be computed that no cache holds"
REFUSED = 0.01
"share of genuine images that the limit is to refuse"
MARGIN = 1e-3
"share of the largest distance by which the limit is above it"
LEAST_ROOT = 1e-6
"added to a length, so that features that are all 0 have none"
LEAST_NOISE = 1e-6
"variance beside the directions where the training images leave none, as a handful of them does"
BATCH = 16


@dataclass(frozen=True)
class FeatureGaussian:
    """The training images' features: their mean, the directions in which they vary, and noise."""

    mean: NDArray[np.float32]
    "(D,)"
    directions: NDArray[np.float32]
    "(D, R) orthonormal columns"
    variances: NDArray[np.float32]
    "(R,) along the directions, falling"
    noise: NDArray[np.float32]
    "(1,) variance along any direction beside them"

    def distances(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mahalanobis distances (N,) of features (N, D), in double precision."""
        directions = self.directions.astype(np.float64)
        centred = features - self.mean.astype(np.float64)
        scores = centred @ directions
        beside = centred - scores @ directions.T
        squares = (scores**2 / self.variances.astype(np.float64)).sum(axis=1)
        squares += (beside**2).sum(axis=1) / self.noise.astype(np.float64)
        return np.asarray(np.sqrt(squares))


@dataclass(frozen=True)
class Part:
    """Which features a Gaussian is of."""

    block: int
    "1 to 5; the features stand behind it"
    unit: bool
    "whether they are brought to one length"

    @property
    def name(self) -> str:
        return f"block{self.block}.unit" if self.unit else f"block{self.block}"

    def features(self, activations: Tensor) -> Tensor:
        """(N, D) of activations (N, C, H, W) ≥ 0 behind the block, in fp32."""
        roots = band_roots(activations.float())
        if not self.unit:
            return roots
        # A mean square of 1, whatever the number of channels.
        return roots / ((roots * roots).mean(1, keepdim=True).sqrt() + LEAST_ROOT)


PARTS = (Part(4, False), Part(1, True))
"what a new run's distance is made of; the first gives it its scale"
KNOWN_PARTS = tuple(Part(block, unit) for unit in (False, True) for block in range(5, 0, -1))
"in the order in which a file's are taken"


@dataclass(frozen=True)
class Gaussians:
    """The parts that a distance is made of."""

    parts: tuple[Part, ...]
    gaussians: tuple[FeatureGaussian, ...]
    "one for each part"
    scales: tuple[float, ...]
    "by which each part's distance is multiplied before the largest is taken"

    @property
    def last_block(self) -> int:
        return max(part.block for part in self.parts)

    def part_distances(self, features: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
        """(N, P) Mahalanobis distances of each part's features (N, D), not scaled."""
        pairs = zip(self.gaussians, features, strict=True)
        return np.stack([gaussian.distances(values) for gaussian, values in pairs], axis=1)

    def combined(self, part_distances: NDArray[np.floating]) -> NDArray[np.float64]:
        """The distances (N,) of part distances (N, P)."""
        return np.asarray((part_distances * np.array(self.scales)).max(axis=1), dtype=np.float64)

    def scaled_by(self, part_distances: NDArray[np.floating]) -> "Gaussians":
        """The same with scales under which the parts refuse equally many of genuine images (N, P).

        That is where each alone would have the first one's limit. A limit of the largest is then at
        least that, so that it refuses at most P times the share, whatever the distribution, and
        about the share itself.
        """
        limits = [quantile_limit(column)[0] for column in part_distances.T]
        return replace(self, scales=tuple(limits[0] / limit for limit in limits))


class PartDistance(nn.Module):
    """Mahalanobis distances of one part as a piece of the graph, in fp32."""

    mean: Tensor
    directions: Tensor
    deviations: Tensor

    def __init__(self, part: Part, gaussian: FeatureGaussian, scale: float) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("mean", torch.from_numpy(gaussian.mean))
        self.register_buffer("directions", torch.from_numpy(gaussian.directions))
        self.register_buffer("deviations", torch.from_numpy(np.sqrt(gaussian.variances)))
        self.noise = math.sqrt(float(gaussian.noise[0]))
        self.scale = scale

    def forward(self, activations: Tensor) -> Tensor:
        """(N, C, H, W) behind the part's block → (N,).

        What lies beside the directions comes from a difference of vectors; one of squares would
        cancel.
        """
        centred = self.part.features(activations) - self.mean
        scores = centred @ self.directions
        beside = (centred - scores @ self.directions.T) / self.noise
        along = scores / self.deviations
        return ((along * along).sum(1) + (beside * beside).sum(1)).sqrt() * self.scale


class Distance(nn.Module):
    """The distance as a part of the graph: the largest of its parts."""

    def __init__(self, gaussians: Gaussians) -> None:
        super().__init__()
        triples = zip(gaussians.parts, gaussians.gaussians, gaussians.scales, strict=True)
        self.parts = nn.ModuleList(PartDistance(*triple) for triple in triples)
        self.blocks = tuple(part.block for part in gaussians.parts)

    def forward(self, activations: Mapping[int, Tensor]) -> Tensor:
        """(N, C, H, W) behind each of `blocks`, by its number → (N,)."""
        pairs = zip(self.blocks, self.parts, strict=True)
        distances = [part(activations[block]) for block, part in pairs]
        largest: Tensor = distances[0]
        for distance in distances[1:]:
            largest = torch.maximum(largest, distance)
        return largest


def band_roots(activations: Tensor, n_bands: int = N_BANDS) -> Tensor:
    """Features (N, D) of activations (N, C, H, W) ≥ 0: roots of each band's channel means."""
    height = activations.shape[2]
    n_bands = min(n_bands, height)
    edges = [round(i * height / n_bands) for i in range(n_bands + 1)]
    means = [activations[:, :, top:bottom].mean(dim=(2, 3)) for top, bottom in pairwise(edges)]
    return torch.cat(means, dim=1).sqrt()


def fit_gaussian(features: NDArray[np.floating], rank: int = RANK) -> FeatureGaussian:
    """The Gaussian of training features (N, D), of at most `rank` directions.

    Probabilistic PCA (Tipping & Bishop 1999, JRSS B 61:611, eq. 8): the leading eigenvectors of the
    covariance, and the mean of the other eigenvalues as the noise. At least half of the N − 1 that
    the images span stay noise.
    """
    n, n_features = features.shape
    mean = features.astype(np.float64).mean(axis=0)
    centred = features - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / n)
    rank = min(rank, (n - 1) // 2, n_features - 1)
    values = values[::-1]
    vectors = vectors[:, ::-1][:, :rank]
    noise = max(float(values[rank:].mean()), LEAST_NOISE)
    variances = np.maximum(values[:rank], noise)
    return FeatureGaussian(
        mean=mean.astype(np.float32),
        directions=np.ascontiguousarray(vectors).astype(np.float32),
        variances=variances.astype(np.float32),
        noise=np.array([noise], dtype=np.float32),
    )


def training_features(
    model: KneeVGG,
    parts: Sequence[Part],
    inputs: Iterable[Tensor],
    n_images: int,
    n_frozen: int,
    bf16: bool,
    progress: Progress,
) -> list[NDArray[np.float32]]:
    """Features (N, D) of each part, of batches of images (B, 1, S, S) uint8 or of activations.

    The activations (B, C, H, W) are those behind the first `n_frozen` blocks, none of which a part
    may be before. They are computed where the model stands.
    """
    device = model.mean.device
    features: list[list[NDArray[np.float32]]] = [[] for _ in parts]
    last = max(part.block for part in parts)
    with (
        progress.stage("features of the training views", n_images) as stage,
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
    ):
        for x in inputs:
            outputs = block_outputs(model, x.to(device), last, n_frozen)
            for part, values in zip(parts, features, strict=True):
                values.append(part.features(outputs[part.block]).cpu().numpy())
            stage.advance(len(x))
    return [np.concatenate(values) for values in features]


def block_outputs(model: KneeVGG, x: Tensor, last_block: int, n_done: int = 0) -> dict[int, Tensor]:
    """Activations behind each block up to `last_block`, by its number.

    `x` is of images (uint8), or what the first `n_done` blocks gave, which is then among them.
    """
    if x.dtype == torch.uint8:
        x = model.normalise(x)
        n_done = 0
    outputs = {n_done: x}
    for block in range(n_done, last_block):
        x = model.features[model.block_start(block) : model.block_start(block + 1)](x)
        outputs[block + 1] = x
    return outputs


def predict(
    model: KneeVGG, gaussians: Gaussians | None, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Logits (N, K) and, with Gaussians, distances (N,) of images (N, 1, S, S) uint8, in fp32."""
    logits, parts = predict_parts(model, gaussians, images)
    if gaussians is None or parts is None:
        return logits, None
    return logits, gaussians.combined(parts)


def predict_parts(
    model: KneeVGG, gaussians: Gaussians | None, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Logits (N, K) and, with Gaussians, each part's distances (N, P) of images (N, 1, S, S) uint8.

    In fp32; each image goes through the network once.
    """
    if gaussians is None:
        return predict_logits(model, images), None
    logits = []
    features: list[list[NDArray[np.float32]]] = [[] for _ in gaussians.parts]
    last = gaussians.last_block
    later_layers = model.features[model.block_start(last) :]
    with torch.inference_mode():
        for i in range(0, len(images), BATCH):
            batch = torch.from_numpy(images[i : i + BATCH]).to(model.mean.device)
            outputs = block_outputs(model, batch, last)
            for part, values in zip(gaussians.parts, features, strict=True):
                values.append(part.features(outputs[part.block]).cpu().numpy())
            logits.append(model.head(later_layers(outputs[last])).cpu())
    joined = [np.concatenate(values) for values in features]
    return torch.cat(logits).numpy(), gaussians.part_distances(joined)


def choose_limit(distances: NDArray[np.floating], split: str, gaussians: Gaussians) -> Novelty:
    """The limit from distances (N,) of genuine images that the Gaussians were not fitted to."""
    limit, limit_text = quantile_limit(distances)
    pairs = zip(gaussians.parts, gaussians.gaussians, strict=True)
    texts = [part_text(part, len(gaussian.variances)) for part, gaussian in pairs]
    largest = "largest of " if len(texts) > 1 else ""
    method = f"{largest}{' and '.join(texts)}; {limit_text}"
    return Novelty(limit=limit, refused=REFUSED, split=split, n=len(distances), method=method)


def part_text(part: Part, rank: int) -> str:
    length = ", one length" if part.unit else ""
    details = f"(square roots, {N_BANDS} bands{length})"
    return f"Gaussian of rank {rank} over band means of block {part.block} {details}"


def quantile_limit(distances: NDArray[np.floating]) -> tuple[float, str]:
    """The limit that refuses 1 % of genuine images, by N of their distances (N,), and its place.

    The ⌈(N + 1) · 0.99⌉-th smallest: a new image of their kind is beyond it with a chance of 1 % at
    most (split conformal prediction, Vovk, Gammerman & Shafer 2005). Fewer than 99 images have no
    such one, and the largest stands in for it. The limit lies half-way to the next distance (above
    the largest: 0.1 % on), so that rounding in another precision or on another machine does not
    refuse the very image that set it.
    """
    n = len(distances)
    place = math.ceil(round((n + 1) * (1.0 - REFUSED), 6))  # 300 × 0.99 is to be 297
    text = f"limit: {place}th smallest of {n}"
    if place > n:
        place = n
        text = f"limit: largest of {n}, too few for {REFUSED:.0%}"
    ordered = np.append(np.sort(distances), distances.max() * (1.0 + 2.0 * MARGIN))
    return float(ordered[place - 1 : place + 1].mean()), text


def save_gaussians(gaussians: Gaussians, path: Path) -> None:
    """Write `novelty.safetensors`, atomically: each part's arrays, and its scale, by its name."""
    arrays: dict[str, NDArray[np.floating]] = {}
    triples = zip(gaussians.parts, gaussians.gaussians, gaussians.scales, strict=True)
    for part, gaussian, scale in triples:
        for field in fields(gaussian):
            arrays[f"{part.name}.{field.name}"] = getattr(gaussian, field.name)
        arrays[f"{part.name}.scale"] = np.array([scale], dtype=np.float64)
    with replacing(path) as new:
        save_file(arrays, new)


def read_gaussians(path: Path) -> Gaussians:
    """The Gaussians in `path`; raises CheckpointError for a missing or damaged file.

    Runs made before there were parts hold one Gaussian, of block 4, without a name.
    """
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", "train the run again") from error
    names = {field.name for field in fields(FeatureGaussian)}
    if set(arrays) == names:
        arrays = {f"block4.{name}": array for name, array in arrays.items()}
        arrays["block4.scale"] = np.ones(1)
    found = tuple(part for part in KNOWN_PARTS if f"{part.name}.scale" in arrays)
    expected = {f"{part.name}.{name}" for part in found for name in (*names, "scale")}
    if not found or set(arrays) != expected:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise CheckpointError(path, f"holds {held}", "train the run again")
    of_part = [
        FeatureGaussian(**{name: arrays[f"{part.name}.{name}"] for name in names}) for part in found
    ]
    scales = [arrays[f"{part.name}.scale"] for part in found]
    if not all(map(_is_sound, of_part)) or not all(map(_is_scale, scales)):
        problem = "its arrays are no Gaussian of image features"
        raise CheckpointError(path, problem, "train the run again")
    return Gaussians(found, tuple(of_part), tuple(float(scale[0]) for scale in scales))


def _is_scale(array: NDArray[np.generic]) -> bool:
    """Whether it is one positive number."""
    sound = array.shape == (1,) and array.dtype == np.float64
    return sound and bool(np.isfinite(array[0])) and float(array[0]) > 0.0


def _is_sound(gaussian: FeatureGaussian) -> bool:
    """Whether the arrays are fp32 and finite, and their shapes fit together."""
    arrays = [getattr(gaussian, field.name) for field in fields(gaussian)]
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in arrays):
        return False
    if gaussian.directions.ndim != 2:
        return False
    n_features, rank = gaussian.directions.shape
    shapes = [(n_features,), (n_features, rank), (rank,), (1,)]
    return n_features > 0 and [array.shape for array in arrays] == shapes
