"""The program goes and comes, however it goes: the table stays, pins stay, connections stay."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from casarray.core.errors import Unavailable
from casarray.lab.channel import Channel
from casarray.lab.outlook import Outlook
from casarray.lab.site import LoopbackSite, NetworkSite

from .gateways import (
    PROGRAM,
    QUICK,
    WHY_NOT,
    edit,
    eventually,
    has_address,
    mapper,
    members,
    outlook,
    people,
    soon,
    start_in_vain,
    tables,
    unhurt,
)

needs_root = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkSite]:
    site = NetworkSite(tmp_path_factory.mktemp("adoption"), health=QUICK)
    try:
        asyncio.run(site.__aenter__())
        yield site
    finally:
        site.close()


@pytest_asyncio.fixture
async def site(built: NetworkSite) -> AsyncIterator[NetworkSite]:
    """The site with a running gateway, whatever the test before did."""
    if built.gateway is None:
        await built.start_gateway()
    yield built


def handles(site: NetworkSite) -> list[str]:
    """The handles of the table, its chains and its rules: they change when somebody makes them anew."""
    told = site.host("gateway").run("nft", "-a", "list", "table", "inet", "casarray_cas").stdout
    kinds = ("table ", "chain ", "map ")
    return [line.strip() for line in told.splitlines() if "# handle" in line and line.strip().startswith(kinds)]


async def pins(site: NetworkSite, clients: list[Outlook]) -> dict[str, str | None]:
    """Where each client is pinned."""
    found = {}
    for client in clients:
        (array,) = (await asyncio.to_thread(site.control.explain, str(client.source))).arrays
        assert array.groups[0].pinned_seconds is not None
        found[client.name] = array.groups[0].member
    return found


async def all_are_pinned(site: NetworkSite, clients: list[Outlook], wanted: dict[str, str | None]) -> None:
    """Fails unless each is pinned where it should be."""
    assert tables(site)
    assert await pins(site, clients) == wanted


class TestInTheKernel:
    """What goes on without the program, and what a new one makes of it."""

    pytestmark = needs_root

    async def test_kill_and_start_again_costs_no_pin_no_connection_and_no_rule(self, site: NetworkSite) -> None:
        async with people(site, 18) as clients:
            before, pinned = handles(site), await pins(site, clients)
            for _ in range(2):
                site.kill_gateway()
                await unhurt(clients)  # also new connections, on known ports
                await site.start_gateway()
                assert "is adopted" in site.gateway_log()
                assert handles(site) == before
                assert await pins(site, clients) == pinned
                await unhurt(clients)
            with site.host("clients").inside():
                (await mapper(site, 1)).close(hard=True)

    async def test_a_stop_leaves_the_table_and_connections_and_the_address(self, site: NetworkSite) -> None:
        async with people(site) as clients:
            before = handles(site)
            assert await site.stop_gateway() == 0
            assert handles(site) == before
            assert has_address(site, site.vip)
            await unhurt(clients)
            with site.host("clients").inside(), pytest.raises(Unavailable, match="refused"):
                await Channel.open(site.vip, 135, patience=2)
            await site.start_gateway()
            assert handles(site) == before
            await unhurt(clients)

    async def test_a_member_that_died_while_nobody_watched_is_out_soon_after_the_start(self, site: NetworkSite) -> None:
        async with people(site, 18) as clients:
            site.kill_gateway()
            of_it = [client for client in clients if client.member == "cas2"]
            site.servers["cas2"].kill()
            site.servers["cas2"].wait()
            await site.start_gateway()
            await soon(lambda: not members(site)["cas2"].eligible)
            await unhurt([client for client in clients if client not in of_it])
            for client in of_it:
                client.close()
                await client.open()
                assert client.member != "cas2"
        await site.start_server("cas2")
        await soon(lambda: members(site)["cas2"].eligible)

    async def test_a_changed_file_is_applied_to_what_is_adopted(self, site: NetworkSite) -> None:
        usual = site.config_path.read_text()
        async with people(site, 18) as clients:
            others = [client for client in clients if client.member != "cas3"]
            assert await site.stop_gateway() == 0
            edit(site, without="cas3")
            await site.start_gateway()
            assert set(members(site)) == {"cas1", "cas2"}
            await soon(lambda: not any(c.connected() for c in clients if c not in others))
            await unhurt(others)
        site.config_path.write_text(usual)
        await asyncio.to_thread(site.control.reload)

    async def test_a_start_that_is_refused_leaves_the_adopted_table_alone(self, site: NetworkSite) -> None:
        usual = site.config_path.read_text()
        async with people(site) as clients:
            before = handles(site)
            site.kill_gateway()
            edit(site, ('addresses = ["10.11.0.100"', 'addresses = ["10.11.0.100", "192.0.2.9"'))
            assert "192.0.2.9" in start_in_vain(site)
            await unhurt(clients)
            site.config_path.write_text(usual)
            await site.start_gateway()
            assert [line for line in handles(site) if line.startswith("table")] == before[:1]
            await unhurt(clients)

    async def test_remove_is_refused_while_it_runs_and_then_takes_all_away(self, site: NetworkSite) -> None:
        command = (PROGRAM, "remove", "-c", str(site.config_path))
        async with people(site) as clients:
            refused = site.host("gateway").run(*command, check=False)
            assert refused.returncode == 1
            assert "already serves" in refused.stderr
            await unhurt(clients)
        assert await site.stop_gateway() == 0
        done = site.host("gateway").run(*command)
        assert "10.11.0.100" in done.stdout
        assert tables(site) == []
        assert not has_address(site, site.vip)
        assert not has_address(site, site.plan.vip6)
        again = site.host("gateway").run(*command)
        assert again.returncode == 0

    async def test_a_foreign_flush_costs_no_pin_and_no_connection(self, site: NetworkSite) -> None:
        async with people(site) as clients:
            await asyncio.sleep(5.5)  # the copy of the pins is some seconds old at most
            pinned = await pins(site, clients)
            site.host("gateway").run("nft", "flush", "ruleset")
            await eventually(lambda: all_are_pinned(site, clients, pinned))
            for client in clients:
                assert client.connected()
                await client.talk()
                client.close()
                await client.open()  # by way of 135: what it was told before is forgotten
                assert client.member == pinned[client.name]


@pytest_asyncio.fixture
async def loop(tmp_path: Path) -> AsyncIterator[LoopbackSite]:
    """A site on loopback without a gateway."""
    async with LoopbackSite(tmp_path, servers=("cas1",), health=QUICK) as site:
        yield site


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_is_over_in_two_seconds_whoever_is_connected(loop: LoopbackSite, sign: signal.Signals) -> None:
    await loop.start_gateway()
    assert loop.gateway is not None
    async with people(loop, 3):
        with ExitStack() as open_ones:
            for _ in range(5):
                held = open_ones.enter_context(socket.socket(socket.AF_UNIX))
                held.connect(str(loop.folder / "casarray.sock"))
                held.send(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n")  # and not the rest
            asking = [await mapper(loop, 1), await mapper(loop, 2)]
            silent = open_ones.enter_context(socket.create_connection((loop.vip, loop.ports.epm)))
            began = time.monotonic()
            loop.gateway.send_signal(sign)
            loop.gateway.send_signal(sign)  # an impatient operator
            assert await asyncio.to_thread(loop.gateway.wait, 10) == 0
            assert time.monotonic() - began < 2
            silent.settimeout(2)
            assert silent.recv(1) == b""
            for channel in asking:
                await asyncio.wait_for(channel.lost, 2)
    assert not (loop.folder / "casarray.sock").exists()
    assert "Traceback" not in loop.gateway_log()


async def test_a_killed_gateways_socket_is_no_obstacle(loop: LoopbackSite) -> None:
    await loop.start_gateway()
    loop.kill_gateway()
    assert (loop.folder / "casarray.sock").exists()
    await loop.start_gateway()
    assert loop.control.status().arrays[0].ready


async def test_systemd_is_told_of_the_start_the_watch_the_reload_and_the_stop(loop: LoopbackSite) -> None:
    path = str(loop.folder / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        supervisor.settimeout(10)
        environment = os.environ | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
        gateway = loop.host("gateway").spawn(PROGRAM, "run", "-c", str(loop.config_path), env=environment)
        with gateway:
            try:
                heard = await asyncio.to_thread(hear, supervisor, "READY=1")
                assert "1 arrays, userspace mode" in heard[-1]
                await asyncio.to_thread(hear, supervisor, "WATCHDOG=1", 3)
                edit(loop, ("[[server]]\n", "[[server]]\nwieght = 1\n"))
                gateway.send_signal(signal.SIGHUP)
                told = await asyncio.to_thread(hear, supervisor, "RELOADING=1")
                assert "MONOTONIC_USEC=" in told[-1]
                await asyncio.to_thread(hear, supervisor, "READY=1")
            finally:
                gateway.terminate()
            await asyncio.to_thread(hear, supervisor, "STOPPING=1")
            assert await asyncio.to_thread(gateway.wait, 10) == 0


def hear(supervisor: socket.socket, word: str, times: int = 1) -> list[str]:
    """Everything until that word has come so often."""
    heard: list[str] = []
    while sum(word in one for one in heard) < times:
        heard.append(supervisor.recv(4096).decode())
    return heard


async def test_the_affinity_of_userspace_mode_begins_anew_where_the_hash_says(loop: LoopbackSite) -> None:
    await loop.start_gateway()
    client = outlook(loop, 5)
    await client.open()
    client.close()
    loop.kill_gateway()
    await loop.start_gateway()
    again = outlook(loop, 5)
    await again.open()
    again.close()
    assert again.member == client.member
