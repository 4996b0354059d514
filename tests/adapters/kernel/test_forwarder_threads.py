"""The kernel forwarder's threads: what is cancelled, what is busy, and what is broken meanwhile."""

import asyncio
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from casarray.adapters.kernel import nfnetlink
from casarray.adapters.kernel.conntrack import Conntrack
from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.adapters.kernel.resets import Resets
from casarray.adapters.kernel.threads import to_its_end
from casarray.core.errors import Unavailable
from casarray.core.forwarding.diff import Expel, Structure, diff
from casarray.core.forwarding.table import Group, Member, Table
from casarray.lab.netns import Lab, Namespace, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

RPC = Group(1, "rpc", (5001,), frozenset({1, 2}), (1, 2) * 50, (2, 1) * 50, 3600)
MEMBERS = (Member(1, "cas1", (ip_address("10.12.0.21"),)), Member(2, "cas2", (ip_address("10.12.0.22"),)))
TABLE = Table("CAS", (ip_address("10.11.0.100"),), 1, MEMBERS, (RPC,))


@pytest.fixture
def inside() -> Iterator[Namespace]:
    if reason := missing():
        pytest.skip(reason)
    with Lab() as lab:
        namespace = lab.namespace("gateway")
        with namespace.inside():
            yield namespace


async def test_who_is_cancelled_goes_when_the_work_is_done() -> None:
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.2)
        done.set()

    task = asyncio.create_task(to_its_end(work))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_a_table_that_is_just_being_made_is_gone_when_the_forwarder_is_told_to_remove_it(
    inside: Namespace, tmp_path: Path
) -> None:
    slow = tmp_path / "slow-nft"
    slow.write_text('#!/bin/sh\nsleep 0.3\nexec nft "$@"\n')
    slow.chmod(0o755)
    forwarder = KernelForwarder("CAS", program=str(slow))
    making = asyncio.create_task(forwarder.apply(diff(TABLE, None)))
    await asyncio.sleep(0.1)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    await forwarder.close(keep=False)
    await asyncio.sleep(0.5)
    assert "casarray_cas" not in inside.run("nft", "list", "tables").stdout


async def test_a_member_expelled_while_the_rules_change_is_out_before_the_rest_is_done(
    inside: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarder = KernelForwarder("CAS")
    await forwarder.apply(diff(TABLE, await forwarder.observe()))
    loop = asyncio.get_running_loop()
    nodes: list[str] = []
    note, of_misfits = forwarder._note_fingerprint, forwarder._of_misfits

    def expelled_first(*arguments: object) -> dict[str, bytes]:
        asyncio.run_coroutine_threadsafe(forwarder.apply([Expel("rpc", 2)]), loop).result(5)
        return of_misfits(*arguments)  # type: ignore[arg-type]  # whatever the forwarder gives

    def looked_at(*arguments: object) -> None:
        nodes.append(inside.run("nft", "list", "map", "inet", "casarray_cas", "nodes4_rpc").stdout)
        note(*arguments)  # type: ignore[arg-type]  # whatever the forwarder gives

    monkeypatch.setattr(forwarder, "_of_misfits", expelled_first)
    monkeypatch.setattr(forwarder, "_note_fingerprint", looked_at)
    await forwarder.apply([Structure(TABLE)])
    await forwarder.close(keep=False)
    (then,) = nodes
    assert "0:1" in then
    assert "0:2" not in then


class EndlessResets(Resets):
    """Each takes until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def reset(self, _mark: int, _mask: int, *, member_too: bool = False) -> int:  # noqa: ARG002 - as the channel has it
        self.go_on.wait(20)
        return 0


@pytest.mark.usefixtures("inside")
async def test_nothing_waits_behind_a_hundred_resets() -> None:
    resets = EndlessResets()
    forwarder = KernelForwarder("CAS", resets=resets, conntrack=Conntrack())
    await forwarder.apply(diff(TABLE, await forwarder.observe()))
    ending = [asyncio.create_task(forwarder.reset("rpc", 1)) for _ in range(100)]
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(5):
            assert await forwarder.observe() is not None
            assert await forwarder.pins() == {"rpc": 0}
    finally:
        resets.go_on.set()
        await asyncio.gather(*ending)
        await forwarder.close(keep=False)


class CountingConntrack(Conntrack):
    """How often the whole table was walked through."""

    def __init__(self) -> None:
        self.walks = 0

    def halves(self, mark: int, mask: int) -> Iterator[tuple[bytes, bytes]]:
        self.walks += 1
        return super().halves(mark, mask)


@pytest.mark.usefixtures("inside")
async def test_the_connection_table_is_walked_through_once_for_a_group_however_many_members_it_has() -> None:
    conntrack = CountingConntrack()
    forwarder = KernelForwarder("CAS", conntrack=conntrack)
    await forwarder.apply(diff(TABLE, await forwarder.observe()))  # a table made anew looks for living clients
    assert conntrack.walks == 1
    assert await forwarder.refresh_pins(100) == 0
    assert conntrack.walks == 2
    await forwarder.close(keep=False)


async def test_news_that_come_while_others_are_dealt_with_do_not_keep_the_loop_busy(inside: Namespace) -> None:
    forwarder = KernelForwarder("CAS")
    await forwarder.apply(diff(TABLE, await forwarder.observe()))
    dealing, told = asyncio.Event(), 0

    async def deal() -> None:
        nonlocal told
        async for _ in forwarder.foreign_changes():
            told += 1
            dealing.set()
            await asyncio.sleep(0.5)

    task = asyncio.create_task(deal())
    await asyncio.sleep(0.05)
    inside.run("nft", "add", "chain", "inet", "casarray_cas", "first")
    await dealing.wait()
    inside.run("nft", "add", "chain", "inet", "casarray_cas", "second")
    spent = time.process_time()
    await asyncio.sleep(0.4)
    spent = time.process_time() - spent
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await forwarder.close(keep=False)
    assert told == 2
    assert spent < 0.05


@pytest.mark.usefixtures("inside")
async def test_news_that_cannot_be_read_any_more_end_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    forwarder = KernelForwarder("CAS")

    def broken(_self: nfnetlink.Watch, _table: str) -> bool:
        raise Unavailable("out of order")

    monkeypatch.setattr(nfnetlink.Watch, "news", broken)

    async def deal() -> None:
        async for _ in forwarder.foreign_changes():
            pass

    task = asyncio.create_task(deal())
    await asyncio.sleep(0.05)
    await forwarder.apply(diff(TABLE, await forwarder.observe()))
    forwarder._ours.clear()
    forwarder._ignore_ours()
    await forwarder.apply([Expel("rpc", 1)])
    with pytest.raises(Unavailable, match="go unnoticed"):
        await asyncio.wait_for(task, 5)
    await forwarder.close(keep=False)


@pytest.mark.usefixtures("inside")
async def test_a_watch_that_is_closed_stops_nobody() -> None:
    forwarder = KernelForwarder("CAS")
    watch = nfnetlink.Watch([])
    forwarder._watches.append(watch)
    watch.close()
    with forwarder._channel() as channel:
        assert channel.port_id
    await forwarder.close(keep=False)
