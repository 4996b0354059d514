"""`casarray referral`: what its commands print, and their exit codes."""

import json
from collections.abc import Sequence

import pytest
from tests.faces.test_account import nobody
from typer.testing import CliRunner

from casarray.core.referral.visits import Visit
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World

DAY = 86400.0
VISITS = (
    Visit("alice", "10.1.1.1", "old1", DAY, 20 * DAY, 4, "Kerberos"),
    Visit("bob", "10.1.1.2", "old1", 10 * DAY, 10 * DAY),
    Visit("", "10.1.1.3", "old1 or old2", 30 * DAY, 30 * DAY),
)


def run(line: str, visits: Sequence[Visit] = VISITS) -> tuple[int, str]:
    """Exit code and stdout."""
    asked: list[object] = []

    def referral(path: str, listen: Sequence[str], retired: Sequence[str], as_json: bool) -> int:
        asked.append((path, tuple(listen), tuple(retired), as_json))
        print(asked[-1])
        return 7

    def who(path: str) -> Sequence[Visit]:
        assert path == "x.toml"
        return visits

    around = World(
        connect=nobody, run=nobody, remove=nobody, survey=nobody, environment={}, run_referral=referral, visits=who
    )
    environment = {"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1", "TZ": "UTC"}
    result = CliRunner().invoke(cli, ["referral", *line.split(), "-c", "x.toml"], obj=around, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_run_hands_names_and_addresses_on_and_ends_with_the_referrals_own_code() -> None:
    code, said = run("run --listen 10.0.0.1 --listen fd00::1 --retired old1.domain.tld --json")
    assert code == 7
    assert said == "('x.toml', ('10.0.0.1', 'fd00::1'), ('old1.domain.tld',), True)\n"


def test_the_report_counts_by_name_and_lists_who_came_last_first() -> None:
    code, said = run("report")
    lines = [line.split() for line in said.splitlines()]
    assert code == 0
    assert [line[:4] for line in lines[1:3]] == [["old1", "2", "2", "5"], ["old1", "or", "old2", "0"]]
    assert [line[0] for line in lines[5:]] == ["unknown", "alice", "bob"]
    assert lines[6][-1] == "Kerberos"
    assert lines[7][-2:] == ["says", "so"]


@pytest.mark.parametrize(
    ("name", "users"),
    [("old2", [""]), ("OLD1.domain.tld", ["", "alice", "bob"]), ("old3", [])],
)
def test_the_report_of_one_name_has_whoever_may_have_come_by_it(name: str, users: list[str]) -> None:
    code, said = run(f"report --json --name {name}")
    assert code == 0
    assert [visit["user"] for visit in json.loads(said)["visits"]] == users


def test_where_nobody_came_the_report_says_so() -> None:
    assert run("report", ()) == (0, "nobody has come to a retired server\n")


def test_a_long_report_says_how_much_more_there_is() -> None:
    many = [Visit(f"user{number}", "10.1.1.1", "old1", number, number) for number in range(60)]
    assert "and 10 more: --all shows them" in run("report", many)[1]
    assert "user0 " in run("report --all", many)[1]
