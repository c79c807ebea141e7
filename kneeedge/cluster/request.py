"""What `kneeedge infer --engine ray` is asked for, and the one call that does it."""

from dataclasses import dataclass
from pathlib import Path

from kneeedge.cluster.parquet import SUFFIX, is_parquet
from kneeedge.cluster.sources import is_address
from kneeedge.errors import ConfigError
from kneeedge.inference.request import InferRequest
from kneeedge.runtime.cuda import GPU_PROVIDERS
from kneeedge.system.outputs import PARQUET_ROWS, ROWS, STDOUT, check_output

LEAVE_OUT = "leave it out, or leave out --engine ray"
CLIENT = "ray://"
LOCAL = "local"
"for which Ray starts a cluster of its own kind"


@dataclass(frozen=True, kw_only=True)
class RayRequest:
    """Which images to answer on many machines, and how.

    Raises ConfigError for what only one machine does.
    """

    sources: tuple[str, ...]
    "images and folders that every node sees, and addresses of object stores"
    infer: InferRequest
    "its paths are empty; its threads are those of one network, one by default"
    address: str | None = None
    "of the cluster's head, as HOST:PORT, or auto; None: a cluster of this machine's own"
    workers: int | None = None
    "networks at once; None: one for each CPU, or GPU, of the cluster"

    def __post_init__(self) -> None:
        request = self.infer
        options = request.options
        only_one_machine = {
            "--watch": request.watch,
            "--new-only": request.new_only,
            "--heatmaps": options.heatmaps,
            "--dicom-sr": options.dicom_sr,
            "--drift": options.drift,
            "--out -": request.out == STDOUT,
        }
        for option, is_asked in only_one_machine.items():
            if is_asked:
                raise ConfigError(f"{option} is for one machine", LEAVE_OUT)
        if self.address and self.address.startswith(CLIENT):
            problem = "Ray Data does not run through Ray Client (ray://)"
            raise ConfigError(problem, "run on a node of the cluster, with HOST:PORT or auto")
        if self.address == LOCAL:
            raise ConfigError("--ray-address local listens to the network", "leave it out")
        if request.out.suffix.lower() not in (".csv", SUFFIX):
            problem = f"--out {request.out} is neither CSV nor Parquet"
            raise ConfigError(problem, f"name it .csv or {SUFFIX}")
        check_output(
            request.out,
            PARQUET_ROWS if is_parquet(request.out) else ROWS,
            [Path(source) for source in self.sources if not is_address(source)],
        )

    @property
    def provider(self) -> str:
        """Of every network: nodes that choose for themselves would give rows of two kinds."""
        return "cpu" if self.infer.provider == "auto" else self.infer.provider

    @property
    def on_gpu(self) -> bool:
        """Whether a network takes a GPU."""
        return self.provider in GPU_PROVIDERS

    @property
    def threads(self) -> int:
        """CPUs of one network, and of those who read for it."""
        return self.infer.threads or 1
