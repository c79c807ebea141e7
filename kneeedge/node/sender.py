"""Reports out by C-STORE: each leaves the disk once its destination says that it has it."""

import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pynetdicom import AE

from kneeedge.node.notices import Notices
from kneeedge.node.options import Destination, NodeOptions, Tls
from kneeedge.node.receiver import load_certificates
from kneeedge.node.spool import Spool
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from pynetdicom.association import Association

SENT = (
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)
UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"explicit and implicit little endian"
FIRST_WAIT = 2.0
LONGEST_WAIT = 60.0
"seconds until a destination that does not answer is tried again; twice as long each time"
STORED = range(0xB000, 0xC000)
"warnings: it has the object, and may have changed elements of it (PS3.4, table B.2-1)"
LATER = range(0xA700, 0xA800)
"it is out of resources, which passes"


class UnreachableError(Exception):
    """The destination took no association, or broke it off."""


class Sender:
    """Sends what stands in the outbox of a spool, in a thread, until it is stopped."""

    def __init__(
        self,
        destination: Destination,
        options: NodeOptions,
        spool: Spool,
        say: Callable[[str], None],
    ) -> None:
        self.destination = destination
        self.n_sent = 0
        "reports since the start"
        self.failure: BaseException | None = None
        "what ended the thread before it was stopped"
        self._spool = spool
        self._notices = Notices(say)
        self._wake = threading.Event()
        self._stopping = False
        self._entity = requesting_entity(options)
        self._tls = client_tls(options.tls)
        self._thread = threading.Thread(target=self._run, name="send", daemon=True)

    def start(self) -> None:
        """Send, in a thread."""
        self._thread.start()

    def wake(self) -> None:
        """There is something new to send."""
        self._wake.set()

    def stop(self) -> None:
        """Send no more; what is under way is ended."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._send_until_stopped()
        except BaseException as error:  # noqa: BLE001 - the node's own thread raises it
            self.failure = error

    def _send_until_stopped(self) -> None:
        wait = FIRST_WAIT
        while not self._stopping:
            self._wake.clear()
            paths = self._spool.outgoing()
            try:
                n_left = self.send(paths) if paths else 0
            except UnreachableError as error:
                self._notices.say(
                    f"{self.destination} {error}; {counted(len(paths), 'report')} waiting"
                )
                n_left = len(paths)
            if n_left:
                self._pause(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                wait = FIRST_WAIT
                self._wake.wait(1.0)

    def _pause(self, seconds: float) -> None:
        """Wait, but for a stop."""
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(0.1)

    def send(self, paths: Iterable[Path]) -> int:
        """Send reports over one association; how many the destination wants later.

        Raises UnreachableError.
        """
        association = self._associate()
        n_later = 0
        try:
            for path in paths:
                if self._stopping:
                    break
                n_later += not self._send_one(association, path)
        finally:
            if association.is_established:
                association.release()
        return n_later

    def _associate(self) -> "Association":
        place = self.destination
        association = self._entity.associate(
            place.host,
            place.port,
            ae_title=place.ae_title,
            tls_args=(self._tls, place.host) if self._tls else None,
        )
        if association.is_established:
            return association
        refused = association.is_rejected
        raise UnreachableError("refuses the association" if refused else "does not answer")

    def _send_one(self, association: "Association", path: Path) -> bool:
        """Whether the destination decided on the report: has it, or will not have it."""
        try:
            answer = association.send_c_store(path)
        except ValueError as error:  # no presentation context for it
            self._put_aside(path, " ".join(str(error).split()))
            return True
        except RuntimeError as error:
            raise UnreachableError("broke the association off") from error
        if "Status" not in answer:
            raise UnreachableError("broke the association off")
        status = int(answer.Status)
        if status == 0 or status in STORED:
            self._spool.sent(path)
            self.n_sent += 1
        elif status in LATER:
            self._notices.say(f"{self.destination} is out of resources ({status:04X})")
            return False
        else:
            comment = str(answer.get("ErrorComment", "")) or "no reason given"
            self._put_aside(path, f"status {status:04X}, {comment}")
        return True

    def _put_aside(self, path: Path, why: str) -> None:
        self._spool.will_not_be_had(path)
        kept = self._spool.refused / path.name
        self._notices.say(f"{self.destination} refuses a report: {why}; it is kept as {kept}")


def requesting_entity(options: NodeOptions) -> AE:
    """The entity that asks the destination to store."""
    entity = AE(options.ae_title)
    entity.acse_timeout = options.limits.timeout
    entity.dimse_timeout = options.limits.timeout
    entity.network_timeout = options.limits.timeout
    entity.connection_timeout = options.limits.timeout
    for sop_class in SENT:
        entity.add_requested_context(sop_class, list(UNCOMPRESSED))
    return entity


def client_tls(tls: Tls) -> ssl.SSLContext | None:
    """What the destination is to speak; None for plain connections. Raises ConfigError."""
    if not tls.to_destination:
        return None
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    load_certificates(context, tls)
    return context
