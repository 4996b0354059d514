"""What a walk asks of the world, and what it is told: the words between `walk` and whoever has sockets and a clock.

A walk is a generator of commands. Each is answered with what stands beside it here; `Went` says how it went wrong.
"""

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from casarray.core.autodiscover.response import Response
from casarray.core.dcerpc.client import Reply
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.forwarding.table import Address
from casarray.core.outlook.verdicts import Step

T = TypeVar("T")


class Way(StrEnum):
    """How something can go wrong."""

    REFUSED = "refused"  # nobody listens
    UNREACHABLE = "unreachable"
    SILENT = "silent"  # in time
    LOST = "lost"  # hung up, or reset
    NOT_THERE = "not-there"  # the port does not have the interface
    REJECTED = "rejected"  # the bind, as a whole
    DENIED = "denied"  # the logon
    PROXY_DENIED = "proxy-denied"  # the logon at the proxy of RPC over HTTP
    CLOCK = "clock"  # the logon, because of a clock
    FAULT = "fault"  # a call was answered with a fault
    NONSENSE = "nonsense"  # what came is no answer
    TLS = "tls"
    UNKNOWN = "unknown"  # a name nobody knows


@dataclass(frozen=True, slots=True)
class Went:
    """Wrong. ``detail`` completes the sentence "it ..."."""

    way: Way
    detail: str
    status: int = 0  # of a fault


@dataclass(frozen=True, slots=True)
class Tell:
    """A step is done; told the same `Step` with the time since the one before it."""

    step: Step


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask for a name's addresses; told `Resolved`, or `Went` (UNKNOWN, or SILENT)."""

    name: str
    outside: bool = False  # at the name server of the outside


@dataclass(frozen=True, slots=True)
class Resolved:
    """What it has."""

    addresses: tuple[Address, ...]
    alias: str = ""  # the name that its chain of CNAMEs ends at, if it is one


@dataclass(frozen=True, slots=True)
class Reach:
    """Connect and hang up; told None, or `Went`."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Discover:
    """Ask Autodiscover for an address, with all its redirects; told `Discovered`, or `Went`."""

    address: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """What it answered in the end, and where."""

    response: Response
    url: str


@dataclass(frozen=True, slots=True)
class ShowCertificate:
    """Ask for the certificate of a TLS port, without judging it; told `Certificate`, or `Went`."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """The names in it: of its subject, and of its subjectAltName."""

    subject: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """Connect and bind to an interface; told `Opened`, or `Went`. Calls name the connection by ``key``."""

    key: str
    host: str
    port: int
    interface: Syntax
    target: str = ""  # the service to log on to, ``exchangeMDB/cas.domain.tld``; empty: no logon
    group_id: int = 0  # the association group to join; 0: a new one
    proxy: str = ""  # RPC over HTTP: by way of the proxy of that name


@dataclass(frozen=True, slots=True)
class Opened:
    """It is open."""

    group_id: int = 0
    mechanism: str = ""  # Kerberos, NTLM: what was really used
    why_not_kerberos: str = ""  # in words


@dataclass(frozen=True, slots=True)
class Ask:
    """Make a call; told `casarray.core.dcerpc.client.Reply`, or `Went`."""

    key: str
    interface: Syntax
    opnum: int
    stub: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Hang up; told None."""

    key: str


Command = Tell | Resolve | Reach | Discover | ShowCertificate | Open | Ask | Close
Answer = None | Step | Resolved | Discovered | Certificate | Opened | Reply | Went
Walk = Generator[Command, Answer, T]


def tell(step: Step) -> Walk[Step]:
    """A step is done."""
    answer = yield Tell(step)
    assert isinstance(answer, Step)
    return answer


def resolve(name: str, *, outside: bool = False) -> Walk[Resolved | Went]:
    """A name's addresses."""
    answer = yield Resolve(name, outside)
    assert isinstance(answer, Resolved | Went)
    return answer


def reach(host: str, port: int) -> Walk[Went | None]:
    """What is wrong with a port; None if somebody listens."""
    answer = yield Reach(host, port)
    assert answer is None or isinstance(answer, Went)
    return answer


def discover(address: str) -> Walk[Discovered | Went]:
    """What Autodiscover tells."""
    answer = yield Discover(address)
    assert isinstance(answer, Discovered | Went)
    return answer


def certificate(host: str, port: int) -> Walk[Certificate | Went]:
    """The certificate of a port."""
    answer = yield ShowCertificate(host, port)
    assert isinstance(answer, Certificate | Went)
    return answer


def opened(wanted: Open) -> Walk[Opened | Went]:
    """A connection."""
    answer = yield wanted
    assert isinstance(answer, Opened | Went)
    return answer


def call(key: str, interface: Syntax, opnum: int, stub: bytes) -> Walk[Reply | Went]:
    """A call's answer."""
    answer = yield Ask(key, interface, opnum, stub)
    assert isinstance(answer, Reply | Went)
    return answer
