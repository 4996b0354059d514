"""The lab client against lab servers, without an array between them."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from casarray.core.errors import Unavailable
from casarray.lab.channel import RpcFault
from casarray.lab.journal import Journal
from casarray.lab.oracle import judge, read
from casarray.lab.outlook import Outlook, crowd
from casarray.lab.server import LabServer

HOST = "127.62.0.1"


async def _server(journal: Journal | None = None, name: str = "cas1", host: str = HOST) -> LabServer:
    server = LabServer(name, [host], {"epm": 0}, journal=journal)
    await server.start()
    return server


async def test_a_client_goes_all_the_way_and_names_who_answered_on_each_port() -> None:
    server = await _server()
    client = Outlook(7, HOST, "127.62.1.7", epm_port=server.services["epm"].port)
    await client.open()
    assert client.members == dict.fromkeys(("epm", "rfr", "ab", "rpc"), "cas1")
    assert client.ports == {
        "rpc": server.services["rpc"].port,
        "rfr": server.services["ab"].port,
        "ab": server.services["ab"].port,
    }
    assert client.connected()
    assert {channel.local[0] for channel in client.channels} == {"127.62.1.7"}
    await client.talk()
    client.close()
    await server.close()


async def test_a_client_that_logs_on_keeps_four_connections_and_opens_its_mailbox(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s.jsonl", "server", member="cas1")
    server = await _server(journal)
    client = Outlook(7, HOST, epm_port=server.services["epm"].port, logs_on=True)
    await client.open()
    assert len(client.channels) == 4
    assert client.connected()
    client.close()
    await server.close()
    journal.close()
    assert "EcDoRpcExt2" in [line.get("call") for line in _lines(tmp_path / "s.jsonl")]


async def test_a_client_that_is_led_to_two_servers_notices_and_the_oracle_convicts(tmp_path: Path) -> None:
    """A mapper that names another server's port is what an array without affinity looks like."""
    one, two = await _server(), await _server(name="cas2")
    one.exchange.ports = dict(one.exchange.ports) | {"ab": two.services["ab"].port}
    journal = Journal(tmp_path / "client.jsonl", "client")
    client = Outlook(1, HOST, journal=journal, epm_port=one.services["epm"].port)
    await client.open()
    assert client.member == "cas1+cas2"
    client.close()
    journal.close()
    assert not judge(read([tmp_path / "client.jsonl"])).held
    for server in (one, two):
        await server.close()


async def test_a_handle_shown_to_the_wrong_server_is_counted_and_journalled(tmp_path: Path) -> None:
    one, two = await _server(), await _server(name="cas2")
    journal = Journal(tmp_path / "client.jsonl", "client")
    client = Outlook(1, HOST, journal=journal, epm_port=one.services["epm"].port)
    stranger = Outlook(2, HOST, epm_port=two.services["epm"].port)
    await client.open()
    await stranger.open()
    client.channels, stranger.channels = stranger.channels, client.channels
    with pytest.raises(RpcFault, match="1C00001A"):
        await client.talk()
    assert client.mismatches == 1
    for each in (client, stranger):
        each.close()
    journal.close()
    assert len(read([tmp_path / "client.jsonl"]).mismatches) == 1
    for server in (one, two):
        await server.close()


async def test_nobody_there_is_unavailable_and_leaves_nothing_open() -> None:
    client = Outlook(1, HOST, epm_port=9, patience=0.5)
    with pytest.raises(Unavailable, match="refused"):
        await client.open()
    assert not client.channels


async def test_an_idle_client_says_nothing_and_still_notices_the_loss_and_comes_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "server.jsonl", "server", member="cas1")
    server = await _server(journal)
    people = crowd(
        HOST, 4, "127.62.2.0/24", journal=Journal(None, "client"), idle=2, epm_port=server.services["epm"].port
    )
    assert [client.idle for client in people.clients] == [False, True, False, True]
    people.start(interval=0.05)
    assert await people.all_connected()
    await asyncio.sleep(0.3)
    said = {(line["id"], line["call"]) for line in _lines(tmp_path / "server.jsonl") if line["event"] == "call"}
    assert ("user00001", "EcDummyRpc") in said
    assert ("user00002", "EcDummyRpc") not in said
    await server.obey("all refuse")
    await asyncio.sleep(0.1)
    assert people.spread == {}
    await server.obey("all normal")
    assert await people.all_connected()
    await people.stop()
    assert [len(client.returns) for client in people.clients] == [1, 1, 1, 1]
    assert all(
        back.ending in ("reset", "end") and back.back_at > back.lost_at for c in people.clients for back in c.returns
    )
    await server.close()
    journal.close()


async def test_a_server_that_hangs_is_left_after_the_patience() -> None:
    server = await _server()
    people = crowd(HOST, 1, None, journal=Journal(None, "client"), epm_port=server.services["epm"].port, patience=0.2)
    people.start(interval=0.05)
    assert await people.all_connected()
    await server.obey("rpc hang-accept")
    await asyncio.sleep(0.5)
    assert not people.clients[0].connected()
    await server.obey("rpc normal")
    assert await people.all_connected()
    await people.stop()
    assert people.clients[0].returns[0].ending.startswith("failed: no answer")
    await server.close()


async def test_the_journals_of_both_sides_agree_that_everybody_stayed(tmp_path: Path) -> None:
    journals = Journal(tmp_path / "s.jsonl", "server", member="cas1"), Journal(tmp_path / "c.jsonl", "client")
    server = await _server(journals[0])
    people = crowd(HOST, 50, "127.62.3.0/24", journal=journals[1], epm_port=server.services["epm"].port)
    people.start(interval=0.1)
    assert await people.all_connected()
    await asyncio.sleep(0.3)
    await people.stop()
    await server.close()
    for journal in journals:
        journal.close()
    verdict = judge(read([tmp_path / "s.jsonl", tmp_path / "c.jsonl"]))
    assert verdict.held
    assert verdict.spread == {"cas1": 50}
    assert verdict.connections == 250  # the mapper, RFR, NSPI and two to the mailbox, each of them known by name


async def test_the_program_reports_who_answered() -> None:
    server = await _server()
    command = [sys.executable, "-m", "casarray.lab.outlook", "--vip", HOST, "--clients", "5", "--seconds", "1"]
    command += ["--sources", "127.62.4.0/24", "--port", str(server.services["epm"].port), "--verbose"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=20)
    await server.close()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["spread"] == {"cas1": 5}
    assert 0 < report["connected_after"] <= 1
    assert "all 5 connected after" in done.stderr
    assert report["members"]["user00003"]["rpc"] == "cas1"


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
