"""Setspn as administrators type it, in a shell over a realm from memory."""

from dataclasses import replace

import pytest
from tests.app.kerberos.rolled import SPN, Forest
from tests.core.shell.toys import Place

from casarray.app.cmdlets.kerberos import kerberos_cmdlets
from casarray.app.shell import Session
from casarray.core.errors import Unavailable
from casarray.core.kerberos.account import AccountKind, Owner
from casarray.core.shell.registry import Registry

AUTODISCOVER = "http/autodiscover.contoso.com"
WHERE = "CN=dienstkonto,CN=Users,DC=lab,DC=example"
ELSEWHERE = Owner("web", "CN=web,CN=Users,DC=sub,DC=contoso,DC=com", ("http/mail.contoso.com", "http/web.contoso.com"))


class Shell:
    """A shell whose forest has the account of the guides."""

    def __init__(self) -> None:
        self.forest = Forest()
        user = replace(self.forest.account, name="dienstkonto", where=WHERE, kind=AccountKind.USER, names=())
        self.forest.realm.put(user)
        self.place = Place()
        self.session = Session(Registry(tuple(kerberos_cmdlets(self.forest.desk))), self.place)

    def __call__(self, line: str) -> tuple[bool, str, str]:
        """Run a line: whether it went well, what it gave, what it said."""
        self.place.out.clear()
        self.place.err.clear()
        ran = self.session.run(line)
        return not ran.failed, "\n".join(self.place.out).lstrip("\n"), "\n".join(self.place.err)

    @property
    def names(self) -> tuple[str, ...]:
        return self.forest.realm.account("dienstkonto").names


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_the_lines_of_the_issue(shell: Shell) -> None:
    lines = "Setspn -S http/autodiscover.contoso.com dienstkonto\nSetspn -S exchangeMDB/mail.contoso.com dienstkonto\n"
    went, out, err = shell(lines)
    assert (went, err) == (True, "")
    assert shell.names == (AUTODISCOVER, "exchangeMDB/mail.contoso.com")
    assert out.count(WHERE) == 2
    assert out.count("added") == 2


@pytest.mark.parametrize(
    "line",
    [
        "setspn -s http/autodiscover.contoso.com dienstkonto",
        "SETSPN.EXE -F -S http/autodiscover.contoso.com CONTOSO\\dienstkonto",
        "setspn -A http/autodiscover.contoso.com dienstkonto",
        "setspn -U -S http/autodiscover.contoso.com dienstkonto",
        "setspn -P -F -S http/autodiscover.contoso.com dienstkonto -Confirm:$false",
        "setspn dienstkonto -S http/autodiscover.contoso.com",
    ],
)
def test_ways_to_add(shell: Shell, line: str) -> None:
    assert shell(line)[0]
    assert shell.names == (AUTODISCOVER,)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Setspn -S http/mail.contoso.com dienstkonto", "belongs to web (CN=web"),
        ("Setspn -A http/MAIL.contoso.com dienstkonto", "nothing was changed"),
        ("Setspn -S mail.contoso.com dienstkonto", "write class/host"),
        ("Setspn -S http/x.contoso.com", "name the account"),
        ("Setspn -S http/x.contoso.com nobody", "there is no account nobody"),
        ("Setspn -C -S http/x.contoso.com dienstkonto", "is no computer"),
        ("Setspn -U -S http/x.contoso.com asa$", "is no user"),
        ("Setspn -U -C -S http/x.contoso.com asa$", "give one of them"),
        ("Setspn -S http/x.contoso.com -D http/x.contoso.com dienstkonto", "do not go together"),
        ("Setspn -S http/x.contoso.com dienstkonto another", "does not know what to do with"),
        ("Setspn -D http/x.contoso.com dienstkonto", "Setspn -L dienstkonto shows"),
        ("Setspn -R dienstkonto", "only a computer"),
        ("Setspn -Q http/x dienstkonto", "takes no account"),
        ("Setspn -L dienstkonto other", "takes one account"),
        ("Setspn -S", "a value is missing"),
        ("Setspn -Z", "has no parameter -Z"),
        ("Setspn", "name the account"),
    ],
)
def test_refusals_change_nothing(shell: Shell, line: str, said: str) -> None:
    shell.forest.realm.others.append(ELSEWHERE)
    before = dict(shell.forest.realm.accounts)
    went, _, err = shell(line)
    assert not went
    assert said in err
    assert shell.forest.realm.accounts == before


def test_what_is_there_already_is_no_error(shell: Shell) -> None:
    shell(f"setspn -S {AUTODISCOVER} dienstkonto")
    went, out, err = shell(f"setspn -S {AUTODISCOVER.upper()} dienstkonto")
    assert (went, out) == (True, "")
    assert "has HTTP/AUTODISCOVER.CONTOSO.COM already" in err


def test_what_if_changes_nothing(shell: Shell) -> None:
    went, out, _ = shell(f"setspn -S {AUTODISCOVER} dienstkonto -WhatIf")
    assert (went, shell.names) == (True, ())
    assert f'What if: Performing operation "Add {AUTODISCOVER}"' in out
    assert all("rename" not in " ".join(member.calls) for member in shell.forest.agents.members.values())


def test_names_are_listed_and_taken_away(shell: Shell) -> None:
    assert shell("setspn -L LAB\\dienstkonto")[1] == f"LAB\\dienstkonto ({WHERE}) has no names."
    shell(f"setspn -S {AUTODISCOVER} dienstkonto")
    for line in ("setspn -L dienstkonto", "setspn dienstkonto", "(setspn -L dienstkonto).Name"):
        assert AUTODISCOVER in shell(line)[1]
    went, out, _ = shell(f"setspn -D {AUTODISCOVER} dienstkonto")
    assert (went, shell.names, "removed" in out) == (True, (), True)


def test_queries(shell: Shell) -> None:
    shell.forest.realm.others.append(ELSEWHERE)
    for line in ("setspn -Q http/mail.contoso.com", "setspn -F -Q */mail.contoso.com", "setspn -T sub -Q http/MAIL*"):
        went, out, _ = shell(line)
        assert (went, "CN=web" in out) == (True, True), line
    for line, place in (
        ("setspn -T contoso -Q http/*", "the domain contoso"),
        ("setspn -Q smtp/*", "the forest of LAB.EXAMPLE"),
    ):
        assert shell(line)[1] == f"Nobody in {place} has {line.split()[-1]}."
    assert shell("setspn -T sub.contoso.com -Q */mail.contoso.com")[1].count("CN=web") == 1
    assert shell("setspn -T * -Q */mail.contoso.com")[1].count("CN=web") == 1


def test_duplicates(shell: Shell) -> None:
    shell.forest.realm.others.append(ELSEWHERE)
    assert shell("setspn -X")[1] == "No name in the forest of LAB.EXAMPLE belongs to two accounts."
    shell.forest.realm.with_names("dienstkonto", "HTTP/mail.contoso.com", "http/web.contoso.com")
    went, out, err = shell("setspn -X -F -P")
    assert (went, out.count("CN=web"), out.count("group 2")) == (True, 2, 2)
    assert "WARNING: 2 names with more than one account" in err
    assert shell("setspn -T contoso -X")[1].startswith("No name in the domain contoso")


def test_a_computer_gets_the_names_of_its_machine_again(shell: Shell) -> None:
    went, out, _ = shell("setspn -R asa")
    assert (went, out.count("added")) == (True, 2)
    assert shell.forest.account.names == (SPN, "HOST/asa", "HOST/asa.lab.example")
    assert "already" in shell("setspn -R asa$")[2]


def test_a_shared_account_whose_members_are_not_ready_is_warned_of(shell: Shell) -> None:
    shell.forest.agents.silent.add("cas2.domain.tld")
    shell.forest.member("cas1").fail("rename", Unavailable("the disk is full"), times=2)
    went, _, err = shell("setspn -S http/mail.contoso.com asa$")
    assert went
    assert "WARNING: cas2.domain.tld does not tell which keys it holds" in err
    assert "WARNING: cas1.domain.tld was not told the new names" in err
    assert shell.forest.account.names == (SPN, "http/mail.contoso.com")
    assert "http/mail.contoso.com" in shell.forest.member("ber1").holding("asa$").names


def test_a_rival_in_the_same_moment_is_noticed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    realm = type(shell.forest.realm)
    change = realm.change_names

    def raced(self: object, *arguments: object) -> object:
        found = change(self, *arguments)  # type: ignore[arg-type]  # as they came
        shell.forest.realm.others.append(replace(ELSEWHERE, names=(AUTODISCOVER,)))
        return found

    monkeypatch.setattr(realm, "change_names", raced)
    went, _, err = shell(f"setspn -S {AUTODISCOVER} dienstkonto")
    assert (went, "was given to web" in err) == (False, True)


def test_objects_go_through_the_pipeline(shell: Shell) -> None:
    shell.forest.realm.others.append(ELSEWHERE)
    assert shell("(setspn -Q http/*.contoso.com | sort Name).Name -join ','")[1] == ",".join(ELSEWHERE.names)


def test_help_shows_the_switches(shell: Shell) -> None:
    went, out, _ = shell("setspn -?")
    assert (went, "-S" in out, "Setspn -X -F" in out) == (True, True, True)
