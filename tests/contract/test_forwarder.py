"""One contract for every forwarder: in memory, by relaying, by the kernel."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.adapters.memory_forwarder import MemoryForwarder
from casarray.adapters.net.userspace import UserspaceForwarder
from casarray.app.ports import Forwarder
from casarray.core.affinity.choose import choose
from casarray.core.errors import NotFound
from casarray.core.forwarding.diff import Admit, Change, Expel, FillSlots, Remove, Structure, diff
from casarray.core.forwarding.table import Address, OpenRange, Pinhole, Table
from casarray.lab.netns import missing

from .forwarder_sites import (
    DYNAMIC,
    SECOND,
    SEED,
    STATIC,
    WEB,
    Link,
    MemorySite,
    Site,
    gateway,
    in_namespaces,
    on_loopback,
    table,
)

_WHY = missing()
_ROOT = [pytest.mark.root, pytest.mark.skipif(_WHY is not None, reason=str(_WHY))]
SITES = [
    "memory",
    "userspace",
    pytest.param("userspace in namespaces", marks=_ROOT),
    pytest.param("kernel", marks=_ROOT),
]


@pytest.fixture(params=SITES)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    if request.param == "memory":
        yield MemorySite()
    elif request.param == "userspace":
        async with on_loopback(UserspaceForwarder()) as loopback:
            yield loopback
    else:
        with ExitStack() as stack:
            lab, plan = stack.enter_context(gateway())
            forwarder = KernelForwarder("contract") if request.param == "kernel" else UserspaceForwarder()
            async with in_namespaces(lab, plan, forwarder) as real:
                yield real


def test_each_of_them_is_a_forwarder() -> None:
    memory: Forwarder = MemoryForwarder()
    userspace: Forwarder = UserspaceForwarder()
    kernel: type[Forwarder] = KernelForwarder
    assert memory
    assert userspace
    assert kernel


async def change(site: Site, *changes: Change) -> None:
    await site.forwarder.apply(changes)


async def up(site: Site, wanted: Table | None = None) -> Table:
    wanted = wanted or table(site)
    await site.forwarder.apply(diff(wanted, await site.forwarder.observe()))
    return wanted


async def met(site: Site, client: Address, port: int = STATIC) -> Link:
    link = await site.connect(client, port)
    assert link is not None, f"{client} was refused at {port}"
    return link


async def who(site: Site, client: Address, port: int = STATIC) -> str | None:
    """The member that a short connection meets."""
    if (link := await site.connect(client, port)) is None:
        return None
    await link.close()
    return link.member


def chosen(wanted: Table, client: Address, group: str = "rpc") -> str:
    """Whom a client without a pin should meet."""
    found = wanted.group(group)
    assert found is not None
    member = wanted.member(choose(found, SEED, client, None).member_id or 0)
    assert member is not None
    return member.name


def client_of(site: Site, wanted: Table, name: str, version: int = 4) -> Address:
    """A client that belongs to this member."""
    return next(c for n in range(200) if chosen(wanted, c := site.client(n, version)) == name)


# What is in force


async def test_nothing_is_there_before_anything_is_applied(site: Site) -> None:
    assert await site.forwarder.observe() is None


async def test_what_was_wanted_is_there_and_nothing_is_left_to_do(site: Site) -> None:
    wanted = await up(site)
    assert await site.forwarder.observe() == wanted
    assert diff(wanted, await site.forwarder.observe()) == []


async def test_each_kind_of_change_is_seen_afterwards(site: Site) -> None:
    wanted = await up(site)
    web = wanted.groups[1]
    later = replace(
        wanted,
        groups=(
            replace(
                wanted.groups[0],
                ports=(STATIC,),
                nodes=frozenset({1, 3}),
                slots=(3, 0, *wanted.groups[0].slots[2:]),
                backup=(0, 3, *wanted.groups[0].backup[2:]),
                affinity_seconds=60,
            ),
            replace(web, slots=web.slots[:100], backup=web.backup[:100]),
        ),
        members=wanted.members[::2],
    )
    later = replace(later, groups=(later.groups[0], replace(later.groups[1], nodes=frozenset({3}))))
    await up(site, later)
    assert await site.forwarder.observe() == later
    await up(site, wanted)
    assert await site.forwarder.observe() == wanted


async def test_after_remove_nothing_is_there_and_nobody_is_served(site: Site) -> None:
    await up(site)
    await change(site, Remove("contract"))
    assert await site.forwarder.observe() is None
    assert await who(site, site.client(0)) is None


async def test_who_is_not_there_can_be_neither_admitted_nor_asked_for(site: Site) -> None:
    await up(site)
    with pytest.raises(NotFound):
        await change(site, Admit("rpc", 99))
    with pytest.raises(NotFound):
        site.forwarder.pinned("nothing", site.client(0))
    await change(site, Expel("rpc", 99))  # whoever is to go and is not there has gone


# Who gets whom


@pytest.mark.parametrize("version", [4, 6])
async def test_every_client_meets_the_member_that_its_address_says(site: Site, version: int) -> None:
    if all(a.version != version for a in site.addresses):
        pytest.skip("the loopback net has one IPv6 address only")
    wanted = await up(site)
    clients = [site.client(n, version) for n in range(0, 200, 5)]
    assert [await who(site, c) for c in clients] == [chosen(wanted, c) for c in clients]
    assert len({chosen(wanted, c) for c in clients}) == 3


@pytest.mark.parametrize("version", [4, 6])
async def test_a_client_stays_on_its_member_on_all_ports_when_the_slots_change(site: Site, version: int) -> None:
    if all(a.version != version for a in site.addresses):
        pytest.skip("the loopback net has one IPv6 address only")
    wanted = await up(site)
    stays = client_of(site, wanted, "cas1", version)
    assert await who(site, stays) == "cas1"
    everything = tuple((n, 2) for n in range(len(wanted.groups[0].slots)))
    await change(site, FillSlots("rpc", everything, ()))
    assert [await who(site, stays, port) for port in (STATIC, SECOND)] == ["cas1", "cas1"]
    comes = next(c for n in range(200) if chosen(wanted, c := site.client(n, version)) == "cas1" and c != stays)
    assert await who(site, comes) == "cas2"


async def test_the_groups_of_an_array_do_not_share_pins(site: Site) -> None:
    wanted = await up(site)
    client = client_of(site, wanted, "cas1")
    site.forwarder.pin("web", client, 3)
    assert [await who(site, client, port) for port in (STATIC, WEB)] == ["cas1", "cas3"]


async def test_connecting_pins_and_the_pin_lives_the_affinity_time(site: Site) -> None:
    wanted = await up(site)
    client = client_of(site, wanted, "cas2")
    assert site.forwarder.pinned("rpc", client) is None
    assert site.forwarder.pin_seconds_left("rpc", client) is None
    assert await who(site, client) == "cas2"
    assert site.forwarder.pinned("rpc", client) == 2
    left = site.forwarder.pin_seconds_left("rpc", client)
    assert left is not None
    assert 590 <= left <= 600
    assert await site.forwarder.pins() == {"rpc": 1, "web": 0}


async def test_a_pin_that_was_set_decides_until_it_is_taken_away(site: Site) -> None:
    wanted = await up(site)
    client = client_of(site, wanted, "cas1")
    site.forwarder.pin("rpc", client, 2)
    assert await who(site, client) == "cas2"
    site.forwarder.pin("rpc", client, 3)
    assert await who(site, client) == "cas3"
    site.forwarder.unpin("rpc", client)
    site.forwarder.unpin("rpc", client)
    assert await who(site, client) == "cas1"


async def test_a_pin_runs_out(site: Site) -> None:
    await up(site, table(site, affinity_seconds=1))
    client = site.client(0)
    site.forwarder.pin("rpc", client, 2)
    await site.wait(1.3)
    assert site.forwarder.pinned("rpc", client) is None


async def test_only_pins_of_clients_with_a_connection_are_refreshed_and_only_when_they_need_it(site: Site) -> None:
    wanted = await up(site, table(site, affinity_seconds=5))
    busy, gone = site.client(0), site.client(1)
    link = await met(site, busy)
    site.forwarder.pin("rpc", gone, 1)
    assert await site.forwarder.refresh_pins(2) == 0
    await site.wait(2.2)
    assert await site.forwarder.refresh_pins(4) == 1
    await site.wait(3.2)
    assert site.forwarder.pinned("rpc", gone) is None
    member = wanted.member(site.forwarder.pinned("rpc", busy) or 0)
    assert member is not None
    assert member.name == link.member


async def test_clients_of_one_prefix_are_one_client(site: Site) -> None:
    await up(site, table(site, prefix4=24))
    near = [site.client(n) for n in (0, 7, 42)]
    assert len({await who(site, c) for c in near}) == 1
    assert (await site.forwarder.pins())["rpc"] == 1
    site.forwarder.pin("rpc", near[0], 3)
    assert [await who(site, c) for c in near] == ["cas3"] * 3
    assert site.forwarder.pinned("rpc", site.client(150)) is None


# Members come and go


async def test_an_expelled_member_s_clients_go_to_their_second_choice_and_nobody_else_moves(site: Site) -> None:
    wanted = await up(site)
    clients = [site.client(n) for n in range(0, 200, 8)]
    before = {c: await who(site, c) for c in clients}
    await change(site, Expel("rpc", 1))
    left = replace(wanted, groups=(replace(wanted.groups[0], nodes=frozenset({2, 3})), wanted.groups[1]))
    after = {c: await who(site, c) for c in clients}
    assert {c: m for c, m in before.items() if m != "cas1"} == {c: m for c, m in after.items() if before[c] != "cas1"}
    assert after == {c: chosen(left, c) for c in clients}
    assert Counter(before.values())["cas1"] > 0


async def test_who_moved_stays_when_its_first_member_comes_back(site: Site) -> None:
    wanted = await up(site)
    client = client_of(site, wanted, "cas1")
    assert await who(site, client) == "cas1"
    await change(site, Expel("rpc", 1))
    moved = await who(site, client)
    assert moved in ("cas2", "cas3")
    assert site.forwarder.pinned("rpc", client) == int(moved[-1])
    await change(site, Admit("rpc", 1))
    assert await who(site, client) == moved


async def test_a_pin_outlives_the_absence_of_its_member_when_the_client_does_not_come(site: Site) -> None:
    wanted = await up(site)
    client = client_of(site, wanted, "cas1")
    site.forwarder.pin("rpc", client, 2)
    await change(site, Expel("rpc", 2))
    assert site.forwarder.pinned("rpc", client) == 2
    await change(site, Admit("rpc", 2))
    assert await who(site, client) == "cas2"


async def test_a_draining_member_keeps_its_clients_and_gets_no_new_ones(site: Site) -> None:
    wanted = await up(site)
    stays = client_of(site, wanted, "cas1")
    assert await who(site, stays) == "cas1"
    rpc = wanted.groups[0]
    drained = replace(
        rpc,
        slots=tuple(rpc.backup[n] if m == 1 else m for n, m in enumerate(rpc.slots)),
        backup=tuple(0 if m == 1 else m for m in rpc.backup),
    )
    await up(site, replace(wanted, groups=(drained, wanted.groups[1])))
    assert await who(site, stays) == "cas1"
    others = [c for n in range(0, 200, 7) if (c := site.client(n)) != stays]
    assert "cas1" not in [await who(site, c) for c in others]


async def test_nobody_left_means_refused(site: Site) -> None:
    await up(site)
    await change(site, *(Expel("rpc", member) for member in (1, 2, 3)))
    assert await who(site, site.client(0)) is None
    await change(site, Admit("rpc", 3))
    assert await who(site, site.client(0)) in ("cas3", None)  # None: neither of its choices


async def test_living_connections_stay_when_the_structure_changes(site: Site) -> None:
    wanted = await up(site)
    links = [await met(site, site.client(n)) for n in range(5)]
    fewer = replace(wanted, groups=(replace(wanted.groups[0], ports=(SECOND,)), wanted.groups[1]))
    await up(site, fewer)
    assert [await link.lives() for link in links] == [True] * 5
    assert await who(site, site.client(0)) is None
    assert site.forwarder.pinned("rpc", site.client(0)) == int(links[0].member[-1])
    assert await who(site, site.client(0), SECOND) == links[0].member


async def test_a_group_that_goes_takes_its_pins_with_it(site: Site) -> None:
    wanted = await up(site)
    client = site.client(0)
    site.forwarder.pin("rpc", client, 1)
    site.forwarder.pin("web", client, 1)
    await up(site, replace(wanted, groups=wanted.groups[:1]))
    assert await who(site, client, WEB) is None
    with pytest.raises(NotFound):
        site.forwarder.pinned("web", client)
    await up(site, wanted)
    assert [site.forwarder.pinned(group, client) for group in ("rpc", "web")] == [1, None]


# Ports


async def test_ports_that_nobody_asked_for_are_refused(site: Site) -> None:
    await up(site)
    assert [await who(site, site.client(0), port) for port in (DYNAMIC[0], 4999, 5135)] == [None] * 3


@pytest.mark.parametrize("version", [4, 6])
async def test_a_pinhole_leads_one_client_through_one_port_to_one_member(site: Site, version: int) -> None:
    if all(a.version != version for a in site.addresses):
        pytest.skip("the loopback net has one IPv6 address only")
    await up(site)
    client, other = site.client(0, version), site.client(1, version)
    site.forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC[0], 3, 60)])
    assert await who(site, client, DYNAMIC[0]) == "cas3"
    assert await who(site, client, DYNAMIC[1]) is None
    assert await who(site, other, DYNAMIC[0]) is None
    assert site.forwarder.pinned("rpc", client) == 3


async def test_a_pinhole_is_worth_nothing_to_a_client_that_is_pinned_elsewhere(site: Site) -> None:
    await up(site)
    client = site.client(0)
    site.forwarder.pin("rpc", client, 1)
    site.forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC[0], 3, 60)])
    assert [await who(site, client, DYNAMIC[0]), await who(site, client)] == [None, "cas1"]
    assert site.forwarder.pinned("rpc", client) == 1
    site.forwarder.pin("rpc", client, 3)
    assert await who(site, client, DYNAMIC[0]) == "cas3"


async def test_a_pinhole_leads_nowhere_else_when_its_member_is_out(site: Site) -> None:
    await up(site)
    client = site.client(0)
    site.forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC[0], 3, 60)])
    await change(site, Expel("rpc", 3))
    assert await who(site, client, DYNAMIC[0]) is None
    await change(site, Admit("rpc", 3))
    assert await who(site, client, DYNAMIC[0]) == "cas3"


async def test_a_pinhole_can_be_opened_again_for_another_member(site: Site) -> None:
    await up(site)
    client = site.client(0)
    for member in (1, 2, 2):
        site.forwarder.pin("rpc", client, member)
        site.forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC[0], member, 60)])
        assert await who(site, client, DYNAMIC[0]) == f"cas{member}"


async def test_a_pinhole_shuts_by_itself_and_its_connections_stay(site: Site) -> None:
    await up(site)
    client = site.client(0)
    site.forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC[0], 3, 1)])
    link = await met(site, client, DYNAMIC[0])
    await site.wait(1.3)
    assert await who(site, client, DYNAMIC[0]) is None
    assert await link.lives()


async def test_an_open_range_leads_through_all_its_ports_and_no_more(site: Site) -> None:
    await up(site)
    client = site.client(0)
    site.forwarder.open_pinholes([OpenRange("rpc", client, 2, DYNAMIC[0], DYNAMIC[1], 60)])
    assert [await who(site, client, port) for port in DYNAMIC] == ["cas2", "cas2", None]
    assert await who(site, site.client(1), DYNAMIC[0]) is None


async def test_pinholes_are_opened_all_or_none(site: Site) -> None:
    await up(site)
    client = site.client(0)
    for group in ("nothing", "web"):  # web has no dynamic ports
        with pytest.raises(NotFound):
            site.forwarder.open_pinholes(
                [Pinhole("rpc", client, DYNAMIC[0], 3, 60), Pinhole(group, client, DYNAMIC[1], 3, 60)]
            )
    assert await who(site, client, DYNAMIC[0]) is None


async def test_pinholes_stay_when_the_structure_changes(site: Site) -> None:
    wanted = await up(site)
    client = site.client(0)
    site.forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC[0], 3, 60)])
    await change(site, Structure(replace(wanted, members=tuple(reversed(wanted.members)))))
    assert await who(site, client, DYNAMIC[0]) == "cas3"


async def test_pinholes_go_when_their_group_has_no_dynamic_ports_any_more(site: Site) -> None:
    wanted = await up(site)
    client = site.client(0)
    site.forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC[0], 3, 60)])
    await up(site, table(site, dynamic=False))
    assert await who(site, client, DYNAMIC[0]) is None
    await up(site, wanted)
    assert await who(site, client, DYNAMIC[0]) is None


# Connections


async def test_reset_ends_all_connections_of_one_member_in_one_group_idle_ones_too(site: Site) -> None:
    wanted = await up(site)
    mine = [await met(site, c) for n in range(40) if chosen(wanted, c := site.client(n)) == "cas1"]
    others = [await met(site, c) for n in range(40) if chosen(wanted, c := site.client(n)) != "cas1"]
    web = await met(site, client_of(site, wanted, "cas1"), WEB)
    await change(site, Expel("rpc", 1))
    assert await site.forwarder.reset("rpc", 1) == len(mine) > 0
    assert [await link.was_reset() for link in mine] == [True] * len(mine)
    assert [await link.lives() for link in (web, *others)] == [True] * (1 + len(others))
    assert (await site.forwarder.connections()).get(("rpc", 1), 0) == 0


async def test_connections_are_counted_where_they_went(site: Site) -> None:
    wanted = await up(site)
    clients = [site.client(n) for n in range(12)]
    expected = Counter(("rpc", int(chosen(wanted, c)[-1])) for c in clients)
    links = [await met(site, c) for c in clients]
    assert {to: n for to, n in (await site.forwarder.connections()).items() if n} == expected
    assert {
        to: t.new_connections for to, t in (await site.forwarder.traffic()).items() if t.new_connections
    } == expected
    for link in links:
        await link.close()
    await met(site, clients[0], WEB)
    assert (await site.forwarder.traffic())["web", int(chosen(wanted, clients[0])[-1])].new_connections == 1
