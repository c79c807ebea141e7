"""What is taken for an image among the files and folders given."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kneeedge.errors import DataError, NotFoundError
from kneeedge.inference.heatmap import write_heatmap
from kneeedge.pixels import listing as listing_module
from kneeedge.pixels.listing import IMAGE_SUFFIXES, FoundImage, find_images
from kneeedge.system.own import mark_folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(paths: list[Path]) -> list[str]:
    return [image.name for image in find_images(paths).images]


def test_a_folder_is_listed_by_relative_posix_path(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.png", "b/10.png", "a.jpg", "b-1.png", "b.png", "Z.png")
    expected = ["Z.png", "a.jpg", "b-1.png", "b.png", "b/10.png", "b/2.png"]
    images = find_images([tmp_path]).images
    assert [image.name for image in images] == expected
    assert [image.path for image in images] == [tmp_path / name for name in expected]


def test_every_image_suffix_is_known_in_either_case(tmp_path: Path) -> None:
    files = [f"{i}{suffix}" for i, suffix in enumerate(IMAGE_SUFFIXES)]
    touch(tmp_path, *files, *(f"{file}".upper() for file in files))
    assert len(names([tmp_path])) == 2 * len(files)


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".hidden.png", ".cache/b.png")
    listing = find_images([tmp_path])
    assert [image.name for image in listing.images] == ["a.png"]
    assert not listing.others
    assert listing.remarks() == []


CLUTTER = (
    "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._a.png", "$RECYCLE.BIN/b.jpg",
    "@Recycle/c.png", "System Volume Information/d.png", "lost+found/e.png",
    "#recycle/f.dcm", "__pycache__/g.png",
    ".ipynb_checkpoints/h-checkpoint.png", "Thumbs.db", "desktop.ini", ".DS_Store", "._a.png",
)  # fmt: skip


def test_what_the_system_leaves_in_folders_is_left_out_and_said_once(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.png", *(f"sub/{name}" for name in CLUTTER))
    touch(tmp_path, "sub/THUMBS.DB")
    listing = find_images([tmp_path])
    assert [image.name for image in listing.images] == ["sub/a.png"]
    assert not listing.others
    expected = {tmp_path / "sub" / name.split("/")[0] for name in (*CLUTTER, "THUMBS.DB")}
    assert set(listing.clutter) == expected
    (remark,) = listing.remarks()
    assert remark.startswith(f"left out: {len(expected)} items of the system")


def test_such_a_folder_that_is_given_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "lost+found/a.png")
    assert names([tmp_path / "lost+found"]) == ["a.png"]


RUN_CONFIG = '{"config": {}, "command": [], "data_root": "/data"}'


def make_run(folder: Path) -> None:
    touch(folder, "curves.png", "models/rejected/x.png")
    (folder / "config.json").write_text(RUN_CONFIG)


def test_a_run_folder_is_left_out_under_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    make_run(tmp_path / "runs/night")
    make_run(tmp_path / "sub/Healthy")
    listing = find_images([tmp_path])
    assert [image.name for image in listing.images] == ["a.png"]
    assert listing.own == (tmp_path / "runs/night", tmp_path / "sub/Healthy")
    assert listing.remarks()[0].startswith("left out: 2 items written by kneeedge, ")


def test_a_run_folder_that_is_given_holds_no_images(tmp_path: Path) -> None:
    make_run(tmp_path)
    with pytest.raises(DataError, match="no images found but what kneeedge wrote; give the folder"):
        find_images([tmp_path])
    (tmp_path / "config.json").write_text('{"mine": 1}')
    assert names([tmp_path]) == ["curves.png", "models/rejected/x.png"]


def test_heat_maps_and_reports_are_left_out_and_radiographs_beside_them_are_not(
    tmp_path: Path,
) -> None:
    image = np.full((32, 32), 90, np.uint8)
    Image.fromarray(image).save(tmp_path / "knee.png")
    write_heatmap(tmp_path, "knee.jpg", image, np.ones((1, 1), np.float32))
    write_heatmap(tmp_path, "sub/IM0001", image, np.ones((1, 1), np.float32))
    touch(tmp_path, "sub/other.png")
    listing = find_images([tmp_path])
    assert [image.name for image in listing.images] == ["knee.png", "sub/other.png"]
    assert listing.own == (tmp_path / "knee.jpg.map.png", tmp_path / "sub/IM0001.map.png")


def test_files_are_opened_in_marked_folders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 images are listed without a look into one."""
    touch(tmp_path, "a/1.png", "a/2.dcm", "b/3.png")
    mark_folder(tmp_path / "b")
    opened: list[str] = []
    monkeypatch.setattr(listing_module, "is_own_file", lambda path: bool(opened.append(path)))
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a file was opened"))
    assert names([tmp_path]) == ["a/1.png", "a/2.dcm", "b/3.png"]
    assert opened == [str(tmp_path / "b/3.png")]


PART_10 = bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0" + bytes(4)
DICOMDIR = PART_10 + b"\2\0\2\0UI\x14\x001.2.840.10008.1.3.10" + bytes(50)


def test_dicom_is_known_by_its_content_under_any_suffix(tmp_path: Path) -> None:
    found = ["IM0001.IMA", "a.dc3", "b.dic", "c.xyz", "d", "1.2.840.5", "DICOMDIR", "e.txt"]
    for name in found:
        (tmp_path / name).write_bytes(PART_10)
    for name in ("words.dic", "siemens.ima", "README", "empty.xyz"):
        (tmp_path / name).write_bytes(b"some text, or nothing of DICOM" * 9)
    assert names([tmp_path]) == sorted(found)


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "DICOMDIR;1", "index.x", "1.2.3"])
def test_an_index_of_a_medium_is_no_image_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DICOMDIR)
    touch(tmp_path, "a.png")
    listing = find_images([tmp_path])
    assert listing.others == (tmp_path / name,)


def test_a_data_set_without_preamble_is_looked_for_where_the_name_allows_for_it(
    tmp_path: Path,
) -> None:
    bare = b"\x08\0\5\0CS\n\0ISO_IR 100"
    for name in ("IM0001", "1.2.3", "a.IMA", "weights.bin"):
        (tmp_path / name).write_bytes(bare)
    assert names([tmp_path]) == ["1.2.3", "IM0001", "a.IMA"]


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Root may open everything, and tests run as root."""

    def open_or_refuse(path: str, *arguments: object, **more: object) -> object:
        if str(path).endswith(name):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return whole_open(path, *arguments, **more)

    whole_open = open
    monkeypatch.setattr("builtins.open", open_or_refuse)


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.7", "a.ima"])
def test_a_file_that_may_be_dicom_and_cannot_be_opened_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    touch(tmp_path, name, "notes.txt")
    refuse_to_open(monkeypatch, name)
    assert names([tmp_path]) == [name]


def test_a_file_of_another_suffix_that_cannot_be_opened_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "notes.txt")
    refuse_to_open(monkeypatch, "notes.txt")
    assert find_images([tmp_path]).others == (tmp_path / "notes.txt",)


def failing_scandir(folder: Path, error: OSError) -> Callable[[str], object]:
    scandir = os.scandir

    def scan_or_fail(path: str) -> object:
        if path == str(folder):
            raise error
        return scandir(path)

    return scan_or_fail


def test_a_folder_that_vanishes_meanwhile_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory")
    monkeypatch.setattr(os, "scandir", failing_scandir(tmp_path / "a", gone))
    listing = find_images([tmp_path])
    assert [image.name for image in listing.images] == ["b/2.png"]
    assert not listing.unlisted
    monkeypatch.setattr(os, "scandir", failing_scandir(tmp_path, gone))
    with pytest.raises(DataError, match="cannot be listed"):
        find_images([tmp_path])


def test_a_watch_goes_on_without_a_folder_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    closed = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(os, "scandir", failing_scandir(tmp_path / "a", closed))
    with pytest.raises(DataError, match="a: cannot be listed"):
        find_images([tmp_path])
    paths = [tmp_path, tmp_path / "gone"]
    listing = find_images(paths, least=0, strict=False)
    assert [image.below for image in listing.images] == ["b/2.png"]
    assert listing.unlisted == (tmp_path / "a", tmp_path / "gone")
    assert listing.remarks()[0].startswith("left out: 2 items that cannot be listed")


def test_other_files_are_listed_as_such(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/labels.csv", "README", "scan.dat")
    others = [tmp_path / name for name in ("README", "scan.dat", "sub/labels.csv")]
    assert find_images([tmp_path]).others == tuple(others)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_never_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert find_images([tmp_path]).others == (tmp_path / "b.png",)
    assert find_images([tmp_path / "a.png", tmp_path / "b.png"]).others == (tmp_path / "b.png",)


def test_linked_files_are_images_and_linked_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in/file.png").symlink_to(tmp_path / "out/b.png")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/self.png").symlink_to(tmp_path / "in/self.png")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "in/nothing").symlink_to(tmp_path / "nowhere")
    listing = find_images([tmp_path / "in"])
    # whoever reads a link that leads nowhere says so: a row with its reason, as for a damaged file
    images = ["a.png", "file.png", "gone.png", "self.png"]
    assert [image.name for image in listing.images] == images
    assert [path.name for path in listing.others] == ["folder", "loop", "nothing"]


def test_a_linked_folder_that_is_given_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "out/b.png")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert names([tmp_path / "link"]) == ["b.png"]


def test_a_file_given_is_an_image_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "scan.bin", ".hidden")
    for file in (tmp_path / "scan.bin", tmp_path / ".hidden"):
        assert find_images([file]).images == (FoundImage("", file.as_posix()),)


def test_same_names_in_two_sub_folders_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, "left/1.png", "right/1.png")
    assert names([tmp_path]) == ["left/1.png", "right/1.png"]


def test_same_names_in_two_folders_given_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "b/1.png", "a/1.png", "a/x/2.png")
    listed = names([Path("b"), Path("a/"), Path("./a/x/2.png")])
    assert listed == ["b/1.png", "a/1.png", "a/x/2.png"]


def test_a_path_given_twice_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "notes.txt")
    listing = find_images([tmp_path, tmp_path])
    assert [image.path for image in listing.images] == [tmp_path / "1.png"]
    assert listing.others == (tmp_path / "notes.txt",)


def test_a_missing_path_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not there; check the path"):
        find_images([tmp_path, tmp_path / "none"])


def test_no_images_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "labels.csv")
    with pytest.raises(DataError, match="no images found; give files"):
        find_images([tmp_path])
    with pytest.raises(DataError, match="no path given"):
        find_images([])


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "closed/a.png")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(DataError, match="cannot be listed"):
        find_images([tmp_path])
