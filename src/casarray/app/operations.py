"""What people and programs may ask of a running gateway, and what they are told.

The gateway fulfils `Operations`; the control socket carries it, the command line and the metrics are built on it.
Everything told is a frozen value that travels as JSON under the same names (`core.records`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from casarray.core.config import Wish


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The process that answers."""

    name: str
    mode: str  # kernel or userspace: what it really is, never "auto"
    return_path: str
    version: str
    uptime_seconds: float
    pid: int
    rss_bytes: int  # memory that is resident now
    config: str = ""  # path of the configuration file, if any


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service of an array, as configured."""

    name: str
    port: int | None  # None: dynamic, asked of the member's endpoint mapper
    group: str
    probe: str
    required: bool = True
    mapper: bool = False


@dataclass(frozen=True, slots=True)
class MemberService:
    """What the probes of one service on one member say."""

    name: str
    up: bool
    latency_ms: float | None = None  # of the last answer; None when there was none
    reason: str = ""  # why it is down, or that it was not looked at yet


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member in one group."""

    name: str
    state: Wish  # what the operator wants of it
    eligible: bool  # clients may be led to it now
    since_seconds: float  # how long `eligible` has been what it is
    weight: int
    share: float  # of the slots, 0 to 1: the part of new clients that it gets
    connections: int  # living now
    new_connections: int  # since the group's counters began
    bytes_carried: int = 0  # both directions, since the group's counters began
    reason: str = ""  # in words: why it is not eligible, or why its share is not what its weight says
    deadline_seconds: float | None = None  # draining: so long until those who are left are reset
    addresses: tuple[str, ...] = ()
    services: tuple[MemberService, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """An affinity group of an array."""

    name: str
    ports: tuple[int, ...]
    dynamic: bool  # it has dynamic ports as well
    pins: int
    members: tuple[MemberStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class FastPathStatus:
    """Whether packets of standing connections go past netfilter."""

    interfaces: tuple[str, ...] = ()  # between these they do
    packets: int = 0  # so many did, since the programs were put there
    reason: str = ""  # why they do not


@dataclass(frozen=True, slots=True)
class ArrayStatus:
    """One array."""

    name: str
    fqdn: str
    site: str
    addresses: tuple[str, ...]
    ready: bool  # it forwards, and every group has a member
    services: tuple[ServiceStatus, ...] = ()
    groups: tuple[GroupStatus, ...] = ()
    mapper: Mapping[str, int] = field(default_factory=dict)  # event -> how often; the events are in app/counters.py
    panic: bool = False  # every member of some group looks down, and the last known good ones are kept in use
    fast_path: FastPathStatus | None = None  # None: not in this mode, or not wanted


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """Where arrays and servers come from, when that is not the configuration file."""

    store: str
    reachable: bool
    reason: str = ""  # why it is not
    revision: str = ""  # what was read last
    age_seconds: float = 0.0  # since the store was last seen to hold just this


@dataclass(frozen=True, slots=True)
class RpcHttpStatus:
    """The RPC proxy of this gateway."""

    listen: str
    connections: int  # virtual ones: each is two HTTP connections and one to a member
    events: Mapping[str, int]  # since the start; they are in app/counters.py


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at one moment."""

    gateway: GatewayStatus
    arrays: tuple[ArrayStatus, ...] = ()
    warnings: tuple[str, ...] = ()
    directory: DirectoryStatus | None = None
    autodiscover: Mapping[str, int] = field(default_factory=dict)  # kind of answer -> how many, where it answers
    rpc_http: RpcHttpStatus | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A member that is not the client's, and why, or when it would be."""

    member: str
    reason: str


@dataclass(frozen=True, slots=True)
class GroupExplanation:
    """Where a client is led in one group."""

    group: str
    member: str | None  # None: refused
    reason: str  # one sentence
    pinned_seconds: int | None = None  # the pin lives so much longer; None: the client has no pin
    slot: int | None = None  # the slot the client falls into without a pin
    alternatives: tuple[Alternative, ...] = ()  # who comes next, in this order


@dataclass(frozen=True, slots=True)
class ArrayExplanation:
    """Where a client is led in one array."""

    array: str
    fqdn: str
    groups: tuple[GroupExplanation, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a client is led, and why."""

    client: str
    arrays: tuple[ArrayExplanation, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerChange:
    """What became of the operator's wish for a server."""

    server: str
    before: Wish
    state: Wish
    deadline_seconds: float | None = None
    connections: int = 0  # still living on it, in all groups
    warnings: tuple[str, ...] = ()  # for example: this was the last active member


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a new configuration changed."""

    changes: tuple[str, ...] = ()  # one sentence each; empty: nothing
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


class Operations(Protocol):
    """A running gateway. Names are the configuration's; times are seconds."""

    async def freshen(self) -> None:
        """Count anew what `status` tells of connections and pins, unless that was done just now. Raises nothing."""

    def status(self) -> Status:
        """Everything at this moment, from memory: takes well under a millisecond per member."""

    def explain(self, client: str, array: str | None = None) -> Explanation:
        """Where this client address is led, in one array or in all. `Conflict`: no address. `NotFound`: no array."""

    async def set_server(self, name: str, wish: Wish, deadline_seconds: float | None = None) -> ServerChange:
        """Take note of a wish and carry it out; the deadline is for draining alone. `NotFound`, `Conflict`."""

    async def reload(self) -> ReloadReport:
        """Read the configuration again and apply it. `ConfigError`: refused, the old one stays in force."""

    def readiness(self) -> tuple[bool, str]:
        """Whether every array forwards, and in words what is missing."""


class RemoteOperations(Protocol):
    """The same from outside the process, as the command line sees it; also `Unavailable` when nobody answers."""

    def status(self) -> Status:
        """See `Operations.status`."""

    def explain(self, client: str, array: str | None = None) -> Explanation:
        """See `Operations.explain`."""

    def set_server(self, name: str, wish: Wish, deadline_seconds: float | None = None) -> ServerChange:
        """See `Operations.set_server`."""

    def reload(self) -> ReloadReport:
        """See `Operations.reload`."""
