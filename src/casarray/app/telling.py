"""What is told of an array: its status, why a client is where it is, what a new configuration changes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache

from casarray.app.arrays import ArrayService
from casarray.app.operations import (
    Alternative,
    ArrayExplanation,
    ArrayStatus,
    GroupExplanation,
    GroupStatus,
    MemberService,
    MemberStatus,
    ServiceStatus,
)
from casarray.app.ports import Traffic
from casarray.core.affinity.choose import Reason, choose, of_family
from casarray.core.affinity.jhash import slot_of
from casarray.core.config import Array, Config, ProbeKind, Server, Wish
from casarray.core.forwarding.table import Address, Group
from casarray.core.forwarding.wanted import group_services
from casarray.core.health.verdict import HealthState


def array_status(array: ArrayService, wall: float) -> ArrayStatus:
    """The whole array; ``wall`` is the time of day, for deadlines."""
    config = array.array
    groups = tuple(_group_status(array, name, wall) for name in group_services(config))
    return ArrayStatus(
        name=config.name,
        fqdn=config.fqdn,
        site=config.site,
        addresses=tuple(str(a) for a in config.addresses),
        ready=array.ready and not array.gatekeeper.fault,
        services=tuple(
            ServiceStatus(s.name, s.port, s.group, s.probe.value, s.required, s.mapper) for s in config.services
        ),
        groups=groups,
        mapper=array.mapper.counters() if array.mapper else {},
        panic=any(n.panic for n in array.gatekeeper.nodes.values()),
        fast_path=array.fast_path() if array.fast_path else None,
    )


def _group_status(array: ArrayService, name: str, wall: float) -> GroupStatus:
    group = array.group(name)
    shares = slot_shares(group.slots) if group else {}
    members = tuple(_member_status(array, name, server.name, shares=shares, wall=wall) for server in array.plan.servers)
    return GroupStatus(
        name=name,
        ports=group.ports if group else (),
        dynamic=bool(group and group.dynamic),
        pins=array.sample.pins.get(name, 0),
        members=members,
    )


def _member_status(
    array: ArrayService, group_name: str, server_name: str, *, shares: Mapping[int, float], wall: float
) -> MemberStatus:
    group = array.group(group_name)
    member_id = array.plan.member_ids[server_name]
    server = array.plan.members[member_id]
    wish = array.gatekeeper.effective_wish(server_name)
    traffic = array.sample.traffic.get((group_name, member_id), Traffic(0, 0))
    seen = array.health.seen()
    services = []
    for service in group_services(array.array)[group_name]:
        health = seen.get((server_name, service.name))
        up = service.probe is ProbeKind.NONE or (health is not None and health.state is HealthState.UP)
        reason = health.reason if health else "is not probed"
        services.append(MemberService(service.name, up, health.latency_ms if health else None, reason))
    eligible = group is not None and member_id in group.nodes
    return MemberStatus(
        name=server_name,
        state=wish.wish,
        eligible=eligible,
        since_seconds=array.since(member_id, group_name),
        weight=server.weight,
        share=shares.get(member_id, 0.0),
        connections=array.sample.connections.get((group_name, member_id), 0),
        new_connections=traffic.new_connections,
        bytes_carried=traffic.bytes_,
        reason=_why(array, group_name, member_id, wish.wish, eligible=eligible),
        deadline_seconds=None if wish.deadline is None else max(0.0, wish.deadline - wall),
        addresses=tuple(str(a) for a in server.addresses),
        services=tuple(services),
    )


def _why(array: ArrayService, group: str, member_id: int, wish: Wish, *, eligible: bool) -> str:
    verdict = array.gatekeeper.verdict(member_id, group)
    nodes = array.gatekeeper.nodes.get(group)
    if wish is Wish.OUT:
        return "taken out by the operator"
    if not verdict.healthy:
        return (
            f"looks down, kept in use since all do: {verdict.reason}"
            if eligible and nodes and nodes.panic
            else verdict.reason
        )
    if wish is Wish.DRAIN:
        return "draining: keeps its clients, gets no new ones"
    share = nodes.shares.get(member_id) if nodes else None
    if wish is Wish.STANDBY:
        return "standby: gets clients only while no active member is left" if share is None else "standby, in use"
    if share is not None and share < 1:
        return f"came up recently: gets {share:.0%} of its share of new clients"
    return ""


@lru_cache(maxsize=64)
def slot_shares(slots: tuple[int, ...]) -> Mapping[int, float]:
    """The part of the slots that each member has, by member id."""
    return {member: count / len(slots) for member, count in Counter(slots).items() if member}


SENTENCES: Mapping[Reason, str] = {
    Reason.PINNED: "has been led there before",
    Reason.FIRST_CHOICE: "no pin yet: first choice of its slot",
    Reason.SECOND_CHOICE: "no pin yet: second choice of its slot, since the first may not be used",
    Reason.NOBODY: "refused: no member may be used",
}


def explain_array(array: ArrayService, client: Address) -> ArrayExplanation:
    """Where the client is led in each group."""
    table = array.gatekeeper.table
    groups = (
        tuple(_explain_group(array, of_family(table, g, client.version), client) for g in table.groups) if table else ()
    )
    return ArrayExplanation(array.array.name, array.array.fqdn, groups)


def _explain_group(array: ArrayService, group: Group, client: Address) -> GroupExplanation:
    names = {i: s.name for i, s in array.plan.members.items()}
    pinned = array.forwarder.pinned(group.name, client)
    choice = choose(group, array.plan.seed, client, pinned)
    slot = slot_of(client, array.plan.seed, len(group.slots), group.prefix4, group.prefix6)
    reason = SENTENCES[choice.reason]
    if choice.void_pin is not None:
        reason += f"; its pin to {names.get(choice.void_pin, 'a removed server')} is void, since that may not be used"
    others = []
    for member_id, word in ((group.slots[slot], "first"), (group.backup[slot], "second")):
        if member_id and member_id != choice.member_id:
            usable = "" if member_id in group.nodes else ", but may not be used now"
            others.append(Alternative(names.get(member_id, str(member_id)), f"{word} choice of its slot{usable}"))
    return GroupExplanation(
        group=group.name,
        member=names.get(choice.member_id) if choice.member_id else None,
        reason=reason,
        pinned_seconds=array.forwarder.pin_seconds_left(group.name, client),
        slot=slot,
        alternatives=tuple(others),
    )


def plan_changes(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """What a new configuration changes, a sentence each, and what of it counts only from the next start on."""
    said = [
        *_differences("array", {a.name: a for a in old.arrays}, {a.name: a for a in new.arrays}),
        *_differences("server", {s.name: s for s in old.servers}, {s.name: s for s in new.servers}),
    ]
    live = [k for k in ("return_path", "source_addresses") if getattr(old.gateway, k) != getattr(new.gateway, k)]
    if live:
        said.append(f"gateway changed: {', '.join(live)}")
    keys = ("name", "mode", "interface", "state", "control", "metrics")
    late = [k for k in keys if getattr(old.gateway, k) != getattr(new.gateway, k)]
    warnings = [f"gateway.{key} counts only from the next start on" for key in late]
    if old.directory != new.directory:
        warnings.append("[directory] counts only from the next start on")
    if old.api.listen != new.api.listen:
        warnings.append("api.listen counts only from the next start on")
    return said, warnings


def _differences(kind: str, old: Mapping[str, Array | Server], new: Mapping[str, Array | Server]) -> Iterable[str]:
    yield from (f"{kind} {name} added" for name in new if name not in old)
    yield from (f"{kind} {name} removed" for name in old if name not in new)
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            keys = [f.name for f in fields(old[name]) if getattr(old[name], f.name) != getattr(new[name], f.name)]
            yield f"{kind} {name} changed: {', '.join(keys)}"
