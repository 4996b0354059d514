"""Service principal names: ``class/host[:port][/name]``, whatever their capital letters ([MS-ADTS] 5.1.1.4)."""

import re
from dataclasses import dataclass

from casarray.core.errors import Conflict

LONGEST = 1024
_PART = re.compile(r"[^\x00-\x20/@\"\\:\x7f]+")

#: Classes that ``host/NAME`` stands for as well, by the usual ``sPNMappings`` of a forest ([MS-ADTS] 7.1.1.5.3).
_HOST_CLASSES = """
alerter appmgmt cisvc clipsrv browser dhcp dnscache replicator eventlog eventsystem policyagent
oakley dmserver dns mcsvc fax msiserver ias messenger netlogon netman netdde netddedsm nmagent
plugplay protectedstorage rasman rpclocator rpc rpcss remoteaccess rsvp samss scardsvr scesrv
seclogon scm dcom cifs spooler snmp schedule tapisrv trksvr trkwks ups time wins www http w3svc
iisadmin msdtc
"""
HOST_STANDS_FOR = frozenset(_HOST_CLASSES.split())


@dataclass(frozen=True, slots=True, eq=False)
class Spn:
    """A service principal name. Two are equal whatever their capital letters; each is shown as it was written."""

    service: str  # its class: http, exchangeMDB
    host: str
    port: str = ""  # a number, or an instance name
    name: str = ""  # of a replicated service

    def __str__(self) -> str:
        """As it stands in the directory."""
        return f"{self.service}/{self.host}{f':{self.port}' if self.port else ''}{f'/{self.name}' if self.name else ''}"

    @property
    def key(self) -> str:
        """What names are compared by."""
        return str(self).casefold()

    def __eq__(self, other: object) -> bool:
        """The same name."""
        return isinstance(other, Spn) and self.key == other.key

    def __hash__(self) -> int:
        """By what it is compared by."""
        return hash(self.key)

    @property
    def alias(self) -> "Spn | None":
        """``host/NAME``, if that stands for this name as well: who owns it gets these tickets when nobody else does."""
        return Spn("host", self.host, self.port, self.name) if self.service.casefold() in HOST_STANDS_FOR else None

    @property
    def covers(self) -> "tuple[Spn, ...]":
        """What ``host/NAME`` stands for; nothing, if this is another name."""
        if self.service.casefold() != "host":
            return ()
        return tuple(Spn(service, self.host, self.port, self.name) for service in sorted(HOST_STANDS_FOR))


def parse(text: str) -> Spn:
    """Read ``class/host[:port][/name]``; a realm behind @ is no part of it. `Conflict` says what is wrong."""
    parts = text.strip().split("/")
    if not 2 <= len(parts) <= 3 or len(text) > LONGEST:
        raise Conflict(f'"{text[:80]}" is no service principal name: write class/host, like http/mail.domain.tld')
    host, _, port = parts[1].partition(":")
    pieces = [parts[0], host, *([port] if ":" in parts[1] else []), *parts[2:]]
    if wrong := next((piece for piece in pieces if not _PART.fullmatch(piece)), None):
        raise Conflict(f'"{text[:80]}" is no service principal name: "{wrong}" cannot stand in one')
    return Spn(parts[0], host, port, parts[2] if len(parts) == 3 else "")


def is_spn(text: str) -> bool:
    """Whether `parse` reads it."""
    try:
        parse(text)
    except Conflict:
        return False
    return True
