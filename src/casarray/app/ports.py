"""What the use cases need of the world. Each is fulfilled by an adapter, and by a memory one for tests."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from casarray.core.config import Array, Wish
from casarray.core.forwarding.diff import Change
from casarray.core.forwarding.table import Address, OpenRange, Pinhole, Table
from casarray.core.health.conversation import Answer
from casarray.core.health.probes import Target


class Clock(Protocol):
    """The two times there are."""

    def monotonic(self) -> float:
        """Seconds that only ever grow, from an arbitrary start."""

    def wall(self) -> float:
        """Seconds since the epoch, as the host believes."""


@dataclass(frozen=True, slots=True)
class ServerWish:
    """What the operator said of one server."""

    wish: Wish
    deadline: float | None = None  # seconds since the epoch: a drain that is not over by then ends in OUT


class State(Protocol):
    """What must survive a restart of the gateway. Writes have reached the disk when they return."""

    def ids(self, kind: str) -> Mapping[str, int]:
        """The numbers given to names so far; ``kind`` is ``member`` or ``group``."""

    def keep_ids(self, kind: str, ids: Mapping[str, int]) -> None:
        """Remember these numbers too; a name never gets another one."""

    def wishes(self) -> Mapping[str, ServerWish]:
        """What the operator said, by server."""

    def keep_wish(self, server: str, wish: ServerWish) -> None:
        """Remember what the operator said."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counted since the forwarder's table was made."""

    new_connections: int
    bytes_: int


class Forwarder(Protocol):
    """Carries the connections of one array.

    The methods that are not coroutines are on the path of a client that waits, take well under a millisecond, and have
    taken effect when they return. Every method raises `Unavailable` when the forwarder cannot be reached and `Denied`
    when a right is missing.
    """

    async def observe(self) -> Table | None:
        """What is in force now (whoever put it there), or nothing. Never reads the pins."""

    async def apply(self, changes: Sequence[Change]) -> None:
        """Perform the changes in their order. Pins, pinholes and connections stay as they are."""

    def pinned(self, group: str, client: Address) -> int | None:
        """The member this client is pinned to, whether that member may be used or not."""

    def pin_seconds_left(self, group: str, client: Address) -> int | None:
        """How long that pin still lives."""

    def pin(self, group: str, client: Address, member_id: int) -> None:
        """Pin the client (or renew its pin)."""

    def unpin(self, group: str, client: Address) -> None:
        """Forget the client's pin; none there is no error."""

    def open_pinholes(self, holes: Sequence[Pinhole | OpenRange]) -> None:
        """Let these clients through to these ports; all of them or none."""

    async def reset(self, group: str, member_id: int) -> int:
        """End the connections of this member in this group and tell their clients, idle ones too. How many."""

    async def refresh_pins(self, before_seconds: int) -> int:
        """Renew the pins of clients that have a living connection and whose pin runs out within so long. How many."""

    async def connections(self) -> Mapping[tuple[str, int], int]:
        """Living connections by group and member id."""

    async def traffic(self) -> Mapping[tuple[str, int], Traffic]:
        """What was carried, by group and member id."""

    async def pins(self) -> Mapping[str, int]:
        """How many pins each group holds."""

    async def close(self, *, keep: bool) -> None:
        """Stop. With ``keep`` whatever can go on without us goes on."""


class Tripwire(Protocol):
    """An idle connection to a service, held for the sake of noticing when it breaks."""

    def cut(self) -> None:
        """Let go of it, unnoticed. Twice is once."""


class Prober(Protocol):
    """Performs the conversations that tell whether services live."""

    async def probe(
        self, target: Target, seconds: float, trip: Callable[[], None] | None = None
    ) -> tuple[Answer, Tripwire | None]:
        """Probe once, in so many seconds in all; raises nothing, and leaves no connection behind when cancelled.

        With ``trip``, a good answer may come with a tripwire: ``trip`` is called once when it breaks, however.
        """

    def close(self) -> None:
        """Let go of what is open."""


class Addresses(Protocol):
    """The addresses of one array, on this host."""

    def hold(self, addresses: Iterable[Address]) -> None:
        """Hold these too against every other gateway on this host: all or none. `Conflict` when another has one."""

    async def bring(self, addresses: Iterable[Address]) -> None:
        """Have packets for these come here, too: all or none. `NotFound`, `Unavailable`, `Denied` say what to do."""

    async def keep_only(self, addresses: Iterable[Address]) -> None:
        """Give up all others. Raises nothing."""

    async def close(self, *, keep: bool) -> None:
        """Hold none any more; with ``keep``, packets still come here."""


class Mapper(Protocol):
    """Answers the endpoint mapper's port on the array's addresses."""

    async def start(self) -> None:
        """Listen. `Conflict` when somebody else does, `Denied` when a right is missing."""

    def replan(self, array: Array) -> None:
        """Limits, addresses and static ports are these from now on; relays under way go on."""

    def end_member(self, member_id: int) -> None:
        """Reset every relay to this member at once, idle ones too."""

    def counters(self) -> Mapping[str, int]:
        """Event -> how often, since the start."""

    async def close(self) -> None:
        """Listen no more and end what is under way."""
