"""`account roll` on the command line: what it prints, asks, writes, and its exit codes."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.app.kerberos.fake_realm import NOW
from tests.app.kerberos.rolled import Forest
from typer.testing import CliRunner

from casarray.adapters.unit_files import SystemdUnits
from casarray.app.kerberos import rolling
from casarray.core.errors import Denied
from casarray.faces.cli import roll_work
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World


class Place:
    """A command line in a forest from memory."""

    def __init__(self, **settings: Any) -> None:
        self.forest = Forest(**settings)
        self.timers: Callable[[], Any] = lambda: self.forest.clockwork

    def __call__(self, line: str, stdin: str = "") -> tuple[int, str, str]:
        """Run one command: exit code, stdout, stderr."""
        forest = self.forest

        def nobody(*_: object) -> Any:
            raise AssertionError("no gateway is asked")

        around = World(
            nobody, nobody, nobody, nobody, {},
            open_store=lambda _: forest.desk.directory.store,
            kerberos=lambda: forest.desk.settings,
            open_realm=lambda: forest.realm,
            agents=lambda: forest.agents,
            events=lambda: forest.log,
            timers=self.timers,
        )  # fmt: skip
        result = CliRunner().invoke(
            cli, ["account", "roll", *line.split()], obj=around, input=stdin, env={"COLUMNS": "160", "TERM": "dumb"}
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture(autouse=True)
def _the_time_of_the_forest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the command is that of the realm from memory; nobody waits."""
    monkeypatch.setattr(
        roll_work, "roll_now", lambda *given: rolling.roll(*given, now=lambda: NOW, sleep=lambda _: None)
    )


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_roll_prints_a_line_for_each_member_and_how_it_went(place: Place) -> None:
    code, out, err = place("asa$ --all")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "MEMBER  STATE      KEYS  DETAIL",
        "ber1    confirmed  4, 3",
        "cas1    confirmed  4, 3",
        "cas2    confirmed  4, 3",
        r"LAB\asa$ has a new password, and every member that takes part has key 4",
    ]
    assert place.forest.is_right()


@pytest.mark.parametrize("line", ["--all", ""])
def test_the_only_account_need_not_be_named_and_everywhere_is_the_default(place: Place, line: str) -> None:
    assert place(line)[0] == 0
    assert place.forest.is_right()


def test_a_domain_before_the_account_is_looked_at(place: Place) -> None:
    code, out, _ = place(r"Contoso\asa$ --all")
    assert code == 0
    assert r"warning: Contoso\asa$ was typed; what is rolled is LAB\asa$, of LAB.EXAMPLE" in out


def test_a_refusal_says_why_on_stderr_and_shows_the_members_all_the_same(place: Place) -> None:
    place.forest.agents.silent.add("cas2.domain.tld")
    code, out, err = place("asa$ --all --unattended")
    assert code == 1
    assert "cas2    missing" in out
    last = err.splitlines()[-1]
    assert last.startswith("casarray: nothing was changed: cas2 is missing: the agent of cas2.domain.tld")
    assert last.endswith("or leave it out with --except NAME")
    assert place.forest.is_as_before()


def test_what_has_to_be_finished_by_another_run_has_an_exit_code_of_its_own(place: Place) -> None:
    place.forest.member("cas1").fail("confirm", Denied("not now"))
    code, out, err = place("asa$ --all")
    assert code == 3
    assert "cas1    missing" in out
    assert "Run this again to finish it" in err
    code, out, err = place("asa$ --all")
    assert (code, err) == (0, "")
    assert out.endswith("an earlier roll of LAB\\asa$ was brought to its end: key 4\n")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_whoever_is_there_is_asked_about_missing_members(
    place: Place, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr(roll_work, "somebody_is_there", lambda: True)
    place.forest.agents.silent.add("cas2.domain.tld")
    got, _, err = place("asa$ --all", answer)
    assert got == code
    assert "Clients cannot log on there after the roll. Go on without?" in err
    assert place.forest.is_as_before() == bool(code)
    assert place("asa$ --all --unattended", answer)[0] == 1


def test_a_roll_as_json(place: Place) -> None:
    code, out, _ = place("asa$ --array CAS --except ber1 --json")
    told = json.loads(out)
    assert code == 0
    assert (told["outcome"], told["before"], told["number"], told["event"]) == ("rolled", 3, 4, 14003)
    assert [(one["name"], one["state"], one["numbers"]) for one in told["members"]] == [
        ("cas1", "confirmed", [4, 3]),
        ("cas2", "confirmed", [4, 3]),
        ("ber1", "left out", []),
    ]


def test_a_dry_run_shows_the_plan(place: Place) -> None:
    code, out, _ = place("asa$ --all --dry-run")
    assert code == 0
    assert "would give ber1, cas1, cas2 new keys (number 4)" in out
    assert place.forest.is_as_before()


def test_every_step_is_told_to_whoever_wants_it(place: Place) -> None:
    _, _, err = place("asa$ --all -v")
    lines = [line.removeprefix("casarray: ") for line in err.splitlines()]
    assert "get a ticket with key 3 of ber1" in lines
    assert "  cas2: done" in lines
    assert lines.index("set the password in the directory") > lines.index(
        "giving every member the new keys (3 members)"
    )


def test_what_a_member_holds_is_copied(place: Place) -> None:
    place.forest.member("cas2").drop("asa$")
    code, out, _ = place("asa$ --server cas2 --copy-from cas1")
    assert code == 0
    assert out.endswith("cas2 now holds of LAB\\asa$ what cas1 holds\n")
    assert place.forest.is_right()


@pytest.mark.parametrize(
    "line",
    [
        "asa$ --array CAS --server cas1",
        "asa$ --all --server cas1",
        "asa$ --all --older-than soon",
        "asa$ --all --schedule x --dry-run",
    ],
)
def test_wrong_usage(place: Place, line: str) -> None:
    code, _, err = place(line)
    assert code == 2
    assert "Usage" in err
    assert place.forest.is_as_before()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("other$ --all", "no array uses the account other$"),
        ("asa$ --array NONE", "the array NONE does not use the account asa$"),
        ("asa$ --server mbx1", "mbx1 is no member of an array"),
        ("asa$ --all --except nobody", "nobody is no member"),
        ("asa$ --all --schedule ../x", "cannot be the name of a unit"),
        ("asa$ --all --schedule x --every 5m", "every 5m is too often"),
        ("asa$ --all --schedule x --every often", '"often" is no time between two rolls'),
        ("asa$ --server cas1 --schedule x --copy-from cas2", "copying is done once"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(place: Place, line: str, said: str) -> None:
    code, out, err = place(line)
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert place.forest.is_as_before()


def test_a_schedule_is_written_and_nothing_is_rolled_now(place: Place, tmp_path: Path) -> None:
    place.timers = SystemdUnits
    line = f"asa$ --array CAS --except ber1 --schedule casarray-roll --every 4w --folder {tmp_path}"
    code, out, _ = place(line)
    assert code == 0
    assert "systemctl daemon-reload && systemctl enable --now casarray-roll.timer" in out
    service, timer = ((tmp_path / f"casarray-roll.{kind}").read_text() for kind in ("service", "timer"))
    assert "account roll asa$$ --array CAS --except ber1 --unattended --older-than 28d\n" in service
    assert "OnCalendar=daily" in timer
    assert place.forest.is_as_before()
    assert place.forest.log.lines == []
    assert place(line.replace("4w", "5w"))[0] == 0, "it may be changed"
    assert "--older-than 35d" in (tmp_path / "casarray-roll.service").read_text()
    if analyze := shutil.which("systemd-analyze"):
        units = [tmp_path / f"casarray-roll.{kind}" for kind in ("service", "timer")]
        checked = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
        ours = [said for said in checked.stderr.splitlines() if "casarray" in said]
        assert ours == []


def test_a_unit_of_somebody_else_is_not_overwritten(place: Place, tmp_path: Path) -> None:
    place.timers = SystemdUnits
    (tmp_path / "backup.timer").write_text("[Timer]\n")
    code, _, err = place(f"asa$ --all --schedule backup --folder {tmp_path}")
    assert code == 1
    assert "that casarray did not write" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.timer"]


def test_a_folder_that_is_not_there_is_said(place: Place, tmp_path: Path) -> None:
    place.timers = SystemdUnits
    code, _, err = place(f"asa$ --all --schedule x --folder {tmp_path}/none")
    assert code == 1
    assert "No such file or directory" in err


def test_without_a_keytab_nothing_is_scheduled() -> None:
    place = Place(keytab="")
    code, _, err = place("asa$ --all --schedule casarray-roll")
    assert code == 1
    assert "set keytab (and principal) under [kerberos]" in err
    assert place.forest.clockwork.files == {}
