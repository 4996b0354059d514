"""Directory + health + the operator's wishes -> the table that one array wants.

Done in two steps, since they differ a thousandfold in cost: `nodes` says at once who may be used (and so who must
leave, which cannot wait), `wanted_table` fills the slots of those who take new clients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from casarray.core.affinity.ring import Slots, fill
from casarray.core.config import Array, Gateway, Panic, ReturnPath, Server, Service, Wish
from casarray.core.forwarding.table import Group, Member, Table


@dataclass(frozen=True, slots=True)
class Condition:
    """How a member stands in one affinity group."""

    healthy: bool
    wish: Wish = Wish.ACTIVE
    share: float = 1.0  # slow start: the part of its weight that it gets, 0 to 1


@dataclass(frozen=True, slots=True)
class Nodes:
    """Who may be used in one group, and with what share of new clients."""

    usable: frozenset[int]
    shares: Mapping[int, float]  # member id -> share; those who take no new clients are missing
    panic: bool = False  # nobody is healthy; these are the last known good ones

    def __hash__(self) -> int:
        return hash((self.usable, tuple(sorted(self.shares.items())), self.panic))


def nodes(conditions: Mapping[int, Condition], last_good: frozenset[int], panic: Panic) -> Nodes:
    """Who may be used now. ``conditions`` by member id; ``last_good`` is what this said before."""
    allowed = {i: c for i, c in conditions.items() if c.wish is not Wish.OUT}
    healthy = {i: c for i, c in allowed.items() if c.healthy}
    if not healthy and panic is Panic.KEEP and (kept := last_good & allowed.keys()):
        return Nodes(frozenset(kept), {i: 1.0 for i in kept if allowed[i].wish is not Wish.DRAIN}, panic=True)
    takes_new = {i for i, c in healthy.items() if c.wish is Wish.ACTIVE}
    # Standby servers take new clients only while no active one is left; afterwards those they have may stay, as in a
    # drain: sending them back would disturb them for nothing.
    takes_new = takes_new or {i for i, c in healthy.items() if c.wish is Wish.STANDBY}
    return Nodes(frozenset(healthy), {i: healthy[i].share for i in takes_new})


def group_services(array: Array) -> dict[str, list[Service]]:
    """The array's services by affinity group, in the order of the configuration."""
    groups: dict[str, list[Service]] = {}
    for service in array.services:
        groups.setdefault(service.group, []).append(service)
    return groups


def mapper_service(array: Array) -> Service | None:
    """The service that is the endpoint mapper, if the array has one."""
    return next((s for s in array.services if s.mapper), None)


def wanted_table(
    array: Array,
    gateway: Gateway,
    servers: Sequence[Server],
    *,
    member_ids: Mapping[str, int],
    group_ids: Mapping[str, int],
    nodes_by_group: Mapping[str, Nodes],
    seed: int,
) -> Table:
    """The whole table. ``servers`` are the array's members; ``nodes_by_group`` has an entry for every group."""
    mapper = mapper_service(array)
    weights = {member_ids[s.name]: float(s.weight) for s in servers}
    groups = []
    filled: dict[Nodes, Slots] = {}  # often all groups have the same nodes
    for name, services in group_services(array).items():
        who = nodes_by_group[name]
        if who not in filled:
            takes = {i: weights[i] * share for i, share in who.shares.items() if weights.get(i)}
            filled[who] = fill(seed, weights, takes, array.slots)
        slots = filled[who]
        ports = {s.port for s in services if s.port is not None and not s.mapper}
        groups.append(
            Group(
                id=group_ids[name],
                name=name,
                ports=tuple(sorted(ports)),
                nodes=who.usable,
                slots=slots.first,
                backup=slots.second,
                affinity_seconds=array.affinity_timeout,
                prefix4=array.affinity_prefix4,
                prefix6=array.affinity_prefix6,
                dynamic=mapper is not None and mapper.group == name,
            )
        )
    return Table(
        array=array.name,
        addresses=array.addresses,
        seed=seed,
        members=tuple(Member(member_ids[s.name], s.name, s.addresses) for s in servers),
        groups=tuple(groups),
        mapper_port=mapper.port if mapper else None,
        masquerade=gateway.return_path is ReturnPath.MASQUERADE,
        source_addresses=gateway.source_addresses,
    )
