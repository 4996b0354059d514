"""The RPC proxy before a lab server: asked by our own client and by impacket, and by those who mean no good."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

import pytest
from impacket.dcerpc.v5 import nspi as impacket_nspi
from impacket.dcerpc.v5 import oxabref, transport
from impacket.dcerpc.v5.rpcrt import DCERPCException
from impacket.http import AUTH_BASIC
from impacket.uuid import uuidtup_to_bin

from casarray.adapters.http_logon import WebLogons
from casarray.adapters.net.rpc_channel import RpcFault
from casarray.adapters.net.rpc_http_client import Basic, HttpLogon, RpcHttpChannel, RpcProxy, open_rpc_http
from casarray.adapters.net.rpc_http_proxy import Limits, RpcHttpProxy, Verdict
from casarray.adapters.rpc_logon import Credential
from casarray.core.dcerpc.client import RpcClient
from casarray.core.dcerpc.interfaces import emsmdb, nspi, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.pdu import Request
from casarray.core.errors import Denied, NotFound, Unavailable
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http.http import IN, OUT, Target, request_head
from casarray.core.rpc_http.messages import ConnA1, ConnB1, Echo, Ping
from casarray.core.rpc_http.proxy import Settings
from casarray.lab.http_gate import NtlmGate
from casarray.lab.journal import user_dn
from casarray.lab.rpc_http_server import PORTS, RpcHttpServer
from casarray.lab.server import Connection, LabServer

HOST, PROXY = "127.62.0.1", "127.62.0.2"
SERVICES = {6001: "rpc", 6002: "ab", 6004: "ab"}
NAME = "cas.lab.example"


@dataclass
class Found:
    address: Address
    port: int
    over_http: bool = False


@dataclass
class OneServer:
    """Every client gets the same server."""

    server: LabServer
    asked: list[tuple[str, str]] = field(default_factory=list)
    host: str = HOST
    up: bool = True
    http: RpcHttpServer | None = None  # the server's ports for RPC over HTTP, if it is to be reached there

    def check(self, target: Target) -> None:
        if target.server != NAME or target.port not in SERVICES:
            raise NotFound(f"there is no {target}")

    async def find(self, target: Target, client: Address) -> Found:
        self.asked.append((str(target), str(client)))
        if self.http is not None:
            return Found(ip_address(self.host), self.http.ports[target.port], over_http=True)
        return Found(ip_address(self.host), self.server.services[SERVICES[target.port]].port)

    def usable(self, place: Any) -> bool:  # noqa: ARG002 - there is one
        return self.up

    def unreachable(self, place: Any) -> None:
        self.asked.append(("unreachable", str(place.address)))


class Password:
    """Lets alice in."""

    def judge(self, credentials: tuple[str, bytes] | None) -> Verdict:
        if credentials == ("basic", b"alice:secret"):
            return Verdict("alice")
        return Verdict(offers=('Basic realm="lab"',))


@dataclass
class Lab:
    server: LabServer
    proxy: RpcHttpProxy
    port: int
    finder: OneServer

    def way(self, **options: Any) -> RpcProxy:
        return RpcProxy(PROXY, self.port, **options)

    async def open(
        self, port: int = 6001, *, server: str = NAME, patience: float = 5.0, **options: Any
    ) -> RpcHttpChannel:
        return await open_rpc_http(self.way(**options), server, port, patience=patience)


@contextlib.asynccontextmanager
async def lab_over_http(**options: Any) -> AsyncIterator[Lab]:
    """The proxy speaks RPC over HTTP to the server as well."""
    async with lab(**options) as here:
        http = RpcHttpServer(lambda service: Connection(here.server, here.server.services[service]))
        await http.start((HOST,), dict.fromkeys(PORTS, 0))
        here.finder.http = http
        try:
            yield here
        finally:
            http.close()


@contextlib.asynccontextmanager
async def lab(**options: Any) -> AsyncIterator[Lab]:
    server = LabServer("cas1", [HOST], {"epm": 0})
    await server.start()
    finder = OneServer(server)
    proxy = RpcHttpProxy(finder, **options)
    port = await proxy.start(ip_address(PROXY), 0)
    try:
        yield Lab(server, proxy, port, finder)
    finally:
        await proxy.close()
        await server.close()


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
    return True


async def connect_ex(channel: RpcHttpChannel, name: str = "user00001") -> emsmdb.EcDoConnectExReply:
    answer = await channel.call(EMSMDB, emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(user_dn(name)).encode())
    return emsmdb.EcDoConnectExReply.decode(answer.stub, answer.order, answer.ndr64)


async def test_a_client_reaches_the_mailbox_through_the_proxy() -> None:
    async with lab() as here:
        channel = await here.open()
        await channel.bind(EMSMDB)
        assert (await connect_ex(channel)).display_name == "cas1"
        assert here.finder.asked == [(f"{NAME}:6001", "127.0.0.1")]
        assert here.proxy.connections == 1
        channel.close()
        assert await until(lambda: here.proxy.connections == 0)
        assert await until(lambda: not here.server.services["rpc"].connections)


async def test_referral_and_address_book_have_their_own_ports() -> None:
    async with lab() as here:
        book, referral = await here.open(6004), await here.open(6002)
        await book.bind(NSPI)
        await referral.bind(RFR)
        answer = await referral.call(RFR, rfr.Opnum.GET_NEW_DSA, rfr.RfrGetNewDsa(user_dn("user00001")).encode())
        assert rfr.RfrGetNewDsaReply.decode(answer.stub).server == "cas1.lab.example"
        answer = await book.call(NSPI, nspi.Opnum.BIND, nspi.NspiBind().encode())
        assert nspi.NspiBindReply.decode(answer.stub).result == 0
        book.close()
        referral.close()


async def test_channels_are_replaced_while_calls_go_on() -> None:
    async with lab(settings=Settings(lifetime=128 * 1024)) as here:
        channel = await here.open(lifetime=128 * 1024)
        await channel.bind(EMSMDB)
        session = (await connect_ex(channel)).session
        shown = emsmdb.EcDoAsyncConnectEx(session).encode() + bytes(4000)
        for _ in range(120):
            with contextlib.suppress(RpcFault):  # a fault for its tail is an answer too
                await channel.call(EMSMDB, emsmdb.Opnum.ASYNC_CONNECT, shown)
            assert channel.lost_at is None
        assert here.proxy.counters()["request:RPC_IN_DATA"] >= 4
        assert (await connect_ex(channel)).result == 0
        channel.close()


async def test_a_name_that_is_not_served_is_refused() -> None:
    async with lab() as here:
        with pytest.raises(Unavailable, match="503 RPC Error: 5"):
            await here.open(server="elsewhere.example")
        with pytest.raises(Unavailable, match="503 RPC Error: 5"):
            await here.open(port=25)
        assert here.finder.asked == []


async def test_a_server_that_is_down_is_said_to_be_unavailable() -> None:
    async with lab() as here:
        here.server.services["rpc"].port = 1
        with pytest.raises(Unavailable, match="503 RPC Error: 6ba"):
            await here.open()
        assert here.proxy.connections == 0


async def test_a_server_that_ends_the_connection_ends_both_channels() -> None:
    async with lab() as here:
        channel = await here.open()
        await channel.bind(EMSMDB)
        for connection in list(here.server.services["rpc"].connections):
            connection.transport.abort()  # type: ignore[union-attr]  # it is connected
        assert await until(lambda: channel.lost_at is not None)
        assert here.proxy.connections == 0


async def test_a_client_whose_member_may_not_be_used_any_more_is_told_by_the_end_of_its_channels() -> None:
    async with lab() as here:
        channel = await here.open()
        await channel.bind(EMSMDB)
        here.finder.up = False
        assert await until(lambda: channel.lost_at is not None)
        assert here.proxy.counters()["closed:member"] == 1


async def test_a_password_lets_in_and_a_wrong_one_does_not() -> None:
    async with lab(admission=Password) as here:
        channel = await here.open(logon=lambda: Basic("alice", "secret"))
        assert channel.mechanism == "Basic"
        await channel.bind(EMSMDB)
        channel.close()
        with pytest.raises(Denied, match="it offers Basic"):
            await here.open(logon=lambda: Basic("alice", "wrong"))
        with pytest.raises(Denied, match="it offers Basic"):
            await here.open()


GATE = NtlmGate({"alice": "secret"})


def ntlm(user: str, password: str) -> HttpLogon:
    return WebLogons(Credential(user, "LAB", password)).open("ntlm", NAME)


async def test_ntlm_lets_in_and_a_wrong_password_does_not() -> None:
    async with lab(admission=GATE) as here:
        channel = await here.open(logon=lambda: ntlm("alice", "secret"))
        assert channel.mechanism == "NTLM"
        await channel.bind(EMSMDB)
        assert here.proxy.counters()["challenged"] == 2
        channel.close()
        with pytest.raises(Denied, match="it offers NTLM"):
            await here.open(logon=lambda: ntlm("alice", "wrong"))
        with pytest.raises(Denied, match="does not go on with NTLM|it offers NTLM"):
            await here.open(logon=lambda: ntlm("nobody", "secret"))


async def test_a_proxy_that_takes_ntlm_alone_does_not_go_on_with_basic() -> None:
    async with lab(admission=GATE) as here:
        with pytest.raises(Denied, match="it offers NTLM"):
            await here.open(logon=lambda: Basic("alice", "secret"))


async def test_no_proxy_is_no_proxy() -> None:
    async with lab() as here:
        with pytest.raises(Unavailable, match="Connection refused"):
            await open_rpc_http(RpcProxy(PROXY, 1), NAME, 6001)
        with pytest.raises(Unavailable, match="no RPC proxy|ended the|opens no connection"):
            await open_rpc_http(RpcProxy(HOST, here.server.services["rpc"].port), NAME, 6001, patience=1.0)


async def test_a_server_that_speaks_rpc_over_http_itself_is_reached_so() -> None:
    async with lab_over_http(settings=Settings(lifetime=128 * 1024)) as here:
        channel = await here.open()
        await channel.bind(EMSMDB)
        session = (await connect_ex(channel)).session
        assert [connection.peer[0] for connection in here.server.services["rpc"].connections] == ["127.0.0.1"]
        shown = emsmdb.EcDoAsyncConnectEx(session).encode() + bytes(4000)
        for _ in range(60):
            with contextlib.suppress(RpcFault):  # a fault for its tail is an answer too
                await channel.call(EMSMDB, emsmdb.Opnum.ASYNC_CONNECT, shown)
        assert (await connect_ex(channel)).display_name == "cas1"
        channel.close()
        assert await until(lambda: not here.server.services["rpc"].connections)


async def test_a_server_that_ends_rpc_over_http_ends_both_channels() -> None:
    async with lab_over_http() as here:
        channel = await here.open()
        await channel.bind(EMSMDB)
        for connection in list(here.server.services["rpc"].connections):
            connection.transport.abort()  # type: ignore[union-attr]  # it is connected
        assert await until(lambda: channel.lost_at is not None)
        assert here.proxy.connections == 0


async def test_a_server_that_does_not_greet_is_unavailable() -> None:
    async with lab_over_http(limits=Limits(connect=1.0)) as here:
        assert here.finder.http is not None
        here.finder.http.ports[6001] = here.server.services["rpc"].port  # RPC over TCP: it waits for us to begin
        with pytest.raises(Unavailable, match="503 RPC Error: 6ba"):
            await here.open()


# --- impacket, which nobody here wrote ------------------------------------------------------------------------------


def impacket_channel(here: Lab, port: int, interface: tuple[str, str]) -> Any:
    rpc = transport.DCERPCTransportFactory(f"ncacn_http:{NAME}[{port}]")
    rpc.set_rpc_proxy_url(f"http://{PROXY}:{here.port}/rpc/rpcproxy.dll")
    rpc.set_credentials("alice", "secret")
    rpc.set_auth_type(AUTH_BASIC)
    dce = rpc.get_dce_rpc()
    dce.connect()
    dce.bind(uuidtup_to_bin(interface))
    return dce


async def test_impacket_asks_the_referral_service_through_the_proxy() -> None:
    def ask(here: Lab) -> str:
        dce = impacket_channel(here, 6002, ("1544F5E0-613C-11D1-93DF-00C04FD7BD09", "1.0"))
        answer = oxabref.hRfrGetNewDSA(dce, user_dn("user00001"))
        dce.disconnect()
        return str(answer["ppszServer"])

    async with lab(admission=Password) as here:
        assert (await asyncio.to_thread(ask, here)).rstrip("\0") == "cas1.lab.example"
        assert await until(lambda: here.proxy.connections == 0)


async def test_impacket_opens_the_address_book_through_the_proxy() -> None:
    def ask(here: Lab) -> int:
        dce = impacket_channel(here, 6004, ("F5CC5A18-4264-101A-8C59-08002B2F8426", "56.0"))
        answer = impacket_nspi.hNspiBind(dce)
        impacket_nspi.hNspiUnbind(dce, answer["contextHandle"])
        dce.disconnect()
        return int(answer["ErrorCode"])

    async with lab() as here:
        assert await asyncio.to_thread(ask, here) == 0


async def test_impacket_calls_the_mailbox_through_the_proxy() -> None:
    def ask(here: Lab) -> bytes:
        dce = impacket_channel(here, 6001, ("A4F1DB00-CA47-1067-B31F-00DD010662DA", "0.81"))
        dce.call(int(emsmdb.Opnum.DUMMY), emsmdb.EcDummyRpc().encode())
        answer: bytes = dce.recv()
        dce.disconnect()
        return answer

    async with lab() as here:
        with contextlib.suppress(DCERPCException):
            assert emsmdb.EcDummyRpcReply.decode(await asyncio.to_thread(ask, here)).result == 0


# --- those who mean no good -----------------------------------------------------------------------------------------


async def say(here: Lab, octets: bytes, *, seconds: float = 10.0) -> bytes:
    """Send these, and what comes until the proxy ends the connection."""
    reader, writer = await asyncio.open_connection(PROXY, here.port)
    writer.write(octets)
    try:
        async with asyncio.timeout(seconds):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def head(method: str, length: int, target: Target = Target(NAME, 6001)) -> bytes:  # noqa: B008 - a frozen value
    return request_head(method, target, NAME, length)


COOKIE, GROUP = uuid4(), uuid4()
A1 = ConnA1(1, COOKIE, uuid4(), 65536).encode()
B1 = ConnB1(1, COOKIE, uuid4(), 1 << 30, 300_000, GROUP).encode()


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\0\1\0\1\xfc", b"HTTP/1.1 400 ", id="TLS where none is"),
        pytest.param(b"RPC_IN_DATA / HTTP/2.0\r\n\r\n", b"HTTP/1.1 400 ", id="another HTTP"),
        pytest.param(b"GET /rpc/rpcproxy.dll HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 ", id="another method"),
        pytest.param(b"RPC_IN_DATA /owa HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 ", id="another place"),
        pytest.param(head(OUT, 77), b"HTTP/1.0 503 RPC Error: 6c0", id="an OUT channel of another length"),
        pytest.param(head(IN, 1000), b"HTTP/1.0 503 RPC Error: 6c0", id="an IN channel too short"),
        pytest.param(head(OUT, 76) + b"\5\0" * 38, b"HTTP/1.0 503 RPC Error: 6c0", id="garbage for first words"),
        pytest.param(head(OUT, 76) + A1 + b"more", b"HTTP/1.0 503 RPC Error: 6c0", id="more than the length"),
        pytest.param(head(IN, 1 << 30) + Ping().encode(), b"HTTP/1.0 503 RPC Error: 6c0", id="other first words"),
        pytest.param(b"RPC_IN_DATA /rpc/rpcproxy.dll HTTP/1.1\r\nA: " + b"a" * 70_000, b"HTTP/1.1 400 ", id="endless"),
    ],
)
async def test_what_is_no_request_is_refused_and_costs_nothing(octets: bytes, status: bytes) -> None:
    async with lab() as here:
        assert (await say(here, octets)).startswith(status)
        assert here.proxy.connections == 0


async def test_an_echo_is_answered() -> None:
    async with lab() as here:
        reader, writer = await asyncio.open_connection(PROXY, here.port)
        for method in (IN, OUT):
            writer.write(head(method, 4) + b"\0\0\0\0")
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(20) == Echo().encode()
        writer.close()


async def test_a_client_that_says_nothing_is_cut_off() -> None:
    async with lab(limits=Limits(head=0.3)) as here:
        assert await say(here, b"") == b""
        assert await say(here, head(IN, 1 << 30)) == b""
        assert here.proxy.counters()["timeout:head"] == 2


async def test_half_a_virtual_connection_is_given_up_and_told_so() -> None:
    async with lab(settings=Settings(partner_seconds=0.3)) as here:
        assert (await say(here, head(OUT, 76) + A1)).startswith(b"HTTP/1.0 503 RPC Error")
        assert here.proxy.connections == 0


async def test_a_cookie_alone_joins_nobody_elses_connection() -> None:
    async with lab(admission=Password) as here:
        mine = request_head(OUT, Target(NAME, 6001), NAME, 76, [("Authorization", _basic("alice:secret"))])
        _, writer = await asyncio.open_connection(PROXY, here.port)
        writer.write(mine + A1)
        assert await until(lambda: here.proxy.connections == 1)
        theirs = request_head(IN, Target(NAME, 6002), NAME, 1 << 30, [("Authorization", _basic("alice:secret"))])
        assert (await say(here, theirs + B1)).startswith(b"HTTP/1.0 503 RPC Error: 5")
        assert here.proxy.connections == 1
        writer.close()
        assert await until(lambda: here.proxy.connections == 0)


async def test_one_channel_that_dies_takes_the_other_and_the_server_along() -> None:
    async with lab() as here:
        out, out_writer = await asyncio.open_connection(PROXY, here.port)
        into, in_writer = await asyncio.open_connection(PROXY, here.port)
        out_writer.write(head(OUT, 76) + A1)
        in_writer.write(head(IN, 1 << 30) + B1)
        assert b" 200 " in await out.readuntil(b"\r\n\r\n")
        assert await until(lambda: bool(here.server.services["rpc"].connections))
        out_writer.close()
        assert await into.read() == b""
        in_writer.close()
        assert await until(lambda: not here.server.services["rpc"].connections)


@contextlib.asynccontextmanager
async def opened_by_hand(here: Lab) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A virtual connection: the OUT channel to read from, the IN channel to read from and to write to."""
    out, out_writer = await asyncio.open_connection(PROXY, here.port)
    into, in_writer = await asyncio.open_connection(PROXY, here.port)
    out_writer.write(head(OUT, 76) + A1)
    in_writer.write(head(IN, 1 << 30) + B1)
    assert b" 200 " in await out.readuntil(b"\r\n\r\n")
    await out.readexactly(28 + 44)  # CONN/A3 and C2
    try:
        yield out, into, in_writer
    finally:
        out_writer.close()
        in_writer.close()


async def test_a_second_in_channel_is_refused_and_the_first_goes_on() -> None:
    async with lab() as here, opened_by_hand(here) as (out, _, writer):
        assert (await say(here, head(IN, 1 << 30) + B1)).startswith(b"HTTP/1.0 503 RPC Error: 6c0")
        assert here.proxy.connections == 1
        writer.write(RpcClient().bind(EMSMDB))
        assert (await out.readexactly(16))[2] == 12  # bind_ack


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        pytest.param(Ping().encode() * 2000, "flood", id="nothing but pings"),
        pytest.param(A1, "rts", id="first words of an OUT channel"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "", id="another request"),
    ],
)
async def test_what_no_client_says_ends_both_channels_and_the_servers_connection(octets: bytes, kind: str) -> None:
    async with lab() as here, opened_by_hand(here) as (out, into, writer):
        writer.write(octets)
        for reader in (out, into):
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(10):
                    await reader.read()
        assert here.proxy.connections == 0
        assert await until(lambda: not here.server.services["rpc"].connections)
        assert not kind or here.proxy.counters()[f"closed:{kind}"] == 1


async def test_a_client_that_sends_more_than_there_is_room_for_is_cut_off() -> None:
    async with lab() as here, opened_by_hand(here) as (out, _, writer):
        (link,) = here.proxy.links.values()
        link.server_full(True)  # as if the server took nothing
        for number in range(20):
            writer.write(Request(call_id=number, context_id=0, opnum=6, stub=bytes(5000)).encode())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                await out.read()
        assert here.proxy.counters()["closed:flow"] == 1


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()
