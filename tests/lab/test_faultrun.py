"""The run of faults, in short, and whether its judge would notice."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from casarray.lab import faultrun, oracle
from casarray.lab.faultrun import Act, feel, logged_about, together
from casarray.lab.journal import Journal
from casarray.lab.load import Client, Load, clients, percentiles
from casarray.lab.netns import missing
from casarray.lab.oracle import judge, read
from casarray.lab.server import Behaviour, LabServer

LOOPBACK = "127.77.0.1"


def doctored(lines: list[str], at: float, client: str, member: str) -> list[str]:
    """The journal with one answer more: this client, at that time, was answered by that member."""
    line = {"at": at, "by": "client", "event": "answered", "id": client, "service": "rpc", "member": member}
    return [*lines, json.dumps(line)]


@pytest.mark.root
@pytest.mark.timeout(200)
def test_every_fault_under_load_and_nobody_goes_astray(tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    command = [sys.executable, "-m", "casarray.lab.faultrun", "--quick", "--keep", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    verdict = judge(read(tmp_path.glob("*.jsonl")), faultrun.SETTLE)
    assert verdict.held
    assert verdict.connections >= 3000
    assert set(verdict.reasons) >= {f"cas{n} {why}" for n, why in ((2, "stopped"), (3, "killed"), (2, "cut off"))}

    # The same journals with one line forged, at a moment when nothing was wrong: the judge must see it.
    journal = tmp_path / "load0.jsonl"
    first = next(entry for entry in map(json.loads, journal.read_text().splitlines()) if entry["event"] == "answered")
    elsewhere = "cas1" if first["member"] != "cas1" else "cas2"
    forged = doctored(journal.read_text().splitlines(), first["at"] + 0.0001, first["id"], elsewhere)
    journal.write_text("\n".join(forged) + "\n")
    violations = judge(read(tmp_path.glob("*.jsonl")), faultrun.SETTLE).violations
    assert {violation.client for violation in violations} == {first["id"]}


def test_the_oracles_exit_code_tells_a_doctored_journal_from_the_true_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    for number in range(20):
        lines = doctored(lines, float(number), f"user{number % 4:05d}", f"cas{number % 4 % 3 + 1}")
    true, false = tmp_path / "true.jsonl", tmp_path / "false.jsonl"
    true.write_text("\n".join(lines) + "\n")
    false.write_text("\n".join(doctored(lines, 10.5, "user00001", "cas3")) + "\n")
    monkeypatch.setattr(sys, "argv", ["oracle", str(true)])
    assert oracle.main() == 0
    monkeypatch.setattr(sys, "argv", ["oracle", str(false)])
    assert oracle.main() == 1
    assert "user00001" in capsys.readouterr().err


def test_what_clients_felt_belongs_to_the_fault_that_was_going_on(tmp_path: Path) -> None:
    path = tmp_path / "load0.jsonl"
    events = [
        (1.0, {"event": "answered", "service": "rpc"}),
        (2.5, {"event": "failed", "service": "rpc", "why": "refused"}),
        (2.6, {"event": "lost", "service": "rpc", "why": "reset"}),
        (3.5, {"event": "failed", "service": "epm", "why": "timeout while connecting"}),
    ]
    path.write_text("".join(json.dumps({"at": at, **event}) + "\n" for at, event in events))
    acts = [Act("one", 0.5), Act("two", 2.0), Act("three", 3.0)]
    feel(acts, [path])
    assert [act.answered for act in acts] == [1, 0, 0]
    assert [dict(act.felt) for act in acts] == [
        {},
        {"rpc refused": 1, "standing reset": 1},
        {"epm timeout while connecting": 1},
    ]
    assert acts[1].count(["rpc", "ab"], "refused") == 1
    assert acts[2].count(["rpc", "ab"]) == 0


def test_a_port_that_was_not_used_since_a_member_was_away_is_that_faults(tmp_path: Path) -> None:
    path = tmp_path / "load0.jsonl"
    failed = {"event": "failed", "service": "ab", "why": "refused"}
    events = [{"at": 3.5, "proven": 0.4, **failed}, {"at": 3.6, "proven": 2.1, **failed}, {"at": 4.5, **failed}]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    acts = [Act("killed", 1.0, 2.0), Act("drained", 2.0, 3.0, gentle=True), Act("reload", 3.0, 5.0, gentle=True)]
    feel(acts, [path])
    assert [act.count(["ab"]) for act in acts] == [1, 0, 2]


def test_what_the_gateway_warned_of_about_a_moment_is_told_with_a_violation() -> None:
    now = datetime.now()
    lines = [
        f"{now - timedelta(seconds=ago):%Y-%m-%d %H:%M:%S},000 {level} cas3: rpc is down: said {ago} s before"
        for ago, level in ((60, "WARNING"), (12, "WARNING"), (11, "INFO"), (0, "WARNING"))
    ]
    assert logged_about("\n".join(lines), time.monotonic() - 10) == [lines[1]]


def test_faults_of_one_kind_are_told_together() -> None:
    acts = [
        Act("cas1 killed", 1.0, 2.0, victim="cas1", answered=3, felt=Counter({"rpc refused": 1})),
        Act("reload", 2.0, 2.5, answered=1),
        Act("cas2 killed", 3.0, 5.0, victim="cas2", answered=4, felt=Counter({"rpc refused": 2, "ab reset": 1})),
    ]
    killed, reload = together(acts)
    assert (killed.name, killed.until - killed.since, killed.answered) == ("killed", 3.0, 7)
    assert killed.felt == {"rpc refused": 3, "ab reset": 1}
    assert reload.name == "reload"


class Loaded:
    """A lab server on this loop, and a load in a thread beside it."""

    def __init__(self, server: LabServer, path: Path) -> None:
        self.server = server
        self.path = path
        self.journal = Journal(path, "client")
        people = [Client(number, LOOPBACK, None) for number in range(1, 9)]
        self.load = Load(
            people,
            self.journal,
            epm_port=server.services["epm"].port,
            rpc_port=server.services["rpc"].port,
            servers=["cas1"],
            patience=0.2,
            rate=400.0,
        )

    async def run(self, seconds: float) -> None:
        """With three standing connections."""
        await asyncio.to_thread(self.load.run, seconds, 3)


@pytest.fixture
async def loaded(tmp_path: Path) -> AsyncIterator[Loaded]:
    server = LabServer("cas1", [LOOPBACK], {"epm": 0})
    await server.start()
    made = Loaded(server, tmp_path / "load.jsonl")
    yield made
    made.journal.close()
    await server.close()


async def test_each_connection_of_the_load_is_answered_and_written_down(loaded: Loaded) -> None:
    await loaded.run(1.0)
    load = loaded.load
    assert not load.failed
    assert set(load.answered) == {"epm", "ab", "rpc"}
    seen = read([loaded.path]).sightings
    assert {sighting.member for sighting in seen} == {"cas1"}
    assert len({sighting.client for sighting in seen}) == 8
    assert len(seen) == load.answered["ab"] + load.answered["rpc"]


async def test_the_load_tells_refusals_from_silence_and_standing_ones_from_new_ones(loaded: Loaded) -> None:
    running = asyncio.create_task(loaded.run(2.0))
    await asyncio.sleep(0.7)
    await loaded.server.behave(loaded.server.services["rpc"], Behaviour.REFUSE)
    await asyncio.sleep(0.3)
    await loaded.server.behave(loaded.server.services["rpc"], Behaviour.HANG_ACCEPT)
    await running
    failed = loaded.load.failed
    assert failed["rpc refused"] > 0
    assert failed["rpc timeout"] > 0
    assert sum(number for what, number in failed.items() if what.startswith("standing")) == 3


def test_every_fifth_client_comes_over_ipv6() -> None:
    made = clients(["10.11.0.100", "fd11::100"], ["10.32.0.0/16", "fd32::/64"], 1, 10)
    assert [client.source for client in made if ":" in client.vip] == ["fd32::5", "fd32::a"]
    assert made[0].source == "10.32.0.1"


def test_percentiles_are_in_milliseconds() -> None:
    assert percentiles([0.001] * 98 + [0.002, 0.003])["p50"] == 1.0
    assert percentiles([0.001] * 98 + [0.002, 0.003])["longest"] == 3.0
