"""RPC on real sockets: who is let in, and who is cut off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from casarray.adapters.net.rpc_listener import Limits, RpcListener
from casarray.core.dcerpc.association import Call, RpcServer
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.errors import CasarrayError, Conflict, Denied
from casarray.core.forwarding.table import Address
from casarray.lab.channel import Channel

HERE = "127.62.0.1"


class Echo:
    """Answers every call with its stub."""

    def __init__(self, gone: list[Address], client: Address) -> None:
        self.rpc = RpcServer((RFR,))
        self._gone, self._client = gone, client

    def answer(self, call: Call) -> bytes:
        if call.stub == b"expired":
            raise Denied("the ticket has run out")
        return call.reply(call.stub)

    def gone(self) -> None:
        self._gone.append(self._client)


class Served:
    """A listener, where it listens, and whose connections have ended."""

    def __init__(self, limits: Limits) -> None:
        self.gone: list[Address] = []
        place = (ip_address(HERE), 0, lambda client: Echo(self.gone, client))
        self.listener = RpcListener((place,), limits)
        self.port = 0

    async def channel(self, source: str = "127.62.1.1") -> Channel:
        opened = await Channel.open(HERE, self.port, source, 5.0)
        await opened.bind(RFR)
        return opened


@asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[Served]:
    one = Served(Limits(**limits))
    (one.port,) = await one.listener.start()
    try:
        yield one
    finally:
        await one.listener.close()


async def soon(so: Callable[[], object]) -> None:
    end = asyncio.get_running_loop().time() + 15
    while not so():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.02)


async def test_a_call_is_answered_and_an_end_is_told() -> None:
    async with served() as one:
        opened = await one.channel()
        assert (await opened.call(RFR, 0, b"hello")).stub == b"hello"
        assert one.listener.connections == 1
        opened.close()
        await soon(lambda: one.gone == [ip_address("127.62.1.1")])
        assert one.listener.connections == 0


async def test_one_client_does_not_get_more_connections_than_its_share() -> None:
    async with served(per_client=2) as one:
        mine = [await one.channel() for _ in range(2)]
        with pytest.raises(CasarrayError):
            await one.channel()
        mine.append(await one.channel("127.62.1.2"))  # another client has its own
        mine[0].close()
        await soon(lambda: one.listener.connections == 2)
        mine.append(await one.channel())
        assert one.listener.counters()["refused:client_limit"] == 1
        for opened in mine:
            opened.close()


async def test_all_clients_together_do_not_get_more_than_there_are() -> None:
    async with served(total=1) as one:
        opened = await one.channel()
        with pytest.raises(CasarrayError):
            await one.channel("127.62.1.2")
        assert one.listener.counters()["refused:total_limit"] == 1
        opened.close()


async def test_who_says_nothing_is_cut_off_and_who_has_spoken_is_not() -> None:
    async with served(silent=0.2, idle=600) as one:
        speaking = await one.channel()
        silent = await Channel.open(HERE, one.port, "127.62.1.2", 5.0)
        await asyncio.wait_for(silent.lost, 15)
        assert one.listener.counters()["timeout:silent"] == 1
        assert (await speaking.call(RFR, 0, b"still here")).stub == b"still here"
        speaking.close()


async def test_who_is_idle_for_too_long_is_cut_off() -> None:
    async with served(idle=0.3) as one:
        opened = await one.channel()
        await asyncio.wait_for(opened.lost, 15)
        assert one.listener.counters()["timeout:idle"] == 1


async def test_octets_that_are_no_rpc_end_that_connection_alone() -> None:
    async with served() as one:
        opened = await one.channel()
        reader, writer = await asyncio.open_connection(HERE, one.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 15)
        writer.close()
        assert any(event.startswith("wire_error:") for event in one.listener.counters())
        assert (await opened.call(RFR, 0, b"here")).stub == b"here"
        opened.close()


async def test_a_caller_whose_answers_cannot_be_signed_any_more_is_hung_up_on() -> None:
    async with served() as one:
        opened = await one.channel()
        with pytest.raises(CasarrayError):
            await opened.call(RFR, 0, b"expired")
        assert one.listener.counters()["denied"] == 1


async def test_who_does_not_read_is_not_answered_without_end() -> None:
    async with served(idle=1.0) as one:
        reader, writer = await asyncio.open_connection(HERE, one.port, limit=1024)
        channel = Channel()
        writer.write(channel.rpc.bind(RFR))
        channel.rpc.receive(await reader.read(4096))
        question = channel.rpc.call(RFR, 0, bytes(5000))
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's is one that reads, too
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(4000):
                writer.write(question)
                await asyncio.wait_for(writer.drain(), 0.5)
        await soon(lambda: one.listener.connections == 0)
        writer.transport.abort()


async def test_the_end_is_an_end_for_everybody_and_the_place_is_free_again() -> None:
    async with served() as one:
        opened = await one.channel()
        await one.listener.close()
        await asyncio.wait_for(opened.lost, 15)
        assert one.listener.connections == 0
        again = RpcListener(((ip_address(HERE), one.port, lambda client: Echo([], client)),))
        await again.start()
        await again.close()


async def test_a_place_that_is_taken_leaves_nothing_listening() -> None:
    async with served() as one:
        free = (ip_address("127.62.0.2"), 0, lambda client: Echo([], client))
        second = RpcListener((free, (ip_address(HERE), one.port, free[2])))
        with pytest.raises(Conflict, match="is taken"):
            await second.start()
        await second.close()
