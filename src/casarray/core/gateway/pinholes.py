"""Which client may reach which dynamic port on which member, until when: what has been asked of the forwarder.

A client asks the mapper before nearly every connection, and nearly always gets an answer that it has had. So the
book remembers what is open for long enough, and only the rest needs a call to the kernel. It forgets without harm:
a hole that is not in the book is asked for once more.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from casarray.core.forwarding.table import Address, OpenRange, Pinhole

#: Stands for the whole dynamic range where a port would be.
_RANGE = 0


@dataclass(frozen=True, slots=True)
class _Open:
    member_id: int
    until: float  # the caller's clock


class PinholeBook:
    """The pinholes of one affinity group. ``now`` is the caller's, in seconds, and never goes back."""

    def __init__(
        self, group: str, seconds: int, dynamic: tuple[int, int] = (1024, 65535), capacity: int = 1 << 16
    ) -> None:
        """A hole stays open for ``seconds`` and is renewed when asked for in the second half of them."""
        self._group = group
        self._seconds = seconds
        self._dynamic = dynamic
        self._capacity = capacity
        # In the order of their expiry, since each one lives equally long and a renewed one moves to the end.
        self._open: OrderedDict[tuple[Address, int], _Open] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered, expired ones included until the next call."""
        return len(self._open)

    def wanted(self, client: Address, member_id: int, ports: Iterable[int], now: float) -> list[Pinhole]:
        """Those of these ports that are not open long enough, as what to ask of the forwarder."""
        return [
            Pinhole(self._group, client, port, member_id, self._seconds)
            for port in ports
            if not self._lasts(client, port, member_id, now)
        ]

    def wanted_range(self, client: Address, member_id: int, now: float) -> list[OpenRange]:
        """The whole dynamic range, unless it is open long enough."""
        if self._lasts(client, _RANGE, member_id, now):
            return []
        return [OpenRange(self._group, client, member_id, *self._dynamic, self._seconds)]

    def opened(self, holes: Iterable[Pinhole | OpenRange], now: float) -> None:
        """The forwarder has opened them. Not called when it could not, so that the next client asks again."""
        for hole in holes:
            key = hole.client, hole.port if isinstance(hole, Pinhole) else _RANGE
            self._open.pop(key, None)
            self._open[key] = _Open(hole.member_id, now + self._seconds)
        self._expire(now)

    def due(self, now: float) -> list[Pinhole]:
        """Those that run out within a quarter of their life: renew the ones that still have connections."""
        soon = now + self._seconds / 4
        found = []
        for (client, port), hole in self._open.items():
            if hole.until > soon:
                break
            if port != _RANGE and hole.until > now:
                found.append(Pinhole(self._group, client, port, hole.member_id, self._seconds))
        return found

    def forget(self, member_id: int | None = None) -> None:
        """Forget those of a member, or all: the forwarder has lost them, or nobody can be sure that it has not."""
        if member_id is None:
            self._open.clear()
        else:
            kept = ((key, hole) for key, hole in self._open.items() if hole.member_id != member_id)
            self._open = OrderedDict(kept)

    def _lasts(self, client: Address, port: int, member_id: int, now: float) -> bool:
        hole = self._open.get((client, port))
        return hole is not None and hole.member_id == member_id and hole.until - now >= self._seconds / 2

    def _expire(self, now: float) -> None:
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.until > now and len(self._open) <= self._capacity:
                return
            self._open.popitem(last=False)
