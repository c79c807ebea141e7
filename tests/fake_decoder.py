"""A decoder process that does what the name of the file says: a real crash of a native decoder."""

import ctypes
import os
import time
from pathlib import Path
from typing import BinaryIO

from kneeedge.pixels import decoder, reader
from kneeedge.pixels.decoder import DecoderReply

real_read = reader.read_bytes
real_send = decoder.send
garbled: list[Path] = []


def read(path: Path) -> object:
    if "segfault" in path.name:
        ctypes.string_at(0)
    if "abort" in path.name:
        os.abort()
    if "exit" in path.name:
        os._exit(3)
    if "bug" in path.name:
        raise KeyError("no such tag")
    if "hang" in path.name:
        time.sleep(1000)
    if "garbage" in path.name:
        garbled.append(path)
    return real_read(path)


def send(out: BinaryIO, reply: DecoderReply, pixels: bytes) -> None:
    if garbled:
        out.write(b"\xff\x00 no answer\n")
        out.flush()
        time.sleep(1000)
    real_send(out, reply, pixels)


reader.read_bytes = read
decoder.send = send

if __name__ == "__main__":
    decoder.main()
