"""A file is the old or the new one, whatever goes wrong, and its permissions are the umask's."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kneeedge.errors import OutputExistsError
from kneeedge.system.files import (
    copy_file,
    put_in_place,
    replacing,
    write_bytes,
    write_csv,
    write_text,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="umask, pipes and /dev are POSIX's")


SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of the system's, in which one is made


@pytest.fixture
def set_umask() -> Iterator[Callable[[int], int]]:
    """`os.umask`, undone at the end of the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_private_file_is_its_owners_alone_whoever_could_read_the_old_one(
    tmp_path: Path, set_umask: Callable[[int], int], umask: int
) -> None:
    set_umask(umask)
    path = tmp_path / "pictures.html"
    write_text(path, "old")
    write_text(path, "new", private=True)
    assert mode_of(path) == 0o600
    write_csv(tmp_path / "ids.csv", ("path",), [("a",)], private=True)
    assert mode_of(tmp_path / "ids.csv") == 0o600


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_follow_the_umask(
    tmp_path: Path, set_umask: Callable[[int], int], umask: int, mode: int
) -> None:
    set_umask(umask)
    write_text(tmp_path / "new.txt", "text")
    assert mode_of(tmp_path / "new.txt") == mode


def test_permissions_follow_the_umask_where_a_library_makes_a_private_file(
    tmp_path: Path, set_umask: Callable[[int], int]
) -> None:
    set_umask(0o022)
    with replacing(tmp_path / "weights") as new:
        handle, private = tempfile.mkstemp(dir=tmp_path)
        os.close(handle)
        shutil.move(private, new)
        assert mode_of(new) == 0o600
    assert mode_of(tmp_path / "weights") == 0o644


def test_a_copy_takes_the_content_and_not_the_permissions(
    tmp_path: Path, set_umask: Callable[[int], int]
) -> None:
    set_umask(0o022)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    source.chmod(0o400)
    copy_file(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert mode_of(tmp_path / "copy") == 0o644


def write_half(path: Path, error: type[BaseException]) -> None:
    """Stop with the error in the midst of writing."""
    with replacing(path) as new:
        new.write_text("half of the n")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_raise_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_raise_makes_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "file.txt", RuntimeError)
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="folder"):
        write_bytes(folder, b"content")
    assert folder.is_dir()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    "call",
    [
        "write_bytes(path, bytes(5000))",
        "write_text(path, 'x' * 5000)",
        "write_csv(path, ['column'], [['x' * 5000]])",
        "copy_file(Path(sys.executable), path)",
    ],
)
def test_a_full_disk_keeps_the_old_content_and_leaves_nothing_behind(
    tmp_path: Path, call: str
) -> None:
    """A real limit, in a process of its own: none of its files may grow beyond 900 bytes."""
    pytest.importorskip("resource")
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = textwrap.dedent(f"""
        import resource, sys
        from pathlib import Path
        from kneeedge.system.files import copy_file, write_bytes, write_csv, write_text
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
        path = Path(sys.argv[1])
        {call}
    """)
    command = [sys.executable, "-c", code, str(path)]
    full = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "File too large" in full.stderr.splitlines()[-1]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to_and_not_replaced() -> None:
    device = Path(os.devnull)
    with replacing(device) as new:
        assert new == device  # and so no file can take its name
    write_text(device, "text")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_standard_output_is_written_to() -> None:
    code = textwrap.dedent("""
        from pathlib import Path
        from kneeedge.system.files import write_csv
        write_csv(Path("/dev/stdout"), ["column"], [["cell"]])
    """)
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert printed == b"column\r\ncell\r\n"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc here")
def test_standard_output_that_is_a_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "redirected.txt"
    with path.open("wb") as file:
        inode = path.stat().st_ino
        write_text(Path(f"/proc/self/fd/{file.fileno()}"), "text")
    assert path.read_text() == "text"
    assert path.stat().st_ino == inode


def test_a_named_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_what_a_rename_would_put_an_end_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket stands for the devices that root could replace."""
    monkeypatch.chdir(tmp_path)
    new = Path("new")
    new.write_text("text")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("device")
        for write in (lambda path: write_text(path, "x"), lambda path: put_in_place(new, path)):
            with pytest.raises(OutputExistsError, match="name a file"):
                write(Path("device"))
        assert stat.S_ISSOCK(Path("device").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "new"]


def test_a_link_in_the_way_of_the_new_file_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "radiograph.png").write_text("pixels")
    (tmp_path / ".rows.csv.new").symlink_to("radiograph.png")
    write_text(tmp_path / "rows.csv", "rows")
    assert (tmp_path / "radiograph.png").read_text() == "pixels"
    assert (tmp_path / "rows.csv").read_text() == "rows"
    assert not (tmp_path / "rows.csv").is_symlink()


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="there is no /dev/shm here")
def test_a_file_in_shared_memory_is_a_file() -> None:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        path = Path(folder) / "file.txt"
        path.write_text("old")
        before = path.stat().st_ino
        write_text(path, "new")
        assert path.read_text() == "new"
        assert path.stat().st_ino != before


def test_a_table_keeps_the_bytes_of_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"kn\xffee.png")
    write_csv(tmp_path / "table.csv", ["path", "group"], [[name, "P1"], ["knee,é.png", 2]])
    expected = b'path,group\r\nkn\xffee.png,P1\r\n"knee,\xc3\xa9.png",2\r\n'
    assert (tmp_path / "table.csv").read_bytes() == expected


def test_a_text_that_is_no_utf8_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\udcff")
    assert path.read_text() == "old"
