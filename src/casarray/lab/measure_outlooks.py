"""The figure of a thousand Outlooks: all log on, a member dies, all are back; and nobody met two members."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from casarray.core.errors import Unavailable
from casarray.lab import oracle
from casarray.lab.faults import Faults
from casarray.lab.figure import Figure, spread
from casarray.lab.measure import pin_to, ready
from casarray.lab.netns import here
from casarray.lab.site import NetworkSite

OUTLOOKS = 1000
LONGEST = 90.0  # seconds that they live, in all
SETTLED = 3.0  # seconds that all stand before the member dies
WATCHED = 12.0  # seconds after that
CORE = 0


async def outlooks(folder: Path, runs: int) -> list[Figure]:
    """Clients, gateway and three servers share one core; every client keeps four connections."""
    on, back, astray, met = [], [], 0, 0
    for run in range(max(3, runs // 4)):
        place = folder / str(run)
        place.mkdir()
        logged_on, returned, moved, clients = await _once(place)
        on.append(logged_on)
        back.append(returned)
        astray += moved
        met += clients
    return [
        Figure(
            f"{OUTLOOKS} Outlooks log on through the array, everything on one core",
            "30 s",
            spread(on, "s"),
            max(on) <= 30,
            tuple(on),
            "s",
        ),
        Figure(
            "a member dies: until the last of its clients is back",
            "5 s",
            spread(back, "s"),
            max(back) <= 5,
            tuple(back),
            "s",
        ),
        Figure("clients that met two members while theirs was well", "0", f"{astray} of {met}", astray == 0),
    ]


async def _once(folder: Path) -> tuple[float, float, int, int]:
    """Seconds until all had logged on, and from the death until all were back; clients led astray; clients seen."""
    async with NetworkSite(folder) as site:
        await ready(site)
        assert site.gateway is not None
        for process in (site.gateway, *site.servers.values()):
            pin_to(CORE, process.pid)
        command = [sys.executable, "-m", "casarray.lab.outlook", "--vip", site.plan.vip, "--sources", site.plan.crowd]
        command += ["--clients", str(OUTLOOKS), "--log-on", "--seconds", str(LONGEST), "--timeout", "30"]
        command += ["--interval", "5", "--journal", str(folder / "clients.jsonl")]
        told, report = folder / "outlook.err", folder / "outlook.out"
        with told.open("wb") as stderr, report.open("wb") as stdout:
            people = site.host("clients").spawn(*command, stdout=stdout, stderr=stderr, env={"PYTHONPATH": str(here())})
            pin_to(CORE, people.pid)
            try:
                await asyncio.to_thread(_all_connected, told, people)
                await asyncio.sleep(SETTLED)
                died = time.monotonic()
                Faults(site).kill(site.names[-1])
                await asyncio.sleep(WATCHED)
            finally:
                people.terminate()
                await asyncio.to_thread(people.wait, 60)
        said = json.loads(report.read_text())
        if said["connected"] < OUTLOOKS:
            raise Unavailable(f"{said['connected']} of {OUTLOOKS} clients are connected: {said['failures']}")
        verdict = oracle.judge(oracle.read(site.journals))
    return said["connected_after"], said["last_back_at"] - died, len(verdict.violations), len(verdict.home)


def _all_connected(told: Path, people: "subprocess.Popen[bytes]") -> None:
    """Wait until the clients say so."""
    while "connected after" not in (said := told.read_text()):
        if people.poll() is not None:
            raise Unavailable(f"not all clients were connected within {LONGEST:.0f} s: {said}")
        time.sleep(0.1)
