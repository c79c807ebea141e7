"""Tables of what was measured on a GPU."""

from typing import Any

from benchmarks.figures.markdown import NONE, table
from benchmarks.figures.results import read_result

LAYOUTS = ("nchw", "nhwc", "nhwc, bias fused")
ON_DEVICE = "on the device"


def rows_of(result: str, section: str) -> list[dict[str, Any]]:
    """The rows of one section of a result."""
    (found,) = (one for one in read_result(result)["sections"] if one["name"] == section)
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def single() -> str:
    """One image from the host's pixels to the answer, by layout, with and without a CUDA graph."""
    rows = {row["name"]: row for row in rows_of("gpu", "single image")}
    answers = {row["name"]: row for row in rows_of("gpu", "answers")}
    lines = []
    for precision in ("fp16", "fp32"):
        for layout in LAYOUTS:
            name = f"{precision} {layout}"
            times = [rows[f"{name}, {way}"]["p50_ms"] for way in ("graph", "no graph")]
            change = answers[name]
            flips = f"{change['flips']} of {change['n']}"
            cells = [f"{time:.2f}" for time in times]
            lines.append([name, *cells, flips, f"{change['max_logit_change']:.1e}"])
    heads = ("file, layout", "graph, ms", "no graph, ms", "flips", "largest change of a logit")
    return table(heads, lines)


def offline() -> str:
    """Images a second of fp16 by batch: each layout's on the device, the best with copies."""
    rows = {(row["name"], row["batch"]): row for row in rows_of("gpu", "offline fp16")}
    torch = {(row["name"], row["batch"]): row for row in rows_of("gpu-torch", "against torch")[:-1]}
    lines = []
    for batch in sorted({batch for _, batch in rows}):
        names = [f"fp16 {layout}: {ON_DEVICE}" for layout in LAYOUTS]
        names.append(f"fp16 {LAYOUTS[-1]}: with copies, two threads")
        speeds = [f"{rows[name, batch]['images_per_second']:,.0f}" for name in names]
        for how in ("eager", "compiled"):
            row = torch.get((f"torch fp16 channels-last, {how}", batch))
            speeds.append(f"{row['images_per_second']:,.0f}" if row else NONE)
        lines.append([str(batch), *speeds])
    last = "nhwc, bias fused, with copies"
    heads = ("batch", *LAYOUTS, last, "PyTorch, eager", "PyTorch, compiled")
    return table(heads, lines)
