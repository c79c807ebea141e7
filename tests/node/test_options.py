"""What a node may be asked for: names, places, and who may send."""

from pathlib import Path

import pytest

from kneeedge.errors import ConfigError
from kneeedge.node.options import (
    Destination,
    NodeOptions,
    Peer,
    Tls,
    check_ae_title,
    destination_of,
    peer_of,
)


def test_a_peer_is_a_title_from_any_address_or_from_one():
    assert peer_of("CR1") == Peer("CR1")
    assert peer_of("CR1@192.0.2.7") == Peer("CR1", "192.0.2.7")
    assert Peer("CR1").matches("CR1", "192.0.2.9")
    assert not Peer("CR1", "192.0.2.7").matches("CR1", "192.0.2.9")
    assert not Peer("CR1").matches("CR2", "192.0.2.9")


def test_a_destination_is_a_title_a_host_and_a_port():
    assert destination_of("PACS@archive.example:104") == Destination("PACS", "archive.example", 104)
    assert destination_of("PACS@[2001:db8::1]:104") == Destination("PACS", "2001:db8::1", 104)


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "PACS@:104", "PACS@host:0", "PACS@host:x"])
def test_what_names_no_place_is_refused(text):
    with pytest.raises(ConfigError, match=r"write AET@HOST:PORT as ARCHIVE@192\.0\.2\.5:104"):
        destination_of(text)


@pytest.mark.parametrize("title", ["", " ", "a" * 17, "A\\B", "A\tB", "KNÉE"])
def test_what_is_no_ae_title_is_refused(title):
    with pytest.raises(ConfigError, match="give 1 to 16 letters"):
        check_ae_title(title)


def test_a_peer_at_what_is_no_address_is_refused():
    with pytest.raises(ConfigError, match=r"write AET, or AET@ADDRESS as 192\.0\.2\.7"):
        peer_of("CR1@modality")


def test_a_node_on_the_network_names_its_peers_or_says_that_it_takes_any():
    with pytest.raises(ConfigError, match=r"whoever reaches 192\.0\.2\.1 could send; name each"):
        NodeOptions(folder=Path("node"), host="192.0.2.1")
    NodeOptions(folder=Path("node"), host="192.0.2.1", peers=(Peer("CR1"),))
    NodeOptions(folder=Path("node"), host="192.0.2.1", any_peer=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        NodeOptions(folder=Path("node"), peers=(Peer("CR1"),), any_peer=True)


def test_files_of_tls_that_serve_nothing_are_refused():
    with pytest.raises(ConfigError, match="name its --tls-cert"):
        Tls(key=Path("key.pem"))
    with pytest.raises(ConfigError, match="name the node's own --tls-cert too"):
        Tls(authority=Path("ca.pem"))
    with pytest.raises(ConfigError, match="name it with --send-to"):
        NodeOptions(folder=Path("node"), tls=Tls(to_destination=True))
