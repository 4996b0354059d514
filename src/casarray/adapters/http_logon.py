"""Logs on to web servers and RPC proxies: with tickets, or by NTLM with the password (RFC 4559, [MS-NTHT]).

Each logon is one `casarray.adapters.net.rpc_http_client.HttpLogon`, for one connection. All but Basic can be said over
a connection that others hear.
"""

import secrets
import time
from typing import TYPE_CHECKING

from casarray.core.errors import Denied
from casarray.core.kerberos.approach import Protocol
from casarray.core.kerberos.proof import Got
from casarray.core.ntlm.context import NtlmClient

if TYPE_CHECKING:
    from casarray.adapters.kerberos.initiator import GssInitiator, Purse
    from casarray.adapters.rpc_logon import Credential


class WebLogons:
    """The logons of one test, and its tickets meanwhile."""

    def __init__(self, credential: "Credential") -> None:
        self._who = credential
        self._purse: Purse | None = None

    def open(self, way: str, host: str) -> "Negotiate | Ntlm":
        """``negotiate`` takes Kerberos where there is a ticket for the host, else NTLM; ``ntlm`` wants a password.

        `Denied` says why there is neither.
        """
        if way == "ntlm":
            return self._ntlm(host)
        why_not = self._why_no_ticket(host)
        if not why_not:
            assert self._purse is not None  # there is a ticket
            return Negotiate(self._purse, host)
        if not self._who.password:
            raise Denied(f"there is no ticket for HTTP/{host} ({why_not}), and NTLM takes a password")
        return self._ntlm(host)

    def later(self, host: str) -> "Later":
        """By a ticket, which is got when somebody asks for it."""
        return Later(self, host)

    def close(self) -> None:
        """Forget the tickets. Twice is once."""
        if self._purse is not None:
            self._purse.close()
            self._purse = None

    def _ntlm(self, host: str) -> "Ntlm":
        who = self._who
        if not who.password:
            raise Denied("a logon by NTLM takes a password")
        user, _, suffix = who.user.partition("@")
        domain = who.domain or suffix
        client = NtlmClient(user, domain, who.password, f"HTTP/{host}", random=secrets.token_bytes, clock=time.time)
        return Ntlm(client, host)

    def _why_no_ticket(self, host: str) -> str:
        """Get one; why there is none, empty if there is."""
        try:
            from casarray.adapters.kerberos.initiator import Purse  # noqa: PLC0415 - its libraries are an extra
            from casarray.adapters.rpc_logon import principal_of  # noqa: PLC0415 - as above
        except ImportError as error:
            return f"the library {error.name} is missing: pip install 'casarray[kerberos]'"
        if self._purse is None:
            who = self._who
            by_password = Purse(principal_of(who), password=who.password) if who.password else None
            self._purse = by_password or Purse(ccache=who.ccache)
        found = self._purse.get(f"HTTP/{host}")
        return "" if isinstance(found, Got) else found.detail


class Negotiate:
    """By a ticket for ``HTTP/host``, and nothing but Kerberos."""

    scheme = "Negotiate"
    mechanism = "Kerberos"

    def __init__(self, purse: "Purse", host: str) -> None:
        self._purse = purse
        self._host = host
        self._initiator: GssInitiator | None = None

    def step(self, token: bytes) -> tuple[bytes, bool]:
        """The ticket, at once; there is no second leg."""
        if self._initiator is not None:
            raise Denied(f"{self._host} does not take our ticket")
        self._initiator = self._purse.initiator(f"HTTP/{self._host}", Protocol.HTTP)
        return self._initiator.step(token), True


class Later:
    """The same, opened when the server wants a proof: many do not."""

    scheme = "Negotiate"
    mechanism = "Kerberos"

    def __init__(self, logons: WebLogons, host: str) -> None:
        self._logons = logons
        self._host = host
        self._opened: Negotiate | Ntlm | None = None

    def step(self, token: bytes) -> tuple[bytes, bool]:
        """See `Negotiate`."""
        if self._opened is None:
            self._opened = self._logons.open("negotiate", self._host)
        return self._opened.step(token)


class Ntlm:
    """By NTLM: a message, the server's challenge, and the message that answers it."""

    scheme = "NTLM"
    mechanism = "NTLM"

    def __init__(self, client: NtlmClient, host: str) -> None:
        self._client = client
        self._host = host

    def step(self, token: bytes) -> tuple[bytes, bool]:
        """The next message; the channel's own request carries the last one."""
        if self._client.complete:
            raise Denied(f"{self._host} does not take this name and password")
        proof = self._client.step(token)
        return proof, self._client.complete
