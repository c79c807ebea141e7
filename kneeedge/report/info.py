"""What `kneeedge info` prints: a model file, in its own words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kneeedge.model.provenance import Score, Slimmed
from kneeedge.model.spec import DISCLAIMER, ModelSpec
from kneeedge.report.scorecard import score_figures
from kneeedge.system.files import SHOWN_DIGITS

if TYPE_CHECKING:
    from kneeedge.model.file import ModelFile


def info_text(spec: ModelSpec, model: "ModelFile", providers: list[str]) -> str:
    """What `kneeedge info` prints."""
    pixels = spec.pixel_path
    arch = spec.architecture
    training = spec.training
    file = spec.file
    widths = width_text(arch.channels)
    rows = [
        (
            "model",
            f"{spec.name}, {model.n_bytes / 1e6:.1f} MB, {file.precision if file else 'checkpoint'}",
        ),
        ("sha256", model.sha256),
        *([("signed by", f"the key {model.signed_by[:SHOWN_DIGITS]}")] if model.signed_by else []),
        ("classes", ", ".join(spec.classes)),
        ("positive", f"{spec.positive}, {_answer_rule(spec)}"),
        ("temperature", f"{spec.temperature:g}"),
        *_novelty_rows(spec),
        ("input", f"uint8 [N, 1, {pixels.size}, {pixels.size}], grey, {pixels.fit}"),
        (
            "network",
            f"VGG {widths}, {arch.head} head{', batch norm folded' if arch.batch_norm else ''}",
        ),
        (
            "trained on",
            ", ".join(f"{count:,} {split}" for split, count in training.n_images.items()),
        ),
        ("data hash", training.data_sha256),
        ("recipe", f"{training.recipe}, weights {training.weights}, seed {training.seed}"),
    ]
    rows += _slimmed_rows(training.slimmed)
    rows += _score_rows("slimmed" if training.slimmed else "original", training.scores)
    rows.append(("splits", training.protocol))
    if training.caveat:
        rows.append(("LEAKY", training.caveat.removeprefix("LEAKY: ")))
    rows += _file_rows(spec)
    rows.append(("providers here", ", ".join(providers)))
    return "\n".join([*(f"{name:>16}  {value}" for name, value in rows), "", DISCLAIMER])


def width_text(channels: Sequence[Sequence[int]]) -> str:
    """The output channels of each convolution, a bar between blocks."""
    return " | ".join(" ".join(map(str, block)) for block in channels)


def _slimmed_rows(found: Slimmed | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    origin = f"{found.original} ({found.sha256[:SHOWN_DIGITS]}), VGG {width_text(found.channels)}"
    return [("slimmed from", origin), *_score_rows("original", found.scores)]


def _score_rows(whose: str, scores: dict[str, Score]) -> list[tuple[str, str]]:
    """What the PyTorch model, or the one it was slimmed from, scored on each held-out split."""
    figures = ("accuracy", "auroc")
    return [
        (f"{whose}, {split}", f"{score_figures(score, figures)} ({score.n} images)")
        for split, score in scores.items()
    ]


def _answer_rule(spec: ModelSpec) -> str:
    if len(spec.classes) > 2:
        return "answer: the most probable class"
    return f"threshold {spec.threshold:g} (rule: {spec.threshold_rule})"


def _novelty_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    found = spec.novelty
    if found is None:
        return [("abstains", "never")]
    text = f"beyond distance {found.limit:.4g}, set on {found.n:,} {found.split} images to refuse {found.refused:.0%}"
    return [("abstains", text), ("distance", found.method)]


def _file_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    file = spec.file
    if file is None:
        return []
    rows = [("operators", ", ".join(f"{count} {name}" for name, count in file.operators.items()))]
    rows.append(("opset", str(file.opset)))
    if file.calibration:
        part = file.calibration
        kept = f", {' and '.join(part.float_layers)} in float" if part.float_layers else ""
        rows.append(
            (
                "int8",
                f"{file.int8_target}, {part.method} over {part.n_images} training images{kept}",
            )
        )
    if file.verification:
        part2 = file.verification
        slimmed = spec.training.slimmed
        beside = f" against {slimmed.original}" if slimmed else ""
        rows.append(
            (
                "verification",
                (
                    f"{part2.verdict}{beside}: {part2.flips} flips in {part2.n} {part2.split} images, accuracy "
                    f"{part2.original.accuracy:.4f} → {part2.variant.accuracy:.4f}"
                ),
            )
        )
    rows.append(
        ("made with", ", ".join(f"{name} {version}" for name, version in file.versions.items()))
    )
    return rows
