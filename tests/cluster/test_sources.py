"""Addresses of object stores hold the images that a folder of the same files holds."""

import os
from pathlib import Path

import numpy as np
import pytest

if "CI" not in os.environ:
    pytest.importorskip("pyarrow")

from kneeedge.cluster.reading import ImageReader, object_still_is
from kneeedge.cluster.run import images_of
from kneeedge.cluster.sources import find_sources
from kneeedge.errors import ConfigError, DataError, ImageError, NotFoundError
from kneeedge.model.spec import PixelPath
from kneeedge.pixels.listing import find_images
from kneeedge.pixels.phantom import write_dataset
from kneeedge.pixels.reader import ReadOptions, read_input
from kneeedge.system.progress import Progress
from tests.dicom_files import dataset, stored

QUIET = Progress(quiet=True)


@pytest.fixture
def knees(tmp_path) -> Path:
    folder = tmp_path / "knees"
    write_dataset(folder, {"test": 4}, size=64)
    (folder / "notes.txt").write_text("no image")
    (folder / "Thumbs.db").write_text("the system's")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def test_an_address_holds_the_images_of_the_folder_under_the_same_names(knees):
    (knees / "IM0001").write_bytes(stored(dataset(np.zeros((8, 8), np.uint16))))
    here = find_images([knees])
    there = find_sources([knees.as_uri()], QUIET)
    assert [image.name for image in there.images] == [image.name for image in here.images]
    assert "IM0001" in [image.name for image in there.images]
    assert [path.name for path in there.others] == ["notes.txt"]
    assert [path.name for path in there.clutter] == ["Thumbs.db"]


def test_of_several_sources_names_say_which(knees):
    found = find_sources([str(knees / "test"), knees.as_uri()], QUIET)
    names = [image.name for image in found.images]
    assert names[0].startswith(f"{knees.as_posix()}/test/Healthy/")
    assert names[-1].startswith(f"{knees.as_uri()}/test/Osteoporosis/")
    assert len(names) == 8


def test_local_paths_are_those_of_one_machine(knees, monkeypatch):
    monkeypatch.chdir(knees.parent)
    for source in ("knees", str(knees), "knees/test/Healthy"):
        found = images_of(find_sources([source], QUIET))
        assert [i.name for i in found] == [i.name for i in find_images([Path(source)]).images]
        assert all(image.path.is_absolute() and image.path.exists() for image in found)


def test_an_object_given_is_named_by_its_address(knees):
    image = next((knees / "test/Healthy").iterdir())
    (found,) = find_sources([image.as_uri()], QUIET).images
    assert found.name == image.as_uri()


def test_an_object_is_read_as_the_file_is(knees):
    (knees / "test/damaged.png").write_bytes(b"no picture")
    (knees / "test/empty.png").write_bytes(b"")
    options = ReadOptions(PixelPath(size=64), isolated=True)
    images = images_of(find_sources([knees.as_uri()], QUIET))
    reader = ImageReader(options, 2)
    read = [*reader.read_all(images[:3], 4), *reader.read_all(images[3:], 4)]
    reader.close()
    assert [image for image, _ in read] == images
    for image, file in read:
        expected = read_input(knees / image.below, options)
        if isinstance(expected.result, ImageError):
            assert isinstance(file.result, ImageError)
            assert file.result.reason == expected.result.reason
        else:
            assert (file.pixels() == expected.pixels()).all()
            assert file.stamp.sha256 == expected.stamp.sha256
            assert object_still_is(image, file.stamp)


def test_an_object_that_goes_meanwhile_is_one_with_its_reason(knees):
    images = images_of(find_sources([knees.as_uri()], QUIET))
    (knees / images[0].below).unlink()
    reader = ImageReader(ReadOptions(PixelPath(size=64)), 1)
    (_, file), *_ = reader.read_all(images, 4)
    reader.close()
    assert isinstance(file.result, ImageError)
    assert file.result.reason == "is not there"
    assert file.stamp is None


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("s3://key:secret@bucket/x", ConfigError, "an address with a key in it"),
        ("file://", ConfigError, "give it as in"),
        ("file:///nowhere-at-all", NotFoundError, "is not there"),
        ("/nowhere-at-all", NotFoundError, "is not there"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(address, error, words):
    with pytest.raises(error, match=words) as raised:
        find_sources([address], QUIET)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_image_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no images found"):
        find_sources([tmp_path.as_uri()], QUIET)
