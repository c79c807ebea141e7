"""What `kneeedge export` can be asked for."""

from dataclasses import dataclass

from export.calibration import N_IMAGES
from export.to_int8 import DEFAULT_TARGET, check_target
from kneeedge.errors import ConfigError

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `kneeedge export` was asked for."""

    precisions: tuple[str, ...] = PRECISIONS
    int8_target: str = DEFAULT_TARGET
    n_calibration: int = N_IMAGES
    "training images that set the int8 ranges"
    tolerance: float | None = None
    """accuracy that a variant may lose, and images that it may refuse more, as a share; None: the
    precision's own"""
    provider: str = "cpu"
    "where the variants are verified"
    data: str | None = None
    "the data folder, where it is no longer where the run was trained"
    gate_data: str | None = None
    "images that the gate's verdict rests on beside val's"
    search_minutes: float = 5.0
    "for the int8 recipe, ranges not counted; 0: minmax ranges and all layers in 8 bits"
    any_size: bool = False
    "write beside each file one that resizes pictures of any size itself"
    sign: str | None = None
    "PEM file of the private key that signs each published file"
    stress: bool = False
    "hold each variant against the original on corrupted images too"
    stress_tolerance: float | None = None
    "accuracy that a variant may lose there under any kind, as a share; None: TOLERANCE's"

    def __post_init__(self) -> None:
        remedy = f"choose from {','.join(PRECISIONS)}"
        for name in self.precisions:
            if name not in PRECISIONS:
                raise ConfigError(f"--precision {name} is unknown", remedy)
        if not self.precisions:
            raise ConfigError("--precision names nothing", remedy)
        check_target(self.int8_target)
        if self.stress_tolerance is not None and not self.stress:
            problem = "--stress-tolerance is about corrupted images"
            raise ConfigError(problem, "ask for them with --stress")
