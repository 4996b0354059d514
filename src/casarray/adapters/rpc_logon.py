"""Who a client is, and how it proves that on RPC: by Kerberos, by NTLM, or by what SPNEGO comes to.

    logons = Logons(Credential("alice", "LAB.EXAMPLE", password))
    logon = logons.open("negotiate", "exchangeMDB/cas.lab.example", AuthLevel.PRIVACY)   # for one connection
    await channel.bind(EMSMDB, auth=logon.auth())
    print(logon.mechanism, logon.why_not_kerberos)

Getting a ticket may take its time: from a coroutine ask in a thread (`asyncio.to_thread`).
"""

from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth, Security
from casarray.core.errors import Denied

Kind = Literal["kerberos", "ntlm", "negotiate"]


@dataclass(frozen=True, slots=True)
class Credential:
    """Who logs on. Without a password the tickets of ``ccache`` are used; "" there is the usual cache (`kinit`)."""

    user: str = ""
    domain: str = ""  # the NetBIOS name or the realm: LAB, lab.example
    password: str = field(default="", repr=False)
    ccache: str = ""  # FILE:/tmp/krb5cc_0


@dataclass(frozen=True, slots=True)
class Logon:
    """The security of one connection, opened."""

    type: AuthType
    security: Security
    level: AuthLevel
    why_not_kerberos: str = ""  # in words, where another way was taken, or would have to be

    def auth(self) -> ClientAuth:
        """What a bind takes; once."""
        return ClientAuth(self.security, self.type, self.level)

    @property
    def mechanism(self) -> str:
        """What was really used: "Kerberos" or "NTLM"; empty before the server has agreed."""
        return self.security.mechanism.rpartition(", ")[2] if self.security.complete else ""


class Logons:
    """Opens the security of connections for one credential, and keeps its tickets meanwhile."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def open(self, kind: Kind, target: str, level: AuthLevel) -> Logon:
        """For one connection to the service ``class/host``. `Denied` says why that is not possible."""
        from casarray.adapters.kerberos.rpc_security import initiate  # noqa: PLC0415 - its library is an extra

        if kind == "ntlm":
            raise Denied("NTLM is not there yet")
        auth_type = AuthType.KERBEROS if kind == "kerberos" else AuthType.SPNEGO
        sealed = level == AuthLevel.PRIVACY
        return Logon(auth_type, initiate(target, self._credential.ccache, auth_type, sealed=sealed), level)

    def close(self) -> None:
        """Forget the tickets. Twice is once."""


def open_security(kind: Kind, target: str, credential: Credential, level: AuthLevel) -> Logon:
    """The same for a single connection."""
    with closing(Logons(credential)) as logons:
        return logons.open(kind, target, level)
