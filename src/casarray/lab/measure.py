"""The measurements behind `script/figures`, each on a site of its own."""

import asyncio
import json
import os
import re
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from casarray.adapters.kernel import pins
from casarray.adapters.kernel.nfnetlink import Channel
from casarray.core.errors import CasarrayError
from casarray.core.forwarding import nft
from casarray.lab.bench.load import Requests
from casarray.lab.faults import Faults
from casarray.lab.figure import Figure, Knock, client_of, reset_times, share, spread
from casarray.lab.netns import here
from casarray.lab.site import NetworkSite

PINS = 1_000_000
IDLE = 1000
SIX = tuple(f"cas{number}" for number in range(1, 7))
_OUT = re.compile(r"is out of group rpc, ([\d.]+) ms after the verdict")
_DOWN = re.compile(r"^(\S+ \S+),(\d+) WARNING \w+: \w+ is down", re.MULTILINE)


def knocks(site: NetworkSite, count: int = 64, first: int = 1) -> list[Knock]:
    """So many clients of that site, at its IPv4 address."""
    ports = site.ports
    return [Knock(site.plan.vip, ports.rpc, n, site.plan.client(n)) for n in range(first, first + count)]


async def ready(site: NetworkSite) -> None:
    """Start the gateway, and wait until every member is well."""
    await site.start_gateway()
    for name in site.names:
        await Faults(site).until_state(name, True, patience=60)


async def killed(folder: Path, runs: int) -> list[Figure]:
    """A server's process is killed; when its clients are answered by another."""
    times = []
    # Each server falls twice at most: three times within a minute, and it would be held down.
    async with NetworkSite(folder, servers=SIX) as site:
        await ready(site)
        faults = Faults(site)
        for run in range(runs):
            name = site.names[run % len(site.names)]
            with site.host("clients").inside():
                victim = client_of(name, knocks(site, first=1 + 100 * run))
                since = time.monotonic()
                faults.kill(name)
                times.append((victim.until_not(name, 10) - since) * 1000)
            await faults.revive(name)
            await faults.until_state(name, True, patience=60)
    met = max(times) <= 200
    return [Figure("server killed: its clients are answered by another", "200 ms", spread(times), met, tuple(times))]


async def hung(folder: Path, runs: int, name: str, goal: float, **health: str) -> list[Figure]:
    """A service accepts connections and never answers; when its clients are answered by another. ``goal`` in ms."""
    times = []
    async with NetworkSite(folder, servers=SIX, health=health) as site:
        await ready(site)
        faults = Faults(site)
        for run in range(runs):
            server = site.names[run % len(site.names)]
            await asyncio.sleep(run % 4 * 0.25)  # anywhere between two probes
            with site.host("clients").inside():
                victim = client_of(server, knocks(site, first=1 + 100 * run))
                since = time.monotonic()
                faults.misbehave(server, "rpc hang-accept")
                times.append((victim.until_not(server, 10) - since) * 1000)
            faults.behave(server)
            await faults.until_state(server, True, patience=60)
    return [Figure(name, f"{goal / 1000:g} s", spread(times), max(times) <= goal, tuple(times))]


async def hung_by_default(folder: Path, runs: int) -> list[Figure]:
    """With the settings nobody touched."""
    return await hung(folder, runs, "service hung, default settings: its clients are answered by another", 3000)


async def hung_quick(folder: Path, runs: int) -> list[Figure]:
    """With probes every 0.1 s."""
    name = "service hung, interval 0.1 s, timeout 0.15 s: its clients are answered by another"
    return await hung(folder, runs, name, 500, interval='"100ms"', timeout='"150ms"')


async def idle(folder: Path, runs: int) -> list[Figure]:
    """A server's cable is pulled; when its idle connections are reset, counted from the verdict."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    last, got = [], []
    async with NetworkSite(folder, servers=("cas1", "cas2")) as site:
        await ready(site)
        faults = Faults(site)
        for run in range(min(runs, 4)):
            name = site.names[run % 2]
            log = len(site.gateway_log())
            with site.host("clients").inside(), _idle_at(name, site, first=1 + run * 5000) as socks:
                faults.cut(name)
                times = await asyncio.to_thread(reset_times, socks, 10.0)
                verdict = _verdict_at(site.gateway_log()[log:])
            got.append(len(times))
            last.append((max(times, default=verdict + 99) - verdict) * 1000)
            faults.join(name)
            await faults.until_state(name, True, patience=60)
    met = max(last) <= 1000 and min(got) == IDLE
    value = f"{min(got)} of {IDLE}; the last one: {spread(last)}"
    return [Figure(f"{IDLE} idle connections reset, from the verdict", "1 s", value, met, tuple(last))]


@contextmanager
def _idle_at(member: str, site: NetworkSite, first: int) -> Iterator[list[socket.socket]]:
    """So many connections to one member, bound and then silent."""
    found: list[socket.socket] = []
    with ExitStack() as stack:
        for knock in knocks(site, 8 * IDLE, first):
            sock = stack.enter_context(knock.connect(3.0))
            if knock.talk(sock) == member:
                found.append(sock)
                if len(found) == IDLE:
                    break
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
        yield found


def _verdict_at(log: str) -> float:
    """When the first service was called down, on the monotonic clock."""
    found = _DOWN.search(log)
    if found is None:
        raise CasarrayError(f"the gateway noticed nothing:\n{log}")
    wall = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + int(found[2]) / 1000
    return time.monotonic() - (time.time() - wall)


async def million(folder: Path, runs: int) -> list[Figure]:
    """A gateway with a million pins: from the verdict to the kernel, and the memory it takes."""
    health = {"rise": "1", "hold": '"0s"'}  # so that they come back soon
    async with NetworkSite(folder, servers=("cas1", "cas2", "cas3", "cas4"), health=health) as site:
        await ready(site)
        empty = resident(site)
        await site.stop_gateway()
        seconds = load_pins(site, PINS)
        await ready(site)
        since = time.monotonic()
        times = await _verdicts(site, max(12, 9 * runs))
        await asyncio.sleep(max(0.0, 75 - (time.monotonic() - since)))
        pins_now = site.control.status().arrays[0].groups[0].pins
        after, most = resident(site), resident(site, "VmHWM")
    p50, p99 = share(times, 0.5), share(times, 0.99)
    value = f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {max(times):.2f} ms ({len(times)} verdicts, {pins_now} pins)"
    memory = (
        f"{after:.0f} MB after {75} s and {len(times)} verdicts, {most:.0f} MB at most; without pins {empty:.0f} MB"
    )
    return [
        Figure("from a verdict to the kernel", "5 ms", value, p99 <= 5, tuple(times)),
        Figure("memory of the control plane with 1,000,000 pins", "100 MB", memory, most < 100, (after, most), "MB"),
        Figure("1,000,000 pins put into the kernel", "", f"{seconds:.1f} s", None, (seconds,), "s"),
    ]


async def _verdicts(site: NetworkSite, count: int) -> list[float]:
    """Let services refuse and come back, in turn; milliseconds from each verdict to the kernel.

    The log is all that is looked at: the gateway is not asked anything meanwhile.
    """
    faults, begin = Faults(site), len(site.gateway_log())
    for number in range(count):
        name, since = site.names[number % len(site.names)], len(site.gateway_log())
        faults.half_die(name)
        await _logged(site, since, f"{name}: rpc is down")
        faults.behave(name)
        await _logged(site, since, f"{name}: rpc is up")
        await asyncio.sleep(0.2)
    return [float(found) for found in _OUT.findall(site.gateway_log()[begin:])]


async def _logged(site: NetworkSite, since: int, what: str) -> None:
    until = time.monotonic() + 60
    while what not in site.gateway_log()[since:]:
        if time.monotonic() > until:
            raise CasarrayError(f"the gateway does not say that {what}")
        await asyncio.sleep(0.02)


def load_pins(site: NetworkSite, count: int) -> float:
    """Pin so many addresses nobody has to the site's members, a third of them nowhere near their slot; the seconds."""
    keys = (np.arange(count, dtype=np.uint32) + 0x0A400000).astype(">u4").tobytes()  # 10.64.0.0 and on
    members = (np.arange(count) % len(site.names) + 1).astype("<u2").tobytes()
    left = np.full(count, 3 * 3600, "<u4").tobytes()
    saved = b"CAP1" + struct.pack("<I", count) + keys + members + left + struct.pack("<I", 0)
    since = time.monotonic()
    with site.host("gateway").inside(), Channel() as channel:
        pins.restored(channel, nft.table_name("CAS"), "rpc", saved)
    return time.monotonic() - since


def resident(site: NetworkSite, what: str = "VmRSS") -> float:
    """Memory of the gateway's process, in MB (10^6 octets)."""
    assert site.gateway is not None
    status = Path(f"/proc/{site.gateway.pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


async def mapper(folder: Path, runs: int) -> list[Figure]:
    """`ept_map` through the array beside direct: how many a second, and how much longer each takes.

    How many: whole conversations, of connecting, bind, ask and close. How long: a call, and a conversation. The gateway
    has one core for itself, clients and servers share the other. The asker sends octets made beforehand, so that the
    gateway is what is measured.
    """
    async with NetworkSite(folder, servers=("cas1", "cas2")) as site:
        await ready(site)
        assert site.gateway is not None
        pin_to(0, site.gateway.pid)
        for server in site.servers.values():
            pin_to(1, server.pid)
        direct, through, cpu = [], [], []
        for _ in range(max(3, runs // 4)):
            direct.append((await _mapping(site, site.plan.server(0), "--whole")).per_second)
            before = cpu_seconds(site.gateway.pid)
            result = await _mapping(site, site.plan.vip, "--whole")
            cpu.append((cpu_seconds(site.gateway.pid) - before) / result.latency.total() * 1e6)
            through.append(result.per_second)
        calls, whole = [await _beside(site, max(5, runs // 4), *how) for how in ((), ("--whole",))]
    ratio = share(through, 0.5) / share(direct, 0.5)
    carry = 1e6 / share(cpu, 0.5)
    text = f"{spread(through, '/s')}; direct {spread(direct, '/s')}; {ratio:.2f} of direct"
    core = f"{spread(cpu, 'us')} of the gateway's core each: it carries {carry:.0f}/s when nothing else is slower"
    return [
        Figure(
            "ept_map through the array on one core, with its connection and bind",
            "2000/s",
            text,
            share(through, 0.5) >= 2000,
            tuple(through),
            "/s",
        ),
        Figure("processor time of one ept_map", "500 us", core, carry >= 2000, tuple(cpu), "us"),
        Figure("added to an ept_map at 200/s", "p99 1 ms", _told(calls), share(calls.p99, 0.5) <= 1.0, calls.p99),
        Figure("added to all of connecting, bind, ept_map", "", _told(whole), None, whole.p99),
    ]


@dataclass(frozen=True, slots=True)
class _Added:
    """What the array adds, and what it is added to: milliseconds, one of each round."""

    p50: tuple[float, ...]
    p99: tuple[float, ...]
    direct_p50: tuple[float, ...]
    direct_p99: tuple[float, ...]


async def _beside(site: NetworkSite, rounds: int, *how: str) -> _Added:
    """Through the array and direct in turn, 200 a second."""
    found = []
    for _ in range(rounds):
        alone = await _mapping(site, site.plan.server(0), "--pace", "200", *how)
        array = await _mapping(site, site.plan.vip, "--pace", "200", *how)
        of = [(result.percentile(0.5) / 1000, result.percentile(0.99) / 1000) for result in (alone, array)]
        found.append((of[1][0] - of[0][0], of[1][1] - of[0][1], *of[0]))
    return _Added(*zip(*found, strict=True))


def _told(added: _Added) -> str:
    p50, p99, direct_p50, direct_p99 = (
        share(values, 0.5) for values in (added.p50, added.p99, added.direct_p50, added.direct_p99)
    )
    return (
        f"p50 {p50:+.2f} ms, p99 {p99:+.2f} ms, {min(added.p99):+.2f} to {max(added.p99):+.2f} "
        f"(direct p50 {direct_p50:.2f}, p99 {direct_p99:.2f}; {len(added.p50)} times 200/s, medians)"
    )


async def _mapping(site: NetworkSite, address: str, *more: str, seconds: float = 4.0) -> Requests:
    """Conversations with the mapper, again and again, from many addresses; `mapper_load` knows how."""
    command = [sys.executable, "-m", "casarray.lab.bench.mapper_load", "ask", "--target", address]
    out = site.folder / "mapping.out"
    with out.open("wb") as stdout:
        process = site.host("clients").spawn(
            *command, "--seconds", str(seconds), *more, stdout=stdout, env={"PYTHONPATH": str(here())}
        )
        pin_to(1, process.pid)
        await asyncio.to_thread(process.wait, 60)
    said = json.loads(out.read_text().splitlines()[-1])
    return Requests(said["calls"] / said["seconds"], said["errors"], Counter(dict(said["latency"])))


def pin_to(core: int, pid: int) -> None:
    """All threads of a process to one core, and those it starts later."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def start(folder: Path, runs: int) -> list[Figure]:
    """From the start of `casarray run` to its ``ready``: with nothing there, and with a table to adopt."""
    fresh, adopted = [], []
    async with NetworkSite(folder, servers=("cas1", "cas2", "cas3")) as site:
        for _ in range(max(3, runs // 2)):
            fresh.append(await site.start_gateway() * 1000)
            site.kill_gateway()
            adopted.append(await site.start_gateway() * 1000)
            await site.stop_gateway()
            site.host("gateway").run("nft", "flush", "ruleset")
    return [
        Figure("start to ready, nothing there", "", spread(fresh), None, tuple(fresh)),
        Figure("start to ready after kill -9", "", spread(adopted), None, tuple(adopted)),
    ]
