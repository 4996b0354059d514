"""Who a client is, and how it proves that on RPC: by Kerberos, by NTLM, or by what SPNEGO comes to.

    logons = Logons(Credential("alice", "LAB.EXAMPLE", password))
    logon = logons.open("negotiate", "exchangeMDB/cas.lab.example", AuthLevel.PRIVACY)   # for one connection
    await channel.bind(EMSMDB, auth=logon.auth())
    print(logon.mechanism, logon.why_not_kerberos)

Getting a ticket may take its time: from a coroutine ask in a thread (`asyncio.to_thread`).
"""

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth, Security
from casarray.core.errors import Denied
from casarray.core.kerberos.proof import Got
from casarray.core.kerberos.proof_words import WORDS
from casarray.core.kerberos.tickets import KERBEROS
from casarray.core.ntlm.context import NtlmClient
from casarray.core.spnego.negotiation import NTLM, SpnegoClient, Way

if TYPE_CHECKING:
    from casarray.adapters.kerberos.initiator import Purse

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
    target: str = ""  # the service that Kerberos was offered for; empty where it was not
    no_ticket: str = ""  # in words, where there is none

    def auth(self) -> ClientAuth:
        """What a bind takes; once."""
        return ClientAuth(self.security, self.type, self.level)

    @property
    def mechanism(self) -> str:
        """What was really used: "Kerberos" or "NTLM"; empty before the server has agreed."""
        return self.security.mechanism.rpartition(", ")[2] if self.security.complete else ""

    @property
    def why_not_kerberos(self) -> str:
        """In words, where SPNEGO came, or would have to come, to something else."""
        if self.target and self.mechanism == "NTLM":
            return f"the server takes no Kerberos, though there is a ticket for {self.target}: look at its keytab"
        return self.no_ticket


class Logons:
    """Opens the security of connections for one credential, and keeps its tickets meanwhile."""

    def __init__(self, credential: Credential) -> None:
        self._who = credential
        self._purse: Purse | None = None

    def open(self, kind: Kind, target: str, level: AuthLevel) -> Logon:
        """For one connection to the service ``class/host``. `Denied` says why that is not possible.

        ``negotiate`` offers Kerberos where there is a ticket and NTLM where there is a password, and the server picks.
        """
        if kind == "ntlm":
            return Logon(AuthType.NTLM, self._ntlm(target), level)
        why_not = self._why_not_kerberos(target)
        if kind == "kerberos":
            if why_not:
                raise Denied(f"Kerberos is not possible: {why_not}")
            return Logon(AuthType.KERBEROS, self._kerberos(target, level), level)
        ways = [] if why_not else [Way(KERBEROS, self._kerberos(target, level))]
        if self._who.password:
            ways.append(Way(NTLM, self._ntlm(target)))
        if not ways:
            raise Denied(f"Kerberos is not possible: {why_not}; and NTLM takes a password")
        return Logon(AuthType.SPNEGO, SpnegoClient(ways), level, "" if why_not else target, why_not)

    def close(self) -> None:
        """Forget the tickets. Twice is once."""
        if self._purse is not None:
            self._purse.close()
            self._purse = None

    def _ntlm(self, target: str) -> NtlmClient:
        if not self._who.password:
            raise Denied("a logon by NTLM takes a password; with tickets only Kerberos is possible")
        who = self._who
        return NtlmClient(who.user, who.domain, who.password, target, random=secrets.token_bytes, clock=time.time)

    def _kerberos(self, target: str, level: AuthLevel) -> Security:
        assert self._purse is not None  # there is a ticket
        return self._purse.security(target, AuthType.KERBEROS, sealed=level == AuthLevel.PRIVACY)

    def _why_not_kerberos(self, target: str) -> str:
        """Get a ticket; in words why there is none, empty if there is."""
        try:
            from casarray.adapters.kerberos.initiator import Purse  # noqa: PLC0415 - its libraries are an extra
        except ImportError as error:
            return f"the Kerberos libraries are missing ({error.name}): install casarray[kerberos]"
        if self._purse is None:
            if self._who.password:
                self._purse = Purse(principal_of(self._who), password=self._who.password)
            else:
                self._purse = Purse(ccache=self._who.ccache)
        found = self._purse.get(target)
        if isinstance(found, Got):
            return ""
        words = WORDS[found.trouble]
        return f"{words.says.format_map(_Places(name=target, detail=found.detail))}; {words.next}"


class _Places(dict[str, str]):
    """What the words of a trouble name; what is not known here stays empty."""

    def __missing__(self, key: str) -> str:
        return ""


def principal_of(who: Credential) -> str:
    """The Kerberos name: a domain that has a dot is a realm, else the realm is the one of krb5.conf."""
    user, _, suffix = who.user.partition("@")
    realm = suffix or (who.domain if "." in who.domain else "")
    return f"{user}@{realm.upper()}" if realm else user
