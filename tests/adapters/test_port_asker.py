"""Endpoint mappers asked over real connections on loopback: lab servers, good and bad."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from casarray.adapters.port_asker import StreamPortAsker, ask_ports
from casarray.core.fixed_ports.asking import Answers
from casarray.core.fixed_ports.ports import FixedPorts, RpcService
from casarray.core.fixed_ports.subject import Subject, Target
from casarray.lab.server import Behaviour, LabServer

HOST, NOWHERE = "127.63.0.1", "127.63.0.99"
BOTH = tuple(RpcService)


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[LabServer]:
    """A lab server with dynamic ports."""
    server = LabServer("cas1", [HOST], {"epm": 0}, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.close()
        await asyncio.sleep(0)


async def ask(server: LabServer, *hosts: str, seconds: float = 2.0, services: tuple[RpcService, ...] = BOTH) -> Answers:
    target = Target("cas1", hosts or (HOST,), services)
    return await StreamPortAsker().ask(target, server.services["epm"].port, seconds)


async def test_a_server_says_the_ports_it_really_listens_on() -> None:
    async with running() as server:
        ab, rpc = server.services["ab"].port, server.services["rpc"].port
        assert await ask(server) == Answers("cas1", {"EMSMDB": (rpc,), "NSPI": (ab,), "RFR": (ab,)})


async def test_of_a_mailbox_server_only_client_access_is_asked_for() -> None:
    async with running() as server:
        assert set((await ask(server, services=(RpcService.RPC,))).ports) == {"EMSMDB"}


async def test_the_next_address_is_tried_when_nobody_is_at_the_first() -> None:
    async with running() as server:
        assert (await ask(server, NOWHERE, HOST)).answered


async def test_a_name_is_looked_up() -> None:
    async with running() as server:
        found = await ask(server, "no-such-host.invalid", seconds=5)
    assert not found.answered
    assert "cas1 cannot be reached" in found.reason


async def test_nobody_there_is_told_at_once() -> None:
    async with running() as server:
        assert (await ask(server, NOWHERE)).reason == f"cas1 refuses connections on {server.services['epm'].port}"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Behaviour.HANG_ACCEPT, "does not answer the bind to the endpoint mapper"),
        (Behaviour.HANG_BIND, "does not answer ept_map for EMSMDB"),
        (Behaviour.GARBAGE, "what it sends does not"),
        (Behaviour.RESET, "the connection and does not answer the bind"),
    ],
)
async def test_a_server_that_misbehaves_ends_in_a_reason_in_time(behaviour: Behaviour, reason: str) -> None:
    loop = asyncio.get_running_loop()
    async with running() as server:
        await server.behave(server.services["epm"], behaviour)
        began = loop.time()
        found = await ask(server, seconds=0.3)
        assert loop.time() - began < 2
    assert found.ports == {}
    assert reason in found.reason


def test_all_are_asked_together_on_a_loop_of_their_own() -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def somewhere() -> int:
        server = await asyncio.start_server(silent, HOST, 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return port

    port = asyncio.run(somewhere())
    targets = tuple(Target(f"cas{n}", (HOST,), BOTH) for n in range(20))
    subject = Subject("CAS", "cas.domain.tld", "S", FixedPorts(), {}, targets, port)
    found = ask_ports([subject], 2.0, lambda _: None)
    assert [(a.server, a.answered) for a in found] == [(f"cas{n}", False) for n in range(20)]
