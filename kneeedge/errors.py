"""What can go wrong, one class for each thing; every message ends in what to do.

KneeEdgeError
├── ImageError (ValueError)               a file that gives no pixels
│   └── TooLargeError                     an image of more pixels than may be decoded
├── InputError (TypeError)                what is given to be answered is of no kind that is taken
├── SharingError (TypeError)              what was to be sent to another process and cannot be
├── DataError (ValueError)                a data folder that cannot be used as asked
├── ConfigError (ValueError)              options that contradict each other
├── SpecError (ValueError)                a spec that is missing, damaged or of another version
├── ModelFileError (ValueError)           a model file that does not load or breaks the contract
├── SignatureError (ValueError)           a model that nobody trusted signed, or a key that is none
├── PromiseError (ValueError)             what is to be certified, and these images do not show
├── NoAnswerError (ArithmeticError)       an exported variant that gives no finite answer
├── NotFoundError (FileNotFoundError)     a path, a run or a model that is not there
├── OutputExistsError (FileExistsError)   a result that would be overwritten
├── CheckpointError (ValueError)          weights that do not fit the model
├── DivergedError (ArithmeticError)       a training loss that is no longer finite
├── MissingExtraError (ImportError)       a command whose extra is not installed
├── RuntimeConflictError (ImportError)    two ONNX Runtime wheels over each other
├── OutOfMemoryError (RuntimeError)       a single image for which the memory does not suffice
├── PackageError (ValueError)             an npm package that is not to be had, or has other bytes
├── ArchiveError (RuntimeError)           an archive that does not answer, or refuses
├── BusyError (RuntimeError)              an output that another run is writing
├── ProviderError (RuntimeError)          the provider asked for cannot run the model
└── WorkerError (RuntimeError)            a process of a job that ended without a result
    └── PeerLostError                     another process of a training that does not answer
"""

from pathlib import Path
from typing import Any

MAX_PROBLEM = 400
"characters of a problem; a file may say things without end"
EXPORT_AGAIN = "export the model again with `kneeedge export`"


class KneeEdgeError(Exception):
    """Anything kneeedge refuses to do, as one line that ends in the remedy."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A pool of processes sends errors by pickle, which would call the class with `args`."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[KneeEdgeError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """The error of that class, message and attributes, its `__init__` not called again."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _one_line(text: str) -> str:
    r"""The text without what would break the line or steer a terminal.

    \udc80 to \udcff stay as they are: bytes of a file name that are no UTF-8.
    """

    def shown(c: str) -> str:
        keeps = c.isprintable() or "\udc80" <= c <= "\udcff"
        return c if keeps else repr(c)[1:-1]

    return "".join(map(shown, text))


class ImageError(KneeEdgeError, ValueError):
    """A file that gives no pixels."""

    REMEDY = "replace the file or take it out"

    def __init__(self, path: Path | str, reason: str, remedy: str = REMEDY) -> None:
        self.path = str(path)
        self.reason = _one_line(reason)
        self.remedy = remedy
        super().__init__(f"{_one_line(self.path)}: {self.reason}; {remedy}")


class TooLargeError(ImageError):
    """An image of more pixels than may be decoded."""

    def __init__(self, path: Path | str, width: int, height: int, max_pixels: int) -> None:
        reason = f"{width} × {height} is more than {max_pixels} pixels"
        super().__init__(path, reason, "take it out, or raise --max-megapixels of `kneeedge infer`")


class InputError(KneeEdgeError, TypeError):
    """What is given to be answered is of no kind that is taken for an image."""

    def __init__(self, which: str, problem: str, remedy: str) -> None:
        super().__init__(f"{which} {problem}; {remedy}")


class SharingError(KneeEdgeError, TypeError):
    """What was to be sent to another process and cannot be."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} cannot be pickled; {remedy}")


class DataError(KneeEdgeError, ValueError):
    """A data folder that cannot be used as asked."""

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")


class ConfigError(KneeEdgeError, ValueError):
    """Options that are out of range or contradict each other."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


class SpecError(KneeEdgeError, ValueError):
    """A spec that is missing, damaged or of another version."""

    def __init__(self, where: Path | str, problem: str) -> None:
        super().__init__(f"{where}: {_short(problem)}; {EXPORT_AGAIN}")


class ModelFileError(KneeEdgeError, ValueError):
    """A model file that ONNX Runtime cannot load or that breaks the contract."""

    def __init__(self, path: Path | str, problem: str, remedy: str = EXPORT_AGAIN) -> None:
        self.problem = _short(problem)
        super().__init__(f"{path}: {self.problem}; {remedy}")


class SignatureError(KneeEdgeError, ValueError):
    """A model that its owner's key does not vouch for, or a key that cannot be used."""

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")


class PromiseError(KneeEdgeError, ValueError):
    """A promise that labelled images are too few or too badly answered to carry."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


class NoAnswerError(KneeEdgeError, ArithmeticError):
    """An exported variant that does not load, or answers NaN or infinity."""

    def __init__(self, path: Path | str, precision: str, reason: str) -> None:
        problem = f"{precision} gives no answers ({reason})"
        super().__init__(f"{path}: {problem}; leave it out of --precision")


class NotFoundError(KneeEdgeError, FileNotFoundError):
    """A path, a run or a model that is not there."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


class OutputExistsError(KneeEdgeError, FileExistsError):
    """A result that would be overwritten."""

    def __init__(self, path: Path | str, remedy: str) -> None:
        super().__init__(f"{path} is there already; {remedy}")


class ArchiveError(KneeEdgeError, RuntimeError):
    """A DICOMweb archive that does not answer, or refuses."""

    def __init__(self, url: str, problem: str, remedy: str) -> None:
        super().__init__(f"{url} {_one_line(problem)}; {remedy}")


class BusyError(KneeEdgeError, RuntimeError):
    """An output that another run is writing."""

    def __init__(self, path: Path | str) -> None:
        remedy = "wait for that one, or name another --out"
        super().__init__(f"{path}: another run is writing it; {remedy}")


class CheckpointError(KneeEdgeError, ValueError):
    """Weights or a checkpoint that do not fit the model."""

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")


class DivergedError(KneeEdgeError, ArithmeticError):
    """A training loss that is no longer finite."""

    def __init__(self, epoch: int) -> None:
        problem = f"the training loss of epoch {epoch} is not finite"
        super().__init__(f"{problem}; lower --lr and --head-lr")


class MissingExtraError(KneeEdgeError, ImportError):
    """A command whose extra is not installed."""

    def __init__(self, what: str, module: str, install: str) -> None:
        super().__init__(f"{what} needs {module}, which is not installed; run: {install}")


class RuntimeConflictError(KneeEdgeError, ImportError):
    """Two ONNX Runtime wheels that overwrite each other's files."""

    def __init__(self, wheels: list[str]) -> None:
        problem = f"{' and '.join(wheels)} are both installed and overwrite each other"
        uninstall = f"pip uninstall -y {' '.join(wheels)}"
        install = "pip install 'kneeedge[cpu]' (or [cuda], or [openvino])"
        super().__init__(f"{problem}; run: {uninstall} && {install}")


class PackageError(KneeEdgeError, ValueError):
    """An npm package that cannot be had, or is not the one that it should be."""

    def __init__(self, package: Path | str, problem: str) -> None:
        remedy = "try again, or give --packages a folder with what `npm pack` fetched elsewhere"
        super().__init__(f"{package}: {_short(_one_line(problem))}; {remedy}")


class OutOfMemoryError(KneeEdgeError, RuntimeError):
    """A single image for which the memory does not suffice."""

    def __init__(self) -> None:
        remedy = "free some, or use a narrower or an int8 model"
        super().__init__(f"memory does not suffice for a single image; {remedy}")


class ProviderError(KneeEdgeError, RuntimeError):
    """The provider asked for cannot run the model; kneeedge never falls back in silence."""

    def __init__(self, provider: str, reason: str, remedy: str) -> None:
        super().__init__(f"provider {provider} cannot run this model: {reason}; {remedy}")


class WorkerError(KneeEdgeError, RuntimeError):
    """A process of a benchmark, of a training or of a file that ended without a result."""

    def __init__(
        self, what: str, reason: str, remedy: str = "run the command again with --debug"
    ) -> None:
        self.what = what
        self.reason = reason
        super().__init__(f"{what} ended without a result: {reason}; {remedy}")


class PeerLostError(WorkerError):
    """Another process of a training that does not answer any more."""

    def __init__(self, remedy: str = "give the command again") -> None:
        super().__init__("another process of the training", "its connection is closed", remedy)


def _short(problem: str) -> str:
    return problem if len(problem) <= MAX_PROBLEM else f"{problem[:MAX_PROBLEM]}…"
