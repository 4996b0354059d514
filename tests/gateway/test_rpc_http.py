"""RPC over HTTP through the whole array: in the gateway, and by the proxy alone, with members that speak TCP only."""

import asyncio
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from impacket.dcerpc.v5 import oxabref, transport
from impacket.http import AUTH_BASIC
from impacket.uuid import uuidtup_to_bin

from casarray.adapters.net.rpc_http_client import RpcHttpChannel, RpcProxy, open_rpc_http
from casarray.core.dcerpc.interfaces import emsmdb, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.errors import Unavailable
from casarray.lab.journal import user_dn
from casarray.lab.site import LoopbackSite, NetworkSite, free_port

from .gateways import PROGRAM, QUICK, WHY_NOT, eventually, members, outlook, soon, source

NAME = "cas.lab.example"


class ProxySite(LoopbackSite):
    """With an RPC proxy in its gateway."""

    def __init__(self, folder: Path, backend: str = "tcp", **options: Any) -> None:
        self.proxy_port = free_port(26443)
        super().__init__(folder, health=QUICK, **options)
        self.server_options = ("--http",) if backend == "http" else ()
        self.proxy_at = f"{self.net}.0.99"
        table = f'[rpc-http]\nlisten = "{self.proxy_at}:{self.proxy_port}"\nbackend = "{backend}"\n'
        self.wanted = type(self.wanted)(health=QUICK, more=table)

    async def open(self, number: int, port: int = 6001, server: str = NAME) -> RpcHttpChannel:
        """A connection of the ``number``-th client by way of the proxy."""
        return await open_rpc_http(RpcProxy(self.proxy_at, self.proxy_port), server, port, source(self, number))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxySite]:
    built = ProxySite(tmp_path_factory.mktemp("rpch"))

    async def start() -> None:
        await built.__aenter__()
        await built.start_gateway()

    try:
        asyncio.run(start())
        yield built
    finally:
        built.close()


async def mailbox_of(site: ProxySite, number: int, server: str = NAME) -> str:
    """The member on which a client's mailbox is opened through the proxy."""
    channel = await site.open(number, 6001, server)
    try:
        await channel.bind(EMSMDB)
        asked = emsmdb.EcDoConnectEx(user_dn(f"user{number:05}")).encode()
        answer = await channel.call(EMSMDB, emsmdb.Opnum.CONNECT, asked)
        return emsmdb.EcDoConnectExReply.decode(answer.stub).display_name or ""
    finally:
        channel.close()


async def referred(site: ProxySite, number: int) -> str:
    channel = await site.open(number, 6002)
    try:
        await channel.bind(RFR)
        asked = rfr.RfrGetNewDsa(user_dn(f"user{number:05}")).encode()
        answer = await channel.call(RFR, rfr.Opnum.GET_NEW_DSA, asked)
        return (rfr.RfrGetNewDsaReply.decode(answer.stub).server or "").partition(".")[0]
    finally:
        channel.close()


async def test_a_client_gets_the_member_over_http_that_it_has_over_tcp(site: ProxySite) -> None:
    for number in range(1, 13):
        person = outlook(site, number)
        await person.open()
        try:
            assert await mailbox_of(site, number) == person.member
            assert await referred(site, number) == person.member
        finally:
            person.close()


async def test_a_client_that_comes_over_http_first_keeps_its_member_over_tcp(site: ProxySite) -> None:
    member = await mailbox_of(site, 31)
    person = outlook(site, 31)
    await person.open()
    assert person.member == member
    person.close()


async def test_a_client_that_names_a_member_gets_it(site: ProxySite) -> None:
    for name in ("cas1", "cas2.lab.example", "CAS3"):
        assert await mailbox_of(site, 41, name) == name.partition(".")[0].casefold()


async def test_clients_of_a_member_that_dies_come_back_on_another(site: ProxySite) -> None:
    before = await mailbox_of(site, 51)
    channel = await site.open(51)
    await channel.bind(EMSMDB)
    site.tell(before, "all refuse")
    try:
        await soon(lambda: channel.lost_at is not None)

        assert await eventually(lambda: mailbox_of(site, 51), 15.0) not in ("", before)
    finally:
        site.tell(before, "all normal")
        await soon(lambda: members(site)[before].eligible, 15.0)


async def test_clients_of_a_member_that_hangs_are_told(site: ProxySite) -> None:
    channel = await site.open(61)
    await channel.bind(EMSMDB)
    before = await mailbox_of(site, 61)
    site.tell(before, "all hang-accept")
    try:
        await soon(lambda: channel.lost_at is not None, 15.0)
        assert await eventually(lambda: mailbox_of(site, 61), 15.0) != before
    finally:
        site.tell(before, "all normal")
        await soon(lambda: members(site)[before].eligible, 15.0)


async def test_the_gateway_tells_of_its_proxy(site: ProxySite) -> None:
    channel = await site.open(71)
    told = site.control.status().rpc_http
    assert told is not None
    assert (told.listen, told.connections) == (f"{site.proxy_at}:{site.proxy_port}", 1)
    with pytest.raises(Unavailable):
        await site.open(71, server="elsewhere.example")
    after = site.control.status().rpc_http
    assert after is not None
    assert after.events["refused:target"] > told.events.get("refused:target", 0)
    channel.close()


async def test_impacket_reaches_the_array_over_http(site: ProxySite) -> None:
    def ask() -> str:
        rpc = transport.DCERPCTransportFactory(f"ncacn_http:{NAME}[6002]")
        rpc.set_rpc_proxy_url(f"http://{site.proxy_at}:{site.proxy_port}/rpc/rpcproxy.dll")
        rpc.set_credentials("alice", "secret")
        rpc.set_auth_type(AUTH_BASIC)
        dce = rpc.get_dce_rpc()
        dce.connect()
        dce.bind(uuidtup_to_bin(("1544F5E0-613C-11D1-93DF-00C04FD7BD09", "1.0")))
        answer = oxabref.hRfrGetNewDSA(dce, user_dn("user00001"))
        dce.disconnect()
        return str(answer["ppszServer"]).rstrip("\0")

    assert (await asyncio.to_thread(ask)).partition(".")[0] in site.names


@pytest.mark.root
@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
async def test_where_the_kernel_forwards_both_ways_lead_to_one_member(tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    table = f'[rpc-http]\nlisten = "10.11.0.1:443"\ncertificate = "{made}"\nkey = "{key}"\n'
    async with NetworkSite(tmp_path, health=QUICK, more=table) as site:
        await site.start_gateway()
        way = RpcProxy("10.11.0.1", 443, ssl.create_default_context(cafile=str(made)), NAME)
        found = set()
        with site.host("clients").inside():
            for number in range(1, 9):
                by_http = await open_rpc_http(way, NAME, 6001, source(site, number))
                await by_http.bind(EMSMDB)
                asked = emsmdb.EcDoConnectEx(user_dn(f"user{number:05}")).encode()
                answer = await by_http.call(EMSMDB, emsmdb.Opnum.CONNECT, asked)
                person = outlook(site, number)
                await person.open()
                assert emsmdb.EcDoConnectExReply.decode(answer.stub).display_name == person.member
                found.add(person.member)
                person.close()
                by_http.close()
        assert found <= set(site.names)


# --- the proxy by itself --------------------------------------------------------------------------------------------


def start(config: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([PROGRAM, "rpc-proxy", "run", "-c", str(config)], stdout=subprocess.PIPE, text=True)


def certificate(folder: Path) -> tuple[Path, Path]:
    """One of its own, for the array's name."""
    made, key = folder / "c.pem", folder / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


async def test_the_proxy_runs_by_itself_and_over_tls(site: ProxySite, tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    port = free_port(27443)
    table = f'[rpc-http]\nlisten = "{site.net}.0.98:{port}"\ncertificate = "{made}"\nkey = "{key}"\n'
    text = site.config_path.read_text().replace(site.wanted.more, table)
    config = tmp_path / "proxy.toml"
    config.write_text(text)
    program = start(config)
    try:
        assert program.stdout is not None
        assert await asyncio.to_thread(program.stdout.readline) == "ready\n"
        way = RpcProxy(f"{site.net}.0.98", port, ssl.create_default_context(cafile=str(made)), NAME)
        members = set()
        for number in range(60, 72):
            channel = await open_rpc_http(way, NAME, 6001, source(site, number))
            await channel.bind(EMSMDB)
            asked = emsmdb.EcDoConnectEx(user_dn("user00001")).encode()
            answer = await channel.call(EMSMDB, emsmdb.Opnum.CONNECT, asked)
            members.add(emsmdb.EcDoConnectExReply.decode(answer.stub).display_name)
            channel.close()
        assert members <= set(site.names)
        with pytest.raises(Unavailable, match="its certificate is not accepted"):
            await open_rpc_http(RpcProxy(f"{site.net}.0.98", port, ssl.create_default_context(), NAME), NAME, 6001)
    finally:
        program.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(program.wait, 15) == 0
        assert program.stdout is not None
        program.stdout.close()


async def test_members_that_speak_rpc_over_http_themselves_are_reached_so(tmp_path: Path) -> None:
    async with ProxySite(tmp_path, net="127.201", servers=("cas1", "cas2"), backend="http") as site:
        await site.start_gateway()
        for number in range(1, 5):
            person = outlook(site, number)
            await person.open()
            assert await mailbox_of(site, number) == person.member
            person.close()


def test_the_proxy_without_a_place_to_listen_says_what_to_do(site: ProxySite, tmp_path: Path) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text(site.config_path.read_text().replace(site.wanted.more, ""))
    done = subprocess.run(
        [PROGRAM, "rpc-proxy", "run", "-c", str(config)], capture_output=True, text=True, check=False, timeout=30,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 1
    assert "set listen under [rpc-http]" in done.stderr
