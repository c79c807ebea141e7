"""Synthetic AP knee radiographs from a seed: for the demo, the tests and models' golden inputs.

Lengths are fractions of the image height; the origin is the middle of the joint line, x to the
right, y down. Control points draw a right knee as it is displayed, fibula on the left; a left knee
is its mirror image.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from kneeedge.errors import ConfigError, OutputExistsError

Array = NDArray[np.float32]
Points = NDArray[np.float64]
Rng = np.random.Generator

# fmt: off
FEMUR = np.array([
    (-.086, -.9), (-.089, -.42), (-.12, -.26), (-.172, -.165), (-.196, -.105), (-.194, -.056),
    (-.176, -.014), (-.120, -.001), (-.072, -.006), (-.042, -.024), (0, -.044), (.040, -.024),
    (.070, -.004), (.120, .003), (.180, -.008), (.203, -.052), (.210, -.105), (.190, -.165),
    (.136, -.26), (.091, -.42), (.088, -.90)])
TIBIA = np.array([
    (-.200, .016), (-.170, .003), (-.115, .008), (-.068, .004), (-.032, -.015), (-.004, -.006),
    (.026, -.020), (.066, .004), (.115, .010), (.176, .002), (.204, .016), (.200, .060),
    (.170, .130), (.122, .230), (.092, .38), (.084, .90), (-.076, .90), (-.081, .38), (-.110, .230),
    (-.160, .130), (-.196, .060)])
FIBULA = np.array([
    (-.186, .070), (-.216, .088), (-.226, .122), (-.212, .175), (-.198, .26), (-.196, .45),
    (-.190, .90), (-.148, .90), (-.152, .45), (-.154, .26), (-.162, .175), (-.152, .122),
    (-.162, .088)])
PATELLA = np.array([
    (-.090, -.160), (-.058, -.217), (0, -.232), (.058, -.215), (.086, -.158), (.050, -.096),
    (-.050, -.098)])
SKIN = np.array([
    (-.30, -.90), (-.285, -.40), (-.265, -.15), (-.260, .05), (-.280, .25), (-.265, .90),
    (.25, .90), (.28, .25), (.265, .05), (.280, -.15), (.310, -.40), (.33, -.90)])
# fmt: on
CLASSES = ("Healthy", "Osteoporosis")
N_TRAITS = 12


@dataclass(frozen=True)
class Knee:
    """One knee of one patient."""

    traits: tuple[float, ...]
    "N_TRAITS standard normal draws: size, widths, angle, gap, soft tissue, bone quality"
    left: bool
    "a left knee: the fibula is on the right of the image"
    osteoporosis: float
    "severity in [0, 1]"


def phantom(seed: int, osteoporosis: float, size: int = 224) -> NDArray[np.uint8]:
    """Give an AP knee as (size, size) uint8 grey, the same for the same arguments.

    `osteoporosis` in [0, 1] thins and fades the cortex, coarsens trabeculae and takes horizontal
    struts away; the seed alone draws knee, position and exposure. Raises ConfigError for a severity
    or size out of range.
    """
    if not 0 <= osteoporosis <= 1:  # NaN too
        raise ConfigError(f"osteoporosis is {osteoporosis}", "give a severity from 0 to 1")
    if size < 32:
        raise ConfigError(f"size is {size}", "give at least 32 pixels")
    rng = np.random.default_rng(seed)
    traits = tuple(rng.standard_normal(N_TRAITS).tolist())
    left = bool(rng.integers(2))
    return _radiograph(Knee(traits, left, osteoporosis), size, rng)


def severity_bands(n_classes: int) -> list[tuple[float, float]]:
    """Give (low, high) severity of each class: equal bands, half a band apart."""
    width = 1 / (1.5 * n_classes - 0.5)
    return [(1.5 * width * k, 1.5 * width * k + width) for k in range(n_classes)]


def phantoms(n: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """(n, 1, size, size) uint8: inputs from healthy to severe, with seeds from `seed` on."""
    severities = np.linspace(0.0, 1.0, n).tolist()
    images = [phantom(seed + i, severity, size) for i, severity in enumerate(severities)]
    return np.stack(images)[:, None]


def write_dataset(
    folder: Path,
    n_images: dict[str, int],
    seed: int = 0,
    size: int = 256,
    classes: tuple[str, ...] = CLASSES,
) -> None:
    """Write folder/<split>/<class>/<patient><L or R>.png.

    Each split has `n_images[split]`, in equal parts of each class; the split "" writes
    folder/<class>/ directly. Classes go from the least severe to the most. The knees of a patient
    share split, class and, roughly, anatomy. Raises ConfigError for fewer than two classes,
    OutputExistsError if the folder holds anything.
    """
    if len(set(classes)) < max(2, len(classes)):
        raise ConfigError(f"classes are {', '.join(classes)}", "give two or more different names")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(folder, "name a new or an empty folder")
    patient = 0
    for split, n in n_images.items():
        for k, (name, band) in enumerate(zip(classes, severity_bands(len(classes)), strict=True)):
            n_class = n // len(classes) + (k < n % len(classes))
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for first in range(0, n_class, 2):
                rng = np.random.default_rng((seed, patient))
                stem = target / f"P{patient:05d}"
                _write_patient(stem, "LR"[: n_class - first], band, size, rng)
                patient += 1


def _write_patient(stem: Path, sides: str, band: tuple[float, float], size: int, rng: Rng) -> None:
    """Write <stem><side>.png for each of `sides`, with severities in `band`."""
    shared = rng.standard_normal(N_TRAITS)
    severity = rng.uniform(*band)
    for side, own in zip(sides, rng.spawn(len(sides)), strict=True):
        traits = 0.95 * shared + 0.31 * own.standard_normal(N_TRAITS)  # 0.95² + 0.31² ≈ 1
        osteoporosis = float(np.clip(severity + own.normal(0, 0.03), *band))
        pixels = _radiograph(Knee(tuple(traits.tolist()), side == "L", osteoporosis), size, own)
        Image.fromarray(pixels).save(stem.with_name(f"{stem.name}{side}.png"))


def _radiograph(knee: Knee, size: int, rng: Rng) -> NDArray[np.uint8]:
    """Expose one knee: (size, size) uint8."""
    view = _view(knee, rng)
    exposure = rng.uniform(0, 1, 4)
    grain = rng.standard_normal((size, size), dtype=np.float32)
    return _expose(_attenuation(knee, view, size, rng), exposure, grain)


def _view(knee: Knee, rng: Rng) -> Points:
    """Give the (3, 2) affine map from knee coordinates to fractions of the image."""
    angle = np.deg2rad(rng.normal(0, 3.0))
    mirror = -1 if knee.left else 1
    scale = (1.22 + 0.05 * knee.traits[0]) * rng.uniform(0.88, 1.16)
    cos = scale * np.cos(angle)
    sin = scale * np.sin(angle)
    return np.array([(mirror * cos, mirror * sin), (-sin, cos), 0.5 + rng.uniform(-0.05, 0.05, 2)])


def _attenuation(knee: Knee, view: Points, size: int, rng: Rng) -> Array:
    """Give (size, size) float32 of what the knee takes: about 0 in air and 1 in dense bone."""
    z = knee.traits
    # the spread within a severity keeps any one measure from giving the class away
    cortical, trabecular = np.clip(knee.osteoporosis + 0.09 * np.array(z[1:3]), 0, 1).tolist()
    skin = _mask([SKIN * (1 + 0.10 * z[3], 1)], view, size)
    soft = _blurred(skin, 0.045) * (0.36 + 0.05 * max(-2.0, min(2.0, z[4]))) + 0.06 * _pixels(skin)
    trabeculae = _trabeculae(trabecular, size, rng)
    y = (np.arange(size, dtype=np.float32)[:, None] + 0.5) / size - np.float32(view[2, 1])
    near = np.exp(-((y / np.float32(0.26 * view[1, 1])) ** 2))  # 1 at the joint, 0 in the shafts
    image: Array = soft * (1 + 0.012 * _texture(rng, size, 0.03, 0.10))
    fibula = FIBULA + np.array((0.012 * z[10], 0.01 * z[11]))
    for outlines, weight in ((_long_bones(z), 1.0), ([fibula], 0.5)):
        image += weight * _bone(_mask(outlines, view, size), near, trabeculae, cortical)
    patella = PATELLA * (1 + 0.04 * z[6]) + np.array((0.012 * z[11], 0.015 * z[10]))
    image += (0.08 - 0.02 * cortical) * _blurred(_mask([patella], view, size), 0.005)
    return image


def _bone(mask: Image.Image, near: Array, trabeculae: Array, cortical: float) -> Array:
    """Give the attenuation of one layer of bones: marrow, trabeculae and a bright rim of cortex."""
    shell = 1 - _blurred(mask, 0.026 - 0.014 * cortical)
    thin = 1 - _blurred(mask, 0.0075 - 0.0025 * cortical)
    rim = (1 - near) * 1.3 * shell + near * (0.5 * thin + 0.4 * shell)
    spongy = (0.27 - 0.05 * cortical) * _blurred(mask, 0.03) * (0.45 + 0.55 * near)
    texture = 1 + trabeculae * (0.25 + 0.75 * near)
    layer: Array = _pixels(mask) * (spongy * texture + (0.62 - 0.22 * cortical) * rim)
    return layer


def _trabeculae(severity: float, size: int, rng: Rng) -> Array:
    """Give relative density, (size, size) float32 with mean 0: plates, struts and large patches."""
    spacing = 0.0026 + 0.0028 * severity
    plates = _texture(rng, size, spacing, 5 * spacing)
    struts = _texture(rng, size, 4 * spacing, spacing)
    patches = _texture(rng, size, 0.05, 0.05)
    plates *= 0.11 + 0.03 * severity
    struts *= 0.09 * (1 - 0.85 * severity)
    density: Array = plates + struts + 0.07 * patches
    return density


def _texture(rng: Rng, size: int, sigma_x: float, sigma_y: float) -> Array:
    """Give smooth noise of (size, size) float32, mean 0 and deviation 1."""
    noise = Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8))
    smooth = _pixels(noise.filter(ImageFilter.GaussianBlur((sigma_x * size, sigma_y * size))))
    texture: Array = (smooth - smooth.mean()) / (smooth.std() + np.float32(1e-4))
    return texture


def _expose(attenuation: Array, exposure: Points, grain: Array) -> NDArray[np.uint8]:
    """Give (H, W) uint8 of (H, W) attenuation: window, tone curve, grain."""
    low, high = np.percentile(attenuation, (2, 99.5)).astype(np.float32)
    gamma = np.float32(0.75 + 0.65 * exposure[0])
    image = np.clip((attenuation - low) / (high - low), 0, 1.15) ** gamma
    image = np.float32(0.02 + 0.12 * exposure[1]) + np.float32(0.55 + 0.37 * exposure[2]) * image
    image += np.float32(0.008 + 0.016 * exposure[3]) * grain
    pixels: NDArray[np.uint8] = np.clip(255 * image + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _long_bones(z: tuple[float, ...]) -> list[Points]:
    """Give the outlines of femur and tibia, each (n, 2)."""
    gap = 0.021 + 0.004 * np.clip(z[5], -2, 2)
    width = 1 + 0.04 * z[6]
    bones = []
    for bone, side, bow in ((FEMUR, -1, z[7]), (TIBIA, 1, z[8])):
        shaft = np.clip((np.abs(bone[:, 1]) - 0.1) / 0.25, 0, 1)
        x = bone[:, 0] * width * (1 + 0.07 * z[9] * shaft) + 0.03 * bow * bone[:, 1]
        bones.append(np.stack([x, bone[:, 1] + side * gap / 2], axis=1))
    return bones


def _mask(outlines: list[Points], view: Points, size: int) -> Image.Image:
    """Fill smooth closed curves through `outlines`, each (n, 2), as an antialiased mask."""
    canvas = Image.new("L", (3 * size, 3 * size))
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        x, y = np.hsplit(_smooth(outline), 2)
        # written out: BLAS may round differently
        placed = 3 * size * (x * view[0] + y * view[1] + view[2])
        pen.polygon(placed.ravel().tolist(), fill=255)
    return canvas.reduce(3)


def _smooth(points: Points, n: int = 6) -> Points:
    """Give (6 n, 2) points of the closed Catmull-Rom spline through (n, 2) points."""
    a, b, c, d = (np.roll(points, shift, axis=0)[:, None] for shift in (1, 0, -1, -2))
    t = (np.arange(n) / n)[:, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, 2)


def _pixels(image: Image.Image) -> Array:
    """Give (H, W) float32 in [0, 1] of an 8-bit image."""
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _blurred(mask: Image.Image, sigma: float) -> Array:
    """Give (H, W) float32 in [0, 1], `sigma` as a fraction of the height."""
    return _pixels(mask.filter(ImageFilter.GaussianBlur(sigma * mask.height)))
