"""A bucket on loopback that speaks enough of S3 for pyarrow, and answers when it is allowed to."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "knees"
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
ISO_DATE = "2026-01-01T00:00:00.000Z"


class Bucket:
    """The files below a folder as objects of a bucket.

    Reads of images wait while there are no permits; lists, and looks at other objects, never do.
    """

    def __init__(self, folder: Path) -> None:
        self.objects = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        self.read: list[str] = []
        "images that were read, in order"
        self._waiting: list[str] = []
        "of these; twice where a reader lost its patience and asked again"
        self._permits: float = float("inf")
        self._changed = threading.Condition()
        self._server = Server(self)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        endpoint = quote(f"127.0.0.1:{self._server.server_port}")
        options = f"scheme=http&endpoint_override={endpoint}&region=us-east-1"
        return f"s3://{BUCKET}?{options}"

    @property
    def n_waiting(self) -> int:
        """Images that are waited for; a network with one reader waits for one."""
        return len(set(self._waiting))

    def allow(self, n_reads: float) -> None:
        """Let so many reads go on from now on, and no more."""
        with self._changed:
            self._permits = n_reads
            self._changed.notify_all()

    def close(self) -> None:
        self.allow(float("inf"))
        self._server.shutdown()
        self._server.server_close()

    def take_permit(self, name: str, keep_waiting: Callable[[], None]) -> None:
        """Wait until the object may be read; pyarrow gives up after three seconds of silence."""
        with self._changed:
            self._waiting.append(name)
            try:
                while not self._changed.wait_for(lambda: self._permits > 0, timeout=0.5):
                    keep_waiting()
            finally:
                self._waiting.remove(name)
            self._permits -= 1
            self.read.append(name)

    def listing(self, prefix: str) -> bytes:
        names = [name for name in self.objects if name.startswith(prefix)]
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>{ISO_DATE}</LastModified>"
            f"<ETag>&quot;0&quot;</ETag><Size>{len(self.objects[name])}</Size></Contents>"
            for name in names
        )
        count = f"<KeyCount>{len(names)}</KeyCount><IsTruncated>false</IsTruncated>"
        head = f"<Name>{BUCKET}</Name>{count}"
        return f"<ListBucketResult>{head}{contents}</ListBucketResult>".encode()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that was killed breaks its connection."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        _, _, name = unquote(url.path).lstrip("/").partition("/")
        bucket = self.server.bucket
        if name in bucket.objects:
            self._send_object(name, bucket.objects[name])
            return
        self.send_response(404 if name else 200)
        prefix = parse_qs(url.query).get("prefix", [""])[0]
        self._end(b"" if name else bucket.listing(prefix))

    def _send_object(self, name: str, content: bytes) -> None:
        """The object, or the part of it that is asked for."""
        wanted = self.headers.get("Range") if self.command == "GET" else None
        self.send_response(206 if wanted else 200)
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            part = content[int(first) : int(last) + 1 if last else None]
            end = int(first) + len(part) - 1
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(content)}")
            content = part
        self.send_header("Last-Modified", DATE)
        self.send_header("ETag", '"0"')
        if self.command == "GET" and name.endswith(".png"):
            self.server.bucket.take_permit(name, self._keep_waiting)
        self._end(content)

    def _keep_waiting(self) -> None:
        self.send_header("X-Wait", "1")
        self.flush_headers()

    def _end(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
