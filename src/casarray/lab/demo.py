"""The main job, shown in under a minute: clients spread and stay; servers die; one is drained; Python is killed.

    script/demo                  in network namespaces, forwarding in the kernel (needs root)
    script/demo --userspace      on loopback, without any right; what cannot be shown there is said

It builds a site of its own, tells line by line what happens, measures, and asks the oracle at the end whether one
client was always led to one member. Exit code 0 only if everything held. It leaves nothing behind, also on Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.errors import CasarrayError, Unavailable
from casarray.lab.channel import Channel
from casarray.lab.faults import Faults
from casarray.lab.journal import Journal
from casarray.lab.netns import missing, sweep
from casarray.lab.oracle import judge, read
from casarray.lab.outlook import Crowd, Loss, Outlook, Return, crowd, until
from casarray.lab.site import LoopbackSite, NetworkSite, Site
from casarray.lab.stage import Picture, Row, Stage

INTERVAL = 0.25  # seconds between two calls of a client that is not idle


@dataclass(slots=True)
class Demo:
    """The players. Clients are told apart by their names; ``left_out`` is what could not be shown, and why."""

    site: Site
    stage: Stage
    faults: Faults
    journal: Journal
    people: Crowd
    states: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    expected_moves: set[str] = field(default_factory=set)  # clients whose server was taken from them

    def at(self, member: str) -> list[Outlook]:
        """The clients that live on a server."""
        return [client for client in self.people.clients if client.member == member]

    def homes(self) -> dict[str, str]:
        """Client -> the server it lives on."""
        return {client.name: client.member for client in self.people.clients}

    def losses(self, since: float) -> list[Loss]:
        """Connections lost since then."""
        return [loss for client in self.people.clients for loss in client.losses if loss.at >= since]

    def returns(self, since: float) -> list[Return]:
        """Clients that lost their connections since then and are back."""
        return [back for client in self.people.clients for back in client.returns if back.lost_at >= since]

    def picture(self) -> Picture:
        """What there is to be seen now."""
        spread = self.people.spread
        rows = tuple(Row(name, spread.get(name, 0), self.states.get(name, "up")) for name in self.site.names)
        waiting = sum(not client.connected() for client in self.people.clients)
        return Picture(rows, waiting, sum(client.calls for client in self.people.clients))

    def spread(self) -> str:
        """How many clients live on each server, in words."""
        spread = self.people.spread
        return ", ".join(f"{name} {spread.get(name, 0)}" for name in self.site.names)


def milliseconds(values: Collection[float]) -> str:
    """The middle and the longest of some times in seconds."""
    if not values:
        return "none"
    return f"median {statistics.median(values) * 1000:.0f} ms, longest {max(values) * 1000:.0f} ms"


async def arrive(demo: Demo) -> None:
    """Act 1: all clients come, and each lands on one server with all its connections."""
    stage, people = demo.stage, demo.people
    count, idle = len(people.clients), sum(client.idle for client in people.clients)
    stage.act(f"{count} clients connect to the array; {idle} of them will then be silent")
    stage.say(f"each asks port {demo.site.ports.epm}, then RFR, the address book, and the mailbox on two connections")
    since = time.monotonic()
    people.start(INTERVAL)
    everybody = await people.all_connected(15)
    took = time.monotonic() - since
    stage.check("clients connected", f"{sum(c.connected() for c in people.clients)} of {count}", everybody)
    stage.figure("spread over the servers", demo.spread())
    stage.say(f"{count} clients were ready after {took:.1f} s, {5 * count / took:.0f} connections a second")
    astray = [client.name for client in people.clients if "+" in client.member]
    stage.check("clients on one server on all their ports", f"{count - len(astray)} of {count}", not astray)
    ports = demo.people.clients[0].ports
    stage.say(
        f"ports of {people.clients[0].name}: mailbox {ports.get('rpc')} (static), book {ports.get('ab')} (dynamic)"
    )


async def come_again(demo: Demo, title: str) -> None:
    """Everybody starts over; nobody may land elsewhere."""
    stage = demo.stage
    stage.act(title)
    before, since = demo.homes(), time.monotonic()
    for client in demo.people.clients:
        client.start_over()
    await asyncio.sleep(0.05)
    everybody = await demo.people.all_connected(15)
    moved = [name for name, member in demo.homes().items() if member != before[name]]
    took = f"{len(before) - len(moved)} of {len(before)} in {time.monotonic() - since:.1f} s"
    stage.check("clients that came back to their server", took, everybody and not moved)


async def kill_server(demo: Demo, name: str) -> None:
    """Act 3: a server's process is killed."""
    stage = demo.stage
    stage.act(f"kill -9 of the server {name}")
    victims = demo.at(name)
    stage.say(f"{len(victims)} clients live there, {sum(client.idle for client in victims)} of them silent")
    demo.states[name] = "down"
    since = time.monotonic()
    demo.faults.kill(name)
    await settle(demo, victims, since, f"{name} killed")
    await demo.faults.revive(name)
    demo.states[name] = "up"
    stage.say(
        f"{name} was started again; the gateway trusts it after {await demo.faults.until_state(name, True):.1f} s"
    )
    await asyncio.sleep(0.5)
    stage.check(f"clients that {name}'s return moved", str(len(demo.at(name))), not demo.at(name))


async def unplug_server(demo: Demo, name: str) -> None:
    """Act 4: a server falls silent, so that only the gateway can tell its clients."""
    stage = demo.stage
    cable = isinstance(demo.site, NetworkSite)
    stage.act(f"the cable of {name} is pulled" if cable else f"{name} hangs (SIGSTOP): it accepts and never answers")
    if not cable:
        demo.left_out.append("pulling a server's cable: hosts on loopback have none, so one was frozen instead")
    victims = demo.at(name)
    idle = sum(client.idle for client in victims)
    stage.say(f"{len(victims)} clients live there, {idle} silent: nobody but the gateway can tell them")
    demo.states[name] = "down"
    since = time.monotonic()
    (demo.faults.cut if cable else demo.faults.freeze)(name)
    await settle(demo, victims, since, f"{name} silent")
    losses = [loss for loss in demo.losses(since) if loss.idle and loss.member == name]
    if losses:
        between = (max(loss.at for loss in losses) - min(loss.at for loss in losses)) * 1000
        stage.check(
            f"silent clients told ({name})",
            f"{len(losses)} of {idle}, all within {between:.0f} ms",
            len(losses) == idle,
        )
    (demo.faults.join if cable else demo.faults.thaw)(name)
    demo.states[name] = "up"
    stage.say(f"{name} is back; the gateway trusts it after {await demo.faults.until_state(name, True):.1f} s")


async def settle(demo: Demo, victims: Sequence[Outlook], since: float, what: str, early: float = 0.0) -> None:
    """Wait until those who lost their server have another; nobody else may have noticed anything.

    Times are told from ``since``; what happened ``early`` seconds before it counts as well.
    """
    stage = demo.stage
    names = {client.name for client in victims}
    demo.expected_moves |= names
    start = since - early
    await until(lambda: {back.client for back in demo.returns(start)} >= names, 15)
    await asyncio.sleep(0.3)
    losses, returns = demo.losses(start), demo.returns(start)
    moved = {back.client for back in returns if back.reached != back.left}
    others = {loss.client for loss in losses} - names
    stage.figure(f"{what}: connections reset after", milliseconds([loss.at - since for loss in losses]))
    stage.figure(f"{what}: first answer of another server after", milliseconds([r.steered_at - since for r in returns]))
    stage.check(
        f"{what}: clients working elsewhere",
        f"{len(moved)} of {len(names)}, {milliseconds([back.back_at - since for back in returns])}",
        moved == names,
    )
    stage.check(f"{what}: other clients disturbed", str(len(others)), not others)
    stage.say(f"now: {demo.spread()}")


async def drain_server(demo: Demo, name: str, newcomers: Crowd, deadline: float = 4.0) -> None:
    """Act 5: a server is drained, with a deadline."""
    stage = demo.stage
    stage.act(f"casarray server drain {name} --deadline {deadline:.0f}s")
    victims, since = demo.at(name), time.monotonic()
    await demo.faults.drain(name, deadline)
    demo.states[name] = "drained"
    first = len(newcomers.clients)
    newcomers.start(INTERVAL)
    arrived = await newcomers.all_connected(5)
    there = [client for client in newcomers.clients if client.member == name]
    stage.check(f"new clients while {name} drains", f"{first} came, {len(there)} to {name}", arrived and not there)
    demo.people.clients += newcomers.clients
    early = demo.losses(since)
    left = deadline - (time.monotonic() - since)
    stage.check(f"clients of {name} disturbed before the deadline", str(len(early)), not early and left > 0)
    await asyncio.sleep(max(0.0, left - 0.1))
    over = since + deadline
    await settle(demo, victims, over, f"{name} at its deadline", early=0.5)
    late = max((loss.at - over for loss in demo.losses(over - 0.5)), default=0.0)
    stage.check("the deadline was kept", f"the last connection ended {late * 1000:.0f} ms after it", late < 1)
    await demo.faults.activate(name)
    demo.states[name] = "up"
    stage.say(f"{name} takes clients again")


async def kill_gateway(demo: Demo) -> None:
    """Act 6: kill -9 of the control plane; traffic must not notice."""
    stage, people = demo.stage, demo.people
    if not isinstance(demo.site, NetworkSite):
        demo.left_out.append("kill -9 of the control plane: in userspace mode the connections run through that process")
        await reload_gateway(demo)
        return
    stage.act("kill -9 of the control plane")
    before, since = demo.homes(), time.monotonic()
    demo.faults.kill_gateway()
    calls = demo.picture().calls
    tried, right = await knock(people.clients)
    stage.check("new connections without a control plane", f"{right} of {tried} to the client's server", right == tried)
    strangers = await knock_first(demo, 20)
    stage.check("clients never seen before, on the static port", f"{strangers} of 20 served", strangers == 20)
    await asyncio.sleep(max(0.0, 2.0 - (time.monotonic() - since)))
    stage.say(f"{demo.picture().calls - calls} calls were answered meanwhile")
    away = time.monotonic() - since
    seconds = await demo.faults.start_gateway()
    stage.figure(
        "control plane", f"gone for {away:.1f} s, ready again after {seconds:.1f} s: it adopts the table it finds"
    )
    await asyncio.sleep(1.0)
    lost = demo.losses(since)
    stage.check("connections lost by kill -9 and restart", str(len(lost)), not lost)
    moved = [name for name, member in demo.homes().items() if member != before[name]]
    stage.check("clients moved by kill -9 and restart", str(len(moved)), not moved)


async def reload_gateway(demo: Demo, times: int = 5) -> None:
    """Instead of it in userspace mode: the configuration is read again, under load."""
    stage = demo.stage
    stage.act(f"casarray reload, {times} times")
    since = time.monotonic()
    for _ in range(times):
        await demo.faults.reload()
        await asyncio.sleep(0.1)
    lost = demo.losses(since)
    stage.check(f"connections lost by {times} reloads", str(len(lost)), not lost)


async def knock(clients: Sequence[Outlook]) -> tuple[int, int]:
    """Each client opens two more connections on ports it knows; how many, and how many of those reached its server."""
    tried = right = 0
    for client in clients:
        tried += 2
        with contextlib.suppress(CasarrayError):
            right += await client.knock()
    return tried, right


async def knock_first(demo: Demo, count: int) -> int:
    """So many addresses that nobody has seen connect to the mailbox's static port; how many were served."""
    template = demo.people.clients[0]
    strangers = crowd(
        template.vip,
        count,
        demo.site.sources,
        journal=Journal(None, "client"),
        first=5000,
        epm_port=demo.site.ports.epm,
    )
    served = 0
    for stranger in strangers.clients:
        with contextlib.suppress(CasarrayError):
            channel = await Channel.open(stranger.vip, demo.site.ports.rpc, stranger.source, 2.0)
            await channel.bind(EMSMDB)
            channel.close(hard=True)
            served += 1
    return served


@contextlib.asynccontextmanager
async def drawing(stage: Stage) -> AsyncIterator[None]:
    """Draw some times a second."""

    async def draw() -> None:
        while True:
            stage.draw()
            await asyncio.sleep(0.12)

    stage.open()
    task = asyncio.create_task(draw())
    try:
        yield
    finally:
        task.cancel()
        stage.close()


async def play(site: Site, stage: Stage, clients: int) -> bool:
    """The whole story; whether everything held."""
    stage.act(f"building a site: three servers and a gateway ({site.mode} mode)")
    async with site:
        ready = await site.start_gateway()
        stage.figure("gateway ready after", f"{ready:.1f} s")
        for name in site.names:
            await Faults(site).until_state(name, True)
        journal = Journal(site.folder / "clients.jsonl", "client")
        people = _people(site, journal, clients, first=1)
        demo = Demo(site, stage, Faults(site), journal, people)
        stage.look = demo.picture
        newcomers = _people(site, journal, max(10, clients // 4), first=clients + 1)
        with site.host("clients").inside():
            try:
                async with drawing(stage):
                    await acts(demo, newcomers)
            finally:
                await people.stop()
                await newcomers.stop()
                journal.close()
        return conclude(demo)


def _people(site: Site, journal: Journal, count: int, first: int) -> Crowd:
    def some(vip: str, sources: str | None, number: int, count: int) -> list[Outlook]:
        return crowd(
            vip,
            count,
            sources,
            journal=journal,
            first=number,
            idle=count // 3,
            epm_port=site.ports.epm,
            patience=3.0,
        ).clients

    if not isinstance(site, NetworkSite) or not site.plan.ipv6:
        return Crowd(some(site.vip, site.sources, first, count))
    six = count // 5  # every fifth comes over IPv6
    four = some(site.vip, site.sources, first, count - six)
    return Crowd(four + some(site.plan.vip6, site.plan.crowd6, first + count - six, six))


async def acts(demo: Demo, newcomers: Crowd) -> None:
    """In this order: what comes later meets what earlier acts left."""
    one, two, three = demo.site.names
    pause = 1.0 if demo.stage.console.is_terminal else 0.0  # for whoever looks at the picture
    parts: tuple[Callable[[], Coroutine[None, None, None]], ...] = (
        lambda: arrive(demo),
        lambda: come_again(demo, "everybody starts over"),
        lambda: kill_server(demo, two),
        lambda: unplug_server(demo, one),
        lambda: drain_server(demo, three, newcomers),
        lambda: kill_gateway(demo),
        lambda: come_again(demo, "everybody starts over once more"),
    )
    for part in parts:
        await part()
        await asyncio.sleep(pause)


def conclude(demo: Demo) -> bool:
    """Ask the oracle, and show the table."""
    stage = demo.stage
    verdict = judge(read(demo.site.journals))
    stage.act("the oracle: one client, one server, unless that one was down or drained")
    for violation in verdict.violations[:5]:
        stage.say(f"{violation.client}: " + " / ".join(violation.story))
    needless = set(verdict.moves) - demo.expected_moves
    stage.check("clients that moved, all with a reason", str(len(verdict.moves)), not needless)
    stage.check("affinity violations", f"{len(verdict.violations)} in {verdict.connections} connections", verdict.held)
    for what in demo.left_out:
        stage.say(f"not shown: {what}")
    heading = {
        "forwarding": "nftables in the kernel" if demo.site.mode == "kernel" else "userspace relay on loopback",
        "clients": f"{len(demo.people.clients)}, each from an address of its own",
        "took": f"{stage.seconds:.0f} s",
    }
    stage.finish(heading)
    return stage.held


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="script/demo", description="shows what a client access array does")
    parser.add_argument("--userspace", action="store_true", help="on loopback, without any right")
    parser.add_argument("--clients", type=int, default=120)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep configuration, logs and journals there")
    arguments = parser.parse_args()
    stage = Stage()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the loop takes over
    try:
        reason = "asked for" if arguments.userspace else missing()
        if reason is not None:
            stage.say(f"userspace mode on loopback: {reason}")
        with tempfile.TemporaryDirectory(prefix="casarray-demo-") as temporary:
            folder = arguments.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            if reason is None:
                sweep()
            site: Site = NetworkSite(folder) if reason is None else LoopbackSite(folder)
            return 0 if uvloop.run(until_signal(play(site, stage, arguments.clients))) else 1
    except KeyboardInterrupt:
        stage.close()
        stage.console.print("interrupted; everything was taken away again")
        return 130
    except Unavailable as error:
        stage.close()
        stage.console.print(f"[red]the demo could not go on:[/] {error}", markup=True)
        return 1


async def until_signal(story: Coroutine[None, None, bool]) -> bool:
    """SIGTERM and Ctrl-C end the story through every `finally`."""
    task = asyncio.create_task(story)
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


if __name__ == "__main__":
    sys.exit(main())
