"""A Reader whose decoders are processes: what crashes or hangs costs one file its answer, no more.

Native decoders (libjpeg, libtiff, OpenJPEG, GDCM) meet whatever a folder holds. Each runs as
`kneeedge.pixels.decoder`; one that dies or takes too long is killed and replaced. A read from a
network share that hangs cannot be killed, but it can be left behind.
"""

import json
import os
import threading
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kneeedge.errors import ImageError, WorkerError
from kneeedge.pixels.decoder import DecoderReply
from kneeedge.pixels.pixel_path import Input
from kneeedge.pixels.reader import ReadFile, ReadOptions
from kneeedge.system.processes import Child, ChildLostError, as_raised
from kneeedge.system.strict_json import from_json, to_json

DECODER = "kneeedge.pixels.decoder"
STOPPED = "reading was stopped"
START_SECONDS = 120.0
"for Python and numpy to load from a slow disk"


class DecoderLostError(Exception):
    """A decoder died, or took too long; says which, of its file."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Decoder:
    """One process that decodes. It starts at once and is waited for with its first file."""

    def __init__(self, options: ReadOptions) -> None:
        self.timeout = options.timeout
        self.child = Child(
            DECODER,
            read_reply,
            ignores_ctrl_c=True,
            variables={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._ready = False
        self.child.send(to_json(options, indent=None))

    def ask(self, path: Path) -> tuple[DecoderReply, bytes]:
        """What became of the file, and its pixels as bytes, as many as the reply announces.

        Raises DecoderLostError where the file ended the decoder, and WorkerError where the decoder
        did not even start.
        """
        if not self._ready:
            try:
                self._receive(START_SECONDS)
            except DecoderLostError as error:
                remedy = "run again with --no-isolate, where the command has that"
                raise WorkerError("a decoder process", error.reason, remedy) from error
            self._ready = True
        self.child.send(json.dumps(os.fspath(path)))
        return self._receive(self.timeout)

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self.child.end()

    def _receive(self, seconds: float) -> tuple[DecoderReply, bytes]:
        try:
            return self.child.receive(seconds)
        except ChildLostError as error:
            if error.timed_out:
                reason = f"was not read within {seconds:g} s"
                remedy = "check the disk or the network share, or raise --file-timeout"
            else:
                reason = f"the decoder crashed ({error.reason})"
                remedy = "replace the file or take it out"
            raise DecoderLostError(reason, remedy) from error


def read_reply(stdout: BinaryIO) -> tuple[DecoderReply, bytes] | None:
    """A decoder's next reply and its pixels; None at the end, ValueError for anything else."""
    line = stdout.readline()
    if not line:
        return None
    reply = from_json(DecoderReply, line.decode("utf-8", "surrogatepass"))
    n_bytes = reply.side**2 + (prod(reply.shown) if reply.shown else 0)
    pixels = stdout.read(n_bytes)
    return (reply, pixels) if len(pixels) == n_bytes else None


class ProcessReader:
    """A Reader of as many decoders as there are files read at once."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._decoders: set[Decoder] = set()
        "the idle ones and those at work"

    def read(self, path: Path) -> ReadFile:
        """What became of the file.

        Raises what ends the run, such as MissingExtraError, and WorkerError where no decoder
        starts.
        """
        decoder = self._take()
        if decoder is None:
            return ReadFile(ImageError(path, STOPPED))
        try:
            reply, pixels = decoder.ask(path)
        except (DecoderLostError, WorkerError) as error:
            self._dismiss(decoder)
            if self._closed:
                return ReadFile(ImageError(path, STOPPED))
            if isinstance(error, WorkerError):
                raise
            return ReadFile(ImageError(path, error.reason, error.remedy))
        with self._lock:
            self._idle.append(decoder)
        return read_of(path, reply, pixels)

    def close(self) -> None:
        """Kill the decoders, in whatever they do."""
        with self._lock:
            self._closed = True
            decoders = list(self._decoders)
        for decoder in decoders:
            self._dismiss(decoder)

    def _take(self) -> Decoder | None:
        """An idle decoder, or a new one; None once closed."""
        with self._lock:
            if self._closed:
                return None
            if self._idle:
                return self._idle.pop()
            decoder = Decoder(self._options)
            self._decoders.add(decoder)
            return decoder

    def _dismiss(self, decoder: Decoder) -> None:
        """End the decoder, unless another thread does."""
        with self._lock:
            if decoder not in self._decoders:
                return
            self._decoders.remove(decoder)
        decoder.end()


def read_of(path: Path, reply: DecoderReply, pixels: bytes) -> ReadFile:
    """What a decoder's reply says of the file; raises what it says ends the run."""
    if reply.failure:
        raise as_raised(reply.failure.kind, reply.failure.message)
    result: Input | ImageError
    if reply.reason:
        result = ImageError(path, reply.reason, reply.remedy)
    else:
        grey = np.frombuffer(pixels, dtype=np.uint8)
        square = grey[: reply.side**2].reshape(reply.side, reply.side)
        result = Input(
            square,
            reply.dicom,
            reply.blank,
            reply.study,
            reply.depth_suspect,
            n_pixels=reply.n_pixels,
            shown=grey[reply.side**2 :].reshape(reply.shown) if reply.shown else None,
        )
    return ReadFile(result, reply.stamp, reply.seconds)
