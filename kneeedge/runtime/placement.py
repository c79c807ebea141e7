"""Where a session's nodes really run, read from a profile that ONNX Runtime wrote of it."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kneeedge.errors import ProviderError
from kneeedge.runtime.providers import PROVIDERS
from kneeedge.runtime.session import Session

COPIES = ("MemcpyFromHost", "MemcpyToHost")
"nodes that ONNX Runtime adds where two neighbours do not compute on the same device"
KERNEL = "_kernel_time"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How much of a network ran on the provider that was asked for."""

    provider: str
    n_nodes: int
    "of the optimised graph, without copies"
    n_on_provider: int
    share_of_time: float
    "0 to 1; of the host's time in the nodes, which on a GPU is the time to launch them"
    n_copies: int
    "nodes that copy between host and device"
    elsewhere: dict[str, int]
    "operator and provider of the nodes that ran elsewhere, with their number"

    @property
    def share_of_nodes(self) -> float:
        return self.n_on_provider / self.n_nodes

    @property
    def n_astray(self) -> int:
        """Nodes that ran elsewhere, but for those that TensorRT leaves to the CUDA provider."""
        return sum(n for name, n in self.elsewhere.items() if not name.endswith(" on cuda"))

    def __str__(self) -> str:
        nodes = f"{self.n_on_provider} of {self.n_nodes} nodes ({self.share_of_nodes:.1%})"
        time = f"{self.share_of_time:.1%} of the time"
        elsewhere = "".join(f", {n} {name}" for name, n in self.elsewhere.items())
        return (
            f"{nodes} and {time} on {self.provider}, "
            f"{self.n_copies} copies between host and device{elsewhere}"
        )


def placement(session: Session, batch_size: int = 1) -> Placement:
    """Profile one run of a session like this one, after a run that warms it up."""
    side = session.spec.pixel_path.size
    images = np.zeros((batch_size, 1, side, side), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        profile = session.profile(images, Path(folder))
        events = json.loads(profile.read_text(encoding="utf-8"))
    return read_profile(events, session.provider)


def kernels(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of a profile that are runs of a node."""
    return [
        event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL)
    ]


def read_profile(events: Iterable[dict[str, Any]], provider: str) -> Placement:
    """The placement that the events of a profile show: of a node that ran twice, the last run's.

    Raises ProviderError where they name no node.
    """
    last_runs = {event["name"]: event for event in kernels(events)}
    nodes = [e for e in last_runs.values() if e["args"].get("op_name") not in COPIES]
    if not nodes:
        remedy = "report this with the version of ONNX Runtime"
        raise ProviderError(provider, "its profile names no node", remedy)
    on_provider = [e for e in nodes if e["args"].get("provider") == PROVIDERS[provider]]
    elsewhere = [e for e in nodes if e["args"].get("provider") != PROVIDERS[provider]]
    duration = sum(event["dur"] for event in nodes)
    share_of_time = len(on_provider) / len(nodes)
    if duration:
        share_of_time = sum(event["dur"] for event in on_provider) / duration
    return Placement(
        provider=provider,
        n_nodes=len(nodes),
        n_on_provider=len(on_provider),
        share_of_time=share_of_time,
        n_copies=len(last_runs) - len(nodes),
        elsewhere=dict(Counter(map(operator_and_provider, elsewhere))),
    )


def operator_and_provider(event: dict[str, Any]) -> str:
    """As "Resize on cpu", by kneeedge's name of the provider."""
    names = {full: name for name, full in PROVIDERS.items()}
    provider = names.get(event["args"].get("provider", ""), "unknown")
    return f"{event['args'].get('op_name')} on {provider}"
