"""One sentence on which model to use here, from the measured rows alone."""

from collections import Counter
from collections.abc import Sequence

from kneeedge.answers import ORIGINAL
from kneeedge.bench.ceiling import ARITHMETIC
from kneeedge.bench.result import BenchResult, Row, is_same, label, single_rows, times_as_fast
from kneeedge.gate import FAIL
from kneeedge.machine import Environment, has_vnni
from kneeedge.session import CPU_PROVIDERS

CLEARLY = 1.05
"a smaller ratio of two speeds is no difference"
NEAR_CEILING = 0.6
"share of the ceiling from which on only a smaller network is much faster"


def advice(result: BenchResult) -> str:
    """Which model to use, why not the others, and what it costs, by the SingleStream rows."""
    rows = single_rows(result)
    base = next((row for row in rows if row.precision == "fp32"), rows[0] if rows else None)
    others = [row for row in rows if row is not base and row.precision != ORIGINAL]
    if base is None or not others:
        return "there is no second model to compare; bench two variants of one model"
    names = names_of(rows)
    ratios = {id(row): times_as_fast(row, base) for row in others}
    usable = [row for row in others if ratios[id(row)] > CLEARLY and not _is_worse(row)]
    said = [_drawback(row, base, ratios[id(row)], names, result.environment) for row in others if row not in usable]
    best = max(usable, key=lambda row: ratios[id(row)], default=base)
    use = f"use {names[_key(best)]}"
    if best is not base:
        use += f" ({ratios[id(best)]:.1f}× {names[_key(base)]}; {_cost(best)})"
    use += _against_original(best, rows) + _headroom(best)
    if any(row.unstable for row in (base, *others)):
        use += "; unstable, measure again"
    return f"{' and '.join(said)}: {use}" if said else use


def names_of(rows: Sequence[Row]) -> dict[tuple[str, str, str], str]:
    """What to call each model: its precision where no other has the same, else its file; and where it runs."""
    models = {_key(row) for row in rows}
    precisions, files = (Counter(key[i] for key in {(k[0], k[1]) for k in models}) for i in (1, 0))
    several = len({row.provider for row in rows if row.precision != ORIGINAL}) > 1
    labels = labels_of([key[0] for key in models])
    found = {}
    for key in models:
        name = key[1] if precisions[key[1]] == 1 and files[key[0]] == 1 else labels[key[0]]
        found[key] = f"{name} on {key[2]}" if several else name
    return found


def labels_of(paths: Sequence[str]) -> dict[str, str]:
    """What to call each model in a table: the file's name, or its path where another file has the same name."""
    models = dict.fromkeys(paths)
    counts = Counter(map(label, models))
    return {model: label(model) if counts[label(model)] == 1 else model for model in models}


def _key(row: Row) -> tuple[str, str, str]:
    return (row.model, row.precision, row.provider)


def _is_worse(row: Row) -> bool:
    """Whether its answers are known to be worse than the reference's."""
    return row.accuracy is not None and (row.accuracy.surely_lost or row.accuracy.verdict == FAIL)


def _drawback(row: Row, base: Row, ratio: float, names: dict[tuple[str, str, str], str], here: Environment) -> str:
    """Why a model is not the one to use."""
    name, other = names[_key(row)], names[_key(base)]
    if ratio > CLEARLY:
        return f"{name} is {ratio:.1f}× {other} but loses accuracy ({_cost(row)})"
    where = "" if " on " in name else " on this CPU" if row.provider in CPU_PROVIDERS else f" on {row.provider}"
    word = "slower than" if ratio < 1 / CLEARLY else "no faster than"
    return f"{name} is {word} {other}{where} ({ratio:.1f}×{_why_slow(row, here)})"


def _why_slow(row: Row, environment: Environment) -> str:
    if row.precision == "int8" and row.provider == "cuda":
        return "; it runs in float there"
    if row.provider not in CPU_PROVIDERS:
        return ""
    if row.precision == "fp16" and "avx2" in environment.isa:
        return "; it runs as fp32 with casts there"
    lacks_vnni = "avx2" in environment.isa and not has_vnni(environment.isa)
    return "; no VNNI" if row.precision == "int8" and lacks_vnni else ""


def _against_original(best: Row, rows: Sequence[Row]) -> str:
    """A word where PyTorch itself is not slower than the best file."""
    original = next((row for row in rows if row.precision == ORIGINAL and row.provider == best.provider), None)
    if original is None or is_same(original, best) or times_as_fast(best, original) > CLEARLY:
        return ""
    return f"; it is no faster than PyTorch here ({times_as_fast(best, original):.1f}×)"


def _headroom(best: Row) -> str:
    if best.ceiling_share is None or best.ceiling_share < NEAR_CEILING:
        return ""
    arithmetic = ARITHMETIC[best.precision]
    return f"; at {best.ceiling_share:.0%} of this CPU's {arithmetic} ceiling, more speed means a narrower network"


def _cost(row: Row) -> str:
    return row.accuracy.cost() if row.accuracy else "accuracy was not measured, give --data"
