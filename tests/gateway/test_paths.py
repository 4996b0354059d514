"""Which ways lead through a gateway and which do not, who is seen at their end, and for how long they are open."""

import asyncio
import json
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator

import pytest

from casarray.core.errors import Unavailable
from casarray.lab.channel import Channel
from casarray.lab.netns import Plan
from casarray.lab.outlook import Outlook
from casarray.lab.site import NetworkSite

from .gateways import (
    PROGRAM,
    QUICK,
    WHY_NOT,
    ask_mapper,
    edit,
    has_address,
    mapper,
    members,
    outlook,
    people,
    running,
    soon,
    unhurt,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

POOL = ("10.12.0.240", "10.12.0.241", "10.12.0.242")
POOL6 = "fd12::240"

PING = """
import socket as s, sys
if sys.argv[2] == "4":
    ping, echo = s.socket(s.AF_INET, s.SOCK_RAW, s.IPPROTO_ICMP), bytes.fromhex("0800e5ca12340001")
else:
    ping, echo = s.socket(s.AF_INET6, s.SOCK_RAW, s.IPPROTO_ICMPV6), bytes.fromhex("8000000012340001")
ping.settimeout(3)
ping.connect((sys.argv[1], 0))
ping.send(echo)
ping.recv(99)
"""


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkSite]:
    """Beside the path: the servers know no way to the clients."""
    folder = tmp_path_factory.mktemp("masquerade")
    site = NetworkSite(folder, plan=Plan(routed=False), return_path="masquerade", health=QUICK)
    pool = ", ".join(f'"{address}"' for address in (*POOL, POOL6))
    with running(site, ('metrics = ""', f'metrics = ""\nsource_addresses = [{pool}]')):
        yield site


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkSite]:
    """In the path, and quick to forget."""
    array = {"affinity_timeout": '"3s"', "pinhole_timeout": '"3s"'}
    site = NetworkSite(tmp_path_factory.mktemp("brief"), array=array, health=QUICK)
    with running(site):
        yield site


def seen_at_the_servers(site: NetworkSite) -> dict[str, set[str]]:
    """For each client by name, the addresses that its mailbox and address book were called from."""
    seen: dict[str, set[str]] = defaultdict(set)
    for name in site.names:
        for line in (site.folder / f"{name}.jsonl").read_text().splitlines():
            told = json.loads(line)
            if told["event"] == "call" and told["service"] != "epm" and told["id"]:
                seen[told["id"]].add(told["client"])
    return seen


async def whole_way(client: Outlook) -> str:
    """Go it and come back; the member at its end."""
    await client.open()
    try:
        await client.talk()
    finally:
        client.close()
    return client.member


async def seconds_left(site: NetworkSite, client: str) -> int | None:
    """How long the client's pin lives."""
    (array,) = (await asyncio.to_thread(site.control.explain, client)).arrays
    return array.groups[0].pinned_seconds


async def test_behind_a_pool_each_client_is_one_address_of_it_on_every_connection(hidden: NetworkSite) -> None:
    async with people(hidden, 16) as clients:
        await unhurt(clients)
        names = {client.name for client in clients}
    seen = {name: found for name, found in seen_at_the_servers(hidden).items() if name in names}
    assert seen.keys() == names
    assert all(len(found) == 1 for found in seen.values()), seen
    assert {address for found in seen.values() for address in found} == set(POOL)


async def test_a_client_comes_back_behind_the_same_address(hidden: NetworkSite) -> None:
    for _ in range(3):
        async with people(hidden, 4, first=40) as clients:
            names = [client.name for client in clients]
    assert all(len(seen_at_the_servers(hidden)[name]) == 1 for name in names)


async def test_an_ipv6_client_goes_the_whole_way_behind_the_ipv6_pool(hidden: NetworkSite) -> None:
    with hidden.host("clients").inside():
        client = outlook(hidden, 50, vip=hidden.plan.vip6, source=hidden.plan.client6(50))
        assert await whole_way(client)
    assert seen_at_the_servers(hidden)[client.name] == {POOL6}


async def test_the_pool_is_placed_changed_by_a_reload_and_taken_away_by_remove(hidden: NetworkSite) -> None:
    assert all(has_address(hidden, address) for address in (*POOL, POOL6))
    edit(hidden, (f'"{POOL[0]}", ', '"10.12.0.243", '))
    await asyncio.to_thread(hidden.control.reload)
    assert not has_address(hidden, POOL[0])
    assert has_address(hidden, "10.12.0.243")
    async with people(hidden, 8, first=30) as clients:
        names = [client.name for client in clients]
    assert {a for name in names for a in seen_at_the_servers(hidden)[name]} == {*POOL[1:], "10.12.0.243"}
    await hidden.stop_gateway()
    assert has_address(hidden, POOL[1])
    hidden.host("gateway").run(PROGRAM, "remove", "-c", str(hidden.config_path))
    assert not any(has_address(hidden, address) for address in (*POOL, POOL6))
    edit(hidden, ('"10.12.0.243", ', f'"{POOL[0]}", '))
    await hidden.start_gateway()


async def test_on_a_dual_stack_array_both_families_go_the_whole_way(brief: NetworkSite) -> None:
    plan = brief.plan
    with brief.host("clients").inside():
        for number in range(60, 66):
            assert await whole_way(outlook(brief, number))
            client = outlook(brief, number, vip=plan.vip6, source=plan.client6(number))
            assert await whole_way(client)
            assert client.members.keys() == {"epm", "rfr", "ab", "rpc"}
    assert plan.client6(60) in seen_at_the_servers(brief)[outlook(brief, 60).name]


async def test_a_client_on_the_gateway_itself_is_served_too(brief: NetworkSite) -> None:
    with brief.host("gateway").inside():
        assert await whole_way(outlook(brief, 70, source=None))
        assert await whole_way(outlook(brief, 71, source=None, vip=brief.plan.vip6))


@pytest.mark.parametrize("version", [4, 6])
async def test_a_client_on_a_member_is_served_too_also_by_itself(brief: NetworkSite, version: int) -> None:
    vip = brief.vip if version == 4 else brief.plan.vip6
    for number, name in enumerate(brief.names):
        with brief.host(name).inside():
            assert await whole_way(outlook(brief, 72 + number, source=None, vip=vip))


async def test_daemons_of_the_gateway_are_not_reached_by_the_arrays_address(brief: NetworkSite) -> None:
    plan = brief.plan
    with brief.host("gateway").inside():
        daemon = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
    with daemon, brief.host("clients").inside():
        for own, vip in (
            (str(plan.host(plan.clients, 1).ip), brief.vip),
            (str(plan.host(plan.clients6, 1).ip), plan.vip6),
        ):
            (await Channel.open(own, 8080, patience=2)).close(hard=True)
            with pytest.raises(Unavailable, match="refused"):
                await Channel.open(vip, 8080, patience=2)
    await asyncio.sleep(0)


async def test_the_arrays_addresses_answer_a_ping(brief: NetworkSite) -> None:
    for vip, version in ((brief.vip, "4"), (brief.plan.vip6, "6")):
        done = brief.host("clients").run(sys.executable, "-c", PING, vip, version, check=False)
        assert done.returncode == 0, done.stderr


async def test_a_dynamic_port_is_open_for_whoever_was_told_it_and_nobody_else(brief: NetworkSite) -> None:
    with brief.host("clients").inside():
        channel = await mapper(brief, 80)
        (port,) = await ask_mapper(channel)
        channel.close(hard=True)
        (await Channel.open(brief.vip, port, outlook(brief, 80).source)).close(hard=True)
        with pytest.raises(Unavailable, match="refused"):
            await Channel.open(brief.vip, port, outlook(brief, 81).source)
        with pytest.raises(Unavailable, match="refused"):
            await Channel.open(brief.vip, port + 1, outlook(brief, 80).source)
    await asyncio.sleep(0)


async def test_a_pinhole_closes_and_what_went_through_stays(brief: NetworkSite) -> None:
    async with people(brief, 1, first=82) as (client,):
        port = client.ports["ab"]
        await asyncio.sleep(3.2)
        with pytest.raises(Unavailable, match="refused"):
            await Channel.open(brief.vip, port, client.source)
        assert client.connected()
        await client.talk()
        channel = await mapper(brief, 82)
        assert await ask_mapper(channel) == [port]  # it is told anew
        channel.close(hard=True)
        await unhurt([client])


async def test_a_pin_outlives_its_time_while_a_connection_does_and_then_ends(brief: NetworkSite) -> None:
    async with people(brief, 2, first=84) as clients:
        for _ in range(9):
            await asyncio.sleep(0.5)
            for client in clients:
                assert await seconds_left(brief, str(client.source)) is not None
        await asyncio.gather(*(client.talk() for client in clients))
    for client in clients:
        for _ in range(60):
            if await seconds_left(brief, str(client.source)) is None:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the pin outlives its client")


async def test_explain_says_before_and_after_what_the_pin_does(brief: NetworkSite) -> None:
    address = str(outlook(brief, 86).source)
    (before,) = brief.control.explain(address).arrays
    assert before.groups[0].pinned_seconds is None
    assert "no pin yet" in before.groups[0].reason
    async with people(brief, 1, first=86) as (client,):
        assert client.member == before.groups[0].member
        (after,) = brief.control.explain(address).arrays
        assert after.groups[0].member == client.member
        assert after.groups[0].pinned_seconds in range(4)
        assert "led there before" in after.groups[0].reason
        await soon(lambda: members(brief)[client.member].connections >= 3)


async def test_a_shorter_affinity_that_is_loaded_is_heeded_from_then_on(brief: NetworkSite) -> None:
    edit(brief, ('affinity_timeout = "3s"', 'affinity_timeout = "2s"'))
    await asyncio.to_thread(brief.control.reload)
    async with people(brief, 1, first=88) as (client,):
        for _ in range(7):
            await asyncio.sleep(0.5)
            assert await seconds_left(brief, str(client.source)) is not None
    edit(brief, ('affinity_timeout = "2s"', 'affinity_timeout = "3s"'))
    await asyncio.to_thread(brief.control.reload)
