"""How far an image's features lie from the training images': a low-rank Gaussian and its limit.

Beyond the limit an image is not answered. The features are square roots of what the channels of
block 4 hold on average in each of three horizontal bands. The root steadies the spread of averages
that are never negative and often near 0. The bands keep what one average over the whole image
loses, which way up it is; a mirrored knee stays what it is. Block 4 has seen less of the classes
than block 5, so that a severe case is no further off than a mild one, and keeps more of what no
radiograph shows.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
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

BLOCK = 4
N_BANDS = 3
RANK = 64
"directions at most"
N_VIEWS = 4
"augmented views of each training image, so that a knee that lies askew stays a knee"
REFUSED = 0.01
"share of genuine images that the limit is to refuse"
MARGIN = 1e-3
"share of the largest distance by which the limit is above it"
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


class Distance(nn.Module):
    """Mahalanobis distances as a part of the graph, in fp32."""

    mean: Tensor
    directions: Tensor
    deviations: Tensor

    def __init__(self, gaussian: FeatureGaussian) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(gaussian.mean))
        self.register_buffer("directions", torch.from_numpy(gaussian.directions))
        self.register_buffer("deviations", torch.from_numpy(np.sqrt(gaussian.variances)))
        self.noise = math.sqrt(float(gaussian.noise[0]))

    def forward(self, activations: Tensor) -> Tensor:
        """(N, C, H, W) behind block 4 → (N,).

        What lies beside the directions comes from a difference of vectors; one of squares would
        cancel.
        """
        centred = band_roots(activations) - self.mean
        scores = centred @ self.directions
        beside = (centred - scores @ self.directions.T) / self.noise
        along = scores / self.deviations
        return ((along * along).sum(1) + (beside * beside).sum(1)).sqrt()


def band_roots(activations: Tensor, n_bands: int = N_BANDS) -> Tensor:
    """Features (N, D) of activations (N, C, H, W) ≥ 0: roots of each band's channel means."""
    height = activations.shape[2]
    n_bands = min(n_bands, height)
    edges = [round(i * height / n_bands) for i in range(n_bands + 1)]
    means = [activations[:, :, top:bottom].mean(dim=(2, 3)) for top, bottom in pairwise(edges)]
    return torch.cat(means, dim=1).sqrt()


def fit_gaussian(features: NDArray[np.floating]) -> FeatureGaussian:
    """The Gaussian of training features (N, D), of at most RANK directions.

    Probabilistic PCA (Tipping & Bishop 1999, JRSS B 61:611, eq. 8): the leading eigenvectors of the
    covariance, and the mean of the other eigenvalues as the noise. At least half of the N − 1 that
    the images span stay noise.
    """
    n, n_features = features.shape
    mean = features.astype(np.float64).mean(axis=0)
    centred = features - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / n)
    rank = min(RANK, (n - 1) // 2, n_features - 1)
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
    inputs: Iterable[Tensor],
    n_images: int,
    n_frozen: int,
    bf16: bool,
    progress: Progress,
) -> NDArray[np.float32]:
    """Features (N, D) of batches of images (B, 1, S, S) uint8, or of activations (B, C, H, W).

    The activations are those behind the first `n_frozen` blocks, 4 at most.
    """
    features = []
    with (
        progress.stage("features of the training views", n_images) as stage,
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        for x in inputs:
            activations = _block_output(model, x, n_frozen)
            features.append(band_roots(activations.float()).numpy())
            stage.advance(len(x))
    return np.concatenate(features)


def _block_output(model: KneeVGG, x: Tensor, n_done: int = 0) -> Tensor:
    """Activations behind BLOCK, of images (uint8) or of what the first `n_done` blocks gave."""
    if x.dtype == torch.uint8:
        x = model.normalise(x)
        n_done = 0
    layers = model.features[model.block_start(n_done) : model.block_start(BLOCK)]
    activations: Tensor = layers(x)
    return activations


def predict(
    model: KneeVGG, gaussian: FeatureGaussian | None, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Logits (N, K) and, with a Gaussian, distances (N,) of images (N, 1, S, S) uint8, in fp32.

    Each image goes through the network once.
    """
    if gaussian is None:
        return predict_logits(model, images), None
    logits = []
    features = []
    later_layers = model.features[model.block_start(BLOCK) :]
    with torch.inference_mode():
        for i in range(0, len(images), BATCH):
            batch = torch.from_numpy(images[i : i + BATCH]).to(model.mean.device)
            activations = _block_output(model, batch)
            features.append(band_roots(activations).cpu())
            logits.append(model.head(later_layers(activations)).cpu())
    return torch.cat(logits).numpy(), gaussian.distances(torch.cat(features).numpy())


def choose_limit(distances: NDArray[np.floating], split: str, rank: int) -> Novelty:
    """The limit from distances (N,) of genuine images that the Gaussian was not fitted to.

    The ⌈(N + 1) · 0.99⌉-th smallest: a new image of their kind is beyond it with a chance of 1 % at
    most (split conformal prediction, Vovk, Gammerman & Shafer 2005). Fewer than 99 images have no
    such one, and the largest stands in for it. The limit lies half-way to the next distance (above
    the largest: 0.1 % on), so that rounding in another precision or on another machine does not
    refuse the very image that set it.
    """
    n = len(distances)
    place = math.ceil(round((n + 1) * (1.0 - REFUSED), 6))  # 300 × 0.99 is to be 297
    limit_text = f"limit: {place}th smallest of {n}"
    if place > n:
        place = n
        limit_text = f"limit: largest of {n}, too few for {REFUSED:.0%}"
    method = (
        f"Gaussian of rank {rank} over band means of block {BLOCK} "
        f"(square roots, {N_BANDS} bands); {limit_text}"
    )
    ordered = np.append(np.sort(distances), distances.max() * (1.0 + 2.0 * MARGIN))
    limit = float(ordered[place - 1 : place + 1].mean())
    return Novelty(limit=limit, refused=REFUSED, split=split, n=n, method=method)


def save_gaussian(gaussian: FeatureGaussian, path: Path) -> None:
    """Write `novelty.safetensors`, atomically."""
    arrays = {field.name: getattr(gaussian, field.name) for field in fields(gaussian)}
    with replacing(path) as new:
        save_file(arrays, new)


def read_gaussian(path: Path) -> FeatureGaussian:
    """The Gaussian in `path`; raises CheckpointError for a missing or damaged file."""
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", "train the run again") from error
    if set(arrays) != {field.name for field in fields(FeatureGaussian)}:
        names = ", ".join(sorted(arrays)) or "nothing"
        raise CheckpointError(path, f"holds {names}", "train the run again")
    gaussian = FeatureGaussian(**arrays)
    if not _is_sound(gaussian):
        problem = "its arrays are no Gaussian of image features"
        raise CheckpointError(path, problem, "train the run again")
    return gaussian


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
