"""Addresses to listen on: which only this machine reaches, and which cannot be had."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager

from kneeedge.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may be of any network
        return False


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Within, an address that is taken, or not this machine's, is a ConfigError."""
    try:
        yield
    except OSError as error:
        problem = f"cannot listen on {host}:{port}: {error.strerror}"
        raise ConfigError(problem, "name another address or port") from error
