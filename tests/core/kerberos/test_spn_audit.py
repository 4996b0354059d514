"""What is wrong with the names of a forest, and what users see of it."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.directory.model import Server
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.spn_audit import AuditedShare, Finding, Forest, Kind, audit, duplicates
from casarray.core.kerberos.wanted import Wanted

WHERE = "CN=asa,CN=Computers,DC=lab,DC=example"
HTTP, MDB, HOST = "http/mail.lab.example", "exchangeMDB/cas.lab.example", "host/mail.lab.example"
ASA = Account("asa$", "LAB.EXAMPLE", AccountKind.COMPUTER, WHERE, (HTTP, MDB), 3, 0x18)
SERVERS = (Server("cas1", "cas1.lab.example", "Paderborn"),)


def owner(name: str, *names: str, enabled: bool = True) -> Owner:
    return Owner(name, f"CN={name},DC=lab,DC=example", names, enabled)


def found(
    *others: Owner,
    account: Account | None = ASA,
    wanted: Sequence[str] = (HTTP, MDB),
    canonical: Mapping[str, str] | None = None,
    more: Sequence[AuditedShare] = (),
) -> tuple[Finding, ...]:
    mine = [Owner(account.name, account.where, account.names, account.enabled)] if account else []
    names = tuple(Wanted(parse(name), "CAS", "a test") for name in wanted)
    shares = (AuditedShare("asa$", account, names, SERVERS), *more)
    return audit(Forest([*mine, *others], shares, canonical or {}))


def kinds(findings: Iterable[Finding]) -> list[tuple[Kind, str, bool]]:
    return [(one.kind, one.name, one.visible) for one in findings]


def lacking(*names: str) -> Account:
    """The account without these."""
    return replace(ASA, names=tuple(name for name in ASA.names if name not in names))


def test_nothing_is_wrong() -> None:
    assert found(owner("PC1$", "host/pc1", "HOST/pc1.lab.example"), owner("nobody")) == ()


def test_a_duplicate_is_found_whatever_its_capital_letters() -> None:
    (one,) = found(owner("old", HTTP.upper()))
    assert kinds([one]) == [(Kind.DUPLICATE, HTTP, True)]
    assert one.accounts == (WHERE, "CN=old,DC=lab,DC=example")
    assert "fall back to NTLM without a word" in one.sees
    assert one.next == "Leave it to one account: casarray spn apply --move takes it away from old."


def test_a_duplicate_that_concerns_no_array_is_told_as_well() -> None:
    (one,) = found(owner("a", "MSSQLSvc/db:1433"), owner("b", "mssqlsvc/DB:1433"))
    assert (one.kind, one.arrays) == (Kind.DUPLICATE, ())
    assert "setspn -D MSSQLSvc/db:1433" in one.next


def test_an_account_that_is_read_twice_is_no_duplicate_of_itself() -> None:
    twice = owner("a", "x/y")
    assert found(twice, twice) == ()


def test_missing() -> None:
    (one,) = found(account=lacking(HTTP))
    assert kinds([one]) == [(Kind.MISSING, HTTP, True)]
    assert "There is no ticket for it" in one.sees
    assert "casarray spn apply --account asa$" in one.next


def test_missing_while_an_alias_of_another_account_stands_for_it() -> None:
    (one,) = found(owner("old", HOST), account=lacking(HTTP))
    assert kinds([one]) == [(Kind.ALIAS, HTTP, True)]
    assert f"{HOST} of old stands for it" in one.sees


def test_in_an_mit_realm_no_name_stands_for_another() -> None:
    account = replace(lacking(HTTP), kind=AccountKind.PRINCIPALS)
    assert kinds(found(owner("old", HOST), account=account)) == [(Kind.MISSING, HTTP, True)]


def test_missing_while_our_own_alias_stands_for_it_is_not_seen() -> None:
    account = replace(lacking(HTTP), names=(MDB, HOST))
    assert kinds(found(account=account, wanted=(HTTP, MDB, HOST))) == [(Kind.MISSING, HTTP, False)]


@pytest.mark.parametrize(
    ("other", "kind", "said"),
    [
        (owner("old", HTTP), Kind.ELSEWHERE, "endless prompts"),
        (owner("CAS1$", HTTP), Kind.MEMBER, "belongs to the member cas1 itself"),
        (owner("old", HTTP, enabled=False), Kind.DISABLED, "Its owner is disabled"),
    ],
)
def test_a_name_that_another_account_has(other: Owner, kind: Kind, said: str) -> None:
    (one,) = found(other, account=lacking(HTTP))
    assert kinds([one]) == [(kind, HTTP, True)]
    assert said in one.sees
    assert "--move" in one.next


def test_a_name_that_another_array_needs_is_told_there_alone() -> None:
    other = Account("asa2$", "LAB.EXAMPLE", AccountKind.COMPUTER, "CN=asa2,DC=lab,DC=example", (), 1, 0x18)
    share = AuditedShare("asa2$", other, (Wanted(parse("http/web.lab.example"), "WEB", "a test"),))
    account = replace(ASA, names=(*ASA.names, "http/web.lab.example"))
    (one,) = found(account=account, more=(share,))
    assert (one.kind, one.arrays) == (Kind.ELSEWHERE, ("WEB",))


def test_a_name_that_two_accounts_should_have() -> None:
    other = Account("asa2$", "LAB.EXAMPLE", AccountKind.COMPUTER, "CN=asa2,DC=lab,DC=example", (), 1, 0x18)
    share = AuditedShare("asa2$", other, (Wanted(parse(HTTP), "WEB", "a test"),))
    one = found(more=(share,))[0]
    assert (one.kind, one.name, one.arrays, one.visible) == (Kind.CONTESTED, HTTP, ("CAS", "WEB"), True)


def test_orphaned_and_with_a_port() -> None:
    account = replace(ASA, names=(*ASA.names, "http/gone.lab.example", "http/mail.lab.example:443", "host/asa"))
    assert kinds(found(account=account)) == [
        (Kind.ORPHANED, "http/gone.lab.example", False),
        (Kind.PORT, "http/mail.lab.example:443", False),
    ]


def test_values_that_are_no_names() -> None:
    assert kinds(found(owner("a", "nonsense", "a/b/c/d"))) == [
        (Kind.MALFORMED, "a/b/c/d", False),
        (Kind.MALFORMED, "nonsense", False),
    ]


def test_an_alias_in_dns_changes_what_clients_ask_for() -> None:
    (one,) = found(canonical={"mail.lab.example": "cas1.lab.example"})
    assert kinds([one]) == [(Kind.CNAME, "mail.lab.example", True)]
    assert "ask for a ticket for http/cas1.lab.example instead, which nobody here can read" in one.sees
    account = replace(ASA, names=(*ASA.names, "HTTP/front.lab.example"))
    (one, rest) = found(account=account, canonical={"mail.lab.example": "front.lab.example"})
    assert (one.kind, one.visible, rest.kind) == (Kind.CNAME, False, Kind.ORPHANED)


@pytest.mark.parametrize(("bits", "visible"), [(0x04, True), (0, False), (0x1C, None), (0x08, None)])
def test_an_account_without_aes(bits: int, visible: bool | None) -> None:
    seen = [(one.kind, one.visible) for one in found(account=replace(ASA, encryption=bits))]
    assert seen == ([] if visible is None else [(Kind.ENCRYPTION, visible)])


def test_an_account_that_is_not_there_or_disabled() -> None:
    assert kinds(found(account=None)) == [(Kind.ACCOUNT, "asa$", True)]
    disabled = found(account=replace(ASA, enabled=False))
    assert kinds(disabled)[0] == (Kind.ACCOUNT, "asa$", True)
    assert disabled[0].arrays == ("CAS",)


def test_what_host_does_not_stand_for_because_somebody_has_it_by_name() -> None:
    account = replace(ASA, names=(HOST,))
    (one,) = found(owner("old", "cifs/mail.lab.example"), account=account, wanted=(HOST,))
    assert kinds([one]) == [(Kind.ALIAS, "cifs/mail.lab.example", False)]


def test_what_users_see_comes_first() -> None:
    account = replace(lacking(HTTP), names=(MDB, "a/orphan"))
    seen = found(owner("a", MDB), owner("b", "nonsense"), account=account)
    assert [one.kind for one in seen] == [Kind.DUPLICATE, Kind.MISSING, Kind.ORPHANED, Kind.MALFORMED]


def test_duplicates_alone() -> None:
    assert list(duplicates([owner("a", "x/Y"), owner("b", "X/y"), owner("c", "x/z")])) == ["x/Y"]


@given(st.lists(st.lists(st.text(max_size=20) | st.sampled_from((HTTP, HOST, MDB)), max_size=4), max_size=4))
def test_whatever_accounts_hold_is_told_and_no_more(names: list[list[str]]) -> None:
    account = replace(ASA, names=tuple(names[0]) if names else ())
    seen = found(*(owner(f"a{n}", *them) for n, them in enumerate(names)), account=account)
    shown = [(one.kind, one.name, one.accounts) for one in seen]
    assert len(shown) == len(set(shown))
    assert all(one.sees and one.next and str(one) for one in seen)


def test_ten_thousand_accounts_are_no_work() -> None:
    names = ("host", "RestrictedKrbHost", "WSMAN", "TERMSRV")
    many = [
        owner(f"W{n}$", *(f"{name}/{host}" for name in names for host in (f"W{n}", f"w{n}.lab.example")))
        for n in range(10_000)
    ]
    began = time.process_time()
    assert kinds(found(*many, owner("old", HTTP)))[0] == (Kind.DUPLICATE, HTTP, True)
    assert time.process_time() - began < 5  # 0.3 s; only something quadratic comes near
