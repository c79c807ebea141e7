"""Charts of a page as SVG within it: sharp at any size, in its own colours, light or dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kneeedge.report.page import words

CHART_STYLE = """
svg { display: block; width: 100%; height: auto; max-width: 30rem;
  font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); }
svg .axis { stroke: var(--ink); fill: none; }
svg .grid { stroke: var(--line); fill: none; }
svg .mark { stroke: var(--ink); stroke-dasharray: 4 3; opacity: .6; fill: none; }
svg .note { fill: var(--ink); opacity: .8; }
svg .series { fill: none; stroke-width: 1.8; }
svg .s0 { stroke: var(--s0); } svg .s1 { stroke: var(--s1); } svg .s2 { stroke: var(--s2); }
svg .s3 { stroke: var(--s3); } svg .s4 { stroke: var(--s4); } svg .s5 { stroke: var(--s5); }
svg .dot.s0, svg .box.s0 { fill: var(--s0); } svg .dot.s1, svg .box.s1 { fill: var(--s1); }
svg .dot.s2, svg .box.s2 { fill: var(--s2); } svg .dot.s3, svg .box.s3 { fill: var(--s3); }
svg .dot.s4, svg .box.s4 { fill: var(--s4); } svg .dot.s5, svg .box.s5 { fill: var(--s5); }
svg .box { fill-opacity: .55; }
svg.span { display: inline-block; width: 9rem; max-width: 9rem; vertical-align: middle; }
"""
N_COLOURS = 6
WIDTH, HEIGHT = 360, 268
"of a chart, in its own units; the page gives it its size"
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 42
"of what stands around the plotted area"
LEGEND_LINE = 17
Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis of a chart."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a value lies between the axis's ends, 0 to 1 within them."""
        return (value - self.low) / ((self.high - self.low) or 1.0)


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together, with a line through them unless they are `lone`."""

    points: tuple[Point, ...]
    colour: int
    "0 to 5"
    label: str = ""
    "in the legend; empty for none"
    bars: tuple[tuple[float, float], ...] = ()
    "low and high of each point's interval upwards, where it has one"
    across: tuple[tuple[float, float], ...] = ()
    "the same to the side"
    lone: bool = False
    dots: bool = True


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What is drawn in one frame."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    lines: tuple[tuple[Point, Point], ...] = ()
    "dashed, from point to point"
    boxes: tuple[tuple[float, float, float], ...] = ()
    "columns: left and right on x, height on y"
    notes: tuple[str, ...] = ()
    "in the upper right corner"
    alt: str = ""
    "what is to be seen, for who cannot see it"


def axis(label: str, values: Sequence[float], least: float | None = None, n: int = 5) -> Axis:
    """An axis of round ticks around all values; its low end is `least` where that is given."""
    low = min(values) if least is None else least
    high = max(values)
    step = round_step((high - low) or abs(high) or 1.0, n)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    ticks = tuple(step * k for k in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks)


def round_step(span: float, n: int) -> float:
    """The step of 1, 2 or 5 times a power of ten that parts `span` into about `n`."""
    rough = span / n
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))


SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def share_axis(label: str) -> Axis:
    """From 0 to 1."""
    return Axis(label, 0.0, 1.0, SHARES)


def chart_svg(chart: Chart) -> str:
    """The chart as SVG."""
    labelled = [series for series in chart.series if series.label]
    height = HEIGHT + LEGEND_LINE * len(labelled)
    parts = [_grid(chart), *_boxes(chart)]
    parts += [_dashed(chart, line) for line in chart.lines]
    parts += [_series(chart, series) for series in chart.series]
    parts += [_title(chart), *_notes(chart), *_legend(labelled)]
    name = words(chart.alt or chart.title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
    )


def span_svg(value: float, low: float, high: float, ends: tuple[float, float]) -> str:
    """An interval and its value as a bar between two ends, for a cell of a table."""
    axis_of = Axis("", *ends, ends)
    left, dot, right = (
        _n(4 + 132 * min(max(axis_of.share(v), 0.0), 1.0)) for v in (low, value, high)
    )
    return (
        '<svg class="span" viewBox="0 0 140 14" aria-hidden="true">'
        '<path class="grid" d="M4 7H136"/>'
        f'<path class="series s0" d="M{left} 7H{right}M{left} 3V11M{right} 3V11"/>'
        f'<circle class="dot s0" cx="{dot}" cy="7" r="3"/></svg>'
    )


def _x(chart: Chart, value: float) -> float:
    return LEFT + chart.x.share(value) * (WIDTH - LEFT - RIGHT)


def _y(chart: Chart, value: float) -> float:
    """In the frame: what is above the axis is cut off at its end."""
    share = min(max(chart.y.share(value), -0.02), 1.02)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _n(value: float) -> str:
    """A coordinate: two decimals, so that the same chart has the same bytes everywhere."""
    return f"{round(value, 2) + 0.0:g}"


def _grid(chart: Chart) -> str:
    bottom = HEIGHT - BOTTOM
    parts = []
    for tick in chart.y.ticks:
        y = _n(_y(chart, tick))
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        text = _tick(tick, chart.y)
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy=".35em" text-anchor="end">{text}</text>')
    for tick in chart.x.ticks:
        x = _n(_x(chart, tick))
        parts.append(f'<path class="grid" d="M{x} {TOP}V{bottom}"/>')
        text = _tick(tick, chart.x)
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = words(chart.x.label)
    parts.append(f'<text x="{_n(middle)}" y="{bottom + 34}" text-anchor="middle">{label}</text>')
    up = (TOP + bottom) / 2
    turned = f'transform="translate(14 {_n(up)}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{words(chart.y.label)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>')
    return "".join(parts)


def _tick(value: float, axis_of: Axis) -> str:
    """With as many decimals as the ticks need to differ."""
    step = abs(axis_of.ticks[1] - axis_of.ticks[0]) if len(axis_of.ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    return f"{value + 0.0:,.{decimals}f}"


def _dashed(chart: Chart, line: tuple[Point, Point]) -> str:
    (x0, y0), (x1, y1) = line
    start = f"{_n(_x(chart, x0))} {_n(_y(chart, y0))}"
    return f'<path class="mark" d="M{start}L{_n(_x(chart, x1))} {_n(_y(chart, y1))}"/>'


def _boxes(chart: Chart) -> list[str]:
    parts = []
    bottom = _y(chart, chart.y.low)
    for left, right, height in chart.boxes:
        x = _x(chart, left) + 1
        width = max(_x(chart, right) - x - 1, 1.0)
        y = _y(chart, height)
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(bottom - y)}"'
        parts.append(f'<rect class="box s0" {place}/>')
    return parts


def _series(chart: Chart, series: Series) -> str:
    places = [(_n(_x(chart, x)), _n(_y(chart, y))) for x, y in series.points]
    colour = f"s{series.colour % N_COLOURS}"
    parts = []
    if not series.lone and places:
        path = "L".join(f"{x} {y}" for x, y in places)
        parts.append(f'<path class="series {colour}" d="M{path}"/>')
    for (x, _), (low, high) in zip(places, series.bars, strict=False):
        ends = f"M{x} {_n(_y(chart, low))}V{_n(_y(chart, high))}"
        parts.append(f'<path class="series {colour}" d="{ends}"/>')
    for (_, y), (low, high) in zip(places, series.across, strict=False):
        ends = f"M{_n(_x(chart, low))} {y}H{_n(_x(chart, high))}"
        parts.append(f'<path class="series {colour}" d="{ends}"/>')
    if series.dots:
        parts += [f'<circle class="dot {colour}" cx="{x}" cy="{y}" r="3"/>' for x, y in places]
    return "".join(parts)


def _title(chart: Chart) -> str:
    return f'<text x="{LEFT}" y="16" font-weight="600">{words(chart.title)}</text>'


def _notes(chart: Chart) -> list[str]:
    place = f'class="note" x="{WIDTH - RIGHT - 4}" text-anchor="end"'
    return [
        f'<text {place} y="{TOP + 16 + i * LEGEND_LINE}">{words(note)}</text>'
        for i, note in enumerate(chart.notes)
    ]


def _legend(series: Sequence[Series]) -> list[str]:
    parts = []
    for i, each in enumerate(series):
        y = HEIGHT + 8 + i * LEGEND_LINE
        colour = f"s{each.colour % N_COLOURS}"
        if each.lone:
            parts.append(f'<circle class="dot {colour}" cx="{LEFT + 9}" cy="{y - 4}" r="4"/>')
        else:
            parts.append(f'<path class="series {colour}" d="M{LEFT} {y - 4}h18"/>')
        parts.append(f'<text x="{LEFT + 26}" y="{y}">{words(each.label)}</text>')
    return parts
