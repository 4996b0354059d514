"""What is sent to port 135 and cannot be right ends its own connection, is counted by kind, and hurts nobody else."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from casarray.core.dcerpc.association import RpcClient
from casarray.core.dcerpc.interfaces import epm
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.errors import OutOfTurn, Unavailable
from casarray.lab.channel import Channel
from casarray.lab.site import LoopbackSite, Site

from .gateways import QUICK, ask_mapper, cli, get, mapper, mapper_counts, outlook, running, soon, source

METRICS = 29135
BIND = RpcClient().bind(EPM)

SHOUTING = b"A" * 64
BAD = {
    "another protocol's greeting": (b"GET / HTTP/1.1\r\nHost: cas\r\n\r\n", "version"),
    "a wrong version": (b"\x06" + BIND[1:], "version"),
    "a type that does not exist": (BIND[:2] + b"\x3f" + BIND[3:], "type"),
    "an impossible data representation": (BIND[:4] + b"\x77" + BIND[5:], "drep"),
    "a fragment larger than may be": (BIND[:8] + b"\xff\xff" + BIND[10:], "oversize"),
    "a fragment smaller than its header": (BIND[:8] + b"\x04\x00" + BIND[10:], "length"),
    "an answer instead of a question": (BIND[:2] + b"\x02" + BIND[3:], ""),
    "octets without sense": (bytes(range(255, 127, -1)), "version"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    array = {"mapper_timeout": '"600ms"'}
    built = LoopbackSite(tmp_path_factory.mktemp("bad"), servers=("cas1", "cas2"), array=array, health=QUICK)
    with running(built, ('metrics = ""', f'metrics = "127.0.0.1:{METRICS}"')):
        yield built


async def connected(site: Site, number: int) -> socket.socket:
    """A bare connection to the mapper, which the caller closes."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.bind((source(site, number), 0))
        await asyncio.get_running_loop().sock_connect(sock, (site.vip, site.ports.epm))
    except BaseException:
        sock.close()
        raise
    return sock


async def ended(sock: socket.socket, patience: float = 5.0) -> None:
    """Wait until the gateway has ended the connection; what it sends until then does not matter."""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(patience):
            while await asyncio.get_running_loop().sock_recv(sock, 4096):
                pass


async def good_call(site: Site, number: int) -> None:
    """One whole conversation with the mapper."""
    channel = await mapper(site, number)
    try:
        assert await ask_mapper(channel)
    finally:
        channel.close(hard=True)


@asynccontextmanager
async def a_good_client(site: Site) -> AsyncIterator[list[float]]:
    """Somebody whose mailbox stays connected and who asks the mapper all the while; how long each answer took."""
    took: list[float] = []

    async def ask_on() -> None:
        while True:
            began = time.monotonic()
            await good_call(site, 150)
            await client.talk()
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.02)

    client = outlook(site, 150)
    await client.open()
    task = asyncio.create_task(ask_on())
    try:
        yield took
        seen = len(took)
        await soon(lambda: len(took) > seen or task.done())
        assert not task.done(), task.exception()
        assert client.connected()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        client.close()


@pytest.mark.parametrize("what", BAD)
async def test_what_cannot_be_right_ends_its_connection_and_is_counted(site: Site, what: str) -> None:
    octets, kind = BAD[what]
    before = mapper_counts(site)
    async with a_good_client(site):
        with await connected(site, 1) as sock:
            sock.sendall(octets)
            await ended(sock)
    after = mapper_counts(site)
    grown = {event for event in after if event.startswith("wire_error:") and after[event] > before.get(event, 0)}
    if kind:
        assert grown == {f"wire_error:{kind}"}
    assert len(grown) == 1
    assert sum(after[e] - before.get(e, 0) for e in grown) == 1


async def test_half_a_pdu_and_then_the_end_is_counted_as_truncated(site: Site) -> None:
    before = mapper_counts(site).get("wire_error:truncated", 0)
    with await connected(site, 2) as sock:
        sock.sendall(BIND[: len(BIND) // 2])
        sock.shutdown(socket.SHUT_WR)
        await ended(sock)
    assert mapper_counts(site)["wire_error:truncated"] == before + 1


async def test_garbage_after_good_calls_ends_the_connection_and_not_the_member(site: Site) -> None:
    before = mapper_counts(site).get("wire_error:version", 0)
    async with a_good_client(site):
        channel = await mapper(site, 3)
        assert await ask_mapper(channel)
        assert channel._transport is not None
        channel._transport.write(SHOUTING)
        await asyncio.wait_for(channel.lost, 5)
    assert mapper_counts(site)["wire_error:version"] == before + 1


async def test_a_client_that_says_nothing_is_closed_after_the_time_out(site: Site) -> None:
    before = mapper_counts(site).get("timeout:silent", 0)
    async with a_good_client(site):
        began = time.monotonic()
        with await connected(site, 4) as sock:
            await ended(sock)
        assert time.monotonic() - began > 0.5
    assert mapper_counts(site)["timeout:silent"] == before + 1


async def test_a_client_that_sends_octet_by_octet_is_closed_after_the_time_out(site: Site) -> None:
    before = mapper_counts(site).get("timeout:slow", 0)
    async with a_good_client(site):
        with await connected(site, 5) as sock:
            over = asyncio.create_task(ended(sock))
            sent = 0
            with contextlib.suppress(ConnectionError):
                while not over.done():
                    sock.sendall(BIND[sent : sent + 1])
                    sent += 1
                    await asyncio.sleep(0.1)
            await over
        assert sent < len(BIND)
    assert mapper_counts(site)["timeout:slow"] == before + 1


async def test_five_hundred_connections_of_one_client_are_cut_down_and_others_go_on(site: Site) -> None:
    before = mapper_counts(site).get("refused:client_limit", 0)
    refused = 500 - 64
    async with a_good_client(site) as took:
        with contextlib.ExitStack() as crowded:
            came = await asyncio.gather(*(connected(site, 6) for _ in range(500)), return_exceptions=True)
            socks = [crowded.enter_context(sock) for sock in came if isinstance(sock, socket.socket)]
            # Whoever is refused may hear of it before it has looked whether it is connected.
            assert all(isinstance(one, socket.socket | ConnectionResetError) for one in came)
            await soon(lambda: mapper_counts(site).get("refused:client_limit", 0) >= before + refused)
            await asyncio.gather(*(ended(sock) for sock in socks))  # those that were let in were silent
        assert max(took) < 3
    assert mapper_counts(site)["refused:client_limit"] == before + refused
    await good_call(site, 6)  # and is welcome again


async def test_a_client_that_does_not_read_is_cut_off_and_others_go_on(site: Site) -> None:
    def stalled() -> int:
        counts = mapper_counts(site)
        return sum(counts.get(event, 0) for event in ("timeout:stalled", "wire_error:out-of-turn"))

    before = stalled()
    async with a_good_client(site):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.bind((source(site, 7), 0))
            sock.connect((site.vip, site.ports.epm))
            sock.setblocking(False)
            rpc = RpcClient()
            sock.send(rpc.bind(EPM))
            await soon(lambda: _ask_on(sock, rpc) and stalled() > before)


def _ask_on(sock: socket.socket, rpc: RpcClient) -> bool:
    """Ask as much as the gateway takes, reading nothing."""
    with contextlib.suppress(OSError, OutOfTurn):  # it takes no more, or has not answered the last 256
        if not rpc.accepts(EPM):
            rpc.receive(sock.recv(4096))
        while True:
            sock.send(rpc.call(EPM, epm.EPT_LOOKUP, epm.EptLookup(max_entries=500).encode()))
    return True


async def test_a_client_that_comes_and_goes_at_once_leaves_nothing_behind(site: Site) -> None:
    async with a_good_client(site):
        for _ in range(200):
            with await connected(site, 8) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    counts = mapper_counts(site)
    assert not counts.get("pinhole_failures")
    # None of them still counts against its client.
    crowded = [await mapper(site, 8) for _ in range(60)]
    for channel in crowded:
        channel.close(hard=True)


async def test_a_port_that_no_service_has_is_refused_and_harms_nobody(site: Site) -> None:
    async with a_good_client(site):
        with pytest.raises(Unavailable, match="refused"):
            await Channel.open(site.vip, site.ports.epm + 7, source(site, 9))


async def test_what_was_counted_is_told_by_the_command_and_by_the_metrics(site: Site) -> None:
    with await connected(site, 10) as sock:
        sock.sendall(SHOUTING)
        await ended(sock)
    counted = mapper_counts(site)["wire_error:version"]
    told = await asyncio.to_thread(cli, site, "status", "--json")
    assert f'"wire_error:version": {counted}' in told.stdout
    status, metrics = await asyncio.to_thread(get, site, "/metrics", METRICS)
    assert status == 200
    line = 'casarray_mapper_events_total{array="CAS",event="wire_error",kind="version"}'
    assert f"{line} {float(counted)}" in metrics


async def test_nonsense_on_the_metrics_address_and_the_control_socket_is_answered_and_forgotten(site: Site) -> None:
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", METRICS)),
        (socket.AF_UNIX, str(site.folder / "casarray.sock")),
    ):
        for octets in (b"\x05\x00\x0b\x03" * 100, b"POST /v1/reload HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n{"):
            with socket.socket(family) as sock:
                sock.settimeout(5)
                sock.connect(address)
                sock.sendall(octets)
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(4096):
                        pass
    assert site.control.status().arrays[0].ready
    assert "Traceback" not in site.gateway_log()


def test_a_member_is_never_dialled_for_a_client_that_sent_no_pdu(site: Site) -> None:
    journals = [site.folder / f"{name}.jsonl" for name in site.names]
    mine = f'"client":"{source(site, 4)}"'
    assert not any(mine in journal.read_text() for journal in journals if journal.exists())


async def test_an_unknown_interface_is_the_members_business(site: Site) -> None:
    channel = await Channel.open(site.vip, site.ports.epm, source(site, 11), 3.0)
    with pytest.raises(Unavailable, match="interface is not there"):
        await channel.bind(NSPI)
    channel.close(hard=True)
    await asyncio.sleep(0)
