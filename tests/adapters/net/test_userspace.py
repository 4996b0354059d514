"""What only the userspace forwarder has: listeners, limits, and word of members that cannot be reached."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from casarray.adapters.net.relay import RelayLimits
from casarray.adapters.net.userspace import Limits, UserspaceForwarder
from casarray.core.errors import Conflict, NotFound, Unavailable
from casarray.core.forwarding.diff import Admit, Structure
from casarray.core.forwarding.table import Group, Member, OpenRange, Pinhole, Table

CORNER = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}"
VIP, MEMBER, CLIENT = f"{CORNER}.200", f"{CORNER}.201", f"{CORNER}.210"
PORT, DYNAMIC = 5000, 6001


def table(**changed: Any) -> Table:
    group = Group(1, "rpc", (PORT,), frozenset(), (7,), (0,), affinity_seconds=60, dynamic=True)
    wanted = Table("test", (ip_address(VIP),), 1, (Member(7, "one", (ip_address(MEMBER),)),), (group,), 5135)
    return replace(wanted, **changed)


class Bench:
    """A forwarder and one member that repeats what it hears."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.peers: list[str] = []
        self.unreachable: list[tuple[str, int]] = []
        self.loop = asyncio.get_running_loop()

    async def start(self, limits: Limits = Limits(), **changed: Any) -> UserspaceForwarder:  # noqa: B008 - frozen
        forwarder = UserspaceForwarder(
            limits=limits, unreachable=lambda group, member: self.unreachable.append((group, member))
        )
        self.stack.push_async_callback(forwarder.close, keep=False)
        await forwarder.apply([Structure(table(**changed)), Admit("rpc", 7)])
        return forwarder

    async def serve(self, port: int = PORT) -> None:
        server = await asyncio.start_server(self._repeat, MEMBER, port)
        self.stack.callback(server.close)

    async def _repeat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername")[0])
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connect(self, client: str = CLIENT, port: int = PORT) -> socket.socket:
        side = socket.socket()
        self.stack.callback(side.close)
        side.setblocking(False)
        side.bind((client, 0))
        await asyncio.wait_for(self.loop.sock_connect(side, (VIP, port)), 2)
        return side

    async def served(self, client: str = CLIENT) -> bool:
        """Connect, and stay connected; whether a byte comes back."""
        try:
            return await self.works(await self.connect(client))
        except ConnectionResetError:
            return False

    async def works(self, side: socket.socket) -> bool:
        """Whether a byte comes back."""
        try:
            await self.loop.sock_sendall(side, b"x")
            return await asyncio.wait_for(self.loop.sock_recv(side, 1), 2) == b"x"
        except ConnectionError:
            return False


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with made.stack:
        yield made


async def test_a_member_that_refuses_is_reported_and_the_client_is_reset(bench: Bench) -> None:
    forwarder = await bench.start()
    assert not await bench.served()
    assert bench.unreachable == [("rpc", 7)]
    assert forwarder.counters() == {"ended:unreachable": 1}
    assert await forwarder.connections() == {}


async def test_a_member_that_answers_is_not_reported(bench: Bench) -> None:
    await bench.start()
    await bench.serve()
    side = await bench.connect()
    assert await bench.works(side)
    side.close()
    await asyncio.sleep(0.05)
    assert bench.unreachable == []


async def test_one_client_has_so_many_connections_and_others_are_not_hurt(bench: Bench) -> None:
    forwarder = await bench.start(Limits(connections_per_client=3))
    await bench.serve()
    first = await bench.connect()
    assert [await bench.served() for _ in range(3)] == [True, True, False]
    assert await bench.served(f"{CORNER}.211")
    first.close()
    await asyncio.sleep(0.05)
    assert await bench.served()
    assert forwarder.counters()["refused:connections_of_client"] == 1


async def test_all_clients_together_have_so_many_connections(bench: Bench) -> None:
    forwarder = await bench.start(Limits(connections=2))
    await bench.serve()
    assert [await bench.served(f"{CORNER}.{210 + n}") for n in range(3)] == [True, True, False]
    assert forwarder.counters()["refused:connections"] == 1


async def test_an_address_and_port_that_is_taken_is_a_conflict_and_changes_nothing(bench: Bench) -> None:
    forwarder = await bench.start()
    await bench.serve()
    group = table().groups[0]
    with socket.create_server((VIP, 5003)), pytest.raises(Conflict, match=rf"{VIP}:5003"):
        await forwarder.apply([Structure(table(groups=(replace(group, ports=(PORT, 5002, 5003)),)))])
    assert (await forwarder.observe() or table()).groups[0].ports == (PORT,)
    assert await bench.works(await bench.connect())
    with pytest.raises(ConnectionRefusedError):
        await bench.connect(port=5002)


async def test_an_address_that_no_interface_has_is_named(bench: Bench) -> None:
    with pytest.raises(Unavailable, match="203.0.113.1:5000"):
        await bench.start(addresses=(ip_address("203.0.113.1"),))


async def test_a_dynamic_port_is_listened_on_only_while_a_pinhole_leads_through_it(bench: Bench) -> None:
    forwarder = await bench.start()
    await bench.serve(DYNAMIC)
    forwarder.open_pinholes([Pinhole("rpc", ip_address(CLIENT), DYNAMIC, 7, 1)])
    with socket.socket() as other:  # no turn of the loop in between: it is there when the call returns
        other.connect((VIP, DYNAMIC))
    side = await bench.connect(port=DYNAMIC)
    assert await bench.works(side)
    await asyncio.sleep(1.1)
    forwarder.tidy()
    with pytest.raises(ConnectionRefusedError):
        await bench.connect(port=DYNAMIC)
    assert await bench.works(side)


async def test_more_dynamic_ports_than_can_be_listened_on_open_none(bench: Bench) -> None:
    forwarder = await bench.start(Limits(dynamic_ports=10))
    client = ip_address(CLIENT)
    with pytest.raises(Unavailable, match="at most 10"):
        forwarder.open_pinholes([OpenRange("rpc", client, 7, 6000, 6010, 60)])
    with pytest.raises(ConnectionRefusedError):
        await bench.connect(port=DYNAMIC)
    forwarder.open_pinholes([OpenRange("rpc", client, 7, 6000, 6009, 60)])
    forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC, 7, 60)])  # one of them


async def test_a_dynamic_port_that_is_taken_opens_none_of_its_pinholes(bench: Bench) -> None:
    forwarder = await bench.start()
    client = ip_address(CLIENT)
    with socket.create_server((VIP, 6002)), pytest.raises(Conflict):
        forwarder.open_pinholes([Pinhole("rpc", client, port, 7, 60) for port in (DYNAMIC, 6002)])
    with pytest.raises(ConnectionRefusedError):
        await bench.connect(port=DYNAMIC)


async def test_pinholes_that_are_refused_leave_no_port_open(bench: Bench) -> None:
    forwarder = await bench.start()
    client = ip_address(CLIENT)
    with pytest.raises(NotFound):
        forwarder.open_pinholes([Pinhole("rpc", client, DYNAMIC, 7, 60), Pinhole("none", client, 6002, 7, 60)])
    with pytest.raises(ConnectionRefusedError):
        await bench.connect(port=DYNAMIC)


async def test_a_client_leaves_from_one_address_of_the_pool_always(bench: Bench) -> None:
    pool = tuple(ip_address(f"{CORNER}.{n}") for n in range(220, 228))
    await bench.start(masquerade=True, source_addresses=pool)
    await bench.serve()
    for n in range(12):
        for _ in range(2):
            assert await bench.works(await bench.connect(f"{CORNER}.{230 + n}"))
    pairs = list(zip(bench.peers[::2], bench.peers[1::2], strict=True))
    assert all(one == other for one, other in pairs)
    assert set(bench.peers) <= set(map(str, pool))
    assert len(set(bench.peers)) > 2


async def test_traffic_counts_bytes_of_living_and_ended_connections(bench: Bench) -> None:
    forwarder = await bench.start()
    await bench.serve()
    sides = [await bench.connect() for _ in range(2)]
    for side in sides:
        assert await bench.works(side)
    sides[0].close()
    await asyncio.sleep(0.05)
    assert (await forwarder.traffic())["rpc", 7].bytes_ == 4
    assert await forwarder.connections() == {("rpc", 7): 1}


async def test_silent_connections_end_when_it_tidies(bench: Bench) -> None:
    forwarder = await bench.start(Limits(relay=RelayLimits(idle=0.1)))
    await bench.serve()
    side = await bench.connect()
    assert await bench.works(side)
    forwarder.tidy()
    await asyncio.sleep(0.15)
    forwarder.tidy()
    assert not await bench.works(side)
    assert forwarder.counters() == {"ended:idle": 1}


async def test_closing_resets_everybody_and_listens_no_more(bench: Bench) -> None:
    forwarder = await bench.start()
    await bench.serve()
    side = await bench.connect()
    assert await bench.works(side)
    await forwarder.close(keep=True)
    with pytest.raises(ConnectionResetError):
        await bench.loop.sock_recv(side, 1)
    with pytest.raises(ConnectionRefusedError):
        await bench.connect()


async def test_without_descriptors_it_waits_and_then_goes_on(bench: Bench) -> None:
    forwarder = await bench.start()
    await bench.serve()
    sides = [socket.socket() for _ in range(3)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as taken:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        with suppress(OSError):
            while True:
                taken.callback(os.close, os.dup(0))
        for side in sides:
            bench.stack.callback(side.close)
            side.setblocking(False)
            await bench.loop.sock_connect(side, (VIP, PORT))
        await asyncio.sleep(0.25)
        assert 1 <= forwarder.counters()["accept_pauses"] <= 4
    assert [await bench.works(side) for side in sides] == [True] * 3
