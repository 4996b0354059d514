"""The kernel forwarder before real TCP connections, in namespaces."""

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.core.affinity.choose import choose
from casarray.core.errors import Conflict, NotFound, Unavailable
from casarray.core.forwarding.diff import Admit, Expel, FillSlots, Structure, diff
from casarray.core.forwarding.nft import described
from casarray.core.forwarding.table import Group, Member, OpenRange, Pinhole, Table

if TYPE_CHECKING:
    from tests.contract.conftest import Site

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

SLOTS = 251
NAMES = {1: "cas1", 2: "cas2", 3: "cas3"}


def group(id_: int, name: str, ports: tuple[int, ...], **more: Any) -> Group:
    fields: dict[str, object] = {
        "nodes": frozenset(NAMES),
        "slots": tuple(1 + n % 3 for n in range(SLOTS)),
        "backup": tuple(1 + (n + 1 + n // 3 % 2) % 3 for n in range(SLOTS)),
        "affinity_seconds": 3600,
    }
    return Group(id=id_, name=name, ports=ports, **(fields | more))  # type: ignore[arg-type]  # tests override any field


def table(site: "Site", *groups: Group, **more: Any) -> Table:
    plan = site.plan
    members = tuple(
        Member(n + 1, f"cas{n + 1}", (ip_address(plan.server(n)), ip_address(plan.server6(n)))) for n in range(3)
    )
    wanted = Table(
        array="CAS",
        addresses=(ip_address(plan.vip), ip_address(plan.vip6)),
        seed=0x1234,
        members=members,
        groups=groups or (group(1, "rpc", (5000, 5001), dynamic=True), group(2, "web", (443,))),
    )
    return replace(wanted, **more)


def first_group(wanted: Table, **more: Any) -> Table:
    """The table with its first group changed."""
    return replace(wanted, groups=(replace(wanted.groups[0], **more), *wanted.groups[1:]))


async def put(forwarder: KernelForwarder, wanted: Table) -> None:
    await forwarder.apply(diff(wanted, await forwarder.observe()))
    assert await forwarder.observe() == wanted


@pytest.fixture
async def forwarder(site: "Site") -> AsyncIterator[KernelForwarder]:  # noqa: ARG001  # it must be made in the gateway
    made = KernelForwarder("CAS")
    yield made
    await made.close(keep=True)


def crowd(site: "Site", number: int) -> list[str]:
    return [site.plan.client(n) for n in range(number)]


async def test_an_empty_kernel_has_no_table(forwarder: KernelForwarder) -> None:
    assert await forwarder.observe() is None
    with pytest.raises(Unavailable, match="no forwarding table of array CAS"):
        forwarder.pinned("rpc", ip_address("10.0.0.1"))


@pytest.mark.parametrize("version", [4, 6])
async def test_clients_go_where_the_slots_say_and_are_pinned_there(
    site: "Site", forwarder: KernelForwarder, version: int
) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    spread: Counter[str] = Counter()
    for number in range(60):
        client = site.plan.client(number) if version == 4 else site.plan.client6(number)
        choice = choose(wanted.groups[0], wanted.seed, ip_address(client), None)
        assert choice.member_id is not None
        assert site.ask(client, 5000) == NAMES[choice.member_id]
        assert forwarder.pinned("rpc", ip_address(client)) == choice.member_id
        assert forwarder.pinned("web", ip_address(client)) is None
        assert forwarder.pin_seconds_left("rpc", ip_address(client)) in range(3590, 3601)
        spread[NAMES[choice.member_id]] += 1
    assert len(spread) == 3
    assert await forwarder.pins() == {"rpc": 60, "web": 0}


async def test_a_pin_is_stronger_than_the_slots_on_every_port_of_the_group(
    site: "Site", forwarder: KernelForwarder
) -> None:
    await put(forwarder, table(site))
    for client in crowd(site, 12):
        home = site.ask(client, 443)
        other = next(m for m, name in NAMES.items() if name != home)
        forwarder.pin("rpc", ip_address(client), other)
        assert [site.ask(client, port) for port in (5000, 5001, 5000)] == [NAMES[other]] * 3
        assert site.ask(client, 443) == home
        forwarder.unpin("rpc", ip_address(client))
        assert site.ask(client, 5000) == home


async def test_a_new_connection_renews_the_pin(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, first_group(wanted, affinity_seconds=100))
    client = site.plan.client(1)
    member = site.ask(client, 5000)
    assert forwarder.pin_seconds_left("rpc", ip_address(client)) in range(95, 101)
    await put(forwarder, first_group(wanted, affinity_seconds=1000))
    assert forwarder.pin_seconds_left("rpc", ip_address(client)) in range(95, 101)
    assert site.ask(client, 5000) == member
    assert forwarder.pin_seconds_left("rpc", ip_address(client)) in range(995, 1001)


async def test_a_member_that_is_expelled_loses_its_clients_and_nobody_else_moves(
    site: "Site", forwarder: KernelForwarder
) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    clients = crowd(site, 40)
    before = {c: site.ask(c, 5000) for c in clients}
    await forwarder.apply([Expel("rpc", 2)])
    after = {c: site.ask(c, 5000) for c in clients}
    for client in clients:
        if before[client] == "cas2":
            without = replace(wanted.groups[0], nodes=frozenset({1, 3}))
            second = choose(without, wanted.seed, ip_address(client), 2)
            assert after[client] == NAMES[second.member_id or 0]
        else:
            assert after[client] == before[client]
    assert {site.ask(c, 443) for c in clients} == set(NAMES.values())
    await forwarder.apply([Admit("rpc", 2)])
    assert {c: site.ask(c, 5000) for c in clients} == after
    assert await forwarder.observe() == wanted


async def test_a_draining_member_keeps_its_clients_and_gets_no_new_ones(
    site: "Site", forwarder: KernelForwarder
) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    old, new = crowd(site, 60)[:30], crowd(site, 60)[30:]
    before = {c: site.ask(c, 5000) for c in old}
    draining = first_group(wanted, slots=(1, 3) * 125 + (1,), backup=(3, 1) * 125 + (3,))
    await put(forwarder, draining)
    assert {c: site.ask(c, 5000) for c in old} == before
    assert {site.ask(c, 5000) for c in new} == {"cas1", "cas3"}


async def test_without_any_member_clients_are_refused_at_once(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, first_group(table(site), nodes=frozenset()))
    assert site.ask(site.plan.client(0), 5000) == "refused"
    assert site.ask(site.plan.client6(0), 5000) == "refused"
    assert site.ask(site.plan.client(0), 443) in NAMES.values()


async def test_a_slot_of_nobody_leads_nowhere_even_where_its_number_is_a_members(
    site: "Site", forwarder: KernelForwarder
) -> None:
    wanted = first_group(table(site), slots=(0,) * 3, backup=(0,) * 3)
    await put(forwarder, wanted)
    assert {site.ask(c, 5000) for c in crowd(site, 20)} == {"refused"}


@pytest.mark.parametrize("version", [4, 6])
async def test_a_pinhole_opens_one_port_of_one_member_for_one_client(
    site: "Site", forwarder: KernelForwarder, version: int
) -> None:
    await put(forwarder, table(site))
    client, other = (site.plan.client(n) if version == 4 else site.plan.client6(n) for n in (1, 2))
    assert site.ask(client, 50000) == "refused"
    forwarder.open_pinholes([Pinhole("rpc", ip_address(client), 50000, 1, 60)])
    assert site.ask(client, 50000) == "cas1"
    assert forwarder.pinned("rpc", ip_address(client)) == 1  # a pinhole makes a pin, and moves none
    for member, name in NAMES.items():
        forwarder.open_pinholes([Pinhole("rpc", ip_address(client), 50000, member, 60)])
        assert member == 1 or site.ask(client, 50000) == "refused"
        forwarder.pin("rpc", ip_address(client), member)
        assert site.ask(client, 50000) == name
    assert site.ask(client, 50001) == "refused"
    assert site.ask(other, 50000) == "refused"
    await forwarder.apply([Expel("rpc", 3)])
    assert site.ask(client, 50000) == "refused"


async def test_a_pinhole_closes_when_its_time_is_over(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, table(site))
    client = site.plan.client(1)
    forwarder.open_pinholes([Pinhole("rpc", ip_address(client), 50000, 1, 1)])
    session = site.session(client, 50000)
    await asyncio.sleep(1.1)
    assert site.ask(client, 50000) == "refused"
    assert session.echoes()


@pytest.mark.parametrize("version", [4, 6])
async def test_an_open_range_opens_its_ports_and_no_others(
    site: "Site", forwarder: KernelForwarder, version: int
) -> None:
    await put(forwarder, table(site))
    client, other = (site.plan.client(n) if version == 4 else site.plan.client6(n) for n in (1, 2))
    forwarder.open_pinholes([OpenRange("rpc", ip_address(client), 2, 50001, 60000, 60)])
    assert [site.ask(client, port) for port in (50000, 50001, 50002, 60000, 6000)] == [
        "refused", "cas2", "cas2", "cas2", "refused",
    ]  # fmt: skip
    assert site.ask(other, 50001) == "refused"
    forwarder.open_pinholes([OpenRange("rpc", ip_address(client), 3, 50001, 60000, 60)])
    assert site.ask(client, 50001) == "refused"
    forwarder.pin("rpc", ip_address(client), 3)
    assert site.ask(client, 50001) == "cas3"


async def test_an_open_range_replaces_one_it_overlaps(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, table(site))
    client = ip_address(site.plan.client(1))
    forwarder.open_pinholes([OpenRange("rpc", client, 2, 50001, 60000, 60)])
    forwarder.open_pinholes([OpenRange("rpc", client, 2, 40000, 50001, 60)])
    assert [site.ask(str(client), port) for port in (50000, 50001)] == ["cas2", "cas2"]


async def test_pinholes_come_all_or_none(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, table(site))
    client = ip_address(site.plan.client(1))
    with pytest.raises(NotFound, match="no dynamic ports"):
        forwarder.open_pinholes([Pinhole("rpc", client, 50000, 1, 60), Pinhole("web", client, 50001, 1, 60)])
    assert site.ask(str(client), 50000) == "refused"
    forwarder.open_pinholes([])


async def test_what_else_listens_on_the_host_is_not_reached_through_the_array(
    site: "Site", forwarder: KernelForwarder
) -> None:
    await put(forwarder, table(site))
    with site.serving("gateway", "host", (8080, 135)):
        assert site.ask(site.plan.client(0), 8080, to="10.11.0.1") == "host"
        assert site.ask(site.plan.client(0), 8080) == "refused"
        assert site.ask(site.plan.client6(0), 8080) == "refused"
        assert site.ask(site.plan.client(0), 135) == "host"
        assert site.ask(site.plan.client6(0), 135) == "host"
        await put(forwarder, table(site, mapper_port=None))
        assert site.ask(site.plan.client(0), 135) == "refused"
    done = site.lab["clients"].run("ping", "-c1", "-W1", site.plan.vip, check=False)
    assert done.returncode in {0, 127}  # 127: there is no ping here


@pytest.mark.parametrize("version", [4, 6])
async def test_the_gateways_own_connections_to_its_address_work(
    site: "Site", forwarder: KernelForwarder, version: int
) -> None:
    await put(forwarder, table(site))
    vip = site.plan.vip if version == 4 else site.plan.vip6
    member = site.ask("", 5000, to=vip, host="gateway")
    assert member in NAMES.values()
    assert [site.ask("", port, to=vip, host="gateway") for port in (5000, 5001)] == [member] * 2
    assert site.ask("", 6000, to=vip, host="gateway") == "refused"


async def test_a_member_is_a_client_like_any_other(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, table(site))
    for member, name in NAMES.items():  # itself among them
        forwarder.pin("rpc", ip_address(site.plan.server(0)), member)
        assert site.ask("", 5000, to=site.plan.vip, host="cas1") == name


async def test_routed_members_see_their_clients_addresses(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, table(site))
    for client in (site.plan.client(1), site.plan.client6(1)):
        assert site.session(client, 5000).seen_as == client


async def test_masquerading_shows_the_gateways_address(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, table(site, masquerade=True))
    assert site.session(site.plan.client(1), 5000).seen_as == "10.12.0.1"
    assert site.session(site.plan.client6(1), 5000).seen_as == "fd12::1"


async def test_masquerading_from_a_pool_gives_each_client_one_address(site: "Site", forwarder: KernelForwarder) -> None:
    pool = [f"10.12.0.{n}" for n in (201, 202, 203)]
    gateway = site.lab["gateway"]
    gateway.ip(*(f"addr add {a}/32 dev eth1" for a in pool))
    try:
        wanted = table(site, masquerade=True, source_addresses=tuple(map(ip_address, pool)))
        await put(forwarder, wanted)
        seen = {}
        for client in crowd(site, 20):
            addresses = {site.session(client, port).seen_as for port in (5000, 5001, 443, 5000)}
            assert len(addresses) == 1
            seen[client] = addresses.pop()
        assert set(seen.values()) == set(pool)
        # The gateway's own are answered, too.
        assert site.session("", 5000, to=site.plan.vip, host="gateway").seen_as == "10.12.0.1"
        await put(forwarder, replace(wanted, source_addresses=(ip_address(pool[0]),)))
        assert {site.session(c, 5000).seen_as for c in crowd(site, 5)} == {pool[0]}
    finally:
        gateway.ip(*(f"addr del {a}/32 dev eth1" for a in pool))


async def test_clients_of_one_prefix_are_one_client(site: "Site", forwarder: KernelForwarder) -> None:
    await put(forwarder, first_group(table(site), prefix4=24, prefix6=64))
    four = [f"10.32.7.{n}" for n in (1, 77, 200)]
    six = [f"fd32::{n}" for n in ("1", "2:1", "ffff:1:2:3")]
    for clients in (four, six):
        assert len({site.ask(client, 5000) for client in clients}) == 1
        member = forwarder.pinned("rpc", ip_address(clients[2]))
        other = member % 3 + 1 if member else 0
        forwarder.pin("rpc", ip_address(clients[0]), other)
        assert {site.ask(client, 5001) for client in clients} == {NAMES[other]}
    assert await forwarder.pins() == {"rpc": 2, "web": 0}


async def test_who_comes_after_a_restart_finds_everything_in_force(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    client = ip_address(site.plan.client(3))
    forwarder.pin("rpc", client, 2)
    session = site.session(str(client), 5000)
    await forwarder.close(keep=True)
    again = KernelForwarder("CAS")
    assert again.pinned("rpc", client) == 2
    observed = await again.observe()
    assert observed == wanted
    assert diff(wanted, observed) == []
    assert session.echoes()
    await again.close(keep=False)
    assert "casarray" not in site.nft("list", "tables")


async def test_a_full_map_pins_nobody_new_and_forwards_everybody(site: "Site") -> None:
    forwarder = KernelForwarder("CAS", pin_capacity=5)
    wanted = table(site)
    await put(forwarder, wanted)
    for client in crowd(site, 20):
        choice = choose(wanted.groups[0], wanted.seed, ip_address(client), None)
        assert site.ask(client, 5000) == NAMES[choice.member_id or 0]
    assert (await forwarder.pins())["rpc"] == 5
    forwarder.pin("rpc", ip_address("10.99.0.1"), 1)  # no room, no harm
    assert forwarder.pinned("rpc", ip_address("10.99.0.1")) is None
    first = ip_address(site.plan.client(0))
    forwarder.pin("rpc", first, 3)  # whoever is in may be renewed
    assert forwarder.pinned("rpc", first) == 3
    await forwarder.close(keep=True)


async def test_the_size_of_the_pin_map_changes_without_losing_a_pin(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    forwarder.pin("rpc", ip_address("10.99.0.1"), 2)
    await forwarder.close(keep=True)
    bigger = KernelForwarder("CAS", pin_capacity=2_000_000)
    observed = await bigger.observe()
    assert observed is not None
    assert [type(c) for c in diff(wanted, observed)] == [Structure]  # other rules than ours: put them there anew
    await put(bigger, wanted)
    assert bigger.pinned("rpc", ip_address("10.99.0.1")) == 2
    await bigger.close(keep=True)


async def test_a_map_of_another_type_is_made_anew_with_the_pins_in_it(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    site.nft("flush", "table", "inet", "casarray_cas")
    site.nft("delete", "map", "inet", "casarray_cas", "pin4_rpc")
    site.nft("add", "map", "inet", "casarray_cas", "pin4_rpc", "{ type ipv4_addr : classid; flags timeout; }")
    site.nft("add", "element", "inet", "casarray_cas", "pin4_rpc", "{ 10.99.0.1 timeout 1h : 0:2 }")
    await put(forwarder, wanted)
    assert forwarder.pinned("rpc", ip_address("10.99.0.1")) == 2
    assert "dynamic,timeout" in site.nft("list", "map", "inet", "casarray_cas", "pin4_rpc")
    assert site.ask(site.plan.client(1), 5000) in NAMES.values()


async def test_rules_change_under_traffic_and_nobody_notices(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    sessions = {c: site.session(c, 5000) for c in crowd(site, 20)}
    stop = asyncio.Event()
    answers: Counter[bool] = Counter()

    async def new_connections() -> None:
        while not stop.is_set():
            for client, session in sessions.items():
                answers[await asyncio.to_thread(site.ask, client, 5001) == session.member] += 1

    connecting = asyncio.create_task(new_connections())
    versions = [
        first_group(wanted, affinity_seconds=77),
        first_group(wanted, ports=(5000, 5001, 6000)),
        replace(wanted, masquerade=True),
        replace(wanted, mapper_port=None),
        replace(wanted, groups=(*wanted.groups, group(3, "app", (6000,)))),
        replace(wanted, addresses=wanted.addresses[:1]),
        first_group(wanted, slots=(1, 2, 3) * 100, backup=(2, 3, 1) * 100),
        first_group(wanted, slots=(1, 2, 3), backup=(2, 3, 1)),
    ]
    for version in versions:
        await put(forwarder, version)
        await put(forwarder, wanted)
    stop.set()
    await connecting
    assert answers[False] == 0
    assert answers[True] > 20
    assert all(session.echoes() for session in sessions.values())


async def test_a_member_may_come_go_and_change_its_address(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    two = replace(wanted, members=wanted.members[:2], groups=(group(1, "rpc", (5000,), nodes=frozenset({1, 2})),))
    await put(forwarder, two)
    assert {site.ask(c, 5000) for c in crowd(site, 20)} == {"cas1", "cas2"}
    await put(forwarder, wanted)
    assert {site.ask(c, 443) for c in crowd(site, 20)} == {"cas1", "cas2", "cas3"}
    assert {site.ask(c, 5000) for c in crowd(site, 20)} == {"cas1", "cas2"}  # pinned
    moved = replace(
        wanted, members=(replace(wanted.members[0], addresses=wanted.members[2].addresses), *wanted.members[1:])
    )
    await put(forwarder, moved)
    assert {site.ask(c, 5000) for c in crowd(site, 20)} == {"cas2", "cas3"}
    await put(forwarder, two)
    assert {site.ask(c, 5000) for c in crowd(site, 20)} == {"cas1", "cas2"}


async def test_a_member_of_one_family_gets_clients_of_that_family_only(
    site: "Site", forwarder: KernelForwarder
) -> None:
    wanted = table(site)
    first = replace(wanted.members[0], addresses=wanted.members[0].addresses[:1])
    await put(forwarder, replace(wanted, members=(first, *wanted.members[1:])))
    six = [site.plan.client6(n) for n in range(20)]
    assert {site.ask(c, 5000) for c in six} == {"cas2", "cas3"}  # by second choice
    assert {site.ask(c, 5000) for c in crowd(site, 20)} == {"cas1", "cas2", "cas3"}
    await forwarder.apply([Expel("rpc", 1)])
    assert {site.ask(c, 5000) for c in crowd(site, 20)} == {"cas2", "cas3"}
    await forwarder.apply([Admit("rpc", 1)])
    await put(forwarder, wanted)
    new = [site.plan.client6(n) for n in range(20, 50)]
    assert {site.ask(c, 5000) for c in new} == {"cas1", "cas2", "cas3"}


@pytest.mark.parametrize(
    "harm",
    [
        "flush ruleset",
        "delete table inet casarray_cas",
        "flush table inet casarray_cas",
        "flush chain inet casarray_cas node4_rpc_1",
        "insert rule inet casarray_cas steer4_rpc accept",
        "flush map inet casarray_cas nodes4_rpc",
        "delete element inet casarray_cas nodes6_rpc { 0:2 }",
        "flush map inet casarray_cas slots_rpc",
        "flush set inet casarray_cas about",
        "add element inet casarray_cas nodes4_web { 0:7 : goto node4_web_1 }",
        "add chain inet casarray_cas mine { type filter hook forward priority 5; policy drop; }",
        "add table inet casarray_cas { flags dormant; }",
    ],
)
async def test_whatever_somebody_does_to_the_table_is_seen_and_put_right(
    site: "Site", forwarder: KernelForwarder, harm: str
) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    sessions = [site.session(c, 5000) for c in crowd(site, 9)]
    site.nft(harm)
    observed = await forwarder.observe()
    assert diff(wanted, observed) != []
    await put(forwarder, wanted)
    assert diff(wanted, await forwarder.observe()) == []
    for client, session in zip(crowd(site, 9), sessions, strict=True):
        assert session.echoes()
        assert site.ask(client, 5001) == session.member
    assert "mine" not in site.nft("list", "ruleset")


async def test_pins_of_clients_with_connections_survive_even_a_foreign_flush(
    site: "Site", forwarder: KernelForwarder
) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    clients = [*crowd(site, 6), site.plan.client6(1)]
    for number, client in enumerate(clients):
        forwarder.pin("rpc", ip_address(client), 1 + number % 3)
    sessions = {client: site.session(client, 5000) for client in clients}
    site.nft("flush", "ruleset")
    await put(forwarder, wanted)
    for number, client in enumerate(clients):
        assert forwarder.pinned("rpc", ip_address(client)) == 1 + number % 3
        assert sessions[client].echoes()
        assert site.ask(client, 5001) == NAMES[1 + number % 3]


async def test_connections_in_use_survive_a_foreign_flush(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    sessions = [site.session(c, 5000) for c in [*crowd(site, 20), site.plan.client6(1)]]
    own = site.session("", 5000, to=site.plan.vip, host="gateway")
    loop, stop, echoes = asyncio.get_running_loop(), asyncio.Event(), Counter[int]()

    async def use(number: int, link: socket.socket) -> None:
        link.setblocking(False)
        while not stop.is_set():
            async with asyncio.timeout(10):
                await loop.sock_sendall(link, b"x")
                assert await loop.sock_recv(link, 1) == b"x"
            echoes[number] += 1
            await asyncio.sleep(0.002)

    async def put_right() -> None:
        async for _ in forwarder.foreign_changes():
            await forwarder.apply(diff(wanted, await forwarder.observe()))

    guard = asyncio.create_task(put_right())
    using = [asyncio.create_task(use(n, s.link)) for n, s in enumerate([*sessions, own])]
    try:
        for _ in range(3):
            await asyncio.sleep(0.2)
            before = Counter(echoes)
            await asyncio.to_thread(site.nft, "flush", "ruleset")
            await asyncio.sleep(1.2)
            assert [n for n in range(len(using)) if echoes[n] == before[n]] == []
    finally:
        stop.set()
    await asyncio.gather(*using)
    guard.cancel()
    assert await forwarder.observe() == wanted


async def test_the_shield_is_nobody_elses_and_goes_with_its_gateway(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    assert "casarray_cas_shield" in site.nft("list", "tables")
    with pytest.raises(subprocess.CalledProcessError, match="non-zero"):
        site.nft("delete", "table", "inet", "casarray_cas_shield")
    await put(forwarder, replace(wanted, addresses=wanted.addresses[:1]))
    assert site.nft("list", "tables").count("shield") == 1
    assert site.plan.vip6 not in site.nft("list", "table", "inet", "casarray_cas_shield2")
    await forwarder.close(keep=True)
    assert site.nft("list", "tables").split() == ["table", "inet", "casarray_cas"]
    again = KernelForwarder("CAS")
    await again.observe()
    assert "casarray_cas_shield" in site.nft("list", "tables")
    await again.close(keep=False)
    assert site.nft("list", "tables") == ""


async def test_a_killed_gateway_leaves_its_table_and_no_shield_and_the_next_one_raises_another(site: "Site") -> None:
    source = f"""
import asyncio
from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.core.forwarding.diff import diff
from casarray.core.forwarding.nft import described, understood
async def main():
    forwarder = KernelForwarder("CAS")
    wanted = understood({described_table(site)!r})
    await forwarder.apply(diff(wanted, await forwarder.observe()))
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    path = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": os.environ["PATH"]}
    gateway = site.lab["gateway"].spawn(sys.executable, "-c", source, stdout=subprocess.PIPE, env=path)
    assert gateway.stdout is not None
    assert gateway.stdout.readline() == b"ready\n"
    assert "casarray_cas_shield" in site.nft("list", "tables")
    gateway.kill()
    gateway.wait()
    forwarder = KernelForwarder("CAS")
    observed = await forwarder.observe()
    assert observed is not None
    assert observed.addresses == (ip_address(site.plan.vip), ip_address(site.plan.vip6))
    await asyncio.sleep(0.2)
    assert "casarray_cas_shield" in site.nft("list", "tables")
    await forwarder.close(keep=True)


def described_table(site: "Site") -> list[str]:
    return described(table(site))


async def test_foreign_changes_wake_and_our_own_do_not(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    woken: list[float] = []
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        async for _ in forwarder.foreign_changes():
            woken.append(loop.time())

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.05)
    await put(forwarder, wanted)
    forwarder.pin("rpc", ip_address("10.0.0.1"), 1)
    forwarder.open_pinholes([Pinhole("rpc", ip_address("10.0.0.1"), 50000, 1, 60)])
    await forwarder.apply([Expel("rpc", 1), Structure(wanted), Admit("rpc", 1), FillSlots("rpc", ((0, 3),), ((0, 1),))])
    await forwarder.load_pins("rpc", await forwarder.dump_pins("rpc"))
    site.nft("add", "table", "inet", "elsewhere")
    await asyncio.sleep(0.1)
    assert woken == []
    began = loop.time()
    await asyncio.to_thread(site.nft, "flush", "table", "inet", "casarray_cas")
    await asyncio.sleep(0.05)
    assert len(woken) >= 1
    assert woken[0] - began < 1.0
    seen = len(woken)
    await put(forwarder, wanted)
    await asyncio.sleep(0.05)
    assert len(woken) == seen
    watching.cancel()


async def test_pins_can_be_saved_and_put_back(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    assert await forwarder.dump_pins("rpc") == b""
    assert await forwarder.load_pins("rpc", b"") == 0
    for number in range(3000):
        forwarder.pin("rpc", ip_address(f"10.77.{number // 250}.{number % 250}"), 1 + number % 3)
    forwarder.pin("rpc", ip_address("fd99::1"), 3)
    saved = await forwarder.dump_pins("rpc")
    await forwarder.close(keep=False)
    again = KernelForwarder("CAS")
    await put(again, wanted)
    for number in (0, 1000, 2999):  # they came back before their pins did, and were pinned elsewhere
        again.pin("rpc", ip_address(f"10.77.{number // 250}.{number % 250}"), 1 + (number + 1) % 3)
    assert await again.load_pins("rpc", saved) == 2998
    assert await again.pins() == {"rpc": 3001, "web": 0}
    assert again.pinned("rpc", ip_address("10.77.0.1")) == 2
    assert again.pin_seconds_left("rpc", ip_address("10.77.0.1")) in range(3580, 3602)
    assert again.pinned("rpc", ip_address("10.77.0.0")) == 2
    assert again.pinned("rpc", ip_address("fd99::1")) == 3
    await again.close(keep=True)


async def test_a_void_pin_stays_while_nobody_else_may_have_its_client(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = first_group(table(site), slots=(0,) * 3, backup=(0,) * 3, nodes=frozenset({2, 3}))
    await put(forwarder, wanted)
    forwarder.pin("rpc", ip_address(site.plan.client(0)), 1)
    assert site.ask(site.plan.client(0), 5000) == "refused"
    assert forwarder.pinned("rpc", ip_address(site.plan.client(0))) == 1


async def test_pins_are_renewed_while_their_clients_are_connected(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = first_group(table(site), affinity_seconds=100)
    await put(forwarder, wanted)
    here, gone = site.plan.client(1), site.plan.client(2)
    site.session(here, 5000)
    site.ask(gone, 5000)
    site.session(site.plan.client6(1), 5000)
    await put(forwarder, first_group(wanted, affinity_seconds=500))
    assert await forwarder.refresh_pins(50) == 0
    assert await forwarder.refresh_pins(101) == 2
    assert forwarder.pin_seconds_left("rpc", ip_address(here)) in range(495, 501)
    assert (forwarder.pin_seconds_left("rpc", ip_address(gone)) or 0) <= 100


async def test_connections_and_traffic_are_counted_by_group_and_member(
    site: "Site", forwarder: KernelForwarder
) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    living: Counter[tuple[str, int]] = Counter()
    for client in crowd(site, 9):
        for port, name in ((5000, "rpc"), (5001, "rpc"), (443, "web")):
            member = site.session(client, port).member
            living[name, int(member[-1])] += 1
    assert await forwarder.connections() == living
    await put(forwarder, first_group(wanted, affinity_seconds=5))
    assert {k: t.new_connections for k, t in (await forwarder.traffic()).items() if t.new_connections} == living


async def test_the_connections_of_an_expelled_member_are_ended_and_no_others(
    site: "Site", forwarder: KernelForwarder
) -> None:
    await put(forwarder, table(site))
    clients = crowd(site, 12)
    rpc = [site.session(c, 5000) for c in clients]
    web = [site.session(c, 443) for c in clients]
    await forwarder.apply([Expel("rpc", 2)])
    number = await forwarder.reset("rpc", 2)
    assert number == sum(s.member == "cas2" for s in rpc) > 0
    assert [s.echoes(1.0) for s in rpc] == [s.member != "cas2" for s in rpc]
    assert all(s.echoes() for s in web)


async def test_a_member_expelled_while_the_rules_change_stays_out(site: "Site", tmp_path: Path) -> None:
    slow = tmp_path / "slow-nft"
    slow.write_text('#!/bin/sh\nsleep 0.3\nexec nft "$@"\n')
    slow.chmod(0o755)
    forwarder = KernelForwarder("CAS", program=str(slow))
    wanted = table(site)
    await put(forwarder, wanted)
    changing = asyncio.create_task(forwarder.apply([Structure(wanted)]))
    await asyncio.sleep(0.2)
    began = asyncio.get_running_loop().time()
    await forwarder.apply([Expel("rpc", 2)])
    assert asyncio.get_running_loop().time() - began < 0.05
    assert "0:2" not in site.nft("list", "map", "inet", "casarray_cas", "nodes4_rpc")
    assert not changing.done()
    await changing
    assert "0:2" not in site.nft("list", "map", "inet", "casarray_cas", "nodes4_rpc")
    observed = await forwarder.observe()
    assert observed is not None
    assert observed.groups[0].nodes == {1, 3}
    await forwarder.close(keep=True)


async def test_what_a_member_sends_first_is_not_let_out_under_its_own_address(
    site: "Site", forwarder: KernelForwarder
) -> None:
    """As after the other gateway died: this one has never seen the connection."""
    await put(forwarder, table(site))
    client = site.plan.client(5)
    with site.lab["clients"].inside():
        ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    ear.bind((client, 0))
    with site.lab["cas1"].inside():
        mouth = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)

    def heard(flags: int) -> bool:
        mouth.sendto(struct.pack("!HHIIBBHHH", 5000, 40000, 1, 1, 5 << 4, flags, 1000, 0, 0), (client, 0))
        ear.settimeout(0.3)
        try:
            while True:
                if ear.recv(100)[12:16] == socket.inet_aton(site.plan.server(0)):
                    return True
        except TimeoutError:
            return False

    with ear, mouth:
        assert not heard(0x10)  # ACK
        assert not heard(0x14)  # RST ACK
        assert heard(0x02)  # SYN: it may open connections of its own
        await forwarder.close(keep=False)


async def test_an_array_minds_its_own_table(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    await put(forwarder, wanted)
    with pytest.raises(Conflict, match="array CAS was given the table of array MAIL"):
        await forwarder.apply([Structure(replace(wanted, array="MAIL"))])
    with pytest.raises(NotFound, match="no affinity group mail"):
        forwarder.pinned("mail", ip_address("10.0.0.1"))
    with pytest.raises(NotFound, match="no member 9"):
        await forwarder.apply([Admit("rpc", 9)])
    with pytest.raises(NotFound, match="no slot 251"):
        await forwarder.apply([FillSlots("rpc", ((251, 1),), ())])
    await forwarder.apply([Expel("rpc", 9), Expel("mail", 1)])  # gone is gone
    assert await forwarder.observe() == wanted


async def test_the_kernel_takes_every_seed_and_the_biggest_ids(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    last = replace(wanted.members[2], id=4095)
    members = (*wanted.members[:2], last)
    slots = tuple((1, 2, 4095)[n % 3] for n in range(65537))
    groups = (group(15, "rpc", (5000,), nodes=frozenset({1, 2, 4095}), slots=slots, backup=slots),)
    for seed in (0, 0xFFFFFFFF):
        odd = replace(wanted, seed=seed, members=members, groups=groups)
        await put(forwarder, odd)
        await forwarder.apply([Structure(odd)])  # a seed that is drawn anew at each load would show here
        for client in crowd(site, 20):
            forwarder.unpin("rpc", ip_address(client))
            choice = choose(groups[0], seed, ip_address(client), None)
            assert site.ask(client, 5000) == {1: "cas1", 2: "cas2", 4095: "cas3"}[choice.member_id or 0]


async def test_names_that_would_hurt_are_carried_all_the_same(site: "Site", forwarder: KernelForwarder) -> None:
    wanted = table(site)
    named = replace(wanted.members[0], name='it\'s "cas1" *\\ ü $x;#')
    odd = replace(
        wanted, members=(named, *wanted.members[1:]), groups=(replace(wanted.groups[0], name="Mail & Rpc-1"),)
    )
    await put(forwarder, odd)
    forwarder.pin("Mail & Rpc-1", ip_address("10.0.0.1"), 2)
    assert forwarder.pinned("Mail & Rpc-1", ip_address("10.0.0.1")) == 2
    assert site.ask(site.plan.client(1), 5000) in NAMES.values()


async def test_a_gateway_without_the_nft_program_says_so_in_a_sentence(site: "Site") -> None:
    forwarder = KernelForwarder("CAS", program="/nonexistent/nft")
    with pytest.raises(Unavailable, match=r'install the package nftables, or set mode = "userspace"'):
        await forwarder.apply([Structure(table(site))])
    await forwarder.close(keep=True)


def test_without_the_right_to_it_the_kernel_is_denied_in_a_sentence(site: "Site") -> None:
    source = "from casarray.adapters.kernel.forwarder import KernelForwarder; KernelForwarder('CAS')"
    done = site.lab["gateway"].run(
        "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin",
        "env", f"PYTHONPATH={Path(__file__).parents[2] / 'src'}", sys.executable, "-c", source, check=False,
    )  # fmt: skip
    assert "Denied: changing the kernel's forwarding table needs CAP_NET_ADMIN" in done.stderr
    assert 'mode = "userspace"' in done.stderr
