"""Whole sites: they come up, fail at will, and go without a trace; and the demo, which is the site with a story."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from casarray.core.errors import Unavailable
from casarray.lab.faults import Faults
from casarray.lab.journal import Journal
from casarray.lab.netns import Namespace, missing
from casarray.lab.oracle import judge, read
from casarray.lab.outlook import crowd
from casarray.lab.site import LoopbackSite, NetworkSite, Site, free_port

_WHY = missing()
needs_root = [pytest.mark.root, pytest.mark.skipif(_WHY is not None, reason=str(_WHY))]
KINDS = [pytest.param(LoopbackSite, id="loopback"), pytest.param(NetworkSite, id="network", marks=needs_root)]

on_both_kinds = pytest.mark.parametrize("kind", KINDS)


@on_both_kinds
async def test_clients_stay_and_those_of_a_killed_server_move(kind: type[Site], tmp_path: Path) -> None:
    journal = Journal(tmp_path / "clients.jsonl", "client")
    async with kind(tmp_path, health={"interval": '"300ms"'}) as site:
        await site.start_gateway()
        with site.host("clients").inside():
            people = crowd(site.vip, 24, site.sources, journal=journal, epm_port=site.ports.epm, idle=8, patience=2.0)
            people.start(0.1)
            try:
                assert await people.all_connected()
                assert len(people.spread) == 3
                before = {client.name: client.member for client in people.clients}
                Faults(site).kill("cas2")
                await asyncio.sleep(0.1)
                assert await people.all_connected()
                after = {client.name: client.member for client in people.clients}
            finally:
                await people.stop()
        processes = [process for host in _hosts(site) for process in host.processes]
    journal.close()
    assert {name for name in before if before[name] != after[name]} == {n for n, m in before.items() if m == "cas2"}
    verdict = judge(read(site.journals))
    assert verdict.held
    assert set(verdict.moves) == {name for name, member in before.items() if member == "cas2"}
    assert all(process.poll() is not None for process in processes)


def _hosts(site: Site) -> list[Namespace]:
    return [site.host(name) for name in ("gateway", *site.names)]


@on_both_kinds
async def test_a_gateway_that_refuses_its_file_is_quoted_and_the_site_goes(kind: type[Site], tmp_path: Path) -> None:
    site = kind(tmp_path, more='[gatway]\nname = "x"\n')
    with pytest.raises(Unavailable, match="gatway"):
        async with site:
            await site.start_gateway()
    assert all(process.poll() is not None for process in site.servers.values())


async def test_a_frozen_server_is_out_until_it_is_thawed(tmp_path: Path) -> None:
    async with LoopbackSite(tmp_path, health={"interval": '"200ms"', "timeout": '"200ms"'}) as site:
        await site.start_gateway()
        faults = Faults(site)
        await faults.until_state("cas1", True)
        faults.freeze("cas1")
        assert await faults.until_state("cas1", False) < 3
        faults.thaw("cas1")
        assert await faults.until_state("cas1", True) < 5
    (absence,) = read(site.journals).absences
    assert (absence.member, absence.why) == ("cas1", "frozen")


async def test_a_half_dead_server_is_out_though_its_mapper_answers(tmp_path: Path) -> None:
    async with LoopbackSite(tmp_path, health={"interval": '"200ms"'}) as site:
        await site.start_gateway()
        faults = Faults(site)
        await faults.until_state("cas1", True)
        faults.half_die("cas1")
        assert site.tell("cas1", "state")["services"]["epm"]["behaviour"] == "normal"
        await faults.until_state("cas1", False)
        faults.behave("cas1")
        await faults.until_state("cas1", True)


def test_a_free_port_is_one_that_nobody_has_on_any_address() -> None:
    with socket.create_server(("127.63.1.1", free_port(21000))) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port


def _demo(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "casarray.lab.demo", "--keep", str(folder), "--clients", "30", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _left_behind(folder: Path, pid: int) -> list[str]:
    names = os.listdir("/run/netns") if Path("/run/netns").is_dir() else []
    left = [name for name in names if name.startswith(f"ca{pid}x")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            left.append(line)
    return left


on_both_modes = pytest.mark.parametrize(
    "arguments", [pytest.param(["--userspace"], id="userspace"), pytest.param([], id="kernel", marks=needs_root)]
)


@on_both_modes
def test_the_demo_holds_and_leaves_nothing_behind(arguments: list[str], tmp_path: Path) -> None:
    with _demo(tmp_path, *arguments) as process:
        told, _ = process.communicate(timeout=90)
    assert process.returncode == 0, told
    assert "0 in" in next(line for line in told.splitlines() if "affinity violations" in line)
    assert "BROKEN" not in told
    assert not _left_behind(tmp_path, process.pid)


@pytest.mark.parametrize(
    ("arguments", "sign"),
    [
        pytest.param(["--userspace"], signal.SIGTERM, id="userspace"),
        pytest.param([], signal.SIGINT, id="kernel", marks=needs_root),
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(arguments: list[str], sign: int, tmp_path: Path) -> None:
    with _demo(tmp_path, *arguments) as process:
        assert process.stdout is not None
        until = time.monotonic() + 30
        while "lives there" not in (line := process.stdout.readline()) and "live there" not in line:
            assert line
            assert time.monotonic() < until
        process.send_signal(sign)
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert not _left_behind(tmp_path, process.pid)


def test_a_demo_that_does_not_hold_says_so_and_fails(tmp_path: Path) -> None:
    """A gateway that forgets at once, pins of a second and another seed: everybody comes back elsewhere."""
    code = f"""
import asyncio, sys
from pathlib import Path
from casarray.lab import demo, site
from casarray.lab.stage import Stage
async def forgetful(demo_, title):
    demo_.site.write_config(site.Wanted(array={{"affinity_timeout": '"1s"', "seed": "4711"}}))
    await demo_.faults.reload()
    for client in demo_.people.clients:
        client.start_over()
    await asyncio.sleep(2.5)
    await honest(demo_, title)
honest, demo.come_again = demo.come_again, forgetful
sys.exit(0 if asyncio.run(demo.play(site.LoopbackSite(Path({str(tmp_path)!r})), Stage(), 30)) else 1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
