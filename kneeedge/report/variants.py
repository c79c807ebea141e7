"""Exported files and their speed, for a run's page."""

from collections.abc import Iterator

from kneeedge.report.card_facts import CardFacts
from kneeedge.report.card_figures import FILE_COLUMNS, gate_data_text, variant_row
from kneeedge.report.charts import span_svg
from kneeedge.report.page import plain_table, source, table, verdict_tag, words
from kneeedge.runs.benchmark import Row, baseline, model_name, scenario_name, times_as_fast
from kneeedge.runs.export_report import ExportedFile, ExportReport, VerifyReport
from kneeedge.system.files import SHOWN_DIGITS

N_FLIPS = 50
"images whose answer changed that are named"
SPEED_HEADS = (
    "model", "provider", "scenario", "ms a run [95 %]", "images/s", "× first", "memory, MB",
    "steady", "accuracy",
)  # fmt: skip


def variant_parts(exported: ExportReport | None) -> Iterator[str]:
    """Each exported file with its verdict, its reason, and the images whose answer changed."""
    if exported is None:
        yield "<p>None yet: run <code>kneeedge export</code>.</p>"
        return
    heads = ("file", *FILE_COLUMNS[1:], "MB", "sha256")
    rows = [_file_row(file) for file in exported.files]
    yield table(heads, rows, "held against the original")
    for file in exported.files:
        report = file.report
        name = f"<strong>{words(report.precision)}</strong>"
        yield f"<p>{name}, {words(report.images)}: {words(report.reason)}.</p>"
        if text := gate_data_text(report):
            yield f"<p>{words(text)}</p>"
        yield from _flips(report)
    yield f"<p>{source('export', text='the record')} has the rest.</p>"


def _file_row(file: ExportedFile) -> list[str]:
    precision, verdict, *others = variant_row(file.report)
    size = f"{file.size_mb:.1f}"
    digest = f"<code>{words(file.sha256[:SHOWN_DIGITS])}</code>"
    cells = map(words, others)
    return [f"{words(file.path)} ({words(precision)})", verdict_tag(verdict), *cells, size, digest]


def _flips(report: VerifyReport) -> Iterator[str]:
    if not report.flips:
        return
    rows = [
        (
            case.path,
            case.truth or "unknown",
            f"{case.original} {case.original_probability:.3f}",
            f"{case.variant} {case.variant_probability:.3f}",
        )
        for case in report.flips[:N_FLIPS]
    ]
    listed = plain_table(("image", "truth", "original", "this file"), rows, is_text=True)
    summary = f"{len(report.flips)} of {report.deciding.n} answers flipped"
    yield f"<details><summary>{summary}</summary>{listed}</details>"


def speed_parts(card: CardFacts) -> Iterator[str]:
    """What `kneeedge bench` measured of the run's files, every scenario."""
    if card.stale:
        others = ", ".join(card.stale)
        note = f"Left out, since they are not this run's files as they are: {others}."
        yield f'<p class="soft">{words(note)}</p>'
    speed = card.speed
    if speed is None or not speed.results:
        yield (
            "<p>Not measured yet: <code>kneeedge bench --run RUN</code> adds it "
            "to the run, and then to this page.</p>"
        )
        return
    first = baseline(speed.results)
    yield table(SPEED_HEADS, [_speed_row(row, first) for row in speed.results])
    single = [row for row in speed.results if row.scenario == first.scenario]
    most = max(max(_latency(row)) for row in single)
    yield table(
        ("model", f"ms a run, 0 to {_milliseconds(most)}"),
        [[_name(row), span_svg(*_latency(row), (0.0, most))] for row in single],
        f"{first.scenario}: median and its 95 % interval",
    )
    where = f"{first.threads} threads, {speed.environment.cpu}, {speed.measured or 'no date'}"
    yield f'<p class="soft">{words(where)}. {source("bench")}</p>'
    for warning in speed.warnings:
        yield f'<p class="soft">Warning: {words(warning)}.</p>'


def _name(row: Row) -> str:
    return words(f"{model_name(row.model)} ({row.precision})")


def _latency(row: Row) -> tuple[float, float, float]:
    """The median, or the mean where there is none, and the ends of its interval; milliseconds."""
    latency = row.latency_ms
    middle = latency.p50 or latency.mean
    interval = latency.intervals.get("p50")
    return (middle, interval.low, interval.high) if interval else (middle, middle, middle)


def _milliseconds(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _speed_row(row: Row, first: Row) -> list[str]:
    middle, low, high = _latency(row)
    span = f" [{_milliseconds(low)}, {_milliseconds(high)}]" if low < high else ""
    comparable = row.scenario == first.scenario
    return [
        _name(row),
        words(row.provider),
        words(scenario_name(row)),
        f"{_milliseconds(middle)}{span}",
        f"{row.images_per_second:.3g}",
        f"{times_as_fast(row, first):.2f}" if comparable else "",
        "" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
        {None: "unknown", True: "no", False: "yes"}[row.unstable],
        words(row.accuracy.cost()) if row.accuracy else "",
    ]
