"""A site on this machine alone, with the headers that several threads need."""

import functools
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kneeedge.system.addresses import listening

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
"with which a browser lets a page share memory between threads (HTML, 7.1.3 and 7.1.4)"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
HOST = "127.0.0.1"


class SiteHandler(SimpleHTTPRequestHandler):
    """Answers with the files of a folder; says nothing of each."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Nothing: a page that asks for nothing once it is loaded has nothing to log."""


def site_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder on the loopback interface, ready to `serve_forever`; port 0 is any.

    Raises ConfigError where the port is taken.
    """
    handler = functools.partial(SiteHandler, directory=str(folder))
    with listening(HOST, port):
        return ThreadingHTTPServer((HOST, port), handler)
