"""`casarray account`: what it prints, its exit codes, and what it changes."""

import json
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from tests.app.kerberos.fake_realm import NOW
from tests.app.kerberos.rolled import DAY, Forest
from typer.testing import CliRunner

from casarray.core.errors import Unavailable
from casarray.core.kerberos.account import Account, AccountKind
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World

FRESH = Account(
    "fresh$", "LAB.EXAMPLE", AccountKind.COMPUTER, "CN=fresh", (), 1, 24, set_at=NOW, description="casarray"
)


def nobody(*_: object) -> NoReturn:
    raise AssertionError("no gateway takes part")


class Place:
    """The command, over a forest from memory."""

    def __init__(self) -> None:
        self.forest = Forest()
        self.forest.realm.put(FRESH)

    def __call__(self, line: str, stdin: str = "") -> tuple[int, str, str]:
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
        result = CliRunner().invoke(cli, ["account", *line.split()], input=stdin, obj=around, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    def json(self, line: str) -> Any:
        """The same, with what it says as JSON."""
        code, out, err = self(f"{line} --json")
        assert (code, err) == (0, "")
        return json.loads(out)

    @property
    def accounts(self) -> dict[str, Account]:
        return self.forest.realm.accounts

    def setting(self, array: str) -> object:
        return self.forest.desk.directory.directory().arrays[array].settings.get("service_account")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("time.time", lambda: NOW)
    return Place()


def test_the_accounts_in_use_are_listed(place: Place) -> None:
    code, out, err = place("list")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["ACCOUNT", "ARRAYS", "SERVERS", "KIND", "KEY", "VERSION", "ENCRYPTION", "PASSWORD", "FINDINGS"],
        ["asa$", "BER,", "CAS", "3", "computer", "3", "aes256,", "aes128", "(24)", "30d", "old", "none"],
    ]
    (one,) = place.json("list")["accounts"]
    assert (one["account"], one["arrays"], one["servers"]) == ("asa$", ["BER", "CAS"], ["ber1", "cas1", "cas2"])
    assert (one["key_version"], one["encryption"], one["encryption_bits"]) == (3, ["aes256", "aes128"], 24)
    assert (one["findings"], one["trouble"]) == ([], "")
    assert place.forest.realm.closed == 2


def test_a_list_without_the_realm_says_what_is_missing(place: Place) -> None:
    place.forest.realm.fail("account", Unavailable("no domain controller answers"))
    code, out, _ = place("list")
    assert code == 0
    assert "warning: asa$: no domain controller answers" in out


def test_an_account_is_shown_with_all_that_is_known_and_what_is_wrong(place: Place) -> None:
    wrong = replace(place.forest.account, encryption=4, enabled=False, description="bell \a", expires_at=9e11)
    place.forest.realm.put(wrong, "secret")
    code, out, err = place("show")
    assert (code, err) == (0, "")
    rows = dict(line.split(None, 1) for line in out.splitlines() if not line.startswith(("key", "last")))
    assert rows["name"] == "LAB\\asa$"
    assert rows["encryption"] == "rc4 (4)"
    assert rows["description"] == "bell ?"
    assert rows["expires"] == "9999-12-31 23:59 UTC"
    assert rows["names"] == "exchangeMDB/cas.domain.tld"
    assert "must not be shared: LAB\\asa$ is disabled" in out
    assert "warning: LAB\\asa$ has RC4 alone" in out
    assert "secret" not in out
    shown = place.json("show asa")
    assert [one["code"] for one in shown["findings"]] == ["disabled", "expires", "rc4-only"]
    assert "members" not in shown


def test_members_tell_which_keys_they_hold(place: Place) -> None:
    place.forest.agents.silent.add("ber1.domain.tld")
    code, out, _ = place("show --members")
    assert code == 0
    assert [line.split() for line in out.splitlines()[-2:]] == [["cas1", "3"], ["cas2", "3"]]
    members = place.json("show --members")["members"]
    assert [(one["name"], one["numbers"]) for one in members] == [("ber1", []), ("cas1", [3]), ("cas2", [3])]


def test_an_account_is_made_for_an_array(place: Place) -> None:
    code, out, err = place("create new --array CAS --encryption exchange --description ours")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "make LAB\\new$ (CN=new,CN=Computers,DC=lab,DC=example) with aes256, aes128, rc4"
    assert lines[1:3] == ["the array CAS uses new$", "2 changes made"]
    assert lines[3].startswith("warning: the array CAS used asa$ so far")
    assert [line.partition(" ")[0] for line in lines[4:]] == ["next:", "next:"]
    made = place.accounts["new"]
    assert (made.kind, made.encryption, made.description) == (AccountKind.COMPUTER, 28, "ours")
    assert place.setting("cas") == "new$"
    (entry,) = place.forest.desk.directory.history()
    assert entry.note.what.endswith(
        "account create new --kind computer --encryption exchange --description ours --array CAS"
    )


def test_a_user_is_made_when_that_is_asked_for(place: Place) -> None:
    done = place.json("create svc --kind user")
    assert (done["account"], done["done"], done["warnings"]) == ("svc", True, [])
    assert place.accounts["svc"].kind is AccountKind.USER


def test_a_dry_run_changes_nothing(place: Place) -> None:
    for line in (
        "create new --array CAS",
        "adopt fresh --array CAS",
        "encryption asa$ --encryption 28",
        "remove fresh",
    ):
        before = dict(place.accounts)
        code, out, err = place(f"{line} --dry-run")
        assert (code, err) == (0, "")
        assert "would be made" in out
        assert place.json(f"{line} --dry-run")["done"] is False
        assert (place.accounts, place.setting("cas")) == (before, None)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("create asa", 1, "there is an account asa already"),
        ("create new --array XX", 1, "there is no array XX: casarray array list"),
        ("create new --encryption des", 1, '"des" names no encryption types'),
        ("create new --kind machine", 2, "'machine' is not one of"),
        ("create", 2, "Missing argument"),
        ("adopt old --array CAS", 1, "unused for 90 days would take it"),
        ("adopt gone", 1, "there is no account gone"),
        ("encryption asa$", 2, "Missing option"),
        ("encryption asa$ --encryption 3", 1, '"3" names no encryption types'),
        ("remove asa$ --yes", 1, "is not removed: BER, CAS use it"),
        ("remove fresh --json", 1, "say --dry-run or --yes"),
        ("show gone", 1, "there is no account gone"),
    ],
)
def test_what_is_refused_is_said_on_stderr_and_changes_nothing(place: Place, line: str, code: int, said: str) -> None:
    place.forest.realm.put(replace(FRESH, name="old$", set_at=NOW - 100 * DAY))
    before = dict(place.accounts)
    found, out, err = place(line)
    assert (found, out) == (code, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert place.accounts == before
    assert not place.forest.desk.directory.history()


def test_an_account_is_adopted_by_several_arrays(place: Place) -> None:
    assert place("adopt fresh --array CAS --array BER")[0] == 0
    assert (place.setting("cas"), place.setting("ber")) == ("fresh$", "fresh$")
    assert place("adopt fresh --array CAS")[1].splitlines()[0] == "nothing to change: it is so already"


def test_encryption_types_are_changed(place: Place) -> None:
    code, out, _ = place("encryption asa --encryption exchange")
    assert (code, place.accounts["asa"].encryption) == (0, 28)
    assert "next: its keys of the new types are made with its next password: casarray account roll asa$" in out


def test_who_removes_is_asked(place: Place) -> None:
    code, out, err = place("remove fresh", stdin="n\n")
    assert (code, err) == (1, "casarray: nothing was changed\n")
    assert out.startswith("delete LAB\\fresh$ (CN=fresh)\nIt cannot be undone. Do it?")
    assert "fresh" in place.accounts
    assert place("remove fresh", stdin="y\n")[0] == 0
    assert "fresh" not in place.accounts
    assert place("remove asa$ --force --yes")[0] == 0
    assert "asa" not in place.accounts


def test_what_the_realm_remarks_is_a_warning_on_stderr(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("casarray.app.kerberos.desk.Desk.remarks", ("no global catalogue answers",))
    assert place("list")[2] == "casarray: warning: no global catalogue answers\n"
