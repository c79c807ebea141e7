"""Addresses: which are loopback, and what is said of one that cannot be had."""

import socket

import pytest

from kneeedge.errors import ConfigError
from kneeedge.system.addresses import is_loopback
from kneeedge.web.server import HOST, site_server


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("192.0.2.1", False), ("pc", False)],
)
def test_only_loopback_is_loopback(host, loopback):
    assert is_loopback(host) is loopback


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on {HOST}:{port}: Address already"):
            site_server(tmp_path, port)
