"""Client -> member, until it expires: the pins of one affinity group, and the pinholes of one array.

What maps with time-outs are to the kernel, these are to the other forwarders: bounded, and when full they take in
nothing new while what they hold stays good. Time is an argument, in seconds of any clock that only goes on.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from casarray.core.errors import Unavailable
from casarray.core.forwarding.table import Address, OpenRange, Pinhole

MOST = 1 << 20  # as many as the kernel's maps hold


class Pins:
    """The pins of one group."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._pins: OrderedDict[Address, tuple[int, float]] = OrderedDict()  # in the order they were made or renewed

    def member(self, client: Address, now: float) -> int | None:
        """The member the client is pinned to."""
        pin = self._pins.get(client)
        return pin[0] if pin is not None and pin[1] > now else None

    def seconds_left(self, client: Address, now: float) -> int | None:
        """How long the pin lives on, in whole seconds."""
        pin = self._pins.get(client)
        return int(pin[1] - now) if pin is not None and pin[1] > now else None

    def set(self, client: Address, member: int, now: float, seconds: int) -> bool:
        """Pin or renew; whether there was room."""
        if client not in self._pins and len(self._pins) >= self._most:
            self.expire(now)
            if len(self._pins) >= self._most:
                return False
        self._pins[client] = (member, now + seconds)
        self._pins.move_to_end(client)
        return True

    def forget(self, client: Address) -> None:
        """No pin afterwards."""
        self._pins.pop(client, None)

    def expire(self, now: float) -> None:
        """Drop what has run out. The oldest stand first, so this looks at one more than it drops."""
        while self._pins and next(iter(self._pins.values()))[1] <= now:
            self._pins.popitem(last=False)

    def count(self, now: float) -> int:
        """How many pins there are."""
        self.expire(now)
        return len(self._pins)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client finds at a dynamic port."""

    group: str
    member_id: int
    until: float


class Holes:
    """The pinholes of one array."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._holes: dict[tuple[Address, int], Opening] = {}
        self._ranges: dict[Address, dict[tuple[int, int], Opening]] = {}

    def open(self, holes: Sequence[Pinhole | OpenRange], now: float) -> None:
        """Open all of them, or none: `Unavailable` when there is no room."""
        if len(self) + len(holes) > self._most:
            self.expire(now)
            if len(self) + len(holes) > self._most:
                raise Unavailable(f"{len(self)} pinholes are open, there is no room for {len(holes)} more")
        for hole in holes:
            opening = Opening(hole.group, hole.member_id, now + hole.seconds)
            if isinstance(hole, Pinhole):
                self._holes[hole.client, hole.port] = opening
            else:
                self._ranges.setdefault(hole.client, {})[hole.first, hole.last] = opening

    def find(self, client: Address, port: int, now: float) -> list[Opening]:
        """What is open for this client at this port, the pinhole before the ranges."""
        found = [hole] if (hole := self._holes.get((client, port))) else []
        found += (o for (first, last), o in self._ranges.get(client, {}).items() if first <= port <= last)
        return [opening for opening in found if opening.until > now]

    def keep(self, groups: Iterable[str]) -> None:
        """Close the pinholes of all groups but these."""
        kept = frozenset(groups)
        self._filter(lambda opening: opening.group in kept)

    def expire(self, now: float) -> None:
        """Drop what has run out."""
        self._filter(lambda opening: opening.until > now)

    def ports(self) -> set[int]:
        """Every port that is open for somebody."""
        found = {port for _, port in self._holes}
        for ranges in self._ranges.values():
            for first, last in ranges:
                found.update(range(first, last + 1))
        return found

    def __len__(self) -> int:
        """How many there are, a range counting as one; what has run out counts until it is dropped."""
        return len(self._holes) + sum(map(len, self._ranges.values()))

    def _filter(self, good: Callable[[Opening], bool]) -> None:
        self._holes = {at: opening for at, opening in self._holes.items() if good(opening)}
        for client, ranges in list(self._ranges.items()):
            self._ranges[client] = {at: opening for at, opening in ranges.items() if good(opening)}
            if not self._ranges[client]:
                del self._ranges[client]
