"""What `kneeedge info` prints: a model file, in its own words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kneeedge.model.certify import certified_text
from kneeedge.model.file_record import INT8_TARGETS, Calibration, Verification
from kneeedge.model.polarity import Polarity
from kneeedge.model.provenance import Score, Slimmed
from kneeedge.model.spec import DISCLAIMER, Certified, ModelSpec, Novelty
from kneeedge.report.scorecard import score_figures
from kneeedge.system.files import SHOWN_DIGITS
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from kneeedge.model.file import ModelFile


def info_text(spec: ModelSpec, model: "ModelFile", providers: list[str]) -> str:
    """What the file says of itself, and the providers that can run it here."""
    rows = [*info_rows(spec, model), ("providers here", ", ".join(providers))]
    lines = [f"{name:>16}  {value}" for name, value in rows]
    return "\n".join([*lines, "", DISCLAIMER])


def info_rows(spec: ModelSpec, model: "ModelFile") -> list[tuple[str, str]]:
    """What the file says of itself: a name and a value each."""
    pixels = spec.pixel_path
    depth = f", 16-bit files as of {pixels.grey_bits} bits" if pixels.grey_bits else ""
    training = spec.training
    precision = spec.file.precision if spec.file else "checkpoint"
    network = f"VGG {width_text(spec.architecture.channels)}, {spec.architecture.head} head"
    if spec.architecture.batch_norm:
        network += ", batch norm folded"
    images = [f"{count:,} {split}" for split, count in training.n_images.items()]
    rows = [
        ("model", f"{spec.name}, {model.n_bytes / 1e6:.1f} MB, {precision}"),
        ("sha256", model.sha256),
    ]
    if model.signed_by:
        rows.append(("signed by", f"the key {model.signed_by[:SHOWN_DIGITS]}"))
    rows += [
        ("classes", ", ".join(spec.classes)),
        ("positive", f"{spec.positive}, {_answer_rule(spec)}"),
        ("temperature", f"{spec.temperature:g}"),
        *_novelty_rows(spec.novelty),
        *_certified_rows(spec.certified),
        *_polarity_rows(spec.polarity),
        ("input", f"uint8 [N, 1, {pixels.size}, {pixels.size}], grey, {pixels.fit}{depth}"),
        ("network", network),
        ("trained on", ", ".join(images)),
        ("data hash", training.data_sha256),
        ("recipe", f"{training.recipe}, weights {training.weights}, seed {training.seed}"),
        *([("tuned by", training.tuned.line)] if training.tuned else []),
        *_slimmed_rows(training.slimmed),
        *_score_rows("slimmed" if training.slimmed else "original", training.scores),
        ("splits", training.protocol),
    ]
    if training.caveat:
        rows.append(("LEAKY", training.caveat.removeprefix("LEAKY: ")))
    return [*rows, *_file_rows(spec)]


def width_text(channels: Sequence[Sequence[int]]) -> str:
    """The output channels of each convolution, a bar between blocks."""
    return " | ".join(" ".join(map(str, block)) for block in channels)


def _slimmed_rows(slimmed: Slimmed | None) -> list[tuple[str, str]]:
    if slimmed is None:
        return []
    network = f"VGG {width_text(slimmed.channels)}"
    origin = f"{slimmed.original} ({slimmed.sha256[:SHOWN_DIGITS]}), {network}"
    return [("slimmed from", origin), *_score_rows("original", slimmed.scores)]


def _score_rows(whose: str, scores: dict[str, Score]) -> list[tuple[str, str]]:
    """What the PyTorch model, or the one it was slimmed from, scored on each held-out split."""
    figures = ("accuracy", "auroc")
    return [
        (f"{whose}, {split}", f"{score_figures(score, figures)} ({counted(score.n, 'image')})")
        for split, score in scores.items()
    ]


def _answer_rule(spec: ModelSpec) -> str:
    if len(spec.classes) > 2:
        return "answer: the most probable class"
    return f"threshold {spec.threshold:g} (rule: {spec.threshold_rule})"


def _novelty_rows(novelty: Novelty | None) -> list[tuple[str, str]]:
    if novelty is None:
        return [("abstains", "never")]
    limit = f"beyond distance {novelty.limit:.4g}, set on {novelty.n:,} {novelty.split} images"
    return [
        ("abstains", f"{limit} to refuse {novelty.refused:.0%}"),
        ("distance", novelty.method),
    ]


def _certified_rows(certified: Certified | None) -> list[tuple[str, str]]:
    return [("certified", certified_text(certified))] if certified else []


def _polarity_rows(polarity: Polarity | None) -> list[tuple[str, str]]:
    if polarity is None:
        return []
    known = f"{polarity.n_inverted} of {polarity.n:,} training images are"
    return [("inverted", f"turned around before the network; {known}")]


def _file_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    file = spec.file
    if file is None:
        return []
    operators = [f"{count} {name}" for name, count in file.operators.items()]
    versions = [f"{name} {version}" for name, version in file.versions.items()]
    rows = [("operators", ", ".join(operators)), ("opset", str(file.opset))]
    if file.calibration:
        rows.append(("int8", _calibration_text(file.calibration)))
    if file.int8_target:
        rows.append(("made for", INT8_TARGETS.get(file.int8_target, file.int8_target)))
    if file.verification:
        rows.append(("verification", _verification_text(file.verification, spec.training.slimmed)))
    rows.append(("made with", ", ".join(versions)))
    return rows


def _calibration_text(calibration: Calibration) -> str:
    text = f"{calibration.method} over {calibration.n_images} training images"
    if calibration.float_layers:
        text += f", {' and '.join(calibration.float_layers)} in float"
    return text


def _verification_text(verification: Verification, slimmed: Slimmed | None) -> str:
    verdict = verification.verdict
    if slimmed:
        verdict += f" against {slimmed.original}"
    flips = f"{counted(verification.flips, 'flip')} in {verification.images}"
    before = verification.original.accuracy
    after = verification.variant.accuracy
    return f"{verdict}: {flips}, accuracy {before:.4f} → {after:.4f}"
