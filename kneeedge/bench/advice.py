"""What to make of the measured rows: which model to use here, and what to bear in mind."""

from collections import Counter
from collections.abc import Sequence

from kneeedge.bench.ceiling import ARITHMETIC
from kneeedge.model.verdict import FAIL, PASS
from kneeedge.runs.answers import ORIGINAL
from kneeedge.runs.benchmark import (
    BenchResult,
    ModelKey,
    Row,
    model_key,
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
BUSY = 0.5
"runnable processes a core before the start, from which on the machine is not quiet"
IDLE_CPU = 0.05
"share of its threads' time that a process may be busy while it waits"
CLOCK_DRIFT = 0.05
"change of a clock, or of the ceiling's product, over the rounds from which on it is worth a word"


def advice(result: BenchResult) -> str:
    """Which model to use, why not the others, and what it costs, by the SingleStream rows.

    No file is advised that the gate has not passed, however fast it is.
    """
    rows = single_rows(result)
    base = _base_of(rows)
    others = [row for row in rows if row is not base and row.precision != ORIGINAL]
    if base is None or not others:
        return "there is no second model to compare; bench two variants of one model"
    names = names_of(rows)
    drawbacks = [
        _drawback(row, base, names, result.environment)
        for row in others
        if not (_is_clearly_faster(row, base) and may_be_used(row))
    ]
    if not may_be_used(base):
        drawbacks.insert(0, f"{names[model_key(base)]} is not advised, {_why_not_used(base)}")
    best = _best_of(rows, base)
    if best is None:
        return f"{' and '.join(drawbacks)}: use none of these"
    use = f"use {names[model_key(best)]}"
    if best is not base:
        ratio = times_as_fast(best, base)
        use += f" ({ratio:.1f}× {names[model_key(base)]}; {_cost(best)})"
    use += _against_original(best, rows) + _headroom(best)
    if any(row.unstable for row in (base, *others)):
        use += "; unstable, measure again"
    return f"{' and '.join(drawbacks)}: {use}" if drawbacks else use


def machine_cautions(
    environment: Environment, before: Conditions, after: Conditions, speed_ratio: float | None
) -> list[str]:
    """What of the machine may have moved the figures.

    `speed_ratio` is the speed of the ceiling's product after the rounds over that before them; None
    where it was not measured.
    """
    cautions = []
    load = environment.load_average
    if load is not None and load > BUSY * environment.n_cpus:
        busy = f"load {load:g} on {environment.n_cpus} cores"
        cautions.append(f"the machine was busy before the start ({busy})")
    if _has_moved(before.cpu_mhz, after.cpu_mhz):
        cautions.append(
            f"the CPU's clock went from {before.cpu_mhz:.0f} to {after.cpu_mhz:.0f} MHz"
        )
    for first, last in zip(before.gpu_mhz, after.gpu_mhz, strict=False):
        if _has_moved(first, last):
            cautions.append(f"the GPU's clock went from {first:.0f} to {last:.0f} MHz")
    if before.throttled is not None and after.throttled is not None:
        times = after.throttled - before.throttled
        if times > 0:
            cautions.append(f"heat lowered a core's clock {times} times: cool it, run again")
    if speed_ratio is not None and abs(speed_ratio - 1) > CLOCK_DRIFT:
        ran = f"the same matrix product ran at {speed_ratio:.2f}× its speed after the rounds"
        cautions.append(f"{ran}: clocks or other work")
    return cautions


def row_cautions(rows: Sequence[Row], idle_cpu: float, notice: str) -> list[str]:
    """What to bear in mind of one model's rows on one provider.

    `idle_cpu` is the share of its threads' time that its process was busy in the others' turns,
    `notice` what the session said of the provider.
    """
    first = rows[0]
    cautions = [notice] if notice and notice != INT8_ON_CUDA else []
    name = model_name(first.model)
    if first.precision == "int8" and first.provider == "cuda":
        cautions.append(f"{name}: {INT8_ON_CUDA}")
    if idle_cpu > IDLE_CPU:
        busy = f"its threads were {idle_cpu:.0%} busy while the others had their turns"
        cautions.append(f"{name}: {busy}, which slows those")
    accuracy = first.accuracy
    if accuracy is not None and accuracy.n_seen:
        seen = f"{accuracy.n_seen} of {accuracy.n} images"
        cautions.append(f"{name}: LEAKY, the model was trained or chosen on {seen}")
    unstable = [f"{scenario_name(row)} ({row.window_spread:.0%})" for row in rows if row.unstable]
    if unstable:
        apart = f"its windows lie apart in {', '.join(unstable)}"
        cautions.append(f"{name}: unstable, {apart}; quiet the machine, run again")
    accuracies = [row.accuracy for row in rows if row.accuracy is not None]
    reasons = dict.fromkeys(part.reason for part in accuracies if part.verdict == FAIL)
    if first.gate is not None and first.gate != PASS:
        cautions.append(f"{name}: the gate did not pass it at its export ({first.gate})")
    return cautions + [f"{name}: the gate fails it: {reason}" for reason in reasons]


def names_of(rows: Sequence[Row]) -> dict[ModelKey, str]:
    """What to call each model in a sentence.

    Its precision where no other has the same, else its file; and where it runs, if they run on
    several providers.
    """
    keys = {model_key(row) for row in rows}
    files = {(path, precision) for path, precision, _ in keys}
    n_with_path = Counter(path for path, _ in files)
    n_with_precision = Counter(precision for _, precision in files)
    has_several_providers = len({row.provider for row in rows if row.precision != ORIGINAL}) > 1
    labels = labels_of([path for path, _, _ in keys])
    names = {}
    for path, precision, provider in keys:
        is_told_by_precision = n_with_precision[precision] == 1 and n_with_path[path] == 1
        name = precision if is_told_by_precision else labels[path]
        if has_several_providers:
            name += f" on {provider}"
        names[path, precision, provider] = name
    return names


def labels_of(paths: Sequence[str]) -> dict[str, str]:
    """What to call each model in a table: the file's name, else where it is not alone the path."""
    different = set(paths)
    counts = Counter(map(model_name, different))
    labels = {}
    for path in different:
        name = model_name(path)
        labels[path] = name if counts[name] == 1 else path
    return labels


def _base_of(rows: Sequence[Row]) -> Row | None:
    """What the files are held against: the first fp32 file, else the first row."""
    for row in rows:
        if row.precision == "fp32":
            return row
    return rows[0] if rows else None


def _is_clearly_faster(row: Row, base: Row) -> bool:
    return times_as_fast(row, base) > CLEARLY


def _is_worse(row: Row) -> bool:
    """Whether its answers are known to be worse than the reference's."""
    return row.accuracy is not None and (row.accuracy.surely_lost or row.accuracy.verdict == FAIL)


def may_be_used(row: Row) -> bool:
    """Whether the gate has passed the file, and nothing measured here speaks against it.

    What it said at the export counts; where the file carries no verdict, that on the images here.
    PyTorch's original needs none.
    """
    return row.precision == ORIGINAL or (_verdict(row) == PASS and not _is_worse(row))


def _verdict(row: Row) -> str | None:
    return row.gate or (row.accuracy.verdict if row.accuracy else None)


def _why_not_used(row: Row) -> str:
    """Why `may_be_used` is false of a row."""
    if _is_worse(row):
        return f"loses accuracy ({_cost(row)})"
    verdict = _verdict(row)
    if verdict is None:
        return "no gate has judged it; export it, or give --data"
    return f"the gate did not pass it ({verdict})"


def _best_of(rows: Sequence[Row], base: Row) -> Row | None:
    """The fastest file that is clearly faster than the base, else the base, of those to be used."""
    allowed = [row for row in rows if may_be_used(row)]
    files = [row for row in allowed if row.precision != ORIGINAL and _is_clearly_faster(row, base)]
    if not files and base in allowed:
        return base
    return max(files or allowed, key=lambda row: times_as_fast(row, base), default=None)


def _drawback(row: Row, base: Row, names: dict[ModelKey, str], environment: Environment) -> str:
    """Why a model is not the one to use."""
    name = names[model_key(row)]
    base_name = names[model_key(base)]
    ratio = times_as_fast(row, base)
    if _is_clearly_faster(row, base):
        return f"{name} is {ratio:.1f}× {base_name} but {_why_not_used(row)}"
    place = ""
    if " on " not in name:
        place = " on this CPU" if row.provider in CPU_PROVIDERS else f" on {row.provider}"
    relation = "slower than" if ratio < 1 / CLEARLY else "no faster than"
    reason = _why_slow(row, environment)
    return f"{name} is {relation} {base_name}{place} ({ratio:.1f}×{reason})"


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
    """A word where PyTorch itself is not slower than the best file on the same provider."""
    for original in rows:
        if original.precision == ORIGINAL and original.provider == best.provider:
            ratio = times_as_fast(best, original)
            if original is best or ratio > CLEARLY:
                return ""
            return f"; it is no faster than PyTorch here ({ratio:.1f}×)"
    return ""


def _headroom(best: Row) -> str:
    share = best.ceiling_share
    if share is None or share < NEAR_CEILING:
        return ""
    arithmetic = ARITHMETIC[best.precision]
    place = f"at {share:.0%} of this CPU's {arithmetic} ceiling"
    return f"; {place}, more speed means a narrower network"


def _cost(row: Row) -> str:
    return row.accuracy.cost() if row.accuracy else "accuracy was not measured, give --data"


def _has_moved(before: float | None, after: float | None) -> bool:
    """Whether a clock, where it is known at both times, changed by more than drift alone would."""
    return bool(before and after and abs(after / before - 1) > CLOCK_DRIFT)
