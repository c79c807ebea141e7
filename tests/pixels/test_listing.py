"""What is taken for an image among the files and folders given."""

import os
from pathlib import Path

import pytest

from kneeedge.errors import DataError, NotFoundError
from kneeedge.pixels.listing import IMAGE_SUFFIXES, FoundImage, find_images


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
    touch(tmp_path, "a.png", ".hidden.png", ".cache/b.png", "sub/.DS_Store", "._a.png")
    listing = find_images([tmp_path])
    assert [image.name for image in listing.images] == ["a.png"]
    assert not listing.others


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
    listing = find_images([tmp_path / "in"])
    assert [image.name for image in listing.images] == ["a.png", "file.png"]
    assert [path.name for path in listing.others] == ["folder", "gone.png", "loop", "self.png"]


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
