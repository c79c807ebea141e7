"""What the node's tests share."""

import pytest


@pytest.fixture(autouse=True)
def closed_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pynetdicom as a sender close its sockets: it leaves them open where the peer went first,
    which Python warns of.
    """
    transport = pytest.importorskip("pynetdicom.transport", reason="pip install 'kneeedge[node]'")
    shut_down = transport.AssociationSocket._shutdown_socket

    def close(self) -> None:
        connection = self.socket
        shut_down(self)
        if connection is not None:
            connection.close()

    monkeypatch.setattr(transport.AssociationSocket, "_shutdown_socket", close)
