"""npm packages: their bytes are known before a file is taken from them."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from kneeedge.errors import NotFoundError, PackageError
from kneeedge.web import packages
from kneeedge.web.packages import NOTICES, Package, fetch, files_of, read_packages


def tarball(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def package_of(content: bytes, *files: str) -> Package:
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    return Package(
        name="@scope/thing",
        version="1.2.3",
        integrity=f"sha512-{digest}",
        licence="MIT",
        files=files,
    )


CONTENT = tarball({"package/a.js": b"a", "package/lib/b.wasm": b"b", "package/../../evil": b"c"})


def test_only_listed_files_of_a_known_tarball_are_taken(tmp_path):
    package = package_of(CONTENT, "a.js", "lib/b.wasm")
    (tmp_path / "scope-thing-1.2.3.tgz").write_bytes(CONTENT)
    tarballs = fetch([package], tmp_path)
    assert files_of(package, tarballs[package]) == {"a.js": b"a", "lib/b.wasm": b"b"}


def test_a_tarball_of_other_bytes_is_refused(tmp_path):
    (tmp_path / "scope-thing-1.2.3.tgz").write_bytes(CONTENT + b"\0")
    with pytest.raises(PackageError, match="its SHA-512 is not the one that kneeedge lists"):
        fetch([package_of(CONTENT, "a.js")], tmp_path)


def test_a_tarball_that_lacks_is_named_with_what_brings_it(tmp_path):
    with pytest.raises(
        NotFoundError, match=r"scope-thing-1.2.3.tgz is not there; .*npm pack @scope"
    ):
        fetch([package_of(CONTENT, "a.js")], tmp_path)


def test_a_file_that_lacks_in_a_tarball_is_named():
    with pytest.raises(PackageError, match=r"c\.js is not in it"):
        files_of(package_of(CONTENT, "a.js", "c.js"), CONTENT)


def test_without_npm_a_line_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotFoundError, match="install npm, or give --packages a folder"):
        fetch(read_packages(), None)


def test_what_npm_says_is_the_reason(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match=r"npm cannot get it \(code E404\)"):
        fetch([package_of(CONTENT, "a.js")], None)


@pytest.mark.parametrize("package", read_packages(), ids=lambda package: package.name)
def test_every_package_brings_its_licence(package):
    assert package.integrity.startswith("sha512-")
    assert "LICENSE" in package.files or (NOTICES / f"{package.file_name}.txt").is_file()


def test_no_address_of_a_registry_is_in_the_list():
    text = Path(packages.LIST).read_text(encoding="utf-8")
    assert "http" not in text
