"""What becomes of pins when somebody else flushes the table, on the real kernel."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest

from casarray.adapters.kernel import guard, pins, slots
from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.adapters.kernel.guard import TableGuard
from casarray.core.affinity.choose import choose
from casarray.core.errors import Unavailable
from casarray.core.forwarding.diff import diff
from casarray.core.forwarding.table import Group, Member, Table
from casarray.lab.netns import Lab, Namespace, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

RPC = Group(
    id=1,
    name="rpc",
    ports=(5001,),
    nodes=frozenset({1, 2}),
    slots=(1, 2) * 100,
    backup=(2, 1) * 100,
    affinity_seconds=3600,
    dynamic=True,
)
MEMBERS = (Member(1, "cas1", (ip_address("10.12.0.21"),)), Member(2, "cas2", (ip_address("10.12.0.22"),)))
TABLE = Table(array="CAS", addresses=(ip_address("10.11.0.100"),), seed=1, members=MEMBERS, groups=(RPC,))
CLIENT = ip_address("10.32.0.7")


@dataclass
class Gateway:
    """A forwarder in a namespace of its own, and one client that is pinned where its slot would not lead it."""

    namespace: Namespace
    forwarder: KernelForwarder
    elsewhere: int

    async def put(self) -> None:
        await self.forwarder.apply(diff(TABLE, await self.forwarder.observe()))


@pytest.fixture
def inside() -> Iterator[Namespace]:
    if reason := missing():
        pytest.skip(reason)
    with Lab() as lab:
        namespace = lab.namespace("gateway")
        with namespace.inside():
            yield namespace


@pytest.fixture
async def gateway(inside: Namespace) -> AsyncIterator[Gateway]:
    forwarder = KernelForwarder("CAS")
    by_slot = choose(RPC, TABLE.seed, CLIENT, None).member_id
    made = Gateway(inside, forwarder, 1 if by_slot == 2 else 2)
    await made.put()
    forwarder.pin("rpc", CLIENT, made.elsewhere)
    yield made
    await forwarder.close(keep=False)


async def test_a_table_made_anew_has_its_pins_before_its_slots(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.forwarder.spare_pins = {"rpc": await gateway.forwarder.dump_pins("rpc")}
    pinned: list[int | None] = []
    fill = slots.Filler.fill

    def watched(self: slots.Filler, *arguments: Any) -> None:
        pinned.append(gateway.forwarder.pinned("rpc", CLIENT))
        fill(self, *arguments)

    monkeypatch.setattr(slots.Filler, "fill", watched)
    gateway.namespace.run("nft", "flush", "ruleset")
    await gateway.put()
    assert pinned == [gateway.elsewhere]


async def test_while_its_pins_are_not_back_a_new_table_tells_and_takes_none(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.forwarder.spare_pins = {"rpc": await gateway.forwarder.dump_pins("rpc")}
    restored = pins.restored

    def failing(*_: Any) -> int:
        raise Unavailable("the kernel is busy")

    monkeypatch.setattr(pins, "restored", failing)
    gateway.namespace.run("nft", "flush", "ruleset")
    with pytest.raises(Unavailable, match="busy"):
        await gateway.put()
    # By its slot the client would be led elsewhere, and a pin made now would stay.
    with pytest.raises(Unavailable, match="being put back"):
        gateway.forwarder.pinned("rpc", CLIENT)
    with pytest.raises(Unavailable, match="being put back"):
        gateway.forwarder.pin("rpc", CLIENT, 3 - gateway.elsewhere)
    monkeypatch.setattr(pins, "restored", restored)
    await gateway.put()
    assert gateway.forwarder.pinned("rpc", CLIENT) == gateway.elsewhere


async def test_the_guard_puts_table_and_pins_back(gateway: Gateway) -> None:
    watch = asyncio.create_task(TableGuard(gateway.forwarder, lambda: ["rpc"], gateway.put).watch())
    while not gateway.forwarder.spare_pins:
        await asyncio.sleep(0.01)
    gateway.namespace.run("nft", "flush", "ruleset")
    async with asyncio.timeout(20):
        while await gateway.forwarder.observe() is None:
            await asyncio.sleep(0.02)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert gateway.forwarder.pinned("rpc", CLIENT) == gateway.elsewhere


async def test_a_copy_that_a_flush_cut_short_does_not_replace_the_last_good_one(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "EVERY_SECONDS", 0.01)
    good, copies = await gateway.forwarder.dump_pins("rpc"), 0

    async def dump(_group: str) -> bytes:
        nonlocal copies
        copies += 1
        if copies == 2:
            gateway.namespace.run("nft", "flush", "ruleset")
        # What was read until the table went away, and what the new one holds before its pins are back: not all of it.
        return good if copies == 1 else good[:4] + bytes(8)

    monkeypatch.setattr(gateway.forwarder, "dump_pins", dump)
    watched = TableGuard(gateway.forwarder, lambda: ["rpc"], gateway.put)
    watch = asyncio.create_task(watched.watch())
    async with asyncio.timeout(20):
        while copies < 2:
            await asyncio.sleep(0.01)
        assert gateway.forwarder.spare_pins == {"rpc": good}
        await asyncio.sleep(guard.DOUBT_SECONDS * 1.5)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert gateway.forwarder.spare_pins == {"rpc": good}
    assert gateway.forwarder.pinned("rpc", CLIENT) == gateway.elsewhere


async def test_pins_are_copied_every_second_while_there_are_few(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "EVERY_SECONDS", 0.01)
    copies = 0

    async def dump(_group: str) -> bytes:
        nonlocal copies
        copies += 1
        return b"CAP1" + bytes(8)

    monkeypatch.setattr(gateway.forwarder, "dump_pins", dump)
    watch = asyncio.create_task(TableGuard(gateway.forwarder, lambda: ["rpc"], gateway.put).watch())
    async with asyncio.timeout(2.0):  # that it waits in doubt after each is no work, and is not to be made up for
        while copies < 4:
            await asyncio.sleep(0.01)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_a_guard_that_breaks_begins_again_and_looks_at_what_it_missed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "AGAIN_SECONDS", 0.05)
    news, dump, broken = gateway.forwarder.foreign_changes, gateway.forwarder.dump_pins, 0

    async def out_of_descriptors() -> AsyncIterator[None]:
        nonlocal broken
        broken += 1
        if broken == 1:
            gateway.namespace.run("nft", "flush", "ruleset")
            raise Unavailable("too many open files")
        async for one in news():
            yield one

    async def cannot(_group: str) -> bytes:
        monkeypatch.setattr(gateway.forwarder, "dump_pins", dump)
        raise RuntimeError("can't start new thread")

    gateway.forwarder.spare_pins = {"rpc": await gateway.forwarder.dump_pins("rpc")}
    monkeypatch.setattr(gateway.forwarder, "foreign_changes", out_of_descriptors)
    monkeypatch.setattr(gateway.forwarder, "dump_pins", cannot)
    watched = TableGuard(gateway.forwarder, lambda: ["rpc"], gateway.put)
    watch = asyncio.create_task(watched.watch())
    async with asyncio.timeout(20):
        while broken < 2 or not watched.copied or await gateway.forwarder.observe() is None:
            await asyncio.sleep(0.02)
    assert gateway.forwarder.pinned("rpc", CLIENT) == gateway.elsewhere
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_pins_of_a_group_that_is_gone_are_forgotten_and_keep_none_of_the_others_away(gateway: Gateway) -> None:
    good = await gateway.forwarder.dump_pins("rpc")
    gateway.forwarder.spare_pins = {"gone": good, "rpc": good}
    restored = asyncio.Event()

    async def put_and_lose_pins() -> None:
        await gateway.put()
        gateway.namespace.run("nft", "flush", "map", "inet", "casarray_cas", "pin4_rpc")
        gateway.forwarder.spare_pins = {"gone": good, "rpc": good}
        restored.set()

    watch = asyncio.create_task(TableGuard(gateway.forwarder, lambda: ["rpc"], put_and_lose_pins).watch())
    async with asyncio.timeout(20):
        while "gone" in gateway.forwarder.spare_pins:
            await asyncio.sleep(0.01)
        gateway.namespace.run("nft", "flush", "map", "inet", "casarray_cas", "slots_rpc")
        await restored.wait()
        while gateway.forwarder.pinned("rpc", CLIENT) != gateway.elsewhere:
            await asyncio.sleep(0.01)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_very_many_pins_are_not_copied_since_verdicts_would_wait_for_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = TableGuard(gateway.forwarder, lambda: ["rpc"], gateway.put)
    await watching._copy()
    assert gateway.forwarder.spare_pins["rpc"]
    monkeypatch.setattr(guard, "MOST_COPIED", 0)
    await watching._copy()
    assert gateway.forwarder.spare_pins == {}
    monkeypatch.setattr(guard, "MOST_COPIED", 1)
    await watching._copy()
    assert gateway.forwarder.spare_pins["rpc"]


async def test_a_copy_that_is_not_whole_does_not_replace_one_that_is(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 40):
        gateway.forwarder.pin("rpc", ip_address(f"10.32.1.{number}"), 1)
    watching = TableGuard(gateway.forwarder, lambda: ["rpc"], gateway.put)
    await watching._copy()
    whole = gateway.forwarder.spare_pins["rpc"]
    assert pins.held(whole) == 40
    gateway.forwarder.pin("rpc", ip_address("10.32.1.99"), 1)

    async def cut_short(_group: str) -> bytes:
        return whole

    monkeypatch.setattr(gateway.forwarder, "dump_pins", cut_short)
    gateway.forwarder.spare_pins["rpc"] = b"an older one"
    await watching._copy()
    assert gateway.forwarder.spare_pins["rpc"] == b"an older one"
