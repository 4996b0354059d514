"""Shared accounts made, adopted, shown, changed and removed, over a realm from memory."""

import re
from dataclasses import replace

import pytest
from tests.app.kerberos.fake_realm import NOW
from tests.app.kerberos.rolled import DAY, SPN, Forest

from casarray.app.kerberos import accounts as use
from casarray.app.kerberos.accounts import Done, Wanted
from casarray.core.errors import CasarrayError, Conflict, Denied, NotFound, Unavailable
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.encryption import AES, EXCHANGE, Enctype

FRESH = Account(
    "fresh$", "LAB.EXAMPLE", AccountKind.COMPUTER, "CN=fresh", (), 1, 24, set_at=NOW, description="kept by casarray"
)


@pytest.fixture
def forest() -> Forest:
    return Forest()


def settings_of(forest: Forest, array: str) -> dict[str, object]:
    return dict(forest.desk.directory.directory().arrays[array.casefold()].settings)


def adopt(forest: Forest, name: str = "fresh", *arrays: str, force: bool = False, dry_run: bool = False) -> Done:
    return use.adopt(forest.desk, Wanted(name, arrays=arrays), NOW, "the command", force=force, dry_run=dry_run)


# Looking.


def test_every_account_that_arrays_use_is_listed(forest: Forest) -> None:
    forest.realm.put(FRESH)
    adopt(forest, "fresh", "BER")
    found = {one.share.account: [array.name for array in one.share.arrays] for one in use.list_accounts(forest.desk)}
    assert found == {"asa$": ["CAS"], "fresh$": ["BER"]}


def test_a_list_is_given_although_the_realm_does_not_answer(forest: Forest) -> None:
    forest.realm.fail("account", Unavailable("no domain controller answers"))
    (one,) = use.list_accounts(forest.desk)
    assert (one.share.account, one.account, one.trouble) == ("asa$", None, "no domain controller answers")


def test_a_realm_that_does_not_answer_is_waited_for_once(forest: Forest) -> None:
    forest.realm.put(FRESH)
    adopt(forest, "fresh", "BER")
    forest.realm.calls.clear()
    forest.realm.fail("account", Unavailable("no domain controller answers"), 9)
    assert [one.trouble for one in use.list_accounts(forest.desk)] == ["no domain controller answers"] * 2
    assert len(forest.realm.calls) == 1


def test_an_account_that_is_gone_hides_no_other(forest: Forest) -> None:
    forest.realm.put(FRESH)
    adopt(forest, "fresh", "BER")
    del forest.realm.accounts["asa"]
    assert [one.account is None for one in use.list_accounts(forest.desk)] == [True, False]


def test_an_account_is_shown_with_its_users_and_what_is_wrong(forest: Forest) -> None:
    forest.realm.put(replace(forest.account, encryption=4), "secret")
    shown = use.show_account(forest.desk, "ASA", NOW)
    assert (shown.account.name, shown.encryption) == ("asa$", (Enctype.RC4,))
    assert (shown.arrays, shown.servers) == (("BER", "CAS"), ("ber1", "cas1", "cas2"))
    assert [one.code for one in shown.findings] == ["rc4-only"]
    assert (shown.members, forest.agents.reached) == ((), [])


def test_members_are_asked_what_they_hold(forest: Forest) -> None:
    forest.agents.silent.add("ber1.domain.tld")
    forest.member("cas1").holdings.clear()
    forest.member("cas2").stale = ("the key of asa$ is old",)
    members = use.show_account(forest.desk, "", NOW, ask_members=True).members
    assert [(one.name, one.numbers) for one in members] == [("ber1", ()), ("cas1", ()), ("cas2", (3,))]
    assert "answer" in members[0].trouble
    assert [one.trouble for one in members[1:]] == ["holds no keys of it", "the key of asa$ is old"]


def test_an_account_that_no_array_uses_is_shown_too(forest: Forest) -> None:
    forest.realm.put(FRESH)
    shown = use.show_account(forest.desk, "fresh", NOW)
    assert (shown.arrays, shown.servers, shown.findings) == ((), (), ())


def test_without_a_name_the_only_account_is_meant() -> None:
    forest = Forest()
    assert use.only_account(forest.desk) == "asa$"
    forest.realm.put(FRESH)
    adopt(forest, "fresh", "BER")
    with pytest.raises(Conflict, match=r"asa\$, fresh\$"):
        use.only_account(forest.desk)
    with pytest.raises(NotFound, match="account create"):
        use.only_account(Forest(account="").desk)


# Making.


def test_an_account_is_made_and_given_to_an_array(forest: Forest) -> None:
    done = use.create(forest.desk, Wanted("cas-asa", arrays=("cas.domain.tld",)), "the command")
    made = forest.realm.account("cas-asa$")
    assert (made.kind, made.encryption, made.description) == (AccountKind.COMPUTER, 24, use.DESCRIPTION)
    assert settings_of(forest, "CAS") == {"profile": "exchange-2010", "service_account": "cas-asa$"}
    assert settings_of(forest, "BER") == {}
    assert done.changes[1:] == ("the array CAS uses cas-asa$",)
    assert "cas-asa$" in done.changes[0]
    assert "aes256, aes128" in done.changes[0]
    assert len(done.warnings) == 1
    assert "used asa$ so far" in done.warnings[0]
    assert done.next_steps[0].startswith("casarray account roll cas-asa$ ")
    assert [entry.note.what for entry in forest.desk.directory.history()] == ["the command"]


@pytest.mark.parametrize(("types", "bits"), [((), 8), (EXCHANGE, 28), (AES, 24)])
def test_encryption_types_are_those_that_were_said_or_the_configurations(types: tuple[Enctype, ...], bits: int) -> None:
    forest = Forest(encryption=("aes128",))
    use.create(forest.desk, Wanted("svc", AccountKind.USER, types, "ours"), "")
    made = forest.realm.account("svc")
    assert (made.kind, made.encryption, made.description) == (AccountKind.USER, bits, "ours")


def test_an_account_for_all_arrays_is_named_in_the_configuration(forest: Forest) -> None:
    done = use.create(forest.desk, Wanted("other"), "")
    assert 'write account = "other$" under [kerberos]' in done.next_steps[0]
    forest = Forest(account="later$")
    steps = use.adopt(forest.desk, Wanted("later"), NOW, "").next_steps
    assert not any("[kerberos]" in step for step in steps)  # it is there already


def test_a_dry_run_makes_nothing_and_sees_what_is_there(forest: Forest) -> None:
    done = use.create(forest.desk, Wanted("new", arrays=("CAS",)), "", dry_run=True)
    assert done.changes == (
        "make the computer account new with aes256, aes128",
        "the array CAS uses new",
    )
    assert not [call for call in forest.realm.calls if not call.startswith("account")]
    assert settings_of(forest, "CAS") == {"profile": "exchange-2010"}
    with pytest.raises(Conflict, match="there is an account"):
        use.create(forest.desk, Wanted("ASA"), "", dry_run=True)


def test_an_array_that_is_not_there_is_found_out_before_anything_is_made(forest: Forest) -> None:
    with pytest.raises(NotFound, match="there is no array XXX"):
        use.create(forest.desk, Wanted("new", arrays=("CAS", "XXX")), "")
    assert forest.realm.calls == []


def test_who_may_not_make_it_is_told_so_and_the_array_is_left_as_it_is(forest: Forest) -> None:
    forest.realm.fail("create", Denied("no right"))
    with pytest.raises(Denied, match="no right"):
        use.create(forest.desk, Wanted("new", arrays=("CAS",)), "")
    assert settings_of(forest, "CAS") == {"profile": "exchange-2010"}


def test_an_account_that_no_array_could_be_given_is_not_lost(forest: Forest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise Unavailable("the directory is gone")

    monkeypatch.setattr(forest.desk.directory.store, "change", fails)
    with pytest.raises(Unavailable, match=r"was made, .* casarray account adopt new\$ --array CAS --array BER"):
        use.create(forest.desk, Wanted("new", arrays=("CAS", "BER")), "")
    monkeypatch.undo()
    assert adopt(forest, "new", "CAS", "BER").changes == ("the array CAS uses new$", "the array BER uses new$")


# Adopting.


def test_an_account_is_adopted_once(forest: Forest) -> None:
    forest.realm.put(FRESH)
    assert adopt(forest, "LAB\\fresh", "CAS", "CAS").changes == ("the array CAS uses fresh$",)
    again = adopt(forest, "fresh", "CAS")
    assert (again.changes, again.warnings) == ((), ())
    assert len(forest.desk.directory.history()) == 1


@pytest.mark.parametrize(
    ("changed", "said", "helps"),
    [
        ({"kind": AccountKind.GROUP_MANAGED}, "changes its password by itself", False),
        ({"enabled": False}, "is disabled", True),
        ({"set_at": NOW - 100 * DAY}, "clear away", True),
        ({"names": ("host/fresh.lab.example",)}, "that machine loses the domain", True),
        ({"kind": AccountKind.USER, "password_expires": True, "enabled": False}, "is disabled.*; .*expires", True),
        ({"domain_controller": True, "enabled": False}, "domain controller", False),
    ],
)
def test_what_is_against_an_account_is_said_and_may_be_forced_or_not(
    forest: Forest, changed: dict[str, object], said: str, helps: bool
) -> None:
    forest.realm.put(replace(FRESH, **changed))  # type: ignore[arg-type]  # by names that the test gives
    with pytest.raises(Conflict, match=said) as caught:
        adopt(forest, "fresh", "CAS")
    assert ("--force" in str(caught.value)) == helps
    assert settings_of(forest, "CAS") == {"profile": "exchange-2010"}
    if not helps:
        with pytest.raises(Conflict, match=said):
            adopt(forest, "fresh", "CAS", force=True)
        return
    done = adopt(forest, "fresh", "CAS", force=True)
    assert any(re.search(part, text) for part in said.split(".*; .*") for text in done.warnings)
    assert settings_of(forest, "CAS")["service_account"] == "fresh$"


def test_adopting_may_be_tried_without_doing_it(forest: Forest) -> None:
    forest.realm.put(replace(FRESH, encryption=0))
    done = adopt(forest, "fresh", "BER", dry_run=True)
    assert done.changes == ("the array BER uses fresh$",)
    assert [text for text in done.warnings if "RC4" in text]
    assert settings_of(forest, "BER") == {}


# Changing and removing.


def test_encryption_types_are_changed_and_the_next_password_brings_the_keys(forest: Forest) -> None:
    tried = use.change_encryption(forest.desk, "asa", EXCHANGE, dry_run=True)
    assert forest.account.encryption == 24
    done = use.change_encryption(forest.desk, "asa", EXCHANGE)
    assert (done, forest.account.encryption) == (tried, 28)
    assert "aes256, aes128, rc4 (28) instead of aes256, aes128" in done.changes[0]
    assert "account roll asa$" in done.next_steps[0]
    assert use.change_encryption(forest.desk, "asa", EXCHANGE) == Done("asa$", ())
    assert use.change_encryption(forest.desk, "asa", AES).next_steps == ()  # it has their keys


def test_an_account_that_is_none_of_ours_is_left_alone(forest: Forest) -> None:
    forest.realm.put(replace(FRESH, domain_controller=True))
    with pytest.raises(Conflict, match="left alone"):
        use.change_encryption(forest.desk, "fresh", EXCHANGE)
    for force in (False, True):
        with pytest.raises(Conflict, match="is not removed: .*domain controller"):
            use.remove(forest.desk, "fresh", NOW, force=force)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("asa$", {}, "BER, CAS use it .*; clients get tickets for exchangeMDB/cas.domain.tld .*withdraw"),
        ("fresh$", {"names": ("http/x",)}, "clients get tickets for http/x with"),
        ("fresh$", {"description": "the printer"}, "does not say that casarray made it"),
    ],
)
def test_an_account_that_is_needed_is_not_removed(
    forest: Forest, name: str, changed: dict[str, object], said: str
) -> None:
    forest.realm.put(replace(FRESH, **changed))  # type: ignore[arg-type]  # by names that the test gives
    with pytest.raises(Conflict, match=f"{said}.*--force"):
        use.remove(forest.desk, name, NOW)
    assert use.remove(forest.desk, name, NOW, force=True, dry_run=True).warnings
    assert forest.realm.account(name)
    assert use.remove(forest.desk, name, NOW, force=True).warnings
    with pytest.raises(NotFound):
        forest.realm.account(name)


def test_an_account_that_nobody_needs_is_removed(forest: Forest) -> None:
    forest.realm.put(FRESH)
    assert use.remove(forest.desk, "fresh", NOW) == Done("fresh$", ("delete LAB\\fresh$ (CN=fresh)",))
    assert "fresh" not in forest.realm.accounts
    assert forest.account.names == (SPN,)


# Words.


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("aes", AES),
        ("AES256, aes128", AES),
        ("exchange", EXCHANGE),
        ("28", EXCHANGE),
        ("24", AES),
        ("rc4,aes256", (Enctype.AES256, Enctype.RC4)),
        ("16", (Enctype.AES256,)),
    ],
)
def test_encryption_types_have_words(text: str, types: tuple[Enctype, ...]) -> None:
    assert use.encryption_of(text) == types


@pytest.mark.parametrize("text", ["", ",", "des", "aes,rc4", "0", "31", "-4", "1000", "²", "aes256 aes128"])
def test_words_that_mean_no_encryption_types_are_refused(text: str) -> None:
    with pytest.raises(CasarrayError, match="names no encryption types: write aes, exchange"):
        use.encryption_of(text)
