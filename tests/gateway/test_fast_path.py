"""Connections that stand go past netfilter, and nobody can tell but by the time it takes."""

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from casarray.app.operations import FastPathStatus
from casarray.core.config import Wish
from casarray.core.forwarding import nft
from casarray.lab.netns import Plan
from casarray.lab.site import NetworkSite

from .gateways import MAIL_ARRAY, PROGRAM, SERVER, WHY_NOT, edit, members, soon, source

pytestmark = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

NAMES = ("cas1", "cas2", "cas3")
PORT = 7000
SERVICE = f'\n[[array.service]]\nname = "echo"\nport = {PORT}\ngroup = "echo"\nprobe = "tcp"\n'
MUTE = (
    "add table inet mute; add chain inet mute c { type filter hook output priority 0; }; "
    "add rule inet mute c tcp sport 40000 tcp flags rst drop"
)
ENOUGH = 64  # messages, after which a connection is surely known: one packet of eight is learnt from


@contextmanager
def built(folder: Path, *changes: tuple[str, str], plan: Plan | None = None, version: int = 4) -> Iterator[NetworkSite]:
    """Three machines that echo, and a gateway before them."""
    site = NetworkSite(folder, servers=NAMES, plan=plan)

    async def start() -> None:
        site.build()
        vip = site.vip if version == 4 else site.plan.vip6
        text = MAIL_ARRAY.format(mode="kernel", folder=site.folder, vip=vip, services=SERVICE)
        text += "".join(SERVER.format(name=name, address=own_address(site, name, version)) for name in NAMES)
        site.config_path.write_text(text)
        edit(site, *changes)
        for name in NAMES:
            await start_server(site, name, version)
        await site.start_gateway()
        await soon(lambda: fast_path(site).interfaces)

    try:
        asyncio.run(start())
        yield site
    finally:
        site.close()


def own_address(site: NetworkSite, name: str, version: int) -> str:
    return next(address for address in site.addresses(name) if ip_address(address).version == version)


async def start_server(site: NetworkSite, name: str, version: int) -> None:
    script = str(Path(__file__).with_name("echo_server.py"))
    command = [sys.executable, script, name, own_address(site, name, version), str(PORT)]
    site.servers[name] = await site._start(name, name, command)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkSite]:
    with built(tmp_path_factory.mktemp("fast")) as one:
        yield one


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[NetworkSite]:
    with built(tmp_path) as one:
        yield one


def fast_path(site: NetworkSite) -> FastPathStatus:
    told = site.control.status().arrays[0].fast_path
    assert told is not None
    return told


def repeated(site: NetworkSite) -> int:
    return fast_path(site).packets


def usual_way(site: NetworkSite) -> int:
    """Packets that the gateway's IP layer has forwarded."""
    heading, values = [line for line in proc(site, "snmp").splitlines() if line.startswith("Ip:")]
    return int(dict(zip(heading.split(), values.split(), strict=True))["ForwDatagrams"])


def proc(site: NetworkSite, name: str) -> str:
    return str(site.host("gateway").run("cat", f"/proc/net/{name}").stdout)


def filters(site: NetworkSite) -> list[str]:
    """The names of all programs on the gateway's interfaces."""
    found = []
    for link in json.loads(site.host("gateway").run("ip", "-j", "link").stdout):
        for where in ("ingress", "egress"):
            said = site.host("gateway").run("tc", "filter", "show", "dev", link["ifname"], where, check=False).stdout
            found += [
                line.partition(" handle ")[2].split(" ", 1)[1] for line in said.splitlines() if " handle " in line
            ]
    return found


def connected(site: NetworkSite, number: int, port: int = 0, version: int = 4) -> tuple[socket.socket, str]:
    """A client's connection, and who answered."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with site.host("clients").inside():
        sock = socket.socket(family)
        sock.settimeout(5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source(site, number) if version == 4 else site.plan.client6(number), port))
        sock.connect((site.vip if version == 4 else site.plan.vip6, PORT))
    return sock, received(sock, 16).decode().strip()


def received(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        some = sock.recv(size - len(data))
        assert some, f"ended after {len(data)} of {size}"
        data += some
    return data


def talk(sock: socket.socket, times: int = ENOUGH) -> None:
    for number in range(times):
        message = b"%8d" % number
        sock.sendall(message)
        assert received(sock, 8) == message


def is_reset(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def tcp_states(site: NetworkSite, number: int) -> list[str]:
    """What the connection table thinks of this client's connections."""
    told = site.host("gateway").run("conntrack", "-L", "-s", source(site, number), "-p", "tcp", check=False).stdout
    return [line.split()[3] for line in told.splitlines()]


def test_packets_of_a_connection_that_stands_are_not_forwarded_by_ip(site: NetworkSite) -> None:
    sock, _ = connected(site, 1)
    with closing(sock):
        talk(sock)
        before, repeated_before = usual_way(site), repeated(site)
        talk(sock, 400)
        # Probes, acknowledgements, one packet a second: far fewer than the 800 and more of the conversation.
        assert usual_way(site) - before < 200
        assert repeated(site) - repeated_before > 700


def test_much_data_comes_through_whole_in_both_directions(site: NetworkSite) -> None:
    sock, _ = connected(site, 2)
    with closing(sock):
        talk(sock)
        for seed in range(20):
            block = bytes([seed]) * 100_000
            sock.sendall(block)
            assert received(sock, len(block)) == block


async def test_a_member_that_is_taken_out_loses_busy_and_idle_clients_at_once(own_site: NetworkSite) -> None:
    clients = {number: connected(own_site, number) for number in range(10, 40)}
    for sock, _ in clients.values():
        talk(sock)
    victim = clients[10][1]
    own_site.control.set_server(victim, Wish.OUT)
    for sock, name in clients.values():
        if name == victim:
            assert await asyncio.to_thread(is_reset, sock)
        else:
            talk(sock, 3)
    for number, (_, name) in clients.items():
        sock, now = connected(own_site, number)
        assert now != victim
        assert name in {victim, now}
        talk(sock)
        sock.close()
    for sock, _ in clients.values():
        sock.close()


async def test_a_killed_server_loses_its_clients_and_they_are_served_elsewhere(own_site: NetworkSite) -> None:
    sock, name = connected(own_site, 50)
    talk(sock)
    own_site.servers[name].kill()
    own_site.servers[name].wait()
    assert await asyncio.to_thread(is_reset, sock)
    await soon(lambda: not members(own_site, "echo")[name].eligible)
    again, now = connected(own_site, 50)
    talk(again)
    assert now != name
    sock.close()
    again.close()


async def test_a_gateway_that_is_killed_and_comes_back_is_not_noticed(own_site: NetworkSite) -> None:
    sock, name = connected(own_site, 60)
    talk(sock)
    own_site.kill_gateway()
    before = usual_way(own_site)
    talk(sock, 400)
    assert usual_way(own_site) - before < 200
    await own_site.start_gateway()
    await soon(lambda: fast_path(own_site).interfaces)
    talk(sock)
    before = repeated(own_site)
    talk(sock, 400)
    assert repeated(own_site) - before > 700
    again, now = connected(own_site, 60)
    assert now == name
    # What the gateway that is back decides counts for what the one before it had learnt.
    own_site.control.set_server(name, Wish.OUT)
    assert await asyncio.to_thread(is_reset, sock)
    sock.close()
    again.close()


async def test_a_server_that_dies_while_no_gateway_runs_loses_its_idle_clients_too(own_site: NetworkSite) -> None:
    sock, name = connected(own_site, 61)
    talk(sock)
    own_site.kill_gateway()
    talk(sock)
    own_site.servers[name].kill()
    own_site.servers[name].wait()
    own_site.cut(name)  # so that its end is told to nobody
    await own_site.start_gateway()
    assert await asyncio.to_thread(is_reset, sock)
    sock.close()


async def test_a_stop_leaves_the_programs_and_remove_takes_them(own_site: NetworkSite) -> None:
    assert await own_site.stop_gateway() == 0
    assert {name.split()[-1] for name in programs(own_site)} == {"in4", "out4"}
    own_site.host("gateway").run(PROGRAM, "remove", "-c", str(own_site.config_path))
    assert programs(own_site) == []
    assert "clsact" not in own_site.host("gateway").run("tc", "qdisc").stdout


def programs(site: NetworkSite) -> list[str]:
    """Ours among the filters, without what tc adds."""
    return [name.partition(" direct-action")[0] for name in filters(site) if name.startswith("casarray MAIL")]


async def test_whoever_does_not_want_it_has_none_not_even_an_old_one(own_site: NetworkSite) -> None:
    assert await own_site.stop_gateway() == 0
    assert programs(own_site)
    edit(own_site, ('metrics = ""', 'metrics = ""\nfast_path = false'))
    await own_site.start_gateway()
    assert programs(own_site) == []
    assert own_site.control.status().arrays[0].fast_path is None
    sock, _ = connected(own_site, 70)
    with closing(sock):
        before = usual_way(own_site)
        talk(sock, 200)
        assert usual_way(own_site) - before > 350


async def test_programs_that_somebody_takes_away_come_back(site: NetworkSite) -> None:
    sock, _ = connected(site, 80)
    with closing(sock):
        talk(sock)
        count = len(programs(site))
        for link in json.loads(site.host("gateway").run("ip", "-j", "link").stdout):
            site.host("gateway").run("tc", "qdisc", "del", "dev", link["ifname"], "clsact", check=False)
        talk(sock)
        await soon(lambda: len(programs(site)) == count)
        talk(sock)
        before = repeated(site)
        talk(sock, 100)
        assert repeated(site) - before > 150


async def test_an_interface_with_programs_of_others_is_left_to_them(own_site: NetworkSite) -> None:
    ours = fast_path(own_site).interfaces
    own_site.host("gateway").run(
        "tc", "filter", "add", "dev", ours[0], "ingress", "prio", "1", "u32", "match", "u32", "0", "0", "flowid", "1:1"
    )  # fmt: skip
    await soon(lambda: fast_path(own_site).interfaces == ours[1:])
    sock, _ = connected(own_site, 90)
    with closing(sock):
        before = usual_way(own_site)
        talk(sock, 200)
        assert usual_way(own_site) - before > 350


def test_a_port_that_is_used_again_leads_where_the_new_connection_was_led(own_site: NetworkSite) -> None:
    sock, first = connected(own_site, 100, 40_000)
    talk(sock)
    # Gone without a word: the gateway knows nothing of its end.
    own_site.host("clients").run("nft", MUTE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    own_site.host("clients").run("nft", "delete table inet mute")
    own_site.control.set_server(first, Wish.DRAIN)
    own_site.host("gateway").run("nft", f"flush map inet {nft.table_name('MAIL')} {nft.pin_map('echo', 4)}")
    again, _ = connected(own_site, 100, 40_000)
    talk(again, 200)
    again.close()


async def test_the_connection_table_hears_of_the_end(site: NetworkSite) -> None:
    sock, _ = connected(site, 110)
    talk(sock)
    assert tcp_states(site, 110) == ["ESTABLISHED"]
    sock.close()
    await soon(lambda: "ESTABLISHED" not in tcp_states(site, 110))
    sock, _ = connected(site, 111)
    talk(sock)
    for _ in range(40):  # far out of every window that the connection table has seen
        sock.sendall(bytes(100_000))
        received(sock, 100_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    await soon(lambda: "ESTABLISHED" not in tcp_states(site, 111))


def test_packets_too_big_for_the_way_out_are_answered_as_ever(own_site: NetworkSite) -> None:
    sock, _ = connected(own_site, 120)
    talk(sock)
    links = json.loads(own_site.host("gateway").run("ip", "-j", "link").stdout)
    for link in links:
        if link["ifname"] != "lo":
            own_site.host("gateway").ip(f"link set {link['ifname']} mtu 1300")
    for _ in range(10):
        block = os.urandom(200_000)
        sock.sendall(block)
        assert received(sock, len(block)) == block
    sock.close()


def test_behind_an_address_of_the_gateway_it_works_as_well(tmp_path: Path) -> None:
    change = ('metrics = ""', 'metrics = ""\nreturn_path = "masquerade"\nsource_addresses = ["10.12.0.240"]')
    with built(tmp_path, change, plan=Plan(routed=False)) as site:
        # One source port for all: the gateway has to choose others towards the members.
        socks = [connected(site, number, 41_000)[0] for number in range(1, 13)]
        for sock in socks:
            talk(sock)
        before = repeated(site)
        for sock in socks:
            talk(sock, 50)
        assert repeated(site) - before > 12 * 75
        for sock in socks:
            sock.close()


def test_over_ipv6_it_works_as_well(tmp_path: Path) -> None:
    with built(tmp_path, version=6) as site:
        socks = {number: connected(site, number, version=6) for number in range(1, 13)}
        for sock, _ in socks.values():
            talk(sock)
        before = repeated(site)
        for sock, _ in socks.values():
            talk(sock, 50)
            block = os.urandom(300_000)
            sock.sendall(block)
            assert received(sock, len(block)) == block
        assert repeated(site) - before > 12 * 75
        victim = socks[1][1]
        site.control.set_server(victim, Wish.OUT)
        for sock, name in socks.values():
            if name == victim:
                assert is_reset(sock)
            else:
                talk(sock, 3)
            sock.close()
