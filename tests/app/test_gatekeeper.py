"""The control loop of one array, on the in-memory forwarder."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from casarray.adapters.memory_forwarder import MemoryForwarder
from casarray.app import gatekeeper
from casarray.app.gatekeeper import Gatekeeper, Plan, Verdict
from casarray.app.ports import ServerWish
from casarray.core.config import Array, Gateway, HealthPolicy, Panic, Server, Service, Wish
from casarray.core.errors import Unavailable
from casarray.core.forwarding.diff import Admit, Change, Expel, FillSlots, Remove, Structure
from casarray.core.forwarding.table import Table
from casarray.core.forwarding.wanted import wanted_table

UP, DOWN = Verdict(True), Verdict(False, reason="it refuses connections on port 5001")
CLIENTS = [f"10.11.{n // 200}.{n % 200 + 1}" for n in range(600)]


class HandClock:
    """Both clocks, turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


def plan(servers: int = 3, **array: Any) -> Plan:
    services = (Service("epm", 135, "rpc", mapper=True), Service("rpc", 5001, "rpc"), Service("https", 443, "web"))
    health = HealthPolicy(slow_start=0.0)
    base = Array(
        "CAS", "cas.domain.tld", "Paderborn", (ip_address("10.11.0.100"),), services, slots=1021, health=health
    )
    members = tuple(Server(f"cas{n}", "Paderborn", (ip_address(f"10.12.0.{20 + n}"),)) for n in range(1, servers + 1))
    ids = {s.name: n for n, s in enumerate(members, start=1)}
    return Plan(replace(base, **array), Gateway("gw1"), members, ids, {"rpc": 1, "web": 2}, 0x1234)


class Site:
    """A gatekeeper at work, and what it was told to end."""

    def __init__(self, the_plan: Plan) -> None:
        self.forwarder = MemoryForwarder()
        self.clock = HandClock()
        self.ended: list[tuple[str, int]] = []
        self.keeper = Gatekeeper(the_plan, self.forwarder, self.clock, lambda g, m: self.ended.append((g, m)))

    def judge(self, verdict: Verdict, *members: int, groups: tuple[str, ...] = ("rpc", "web")) -> None:
        for member in members:
            for group in groups:
                self.keeper.judge(member, group, verdict)

    def owners(self, port: int = 5001) -> dict[str, str | None]:
        return {client: self.forwarder.connect(client, port) for client in CLIENTS}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    it = Site(plan())
    it.judge(UP, 1, 2, 3)
    await it.keeper.start()
    yield it
    await it.keeper.close(keep=True)


async def test_clients_spread_and_stay(site: Site) -> None:
    owners = site.owners()
    assert set(owners.values()) == {"cas1", "cas2", "cas3"}
    assert site.owners() == owners
    assert site.owners(443) == owners


async def test_a_lost_member_moves_its_own_clients_only(site: Site) -> None:
    before = site.owners()
    site.judge(DOWN, 2)
    await site.keeper.settled()
    after = site.owners()
    assert {c for c in CLIENTS if before[c] != after[c]} == {c for c in CLIENTS if before[c] == "cas2"}
    assert "cas2" not in after.values()
    assert set(site.ended) == {("rpc", 2), ("web", 2)}


async def test_a_member_lost_in_one_group_stays_in_the_other(site: Site) -> None:
    before = site.owners(443)
    site.judge(DOWN, 2, groups=("rpc",))
    await site.keeper.settled()
    assert site.owners(443) == before
    assert site.ended == [("rpc", 2)]


async def test_the_expulsion_comes_before_everything_else(site: Site) -> None:
    site.forwarder.applied.clear()
    site.judge(DOWN, 1)
    await site.keeper.settled()
    first, *rest = site.forwarder.applied
    assert isinstance(first, Expel)
    assert any(isinstance(change, FillSlots) for change in rest)
    assert not any(isinstance(change, Structure) for change in rest)


async def test_a_member_that_returns_is_admitted_before_slots_are_worked_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.judge(DOWN, 2)
    await site.keeper.settled()
    admitted_at_work: list[bool] = []

    def observed(*positional: Any, **named: Any) -> Table:
        admitted_at_work.append(Admit("rpc", 2) in site.forwarder.applied)
        return wanted_table(*positional, **named)

    monkeypatch.setattr(gatekeeper, "wanted_table", observed)
    site.forwarder.applied.clear()
    site.judge(UP, 2)
    await site.keeper.settled()
    assert admitted_at_work[0]
    assert site.forwarder.applied.count(Admit("rpc", 2)) == 1
    assert "cas2" in site.owners().values()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of groups each time that a table is worked out from now on."""
    worked_out: list[int] = []

    def observed(*positional: Any, **named: Any) -> Table:
        worked_out.append(len(named["nodes_by_group"]))
        return wanted_table(*positional, **named)

    monkeypatch.setattr(gatekeeper, "wanted_table", observed)
    return worked_out


@pytest.mark.parametrize(("lost", "times"), [((), 1), ((2,), 2)])
async def test_what_was_foreseen_is_put_in_force_only_if_it_came_true(
    lost: tuple[int, ...], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, worked_out = Site(plan()), counted(monkeypatch)
    it.keeper.wish({"cas3": ServerWish(Wish.OUT)})
    await it.keeper.foresee()
    it.judge(UP, 1, 2, 3)
    it.judge(DOWN, *lost)
    await it.keeper.start()
    assert set(it.owners().values()) == {"cas1", "cas2"} - {f"cas{n}" for n in lost}
    assert worked_out == [2] * times
    await it.keeper.close(keep=True)


async def test_what_was_foreseen_for_another_plan_is_forgotten() -> None:
    it = Site(plan(2))
    await it.keeper.foresee()
    it.keeper.replan(plan(3))
    it.judge(UP, 1, 2, 3)
    await it.keeper.start()
    assert set(it.owners().values()) == {"cas1", "cas2", "cas3"}
    await it.keeper.close(keep=True)


async def test_a_table_that_somebody_took_away_comes_back_without_working_it_out_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, worked_out = site.owners(), counted(monkeypatch)
    await site.forwarder.apply([Remove("CAS")])
    await site.keeper.put_right()
    assert site.owners() == before
    assert worked_out == []


async def test_a_server_with_a_new_address_is_admitted_only_with_its_rules(site: Site) -> None:
    site.judge(DOWN, 2)
    await site.keeper.settled()
    site.forwarder.applied.clear()
    moved = replace(site.keeper.plan.servers[1], addresses=(ip_address("10.12.0.99"),))
    servers = (site.keeper.plan.servers[0], moved, site.keeper.plan.servers[2])
    site.keeper.replan(replace(site.keeper.plan, servers=servers))
    site.judge(UP, 2)
    await site.keeper.settled()
    kinds = [type(change) for change in site.forwarder.applied]
    assert kinds.index(Structure) < kinds.index(Admit)


async def test_an_expulsion_does_not_wait_for_slots_that_are_being_filled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.owners()
    filling, go_on = asyncio.Event(), asyncio.Event()
    apply = site.forwarder.apply

    async def slowly(changes: Sequence[Change]) -> None:
        if any(isinstance(change, FillSlots) for change in changes):
            filling.set()
            await go_on.wait()
        await apply(changes)

    monkeypatch.setattr(site.forwarder, "apply", slowly)
    site.judge(DOWN, 1)
    async with asyncio.timeout(5):
        await filling.wait()
        site.judge(DOWN, 2)
        while len(site.ended) < 4:
            await asyncio.sleep(0)
    # A client whose two choices are both gone is refused until the slots are filled.
    assert set(site.owners().values()) == {"cas3", None}
    go_on.set()
    await site.keeper.settled()
    assert site.keeper.table is not None
    assert {g.nodes for g in site.keeper.table.groups} == {frozenset({3})}
    assert set(site.owners().values()) == {"cas3"}
    site.judge(UP, 1, 2)
    await site.keeper.settled()
    assert {g.nodes for g in site.keeper.table.groups} == {frozenset({1, 2, 3})}


async def test_connections_of_a_lost_member_are_reset_and_no_others(site: Site) -> None:
    before = site.owners()
    site.judge(DOWN, 3)
    await site.keeper.settled()
    await asyncio.sleep(0)
    assert {str(c.client) for c in site.forwarder.lost} == {c for c in CLIENTS if before[c] == "cas3"}


async def test_a_member_that_returns_moves_nobody_who_is_pinned(site: Site) -> None:
    site.owners()
    site.judge(DOWN, 2)
    await site.keeper.settled()
    settled = site.owners()
    site.judge(UP, 2)
    await site.keeper.settled()
    assert site.owners() == settled
    assert site.forwarder.connect("10.77.0.9", 5001) is not None


async def test_a_draining_member_keeps_its_clients_and_gets_no_new_ones(site: Site) -> None:
    before = site.owners()
    site.keeper.wish({"cas1": ServerWish(Wish.DRAIN)})
    await site.keeper.settled()
    assert site.owners() == before
    assert "cas1" not in {site.forwarder.connect(f"10.99.{n // 250}.{n % 250 + 1}", 5001) for n in range(500)}
    assert site.ended == []


async def test_a_drain_whose_deadline_passes_ends_in_resets(site: Site) -> None:
    site.owners()
    site.keeper.wish({"cas1": ServerWish(Wish.DRAIN, site.clock.now + 0.2)})
    await site.keeper.settled()
    assert site.ended == []
    site.clock.now += 0.3
    async with asyncio.timeout(5):
        while not site.ended:
            await asyncio.sleep(0.02)
    assert set(site.ended) == {("rpc", 1), ("web", 1)}
    assert "cas1" not in site.owners().values()


async def test_a_deadline_that_passes_while_the_table_is_being_changed_is_not_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = site.forwarder.apply

    async def slowly(changes: Sequence[Change]) -> None:
        await apply(changes)
        site.clock.now += 0.5

    monkeypatch.setattr(site.forwarder, "apply", slowly)
    site.keeper.wish({"cas1": ServerWish(Wish.DRAIN, site.clock.now + 0.2)})
    async with asyncio.timeout(5):
        while not site.ended:
            await asyncio.sleep(0.02)
    assert set(site.ended) == {("rpc", 1), ("web", 1)}


async def test_a_drain_that_is_over_stays_over_when_the_clock_is_set_back(site: Site) -> None:
    site.keeper.wish({"cas1": ServerWish(Wish.DRAIN, site.clock.now + 0.1)})
    site.clock.now += 1
    assert site.keeper.effective_wish("cas1").wish is Wish.OUT
    site.clock.now -= 3600
    assert site.keeper.effective_wish("cas1").wish is Wish.OUT
    site.keeper.wish({"cas1": ServerWish(Wish.DRAIN, site.clock.now + 60)})
    assert site.keeper.effective_wish("cas1").wish is Wish.DRAIN


async def test_a_standby_member_serves_only_while_no_active_one_is_left(site: Site) -> None:
    site.keeper.wish({"cas3": ServerWish(Wish.STANDBY)})
    await site.keeper.settled()
    assert set(site.owners().values()) == {"cas1", "cas2"}
    site.judge(DOWN, 1, 2)
    await site.keeper.settled()
    assert set(site.owners().values()) == {"cas3"}
    site.judge(UP, 1)
    await site.keeper.settled()
    assert set(site.owners().values()) == {"cas3"}, "clients of the standby server are not sent back"
    assert site.forwarder.connect("10.99.0.1", 5001) == "cas1"


async def test_a_member_taken_out_gets_nobody(site: Site) -> None:
    site.keeper.wish({"cas1": ServerWish(Wish.OUT), "cas2": ServerWish(Wish.OUT)})
    await site.keeper.settled()
    assert set(site.owners().values()) == {"cas3"}


async def test_when_all_look_down_the_last_known_good_ones_are_kept(site: Site) -> None:
    site.judge(DOWN, 1)
    await site.keeper.settled()
    site.ended.clear()
    site.judge(DOWN, 2, 3)
    await site.keeper.settled()
    assert set(site.owners().values()) == {"cas2", "cas3"}
    assert site.ended == []
    site.judge(UP, 1)
    await site.keeper.settled()
    # Those that were kept have time to look well again, too; who is new goes to the one that does.
    assert set(site.owners().values()) == {"cas2", "cas3"}
    assert site.forwarder.connect("10.13.0.1", 5001) == "cas1"
    assert site.ended == []
    site.judge(UP, 2)
    site.clock.now += 60
    site.judge(UP, 1)
    await site.keeper.settled()
    assert set(site.owners().values()) == {"cas1", "cas2"}
    assert site.ended == [("rpc", 3), ("web", 3)]


async def test_a_reprieve_after_a_panic_ends_by_itself(site: Site) -> None:
    site.judge(DOWN, 1, 2, 3)
    await site.keeper.settled()
    site.judge(UP, 1)
    await site.keeper.settled()
    assert site.ended == []
    site.clock.now += site.keeper._reprieve_seconds() - 0.01
    async with asyncio.timeout(5):
        while len(site.ended) < 4:
            await asyncio.sleep(0.01)
            site.clock.now += 0.01
    assert set(site.ended) == {(group, member) for group in ("rpc", "web") for member in (2, 3)}


async def test_when_all_are_down_and_the_array_is_told_to_refuse_it_refuses() -> None:
    site = Site(plan(panic=Panic.REFUSE))
    site.judge(UP, 1, 2, 3)
    await site.keeper.start()
    site.judge(DOWN, 1, 2, 3)
    await site.keeper.settled()
    assert set(site.owners().values()) == {None}
    await site.keeper.close(keep=True)


async def test_a_new_process_adopts_the_table_and_changes_nothing(site: Site) -> None:
    before = site.owners()
    await site.keeper.close(keep=True)
    site.forwarder.applied.clear()
    successor = Gatekeeper(plan(), site.forwarder, site.clock)
    assert await successor.adopt()
    await successor.start()
    assert site.forwarder.applied == []
    assert site.owners() == before
    await successor.close(keep=True)


async def test_what_somebody_else_changed_is_put_right(site: Site) -> None:
    before = site.owners()
    site.forwarder.steering.apply(Expel("rpc", 1))
    site.forwarder.steering.apply(Expel("rpc", 2))
    site.keeper.distrust()
    await site.keeper.settled()
    assert site.forwarder.steering.table is not None
    assert site.forwarder.steering.table.groups[0].nodes == {1, 2, 3}
    assert site.owners() == before


async def test_news_of_somebody_elses_hand_end_the_wait_after_a_failure(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "RETRY_SECONDS", 3600.0)
    site.forwarder.fails = Unavailable("the table is gone")
    site.judge(DOWN, 1)
    async with asyncio.timeout(5):
        while not site.keeper.fault:
            await asyncio.sleep(0)
        site.forwarder.fails = None
        await site.keeper.put_right()
    assert not site.keeper.fault
    assert "cas1" not in site.owners().values()


async def test_a_forwarder_that_fails_is_tried_again_until_it_works(site: Site) -> None:
    site.forwarder.fails = Unavailable("the kernel says no")
    site.judge(DOWN, 1)
    async with asyncio.timeout(5):
        while not site.keeper.fault:
            await asyncio.sleep(0.01)
    assert "the kernel says no" in site.keeper.fault
    site.forwarder.fails = None
    async with asyncio.timeout(10):
        await site.keeper.settled()
    assert site.keeper.fault == ""
    assert "cas1" not in site.owners().values()


async def test_waiting_ends_when_the_table_cannot_be_changed(site: Site) -> None:
    site.forwarder.fails = Unavailable("the kernel says no")
    site.judge(DOWN, 1)
    async with asyncio.timeout(5):
        assert not await site.keeper.settled()
        assert "the kernel says no" in site.keeper.fault
        site.forwarder.fails = None
        assert await site.keeper.settled()
    assert "cas1" not in site.owners().values()


async def test_waiting_ends_when_the_array_is_closed() -> None:
    site = Site(plan())
    await site.keeper.start()
    site.forwarder.fails = Unavailable("the kernel says no")
    waiting = asyncio.create_task(site.keeper.put_right())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    async with asyncio.timeout(5):
        await site.keeper.close(keep=True)
        await waiting
        assert not await site.keeper.settled()
    assert site.keeper.restored == 0


async def test_a_fault_that_nobody_thought_of_does_not_end_the_loop(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "RETRY_SECONDS", 0.01)
    apply = site.forwarder.apply

    async def no_thread(_changes: Sequence[Change]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(site.forwarder, "apply", no_thread)
    site.judge(DOWN, 1)
    async with asyncio.timeout(5):
        assert not await site.keeper.settled()
        assert "can't start new thread" in site.keeper.fault
        monkeypatch.setattr(site.forwarder, "apply", apply)
        assert await site.keeper.settled()
    assert "cas1" not in site.owners().values()
    site.judge(UP, 1)
    assert await site.keeper.settled()
    assert "cas1" in {site.forwarder.connect(f"10.99.0.{n}", 5001) for n in range(1, 60)}


async def test_a_plan_that_comes_while_the_table_is_being_changed_waits_for_its_turn(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[str] = []
    monkeypatch.setattr(Gatekeeper, "_note_fault", lambda _self, error: faults.append(repr(error)))
    admitting, go_on = asyncio.Event(), asyncio.Event()
    apply = site.forwarder.apply

    async def slowly(changes: Sequence[Change]) -> None:
        if any(isinstance(change, Admit) for change in changes):
            admitting.set()
            await go_on.wait()
        await apply(changes)

    site.judge(DOWN, 3)
    assert await site.keeper.settled()
    monkeypatch.setattr(site.forwarder, "apply", slowly)
    site.judge(UP, 3)
    async with asyncio.timeout(5):
        await admitting.wait()
        more = (*plan().array.services, Service("imap", 143, "mail"))
        site.keeper.replan(replace(plan(2, services=more), group_ids={"rpc": 1, "web": 2, "mail": 3}))
        go_on.set()
        assert await site.keeper.settled()
    assert faults == []
    assert site.keeper.table is not None
    assert {g.name for g in site.keeper.table.groups} == {"rpc", "web", "mail"}


async def test_a_server_that_is_put_in_again_has_to_prove_itself(site: Site) -> None:
    site.keeper.replan(plan(servers=2))
    assert await site.keeper.settled()
    site.keeper.replan(plan(servers=3))
    assert await site.keeper.settled()
    assert site.keeper.table is not None
    assert {g.nodes for g in site.keeper.table.groups} == {frozenset({1, 2})}


async def test_a_table_that_cannot_be_removed_is_let_go_of_all_the_same() -> None:
    site = Site(plan())
    await site.keeper.start()
    site.forwarder.fails = Unavailable("the kernel says no")
    with pytest.raises(Unavailable):
        await site.keeper.close(keep=False)
    assert site.forwarder.closed is False


async def test_a_server_that_leaves_the_configuration_is_reset_and_forgotten(site: Site) -> None:
    before = site.owners()
    site.keeper.replan(plan(servers=2))
    await site.keeper.settled()
    after = site.owners()
    assert {c for c in CLIENTS if before[c] != after[c]} == {c for c in CLIENTS if before[c] == "cas3"}
    assert set(site.ended) == {("rpc", 3), ("web", 3)}


async def test_a_member_that_comes_up_late_starts_slowly() -> None:
    site = Site(plan(health=HealthPolicy(slow_start=100.0)))
    site.judge(UP, 1, 2)
    site.judge(DOWN, 3)
    await site.keeper.start()
    site.judge(Verdict(True, up_since=site.clock.now), 3)
    await site.keeper.settled()
    assert site.keeper.table is not None
    share = site.keeper.table.groups[0].slots.count(3) / 1021
    assert 0 < share < 0.1
    site.clock.now += 101
    site.judge(Verdict(True, up_since=site.clock.now - 101), 3)
    await site.keeper.settled()
    assert site.keeper.table.groups[0].slots.count(3) / 1021 == pytest.approx(1 / 3, abs=0.02)
    await site.keeper.close(keep=True)


async def test_a_close_that_comes_with_news_is_not_overheard() -> None:
    for _ in range(20):
        it = Site(plan())
        it.judge(UP, 1, 2, 3)
        await it.keeper.start()
        await asyncio.sleep(0)
        it.keeper.wish({"cas1": ServerWish(Wish.DRAIN, it.clock.now + 3600)})
        async with asyncio.timeout(10):
            await it.keeper.close(keep=True)
