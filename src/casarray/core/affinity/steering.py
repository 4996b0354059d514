"""The whole forwarding table with its pins and pinholes, doing what the kernel's rules do, without socket or clock.

The in-memory forwarder is this and a clock that tests turn; the userspace forwarder is this and sockets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from casarray.core.affinity.choose import choose, of_family
from casarray.core.affinity.jhash import same_client
from casarray.core.affinity.sticky import MOST, Holes, Pins
from casarray.core.errors import NotFound
from casarray.core.forwarding.diff import Change, Remove, Structure, after
from casarray.core.forwarding.table import Address, Group, Member, OpenRange, Pinhole, Table


@dataclass(frozen=True, slots=True)
class Steered:
    """Where a connection goes."""

    group: str
    member: Member
    address: Address  # the member's, of the client's family


class Steering:
    """One array's table. ``now`` is everywhere in seconds of the caller's clock."""

    def __init__(self, most_pins: int = MOST, most_holes: int = MOST) -> None:
        """``most_pins`` by group, ``most_holes`` in all."""
        self.table: Table | None = None
        self._most_pins = most_pins
        self._pins: dict[str, Pins] = {}
        self._holes = Holes(most_holes)
        self._groups: dict[tuple[str, int], Group] = {}  # by name and IP version
        self._static: dict[int, str] = {}

    def apply(self, change: Change) -> None:
        """One change; pins and pinholes of groups that remain stay as they are."""
        self.table = after(self.table, change)
        groups = self.table.groups if self.table else ()
        if isinstance(change, Structure | Remove):
            self._holes.keep(g.name for g in groups if g.dynamic)
        self._pins = {g.name: self._pins.get(g.name) or Pins(self._most_pins) for g in groups}
        self._groups = {(g.name, v): of_family(self.table, g, v) for g in groups for v in (4, 6) if self.table}
        self._static = {port: g.name for g in groups for port in g.ports}

    def steer(self, client: Address, port: int, now: float) -> Steered | None:
        """Where a new connection of this client to this port goes, and its pin made or renewed; None = refused."""
        if self.table is None or port == self.table.mapper_port:
            return None
        if (name := self._static.get(port)) is not None:
            group = self._groups[name, client.version]
            pinned = self._pins[name].member(self._key(group, client), now)
            return self._sent(group, client, choose(group, self.table.seed, client, pinned).member_id, now)
        for opening in self._holes.find(client, port, now):
            group = self._groups[opening.group, client.version]
            pinned = self._pins[group.name].member(self._key(group, client), now)
            # Whoever was moved meanwhile asks the mapper again: a member that returns must not get back some of a
            # client's connections.
            if opening.member_id in group.nodes and pinned in (None, opening.member_id):
                return self._sent(group, client, opening.member_id, now)
        return None

    def _sent(self, group: Group, client: Address, member_id: int | None, now: float) -> Steered | None:
        member = self.table.member(member_id) if self.table and member_id is not None else None
        address = member.address(client.version) if member else None
        if member is None or address is None:
            return None
        # Full or not: the connection goes there.
        self._pins[group.name].set(self._key(group, client), member.id, now, group.affinity_seconds)
        return Steered(group.name, member, address)

    @staticmethod
    def _key(group: Group, client: Address) -> Address:
        return same_client(client, group.prefix4, group.prefix6)

    def _find(self, group: str, client: Address) -> tuple[Pins, Address, Group]:
        found = self._groups.get((group, client.version))
        if found is None:
            raise NotFound(f"there is no affinity group {group}")
        return self._pins[group], self._key(found, client), found

    def pinned(self, group: str, client: Address, now: float) -> int | None:
        """The member this client is pinned to, whether that member may be used or not."""
        pins, key, _ = self._find(group, client)
        return pins.member(key, now)

    def pin_seconds_left(self, group: str, client: Address, now: float) -> int | None:
        """How long that pin still lives."""
        pins, key, _ = self._find(group, client)
        return pins.seconds_left(key, now)

    def pin(self, group: str, client: Address, member_id: int, now: float) -> bool:
        """Pin the client, or renew its pin; whether there was room."""
        pins, key, found = self._find(group, client)
        return pins.set(key, member_id, now, found.affinity_seconds)

    def unpin(self, group: str, client: Address) -> None:
        """Forget the client's pin."""
        pins, key, _ = self._find(group, client)
        pins.forget(key)

    def renew(self, group: str, client: Address, member_id: int, before_seconds: int, now: float) -> bool:
        """Renew a pin to this member that runs out within so long; whether it did."""
        if (group, client.version) not in self._groups:
            return False
        left = self.pin_seconds_left(group, client, now)
        if left is None or left >= before_seconds or self.pinned(group, client, now) != member_id:
            return False
        return self.pin(group, client, member_id, now)

    def pins(self, now: float) -> dict[str, int]:
        """How many pins each group holds."""
        return {name: pins.count(now) for name, pins in self._pins.items()}

    def open_pinholes(self, holes: Sequence[Pinhole | OpenRange], now: float) -> None:
        """Open all of them, or none: `NotFound` for a group without dynamic ports, `Unavailable` without room."""
        for hole in holes:
            group = self._groups.get((hole.group, hole.client.version))
            if group is None or not group.dynamic:
                raise NotFound(f"there is no affinity group {hole.group} with dynamic ports")
        self._holes.open(holes, now)

    def open_ports(self, now: float) -> set[int]:
        """Every dynamic port that is open for somebody."""
        self._holes.expire(now)
        return self._holes.ports()
