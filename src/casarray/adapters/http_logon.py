"""Logs on to web servers with the tickets of ``kinit``: Negotiate, and nothing but Kerberos in it (RFC 4559)."""

from casarray.adapters.kerberos.initiator import GssInitiator, Purse
from casarray.core.errors import Denied
from casarray.core.kerberos.approach import Protocol


class Tickets:
    """The tickets of one test."""

    def __init__(self, ccache: str = "") -> None:
        """``ccache``: empty is the usual one."""
        self._purse = Purse(ccache=ccache)

    def negotiate(self, host: str) -> "Negotiate":
        """For one connection to that host."""
        return Negotiate(self._purse, host)

    def close(self) -> None:
        """Forget them. Twice is once."""
        self._purse.close()


class Negotiate:
    """`casarray.adapters.net.rpc_http_client.HttpLogon` by a ticket for ``HTTP/host``."""

    scheme = "Negotiate"
    mechanism = "Kerberos"

    def __init__(self, purse: Purse, host: str) -> None:
        self._purse = purse
        self._host = host
        self._initiator: GssInitiator | None = None

    def step(self, token: bytes) -> tuple[bytes, bool]:
        """The ticket, at once; there is no second leg."""
        if self._initiator is not None:
            raise Denied(f"{self._host} does not take our ticket")
        if (trouble := self._purse.open()) is not None:
            raise Denied(f"there is no ticket of our own to log on with ({trouble.detail}): kinit first")
        self._initiator = self._purse.initiator(f"HTTP/{self._host}", Protocol.HTTP)
        return self._initiator.step(token), True
