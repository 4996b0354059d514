"""Measurements of the program and its table: memory, restoring, verdicts, probes, start, the endpoint mapper."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from statistics import median

from casarray.adapters.clock import SystemClock
from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.app.gatekeeper import Gatekeeper, Plan, Verdict
from casarray.core.config import Array, Gateway, ProbeKind, Server, Service
from casarray.core.errors import Unavailable
from casarray.core.forwarding.diff import Admit, Change, Expel
from casarray.lab.bench import kernel, load
from casarray.lab.bench.figure import Figure, Say, Scale
from casarray.lab.bench.peers import (
    Casarray,
    Haproxy,
    Peer,
    Routing,
    Running,
    all_peers,
    casarray,
    folder_of,
    start_casarray,
    stop,
    web_servers,
)
from casarray.lab.bench.topology import PORT, VIP, WEB_PORTS, Ground, client
from casarray.lab.netns import Namespace, here

_TRIES_MS = 5


def idle_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """Memory of an idle connection in the gateway: what there is more than with plain routing, and its processes."""
    figure = Figure("idle", f"memory per idle connection ({scale.held:,} held)", "bytes")
    figure.notes.append(
        "HAProxy needs two descriptors for each connection, and the usual limit of 20,000 is not ours to raise: "
        f"so {scale.held:,} are held, not 10,000"
    )
    with web_servers(ground):
        for _ in range(max(1, scale.rounds // 2)):
            plain = 0.0
            for peer in all_peers():
                slab, processes = _held(ground, peer, scale)
                if isinstance(peer, Routing):
                    plain = slab
                    figure.add("both ends (routing)", slab)
                    continue
                figure.add(peer.name, max(0.0, slab - plain) + processes)
                figure.add(f"{peer.name}: kernel only", slab - plain)
            say(", ".join(f"{who} {values[-1]:,.0f}" for who, values in figure.samples.items()))
    figure.at_most("of HAProxy's", figure.ratio("kernel", "haproxy"), 1 / 20)
    return figure


def _held(ground: Ground, peer: Peer, scale: Scale) -> tuple[float, float]:
    with peer.turn(ground) as running:
        if isinstance(peer, Casarray):
            time.sleep(2.5 if scale.judged else 0.2)  # until the program has done what it does once
        slab, processes = kernel.settled_slab_bytes(), kernel.process_bytes(running.pids())
        with load.held(running, scale.held):
            more = kernel.settled_slab_bytes() - slab, kernel.process_bytes(running.pids()) - processes
    return more[0] / scale.held, more[1] / scale.held


def restore_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """Pins put into an empty table while clients connect; and what a pin takes of the kernel's memory."""
    figure = Figure("restore", f"{scale.pins:,} pins restored into an empty table", "s")
    sizes: list[float] = []
    data = kernel.pins_of(scale.pins, scale.members)
    with web_servers(ground):
        for _ in range(max(1, scale.rounds // 2)):
            with Casarray(name="restore", members=scale.members, slots=scale.slots).turn(ground) as running:
                assert running.program is not None
                running.program.kill()
                running.program.wait()
                before = kernel.kernel_bytes()
                with _connecting(running) as tries:
                    figure.add("restored", kernel.load_pins(running.gateway, data))
                sizes.append((kernel.kernel_bytes() - before) / scale.pins)
                found = kernel.pin_count(running.gateway)
                if found < scale.pins:
                    raise Unavailable(f"{found} of {scale.pins} pins are in the table")
            figure.add("first connection", tries[0][1] if tries else 99.0)
            figure.add("longest connect", max((took for _, took in tries), default=99.0))
            say(
                f"{figure.samples['restored'][-1]:.2f} s, {sizes[-1]:.0f} bytes a pin, {len(tries)} connected meanwhile"
            )
    figure.samples["bytes a pin"] = sizes
    figure.at_most("seconds", figure.median("restored"), 5.0)
    figure.at_most("first connection after, s", figure.median("first connection"), 0.1)
    figure.at_most("bytes a pin", median(sizes), 170)
    return figure


@contextmanager
def _connecting(running: Running) -> Iterator[list[tuple[float, float]]]:
    """Meanwhile a client after the other connects; when, counted from the start, and how many seconds each took."""
    tries: list[tuple[float, float]] = []
    over = threading.Event()

    def connect() -> None:
        with running.ground.clients.inside():
            began = time.monotonic()
            number = 0
            while not over.is_set():
                number += 1
                since = time.monotonic()
                with socket.socket() as connection:
                    connection.settimeout(5)
                    connection.bind((client(number % 4096), 0))
                    connection.connect((VIP, PORT))
                tries.append((since - began, time.monotonic() - since))
                over.wait(_TRIES_MS / 1000)

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield tries
    finally:
        over.set()
        thread.join()


class _Timed(KernelForwarder):
    """Notes when a member was out, or in."""

    done: "asyncio.Future[float] | None" = None

    async def apply(self, changes: Sequence[Change]) -> None:
        await super().apply(changes)
        if self.done and not self.done.done() and any(isinstance(change, Expel | Admit) for change in changes):
            self.done.set_result(time.perf_counter())


def verdict_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """From health's verdict on a member to the kernel, with all the pins in its table."""
    figure = Figure("verdict", f"one member out or in, {scale.pins:,} pins", "ms")
    with ground.gateway() as gateway, gateway.inside():
        asyncio.run(_verdicts(gateway, scale, figure))
    both = [*figure.samples["out"], *figure.samples["in"]]
    figure.at_most(f"p99 of {len(both)}, ms", _percentile(both, 0.99), 5.0)
    say(", ".join(f"{what} p50 {median(values):.2f} ms" for what, values in figure.samples.items()))
    return figure


async def _verdicts(gateway: Namespace, scale: Scale, figure: Figure) -> None:
    forwarder = _Timed(kernel.ARRAY)
    gatekeeper = Gatekeeper(_plan(scale), forwarder, SystemClock())
    ids = list(gatekeeper.plan.members)
    for member in ids:
        gatekeeper.judge(member, kernel.GROUP, Verdict(True))
    await gatekeeper.start()
    kernel.load_pins(gateway, kernel.pins_of(scale.pins, scale.members))
    for number in range(scale.changes // 2):
        member = ids[number % len(ids)]
        for what, healthy in (("out", False), ("in", True)):
            figure.add(what, await _told(gatekeeper, forwarder, member, healthy))
            await gatekeeper.settled()
        # Somebody else leaves while the slots of the first are being filled anew.
        if number < scale.changes // 10:
            other = ids[(number + 1) % len(ids)]
            await _told(gatekeeper, forwarder, member, False)
            figure.add("out, while slots are filled", await _told(gatekeeper, forwarder, other, False))
            for back in (member, other):
                gatekeeper.judge(back, kernel.GROUP, Verdict(True))
            await gatekeeper.settled()
    await gatekeeper.close(keep=False)


async def _told(gatekeeper: Gatekeeper, forwarder: _Timed, member: int, healthy: bool) -> float:
    """Tell a verdict; milliseconds until it is in the kernel."""
    forwarder.done = asyncio.get_running_loop().create_future()
    began = time.perf_counter()
    gatekeeper.judge(member, kernel.GROUP, Verdict(healthy))
    return (await forwarder.done - began) * 1000


def _plan(scale: Scale) -> Plan:
    service = Service("web", PORT, kernel.GROUP, ProbeKind.NONE)
    array = Array(kernel.ARRAY, "bench.lab.example", "Bench", (ip_address(VIP),), (service,), slots=scale.slots)
    servers = tuple(
        Server(f"s{n}", "Bench", (ip_address(f"10.12.{n % 2}.{21 + n // 2}"),)) for n in range(scale.members)
    )
    numbers = {server.name: n for n, server in enumerate(servers, 1)}
    return Plan(array, Gateway("bench"), servers, numbers, {kernel.GROUP: 1}, 4711)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def mapper_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """`ept_map` through the array on one core, beside HAProxy, which does not look inside, and directly."""
    figure = Figure("mapper", "ept_map through the array on one core", "calls/s")
    added: dict[str, list[float]] = {}
    with _mapper_servers(ground):
        for _ in range(max(1, scale.rounds // 2)):
            for peer in (Routing(), Haproxy(threads=1), Casarray(probe="none")):
                with peer.turn(ground, mapper=True) as running:
                    _on_one_core(running)
                    full = _ask(running, scale.seconds)
                    whole = _ask(running, scale.seconds, "--whole")
                    paced = _ask(running, scale.seconds, "--pace", "500")
                figure.add(peer.name, full.per_second)
                figure.add(f"{peer.name}, whole conversations", whole.per_second)
                added.setdefault(peer.name, []).append(paced.percentile(0.99) / 1000)
                say(
                    f"{peer.title}: {full.per_second:,.0f} calls/s, {whole.per_second:,.0f} whole conversations/s, "
                    f"p99 {added[peer.name][-1]:.2f} ms at 500/s"
                )
    more = median(a - b for a, b in zip(added["kernel"], added["routing"], strict=True))
    figure.at_least("calls/s", figure.median("kernel"), 3000)
    figure.at_least("of HAProxy", figure.ratio("kernel", "haproxy"), 0.5)
    figure.at_most("added p99, ms", more, 1.0)
    figure.notes.append(
        "p99 at 500 calls/s, ms: " + ", ".join(f"{who} {median(values):.2f}" for who, values in added.items())
    )
    ratio = figure.ratio("kernel, whole conversations", "haproxy, whole conversations")
    figure.notes.append(f"whole conversations (connect, bind, ask, close): {ratio:.2f} of HAProxy's")
    return figure


@contextmanager
def _mapper_servers(ground: Ground) -> Iterator[None]:
    command = [sys.executable, "-m", "casarray.lab.bench.mapper_load", "serve"]
    started = [ground.server_host(n).spawn(*command, env=_python_path()) for n in range(ground.hosts)]
    try:
        for number in range(ground.hosts):
            until = time.monotonic() + 10
            while ":135 " not in ground.server_host(number).run("ss", "-ltnH").stdout:
                if time.monotonic() > until:
                    raise Unavailable("the mapper's servers do not start")
                time.sleep(0.02)
        yield
    finally:
        stop(started)


def _python_path() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(here()), os.environ.get("PYTHONPATH"))))}


def _on_one_core(running: Running) -> None:
    for pid in running.pids():
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {0})


def _ask(running: Running, seconds: float, *more: str) -> load.Requests:
    command = [sys.executable, "-m", "casarray.lab.bench.mapper_load", "ask", "--target", running.target(0)]
    process = running.ground.clients.spawn(
        *command, "--seconds", str(seconds), *more, env=_python_path(), stdout=subprocess.PIPE
    )
    said = load.report_of(process)
    return load.Requests(said["calls"] / said["seconds"], said["errors"], Counter(dict(said["latency"])))


_NSPI, _EMSMDB = "f5cc5a18-4264-101a-8c59-08002b2f8426/56.0", "a4f1db00-ca47-1067-b31f-00dd010662da/0.81"


def probed_services(kind: str) -> str:
    """Three services of a member: three by TCP, three by HTTP, or an endpoint mapper and two dynamic RPC services."""
    if kind == "rpc":
        return "".join(
            f'[[array.service]]\nname = "{name}"\ninterfaces = ["{interface}"]\n\n'
            for name, interface in (("ab", _NSPI), ("store", _EMSMDB))
        )
    return "".join(
        f'[[array.service]]\nname = "s{port}"\nport = {port}\ngroup = "web"\nprobe = "{kind}"\n\n' for port in WEB_PORTS
    )


def probes_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """Processor time of the program while it probes many members' services once a second."""
    figure = Figure("probes", f"probing {scale.probed} members x 3 services each second", "% of one core")
    seconds = 4 * scale.seconds if scale.judged else 1.0
    with web_servers(ground), _mapper_servers(ground):
        for kind in ("tcp", "http", "rpc"):
            peer = Casarray(name=f"probes-{kind}", members=scale.probed)
            folder = folder_of(ground, peer.name)
            config = peer.configure(ground, folder, mapper=kind == "rpc", services=probed_services(kind))
            with ground.gateway() as gateway:
                running = start_casarray(ground, gateway, folder, config)
                assert running.program is not None
                time.sleep(min(5.0, seconds))
                began, used = time.monotonic(), kernel.cpu_seconds(running.program.pid)
                time.sleep(seconds)
                share = (kernel.cpu_seconds(running.program.pid) - used) / (time.monotonic() - began)
                _all_up(running, scale.probed)
            figure.add(kind, share * 100)
            say(f"{kind}: {share:.1%} of one core")
    for kind in figure.samples:
        figure.at_most(f"{kind}, %", figure.median(kind), 25)
    return figure


def _all_up(running: Running, members: int) -> None:
    """Probes that fail cost something else than probes that succeed."""
    socket_ = str(running.folder / "casarray.sock")
    said = json.loads(running.gateway.run(*casarray(), "server", "list", "--json", "--control", socket_).stdout)
    up = sum(all(s["up"] for s in one["member"]["services"]) for one in said["servers"])
    if up < members:
        raise Unavailable(f"{up} of {members} members are up: probes that fail are not what is measured here")


def start_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """From the start of `casarray run` to its ``ready``: without a table, and over one that is there."""
    figure = Figure("start", f"start of `casarray run` to ready, {scale.members} members", "s")
    peer = Casarray(name="start", members=scale.members)
    with web_servers(ground):
        with peer.turn(ground):
            pass  # from here on the interpreter has compiled it, as it has where it is installed
        for _ in range(scale.rounds):
            with peer.turn(ground) as running:
                figure.add("without a table", running.ready_seconds)
                assert running.program is not None
                stop([running.program])
                again = start_casarray(ground, running.gateway, running.folder, running.folder / "casarray.toml")
                figure.add("over a table", again.ready_seconds)
            say(", ".join(f"{who} {values[-1]:.2f} s" for who, values in figure.samples.items()))
    for who in figure.samples:
        figure.at_most(f"{who}, s", figure.median(who), 1.0)
    return figure
