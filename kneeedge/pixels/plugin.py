"""What the readers of the image formats share: one kind of refusal, and EXIF without warnings.

`Image.open` and Pillow's EXIF reader are not used: they warn (of large images, of damaged tags),
and warning filters are shared by all threads.
"""

import io

from PIL import Image, ImageFile

from kneeedge.pixels.tags import embedded_tags

_ORIENTATION_TAG = 0x0112
"EXIF 2.3, table 6"


class UnreadableError(ValueError):
    """What is wrong with a file's content, in words for its owner; `read_picture` names the file.

    `remedy` is what to do; empty where nothing helps but another file.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def several_pictures(what: str) -> UnreadableError:
    """The refusal of a file of which nobody says which picture is meant."""
    problem = f"holds more than one picture ({what})"
    return UnreadableError(problem, "save the one that is meant")


def file_bytes(image: ImageFile.ImageFile) -> bytes:
    """The whole file of an image that was opened from memory, and is not yet decoded."""
    stream = image.fp
    if not isinstance(stream, io.BytesIO):
        raise TypeError("not opened from memory")
    # shared with the stream, not copied
    return stream.getvalue()


class QuietExif(ImageFile.ImageFile):
    """A plugin whose EXIF is the orientation alone, read without warnings."""

    _exif_kept: Image.Exif | None = None

    def getexif(self) -> Image.Exif:
        """The orientation, read once: `exif_transpose` takes it out once the image is turned."""
        if self._exif_kept is None:
            self._exif_kept = Image.Exif()
            self._exif_kept[_ORIENTATION_TAG] = self.stored_orientation()
        return self._exif_kept

    def stored_orientation(self) -> int:
        """1 to 8 where the file says how its rows lie; 1 where it says nothing."""
        return orientation_of(self)


def orientation_of(image: Image.Image) -> int:
    """The orientation in the EXIF block that an image carries; 1 without one, or a damaged one.

    A TIFF has none: Pillow turns it as it decodes it.
    """
    block = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    return embedded_tags(block).get(_ORIENTATION_TAG, 1)
