"""Where a command may write: nothing is replaced but an older file of kneeedge's own of that kind.

It is looked at before the work, so that hours of it do not end in a refusal.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.system.files import is_stream
from kneeedge.system.own import SOFTWARE, is_own_capture, is_own_picture, is_own_report

STDOUT = Path("-")
"stands for standard output, where a command says so"
_SNIFFED_BYTES = 1 << 16
"of a file's begin and of its end, by which it is known"
_SVG = b"<svg"
_PDF = b"%PDF-"
ROWS_FORMAT = "kneeedge-verify-rows/1"
"what the JSON of a device's answers says of itself"
DRIFT_FORMAT = "kneeedge-drift/1"
"what a site's history of drift says of itself; it is replaced by a later one alone"
PARQUET_FORMAT = "kneeedge-rows/1"
"what the schema of answers in Parquet says of itself"
_NAME = SOFTWARE.split()[0].encode()
_FORMAT = re.compile(rb'[\[{\s]*"format": "kneeedge-')
"the begin of every JSON document of kneeedge's, a list or not"


@dataclass(frozen=True)
class Kind:
    """A kind of output."""

    name: str
    "in words, as in: it is no …"
    is_ours: Callable[[bytes], bool]
    "whether a file, of which this is the begin and the end, is one that kneeedge wrote"
    streams: bool = True
    "written in one go, and so into a pipe as well; the others take their name when they are whole"


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.startswith(starts)


def _is_document(content: bytes) -> bool:
    return _FORMAT.match(content) is not None and not _is_drift(content)


def _is_drift(content: bytes) -> bool:
    return content.startswith(f'{{"format": "{DRIFT_FORMAT}"'.encode())


def _is_answers(content: bytes) -> bool:
    in_json = _FORMAT.match(content) is not None and ROWS_FORMAT.encode() in content[:200]
    return in_json or content.startswith(b"path,sha256,input_sha256,status,prediction,")


def _is_page(content: bytes) -> bool:
    return content.startswith(b"<!doctype html>") and b"<title>kneeedge " in content


def _is_figure(content: bytes) -> bool:
    if content.startswith(_PDF) or _SVG in content:
        return _NAME in content
    return is_own_picture(content)


def _is_sheet(content: bytes) -> bool:
    return content.startswith(b"### ") and b"- machine: " in content


def _is_parquet(content: bytes) -> bool:
    return content.startswith(b"PAR1") and PARQUET_FORMAT.encode() in content


ROWS = Kind("table of answers", _begins(b"path,status,prediction,probability,"), streams=False)
PARQUET_ROWS = Kind("Parquet table of answers", _is_parquet, streams=False)
GROUPS = Kind("table of groups", _begins(b"path,group\r\n", b"path,group\n"))
LABELS = Kind(
    "list of labels",
    _begins(b"path,label,probability,rank,why\r\n", b"path,label,probability,rank,why\n"),
)
BENCH_ROWS = Kind("table of a benchmark", _begins(b"model,precision,provider,scenario,"))
ANSWERS = Kind("table of a device's answers", _is_answers)
DOCUMENT = Kind("JSON document", _is_document)
DRIFT = Kind("history of drift", _is_drift, streams=False)
PAGE = Kind("page", _is_page)
SHEET = Kind("report in Markdown", _is_sheet)
FIGURE = Kind("figure", _is_figure)
HEATMAP = Kind("heat map", is_own_picture, streams=False)
REPORT = Kind("Structured Report", is_own_report, streams=False)
CAPTURE = Kind("Secondary Capture", is_own_capture, streams=False)


def check_output(path: Path | None, kind: Kind, inputs: Iterable[Path] = ()) -> None:
    """Raise OutputExistsError where `path` is anything but a free name or an older file of `kind`.

    Its folder is made where it is missing. None of the inputs is written over, under whatever name.
    A pipe, a descriptor and /dev/null are written to as they are, where the kind allows for that.
    None and `-` are nothing to look at.
    """
    if path is None or path == STDOUT:
        return
    if is_stream(path):
        if not kind.streams:
            raise OutputExistsError(path, "it is a device or a pipe; name a file")
        return
    if path.is_symlink():
        raise OutputExistsError(path, "it is a link; name the file itself")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise OutputExistsError(path, "it is a folder; name a file")
    if not stat.S_ISREG(status.st_mode):
        raise OutputExistsError(path, "it is no regular file; name one, or use - with --json")
    if any(source.exists() and os.path.samestat(status, source.stat()) for source in inputs):
        raise OutputExistsError(path, "it is one of the inputs; name another file")
    if status.st_size and not kind.is_ours(_ends_of(path)):
        raise OutputExistsError(
            path, f"it is no {kind.name} that kneeedge wrote; name another place, or remove it"
        )


def check_output_folder(folder: Path | None) -> None:
    """Raise OutputExistsError where files cannot be written below `folder`; None is no folder."""
    if folder is not None and (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise OutputExistsError(folder, "it is no folder; name one")


def check_outputs(outputs: Iterable[tuple[Path | None, Kind]], inputs: Iterable[Path] = ()) -> None:
    """Check each output as `check_output` does; raises ConfigError where two are one file.

    Standard output is for JSON alone.
    """
    sources = tuple(inputs)
    seen: set[str] = set()
    for path, kind in outputs:
        if path is None:
            continue
        if path == STDOUT and kind is not DOCUMENT:
            remedy = "name a file, or /dev/stdout" if kind.streams else "name a file"
            raise ConfigError(f"- is no place for a {kind.name}", remedy)
        check_output(path, kind, sources)
        place = os.path.realpath(path)
        if place in seen and not is_stream(path):
            raise ConfigError(f"{path} is to hold two results", "name a file for each")
        seen.add(place)


def _ends_of(path: Path) -> bytes:
    """The begin of a file, and its end where that is further off."""
    with path.open("rb") as file:
        begin = file.read(_SNIFFED_BYTES)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(len(begin), size - _SNIFFED_BYTES))
        return begin + file.read()
