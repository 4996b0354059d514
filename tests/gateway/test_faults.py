"""Members that fall ill in every way there is, and what operators do to them: seen from their clients."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import pytest_asyncio

from casarray.core.config import Wish
from casarray.core.dcerpc.association import RpcClient
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.errors import Conflict, NotFound, Unavailable
from casarray.lab.channel import Channel
from casarray.lab.faults import Faults
from casarray.lab.outlook import Outlook
from casarray.lab.site import LoopbackSite, NetworkSite, Site

from .gateways import QUICK, WHY_NOT, cli, eventually, get, members, outlook, people, running, soon, unhurt

METRICS = 29136
_hundreds = count(100, 100)
KINDS = [
    pytest.param(LoopbackSite, id="userspace"),
    pytest.param(
        NetworkSite,
        id="kernel",
        marks=[pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))],
    ),
]


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made: Site = request.param(tmp_path_factory.mktemp("faults"), health=QUICK | {"hold": '"0s"'})
    with running(made, ('metrics = ""', f'metrics = "127.0.0.1:{METRICS}"')) as site:
        yield site


@pytest_asyncio.fixture
async def site(built: Site) -> AsyncIterator[Site]:
    """The site with every member well and active, also after the test."""
    await well(built)
    yield built
    await well(built)


async def well(site: Site) -> None:
    """Everybody is."""
    for name in site.names:
        if site.servers[name].poll() is not None:
            await site.start_server(name)
        site.tell(name, "all normal")
        if members(site)[name].state is not Wish.ACTIVE:
            await asyncio.to_thread(site.control.set_server, name, Wish.ACTIVE)
    await soon(lambda: all(m.eligible and m.share > 0.3 for m in members(site).values()), 15)


@asynccontextmanager
async def newcomers(site: Site, number: int, on: str = "") -> AsyncIterator[list[Outlook]]:
    """Clients that have never been here: no pin leads them where an earlier test has driven them.

    ``on``: some of them are on this member, and some on others. Where it was out for a moment, since its machine was
    too busy to answer a probe, other clients are taken.
    """
    for _ in range(5):
        async with people(site, number, first=next(_hundreds)) as clients:
            if not on or {on} < {client.member for client in clients}:
                yield clients
                return
        await well(site)
    raise AssertionError(f"five times {on} got no client at all, or everybody")


def divided(clients: list[Outlook], name: str) -> tuple[list[Outlook], list[Outlook]]:
    """Those on that member, and the others; both some."""
    of_it, others = [c for c in clients if c.member == name], [c for c in clients if c.member != name]
    assert of_it
    assert others
    return of_it, others


async def move(clients: list[Outlook], away_from: str) -> None:
    """Each of them lost its connections; each comes back and finds another member."""
    for client in clients:
        client.close()
        await eventually(client.open)
        assert client.member != away_from


ILLNESSES = {
    "hangs after accepting": "rpc hang-accept",
    "answers the bind and nothing after": "epm hang-bind",
    "answers garbage": "rpc garbage",
    "resets whoever comes": "rpc reset",
    "is half dead, its mapper answers": "rpc refuse",
    "is half dead, its mapper does not": "epm refuse",
    "lost the service on a dynamic port": "ab refuse",
}


#: What health makes of an illness does not depend on who forwards; how clients are moved does.
BY_KIND = [
    *(pytest.param(LoopbackSite, illness, id=f"userspace, {illness}") for illness in ILLNESSES),
    *(
        pytest.param(NetworkSite, illness, id=f"kernel, {illness}", marks=KINDS[1].marks)
        for illness in list(ILLNESSES)[::3]
    ),
]


@pytest.mark.parametrize(("built", "illness"), BY_KIND, indirect=["built"], scope="module")
async def test_an_ill_member_loses_its_clients_and_gets_them_again_when_well(site: Site, illness: str) -> None:
    async with newcomers(site, 12, on="cas2") as clients:
        of_it, others = divided(clients, "cas2")
        site.tell("cas2", ILLNESSES[illness])
        await soon(lambda: not members(site)["cas2"].eligible)
        reason = members(site)["cas2"].reason
        assert "cas2" in reason or "it " in reason, reason
        await soon(lambda: not any(client.connected() for client in of_it))
        await unhurt(others)
        await move(of_it, "cas2")
        site.tell("cas2", "all normal")
        await soon(lambda: members(site)["cas2"].eligible)
        await unhurt(clients)  # nobody moves back


async def test_a_killed_process_is_noticed_at_once_and_its_idle_clients_are_reset(site: Site) -> None:
    async with newcomers(site, 12, on="cas3") as clients:
        of_it, others = divided(clients, "cas3")
        began = time.monotonic()
        site.servers["cas3"].kill()
        site.servers["cas3"].wait()
        await soon(lambda: not any(client.connected() for client in of_it))
        assert time.monotonic() - began < 8  # on a busy machine; else it is milliseconds
        assert all({c.ending for c in client.channels} <= {"reset", "end"} for client in of_it)
        await unhurt(others)
        await move(of_it, "cas3")
        await site.start_server("cas3")
        await soon(lambda: members(site)["cas3"].eligible)
        await unhurt(others)


async def test_a_frozen_process_is_out_within_seconds_and_its_idle_clients_are_reset(site: Site) -> None:
    faults = Faults(site)
    async with newcomers(site, 12, on="cas1") as clients:
        of_it, others = divided(clients, "cas1")
        faults.freeze("cas1")
        try:
            await soon(lambda: not members(site)["cas1"].eligible)
            await soon(lambda: not any(client.connected() for client in of_it))
            await unhurt(others)
            await move(of_it, "cas1")
        finally:
            faults.thaw("cas1")


async def test_when_every_member_is_down_the_last_good_ones_are_kept_and_it_is_said_aloud(site: Site) -> None:
    for name in site.names:
        site.tell(name, "epm hang-bind")
    await soon(lambda: site.control.status().arrays[0].panic)
    status = site.control.status()
    assert any("every member looks down" in warning for warning in status.warnings)
    assert get(site, "/readyz", METRICS)[0] == 200
    assert 'casarray_array_panic{array="CAS"} 1.0' in get(site, "/metrics", METRICS)[1]
    source_ = outlook(site, next(_hundreds)).source
    end = time.monotonic() + 10  # two went down in one moment: some slots have nobody until they are filled anew
    while not (reached := await _reached(site, source_)) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert reached, "who is led somewhere finds what still works there"
    for name in site.names:
        site.tell(name, "all normal")
    await soon(lambda: not site.control.status().arrays[0].panic)
    await well(site)
    async with newcomers(site, 6) as clients:
        await unhurt(clients)


async def _reached(site: Site, source_: str | None) -> bool:
    with site.host("clients").inside():
        try:
            channel = await Channel.open(site.vip, site.ports.rpc, source_)
        except Unavailable:
            return False
    channel.close(hard=True)
    return True


async def test_a_draining_member_keeps_its_clients_and_gets_no_new_ones(site: Site) -> None:
    async with newcomers(site, 12, on="cas2") as clients:
        of_it, _ = divided(clients, "cas2")
        done = await asyncio.to_thread(cli, site, "server", "drain", "cas2")
        assert done.returncode == 0, done.stderr
        assert members(site)["cas2"].share == 0
        assert members(site)["cas2"].eligible
        await unhurt(clients)
        async with newcomers(site, 12) as others:
            assert "cas2" not in {client.member for client in others}
        for client in of_it:  # who reconnects stays as well
            client.close()
            await client.open()
            assert client.member == "cas2"


async def test_a_drain_ends_at_its_deadline(site: Site) -> None:
    async with newcomers(site, 12, on="cas1") as clients:
        of_it, others = divided(clients, "cas1")
        done = await asyncio.to_thread(cli, site, "server", "drain", "cas1", "--deadline", "3s", "--json")
        assert json.loads(done.stdout)["deadline_seconds"] == 3
        await unhurt(clients)
        await soon(lambda: not any(client.connected() for client in of_it))
        assert not members(site)["cas1"].eligible
        await unhurt(others)
        await move(of_it, "cas1")


async def test_a_drain_without_haste_is_kept_over_a_restart_and_its_deadline_too(site: Site) -> None:
    await asyncio.to_thread(site.control.set_server, "cas3", Wish.DRAIN, 3600.0)
    assert await site.stop_gateway() == 0
    await site.start_gateway()
    member = members(site)["cas3"]
    assert member.state is Wish.DRAIN
    assert 3500 < member.deadline_seconds <= 3600


async def test_a_member_that_is_out_loses_everybody_at_once(site: Site) -> None:
    async with newcomers(site, 12, on="cas2") as clients:
        of_it, others = divided(clients, "cas2")
        done = await asyncio.to_thread(cli, site, "server", "out", "cas2")
        assert done.returncode == 0, done.stderr
        await soon(lambda: not any(client.connected() for client in of_it))
        await unhurt(others)
        await move(of_it, "cas2")
        assert (await asyncio.to_thread(cli, site, "server", "activate", "cas2")).returncode == 0
        await soon(lambda: members(site)["cas2"].eligible)
        await unhurt(clients)


async def test_a_standby_gets_clients_only_while_no_active_member_is_left(site: Site) -> None:
    await asyncio.to_thread(cli, site, "server", "standby", "cas3")
    await soon(lambda: members(site)["cas3"].share == 0)
    async with newcomers(site, 9) as clients:
        assert "cas3" not in {client.member for client in clients}
        for name in ("cas1", "cas2"):
            await asyncio.to_thread(site.control.set_server, name, Wish.OUT)
        await soon(lambda: members(site)["cas3"].share == 1)
        for client in clients:
            client.close()
            await eventually(client.open)
            assert client.member == "cas3"


async def test_taking_out_the_last_one_is_done_and_warned_of(site: Site) -> None:
    for name in site.names[:2]:
        await asyncio.to_thread(site.control.set_server, name, Wish.OUT)
    done = await asyncio.to_thread(cli, site, "server", "out", site.names[2])
    assert done.returncode == 0
    assert "nobody" in done.stdout + done.stderr
    status, word = get(site, "/readyz", METRICS)
    assert status == 503
    assert "no member" in word
    assert get(site, "/healthz", METRICS) == (200, "ok\n")
    with site.host("clients").inside(), pytest.raises(Unavailable):
        await outlook(site, next(_hundreds)).open()


async def test_a_server_that_is_not_there_is_refused_with_a_suggestion(site: Site) -> None:
    done = await asyncio.to_thread(cli, site, "server", "out", "cas22")
    assert done.returncode == 1
    assert "cas2" in done.stderr
    with pytest.raises(NotFound):
        await asyncio.to_thread(site.control.set_server, "nobody", Wish.OUT)
    with pytest.raises(Conflict):
        await asyncio.to_thread(site.control.set_server, "cas1", Wish.OUT, 5.0)


async def test_top_shows_one_frame_and_the_connections_in_it(site: Site) -> None:
    async with newcomers(site, 6):
        await soon(lambda: sum(m.connections for m in members(site).values()) >= 18)
        done = await asyncio.to_thread(cli, site, "top", "--once")
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in ("CAS", *site.names))


async def test_health_and_readiness_are_told_where_monitoring_looks(site: Site) -> None:
    assert get(site, "/healthz", METRICS) == (200, "ok\n")
    assert get(site, "/readyz", METRICS)[0] == 200
    site.tell("cas1", "rpc refuse")
    await soon(lambda: not members(site)["cas1"].eligible)
    told = get(site, "/metrics", METRICS)[1]
    assert 'casarray_member_eligible{array="CAS",group="rpc",member="cas1"} 0.0' in told
    assert 'casarray_service_up{array="CAS",member="cas1",service="rpc"} 0.0' in told
    assert 'casarray_group_members_eligible{array="CAS",group="rpc"} 2.0' in told


async def test_a_client_that_ends_its_half_still_gets_its_answer(site: Site) -> None:
    """On a static port, which the kernel or the relay forwards."""
    with site.host("clients").inside(), socket.socket() as sock:
        sock.settimeout(5)
        sock.bind((str(outlook(site, next(_hundreds)).source), 0))
        sock.connect((site.vip, site.ports.rpc))
        sock.sendall(RpcClient().bind(EMSMDB))
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while more := sock.recv(4096):
            answer += more
    assert answer[2] == 12  # bind_ack


async def test_a_client_that_resets_is_reset_at_the_member(site: Site) -> None:
    with site.host("clients").inside():
        channel = await Channel.open(site.vip, site.ports.rpc, outlook(site, next(_hundreds)).source)
        await channel.bind(EMSMDB)  # answered, so the member has it: a relay dials after it has accepted
    before = _resets(site)
    channel.close(hard=True)
    await soon(lambda: _resets(site) > before)


def _resets(site: Site) -> int:
    """How many connections to their mailboxes the members have seen end by a reset. Nobody else ends one so."""
    journals = [(site.folder / f"{name}.jsonl").read_text().splitlines() for name in site.names]
    ends = [told for lines in journals for line in lines if (told := json.loads(line))["event"] == "close"]
    return sum(told["service"] == "rpc" and "reset" in told["why"].lower() for told in ends)
