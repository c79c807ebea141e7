"""A model file → a site: the page, what it needs from npm, the model, and what it is held to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import ModelFileError
from kneeedge.model.file import ModelFile
from kneeedge.model.spec import DISCLAIMER, ModelSpec
from kneeedge.report.info import info_rows
from kneeedge.runtime.golden import GoldenSet, golden_inputs, read_golden
from kneeedge.runtime.session import Session
from kneeedge.system.files import write_bytes, write_text
from kneeedge.system.folders import (
    FolderKind,
    ListedFile,
    check_folder,
    files_below,
    replacing_folder,
)
from kneeedge.system.strict_json import to_json
from kneeedge.version import __version__
from kneeedge.web.packages import fetch, files_of, read_packages

PAGE = Path(__file__).with_name("page")
PAGE_SUFFIXES = (".html", ".css", ".js", ".svg")
MODEL, RECORD, VENDOR = "model.onnx", "model.json", "vendor"
SITE_FORMAT = "kneeedge-site/1"
SITE = FolderKind(name="site", record=RECORD, mark=b'{\n  "format": "kneeedge-site/')
MAX_BYTES = 2**30
"of a model file; a page has 4 GiB at most, and holds the file and what is made of it"
WEBGPU, WASM = "webgpu", "wasm"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SiteRecord:
    """What the page reads first; the spec and the golden set it reads from the model itself."""

    format: str
    kneeedge: str
    "version"
    disclaimer: str
    signed_by: str
    "fingerprint of the key that the model was verified with; empty where none was asked for"
    backends: tuple[str, ...]
    "to try, in this order; the first that answers the golden inputs rightly is taken"
    facts: tuple[tuple[str, ...], ...]
    "what the file says of itself: a name and a value each"
    files: dict[str, ListedFile]
    "every other file of the site, by its path"


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """What `kneeedge web` wrote."""

    model: str
    model_sha256: str
    out: str
    n_files: int
    n_bytes: int
    backends: tuple[str, ...]
    "that the page tries, in this order"
    n_golden: int
    "inputs that the page answers before it answers anything else"
    n_pictures: int
    "golden pictures that it decodes and resizes before"
    packages: dict[str, str]
    "from npm, each with its version"


def write_site(model: ModelFile, out: Path, packages: Path | None, say: Say) -> SiteReport:
    """Write the site of a model file to the folder `out`, new, empty, or an older site.

    `packages` is a folder with npm tarballs, in place of npm. `say` hears what takes long. Raises
    OutputExistsError for another folder, ModelFileError and SpecError for a model that no page can
    run or prove, and NotFoundError and PackageError where a package is not to be had.
    """
    check_folder(out, SITE)
    golden = _golden(model)
    record = _record(model)
    listed = read_packages()
    say(f"packages: {', '.join(f'{package.name} {package.version}' for package in listed)}")
    tarballs = fetch(listed, packages)
    with replacing_folder(out, SITE) as new:
        for path in sorted(PAGE.rglob("*")):
            if path.suffix in PAGE_SUFFIXES:
                _write(new / path.relative_to(PAGE), path.read_bytes())
        for package, tarball in tarballs.items():
            for name, content in files_of(package, tarball).items():
                if WEBGPU in record.backends or not _is_webgpu(name):
                    _write(new / VENDOR / package.name / name, content)
        model.copy_to(new / MODEL)
        files = files_below(new)
        if files[MODEL].sha256 != model.sha256:
            problem = "it was replaced while it was being copied"
            raise ModelFileError(model.path, problem, "run the command again")
        whole = SiteRecord(**{**vars(record), "files": files})
        write_text(new / RECORD, to_json(whole) + "\n")
    return SiteReport(
        model=str(model.path),
        model_sha256=model.sha256,
        out=str(out),
        n_files=len(files) + 1,
        n_bytes=sum(file.n_bytes for file in files.values()),
        backends=record.backends,
        n_golden=len(golden.cases),
        n_pictures=len(golden.pictures),
        packages={package.name: package.version for package in listed},
    )


def _golden(model: ModelFile) -> GoldenSet:
    """What the page repeats; raises ModelFileError or SpecError for what none can run or prove."""
    if model.n_bytes > MAX_BYTES:
        problem = f"it has {model.n_bytes:,} bytes, and a browser runs {MAX_BYTES:,} at most"
        raise ModelFileError(model.path, problem, "take the int8 file, or one with --head gap")
    session = Session(model, "cpu", threads=1)
    golden = read_golden(session)
    golden_inputs(session, golden)
    if not golden.pictures:
        raise ModelFileError(model.path, "it carries no golden pictures, which a page is held to")
    return golden


def _record(model: ModelFile) -> SiteRecord:
    """All but the files."""
    return SiteRecord(
        format=SITE_FORMAT,
        kneeedge=__version__,
        disclaimer=DISCLAIMER,
        signed_by=model.signed_by,
        backends=_backends(model.spec),
        facts=tuple(info_rows(model.spec, model)),
        files={},
    )


def _backends(spec: ModelSpec) -> tuple[str, ...]:
    """Those to try; WebGPU has next to no int8 kernels, and answers of such files were wrong."""
    precision = spec.file.precision if spec.file else "fp32"
    return (WASM,) if precision == "int8" else (WEBGPU, WASM)


def _is_webgpu(name: str) -> bool:
    """Whether a file of ONNX Runtime's is for WebGPU alone."""
    return "webgpu" in name or "asyncify" in name


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
