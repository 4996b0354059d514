"""A new configuration under clients that work: applied live, or refused with the reason while the old one stays."""

import asyncio
import socket
import sys
from collections.abc import Iterator

import pytest

from casarray.core.errors import CasarrayError, ConfigError, Conflict, Unavailable
from casarray.lab.channel import Channel
from casarray.lab.outlook import Outlook
from casarray.lab.site import NetworkSite

from .gateways import (
    QUICK,
    WHY_NOT,
    cli,
    edit,
    has_address,
    members,
    outlook,
    people,
    running,
    soon,
    tables,
    unhurt,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

SERVERS = ("cas1", "cas2", "cas3", "cas4")
SECOND = "10.11.0.101"
TWIN = """
[[site]]
name = "Other"

[[array]]
name = "TWIN"
fqdn = "twin.lab.example"
site = "Other"
addresses = ["10.11.0.102"]
profile = "msrpc"
[array.health]
interval = "200ms"
slow_start = "0s"

[[server]]
name = "cas4"
site = "Other"
address = "10.12.0.24"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkSite]:
    site = NetworkSite(tmp_path_factory.mktemp("reload"), servers=SERVERS, health=QUICK)
    with running(site, without="cas4"):
        yield site


@pytest.fixture
def site(built: NetworkSite) -> Iterator[NetworkSite]:
    """The site, with the configuration it began with when the test is over."""
    usual = built.config_path.read_text()
    yield built
    built.config_path.write_text(usual)
    built.control.reload()


async def reload(site: NetworkSite) -> list[str]:
    """What the gateway says it changed."""
    return list((await asyncio.to_thread(site.control.reload)).changes)


async def reaches(site: NetworkSite, vip: str, number: int = 90) -> str:
    """The server that a client finds at this address on its whole way, on 135 and the ports it is told."""
    with site.host("clients").inside():
        client = outlook(site, number, vip=vip)
        await client.open()
        client.close()
        return client.member


async def client_of(site: NetworkSite, server: str) -> Outlook:
    """A client without a pin whose slot belongs to this server."""
    for number in range(1000, 1200):
        client = outlook(site, number)
        (told,) = (await asyncio.to_thread(site.control.explain, str(client.source))).arrays
        if told.groups[0].member == server and told.groups[0].pinned_seconds is None:
            return client
    raise AssertionError(f"no client's slot belongs to {server}")


WRONG = {
    "a key that does not exist": ('fqdn = "cas.lab.example"', 'fqdn = "cas.lab.example"\nfqnd = "x"', "fqnd", "fqdn"),
    "an address that is none": ('addresses = ["10.11.0.100"', 'addresses = ["10.11.0.300"', "10.11.0.300", "10.11.0.1"),
    "a server in no site": ('name = "cas2"\nsite = "Lab"', 'name = "cas2"\nsite = "Lob"', "Lob", '"Lab"'),
    "no TOML at all": ("[[array]]", "[[array]", "casarray.toml:", ""),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_wrong_file_is_refused_by_the_command_and_the_old_one_stays(site: NetworkSite, what: str) -> None:
    good, bad, wrong, right = WRONG[what]
    before = site.control.status()
    async with people(site) as clients:
        edit(site, (good, bad))
        line = site.config_path.read_text().split(bad)[0].count("\n") + 1
        done = await asyncio.to_thread(cli, site, "reload")
        assert done.returncode == 1
        assert wrong in done.stderr
        assert right in done.stderr
        assert any(f"{site.config_path}:{n}:" in done.stderr for n in (line, line + 1)), done.stderr
        await unhurt(clients)
    assert site.control.status().arrays[0].services == before.arrays[0].services
    edit(site, (bad, good))


async def test_a_wrong_file_is_refused_on_sighup_and_the_log_says_why(site: NetworkSite) -> None:
    async with people(site) as clients:
        edit(site, ("[[server]]\n", '[[server]]\nwieght = "1"\n'))
        said = len(site.gateway_log())
        site.reload_gateway()
        await soon(lambda: "wieght" in site.gateway_log()[said:])
        assert "the old one stays in force" in site.gateway_log()[said:]
        await unhurt(clients)
        edit(site, ('wieght = "1"', "weight = 50"))
        site.reload_gateway()
        await soon(lambda: members(site)["cas1"].weight == 50)
        await unhurt(clients)


async def test_an_unreadable_file_is_refused(site: NetworkSite) -> None:
    usual = site.config_path.read_text()
    site.config_path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        await reload(site)
    site.config_path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        await reload(site)
    site.config_path.write_text(usual)


async def test_a_file_without_an_array_is_refused_since_it_would_end_all(site: NetworkSite) -> None:
    usual = site.config_path.read_text()
    async with people(site) as clients:
        for text in ("", '[gateway]\nname = "gw1"\n'):
            site.config_path.write_text(text)
            with pytest.raises(ConfigError, match="no array"):
                await reload(site)
        await unhurt(clients)
    site.config_path.write_text(usual)


async def test_the_same_file_again_changes_nothing(site: NetworkSite) -> None:
    async with people(site) as clients:
        done = await asyncio.to_thread(cli, site, "reload")
        assert done.returncode == 0, done.stderr
        assert "nothing" in done.stdout.lower()
        await unhurt(clients)


async def test_a_server_that_is_added_gets_new_clients_and_nobody_moves(site: NetworkSite) -> None:
    async with people(site) as clients:
        edit(
            site,
            (
                "[[server]]\n",
                '[[server]]\nname = "cas4"\nsite = "Lab"\naddress = ["10.12.0.24", "fd12::24"]\n\n[[server]]\n',
            ),
        )
        assert "server cas4 added" in await reload(site)
        await soon(lambda: members(site)["cas4"].share > 0.2)
        await unhurt(clients)
        with site.host("clients").inside():
            newcomer = await client_of(site, "cas4")
            await newcomer.open()
            assert newcomer.member == "cas4"
            newcomer.close()


async def test_a_server_that_is_removed_loses_its_clients_and_nobody_else_is_hurt(site: NetworkSite) -> None:
    async with people(site, 18) as clients:
        of_it = [client for client in clients if client.member == "cas2"]
        others = [client for client in clients if client.member != "cas2"]
        assert of_it
        assert others
        edit(site, without="cas2")
        assert "server cas2 removed" in await reload(site)
        await soon(lambda: not any(client.connected() for client in of_it))
        await unhurt(others)
        for client in of_it:
            assert {c.ending for c in client.channels} == {"reset"}
            client.close()
            await client.open()
            assert client.member in {"cas1", "cas3"}
    assert set(members(site)) == {"cas1", "cas3"}


async def test_a_weight_moves_nobody_and_spreads_newcomers(site: NetworkSite) -> None:
    async with people(site) as clients:
        edit(site, ('name = "cas1"\n', 'name = "cas1"\nweight = 600\n'))
        await reload(site)
        await soon(lambda: abs(members(site)["cas1"].share - 0.75) < 0.02)
        await unhurt(clients)


async def test_an_affinity_timeout_counts_for_the_next_connection(site: NetworkSite) -> None:
    async with people(site, 3) as clients:
        edit(site, ('profile = "msrpc"\n', 'profile = "msrpc"\naffinity_timeout = "90s"\n'))
        await reload(site)
        await unhurt(clients)
        (told,) = site.control.explain(str(clients[0].source)).arrays
        assert 80 < (told.groups[0].pinned_seconds or 0) <= 90


async def test_a_second_address_is_placed_served_and_taken_away_again(site: NetworkSite) -> None:
    async with people(site) as clients:
        usual = site.config_path.read_text()
        edit(site, ('addresses = ["10.11.0.100"', f'addresses = ["{SECOND}", "10.11.0.100"'))
        await reload(site)
        assert has_address(site, SECOND)
        await unhurt(clients)
        assert await reaches(site, SECOND, 91) == await reaches(site, site.vip, 91)
        site.config_path.write_text(usual)
        await reload(site)
        assert not has_address(site, SECOND)
        with site.host("clients").inside(), pytest.raises(Unavailable):
            await Channel.open(SECOND, 135, patience=0.5)
        await unhurt(clients)


async def test_an_ipv6_address_can_be_added(site: NetworkSite) -> None:
    usual = site.config_path.read_text()
    edit(site, ('addresses = ["10.11.0.100", "fd11::100"]', 'addresses = ["10.11.0.100"]'))
    await reload(site)
    assert not has_address(site, "fd11::100")
    site.host("gateway").sysctl("net.ipv6.conf.all.forwarding", 0)
    site.config_path.write_text(usual)
    await reload(site)
    with site.host("clients").inside():
        client = outlook(site, 92, vip="fd11::100", source=site.plan.client6(92))
        await client.open()
        client.close()


async def test_an_address_of_another_gateway_is_refused_and_the_old_ones_stay(site: NetworkSite) -> None:
    with site.host("gateway").inside(), socket.socket(socket.AF_UNIX) as lock:
        lock.bind(f"\0casarray/{SECOND}")
        lock.listen()
        async with people(site) as clients:
            usual = site.config_path.read_text()
            edit(site, ('addresses = ["10.11.0.100"', f'addresses = ["10.11.0.100", "{SECOND}"'))
            with pytest.raises(Conflict, match=f"already serves {SECOND}"):
                await reload(site)
            assert not has_address(site, SECOND)
            assert SECOND not in site.control.status().arrays[0].addresses
            await unhurt(clients)
            site.config_path.write_text(usual)
            assert await reload(site) == []


async def test_an_address_whose_mapper_port_is_taken_is_refused_and_the_old_ones_stay(site: NetworkSite) -> None:
    site.host("gateway").ip(f"addr add {SECOND}/32 dev lo")
    try:
        with site.host("gateway").inside():
            taken = socket.create_server((SECOND, 135))
        with taken:
            async with people(site) as clients:
                usual = site.config_path.read_text()
                edit(site, ('addresses = ["10.11.0.100"', f'addresses = ["10.11.0.100", "{SECOND}"'))
                with pytest.raises(Conflict, match=f"{SECOND} port 135 is taken"):
                    await reload(site)
                assert SECOND not in site.control.status().arrays[0].addresses
                await unhurt(clients)
                site.config_path.write_text(usual)
                assert await reload(site) == []
    finally:
        site.host("gateway").ip(f"addr del {SECOND}/32 dev lo")


async def test_an_address_does_not_go_from_one_array_to_another_in_one_step(site: NetworkSite) -> None:
    async with people(site) as clients:
        edit(site, ('name = "CAS"', 'name = "NEW"'))
        with pytest.raises(Conflict, match="belongs to the array CAS: take it away there"):
            await reload(site)
        assert tables(site).count("casarray_new") == 0
        await unhurt(clients)
        edit(site, ('name = "NEW"', 'name = "CAS"'))


async def test_an_address_that_fits_nowhere_is_refused_and_the_old_ones_stay(site: NetworkSite) -> None:
    async with people(site) as clients:
        usual = site.config_path.read_text()
        edit(site, ('addresses = ["10.11.0.100"', 'addresses = ["10.11.0.100", "192.0.2.7"'))
        with pytest.raises(CasarrayError, match=r"gateway\.interface"):
            await reload(site)
        assert "192.0.2.7" not in site.control.status().arrays[0].addresses
        await unhurt(clients)
        site.config_path.write_text(usual)
        assert await reload(site) == []


async def test_a_service_that_is_added_is_forwarded_at_once_and_refused_when_removed(site: NetworkSite) -> None:
    code = "from http.server import *; HTTPServer.address_family = 10; "  # IPv6, and IPv4 with it
    code += "HTTPServer(('::', 8080), SimpleHTTPRequestHandler).serve_forever()"
    servers = [site.host(name).spawn(sys.executable, "-c", code, stderr=-3) for name in SERVERS]
    async with people(site) as clients:
        usual = site.config_path.read_text()
        service = '[[array.service]]\nname = "app"\nport = 8080\ngroup = "web"\nprobe = "http"\n\n'
        edit(site, ("[[server]]\n", f"{service}[[server]]\n"))
        await reload(site)
        await soon(lambda: all(members(site, "web")[name].eligible for name in ("cas1", "cas2", "cas3")))
        with site.host("clients").inside():
            (await Channel.open(site.vip, 8080)).close(hard=True)
        await unhurt(clients)
        site.config_path.write_text(usual)
        await reload(site)
        with site.host("clients").inside(), pytest.raises(Unavailable, match="refused"):
            await Channel.open(site.vip, 8080)
        await unhurt(clients)
    for server in servers:
        server.kill()
        server.wait()


async def test_new_health_settings_count_from_the_next_probe_on(site: NetworkSite) -> None:
    usual = site.config_path.read_text()
    site.tell("cas3", "rpc slow 0.15")
    try:
        await asyncio.sleep(0.5)
        assert members(site)["cas3"].eligible
        edit(site, ('timeout = "900ms"', 'timeout = "80ms"'))
        await reload(site)
        await soon(lambda: not members(site)["cas3"].eligible)
        site.config_path.write_text(usual)
        await reload(site)
        await soon(lambda: members(site)["cas3"].eligible)
    finally:
        site.tell("cas3", "rpc normal")


async def test_an_array_is_added_and_removed_beside_another(site: NetworkSite) -> None:
    async with people(site) as clients:
        usual = site.config_path.read_text()
        for _ in range(2):  # once removed, it can come again
            site.config_path.write_text(usual + TWIN)
            assert "array TWIN added" in await reload(site)
            assert has_address(site, "10.11.0.102")
            assert "casarray_twin" in tables(site)
            with site.host("clients").inside():
                channel = await Channel.open("10.11.0.102", 135, site.plan.client(5))
                twin = outlook(site, 94, vip="10.11.0.102")
                await twin.open()
            assert twin.member == "cas4"
            await unhurt(clients)
            site.config_path.write_text(usual)
            assert "array TWIN removed" in await reload(site)
            assert not has_address(site, "10.11.0.102")
            assert "casarray_twin" not in tables(site)
            await asyncio.wait_for(channel.lost, 5)
            for lost in twin.channels:
                await asyncio.wait_for(lost.lost, 5)
                assert lost.ending == "reset"
            await unhurt(clients)
    await asyncio.sleep(0.3)
    assert "casarray_twin" not in tables(site)
    assert "Traceback" not in site.gateway_log()


async def test_the_return_path_is_changed_live_and_told(site: NetworkSite) -> None:
    edit(site, ('return_path = "routed"', 'return_path = "masquerade"'))
    await reload(site)
    assert await reaches(site, site.vip, 93)
    assert site.control.status().gateway.return_path == "masquerade"


async def test_twenty_reloads_at_once_hurt_nobody(site: NetworkSite) -> None:
    async with people(site) as clients:
        for weight in range(1, 21):
            edit(site, ('name = "cas1"\n', f'name = "cas1"\nweight = {weight * 10}\n'))
            site.reload_gateway()
            await asyncio.sleep(0.01)
            edit(site, (f"weight = {weight * 10}\n", ""))
        await reload(site)
        await soon(lambda: abs(members(site)["cas1"].share - 0.333) < 0.02)
        assert members(site)["cas1"].weight == 100
        await unhurt(clients)
    assert "Traceback" not in site.gateway_log()
