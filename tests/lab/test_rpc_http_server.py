"""The lab server's ports for RPC over HTTP, asked as proxies and as version 1 do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

from impacket.dcerpc.v5 import oxabref, transport
from impacket.uuid import uuidtup_to_bin

from casarray.adapters.net.dial import DialProber
from casarray.core.config import ProbeKind, Service
from casarray.core.health.probes import Target
from casarray.core.rpc_http.messages import ConnA2, ConnB2, ConnB3, ConnC
from casarray.core.rpc_http.rts import decode_rts
from casarray.core.rpc_http.server import BANNER
from casarray.lab.journal import user_dn
from casarray.lab.rpc_http_server import PORTS, RpcHttpServer
from casarray.lab.server import Behaviour, Connection, LabServer

HOST = "127.63.0.1"


@dataclass
class Lab:
    server: LabServer
    http: RpcHttpServer


@contextlib.asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    server = LabServer("cas1", [HOST], {"epm": 0})
    await server.start()
    http = RpcHttpServer(
        lambda service: Connection(server, server.services[service]),
        lambda service: server.services[service].behaviour is Behaviour.REFUSE,
    )
    await http.start((HOST,), dict.fromkeys(PORTS, 0))
    try:
        yield Lab(server, http)
    finally:
        http.close()
        await server.close()


async def test_the_two_halves_of_a_client_are_joined_by_their_cookie() -> None:
    async with lab() as here:
        cookie, client = uuid4(), ip_address("10.11.0.31")
        out, out_writer = await asyncio.open_connection(HOST, here.http.ports[6001])
        into, in_writer = await asyncio.open_connection(HOST, here.http.ports[6001])
        assert await out.readexactly(14) == await into.readexactly(14) == BANNER
        out_writer.write(ConnA2(1, cookie, uuid4(), 1 << 30, 65536).encode())
        in_writer.write(ConnB2(1, cookie, uuid4(), 65536, 900_000, uuid4(), client).encode())
        assert ConnB3.read(decode_rts(await into.readexactly(36))).window == 65536
        assert ConnC.read(decode_rts(await out.readexactly(44))).timeout == 900_000
        assert [connection.peer for connection in here.server.services["rpc"].connections] == [("10.11.0.31", 0)]
        out_writer.close()
        assert await into.read() == b""
        assert not here.http.ends
        in_writer.close()


async def test_garbage_ends_the_connection() -> None:
    async with lab() as here:
        reader, writer = await asyncio.open_connection(HOST, here.http.ports[6002])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == BANNER
        writer.close()


async def test_impacket_goes_on_after_the_greeting_as_version_1_does() -> None:
    def ask(port: int) -> str:
        rpc: Any = transport.DCERPCTransportFactory(f"ncacn_http:{HOST}[{port}]")
        dce = rpc.get_dce_rpc()
        dce.connect()
        dce.bind(uuidtup_to_bin(("1544F5E0-613C-11D1-93DF-00C04FD7BD09", "1.0")))
        answer = oxabref.hRfrGetNewDSA(dce, user_dn("user00001"))
        dce.disconnect()
        return str(answer["ppszServer"]).rstrip("\0")

    async with lab() as here:
        assert await asyncio.to_thread(ask, here.http.ports[6002]) == "cas1.lab.example"


async def test_a_service_that_is_stopped_does_not_greet() -> None:
    async with lab() as here:
        await here.server.behave(here.server.services["rpc"], Behaviour.REFUSE)
        reader, writer = await asyncio.open_connection(HOST, here.http.ports[6001])
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_the_probe_finds_the_server_up_by_its_greeting() -> None:
    http = RpcHttpServer(lambda _service: Connection(server, server.services["rpc"]))
    server = LabServer("cas1", ["127.63.0.2"], {"epm": 0})
    await http.start(("127.63.0.2",))
    prober = DialProber()
    try:
        for port in PORTS:
            service = Service("rpch", port, "rpc", ProbeKind.RPC_HTTP)
            answer, _ = await prober.probe(Target("cas1", (ip_address("127.63.0.2"),), service), 5.0)
            assert answer.up, answer.reason
    finally:
        prober.close()
        http.close()
