"""What to make of the measured rows: one sentence on which model to use here, and what to bear in
mind.
"""

from collections import Counter
from collections.abc import Sequence

from kneeedge.bench.ceiling import ARITHMETIC
from kneeedge.model.verdict import FAIL
from kneeedge.runs.answers import ORIGINAL
from kneeedge.runs.benchmark import (
    BenchResult,
    Row,
    is_same,
    model_name,
    scenario_name,
    single_rows,
    times_as_fast,
)
from kneeedge.runtime.cuda import INT8_ON_CUDA
from kneeedge.runtime.providers import CPU_PROVIDERS
from kneeedge.system.machine import Conditions, Environment, has_vnni

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
    said = [
        _drawback(row, base, ratios[id(row)], names, result.environment)
        for row in others
        if row not in usable
    ]
    best = max(usable, key=lambda row: ratios[id(row)], default=base)
    use = f"use {names[_key(best)]}"
    if best is not base:
        use += f" ({ratios[id(best)]:.1f}× {names[_key(base)]}; {_cost(best)})"
    use += _against_original(best, rows) + _headroom(best)
    if any(row.unstable for row in (base, *others)):
        use += "; unstable, measure again"
    return f"{' and '.join(said)}: {use}" if said else use


def names_of(rows: Sequence[Row]) -> dict[tuple[str, str, str], str]:
    """What to call each model: its precision where no other has the same, else its file; and where
    it runs.
    """
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
    """What to call each model in a table: the file's name, or its path where another file has the
    same name.
    """
    models = dict.fromkeys(paths)
    counts = Counter(map(model_name, models))
    return {
        model: model_name(model) if counts[model_name(model)] == 1 else model for model in models
    }


def _key(row: Row) -> tuple[str, str, str]:
    return (row.model, row.precision, row.provider)


def _is_worse(row: Row) -> bool:
    """Whether its answers are known to be worse than the reference's."""
    return row.accuracy is not None and (row.accuracy.surely_lost or row.accuracy.verdict == FAIL)


def _drawback(
    row: Row, base: Row, ratio: float, names: dict[tuple[str, str, str], str], here: Environment
) -> str:
    """Why a model is not the one to use."""
    name = names[_key(row)]
    other = names[_key(base)]
    if ratio > CLEARLY:
        return f"{name} is {ratio:.1f}× {other} but loses accuracy ({_cost(row)})"
    where = (
        ""
        if " on " in name
        else " on this CPU"
        if row.provider in CPU_PROVIDERS
        else f" on {row.provider}"
    )
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
    original = next(
        (row for row in rows if row.precision == ORIGINAL and row.provider == best.provider), None
    )
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


BUSY = 0.5
"runnable processes a core before the start, from which on the machine is not quiet"
IDLE_CPU = 0.05
"share of its threads' time that a process may be busy while it waits"
CLOCK_DRIFT = 0.05
"""change of a clock, or of the ceiling's product, from before to after the rounds that is worth a
word
"""


def machine_cautions(
    environment: Environment, before: Conditions, after: Conditions, speed: float | None
) -> list[str]:
    """Of the machine; `speed` is the ceiling's product after the rounds over that before them."""
    found = []
    load = environment.load_average
    if load is not None and load > BUSY * environment.n_cpus:
        found.append(
            f"the machine was busy before the start (load {load:g} on {environment.n_cpus} cores)"
        )
    if before.cpu_mhz and after.cpu_mhz and abs(after.cpu_mhz / before.cpu_mhz - 1) > CLOCK_DRIFT:
        found.append(f"the CPU's clock went from {before.cpu_mhz:.0f} to {after.cpu_mhz:.0f} MHz")
    for first, last in zip(before.gpu_mhz, after.gpu_mhz, strict=False):
        if last and first and abs(last / first - 1) > CLOCK_DRIFT:
            found.append(f"the GPU's clock went from {first:.0f} to {last:.0f} MHz")
    if (
        before.throttled is not None
        and after.throttled is not None
        and after.throttled > before.throttled
    ):
        found.append(
            f"heat lowered a core's clock {after.throttled - before.throttled} times: cool it, run again"
        )
    if speed is not None and abs(speed - 1) > CLOCK_DRIFT:
        found.append(
            f"the same matrix product ran at {speed:.2f}× its speed after the rounds: clocks or other work"
        )
    return found


def row_cautions(rows: Sequence[Row], idle_cpu: float, notice: str) -> list[str]:
    """Of one model's rows on one provider."""
    first = rows[0]
    found = [notice] if notice and notice != INT8_ON_CUDA else []
    name = model_name(first.model)
    if first.precision == "int8" and first.provider == "cuda":
        found.append(f"{name}: {INT8_ON_CUDA}")
    if idle_cpu > IDLE_CPU:
        found.append(
            f"{name}: its threads were {idle_cpu:.0%} busy while the others had their turns, which slows those"
        )
    accuracy = first.accuracy
    if accuracy is not None and accuracy.n_seen:
        found.append(
            f"{name}: LEAKY, the model was trained or chosen on {accuracy.n_seen} of {accuracy.n} images"
        )
    shaky = [f"{scenario_name(row)} ({row.window_spread:.0%})" for row in rows if row.unstable]
    if shaky:
        found.append(
            f"{name}: unstable, its windows lie apart in {', '.join(shaky)}; quiet the machine, run again"
        )
    failed = dict.fromkeys(
        row.accuracy.reason for row in rows if row.accuracy and row.accuracy.verdict == FAIL
    )
    return found + [f"{name}: the gate fails it: {reason}" for reason in failed]
