"""Ray: joined or started, and batches answered by the networks of its nodes."""

import os
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from kneeedge.cluster.messages import ANSWERS, CHUNK, Chunk, ChunkAnswers, WorkerSetup
from kneeedge.cluster.request import RayRequest
from kneeedge.cluster.sources import INSTALL, ClusterImage
from kneeedge.errors import ConfigError, MissingExtraError, ProviderError, WorkerError
from kneeedge.system import machine
from kneeedge.system.processes import as_raised
from kneeedge.system.strict_json import from_json, to_json

LOOPBACK = "127.0.0.1"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_LOG_LEVEL": "CRITICAL"}
"no statistics of use to Ray's makers; what goes wrong is told by us"
OWN_CLUSTER = {
    # Ray binds to all addresses on Linux; where it takes no cluster for possible, to loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}
OBJECT_STORE = 200 << 20
"bytes of a cluster of our own, beside two copies of the model: chunks and rows are small"
CHUNKS_A_WORKER = 8
"at least, where there are so many batches: the last to finish keeps the others waiting"
MOST_IMAGES = 256
"of a chunk: what the end of a worker costs"
REACH_SECONDS = 10.0
"for a cluster's head to take a connection"
MOST_LOSSES = 3
"times that workers are lost without one chunk answered, until it is no accident"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that this process is a driver of."""

    ray: ModuleType
    n_nodes: int
    "alive when it was joined"
    is_own: bool
    "started by this process, which ends it"


@contextmanager
def joined(request: RayRequest, n_model_bytes: int) -> Iterator[Cluster]:
    """The cluster at the request's address, or one of this machine alone, on loopback.

    Raises MissingExtraError without Ray, and ConfigError where no cluster can be joined.
    """
    ray = load_ray(request.address is None)
    # On stdout, which is for reports, Ray tells of nodes and workers that are lost.
    with redirect_stdout(sys.stderr):
        try:
            with _own_signals():
                _init(ray, request, n_model_bytes)
            n_nodes = sum(node["Alive"] for node in ray.nodes())
            yield Cluster(ray=ray, n_nodes=n_nodes, is_own=request.address is None)
        finally:
            ray.shutdown()


def load_ray(own_cluster: bool) -> ModuleType:
    """Ray with its data library; it reads its variables when it is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if own_cluster:
        os.environ |= OWN_CLUSTER
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("--engine ray", "Ray Data", INSTALL) from error
    ray_module: ModuleType = ray
    return ray_module


def _init(ray: ModuleType, request: RayRequest, n_model_bytes: int) -> None:
    quiet = {"logging_level": "error", "log_to_driver": False}
    if request.address is not None:
        try:
            _reach(request.address)
            ray.init(address=request.address, **quiet)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            problem = f"no Ray cluster at {request.address} ({_first_line(error)})"
            remedy = "start one with `ray start --head`, and see that both have one token"
            raise ConfigError(problem, remedy) from error
        return
    ray.init(
        address="local",
        num_cpus=max(machine.available_cpus(), (request.workers or 1) * request.threads),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE + 2 * n_model_bytes,
        **quiet,
    )
    if any(node["NodeManagerAddress"] != LOOPBACK for node in ray.nodes()):
        problem = "Ray was imported before and listens to the network"
        raise ConfigError(problem, "call kneeedge first, or start a cluster and give its address")


def _reach(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray would try for minutes.

    ValueError for what is no such address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), REACH_SECONDS).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; a run is stopped by it as by Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def answered(
    cluster: Cluster,
    request: RayRequest,
    setup: WorkerSetup,
    data: bytes,
    batches: Mapping[int, Sequence[ClusterImage]],
    say: Callable[[str], None],
) -> Iterator[ChunkAnswers]:
    """Answers to all batches, each once, as they come.

    A worker or a node that is lost takes its chunks with it; they, and what others had in hand, are
    given to those that are left. Raises what a worker says that ends the run, and WorkerError where
    workers end again and again.
    """
    model = cluster.ray.put(data)
    missing = dict(batches)
    n_losses = 0
    while missing:
        n_before = len(missing)
        try:
            for answers in _round(cluster, request, setup, model, missing):
                if answers.failure:
                    raise as_raised(answers.failure.kind, answers.failure.message)
                for number in answers.numbers:
                    del missing[number]
                yield answers
        except _lost(cluster.ray) as error:
            n_losses = n_losses + 1 if len(missing) == n_before else 0
            if n_losses >= MOST_LOSSES:
                raise _given_up(error) from error
            say(f"a worker or a node was lost ({_first_line(error)}): going on with the others")
        except cluster.ray.exceptions.RayError as error:
            raise _given_up(error) from error


def _round(
    cluster: Cluster,
    request: RayRequest,
    setup: WorkerSetup,
    model: Any,
    missing: Mapping[int, Sequence[ClusterImage]],
) -> Iterator[ChunkAnswers]:
    """Answers to the missing batches as they come, by the nodes that are there now.

    Workers are not restarted by Ray: those of a node that is gone would be waited for without end.
    """
    ray = cluster.ray
    from kneeedge.cluster.worker import Worker

    n_workers = workers_of(ray, request)
    items = [{CHUNK: to_json(chunk, indent=None)} for chunk in chunks_of(missing, n_workers)]
    _set_up(ray)
    table = ray.data.from_items(items, override_num_blocks=len(items))
    with warnings.catch_warnings():
        # Ray is to drop these two in 2.64, which pyproject.toml leaves out.
        warnings.filterwarnings("ignore", "`ray_remote_args`")
        answers = table.map_batches(
            Worker,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(n_workers, len(items))),
            fn_constructor_args=(model, setup),
            num_cpus=request.threads,
            num_gpus=1 if request.on_gpu else None,
            max_restarts=0,
            max_task_retries=0,
        )
    for block in answers.iter_batches(batch_size=None, prefetch_batches=0):
        for text in block[ANSWERS]:
            yield from_json(ChunkAnswers, str(text))


def workers_of(ray: ModuleType, request: RayRequest) -> int:
    """Networks that the cluster as it is now has room for, or fewer where that is asked for.

    Raises ProviderError where they need GPUs and there is none.
    """
    resources = ray.cluster_resources()
    n = int(resources.get("CPU", 0)) // request.threads
    if request.on_gpu:
        n = int(resources.get("GPU", 0))
        if not n:
            reason = "no node of the cluster has a GPU"
            raise ProviderError(request.provider, reason, "use --provider cpu")
    return max(1, min(n, request.workers or n))


def chunks_of(missing: Mapping[int, Sequence[ClusterImage]], n_workers: int) -> list[Chunk]:
    """The batches in chunks, in order: many enough to feed all workers to the end."""
    numbers = list(missing)
    batch_size = max(map(len, missing.values()))
    size = -(-len(numbers) // (CHUNKS_A_WORKER * n_workers))
    size = max(1, min(size, MOST_IMAGES // batch_size))
    parts = [tuple(numbers[i : i + size]) for i in range(0, len(numbers), size)]
    return [Chunk(part, tuple(tuple(missing[n]) for n in part)) for part in parts]


def _set_up(ray: ModuleType) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _lost(ray: ModuleType) -> tuple[type[Exception], ...]:
    """What Ray raises where a process or a machine ended, and nobody's code is at fault."""
    errors = ray.exceptions
    return (
        errors.RayActorError,
        errors.WorkerCrashedError,
        errors.NodeDiedError,
        errors.ObjectLostError,
        errors.OutOfMemoryError,
    )


def _given_up(error: Exception) -> WorkerError:
    remedy = "look into the logs of its node below /tmp/ray/session_latest/logs"
    return WorkerError("a worker of the cluster", _first_line(error), remedy)


def _first_line(error: BaseException) -> str:
    return next(filter(None, str(error).strip().splitlines()), type(error).__name__)[:200]
