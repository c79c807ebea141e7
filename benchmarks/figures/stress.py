"""Tables of the kinds of corruption, and of what a network answers under them."""

from typing import Any

from benchmarks.figures.markdown import NONE, signed, table
from benchmarks.figures.results import read_result
from kneeedge.pixels.corruptions import KINDS


def kinds() -> str:
    """Every kind with its parameter at each severity."""
    rows = []
    for kind in KINDS:
        levels = [f"{level:g}" for level in kind.levels] if kind.levels[1:] else [NONE] * 5
        rows.append([f"`{kind.name}`", kind.cause, kind.parameter, *levels])
    return table(("kind", "as of", "its levels count", *"12345"), rows, left=3)


def results() -> str:
    """Original and int8 under every kind, the worst first; bold: costly and mostly not refused."""
    heads = (
        "kind", "fp32: accuracy", "AUROC", "sensitivity", "specificity", "refused",
        "int8: accuracy", "AUROC", "flips", "loses more [95 %]",
    )  # fmt: skip
    original, variant = read_result("stress")["models"]
    pairs = list(zip(original["rows"], variant["rows"], strict=True))
    clean, *corrupted = [result_row(first, second) for first, second in pairs]
    order = sorted(range(len(corrupted)), key=lambda i: pairs[i + 1][0]["accuracy"]["value"])
    return table(heads, [clean, *(corrupted[i] for i in order)])


def result_row(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """One kind: the original's figures, then the variant's beside them."""
    is_quiet = first["loss"] >= 0.05 and first["refused"]["value"] < 0.5
    kind = f"**{first['kind']}**" if is_quiet else first["kind"]
    names = ("accuracy", "auroc", "sensitivity", "specificity")
    figures = [f"{first[name]['value']:.3f}" for name in names]
    more = NONE
    if first["severity"]:
        span = second["paired"]["extra_interval"]
        low = signed(100 * span["low"], 1)
        high = signed(100 * span["high"], 1)
        more = f"{signed(100 * second['paired']['extra_loss'], 1)} [{low}, {high}]"
    flips = str(second["paired"]["change"]["flips"])
    after = [f"{second[name]['value']:.3f}" for name in ("accuracy", "auroc")]
    return [kind, *figures, f"{first['refused']['value']:.0%}", *after, flips, more]


def mended() -> str:
    """The int8 file of one network, as it refused before and as it does now."""
    heads = ("kind", "accuracy", "refused", "wrong and not refused")
    (before,) = read_result("stress-before")["models"]
    after = read_result("stress")["models"][1]
    pairs = list(zip(before["rows"], after["rows"], strict=True))
    clean, *corrupted = [mended_row(old, new) for old, new in pairs]
    order = sorted(range(len(corrupted)), key=lambda i: -pairs[i + 1][0]["wrong_unrefused"])
    return table(heads, [clean, *(corrupted[i] for i in order)])


def mended_row(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """One kind, before → now."""
    accuracies = [f"{row['accuracy']['value']:.3f}" for row in (old, new)]
    refused = [f"{row['refused']['value']:.1%}" for row in (old, new)]
    wrong = [f"{row['wrong_unrefused']:.1%}" for row in (old, new)]
    return [old["kind"], *(" → ".join(cells) for cells in (accuracies, refused, wrong))]
