"""Work done by threads, its results in the order of what it was done on."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from kneeedge.system.machine import available_cpus

if TYPE_CHECKING:
    from kneeedge.system.progress import Progress


Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_AHEAD = 256
"results of `in_threads` that may wait for an earlier one"


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    n_threads: int,
    n_ahead: int,
    stop: Callable[[], None] | None = None,
) -> Generator[Result]:
    """`work` of each item, done by threads and given in the order of the items.

    At most `n_ahead` items are in work, or done, beyond those that were taken. What `work` raises
    is raised here. `stop` is called at the end, before the threads are waited for, so that work in
    hand can be broken off.
    """
    pool = ThreadPoolExecutor(n_threads)
    try:
        yield from in_pool(pool, work, items, n_ahead)
    finally:
        if stop is not None:
            stop()
        pool.shutdown(cancel_futures=True)


def in_pool(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    n_ahead: int,
) -> Generator[Result]:
    """As `in_order`, by the threads of a pool that outlives this work."""
    remaining = iter(items)
    waiting: deque[Future[Result]] = deque()
    try:
        while True:
            for item in islice(remaining, n_ahead - len(waiting)):
                waiting.append(pool.submit(work, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], name: str, progress: "Progress"
) -> list[Result]:
    """`work` of each item on all cores that this process may use, as the stage `name`.

    It pays for work that releases the interpreter lock: decoding, hashing, SciPy's filters.
    """
    results = []
    with progress.stage(name, len(items)) as stage:
        for result in in_order(work, items, available_cpus(), LOOK_AHEAD):
            results.append(result)
            stage.advance()
    return results
