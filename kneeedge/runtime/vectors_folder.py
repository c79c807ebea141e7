"""The folder of test vectors: new, empty, or one in which kneeedge wrote every file."""

import json
from pathlib import Path

from kneeedge.errors import OutputExistsError
from kneeedge.system.files import file_sha256, write_bytes
from kneeedge.system.outputs import check_output_folder

INDEX = "vectors.json"
_STAMP = "kneeedge-vectors/"
_MAX_INDEX_BYTES = 1 << 24


def check_vectors_folder(folder: Path) -> None:
    """Raise OutputExistsError where the folder holds anything but test vectors of kneeedge's.

    They are known by their index: each other file must have the hash that stands there.
    """
    check_output_folder(folder)
    if not folder.is_dir():
        return
    hashes = _hashes_in(folder / INDEX)
    for path in sorted(folder.iterdir()):
        if path.name == INDEX and hashes:
            continue
        is_file = path.is_file() and not path.is_symlink()
        if not is_file or file_sha256(path) != hashes.get(path.name):
            problem = "it is no test vector as kneeedge wrote it"
            raise OutputExistsError(path, f"{problem}; name another folder, or remove it")


def write_vectors(folder: Path, index: str, contents: dict[str, bytes]) -> None:
    """Write the index, then the files by name; those of an older index go before.

    Where it is killed, the folder is known by its index, and lacks some of the files in it. Raises
    as `check_vectors_folder` does.
    """
    check_vectors_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    old = _hashes_in(folder / INDEX)
    for path in folder.iterdir():
        if path.name in old:
            path.unlink()
    write_bytes(folder / INDEX, index.encode())
    for name, content in contents.items():
        write_bytes(folder / name, content)


def _hashes_in(index: Path) -> dict[str, str]:
    """File name → SHA-256 of what an index of kneeedge's lists; empty where it is none."""
    if index.is_symlink() or not index.is_file() or index.stat().st_size > _MAX_INDEX_BYTES:
        return {}
    try:
        record = json.loads(index.read_bytes())
        if not record["format"].startswith(_STAMP):
            return {}
        files = [
            vector[step] for vector in record["vectors"] for step in ("encoded", "grey", "input")
        ]
        return {file["name"]: file["sha256"] for file in files}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # somebody else's
        return {}
