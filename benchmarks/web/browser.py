"""A browser for tests and figures: Debian's chromium, through playwright-core in Node."""

import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from kneeedge.web.packages import Package, fetch, read_packages
from kneeedge.web.server import HOST, site_server

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache" / "npm"
"tarballs that were fetched once, in the form that `--packages` takes"
PLAYWRIGHT = HERE / "packages.json"


class Browser:
    """Calls of Playwright's page, context and keyboard, by name; one page at a time."""

    def __init__(self, folder: Path) -> None:
        (package,) = read_packages(PLAYWRIGHT)
        with tarfile.open(cached([package]) / package.tarball) as tar:
            tar.extractall(folder, filter="data")
        library = folder / "package" / "index.mjs"
        node, chromium = (str(shutil.which(program)) for program in ("node", "chromium"))
        self._node = subprocess.Popen(
            [node, HERE / "browser.mjs", library, chromium],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._node.communicate()

    def page(self, call: str, *args: Any) -> Any:
        return self._ask("page", call, *args)

    def own(self, call: str, *args: Any) -> Any:
        """`open`, `download`, `heard` or `version`, as browser.mjs has them."""
        return self._ask(None, call, *args)

    def _ask(self, on: str | None, call: str, *args: Any) -> Any:
        assert self._node.stdin
        assert self._node.stdout
        self._node.stdin.write(json.dumps({"on": on, "call": call, "args": args}) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]


def cached(packages: list[Package]) -> Path:
    """The folder with the tarballs of the packages, fetched by npm where they lack."""
    CACHE.mkdir(parents=True, exist_ok=True)
    lacking = [package for package in packages if not (CACHE / package.tarball).is_file()]
    for package, tarball in fetch(lacking, None).items():
        (CACHE / package.tarball).write_bytes(tarball)
    return CACHE


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a site on this machine, with the headers that several threads need."""
    server = site_server(site, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{server.server_port}/"
    server.shutdown()
    server.server_close()
