"""What the driver and the workers say to each other: strict JSON in cells of Ray's tables."""

from dataclasses import dataclass

from kneeedge.cluster.sources import ClusterImage
from kneeedge.inference.journal import Batch
from kneeedge.inference.request import InferRequest
from kneeedge.system.processes import Failure

CHUNK, ANSWERS = "chunk", "answers"
"the column of a table to the workers, and of one from them"


@dataclass(frozen=True)
class Chunk:
    """Batches that one worker answers in one go."""

    numbers: tuple[int, ...]
    "which batches of the run these are"
    batches: tuple[tuple[ClusterImage, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ChunkAnswers:
    """What became of a chunk."""

    numbers: tuple[int, ...]
    batches: tuple[Batch, ...]
    "none where there is a failure"
    node: str
    "Ray's id of the node"
    pid: int
    "of the worker"
    seconds: dict[str, float]
    "of each stage, as of a StageClock"
    remarks: tuple[str, ...] = ()
    "what the worker said by the way"
    failure: Failure | None = None
    "what ends the run: an exception of a worker would do so without its message"


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What every worker needs to know."""

    request: InferRequest
    "its provider, threads and batch size are those of one network"
    model: str
    "the driver's path of the model file, for messages"
    model_sha256: str
    version: str
    "of kneeedge at the driver"
    folders: tuple[str, ...]
    "that are to be there on every node"
