"""What to bear in mind with the figures of a benchmark."""

from collections.abc import Sequence

from kneeedge.bench.result import Row, kind, label
from kneeedge.gate import FAIL
from kneeedge.gpu import INT8_ON_CUDA
from kneeedge.machine import Conditions, Environment

BUSY = 0.5
"runnable processes a core before the start, from which on the machine is not quiet"
IDLE_CPU = 0.05
"share of its threads' time that a process may be busy while it waits"
CLOCK_DRIFT = 0.05
"change of a clock, or of the ceiling's product, from before to after the rounds that is worth a word"


def machine_cautions(environment: Environment, before: Conditions, after: Conditions, speed: float | None) -> list[str]:
    """Of the machine; `speed` is the ceiling's product after the rounds over that before them."""
    found, load = [], environment.load_average
    if load is not None and load > BUSY * environment.n_cpus:
        found.append(f"the machine was busy before the start (load {load:g} on {environment.n_cpus} cores)")
    if before.cpu_mhz and after.cpu_mhz and abs(after.cpu_mhz / before.cpu_mhz - 1) > CLOCK_DRIFT:
        found.append(f"the CPU's clock went from {before.cpu_mhz:.0f} to {after.cpu_mhz:.0f} MHz")
    for first, last in zip(before.gpu_mhz, after.gpu_mhz, strict=False):
        if last and first and abs(last / first - 1) > CLOCK_DRIFT:
            found.append(f"the GPU's clock went from {first:.0f} to {last:.0f} MHz")
    if before.throttled is not None and after.throttled is not None and after.throttled > before.throttled:
        found.append(f"heat lowered a core's clock {after.throttled - before.throttled} times: cool it, run again")
    if speed is not None and abs(speed - 1) > CLOCK_DRIFT:
        found.append(f"the same matrix product ran at {speed:.2f}× its speed after the rounds: clocks or other work")
    return found


def row_cautions(rows: Sequence[Row], idle_cpu: float, notice: str) -> list[str]:
    """Of one model's rows on one provider."""
    first, found = rows[0], [notice] if notice and notice != INT8_ON_CUDA else []
    name = label(first.model)
    if first.precision == "int8" and first.provider == "cuda":
        found.append(f"{name}: {INT8_ON_CUDA}")
    if idle_cpu > IDLE_CPU:
        found.append(
            f"{name}: its threads were {idle_cpu:.0%} busy while the others had their turns, which slows those"
        )
    accuracy = first.accuracy
    if accuracy is not None and accuracy.n_seen:
        found.append(f"{name}: LEAKY, the model was trained or chosen on {accuracy.n_seen} of {accuracy.n} images")
    shaky = [f"{kind(row)} ({row.window_spread:.0%})" for row in rows if row.unstable]
    if shaky:
        found.append(f"{name}: unstable, its windows lie apart in {', '.join(shaky)}; quiet the machine, run again")
    failed = dict.fromkeys(row.accuracy.reason for row in rows if row.accuracy and row.accuracy.verdict == FAIL)
    return found + [f"{name}: the gate fails it: {reason}" for reason in failed]
