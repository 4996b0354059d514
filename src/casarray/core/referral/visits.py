"""Who still comes to a server that is gone: one line for each user, client address and old name.

When there are too many lines the one that was touched longest ago makes room: whoever still comes is still listed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

MOST_VISITS = 20_000


@dataclass(frozen=True, slots=True)
class Visit:
    """One user from one address under one old name. Times in seconds since the epoch."""

    user: str  # the account's name; empty: it never said
    client: str  # its address
    name: str  # the retired server's, or several joined by " or " where one address stands for them
    first: float
    last: float
    count: int = 1  # connections to the address book or the mailbox
    proven: str = ""  # how the user proved who that is: Kerberos; empty: it is what the client says

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it one line."""
        return (self.user.casefold(), self.client, self.name.casefold())


class Visits:
    """All lines, the one touched last at the end."""

    def __init__(self, kept: Iterable[Visit] = (), most: int = MOST_VISITS) -> None:
        self._most = most
        self._lines: dict[tuple[str, str, str], Visit] = {}
        self.dropped = 0  # lines that made room
        self.changed = False  # since somebody last looked, by setting it to False
        for visit in sorted(kept, key=lambda visit: visit.last):
            self._put(visit)

    def note(self, user: str, client: str, name: str, now: float, proven: str = "") -> bool:
        """Somebody came; whether that is somebody new."""
        fresh = Visit(user, client, name, now, now, proven=proven)
        known = self._lines.pop(fresh.key, None)
        if known is not None:
            fresh = replace(known, user=user, last=now, count=known.count + 1, proven=proven or known.proven)
        self._put(fresh)
        self.changed = True
        return known is None

    def lines(self) -> tuple[Visit, ...]:
        """All of them, who came last first."""
        return tuple(sorted(self._lines.values(), key=lambda visit: visit.last, reverse=True))

    def __len__(self) -> int:
        return len(self._lines)

    def _put(self, visit: Visit) -> None:
        self._lines[visit.key] = visit
        if len(self._lines) > self._most:
            del self._lines[next(iter(self._lines))]
            self.dropped += 1


@dataclass(frozen=True, slots=True)
class OldName:
    """What the report says of one old name."""

    name: str
    users: int
    clients: int
    connections: int
    last: float


def by_name(visits: Iterable[Visit]) -> tuple[OldName, ...]:
    """A summary for each old name, by name: who comes still, and when the last one came."""
    found: dict[str, list[Visit]] = {}
    for visit in visits:
        found.setdefault(visit.name, []).append(visit)
    return tuple(
        OldName(
            name,
            users=len({visit.user.casefold() for visit in lines if visit.user}),
            clients=len({visit.client for visit in lines}),
            connections=sum(visit.count for visit in lines),
            last=max(visit.last for visit in lines),
        )
        for name, lines in sorted(found.items())
    )
