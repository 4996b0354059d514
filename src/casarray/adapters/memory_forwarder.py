"""A forwarder that forwards in memory, with a clock that is turned by hand: everybody's fake, and the reference.

`connect` is what a client does; it steers as the kernel would. Nothing else happens by itself.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from casarray.app.ports import Traffic
from casarray.core.affinity.steering import Steering
from casarray.core.affinity.sticky import MOST
from casarray.core.errors import CasarrayError
from casarray.core.forwarding.diff import Change
from casarray.core.forwarding.table import Address, OpenRange, Pinhole, Table


@dataclass(frozen=True, slots=True)
class Connection:
    """A living connection."""

    client: Address
    port: int
    group: str
    member_id: int


class MemoryForwarder:
    """Fulfils `app.ports.Forwarder`. Tests may read and set every public attribute."""

    def __init__(self, *, most_pins: int = MOST, most_holes: int = MOST) -> None:
        self.now = 0.0  # seconds
        self.steering = Steering(most_pins, most_holes)
        self.living: list[Connection] = []
        self.lost: list[Connection] = []  # reset, in the order it happened
        self.applied: list[Change] = []
        self.fails: CasarrayError | None = None  # what every method raises, to play the forwarder that cannot
        self.closed: bool | None = None  # with keep or without
        self._new: Counter[tuple[str, int]] = Counter()
        self._bytes: Counter[tuple[str, int]] = Counter()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def connect(self, client: str | Address, port: int, bytes_: int = 0) -> str | None:
        """A client connects to the array and carries so many bytes: the name of its member, or None for refused."""
        client = ip_address(client) if isinstance(client, str) else client
        steered = self.steering.steer(client, port, self.now)
        if steered is None:
            return None
        connection = Connection(client, port, steered.group, steered.member.id)
        self.living.append(connection)
        self._new[connection.group, connection.member_id] += 1
        self._bytes[connection.group, connection.member_id] += bytes_
        return steered.member.name

    def disconnect(self, client: str | Address, port: int) -> None:
        """The client ends all its connections to this port."""
        client = ip_address(client) if isinstance(client, str) else client
        self.living = [c for c in self.living if (c.client, c.port) != (client, port)]

    def _able(self) -> None:
        if self.fails is not None:
            raise self.fails

    async def observe(self) -> Table | None:
        """See the port."""
        self._able()
        return self.steering.table

    async def apply(self, changes: Sequence[Change]) -> None:
        """See the port."""
        self._able()
        for change in changes:
            self.steering.apply(change)
            self.applied.append(change)

    def pinned(self, group: str, client: Address) -> int | None:
        """See the port."""
        self._able()
        return self.steering.pinned(group, client, self.now)

    def pin_seconds_left(self, group: str, client: Address) -> int | None:
        """See the port."""
        self._able()
        return self.steering.pin_seconds_left(group, client, self.now)

    def pin(self, group: str, client: Address, member_id: int) -> None:
        """See the port."""
        self._able()
        self.steering.pin(group, client, member_id, self.now)

    def unpin(self, group: str, client: Address) -> None:
        """See the port."""
        self._able()
        self.steering.unpin(group, client)

    def open_pinholes(self, holes: Sequence[Pinhole | OpenRange]) -> None:
        """See the port."""
        self._able()
        self.steering.open_pinholes(holes, self.now)

    async def reset(self, group: str, member_id: int) -> int:
        """See the port."""
        self._able()
        ended = [c for c in self.living if (c.group, c.member_id) == (group, member_id)]
        self.living = [c for c in self.living if (c.group, c.member_id) != (group, member_id)]
        self.lost += ended
        return len(ended)

    async def refresh_pins(self, before_seconds: int) -> int:
        """See the port."""
        self._able()
        clients = {(c.group, c.client, c.member_id) for c in self.living}
        return sum(self.steering.renew(g, client, m, before_seconds, self.now) for g, client, m in clients)

    async def connections(self) -> Mapping[tuple[str, int], int]:
        """See the port."""
        self._able()
        return Counter((c.group, c.member_id) for c in self.living)

    async def traffic(self) -> Mapping[tuple[str, int], Traffic]:
        """See the port."""
        self._able()
        return {key: Traffic(new, self._bytes[key]) for key, new in self._new.items()}

    async def pins(self) -> Mapping[str, int]:
        """See the port."""
        self._able()
        return self.steering.pins(self.now)

    async def close(self, *, keep: bool) -> None:
        """See the port."""
        self.closed = keep
