"""Hundreds of clients under load, one fault after the other, and the oracle's verdict on every connection.

    script/faults                          100,000 connections, 100 reloads, 100 kill -9: some minutes
    script/faults --quick                  a few thousand connections, in well under a minute
    script/faults --connections 20000 --reloads 10 --kills 10

Two things are judged. *One client, one member, unless that member was down or drained*, whatever happens. And what is
done to the gateway alone (a reload, kill -9 and a new start, a drain) must not be felt: no connection to a known port
refused or lost, nobody moved. New connections to the endpoint mapper's port while the program is away may be refused,
and are counted apart. Needs root: it builds a site of its own in network namespaces, and leaves nothing behind.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from rich.table import Table

from casarray.core.errors import CasarrayError, Unavailable
from casarray.lab.demo import until_signal
from casarray.lab.faults import Faults
from casarray.lab.netns import here, missing, sweep
from casarray.lab.oracle import judge, read
from casarray.lab.site import NetworkSite
from casarray.lab.stage import Stage

SERVERS = ("cas1", "cas2", "cas3", "cas4")
PROCESSES = 2  # that make the load
SETTLE = 1.0  # seconds the gateway may take to trust a member again after it was told to be back
DEFAULTS = {  # in full, quick
    "connections": (100_000, 3000),
    "reloads": (100, 3),
    "kills": (100, 3),
    "clients": (400, 200),
    "rate": (600.0, 250.0),
}


@dataclass(slots=True)
class Act:
    """One fault of the run, and what clients felt of it."""

    name: str
    since: float
    until: float = 0.0
    victim: str = ""
    gentle: bool = False  # nobody may feel anything
    flushed: bool = False  # for a moment nobody translates: connections may be lost, yet none may go astray
    felt: Counter[str] = field(default_factory=Counter)  # "rpc refused", "standing reset", ... -> how often
    answered: int = 0

    def count(self, services: Iterable[str], word: str = "") -> int:
        """How often connections to these services failed in that way; without a word, in any."""
        wanted = set(services)
        return sum(n for what, n in self.felt.items() if what.split()[0] in wanted and word in what)


@dataclass(slots=True)
class Run:
    """The site, the load, and what was done so far."""

    site: NetworkSite
    stage: Stage
    faults: Faults
    loads: list[subprocess.Popen[Any]] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    turn: int = 0

    def victim(self) -> str:
        """Each server in turn: one that went down too often in a minute would be held down."""
        self.turn += 1
        return self.site.names[self.turn % len(self.site.names)]

    def answered(self) -> int:
        """Connections made so far, by what the load says twice a second."""
        return sum(sum(state.get("answered", {}).values()) for state in self.states())

    def states(self) -> Iterator[Mapping[str, Any]]:
        """The last whole line of each process."""
        for number in range(len(self.loads)):
            lines = (self.site.folder / f"load{number}.out").read_text().split("\n")
            yield json.loads(lines[-2]) if len(lines) > 1 else {}

    @contextlib.asynccontextmanager
    async def act(self, name: str, **options: Any) -> AsyncIterator[Act]:
        """Everything that clients feel from here to its end belongs to this fault."""
        act = Act(name, time.monotonic(), **options)
        self.acts.append(act)
        yield act
        act.until = time.monotonic()
        self.stage.say(f"{name}: {act.until - act.since:.1f} s; {self.answered()} connections so far")


def start_load(run: Run, clients: int, rate: float, standing: int) -> None:
    """Start the processes that make the load."""
    site, plan = run.site, run.site.plan
    for number in range(PROCESSES):
        each = clients // PROCESSES
        command = [sys.executable, "-m", "casarray.lab.load", "--vip", plan.vip, "--vip", plan.vip6]
        command += ["--sources", plan.crowd, "--sources", plan.crowd6, "--rpc-port", str(site.ports.rpc)]
        command += [part for name in site.names for part in ("--server", name)]
        command += ["--first", str(1 + number * each), "--clients", str(each), "--rate", str(rate / PROCESSES)]
        command += ["--standing", str(standing // PROCESSES), "--journal", str(site.folder / f"load{number}.jsonl")]
        out, log = site.folder / f"load{number}.out", site.folder / f"load{number}.log"
        with out.open("wb") as stdout, log.open("wb") as stderr:
            env = {"PYTHONPATH": str(here())}
            run.loads.append(site.host("clients").spawn(*command, stdout=stdout, stderr=stderr, env=env))


async def stop_load(run: Run) -> None:
    """End them; one that ended before its time is a failed run."""
    for number, process in enumerate(run.loads):
        if process.poll() is not None:
            raise Unavailable(f"the load ended by itself:\n{(run.site.folder / f'load{number}.log').read_text()}")
        process.terminate()
    for process in run.loads:
        await asyncio.to_thread(process.wait, 10)


# The faults. Each ends when the gateway trusts everybody again.


async def _away(run: Run, name: str, victim: str, leave: Callable[[str], None], seconds: float) -> None:
    async with run.act(f"{victim} {name}", victim=victim):
        leave(victim)
        await run.faults.until_state(victim, False)
        await asyncio.sleep(seconds)


async def _back(run: Run, victim: str, come: Callable[[], Awaitable[None]]) -> None:
    async with run.act(f"{victim} back", victim=victim):
        await come()
        await run.faults.until_state(victim, True, patience=60)
        await asyncio.sleep(SETTLE)


async def stopped(run: Run, seconds: float) -> None:
    """SIGTERM to a server."""
    victim = run.victim()

    def leave(name: str) -> None:
        run.site.journal("out", member=name, why="stopped")
        run.site.servers[name].terminate()
        run.site.servers[name].wait(5)

    async def come() -> None:
        await run.site.start_server(victim)
        run.site.journal("in", member=victim, why="stopped")

    await _away(run, "stopped", victim, leave, seconds)
    await _back(run, victim, come)


async def killed(run: Run, seconds: float) -> None:
    """SIGKILL to a server."""
    victim = run.victim()
    await _away(run, "killed", victim, run.faults.kill, seconds)
    await _back(run, victim, lambda: run.faults.revive(victim))


async def hung(run: Run, seconds: float) -> None:
    """It accepts connections and never answers."""
    await _misbehaving(run, "hung after accept", "rpc hang-accept", seconds)


async def half_dead(run: Run, seconds: float) -> None:
    """The endpoint mapper answers, the RPC port refuses."""
    await _misbehaving(run, "half dead", "rpc refuse", seconds)


async def _misbehaving(run: Run, what: str, line: str, seconds: float) -> None:
    victim = run.victim()

    async def come() -> None:
        run.faults.behave(victim)

    await _away(run, what, victim, lambda name: run.faults.misbehave(name, line), seconds)
    await _back(run, victim, come)


async def cut_off(run: Run, seconds: float) -> None:
    """A server's cable is pulled."""
    victim = run.victim()

    async def come() -> None:
        run.faults.join(victim)

    await _away(run, "cut off", victim, run.faults.cut, seconds)
    await _back(run, victim, come)


async def flushed(run: Run, seconds: float) -> None:
    """Somebody runs `nft flush ruleset` on the gateway."""
    await asyncio.sleep(SETTLE + 1)  # clients that were moved a moment ago have been copied with their new pins
    async with run.act("nft flush ruleset", flushed=True):
        since = time.monotonic()
        run.faults.flush_tables()
        await asyncio.sleep(0.6)  # what was answered before is told by now
        before = run.answered()
        while run.answered() < before + 50:
            if time.monotonic() - since > 15:
                raise Unavailable("the gateway has not put its table back within 15 s")
            await asyncio.sleep(0.05)
        # Pinholes went with the table: whoever uses a dynamic port has asked the endpoint mapper again by then.
        await asyncio.sleep(3.0 + seconds)


async def gateway_killed(run: Run, seconds: float) -> None:
    """kill -9 of the control plane, and a new start."""
    async with run.act("kill -9 of the gateway, and restart", gentle=True):
        run.faults.kill_gateway()
        await asyncio.sleep(seconds)
        await run.faults.start_gateway()
        await asyncio.sleep(SETTLE)


async def reloaded(run: Run, seconds: float) -> None:
    """A reload under load."""
    async with run.act("reload", gentle=True):
        await run.faults.reload()
        await asyncio.sleep(seconds)


async def drained(run: Run, seconds: float) -> None:
    """A server is drained, and taken back."""
    victim = run.victim()
    async with run.act(f"{victim} drained and active again", victim=victim, gentle=True):
        await run.faults.drain(victim)
        await asyncio.sleep(seconds)
        await run.faults.activate(victim)
        await asyncio.sleep(SETTLE)


async def drained_until(run: Run, seconds: float) -> None:
    """A server is drained with a deadline, and taken back."""
    victim = run.victim()
    async with run.act(f"{victim} drained until a deadline", victim=victim):
        await run.faults.drain(victim, seconds)
        await run.faults.until_state(victim, False, patience=seconds + 2)
        await asyncio.sleep(1.0)
        await run.faults.activate(victim)
        await asyncio.sleep(SETTLE)


ROUND = (stopped, killed, hung, half_dead, cut_off, flushed, gateway_killed, reloaded, drained, drained_until)


async def control_plane_alone(run: Run, reloads: int, kills: int) -> None:
    """Reloads, and kill -9 with a restart, again and again; nobody may feel it."""
    if reloads:
        async with run.act(f"{reloads} reloads", gentle=True):
            for _ in range(reloads):
                await run.faults.reload()
    if kills:
        async with run.act(f"{kills} times kill -9 and restart", gentle=True):
            for number in range(1, kills + 1):
                run.faults.kill_gateway()
                await run.faults.start_gateway()
                if number % 10 == 0:
                    run.stage.say(f"{number} of {kills}, {run.answered()} connections so far")
    await asyncio.sleep(SETTLE)


async def everything(run: Run, options: argparse.Namespace) -> None:
    """The whole run."""
    stage = run.stage
    stage.act(f"{options.clients} clients, {options.rate:.0f} connections a second, {options.standing} standing ones")
    start_load(run, options.clients, options.rate, options.standing)
    async with run.act("nothing", gentle=True):
        await asyncio.sleep(2.0)
    seconds = 0.3 if options.quick else 2.0
    number = 0
    while number == 0 or run.answered() < options.connections:
        number += 1
        stage.act(f"faults, round {number}")
        for fault in ROUND:
            await fault(run, seconds)
    stage.act("the control plane alone")
    await control_plane_alone(run, options.reloads, options.kills)
    await stop_load(run)


# What came of it.


def feel(acts: Sequence[Act], paths: Iterable[Path]) -> None:
    """Sort what the clients wrote down by the fault that was going on.

    A dynamic port that was neither learnt nor used since a member was away is a leftover of that fault, whenever the
    client tries it again: it named a member that the client has lost.
    """
    starts = [act.since for act in acts]
    for path in paths:
        at = 0
        with path.open(encoding="utf-8") as file:
            for line in map(json.loads, file):
                while at + 1 < len(acts) and starts[at + 1] <= line["at"]:
                    at += 1
                if line["event"] == "answered":
                    acts[at].answered += 1
                elif line["event"] in ("failed", "lost"):
                    service = "standing" if line["event"] == "lost" else line["service"]
                    acts[_cause(acts, at, line)].felt[f"{service} {line['why']}"] += 1


def _cause(acts: Sequence[Act], at: int, line: Mapping[str, Any]) -> int:
    """Which fault a failure belongs to: the one going on, or the last harsh one if the port is a leftover of it."""
    harsh = next((number for number in range(at, -1, -1) if not acts[number].gentle), at)
    return harsh if line.get("proven", acts[harsh].until) < acts[harsh].until else at


def conclude(run: Run, options: argparse.Namespace) -> bool:
    """Judge, and show the table; whether everything held."""
    stage, acts = run.stage, run.acts
    feel(acts, [run.site.folder / f"load{number}.jsonl" for number in range(PROCESSES)])
    stage.console.print()
    stage.console.print(_table(acts))
    verdict = judge(read(run.site.journals), SETTLE)
    stage.act("the verdict")
    for violation in verdict.violations[:5]:
        stage.say(f"{violation.client}: " + " / ".join(violation.story))
        for line in logged_about(run.site.gateway_log(), violation.at):
            stage.say(f"    the gateway: {line}")
    enough = verdict.connections >= options.connections
    stage.check("connections", f"{verdict.connections} of {options.connections} wanted", enough)
    stage.check("violations of one client, one member", str(len(verdict.violations)), verdict.held)
    reasons: Counter[str] = Counter()
    for why, number in verdict.reasons.items():
        reasons[why.partition(" ")[2]] += number
    moves = ", ".join(f"{number} because theirs was {why}" for why, number in reasons.most_common())
    stage.say(f"{sum(verdict.moves.values())} moves of {len(verdict.home)} clients: {moves}")
    gentle = [act for act in acts if act.gentle]
    lost = sum(act.count(["standing"]) for act in gentle)
    refused = sum(act.count(["rpc", "ab"]) for act in gentle)
    mapper = sum(act.count(["epm"]) for act in gentle)
    stage.check("standing connections lost by reloads, kill -9 and drains", str(lost), not lost)
    stage.check("connections to known ports refused or reset by them", str(refused), not refused)
    stage.say(f"connections to the endpoint mapper refused or reset while the program was away: {mapper}")
    stage.say(f"it took {stage.seconds:.0f} s")
    return stage.held


def logged_about(log: str, at: float) -> list[str]:
    """The gateway's warnings in the seconds before and after: a member that was too busy to answer was out as well."""
    moment = datetime.fromtimestamp(time.time() - (time.monotonic() - at))
    first, last = (f"{moment + timedelta(seconds=by):%Y-%m-%d %H:%M:%S}" for by in (-5, 2))
    return [line for line in log.splitlines() if " WARNING " in line and first <= line[:19] <= last]


def together(acts: Sequence[Act]) -> list[Act]:
    """Faults of one kind as one, whichever server they were done to; in the order of their first time."""
    kinds: dict[str, Act] = {}
    for act in acts:
        name = act.name.removeprefix(f"{act.victim} ")
        kind = kinds.setdefault(name, Act(name, 0.0))
        kind.until += act.until - act.since  # from 0: how long they took together
        kind.answered += act.answered
        kind.felt.update(act.felt)
    return list(kinds.values())


def _table(acts: Sequence[Act]) -> Table:
    table = Table(title="What the clients felt", title_justify="left")
    columns = ("seconds", "named by a member", "refused", "reset", "time-out", "other", "mapper", "standing lost")
    table.add_column("fault")
    for column in columns:
        table.add_column(column, justify="right")
    for act in together(acts):
        known = ("rpc", "ab")
        kinds = [act.count(known, word) for word in ("refused", "reset", "timeout")]
        other = act.count(known) - sum(kinds)
        numbers = [*kinds, other, act.count(["epm"]), act.count(["standing"])]
        table.add_row(act.name, f"{act.until - act.since:.1f}", str(act.answered), *(str(n or "") for n in numbers))
    return table


async def play(folder: Path, stage: Stage, options: argparse.Namespace) -> bool:
    """Build the site, run, judge."""
    stage.act(f"building a site of {len(SERVERS)} servers and a gateway")
    async with NetworkSite(folder, servers=SERVERS) as site:
        stage.say(f"the gateway is ready after {await site.start_gateway():.1f} s")
        run = Run(site, stage, Faults(site))
        for name in site.names:
            await run.faults.until_state(name, True)
        await everything(run, options)
        return conclude(run, options)


def parser() -> argparse.ArgumentParser:
    """The command line's form."""
    form = argparse.ArgumentParser(
        prog="script/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    form.add_argument("--quick", action="store_true", help="one short round, 3 reloads, 3 kills, 3000 connections")
    form.add_argument("--connections", type=int, help="at least so many (100000)")
    form.add_argument("--reloads", type=int, help="in the end (100)")
    form.add_argument("--kills", type=int, help="of the control plane, in the end (100)")
    form.add_argument("--clients", type=int, help="addresses (400); every fifth an IPv6 one")
    form.add_argument("--standing", type=int, default=100, help="so many clients keep a connection all the time")
    form.add_argument("--rate", type=float, help="connections a second (600)")
    form.add_argument("--keep", type=Path, metavar="DIR", help="keep configuration, logs and journals there")
    return form


def main() -> int:
    """The command line: exit code 0 if everything held."""
    options = parser().parse_args()
    for name, (full, quick) in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    stage = Stage()
    if not stage.console.is_terminal:
        stage.console.width = max(stage.console.width, 150)
    reason = missing()
    if reason is not None:
        stage.say(f"this cannot be run here: {reason}")
        return 2
    sweep()
    try:
        with tempfile.TemporaryDirectory(prefix="casarray-faults-") as temporary:
            folder = options.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            return 0 if uvloop.run(until_signal(play(folder, stage, options))) else 1
    except KeyboardInterrupt:
        stage.say("interrupted; everything was taken away again")
        return 130
    except (CasarrayError, subprocess.TimeoutExpired) as error:
        stage.say(f"the run could not go on: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
