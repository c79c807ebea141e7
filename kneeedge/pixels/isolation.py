"""A Reader whose decoders are processes: one that crashes or hangs costs its file a row with the
reason, and no more.

Native decoders (libjpeg, libtiff, OpenJPEG, GDCM) meet whatever a folder holds. Each runs as
`kneeedge.pixels.decoder`; one that dies or takes too long is killed and replaced. A read from a
network share that hangs cannot be killed, but it can be left behind: replies are waited for by
threads that nothing else waits for.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np

from kneeedge.errors import ImageError, WorkerError
from kneeedge.pixels.decoder import Answer
from kneeedge.pixels.pixel_path import Input
from kneeedge.pixels.reader import InThreads, Reader, Reading
from kneeedge.system.processes import as_raised, command, environment
from kneeedge.system.strict_json import from_json, to_json

DECODER, STOPPED = "kneeedge.pixels.decoder", "reading was stopped"
START_SECONDS = 120.0
"for Python and numpy to load from a slow disk"
END_SECONDS = 5.0
"for a killed process to end; one that waits for a dead share does not"


class DecoderLostError(Exception):
    """A decoder died, or took too long; says which, of its file."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Decoder:
    """One process that decodes. It starts at once and is waited for with its first file."""

    def __init__(self, reading: Reading) -> None:
        self._timeout = reading.timeout
        self._ready = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self._process = subprocess.Popen(
            command(DECODER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
            start_new_session=True,  # Ctrl-C is for the parent, which lets its decoders go
        )
        self._answers: queue.SimpleQueue[tuple[Answer, bytes] | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._send(to_json(reading, indent=None))

    def ask(self, path: Path) -> tuple[Answer, bytes]:
        """What became of the file, and its pixels.

        Raises DecoderLostError where the file ended the decoder, WorkerError where it did not even
        start.
        """
        if not self._ready:
            try:
                self._take(START_SECONDS)
            except DecoderLostError as error:
                raise WorkerError(
                    "a decoder process", error.reason, "run again with --no-isolate"
                ) from error
            self._ready = True
        self._send(json.dumps(os.fspath(path)))
        return self._take(self._timeout)

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
            self._listener.join(END_SECONDS)
            for file in (self._process.stdin, self._process.stdout, self._stderr):
                with contextlib.suppress(OSError):  # what was not sent any more
                    file.close()  # type: ignore[union-attr]

    def _send(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it is dead, which `_take` finds
            self._process.stdin.write(line.encode() + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _take(self, seconds: float) -> tuple[Answer, bytes]:
        try:
            found = self._answers.get(timeout=seconds)
        except queue.Empty:
            remedy = "check the disk or the network share, or raise --file-timeout"
            raise DecoderLostError(f"was not read within {seconds:g} s", remedy) from None
        if found is None:
            raise DecoderLostError(
                f"the decoder crashed ({self._cause()})", "replace the file or take it out"
            )
        return found

    def _listen(self) -> None:
        """Hand over the process's answers; None stands for its end, or for what is no answer."""
        stdout = self._process.stdout
        with contextlib.suppress(
            ValueError
        ):  # a decoder that overwrote its own memory may say anything
            for line in iter(stdout.readline, b""):  # type: ignore[union-attr]
                said = from_json(Answer, line.decode("utf-8", "surrogatepass"))
                pixels = stdout.read(said.side**2)  # type: ignore[union-attr]
                if len(pixels) < said.side**2:
                    break
                self._answers.put((said, pixels))
        self._answers.put(None)

    def _cause(self) -> str:
        """Why the process died: its signal, or its last line."""
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "its answer is damaged"
        if status < 0:
            return f"signal {-status}, {signal.strsignal(-status)}"
        self._stderr.seek(0)
        said = self._stderr.read().decode("utf-8", "replace").split("\n")
        return next(
            (line.strip() for line in reversed(said) if line.strip()), f"exit code {status}"
        )[:300]


class Isolated:
    """A Reader of as many decoders as there are files read at once."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._decoders: set[Decoder] = set()
        "the idle ones and those at work"

    def read(self, path: Path) -> tuple[Input | ImageError, float]:
        """As Reader. Raises what ends the run, such as MissingExtraError, or WorkerError for want
        of a decoder.
        """
        decoder = self._take()
        if decoder is None:
            return ImageError(path, STOPPED), 0.0
        try:
            said, pixels = decoder.ask(path)
        except (DecoderLostError, WorkerError) as error:
            self._dismiss(decoder)
            if self._closed:
                return ImageError(path, STOPPED), 0.0
            if isinstance(error, WorkerError):
                raise
            return ImageError(path, error.reason, error.remedy), 0.0
        with self._lock:
            self._idle.append(decoder)
        if said.failure:
            raise as_raised(said.failure.kind, said.failure.message)
        if said.reason:
            return ImageError(path, said.reason, said.remedy), said.seconds
        square = np.frombuffer(pixels, dtype=np.uint8).reshape(said.side, said.side)
        return Input(square, said.dicom, said.blank), said.seconds

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
            self._decoders.add(decoder := Decoder(self._reading))
            return decoder

    def _dismiss(self, decoder: Decoder) -> None:
        with self._lock:
            known = decoder in self._decoders
            self._decoders.discard(decoder)
        if known:
            decoder.end()


def open_reader(reading: Reading) -> Reader:
    """What reads files, one at a time for each thread that asks."""
    if not reading.isolated:
        return InThreads(reading)
    return Isolated(reading)
