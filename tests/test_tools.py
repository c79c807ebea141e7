"""A test that lacks a program is skipped by hand and fails in CI, which installs them all."""

import re
from pathlib import Path

import pytest

from tests.gpu_wheel import wheel
from tests.tools import PACKAGES, need
from tests.triton.server import need_triton

CI_SCRIPT = (Path(__file__).parent.parent / ".ci/run").read_text(encoding="utf-8")


def test_what_is_here_is_no_reason_to_skip(monkeypatch):
    monkeypatch.setenv("CI", "true")
    need("sh")


def test_without_a_program_a_test_is_skipped_with_what_to_install(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PATH", "")
    message = "node, npm not found; apt-get install nodejs npm"
    with pytest.raises(pytest.skip.Exception, match=message):
        need("node", "npm")


def test_without_a_program_a_test_fails_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match="chromium not found; apt-get install chromium"):
        need("chromium")


def test_without_a_triton_server_a_test_is_skipped_and_fails_in_ci(monkeypatch):
    monkeypatch.delenv("KNEEEDGE_TRITON", raising=False)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"run `\.ci/triton \.cache/triton`"):
        need_triton()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Triton server"):
        need_triton()


def test_ci_installs_each_of_them():
    (pairs,) = re.findall(r'PROGRAMS="([^"]*)"', CI_SCRIPT)
    assert dict(pair.split("=") for pair in pairs.split()) == PACKAGES


def test_the_wheel_for_gpus_is_asked_where_it_is_and_ci_has_it(monkeypatch):
    monkeypatch.delenv(wheel.PYTHON, raising=False)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make gpu"):
        wheel.gpu_python()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make gpu"):
        wheel.gpu_python()
    assert f"export {wheel.PYTHON}=" in CI_SCRIPT
