"""Grey radiographs made worse on purpose: by kind, by severity, the same on every machine.

They act on a file's own grey pixels, before the one pixel path, as training views do. `LEVELS` is
the one table of how strong each severity is; why, and by which source, says the docstring of each
corruption in `corrupt_levels` and `corrupt_layout`.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kneeedge.errors import ConfigError
from kneeedge.pixels import corrupt_layout as layout
from kneeedge.pixels import corrupt_levels as levels
from kneeedge.pixels.corrupt_levels import Grey, Rng

SEVERITIES = (1, 2, 3, 4, 5)
"slight; usual; strong, the one that the export gate asks for; severe; hardly a radiograph"
WHOLE = (1.0,)
"of a kind that is there or is not"


@dataclass(frozen=True)
class Kind:
    """One way in which a radiograph can be worse."""

    name: str
    "as `--kinds` takes it"
    cause: str
    "where that comes from, in words"
    parameter: str
    "what its levels count, in words"
    levels: tuple[float, ...]
    "of the parameter, at severities 1 to 5; a kind that is there or is not has one"
    apply: Callable[[Grey, float, Rng], Grey]

    @property
    def severities(self) -> tuple[int, ...]:
        """1 to 5, or 1 alone where there is nothing between."""
        return SEVERITIES[: len(self.levels)]


KINDS = (
    Kind(
        "noise",
        "too few photons",
        "grey levels, deviation at middle grey",
        (4, 8, 13, 20, 30),
        levels.noise,
    ),
    Kind(
        "blur",
        "a leg that moves, a large focal spot",
        "mm, deviation",
        (0.3, 0.5, 0.75, 1.0, 1.5),
        levels.blur,
    ),
    Kind(
        "contrast",
        "scatter without a grid",
        "scatter to primary",
        (0.25, 0.5, 1.0, 1.7, 3.0),
        levels.contrast,
    ),
    Kind(
        "gamma",
        "another tone curve",
        "exponent or its inverse",
        (1.15, 1.3, 1.6, 2.0, 2.5),
        levels.gamma,
    ),
    Kind(
        "window",
        "a window for another part",
        "share of the levels",
        (0.9, 0.75, 0.6, 0.45, 0.3),
        levels.window,
    ),
    Kind(
        "gradient",
        "the anode's heel, a tilted grid",
        "share of all levels",
        (0.1, 0.2, 0.3, 0.45, 0.6),
        levels.gradient,
    ),
    Kind(
        "jpeg",
        "messengers, slides",
        "quality",
        (60, 40, 25, 15, 8),
        levels.jpeg,
    ),
    Kind(
        "resolution",
        "thumbnails, screenshots",
        "detector pitch, mm",
        (0.9, 1.1, 1.35, 1.9, 2.7),
        layout.resolution,
    ),
    Kind(
        "rotation",
        "a leg that lies askew",
        "degrees",
        (3, 6, 10, 15, 25),
        layout.rotation,
    ),
    Kind(
        "translation",
        "a beam off centre",
        "share of each side",
        (0.03, 0.06, 0.1, 0.15, 0.2),
        layout.translation,
    ),
    Kind(
        "crop",
        "a narrower field",
        "share of each side kept",
        (0.95, 0.9, 0.8, 0.7, 0.6),
        layout.crop,
    ),
    Kind(
        "padding",
        "a plate larger than the knee",
        "share of each side added",
        (0.05, 0.1, 0.15, 0.25, 0.4),
        layout.padding,
    ),
    Kind(
        "collimation",
        "the collimator's blades",
        "share of each side open",
        (0.9, 0.8, 0.7, 0.6, 0.5),
        layout.collimation,
    ),
    Kind(
        "text",
        "markers, names, dates burned in",
        "lines",
        (1, 2, 3, 4, 5),
        layout.text,
    ),
    Kind(
        "bars",
        "unexposed sides without a shutter",
        "share of the side, each",
        (0.02, 0.05, 0.1, 0.15, 0.2),
        layout.bars,
    ),
    Kind(
        "inverted",
        "black and white taken for each other",
        "all of it",
        WHOLE,
        levels.inverted,
    ),
    Kind(
        "mirrored",
        "a film read from its back",
        "all of it",
        WHOLE,
        layout.mirrored,
    ),
    Kind(
        "upside-down",
        "a plate read from its other end",
        "all of it",
        WHOLE,
        layout.upside_down,
    ),
)
"every kind, in the order of tables"


def corrupt(grey: Grey, kind: str, severity: int, seed: int) -> Grey:
    """Grey pixels (H', W') uint8 of (H, W) uint8, made worse; the ones given are left alone.

    The same pixels, kind, severity and `seed` (0 or more: `seed_of` the file) give the same result.
    What is drawn does not depend on the severity: the grain of noise is the same and stronger, the
    shift has the same direction and is larger. Raises ConfigError for an unknown kind, and for a
    severity that the kind does not have.
    """
    chosen = kind_named(kind)
    if severity not in chosen.severities:
        most = len(chosen.levels)
        problem = f"severity {severity} of {kind}: it has {'1 to 5' if most > 1 else '1 alone'}"
        raise ConfigError(problem, "give one of these")
    # no hash(): it differs from process to process
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    return chosen.apply(grey, chosen.levels[severity - 1], rng)


def seed_of(sha256: str) -> int:
    """The seed of a file by its hash (hex): not by its place in a folder, which others change."""
    return int(sha256[:8], 16)


def kind_named(name: str) -> Kind:
    """The kind of this name; raises ConfigError where there is none."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in KINDS)
    raise ConfigError(f"kind {name!r} of corruption is unknown", f"choose from {known}")


def parse_kinds(text: str, option: str) -> tuple[str, ...]:
    """The names in `text`, by commas; none where it is empty.

    Raises ConfigError for an unknown kind, and where commas are all there is.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if text and not names:
        raise ConfigError(
            f"{option} {text!r} names no kind", "give for example noise,blur, or leave it out"
        )
    kinds_named(names)
    return names


def kinds_named(names: Sequence[str]) -> tuple[Kind, ...]:
    """The kinds of these names in the order of the table, all where none is named."""
    if not names:
        return KINDS
    wanted = {kind_named(name) for name in names}
    return tuple(kind for kind in KINDS if kind in wanted)
