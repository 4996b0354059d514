"""The lab server, asked by our own client and by impacket, which nobody here wrote."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from impacket.dcerpc.v5 import epm as impacket_epm
from impacket.dcerpc.v5 import nspi as impacket_nspi
from impacket.dcerpc.v5 import oxabref, transport
from impacket.uuid import uuidtup_to_bin

from casarray.core.dcerpc.interfaces import emsmdb, epm, nspi
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.ndr import ContextHandle
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.errors import CasarrayError, Unavailable
from casarray.lab.channel import Channel, RpcFault
from casarray.lab.exchange import server_guid
from casarray.lab.journal import Journal, user_dn, user_uuid
from casarray.lab.server import Behaviour, LabServer, tell

HOST = "127.61.0.1"


@contextlib.asynccontextmanager
async def running(name: str = "cas1", **options: Any) -> AsyncIterator[LabServer]:
    server = LabServer(name, [HOST], {"epm": 0}, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def channel(server: LabServer, service: str, *interfaces: Syntax, group: int = 0, wide: bool = False) -> Channel:
    opened = await Channel.open(HOST, server.services[service].port, patience=1.0)
    await opened.bind(*interfaces, group_id=group, transfer=(NDR, NDR64) if wide else (NDR,))
    return opened


async def session(opened: Channel, name: str = "user00001") -> ContextHandle:
    asked = emsmdb.EcDoConnectEx(user_dn(name)).encode()
    answer = await opened.call(EMSMDB, emsmdb.Opnum.CONNECT, asked)
    return emsmdb.EcDoConnectExReply.decode(answer.stub).session


async def show(opened: Channel, handle: ContextHandle) -> None:
    await opened.call(EMSMDB, emsmdb.Opnum.ASYNC_CONNECT, emsmdb.EcDoAsyncConnectEx(handle).encode())


@pytest.mark.parametrize("wide", [False, True], ids=["NDR", "NDR64"])
async def test_the_mapper_names_the_ports_that_answer(wide: bool) -> None:
    async with running(transfer=(NDR64, NDR) if wide else (NDR,)) as server:
        opened = await channel(server, "epm", EPM, wide=wide)
        for interface, service in ((EMSMDB, "rpc"), (NSPI, "ab"), (RFR, "ab")):
            asked = epm.EptMap(Tower.tcp(interface)).encode(ndr64=wide)
            answer = await opened.call(EPM, epm.EPT_MAP, asked)
            assert answer.ndr64 == wide
            (tower,) = epm.EptMapReply.decode(answer.stub, answer.order, answer.ndr64).towers
            assert (tower.port, str(tower.address)) == (server.services[service].port, HOST)
        opened.close()


async def test_an_interface_that_is_not_there_is_not_registered() -> None:
    async with running() as server:
        opened = await channel(server, "epm", EPM)
        stranger = epm.EptMap(Tower.tcp(Syntax(user_uuid(1), 1, 0))).encode()
        answer = await opened.call(EPM, epm.EPT_MAP, stranger)
        assert epm.EptMapReply.decode(answer.stub).status == epm.NOT_REGISTERED
        opened.close()


async def test_a_lookup_goes_on_with_its_handle_until_everything_was_told() -> None:
    async with running() as server:
        opened = await channel(server, "epm", EPM)
        found: list[str] = []
        asked = epm.EptLookup(max_entries=3)
        for _ in range(2):
            answer = await opened.call(EPM, epm.EPT_LOOKUP, asked.encode())
            reply = epm.EptLookupReply.decode(answer.stub)
            found += [str(entry.tower.interface) for entry in reply.entries if entry.tower]
            asked = epm.EptLookup(max_entries=3, handle=reply.handle)
        assert reply.handle.is_nil
        assert len(set(found)) == len(found) == 4
        opened.close()


async def test_a_lookup_left_half_way_is_forgotten_with_its_connection() -> None:
    async with running() as server:
        for _ in range(3):
            opened = await channel(server, "epm", EPM)
            answer = await opened.call(EPM, epm.EPT_LOOKUP, epm.EptLookup(max_entries=1).encode())
            assert not epm.EptLookupReply.decode(answer.stub).handle.is_nil
            opened.close()
        await asyncio.sleep(0.05)
        assert server.state()["lookups"] == 0


async def test_a_handle_is_valid_on_every_connection_of_its_group_and_on_no_other() -> None:
    async with running() as server:
        first = await channel(server, "rpc", EMSMDB)
        handle = await session(first)
        second = await channel(server, "rpc", EMSMDB, group=first.rpc.group_id)
        await show(second, handle)
        stranger = await channel(server, "rpc", EMSMDB)
        with pytest.raises(RpcFault, match="1C00001A"):
            await show(stranger, handle)
        for opened in (first, second, stranger):
            opened.close()


async def test_a_handle_of_another_server_is_a_context_mismatch() -> None:
    async with running() as one, running("cas2") as other:
        mine, theirs = await channel(one, "rpc", EMSMDB), await channel(other, "rpc", EMSMDB)
        handle = await session(mine)
        with pytest.raises(RpcFault) as caught:
            await show(theirs, handle)
        assert caught.value.status == 0x1C00001A
        mine.close()
        theirs.close()


async def test_handles_are_run_down_with_the_last_connection_of_their_group() -> None:
    async with running() as server:
        first = await channel(server, "rpc", EMSMDB)
        await session(first)
        second = await channel(server, "rpc", EMSMDB, group=first.rpc.group_id)
        first.close()
        await asyncio.sleep(0.05)
        assert server.exchange.open_handles == 1
        second.close()
        await asyncio.sleep(0.05)
        assert server.exchange.open_handles == 0


async def test_a_call_that_cannot_be_read_is_a_fault_and_the_connection_lives_on() -> None:
    async with running() as server:
        opened = await channel(server, "rpc", EMSMDB)
        with pytest.raises(RpcFault, match="000006F7"):
            await opened.call(EMSMDB, emsmdb.Opnum.CONNECT, b"\xff" * 8)
        with pytest.raises(RpcFault, match="1C010002"):
            await opened.call(EMSMDB, 99, b"")
        await opened.call(EMSMDB, emsmdb.Opnum.DUMMY, b"")
        opened.close()


def _impacket(port: int, uuid: str = "", version: str = "") -> Any:
    rpc = transport.DCERPCTransportFactory(f"ncacn_ip_tcp:{HOST}[{port}]")
    rpc.set_connect_timeout(2)
    dce = rpc.get_dce_rpc()
    dce.connect()
    if uuid:
        dce.bind(uuidtup_to_bin((uuid, version)))
    return dce


async def _in_a_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(work), 10)


async def test_impacket_maps_refers_and_opens_the_address_book() -> None:
    async with running() as server:
        ports = {name: service.port for name, service in server.services.items()}

        def walk() -> tuple[str, str, bytes, int]:
            mapper = _impacket(ports["epm"])  # each of its functions binds for itself
            rfr_uuid = uuidtup_to_bin(("1544f5e0-613c-11d1-93df-00c04fd7bd09", "1.0"))
            binding = impacket_epm.hept_map(HOST, rfr_uuid, protocol="ncacn_ip_tcp", dce=mapper)
            mapper.disconnect()
            mapper = _impacket(ports["epm"])
            found = len(impacket_epm.hept_lookup(HOST, dce=mapper))
            mapper.disconnect()
            rfr = _impacket(ports["ab"], "1544f5e0-613c-11d1-93df-00c04fd7bd09", "1.0")
            name = oxabref.hRfrGetNewDSA(rfr, user_dn("user00007"))["ppszServer"]
            rfr.disconnect()
            book = _impacket(ports["ab"], "f5cc5a18-4264-101a-8c59-08002b2f8426", "56.0")
            opened = impacket_nspi.hNspiBind(book)
            impacket_nspi.hNspiUnbind(book, opened["contextHandle"])
            book.disconnect()
            return binding, name, opened["pServerGuid"], found

        binding, name, guid, found = await _in_a_thread(walk)
        assert binding == f"ncacn_ip_tcp:{HOST}[{ports['ab']}]"
        assert name == "cas1.lab.example"
        assert guid == server_guid("cas1.lab.example").bytes_le
        assert found == 4


async def _dummy(server: LabServer) -> None:
    opened = await channel(server, "rpc", EMSMDB)
    try:
        opened.patience = 0.3
        await opened.call(EMSMDB, emsmdb.Opnum.DUMMY, b"")
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("behaviour", "symptom"),
    [
        (Behaviour.REFUSE, "refused"),
        (Behaviour.RESET, "lost|reset"),
        (Behaviour.HANG_ACCEPT, "no answer within 1"),
        (Behaviour.HANG_BIND, "no answer within 0.3"),
        (Behaviour.GARBAGE, "version"),
    ],
)
async def test_a_service_can_be_made_to_misbehave_and_behaves_again(behaviour: Behaviour, symptom: str) -> None:
    async with running() as server:
        await server.obey(f"rpc {behaviour}")
        with pytest.raises(Unavailable, match=f"(?i){symptom}"):
            await _dummy(server)
        mapper = await channel(server, "epm", EPM)  # the mapper does not share the fate
        mapper.close()
        port = server.services["rpc"].port
        await server.obey("rpc normal")
        assert server.services["rpc"].port == port
        await _dummy(server)


async def test_a_slow_service_answers_late_and_in_order() -> None:
    async with running() as server:
        opened = await channel(server, "rpc", EMSMDB)
        await server.obey("rpc slow 0.15")
        loop = asyncio.get_running_loop()
        since = loop.time()
        for _ in range(2):
            await opened.call(EMSMDB, emsmdb.Opnum.DUMMY, b"")
        assert 0.3 <= loop.time() - since < 1.0
        opened.close()


async def test_a_service_that_hangs_is_silent_on_the_connections_it_has_too() -> None:
    async with running() as server:
        opened = await channel(server, "rpc", EMSMDB)
        await server.obey("all hang-accept")
        opened.patience = 0.2
        with pytest.raises(Unavailable, match="no answer"):
            await opened.call(EMSMDB, emsmdb.Opnum.DUMMY, b"")
        opened.close()


@pytest.mark.parametrize("line", ["rpc explode", "web refuse", "rpc slow much", "nonsense"])
async def test_a_line_that_is_not_understood_says_what_would_be(line: str) -> None:
    async with running() as server:
        answer = await server.obey(line)
        assert "hang-accept" in answer["usage"]


async def test_octets_that_are_no_rpc_end_that_connection_only() -> None:
    async with running() as server:
        other = await channel(server, "rpc", EMSMDB)
        reader, writer = await asyncio.open_connection(HOST, server.services["rpc"].port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 2)
        writer.close()
        await other.call(EMSMDB, emsmdb.Opnum.DUMMY, b"")
        other.close()


async def test_every_call_is_journalled_with_the_client_it_came_from(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "cas1.jsonl", "server", member="cas1")
    async with running(journal=journal) as server:
        book = await channel(server, "ab", NSPI)
        asked = nspi.NspiBind(server_guid=user_uuid(3)).encode()
        await book.call(NSPI, nspi.Opnum.BIND, asked)
        mailbox = await channel(server, "rpc", EMSMDB)
        await session(mailbox, "user00004")
        await mailbox.call(EMSMDB, emsmdb.Opnum.DUMMY, b"")
        book.close()
        mailbox.close()
        await asyncio.sleep(0.05)
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "cas1.jsonl").read_text().splitlines()]
    calls = [
        (line["service"], line["call"], line["id"], line.get("first")) for line in lines if line["event"] == "call"
    ]
    assert calls == [
        ("ab", "NspiBind", "user00003", True),
        ("rpc", "EcDoConnectEx", "user00004", True),
        ("rpc", "EcDummyRpc", "user00004", None),
    ]
    assert [line["event"] for line in lines].count("open") == 2
    assert [line["event"] for line in lines].count("close") == 2


def test_the_program_says_ready_obeys_and_ends_on_sigterm(tmp_path: Path) -> None:
    control = tmp_path / "c"
    command = [sys.executable, "-m", "casarray.lab.server", "--address", HOST, "--epm-port", "0"]
    command += ["--control", str(control), "--fault", "rpc slow 1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        word, _, ports = process.stdout.readline().partition(" ")
        assert word == "ready"
        state = tell(control, "rpc normal")
        assert state["services"]["rpc"]["behaviour"] == "normal"
        with socket.create_connection((HOST, json.loads(ports)["ab"]), timeout=2):
            pass
        with pytest.raises(CasarrayError, match="not understood"):
            tell(control, "rpc explode")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert not control.exists()
