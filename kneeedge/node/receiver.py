"""C-STORE and C-ECHO in: an object is acknowledged once it is on the disk, or refused."""

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydicom import Dataset
from pynetdicom import AE, evt

from kneeedge.errors import ConfigError
from kneeedge.node.connection import MAX_PDU, BoundedHandler, BoundedSocket, NodeServer, serve
from kneeedge.node.notices import Notices
from kneeedge.node.options import Limits, NodeOptions, Tls
from kneeedge.node.spool import Incoming, QueueFullError, Spool
from kneeedge.node.storage import STORAGE, SYNTAXES, UID
from kneeedge.system.addresses import listening
from kneeedge.system.own import is_own_object
from kneeedge.system.plural import counted

if TYPE_CHECKING:
    from pynetdicom.events import Event

# PS3.4, table B.2-1, and PS3.7, annex C
SUCCESS = 0x0000
INVALID_INSTANCE = 0x0117
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
NOT_UNDERSTOOD = 0xC000

MINUTE = 60.0
MAX_COMMENT = 64
"characters of an Error Comment (PS3.7, annex C.1, of value representation LO)"

VERIFICATION = "1.2.840.10008.1.1"


class Receiver:
    """A Storage and Verification SCP that listens until it is stopped.

    `wake` is called once a new object is there. Raises ConfigError for certificates that cannot be
    used, and for an address that is taken or is not this machine's.
    """

    def __init__(
        self,
        options: NodeOptions,
        spool: Spool,
        is_done: Callable[[str], bool],
        wake: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._spool = spool
        self._is_done = is_done
        self._wake = wake
        self._notices = Notices(say)
        self._rates = Rates(options.limits)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_DIMSE_RECV, _count_anew),
            (evt.EVT_REJECTED, self._say_rejected),
        ]
        entity = application_entity(options)
        with listening(options.host, options.port):
            self._server = NodeServer(
                entity,
                (options.host, options.port),
                entity.ae_title,
                entity.supported_contexts,
                server_tls(options.tls),
                evt_handlers=handlers,
                request_handler=BoundedHandler,
                limits=options.limits,
            )
        self.port = int(self._server.server_address[1])
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Accept associations, in a thread."""
        self._thread = serve(self._server)

    def stop(self) -> None:
        """Accept no more, and end what is under way: it is acknowledged or it is not."""
        if self._thread is None:
            self._server.server_close()
            return
        self._server.shutdown()
        self._thread.join()

    def _store(self, event: "Event") -> int | Dataset:
        """Keep an object; the status of PS3.4, table B.2-1."""
        peer = peer_of_event(event)
        if not self._may_send(event):
            return self._refuse(peer, NOT_AUTHORISED, "not a peer of this node")
        if not self._rates.allow(event.assoc.requestor.address):
            rate = f"over {counted(self._options.limits.max_rate, 'object')} a minute"
            return self._refuse(peer, OUT_OF_RESOURCES, rate)
        uid = str(event.request.AffectedSOPInstanceUID or "")  # type: ignore[union-attr]
        if not UID.fullmatch(uid):
            return self._refuse(peer, INVALID_INSTANCE, "the SOP Instance UID is none")
        incoming = incoming_of(event, uid)
        if is_own_object(incoming.dataset):
            return self._refuse(peer, NOT_UNDERSTOOD, "made by kneeedge: it answers no own objects")
        if self._is_done(incoming.name):
            self._notices.say(f"{peer} sent again what was answered before")
            return SUCCESS
        return self._keep(incoming, peer)

    def _keep(self, incoming: Incoming, peer: str) -> int | Dataset:
        try:
            self._spool.take_in(incoming)
        except QueueFullError:
            full = f"{self._options.limits.max_queue} objects wait already"
            return self._refuse(peer, OUT_OF_RESOURCES, full)
        except OSError as error:
            return self._refuse(peer, OUT_OF_RESOURCES, f"not kept: {error.strerror}")
        self._wake()
        return SUCCESS

    def _echo(self, event: "Event") -> int:
        return SUCCESS if self._may_send(event) else NOT_AUTHORISED

    def _may_send(self, event: "Event") -> bool:
        caller = event.assoc.requestor
        peers = self._options.peers
        return not peers or any(peer.matches(caller.ae_title, caller.address) for peer in peers)

    def _refuse(self, peer: str, status: int, comment: str) -> Dataset:
        self._notices.say(f"refused an object of {peer}: {comment}")
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = comment[:MAX_COMMENT]
        return answer

    def _say_rejected(self, event: "Event") -> None:
        # Not the titles, of which a hostile peer has many.
        why = "an AE title that is not taken, or too many associations"
        self._notices.say(f"rejected an association from {event.assoc.requestor.address}: {why}")


class Rates:
    """Objects from each address within the last minute; titles anybody can make up."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limits.max_rate
        self._clock = clock
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def allow(self, address: str) -> bool:
        """Whether one more may come from there now; it counts where it may."""
        now = self._clock()
        with self._lock:
            times = self._times.setdefault(address, deque())
            while times and now - times[0] > MINUTE:
                times.popleft()
            if len(times) >= self._limit:
                return False
            times.append(now)
            return True


def application_entity(options: NodeOptions) -> AE:
    """The entity that listens: what it takes, from whom, and how much at once."""
    entity = AE(options.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = sorted({peer.ae_title for peer in options.peers})
    entity.maximum_associations = options.limits.max_associations
    entity.maximum_pdu_size = MAX_PDU
    entity.acse_timeout = options.limits.timeout
    entity.dimse_timeout = options.limits.timeout
    entity.network_timeout = options.limits.timeout
    for sop_class in STORAGE:
        entity.add_supported_context(sop_class, list(SYNTAXES))
    entity.add_supported_context(VERIFICATION)
    return entity


def server_tls(tls: Tls) -> ssl.SSLContext | None:
    """What senders must speak; None without a certificate. Raises ConfigError."""
    if tls.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_certificates(context, tls)
    if tls.authority:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificates(context: ssl.SSLContext, tls: Tls) -> None:
    """Read the files of PEM; raises ConfigError where they are none."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # BCP 195, as PS3.15, annex B.9 asks
    try:
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
        if tls.authority:
            context.load_verify_locations(tls.authority)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(str(path) for path in (tls.certificate, tls.key, tls.authority) if path)
        problem = f"{names}: no certificates that can be used ({error.strerror or error})"
        raise ConfigError(
            problem, "give readable files of PEM, and a key without a password"
        ) from error


def incoming_of(event: "Event", uid: str) -> Incoming:
    """The object that a C-STORE request brings."""
    whole = event.encoded_dataset()
    dataset = event.encoded_dataset(include_meta=False)
    return Incoming(
        sop_instance_uid=uid,
        transfer_syntax=str(event.context.transfer_syntax),
        dataset=dataset,
        meta=whole[: len(whole) - len(dataset)],
    )


def peer_of_event(event: "Event") -> str:
    """Who called, by title and address."""
    caller = event.assoc.requestor
    return f"{caller.ae_title}@{caller.address}"


def _count_anew(event: "Event") -> None:
    """A message is whole: what its connection may cost is counted anew."""
    connection = event.assoc.dul.socket
    if isinstance(connection, BoundedSocket):
        connection.begin_message()
