"""Records of a run that its page shows as they are, and the certified limits of its spec.

Whatever JSON of kneeedge's stands in the run folder has a section, with its texts and numbers as
tables; a record that deserves better gets a section of its own elsewhere, and leaves this list.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kneeedge.report.page import Record, Section, plain_table, source

IN_SPEC = {"certified": "Three answers with a guarantee"}
"parts of the spec that have a section, and its title"
SHOWN_ELSEWHERE = frozenset(
    {"spec", "config", "metrics", "export", "bench", "slim", "stress", "joint"}
)
MOST_ROWS = 60
"of a table; the record has all"
MOST_TABLES = 12


def other_sections(records: Mapping[str, Record]) -> Iterator[Section]:
    """A section for each record that no other section shows."""
    spec = records["spec"].value if "spec" in records else {}
    for name, title in IN_SPEC.items():
        value = spec.get(name) if isinstance(spec, dict) else None
        if isinstance(value, dict):
            parts = (*record_parts(value), f"<p>{source('spec', name)}</p>")
            yield Section(f"spec-{name}", title, parts)
    for key, record in records.items():
        if key in SHOWN_ELSEWHERE or key.startswith("bench-"):
            continue
        if isinstance(record.value, dict | list):
            parts = (*record_parts(record.value), f"<p>{source(key, text=record.name)}</p>")
            yield Section(f"record-{key}", record.name, parts)


def record_parts(value: Any) -> list[str]:
    """Texts and numbers of a record as one table, then a table for each list of its records."""
    tables = list(_tables(value, ""))
    left_out = len(tables) - MOST_TABLES
    more = [f"<p>{left_out} more tables are in the record.</p>"] if left_out > 0 else []
    return tables[:MOST_TABLES] + more


def _tables(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, list):
        yield from _listed(value, name)
        return
    flat = [(key, shown(item)) for key, item in value.items() if is_flat(item)]
    if flat:
        yield plain_table(("field", "value"), flat, name, is_text=True)
    nested = {key: item for key, item in value.items() if not is_flat(item)}
    if len(nested) > 1 and all(isinstance(item, dict) for item in nested.values()):
        rows = [{"": key, **item} for key, item in nested.items()]
        if same_keys(rows):
            yield from _listed(rows, name)
            return
    for key, item in nested.items():
        yield from _tables(item, f"{name}: {key}" if name else key)


def _listed(items: Sequence[Any], name: str) -> Iterator[str]:
    """A list of records as a table, a column a field; of anything else as a line each."""
    records = [item for item in items if isinstance(item, dict)]
    if len(records) < len(items):
        yield plain_table((name or "item",), [[shown(item)] for item in items[:MOST_ROWS]])
        return
    columns = list(dict.fromkeys(key for record in records for key in record))
    rows = [[shown(record.get(key)) for key in columns] for record in records[:MOST_ROWS]]
    more = len(records) - len(rows)
    caption = f"{name}; {more:,} more rows are in the record" if more > 0 else name
    if rows:
        yield plain_table(columns, rows, caption, is_text=True)


def same_keys(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all have the same fields."""
    return all(row.keys() == rows[0].keys() for row in rows)


def is_flat(value: Any) -> bool:
    """Whether a value is shown in one cell: no object but an estimate, no list of objects."""
    if isinstance(value, dict):
        return bool(value) and value.keys() <= {"low", "high", "value", "interval", "method"}
    return not isinstance(value, list) or not any(isinstance(item, dict | list) for item in value)


def shown(value: Any) -> str:
    """A value in a cell; numbers with four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return _estimate(value)
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "–"
    return str(value)


def _estimate(value: Mapping[str, Any]) -> str:
    if "value" in value:
        interval = value.get("interval")
        return f"{shown(value['value'])} {shown(interval)}" if interval else shown(value["value"])
    if value.keys() == {"low", "high"}:
        return f"[{shown(value['low'])}, {shown(value['high'])}]"
    return "; ".join(f"{key} {shown(item)}" for key, item in value.items())
