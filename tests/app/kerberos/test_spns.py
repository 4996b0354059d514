"""Names planned, set, audited and found, over a realm and agents from memory."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from tests.app.kerberos.fake_realm import FakeRealm
from tests.app.kerberos.rolled import SPN, Forest
from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos import spns
from casarray.core.directory.model import Array
from casarray.core.errors import CasarrayError, Conflict, MovedOn, NotFound, Unavailable
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.keys import Generation, Holding
from casarray.core.kerberos.shares import Share
from casarray.core.kerberos.spn_audit import Finding, Kind
from casarray.core.kerberos.spn_plan import Act, Choices, Plan

PLAIN, MOVE = Choices(), Choices(move=True, now=True)
HTTP = "http/cas.domain.tld"
OLD = Owner("old", "CN=old,CN=Users,DC=lab,DC=example", (HTTP, "http/else.domain.tld"))
ALL = sorted(
    f"{service}/{host}"
    for service in ("exchangeMDB", "exchangeRFR", "exchangeAB", "http")
    for host in ("cas.domain.tld", "outlook.berlin.domain.tld")
)


@pytest.fixture
def forest() -> Forest:
    return Forest()


def share(forest: Forest) -> Share:
    (found,) = spns.chosen(forest.desk)
    return found


def apply(forest: Forest, choices: Choices = PLAIN, agreed: Plan | None = None) -> spns.Outcome:
    return spns.apply(forest.desk, share(forest), choices, agreed)


def put(forest: Forest, thing: Array) -> None:
    forest.desk.directory.change(lambda directory: directory.put(thing), "a test")


# Setting.


def test_all_that_is_missing_is_added_and_the_members_know_it_before(forest: Forest) -> None:
    planned = spns.make_plan(forest.desk, share(forest), PLAIN)
    assert len(planned.named(Act.ADD)) == len(ALL) - 1
    assert not [call for call in forest.realm.calls if not call.startswith(("account", "owners"))]
    forest.realm.fail("change_names", Unavailable("the domain controller is gone"))
    with pytest.raises(Unavailable):
        apply(forest, agreed=planned)
    assert forest.account.names == (SPN,)
    assert sorted(forest.member("cas1").holding("asa$").names) == ALL
    outcome = apply(forest, agreed=planned)
    assert (sorted(outcome.names), outcome.told) == (ALL, ())  # they know already
    assert sorted(forest.account.names) == ALL


def test_done_again_nothing_is_changed_and_nobody_asked(forest: Forest) -> None:
    assert sorted(apply(forest).told) == ["ber1.domain.tld", "cas1.domain.tld", "cas2.domain.tld"]
    forest.realm.calls.clear()
    forest.agents.reached.clear()
    assert apply(forest).plan.steps == ()
    assert not [call for call in forest.realm.calls if call.startswith("change")]
    assert forest.agents.reached == []


def test_a_member_that_does_not_answer_stops_it_by_name(forest: Forest) -> None:
    forest.agents.silent.add("cas2.domain.tld")
    forest.agents.denying.add("ber1.domain.tld")
    with pytest.raises(Conflict, match=r"nothing was changed for LAB\\asa\$: ber1.*does not know us.*; cas2.*answer"):
        apply(forest)
    assert forest.account.names == (SPN,)
    outcome = apply(forest, Choices(without_agents=True))
    assert sorted(outcome.names) == ALL
    assert [text.partition(" ")[0] for text in outcome.warnings] == ["ber1.domain.tld", "cas2.domain.tld"]
    assert all("is not known" in text for text in outcome.warnings)


def test_a_member_without_the_current_key_stops_it_whatever_is_said(forest: Forest) -> None:
    forest.member("cas2").put(Holding("asa$", "LAB.EXAMPLE", (SPN,), (Generation(2, (), 0),)))
    with pytest.raises(Conflict, match=r"cas2.domain.tld does not hold key 3"):
        apply(forest, Choices(without_agents=True))
    assert forest.account.names == (SPN,)


def test_a_member_that_cannot_be_told_stops_it(forest: Forest) -> None:
    forest.member("cas2").fail("rename", Unavailable("the disk is full"), times=3)
    with pytest.raises(Conflict, match=r"the directory was not changed: cas2.*the disk is full"):
        apply(forest)
    assert forest.account.names == (SPN,)
    assert "cas2.domain.tld was not told" in apply(forest, Choices(without_agents=True)).warnings[0]


def test_names_that_a_roll_in_the_same_moment_took_from_a_member_come_back(
    forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = FakeRealm.change_names

    def rolled(*arguments: Any) -> Account:
        found = change(*arguments)
        forest.member("cas1").put(forest.holding())  # with the one name of before
        return found

    monkeypatch.setattr(FakeRealm, "change_names", rolled)
    assert "cas1.domain.tld" in apply(forest).told
    assert sorted(forest.member("cas1").holding("asa$").names) == ALL


def test_a_plan_that_has_changed_meanwhile_is_shown_again(forest: Forest) -> None:
    planned = spns.make_plan(forest.desk, share(forest), PLAIN)
    forest.realm.with_names("asa$", HTTP)
    with pytest.raises(MovedOn, match="look at the plan again"):
        apply(forest, agreed=planned)


def test_names_of_several_arrays_with_accounts_of_their_own(forest: Forest) -> None:
    array = ORGANISATION.arrays["ber"]
    put(forest, replace(array, settings={"service_account": "ber-asa$", "profile": "web"}))
    assert [one.account for one in spns.chosen(forest.desk)] == ["asa$", "ber-asa$"]
    assert [one.account for one in spns.chosen(forest.desk, array="BER")] == ["ber-asa$"]
    assert [one.account for one in spns.chosen(forest.desk, account="LAB\\ASA")] == ["asa$"]
    for account, name, said in (("asa$", "BER", "no array BER|array BER has no"), (None, "nope", 'no array "nope"')):
        with pytest.raises(NotFound, match=said):
            spns.chosen(forest.desk, account, name)


def test_a_name_that_two_accounts_should_have_is_given_to_none(forest: Forest) -> None:
    published = {"published": ["mail.domain.tld"], "profile": "web"}
    put(forest, replace(ORGANISATION.arrays["ber"], settings=published | {"service_account": "ber-asa$"}))
    put(forest, replace(ORGANISATION.arrays["cas"], settings=published))
    with pytest.raises(Conflict, match=r"http/mail\.domain\.tld: BER wants it too, for another account"):
        spns.apply(forest.desk, spns.chosen(forest.desk, "asa$")[0], PLAIN)
    assert forest.account.names == (SPN,)


def test_withdrawn_names_turn_kerberos_off(forest: Forest) -> None:
    apply(forest)
    forest.realm.with_names("asa$", "http/else.domain.tld")
    forest.agents.silent.add("cas2.domain.tld")
    outcome = apply(forest, Choices(withdraw=True))
    assert outcome.names == ("http/else.domain.tld",)
    assert sorted(forest.member("cas1").holding("asa$").names) == ALL  # tickets that are there are still read


# Moving.


def test_a_name_is_moved_from_another_account(forest: Forest) -> None:
    forest.realm.others.append(OLD)
    with pytest.raises(Conflict, match=r"owned by old"):
        apply(forest)
    outcome = apply(forest, MOVE)
    assert sorted(outcome.names) == ALL
    assert forest.realm.others[0].names == ("http/else.domain.tld",)


def others(forest: Forest) -> dict[str, tuple[str, ...]]:
    """Two accounts that have names of ours."""
    names = {"old": (HTTP, "http/else.domain.tld"), "older": ("exchangeAB/cas.domain.tld",)}
    for name, theirs in names.items():
        forest.realm.put(replace(forest.account, name=name, where=f"CN={name}", kind=AccountKind.USER, names=theirs))
    return names


@pytest.mark.parametrize("at", [1, 2, 3])
def test_what_fails_leaves_every_name_where_it_was(forest: Forest, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    theirs, change, calls = others(forest), FakeRealm.change_names, []

    def change_names(*arguments: Any) -> Account:
        calls.append(arguments)
        if len(calls) == at:  # the second half of a move, twice, and what is free
            raise Unavailable("gone")
        return change(*arguments)

    monkeypatch.setattr(FakeRealm, "change_names", change_names)
    with pytest.raises(Unavailable, match="gone"):
        apply(forest, MOVE)
    assert forest.account.names == (SPN,)
    for name, names in theirs.items():
        assert sorted(forest.realm.account(name).names) == sorted(names)


def test_what_cannot_be_given_back_is_told(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    others(forest)
    calls, change = [], FakeRealm.change_names

    def change_names(*arguments: Any) -> Account:
        calls.append(arguments)
        if len(calls) >= 2:
            raise Unavailable("gone")
        return change(*arguments)

    monkeypatch.setattr(FakeRealm, "change_names", change_names)
    with pytest.raises(Unavailable, match=r"could not be given back to old(er)? \(gone\): casarray spn plan shows"):
        apply(forest, MOVE)


def test_a_name_that_somebody_else_gets_in_the_same_moment_is_noticed(forest: Forest) -> None:
    change = forest.realm.change_names

    class Raced:
        def __getattr__(self, name: str) -> object:
            if name != "change_names":
                return getattr(forest.realm, name)
            forest.realm.others.append(OLD)
            return change

    forest.realm.unique = False
    forest.desk._realm = Raced()  # type: ignore[assignment]  # a realm in between
    with pytest.raises(Conflict, match=r"old \(CN=old.*was given http/cas.domain.tld in the same moment"):
        apply(forest)


def test_a_duplicate_is_taken_from_the_other_account(forest: Forest) -> None:
    apply(forest)
    forest.realm.put(replace(forest.account, name="old", where=OLD.where, kind=AccountKind.USER, names=(HTTP,)))
    outcome = apply(forest, MOVE)
    assert [step.act for step in outcome.plan.steps] == [Act.TAKE]
    assert forest.realm.account("old").names == ()
    assert sorted(forest.account.names) == ALL


# Looking.


def told(findings: Iterable[Finding]) -> list[tuple[Kind, str]]:
    return [(one.kind, one.name) for one in findings]


def test_an_audit_of_the_forest_and_of_one_array(forest: Forest) -> None:
    apply(forest)
    assert spns.audit(forest.desk) == ()
    forest.realm.unique = False
    forest.realm.with_names("asa$", "http/gone.domain.tld")
    forest.realm.others += [
        Owner("old", OLD.where, (HTTP, "a/b")),
        Owner("x", "CN=x", ("A/b", "nonsense")),
    ]
    found = spns.audit(forest.desk)
    assert told(found) == [
        (Kind.DUPLICATE, "a/b"),
        (Kind.DUPLICATE, HTTP),
        (Kind.ORPHANED, "http/gone.domain.tld"),
        (Kind.MALFORMED, "nonsense"),
    ]
    assert told(spns.audit(forest.desk, array="CAS")) == [
        (Kind.DUPLICATE, HTTP),
        (Kind.ORPHANED, "http/gone.domain.tld"),
    ]


def test_an_audit_asks_dns_for_all_names_of_arrays(forest: Forest) -> None:
    apply(forest)
    put(forest, replace(ORGANISATION.arrays["cas"], settings={"published": ["mail.domain.tld"]}))
    asked: list[str] = []

    def canonical(names: Iterable[str]) -> dict[str, str]:
        asked.extend(names)
        return {"cas.domain.tld": "cas1.domain.tld"}

    forest.desk.canonical = canonical
    found = spns.audit(forest.desk)
    assert asked == ["outlook.berlin.domain.tld", "cas.domain.tld", "mail.domain.tld"]
    assert (Kind.CNAME, "cas.domain.tld") in told(found)


def test_an_array_with_wrong_settings_and_an_account_that_is_gone_do_not_end_an_audit(forest: Forest) -> None:
    broken = ORGANISATION.put(replace(ORGANISATION.arrays["ber"], settings={"profile": "nonsense"}))
    forest.desk.directory = DirectoryService(MemoryDirectory(broken), "admin")
    forest.realm.accounts.clear()
    assert told(spns.audit(forest.desk)) == [(Kind.ACCOUNT, "asa$"), (Kind.SETTINGS, "asa$")]


def test_progress_is_told(forest: Forest) -> None:
    forest.realm.others += [Owner(f"pc{n}", f"CN=pc{n}", (f"host/pc{n}",)) for n in range(1200)]
    heard: list[tuple[str, int, int]] = []
    spns.audit(forest.desk, tell=lambda *words: heard.append(words))
    assert ("reading the forest's accounts", 1000, 0) in heard
    spns.make_plan(forest.desk, share(forest), PLAIN, lambda *words: heard.append(words))
    assert ("asking the members", 3, 3) in heard


def test_names_are_listed_with_what_is_missing_and_what_is_not_wanted(forest: Forest) -> None:
    forest.realm.with_names("asa$", "http/gone.domain.tld")
    found = {one.name: (one.there, one.wanted) for one in spns.listed(forest.desk)}
    assert found[SPN] == (True, True)
    assert found[HTTP] == (False, True)
    assert found["http/gone.domain.tld"] == (True, False)


def test_names_of_any_account_are_listed(forest: Forest) -> None:
    forest.realm.put(replace(forest.account, name="old", where=OLD.where, names=("a/b",)))
    assert [one.name for one in spns.listed(forest.desk, "LAB\\old")] == ["a/b"]
    with pytest.raises(NotFound):
        spns.listed(forest.desk, "nobody")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("http/mail.domain.tld", ["HTTP/mail.domain.tld", "host/mail.domain.tld"]),
        ("*/mail.domain.tld", ["host/mail.domain.tld", "HTTP/mail.domain.tld"]),
        ("http/*", ["HTTP/mail.domain.tld", "http/mail.domain.tld:81"]),
        ("MAIL.domain.tld", ["host/mail.domain.tld", "HTTP/mail.domain.tld", "http/mail.domain.tld:81"]),
        ("*", None),
        ("smtp/mail.domain.tld", []),
        ("htt?/[m]ail.domain.tld", []),
        ("*a" * 300 + "x", []),
    ],
)
def test_names_are_found(forest: Forest, wanted: str, names: list[str] | None) -> None:
    forest.realm.others += [
        Owner("web", "CN=web", ("HTTP/mail.domain.tld", "http/mail.domain.tld:81")),
        Owner("pc", "CN=pc", ("host/mail.domain.tld",)),
    ]
    found = spns.find(forest.realm, wanted)
    if names is None:
        assert len(found) == 4
    else:
        assert [one.name.casefold() for one in found] == [name.casefold() for name in names]
    if wanted == "http/mail.domain.tld":
        assert [one.stands_for for one in found] == ["", wanted]


def test_a_realm_that_is_gone_is_an_error_and_no_finding(forest: Forest) -> None:
    forest.realm.fail("all_owners", Unavailable("gone"))
    with pytest.raises(CasarrayError, match="gone"):
        spns.audit(forest.desk)
