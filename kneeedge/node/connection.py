"""Connections of a node, with ends to what a peer may cost: pynetdicom's own have none.

pynetdicom 3.0 reads a PDU of whatever length its header claims, waits for the rest of it for ever,
and shakes hands for TLS in the thread that accepts connections.
"""

import socket
import threading
import time
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from kneeedge.node.options import Limits

if TYPE_CHECKING:
    from pynetdicom.association import Association

MAX_PDU = 128 * 1024
"bytes of a PDU that is offered to peers (PS3.8, section D.1)"
LONGEST_PDU = 1 << 20
"bytes: an association request with all contexts there are is some ten kilobytes"
CONNECTIONS_EACH = 4
"connections for each association that may be: others are told no, and that takes one"
MESSAGE_SECONDS = 600.0
"for a message that comes in many PDUs: 64 MB at one megabit a second"
CHUNK = 1 << 16
"bytes asked of the system at once"


class BoundedSocket(AssociationSocket):
    """A connection that ends where a PDU is too long, an object too large, or a peer too slow."""

    def __init__(self, assoc: "Association", client: socket.socket, limits: Limits) -> None:
        super().__init__(assoc, client_socket=client)
        self._limits = limits
        self.begin_message()

    def begin_message(self) -> None:
        """Count anew: what was being received is whole."""
        self._n_received = 0
        self._end = 0.0
        "when the message that began is to be whole, by the monotonic clock; 0 where none has begun"

    def recv(self, nr_bytes: int) -> bytearray:
        """So many bytes, or fewer where the peer closed; raises OSError beyond a limit."""
        if nr_bytes > LONGEST_PDU:
            raise OSError(f"a PDU of {nr_bytes:,} bytes")
        self._n_received += nr_bytes
        if self._n_received > self._limits.max_object_mb * 1e6 + LONGEST_PDU:
            raise OSError(f"an object of more than {self._limits.max_object_mb:g} MB")
        now = time.monotonic()
        self._end = self._end or now + MESSAGE_SECONDS
        end = min(self._end, now + self._limits.timeout)
        received = bytearray()
        while len(received) < nr_bytes:
            if time.monotonic() > end:
                raise TimeoutError("a message that takes too long")
            part = self.socket.recv(min(CHUNK, nr_bytes - len(received)))  # type: ignore[union-attr]
            if not part:
                break
            received += part
        return received

    def _shutdown_socket(self) -> None:
        """Close the connection, also where the peer went first: pynetdicom then leaves it open."""
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()


class BoundedHandler(RequestHandler):
    """Gives each connection a `BoundedSocket`."""

    server: "NodeServer"

    def _create_association(self) -> "Association":
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # "connected", which each socket says once
        association.dul.socket = BoundedSocket(association, self.request, self.server.limits)
        return association


class NodeServer(ThreadedAssociationServer):
    """Accepts connections, as many as the limits allow."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        self.limits = limits
        super().__init__(*args, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; its handshake is its own thread's, as is what it then waits for."""
        client, address = self.socket.accept()  # type: ignore[union-attr]
        client.settimeout(self.limits.timeout)
        if self.ssl_context:
            client = self.ssl_context.wrap_socket(
                client, server_side=True, do_handshake_on_connect=False
            )
        return client, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether there is room for one more connection; it is closed where there is not."""
        return len(self.active_associations) < CONNECTIONS_EACH * self.limits.max_associations

    def shutdown(self) -> None:
        """Accept no more connections, and end those that there are."""
        BaseServer.shutdown(self)  # pynetdicom's own looks for a server that `start_server` made
        self.server_close()
        for association in self.active_associations:
            association.abort()


def serve(server: NodeServer) -> threading.Thread:
    """The thread in which a server accepts connections until its `shutdown`."""
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True, name="accept")
    thread.start()
    return thread
