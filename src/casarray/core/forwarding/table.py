"""The wanted forwarding table of one array, as values.

The kernel forwarder, the userspace forwarder and the in-memory one all carry exactly this. Pins and pinholes are not
part of it: they are made while connections arrive, live in the forwarder until they expire, and are never rebuilt.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

#: The bits of the connection mark that are ours; all others belong to somebody else and are left as they are.
MARK_MASK = 0xFFFF0000
MAX_MEMBER_ID = 4095
MAX_GROUP_ID = 15


def connection_mark(group_id: int, member_id: int) -> int:
    """The mark that connections of ``member_id`` in group ``group_id`` carry, within :data:`MARK_MASK`."""
    return group_id << 28 | member_id << 16


@dataclass(frozen=True, slots=True)
class Member:
    """One server behind the array. ``id`` (1 to 4095) never changes: pins and connection marks hold it."""

    id: int
    name: str
    addresses: tuple[Address, ...]  # at most one of each family

    def address(self, version: int) -> Address | None:
        """Its address of IP version 4 or 6."""
        return next((a for a in self.addresses if a.version == version), None)


@dataclass(frozen=True, slots=True)
class Group:
    """An affinity group: services that land on one and the same member for one client and fail over as one."""

    id: int  # 1 to 15, never changes
    name: str
    ports: tuple[int, ...]  # static TCP ports, forwarded without asking anybody; ascending
    nodes: frozenset[int]  # members that may be used; a pin to any other is void
    slots: tuple[int, ...]  # slot -> member of a client that has no pin; 0 = nobody
    backup: tuple[int, ...]  # slot -> who it is when the first one is not in nodes; as long as slots
    affinity_seconds: int
    prefix4: int = 32  # bits of a client's address that make it "the same client"
    prefix6: int = 128
    dynamic: bool = False  # dynamic ports are opened by pinholes (an endpoint mapper belongs to the group)


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that one array wants of its forwarder."""

    array: str
    addresses: tuple[Address, ...]
    seed: int  # 32 bits; belongs to the array, the same on every gateway
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    mapper_port: int | None = 135  # answered on the array's addresses by Python, and by nothing else there
    masquerade: bool = False
    source_addresses: tuple[Address, ...] = ()  # masquerade: the pool; empty = the gateway's own address

    def group(self, name: str) -> Group | None:
        """The group of that name."""
        return next((g for g in self.groups if g.name == name), None)

    def member(self, member_id: int) -> Member | None:
        """The member with that id."""
        return next((m for m in self.members if m.id == member_id), None)


@dataclass(frozen=True, slots=True)
class Pinhole:
    """This client may reach this dynamic port on this member, for so long."""

    group: str
    client: Address
    port: int
    member_id: int
    seconds: int


@dataclass(frozen=True, slots=True)
class OpenRange:
    """This client may reach all these ports on this member: what it was told could not be read."""

    group: str
    client: Address
    member_id: int
    first: int
    last: int
    seconds: int
