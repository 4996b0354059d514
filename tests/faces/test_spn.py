"""`casarray spn`: what it prints, its exit codes, and what it changes."""

import json
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from tests.app.kerberos.rolled import SPN, Forest
from typer.testing import CliRunner

from casarray.core.errors import Unavailable
from casarray.core.kerberos.account import AccountKind, Owner
from casarray.faces.cli import spn_work
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World

HTTP = "http/cas.domain.tld"
OLD = "CN=old,CN=Users,DC=lab,DC=example"


def nobody(*_: object) -> NoReturn:
    raise AssertionError("no gateway takes part")


class Place:
    """The command, over a forest from memory."""

    def __init__(self) -> None:
        self.forest = Forest()

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run one command: exit code, stdout, stderr."""
        forest = self.forest
        around = World(
            connect=nobody,
            run=nobody,
            remove=nobody,
            survey=nobody,
            environment={},
            open_store=lambda _: forest.desk.directory.store,
            kerberos=lambda: forest.desk.settings,
            open_realm=lambda: forest.realm,
            agents=lambda: forest.agents,
        )
        environment = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
        result = CliRunner().invoke(cli, ["spn", *arguments], input=stdin, obj=around, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The same, with what it says as JSON."""
        found, out, _ = self(*arguments, "--json")
        assert found == code
        return json.loads(out)

    def other(self, *names: str) -> None:
        """Another account that has names."""
        account = replace(self.forest.account, name="old", where=OLD, kind=AccountKind.USER, names=names)
        self.forest.realm.put(account)


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_plan_is_shown_and_nothing_changed(place: Place) -> None:
    place.other("exchangeAB/cas.domain.tld")
    code, out, err = place("plan")
    assert (code, err) == (0, "")
    assert f"  + {HTTP}: web services on the own name of CAS\n" in out
    assert f"  > exchangeAB/cas.domain.tld: from old ({OLD})" in out
    assert "blocked: exchangeAB/cas.domain.tld: owned by old" in out
    assert out.endswith("LAB\\asa$: nothing can be changed yet\n")
    assert "7 changes would be made" in place("apply", "--dry-run", "--move", "--now")[1]
    assert place.forest.account.names == (SPN,)


def test_apply_asks_first(place: Place) -> None:
    code, out, err = place("apply", stdin="n\n")
    assert (code, "Make 7 changes?" in out, err) == (1, True, "casarray: nothing was changed\n")
    code, out, _ = place("apply", stdin="y\n")
    assert (code, out.count(f"+ {HTTP}")) == (0, 1)
    assert "LAB\\asa$: 7 changes made, and read back\n" in out
    assert "told the new names to" in out
    assert len(place.forest.account.names) == 8
    assert place("apply")[1] == "LAB\\asa$ has the names that its arrays need; nothing to change\n"


def test_apply_says_why_not(place: Place) -> None:
    place.forest.agents.silent.add("cas2.domain.tld")
    code, out, err = place("apply", "--yes")
    assert (code, out) == (1, "")
    assert "nothing was changed" in err
    assert "cas2.domain.tld does not tell which keys it holds" in err
    code, out, err = place("apply", "--yes", "--without-agents")
    assert (code, err) == (0, "")
    assert "warning: cas2.domain.tld does not tell" in out


def test_with_json_nobody_is_asked(place: Place) -> None:
    code, _, err = place("apply", "--json")
    assert (code, "say --dry-run or --yes" in err) == (1, True)
    (one,) = place.json("apply", "--yes")["accounts"]
    assert (one["done"], len(one["names"]), len(one["told"]), one["blocks"]) == (True, 8, 3, [])
    place.other("exchangeAB/cas.domain.tld")
    (one,) = place.json("plan", "--account", "asa$", "--array", "CAS")["accounts"]
    assert one["steps"] == [
        {
            "act": "take",
            "name": "exchangeAB/cas.domain.tld",
            "why": f"away from old ({OLD}), for two accounts have it",
            "from": {"account": "old", "dn": OLD},
        }
    ]


def test_what_was_done_is_told_before_what_failed(place: Place) -> None:
    forest = place.forest
    array = forest.desk.directory.directory().arrays["ber"]
    own = replace(array, settings={"service_account": "ber$"})
    forest.desk.directory.change(lambda directory: directory.put(own), "a test")
    forest.realm.put(replace(forest.account, name="ber$", where="CN=ber", names=()))
    holding = forest.holding()
    forest.member("ber1").put(replace(holding, account="ber$"))
    forest.realm.passwords["ber"] = "another"
    change, calls = type(forest.realm).change_names, []

    def second_fails(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) % 2 == 0:
            raise Unavailable("the domain controller is gone")
        return change(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(forest.realm), "change_names", second_fails)
        code, out, err = place("apply", "--yes")
    assert (code, "LAB\\asa$: 3 changes made" in out) == (1, True)
    assert "the domain controller is gone" in err
    assert forest.realm.account("ber").names == ()


def test_an_audit_that_finds_nothing(place: Place) -> None:
    place("apply", "--yes")
    assert place("audit") == (0, "nothing is wrong with the names\n", "")
    assert place.json("audit") == {"visible": 0, "findings": []}


def test_an_audit_that_finds_what_users_see(place: Place) -> None:
    place("apply", "--yes")
    place.other(HTTP, "nonsense")
    code, out, _ = place("audit")
    assert code == 1
    assert out.startswith(f"duplicate: {HTTP} (CAS)\n  at    CN=asa\n  at    {OLD}\n  users The KDC cannot tell")
    assert out.endswith("2 findings, 1 of which users see\n")
    found = place.json("audit", code=1)
    assert [(one["kind"], one["visible"]) for one in found["findings"]] == [("duplicate", True), ("malformed", False)]


def test_an_audit_that_finds_only_what_users_do_not_see(place: Place) -> None:
    place("apply", "--yes")
    place.other("nonsense")
    assert place("audit")[0] == 0


def test_names_are_listed(place: Place) -> None:
    place.forest.realm.with_names("asa$", "http/gone.domain.tld")
    code, out, _ = place("list")
    rows = {line.split()[1]: line.split()[2] for line in out.splitlines()[1:]}
    assert (code, rows[HTTP], rows["http/gone.domain.tld"]) == (0, "missing", "not")
    place.other()
    assert place("list", "--account", "old") == (0, "there are no names\n", "")
    assert place.json("list", "--array", "CAS")["names"][4]["name"] == SPN


def test_names_are_found_or_not(place: Place) -> None:
    place.other("HTTP/mail.domain.tld", "host/mail.domain.tld")
    code, out, _ = place("find", "http/mail.domain.tld")
    assert (code, out.count(OLD), "stands for http/mail.domain.tld" in out) == (0, 2, True)
    assert [one["name"] for one in place.json("find", "*/mail.domain.tld")["owners"]] == [
        "host/mail.domain.tld",
        "HTTP/mail.domain.tld",
    ]
    assert place("find", "smtp/x") == (1, "", "casarray: nobody in the forest of LAB.EXAMPLE has smtp/x\n")


def test_what_a_directory_holds_cannot_command_a_terminal(place: Place) -> None:
    place.other("http/mail.domain.tld\x1b[2J", "a\x1b[2J")
    assert "\x1b[2J" not in place("find", "*")[1] + place("audit")[1] + place("list", "--account", "old")[1]


@pytest.mark.parametrize("command", ["plan", "apply", "audit", "list"])
def test_an_account_or_array_that_is_none(place: Place, command: str) -> None:
    for option in ("--account", "--array"):
        code, _, err = place(command, option, "nobody")
        assert (code, "nobody" in err) == (1, True)


def test_what_takes_long_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.forest.realm.others += [Owner(f"pc{n}", f"CN=pc{n}", (f"host/pc{n}",)) for n in range(1200)]
    monkeypatch.setattr(spn_work, "PATIENCE", 0.0)
    _, _, err = place("audit")
    assert "casarray: reading the forest's accounts: 1,000\n" in err
    assert "casarray: asking the members: 3 of 3\n" in place("plan")[2]


def test_the_realm_is_let_go_of(place: Place) -> None:
    place("plan")
    place("plan", "--array", "nobody")
    assert place.forest.realm.closed == 1
