"""An output replaces an older one of its kind, and nothing else."""

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from kneeedge.errors import ConfigError, OutputExistsError
from kneeedge.system.outputs import (
    BENCH_ROWS,
    DOCUMENT,
    FIGURE,
    GROUPS,
    HEATMAP,
    PAGE,
    REPORT,
    ROWS,
    SHEET,
    STDOUT,
    Kind,
    check_output,
    check_output_folder,
    check_outputs,
)

KINDS = (ROWS, GROUPS, BENCH_ROWS, DOCUMENT, PAGE, SHEET, FIGURE, HEATMAP, REPORT)
posix = pytest.mark.skipif(os.name == "nt", reason="links, pipes and /dev are POSIX's")


def refused(path: Path, kind: Kind = ROWS, inputs: tuple[Path, ...] = ()) -> str:
    """Why; the file stays as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(OutputExistsError) as caught:
        check_output(path, kind, inputs)
    assert (path.read_bytes() if path.is_file() else None) == before
    return str(caught.value)


def test_a_free_name_is_fine_and_its_folder_is_made(tmp_path: Path) -> None:
    check_output(tmp_path / "a/b/rows.csv", ROWS)
    assert (tmp_path / "a/b").is_dir()
    assert not (tmp_path / "a/b/rows.csv").exists()


def test_an_empty_file_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    for kind in KINDS:
        check_output(tmp_path / "new", kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "content",
    [
        b"path,label\r\na.png,1\r\n",
        b'{"name": "package"}',
        b"# notes",
        b"<!doctype html>\n<title>mine</title>",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(128) + b"DICM" + bytes(500),
        b"<svg></svg>",
    ],
)
def test_somebody_elses_file_is_not_replaced(tmp_path: Path, kind: Kind, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert f"no {kind.name} that kneeedge wrote; name another place" in refused(path, kind)


def test_a_table_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"path,group\r\n")
    check_output(path, GROUPS)
    for kind in KINDS:
        if kind is not GROUPS:
            refused(path, kind)


def test_a_radiograph_is_not_replaced_by_a_figure_or_a_heat_map(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "knee.png")
    for kind in (FIGURE, HEATMAP, ROWS):
        refused(tmp_path / "knee.png", kind)


@posix
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(b"path,group\r\n")
    (tmp_path / "link.csv").symlink_to("own.csv")
    (tmp_path / "dangling.csv").symlink_to("nowhere.csv")
    assert "it is a link" in refused(tmp_path / "link.csv", GROUPS)
    assert "it is a link" in refused(tmp_path / "dangling.csv", GROUPS)


@posix
def test_an_input_is_not_replaced_under_any_of_its_names(tmp_path: Path) -> None:
    source = tmp_path / "groups.csv"
    source.write_bytes(b"path,group\r\n")
    (tmp_path / "hard.csv").hardlink_to(source)
    (tmp_path / "alias").symlink_to(tmp_path)
    for inputs in ((source,), (tmp_path / "hard.csv",), (tmp_path / "alias/groups.csv",)):
        assert "one of the inputs" in refused(source, GROUPS, inputs)
    check_output(source, GROUPS, (tmp_path / "none",))


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    assert "it is a folder; name a file" in refused(tmp_path)


@posix
def test_a_socket_is_no_place_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert "no regular file" in refused(Path("s"), DOCUMENT)


@posix
def test_a_document_goes_into_a_pipe_and_rows_do_not(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    places = [tmp_path / "pipe", Path("/dev/null"), Path("/dev/stdout"), Path("/dev/../dev/fd/3")]
    for place in places:
        check_output(place, DOCUMENT)
        for kind in (ROWS, HEATMAP, REPORT):
            with pytest.raises(OutputExistsError, match="it is a device or a pipe; name a file"):
                check_output(place, kind)


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="there is no /dev/zero here")
def test_any_other_device_is_refused_for_every_kind() -> None:
    for kind in KINDS:
        with pytest.raises(OutputExistsError, match="no regular file"):
            check_output(Path("/dev/zero"), kind)


def test_standard_output_is_for_json_alone() -> None:
    check_outputs([(STDOUT, DOCUMENT), (None, ROWS)])
    with pytest.raises(ConfigError, match="- is no place for a page"):
        check_outputs([(STDOUT, PAGE)])
    with pytest.raises(ConfigError, match=r"- is no place for a table of answers; name a file$"):
        check_outputs([(STDOUT, ROWS)])


def test_two_results_in_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    twice = [(tmp_path / "r", PAGE), (tmp_path / "sub/../r", DOCUMENT)]
    with pytest.raises(ConfigError, match="to hold two results"):
        check_outputs(twice)
    check_outputs([(tmp_path / "r", PAGE), (tmp_path / "s", DOCUMENT)])


def test_a_folder_of_outputs_is_a_folder_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_output_folder(None)
    check_output_folder(tmp_path)
    check_output_folder(tmp_path / "new/one")
    with pytest.raises(OutputExistsError, match="it is no folder"):
        check_output_folder(tmp_path / "file")
