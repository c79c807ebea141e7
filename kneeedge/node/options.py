"""What `kneeedge serve --dicom` is asked for: who may send, where to, and what is too much."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from kneeedge.errors import ConfigError
from kneeedge.inference.drift_log import DriftOptions
from kneeedge.system.addresses import is_loopback

_AE_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")
"printable ASCII without a backslash, not blanks alone (PS3.5, section 6.2, AE)"
_PORT = re.compile(r"\d{1,5}")
LAST_PORT = 65_535


@dataclass(frozen=True)
class Peer:
    """An application entity that may send; from one address alone where `host` names it."""

    ae_title: str
    host: str = ""
    "its address; empty: any"

    def matches(self, ae_title: str, address: str) -> bool:
        """Whether it is this one that calls from the address."""
        return self.ae_title == ae_title and self.host in ("", address)


@dataclass(frozen=True)
class Destination:
    """The application entity that gets what is made of an image."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """Files of PEM for connections that nobody can read along."""

    certificate: Path | None = None
    "the node's own"
    key: Path | None = None
    "of the certificate; None: it stands in the same file"
    authority: Path | None = None
    "who must have signed the certificates of the others"
    to_destination: bool = False
    "the destination speaks TLS too"

    def __post_init__(self) -> None:
        if self.key and not self.certificate:
            raise ConfigError("--tls-key is a key of no certificate", "name its --tls-cert")
        if self.authority and not self.certificate and not self.to_destination:
            remedy = "name the node's own --tls-cert too"
            raise ConfigError("--tls-ca checks the senders, who need TLS for that", remedy)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused rather than taken."""

    max_queue: int = 1000
    "objects that wait for their answer"
    max_object_mb: float = 64.0
    "MB of an object"
    max_associations: int = 8
    "at once"
    max_rate: int = 600
    "objects a minute from one address"
    timeout: float = 30.0
    "seconds for one PDU, and between two"


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """One DICOM node. Raises ConfigError where anybody on the network could send."""

    folder: Path
    "of rows, waiting objects and reports"
    ae_title: str = "KNEEEDGE"
    host: str = "127.0.0.1"
    "the address to listen on"
    port: int = 11112
    peers: tuple[Peer, ...] = ()
    "who may send; none: whoever can reach the node"
    any_peer: bool = False
    "said aloud, that whoever reaches a node on the network may send"
    destination: Destination | None = None
    "who gets the reports; None: they stay in the folder"
    captures: bool = False
    "also a Secondary Capture of the class activation map"
    with_patient_id: bool = False
    "let rows, reports and captures say who the patient is"
    drift: DriftOptions | None = None
    "compare the images with what came before; None: not"
    limits: Limits = field(default_factory=Limits)
    tls: Tls = field(default_factory=Tls)

    def __post_init__(self) -> None:
        check_ae_title(self.ae_title)
        if self.peers and self.any_peer:
            raise ConfigError("--peer and --any-peer exclude each other", "leave out one")
        if not (self.peers or self.any_peer or is_loopback(self.host)):
            remedy = "name each sender with --peer AET@ADDRESS, or say --any-peer"
            raise ConfigError(f"whoever reaches {self.host} could send", remedy)
        if self.tls.to_destination and not self.destination:
            raise ConfigError("--send-tls without a destination", "name it with --send-to")


def check_ae_title(text: str) -> str:
    """The AE title; raises ConfigError where it is none."""
    if not _AE_TITLE.fullmatch(text):
        remedy = "give 1 to 16 letters, digits or signs, without a backslash"
        raise ConfigError(f"{text!r} is no AE title", remedy)
    return text.strip()


def peer_of(text: str) -> Peer:
    """The sender that `AET` or `AET@ADDRESS` names; raises ConfigError for anything else."""
    ae_title, at, host = text.partition("@")
    if at:
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError as error:
            remedy = "write AET, or AET@ADDRESS as 192.0.2.7"
            raise ConfigError(f"--peer {text}: {host!r} is no address", remedy) from error
    return Peer(check_ae_title(ae_title), host)


def destination_of(text: str) -> Destination:
    """What `AET@HOST:PORT` names; raises ConfigError for anything else."""
    ae_title, _, place = text.partition("@")
    host, _, port = place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not _PORT.fullmatch(port) or not 0 < int(port) <= LAST_PORT:
        remedy = "write AET@HOST:PORT as ARCHIVE@192.0.2.5:104"
        raise ConfigError(f"--send-to {text} names no place to send to", remedy)
    return Destination(check_ae_title(ae_title), host, int(port))
