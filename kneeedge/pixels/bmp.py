"""BMP files (Windows bitmaps): their palettes, and an alpha channel that nobody filled."""

import struct
from typing import Any

from PIL import ImageFile, ImagePalette
from PIL.BmpImagePlugin import BmpImageFile

from kneeedge.pixels.plugin import UnreadableError, file_bytes

_FILE_HEADER_BYTES = 14
_CORE_HEADER_BYTES = 12
"OS/2's header, in which a colour has three bytes, and four elsewhere"
_INDEX_MODES = {1: "P;1", 4: "P;4", 8: "P"}
"Pillow's names for indices of so many bits"


class Bmp(BmpImageFile):
    """A BMP whose pixels all have a colour."""

    n_colours = 256
    "of the palette, where there is one"

    def _open(self) -> None:
        super()._open()
        data = file_bytes(self)
        offset, header_bytes = struct.unpack_from("<II", data, 10)
        if 0 < offset < _FILE_HEADER_BYTES + header_bytes:
            raise UnreadableError("damaged BMP: its pixels begin inside its header")
        if header_bytes == _CORE_HEADER_BYTES:
            (bits,) = struct.unpack_from("<H", data, 24)
            self._set_palette(data, bits, header_bytes, 2**bits, 3)
        else:
            bits, n_colours = struct.unpack_from("<H16xI", data, 28)
            self._set_palette(data, bits, header_bytes, n_colours or 2**bits, 4)

    def _set_palette(
        self, data: bytes, bits: int, header_bytes: int, n_colours: int, colour_bytes: int
    ) -> None:
        """Take indices for indices: Pillow takes some for levels, by what their palette holds."""
        if bits not in _INDEX_MODES:
            return
        begin = _FILE_HEADER_BYTES + header_bytes
        codec, extents, place, args = self.tile[0]
        more_args = args[1:] if isinstance(args, tuple) else ()
        # some say nothing of a palette that is shorter than it could be
        self.n_colours = min(n_colours, 2**bits, (place - begin) // colour_bytes)
        is_plain = (bits, self.n_colours, self.mode) == (1, 2, "1") or (bits, self.mode) == (8, "L")
        if self.mode != "P" and not is_plain:
            palette = data[begin : begin + colour_bytes * self.n_colours]
            self._mode = "P"
            self.palette = ImagePalette.raw("BGRX" if colour_bytes == 4 else "BGR", palette)
            self.tile = [ImageFile._Tile(codec, extents, place, (_INDEX_MODES[bits], *more_args))]

    def load(self) -> Any:
        is_first = bool(self.tile)
        pixels = super().load()
        if is_first and self.mode in ("L", "P") and self.n_colours < 256:
            largest = self.im.getextrema()[1]
            if largest >= self.n_colours:
                problem = f"a pixel has colour {largest}, and its palette {self.n_colours} colours"
                raise UnreadableError(f"damaged BMP: {problem}")
        # a fourth byte that is 0 everywhere is one that was not used
        if is_first and self.mode == "RGBA" and not self.getchannel("A").getextrema()[1]:
            self.im = self.im.convert("RGB")
            self._mode = "RGB"
        return pixels
