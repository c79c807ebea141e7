"""A DICOMweb archive: images come by QIDO-RS and WADO-RS, reports go by STOW-RS (PS3.18)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kneeedge.errors import ArchiveError, ConfigError, MissingExtraError
from kneeedge.node.storage import STORAGE, UID
from kneeedge.system.files import write_bytes
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from pydicom import Dataset

TOKEN_VARIABLE = "KNEEEDGE_DICOMWEB_TOKEN"  # noqa: S105 - its name
"a bearer token; a name and a password stand in .netrc, as for other programs"
TIMEOUT = 60.0
"seconds that the archive may be silent"
ATTEMPTS = 3
"to ask the archive"
WAIT_MS = 250
"before it is asked again; twice as long the next time"
AS_STORED = (("application/dicom", "*"),)
"the transfer syntax that the archive has: it need not be able to decode what it keeps"


@dataclass(frozen=True)
class Instance:
    """An object of the archive, by its UIDs."""

    study: str
    series: str
    sop: str
    sop_class: str

    @property
    def is_radiograph(self) -> bool:
        return self.sop_class in STORAGE


class Archive:
    """A DICOMweb archive. Raises ConfigError for what is no URL, MissingExtraError without client.

    Each method raises ArchiveError where the archive does not answer, or refuses.
    """

    def __init__(self, url: str) -> None:
        check_url(url)
        try:
            from dicomweb_client import DICOMwebClient
        except ModuleNotFoundError as error:
            install = "pip install 'kneeedge[node,cpu]'"
            raise MissingExtraError("--dicomweb", "dicomweb_client", install) from error
        token = os.environ.get(TOKEN_VARIABLE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._client = DICOMwebClient(url, headers=headers, timeout=TIMEOUT)
        self._client.set_http_retry_params(
            max_attempts=ATTEMPTS, wait_exponential_multiplier=WAIT_MS
        )

    def fetch_study(self, study: str, folder: Path, say: Callable[[str], None]) -> None:
        """Write each radiograph of a study into a new folder, as `<SOPInstanceUID>.dcm`.

        What else is in the study, as reports, is counted and stays where it is. Raises ArchiveError
        as well where the study has no radiographs.
        """
        found = self.find(study)
        images = [instance for instance in found if instance.is_radiograph]
        if not images:
            remedy = "name a study with radiographs"
            raise ArchiveError(
                self.url, f"study {study} has none in {counted(len(found), 'object')}", remedy
            )
        n_others = len(found) - len(images)
        others = f"; {counted(n_others, 'other object')}" if n_others else ""
        say(f"study {study}: {counted(len(images), 'image')}{others}")
        folder.mkdir(mode=0o700)
        for instance in images:
            write_bytes(folder / f"{instance.sop}.dcm", self.retrieve(instance), private=True)

    def find(self, study: str) -> list[Instance]:
        """The objects of a study, by QIDO-RS."""
        with self._asked("find the study", "check the UID and the rights"):
            records = self._client.search_for_instances(study, get_remaining=True)
        return [self._instance(study, record) for record in records]

    def retrieve(self, instance: Instance) -> bytes:
        """The bytes of a DICOM file of the object, by WADO-RS."""
        from io import BytesIO

        with self._asked(f"give {instance.sop}", "try again, or look into its log"):
            dataset = self._client.retrieve_instance(
                instance.study, instance.series, instance.sop, media_types=AS_STORED
            )
        content = BytesIO()
        dataset.save_as(content, enforce_file_format=True)
        return content.getvalue()

    def store(self, paths: list[Path]) -> None:
        """Store DICOM files, by STOW-RS. Raises ArchiveError as well where it refuses one."""
        from pydicom import dcmread

        with self._asked("store the reports", "they are kept; send them again when it can"):
            answer = self._client.store_instances([dcmread(path) for path in paths])
        refused = failed_instances(answer)
        if refused:
            problem = (
                f"refused {len(refused):,} of {counted(len(paths), 'report')}, as {refused[0]}"
            )
            raise ArchiveError(self.url, problem, "they are kept; look into its log")

    def _instance(self, study: str, record: dict[str, Any]) -> Instance:
        """What a record of DICOM JSON (PS3.18, annex F) says."""
        uids = [_first(record, tag) for tag in ("0020000E", "00080018", "00080016")]
        if not all(UID.fullmatch(uid) for uid in uids):
            problem = f"says of study {study} what names no objects"
            raise ArchiveError(
                self.url, problem, "check that the URL is that of a DICOMweb service"
            )
        return Instance(study, *uids)

    @contextmanager
    def _asked(self, what: str, remedy: str) -> Iterator[None]:
        """Within, what the client raises is an ArchiveError."""
        import requests

        try:
            yield
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "no status"
            raise ArchiveError(self.url, f"did not {what}: status {status}", remedy) from error
        except (requests.RequestException, OSError) as error:
            remedy = "check the address, and that the archive runs"
            raise ArchiveError(self.url, f"did not {what}: it does not answer", remedy) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            problem = f"did not {what}: what it answers is no DICOM"
            raise ArchiveError(self.url, problem, "check the address") from error


def check_url(url: str) -> None:
    """Raise ConfigError for what is no http or https URL, or holds a password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"--dicomweb {url}: {error}", "give an http or https URL") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--dicomweb {url} is no URL", "give an http or https URL")
    if parts.password:
        remedy = f"put it into .netrc, or a token into {TOKEN_VARIABLE}"
        raise ConfigError("--dicomweb with a password, which others can read", remedy)


def check_study(uid: str) -> str:
    """The Study Instance UID; raises ConfigError where it is none."""
    if not UID.fullmatch(uid):
        raise ConfigError(f"--study {uid} is no UID", "give digits and dots, at most 64")
    return uid


def failed_instances(answer: "Dataset") -> list[str]:
    """The objects that a STOW-RS response (PS3.18, annex I) says were not stored."""
    return [
        f"{item.get('ReferencedSOPInstanceUID')} ({int(item.get('FailureReason', 0)):04X})"
        for item in answer.get("FailedSOPSequence") or []
    ]


def _first(record: dict[str, Any], tag: str) -> str:
    values = record.get(tag, {}).get("Value") or [""]
    return str(values[0])
