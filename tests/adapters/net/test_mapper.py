"""The endpoint mapper's port on real sockets, under asyncio's loop and under uvloop."""

import asyncio
import contextlib
import errno
import inspect
import resource
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from impacket.dcerpc.v5 import epm, transport
from impacket.uuid import uuidtup_to_bin
from tests.adapters.net.mapper_site import (
    DYNAMIC,
    MEMBER,
    VIP,
    VIP2,
    Member,
    RawClient,
    Site,
    Steers,
    kernel_is_gone,
    listening,
    member,
)
from tests.core.dcerpc.conftest import read_capture

from casarray.adapters.net.mapper import (
    MapperListener,
    MapperSettings,
    affordable_relays,
    listening_socket,
    settings_of,
)
from casarray.adapters.net.mapper_relay import RelayLimits, reset
from casarray.core.config import Array, Service, UnreadableMapper
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPT_LOOKUP, Entry, EptLookup, EptMapReply
from casarray.core.dcerpc.pdu import Request
from casarray.core.dcerpc.tower import Tower
from casarray.core.errors import Conflict
from casarray.core.forwarding.table import Address
from casarray.core.gateway.epm_inspection import PortPolicy

BIND = read_capture("mapper_bind")
MAP = read_capture("ept_map_emsmdb")
ACK_SIZE, ANSWER_SIZE = 84, 152
QUICK = RelayLimits(pdu=0.4, idle=1.2, answer=0.6, stalled=0.5, connect=0.3)


def free_settings(**changes: Any) -> MapperSettings:
    """On some port, with time-outs that a test can wait for."""
    settings = MapperSettings(addresses=(VIP,), port=0, limits=QUICK)
    return replace(settings, **changes)


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test on asyncio's loop and on uvloop. One that wants a ``site`` gets one member behind one address."""
    wanted = list(inspect.signature(test).parameters.values())

    async def staged(arguments: dict[str, object]) -> None:
        if not any(parameter.name == "site" for parameter in wanted):
            await test(**arguments)
            return
        peers: list[Member] = []
        async with member(peers) as where, listening(free_settings(), {1: where}, peers) as site:
            await test(site=site, **arguments)

    def run(loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(staged(arguments))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    loop = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([loop, *(p for p in wanted if p.name != "site")])  # type: ignore[attr-defined]  # functions have one, and mypy does not know it
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("loop", loops, ids=["asyncio", "uvloop"])(run)
    return marked


async def bound(site: Site, source: str | None = None) -> RawClient:
    """A client whose bind has been answered."""
    client = await RawClient.connect(VIP, site.port, source)
    await client.say(BIND)
    assert len(await client.hear_exactly(ACK_SIZE)) == ACK_SIZE
    return client


# Answers


@on_both_loops
async def test_impacket_is_told_the_dynamic_port_and_the_array(site: Site) -> None:
    def ask() -> str:
        dce = transport.DCERPCTransportFactory(f"ncacn_ip_tcp:{VIP}[{site.port}]").get_dce_rpc()
        dce.connect()
        try:
            interface = uuidtup_to_bin((str(EMSMDB.uuid), f"{EMSMDB.major}.{EMSMDB.minor}"))
            return str(epm.hept_map(str(VIP), interface, protocol="ncacn_ip_tcp", dce=dce))
        finally:
            dce.disconnect()

    assert await asyncio.to_thread(ask) == f"ncacn_ip_tcp:{VIP}[{DYNAMIC}]"
    assert site.steers.holes == [("127.0.0.1", 1, (DYNAMIC,))]


@on_both_loops
async def test_impacket_looks_everything_up(site: Site) -> None:
    def ask() -> list[str]:
        dce = transport.DCERPCTransportFactory(f"ncacn_ip_tcp:{VIP}[{site.port}]").get_dce_rpc()
        dce.connect()
        try:
            found = epm.hept_lookup(None, dce=dce)
            return [epm.PrintStringBinding(entry["tower"]["Floors"]) for entry in found]
        finally:
            dce.disconnect()

    assert await asyncio.to_thread(ask) == [f"ncacn_ip_tcp:{VIP}[{DYNAMIC}]"]


@on_both_loops
async def test_the_hole_is_open_before_the_answer_leaves(site: Site) -> None:
    opened = []
    with await bound(site) as client:

        def look() -> None:
            with pytest.raises(BlockingIOError):
                client.sock.recv(1)
            opened.append(True)

        site.steers.on_open = look
        await client.say(MAP)
        answer = await client.hear_exactly(ANSWER_SIZE)
    assert opened == [True]
    assert EptMapReply.decode(answer[24:]).towers[0].address == VIP


@on_both_loops
async def test_an_answer_whose_hole_cannot_be_opened_never_arrives(site: Site) -> None:
    site.steers.on_open = kernel_is_gone
    with await bound(site) as client:
        await client.say(MAP)
        assert await client.is_reset()
    assert site.listener.counters()["pinhole_failures"] == 1


@on_both_loops
async def test_a_client_that_closed_its_side_still_gets_its_answer(site: Site) -> None:
    with await bound(site) as client:
        await client.say(MAP)
        client.sock.shutdown(socket.SHUT_WR)
        assert len(await client.hear_exactly(ANSWER_SIZE)) == ANSWER_SIZE
        assert await client.hear() == b""


@on_both_loops
async def test_bytes_that_drip_in_arrive_whole(site: Site) -> None:
    with await RawClient.connect(VIP, site.port) as client:
        for at in range(0, len(BIND), 29):
            await client.say(BIND[at : at + 29])
            await asyncio.sleep(0.005)
        await client.hear_exactly(ACK_SIZE)
        await client.say(MAP + MAP.replace(b"\x01\0\0\0\x84", b"\x02\0\0\0\x84"))
        await client.hear_exactly(2 * ANSWER_SIZE)
    assert site.listener.counters()["ept_map"] == 2


@on_both_loops
async def test_a_client_over_ipv6_is_told_to_stay_where_it_is() -> None:
    peers: list[Member] = []
    settings = free_settings(addresses=(IPv6Address("::1"),))
    async with member(peers) as where, listening(settings, {1: where}, peers) as site:
        with await RawClient.connect(IPv6Address("::1"), site.port) as client:
            await client.say(BIND)
            await client.hear_exactly(ACK_SIZE)
            await client.say(MAP)
            answer = await client.hear_exactly(ANSWER_SIZE)
        assert EptMapReply.decode(answer[24:]).towers[0].address == IPv4Address(0)
        assert site.steers.holes == [("::1", 1, (DYNAMIC,))]


def test_a_link_local_address_is_listened_on_in_its_scope() -> None:
    with listening_socket(IPv6Address("fe80::1%lo"), 0) as sock:
        assert sock.getsockname()[3] == socket.if_nametoindex("lo")


# Bad clients


@on_both_loops
async def test_a_client_that_says_nothing_is_closed(site: Site) -> None:
    with await RawClient.connect(VIP, site.port) as client:
        took = await site.until(lambda: site.listener.counters().get("timeout:silent") == 1)
        assert await client.is_reset()
    assert took < 2 * QUICK.pdu
    assert site.peers == []  # no member was bothered


@on_both_loops
async def test_a_client_of_single_octets_is_closed_and_hurts_nobody(site: Site) -> None:
    async def drip(client: RawClient) -> None:
        with contextlib.suppress(ConnectionError):
            for octet in BIND:
                await client.say(bytes([octet]))
                await asyncio.sleep(0.05)

    with await RawClient.connect(VIP, site.port) as slow, await bound(site) as other:
        dripping = asyncio.create_task(drip(slow))
        took = await site.until(lambda: site.listener.counters().get("timeout:slow") == 1)
        await other.say(MAP)
        await other.hear_exactly(ANSWER_SIZE)
        await dripping
    assert took < 2 * QUICK.pdu


@on_both_loops
async def test_a_bound_client_may_be_idle_for_longer_but_not_for_ever(site: Site) -> None:
    with await bound(site) as client:
        await asyncio.sleep(1.5 * QUICK.pdu)
        await client.say(MAP)
        await client.hear_exactly(ANSWER_SIZE)
        assert await client.hear(2 * QUICK.idle) == b""
    assert site.listener.counters()["timeout:idle"] == 1


@on_both_loops
async def test_a_member_that_takes_the_bind_and_never_answers_is_given_up() -> None:
    peers: list[Member] = []
    async with member(peers, silent=True) as where, listening(free_settings(), {1: where}, peers) as site:
        with await RawClient.connect(VIP, site.port) as client:
            await client.say(BIND)
            assert await client.hear() == b""
        assert site.listener.counters()["timeout:unanswered"] == 1


@on_both_loops
async def test_a_client_that_does_not_read_stops_its_member_and_is_closed() -> None:
    peers: list[Member] = []
    entries = tuple(Entry(Tower.tcp(EMSMDB, 50000 + n, MEMBER), "x" * 60) for n in range(500))
    async with member(peers, entries=entries) as where, listening(free_settings(), {1: where}, peers) as site:
        with await RawClient.connect(VIP, site.port, buffer=4096) as client:
            await client.say(BIND)
            await client.hear_exactly(ACK_SIZE)
            stub = EptLookup().encode()
            calls = [Request(call_id=n, context_id=0, opnum=EPT_LOOKUP, stub=stub).encode() for n in range(2, 62)]
            await client.say(b"".join(calls))  # five megabytes of answers, which nobody takes
            await site.until(lambda: site.listener.counters().get("timeout:stalled") == 1)
            assert await client.is_reset()
        # The rest has stayed with the member: a socket's buffers and one read are all that we took from it.
        assert 0 < site.listener.counters()["ept_lookup"] < 60


@on_both_loops
async def test_a_bound_client_that_drips_is_closed_as_well(site: Site) -> None:
    with await bound(site) as client:
        await client.say(MAP[:20])
        took = await site.until(lambda: site.listener.counters().get("timeout:slow") == 1)
        assert await client.is_reset()
    assert took < 2 * QUICK.pdu


@on_both_loops
async def test_a_member_is_told_that_its_client_will_ask_no_more() -> None:
    peers: list[Member] = []
    async with member(peers, silent=True) as where, listening(free_settings(), {1: where}, peers) as site:
        with await RawClient.connect(VIP, site.port) as client:
            await client.say(BIND)
            client.sock.shutdown(socket.SHUT_WR)
            await site.until(lambda: bool(peers) and peers[0].ended, QUICK.answer / 2)


@pytest.mark.parametrize(
    ("garbage", "kind"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "version"),
        (b"\x05\x00\x0b\x03\x10\x00\x00\x00\xff\xff\x00\x00", "oversize"),
        (MAP, "out-of-turn"),
        (BIND[:24] + b"\x09" + BIND[25:], "truncated"),
        (bytes(64), "version"),
    ],
)
@on_both_loops
async def test_garbage_closes_its_connection_by_kind_and_reaches_no_member(
    site: Site, garbage: bytes, kind: str
) -> None:
    with await RawClient.connect(VIP, site.port) as client, await bound(site) as other:
        await client.say(garbage)
        await client.is_reset()
        await other.say(MAP)
        await other.hear_exactly(ANSWER_SIZE)
    assert site.listener.counters()[f"wire_error:{kind}"] == 1
    assert len(site.peers) == 1


@on_both_loops
async def test_garbage_from_a_member_closes_the_connection(site: Site) -> None:
    with await bound(site) as client:
        transport_ = site.peers[0].transport
        assert transport_ is not None
        transport_.write(b"220 welcome\r\n")
        assert await client.hear() == b""
    assert site.listener.counters()["wire_error:version"] == 1


# Limits


@on_both_loops
async def test_too_many_connections_of_one_address_are_reset_at_once_and_others_are_served() -> None:
    peers: list[Member] = []
    settings = free_settings(per_client=3, limits=RelayLimits())
    async with member(peers) as where, listening(settings, {1: where}, peers) as site:
        kept = [await bound(site, "127.0.0.5") for _ in range(3)]
        with await RawClient.connect(VIP, site.port, "127.0.0.5") as refused:
            assert await refused.is_reset(0.5)
        with await bound(site, "127.0.0.6") as other:
            await other.say(MAP)
            await other.hear_exactly(ANSWER_SIZE)
        assert site.listener.counters()["refused:client_limit"] == 1
        for client in kept:
            await client.say(MAP)
            await client.hear_exactly(ANSWER_SIZE)
        kept[0].sock.close()
        await site.until(lambda: site.listener.relays == 2)
        (await bound(site, "127.0.0.5")).sock.close()
        for client in kept[1:]:
            client.sock.close()


@on_both_loops
async def test_more_connections_than_there_is_room_for_are_reset_at_once() -> None:
    peers: list[Member] = []
    async with member(peers) as where, listening(free_settings(total=2), {1: where}, peers) as site:
        with await bound(site, "127.0.0.5"), await bound(site, "127.0.0.6"):
            with await RawClient.connect(VIP, site.port, "127.0.0.7") as refused:
                assert await refused.is_reset(0.5)
            assert site.listener.counters()["refused:total_limit"] == 1
        await site.until(lambda: site.listener.relays == 0)


def test_the_room_is_below_the_descriptor_limit() -> None:
    count = affordable_relays()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
    assert 16 <= count < soft / 2


# Members


def refusing_port() -> int:
    """A port of the member's address where nobody listens."""
    with socket.create_server((str(MEMBER), 0)) as sock:
        return int(sock.getsockname()[1])


@on_both_loops
async def test_a_member_that_refuses_is_reported_and_another_one_answers(site: Site) -> None:
    site.steers.members = {7: (MEMBER, refusing_port()), **site.steers.members}
    with await bound(site) as client:
        await client.say(MAP)
        await client.hear_exactly(ANSWER_SIZE)
    assert site.steers.lost == [7]
    assert site.steers.holes[0][1] == 1
    assert site.listener.counters()["dial_failures"] == 1


@on_both_loops
async def test_a_member_that_does_not_answer_the_dial_is_left_in_time(site: Site) -> None:
    with socket.create_server((str(MEMBER), 0), backlog=0) as full:
        where = full.getsockname()
        crowd = [socket.socket() for _ in range(3)]
        for sock in crowd:  # fills the backlog: further SYNs are dropped
            sock.setblocking(False)
            assert sock.connect_ex(where) in (0, errno.EINPROGRESS)
        site.steers.members = {7: (MEMBER, where[1]), **site.steers.members}
        with await bound(site):
            pass
        for sock in crowd:
            sock.close()
    assert site.steers.lost == [7]


@on_both_loops
async def test_a_client_whose_steering_breaks_is_reset_and_counts_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_client: object, _avoid: int | None = None) -> None:
        raise RuntimeError("nobody thought of it")

    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # it would tell when the task goes
    monkeypatch.setattr(site.steers, "route", broken)
    with await RawClient.connect(VIP, site.port) as client:
        await client.say(BIND)
        assert await client.is_reset()
    assert site.listener.relays == 0
    assert site.listener.counters()["faults"] == 1


@on_both_loops
async def test_a_client_for_whom_there_is_nobody_is_reset(site: Site) -> None:
    site.steers.members = {}
    with await RawClient.connect(VIP, site.port) as client:
        await client.say(BIND)
        assert await client.is_reset()
    site.steers.members = {7: (MEMBER, refusing_port())}
    with await RawClient.connect(VIP, site.port) as client:
        await client.say(BIND)
        assert await client.is_reset()
    assert site.listener.counters()["refused:no_member"] == 2


@on_both_loops
async def test_the_relays_of_a_dead_member_are_reset_at_once_idle_ones_too(site: Site) -> None:
    async with member(site.peers) as where:
        idle = await bound(site)
        site.steers.members = {2: where}
        other = await bound(site)
        with idle, other:
            site.listener.end_member(1)
            assert await idle.is_reset(0.5)
            await other.say(MAP)
            await other.hear_exactly(ANSWER_SIZE)
    assert site.listener.counters()["ended_with_member"] == 1


@on_both_loops
async def test_a_member_that_resets_resets_its_client(site: Site) -> None:
    with await bound(site) as client:
        reset(site.peers[0].transport)
        assert await client.is_reset(0.5)
    assert site.listener.counters()["member_reset"] == 1


@on_both_loops
async def test_a_client_that_leaves_leaves_nothing_at_the_member(site: Site) -> None:
    client = await bound(site)
    client.sock.close()
    await site.until(lambda: site.listener.relays == 0)
    await site.until(lambda: site.peers[0].ended)


@on_both_loops
async def test_a_conversation_that_ended_in_order_leaves_no_port_of_the_gateway_taken(site: Site) -> None:
    for _ in range(3):
        with await bound(site) as client:
            await client.say(MAP)
            assert len(await client.hear_exactly(ANSWER_SIZE)) == ANSWER_SIZE
    await site.until(lambda: len(site.peers) == 3 and all(peer.ended for peer in site.peers))
    place = next(iter(site.steers.members.values()))
    await site.until(lambda: states_to(*place) == [])


def states_to(address: Address, port: int) -> list[str]:
    """The states of this host's connections to there, as the kernel numbers them."""
    there = f"{int.from_bytes(address.packed, 'little'):08X}:{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return [words[3] for words in lines if words[2] == there]


# Reload and stop


@on_both_loops
async def test_a_reload_moves_the_addresses_and_the_ports_and_leaves_relays_alone(site: Site) -> None:
    with await bound(site) as client:
        settings = free_settings(addresses=(VIP2,), ports=PortPolicy(static=frozenset({DYNAMIC})))
        site.listener.configure(settings)
        await site.until(lambda: [where[0] for where in site.listener.listening] == [str(VIP2)])
        await client.say(MAP)
        answer = await client.hear_exactly(ANSWER_SIZE)
        assert EptMapReply.decode(answer[24:]).towers[0].address == VIP
        assert site.steers.holes == []  # that port is static now
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(VIP, site.port)
        with await RawClient.connect(VIP2, site.listener.listening[0][1]) as fresh:
            await fresh.say(BIND)
            await fresh.hear_exactly(ACK_SIZE)


@on_both_loops
async def test_a_reload_that_cannot_listen_changes_nothing(site: Site) -> None:
    with socket.create_server((str(VIP2), 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"127\.0\.9\.2 port {port} is taken"):
            site.listener.configure(free_settings(addresses=(VIP, VIP2), port=port))
    (await bound(site)).sock.close()


@on_both_loops
async def test_an_adopted_socket_is_listened_on() -> None:
    with listening_socket(VIP, 0) as sock:
        port = sock.getsockname()[1]
        waiting = await RawClient.connect(VIP, port)  # before anybody accepts
        peers: list[Member] = []
        async with member(peers) as where:
            listener = MapperListener(free_settings(port=port), Steers({1: where}))
            await listener.start([sock.dup()])
            with waiting:
                await waiting.say(BIND)
                await waiting.hear_exactly(ACK_SIZE)
            await listener.close()


@on_both_loops
async def test_two_listeners_on_one_address_are_a_conflict(site: Site) -> None:
    with pytest.raises(Conflict, match="another gateway"):
        await MapperListener(free_settings(port=site.port), site.steers).start()


@on_both_loops
async def test_a_stop_lets_an_answer_under_way_arrive_and_ends_the_rest(site: Site) -> None:
    with await bound(site) as idle, await bound(site) as asking:
        await asking.say(MAP)
        await asyncio.sleep(0)
        closing = asyncio.create_task(site.listener.close())
        await asking.hear_exactly(ANSWER_SIZE)
        assert await idle.hear() == b""
        await closing
    assert site.listener.listening == []


def test_the_settings_come_from_the_configuration() -> None:
    array = Array(
        name="CAS",
        fqdn="cas.domain.tld",
        site="Paderborn",
        addresses=(VIP,),
        services=(
            Service("epm", 135, "rpc", mapper=True),
            Service("rpc", 5001, "rpc"),
            Service("ab", None, "rpc"),
        ),
        unreadable_mapper=UnreadableMapper.DYNAMIC_RANGE,
        dynamic_ports=(49152, 65535),
        mapper_timeout=4.0,
        mapper_connections_per_client=7,
    )
    settings = settings_of(array)
    assert (settings.addresses, settings.port, settings.per_client) == ((VIP,), 135, 7)
    assert settings.ports == PortPolicy((49152, 65535), frozenset({135, 5001}), range_when_unreadable=True)
    assert (settings.limits.pdu, settings.limits.idle) == (4.0, 40.0)
    assert settings_of(replace(array, services=())).port is None
