"""A model file → a model repository for Triton: two models, each with the file and its config."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import ModelFileError
from kneeedge.model.file import ModelFile
from kneeedge.model.signature import signature_path
from kneeedge.model.spec import DISCLAIMER, ModelSpec
from kneeedge.runtime.cuda import INT8_ON_CUDA
from kneeedge.runtime.golden import verify
from kneeedge.runtime.session import Session
from kneeedge.system.files import copy_file, write_text
from kneeedge.system.folders import (
    FolderKind,
    ListedFile,
    check_folder,
    files_below,
    replacing_folder,
)
from kneeedge.system.strict_json import to_json
from kneeedge.triton.config import (
    NETWORK,
    ServerOptions,
    check_for_triton,
    files_config,
    network_config,
)
from kneeedge.version import __version__

CONFIG, MODEL, SCRIPT, RECORD = "config.pbtxt", "model.onnx", "model.py", "kneeedge.json"
VERSION = "1"
"the folder of a model's only version"
FORMAT = "kneeedge-triton-repository/1"
REPOSITORY = FolderKind(
    name="model repository",
    record=RECORD,
    mark=b'{\n  "format": "kneeedge-triton-repository/',
    caches=("__pycache__",),
)
CODE = '''"""Image files → answers, by the kneeedge that Triton's Python has installed."""

from kneeedge.triton.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RepositoryRecord:
    """What a repository says of itself to people, and to who would replace it."""

    format: str
    kneeedge: str
    "version"
    disclaimer: str
    model_sha256: str
    signed_by: str
    "fingerprint of the key that the model was verified with; empty where none was asked for"
    spec: ModelSpec
    files: dict[str, ListedFile]
    "every other file, by its path"


@dataclass(frozen=True, kw_only=True)
class RepositoryReport:
    """What `kneeedge triton` wrote."""

    model: str
    model_sha256: str
    out: str
    files_model: str
    "name of the model that takes image files"
    network_model: str
    "name of the model that takes the network's input; empty where it was left out"
    provider: str
    signed: bool
    "whether the file's signature stands beside it, which a server may require"
    n_bytes: int
    notice: str
    "one line about the provider that its user should know, or empty"


def write_repository(
    model: ModelFile, out: Path, options: ServerOptions, say: Say
) -> RepositoryReport:
    """Write the repository of a model file to the folder `out`, new, empty, or an older one.

    The file first repeats its golden inputs here, on the CPU. Raises OutputExistsError for another
    folder, and ModelFileError, SpecError or ProviderError for a file that answers them otherwise,
    has none, or that the options would make answer wrongly.
    """
    check_folder(out, REPOSITORY)
    say("repeating the golden inputs")
    session = Session(model, "cpu")
    check_for_triton(session, options)
    prove(session)
    with replacing_folder(out, REPOSITORY) as new:
        if not options.files_only:
            network = new / (options.name + NETWORK)
            _write_model(model, network, network_config(session, options))
        files = new / options.name
        _write_model(model, files, files_config(model, options))
        write_text(files / VERSION / SCRIPT, CODE)
        record = RepositoryRecord(
            format=FORMAT,
            kneeedge=__version__,
            disclaimer=DISCLAIMER,
            model_sha256=model.sha256,
            signed_by=model.signed_by,
            spec=model.spec,
            files=files_below(new),
        )
        write_text(new / RECORD, to_json(record) + "\n")
    precision = model.spec.file.precision if model.spec.file else None
    return RepositoryReport(
        model=str(model.path),
        model_sha256=model.sha256,
        out=str(out),
        files_model=options.name,
        network_model="" if options.files_only else options.name + NETWORK,
        provider=options.provider,
        signed=signature_path(model.path).is_file(),
        n_bytes=sum(file.n_bytes for file in record.files.values()),
        notice=INT8_ON_CUDA if (options.provider, precision) == ("cuda", "int8") else "",
    )


def prove(session: Session) -> int:
    """How many golden inputs the session repeated; raises ModelFileError where it did not."""
    report = verify(session, session.file.sha256, cpu="")
    if not report.passed:
        problem = f"it answers its own golden inputs otherwise here, on {session.provider}"
        raise ModelFileError(session.path, problem, "see what differs with `kneeedge verify`")
    return report.n


def _write_model(model: ModelFile, folder: Path, config: str) -> None:
    """A model of the repository: its config, the file as its only version, and its signature."""
    target = folder / VERSION / MODEL
    target.parent.mkdir(parents=True)
    write_text(folder / CONFIG, config)
    model.copy_to(target)
    signature = signature_path(model.path)
    if signature.is_file():
        copy_file(signature, signature_path(target))
