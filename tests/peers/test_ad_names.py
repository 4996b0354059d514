"""Service principal names in Active Directory: set, moved, looked for in the forest of Samba's domain controller."""

from collections.abc import Iterator
from typing import ClassVar, cast

import pytest
from tests.conftest import Domain

from casarray.core.errors import Conflict, NotFound, Unavailable
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.lab import netns, samba_ad

pytest.importorskip("ldap", reason="python-ldap is not installed")
pytest.importorskip("krb5", reason="pykrb5 is not installed")

from tests.peers.ad_realms import COMPUTERS, Open, realms, spns

from casarray.adapters.kerberos import ad_forest, ad_realm
from casarray.adapters.kerberos.ad_names import whole
from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.adapters.stores.ldap_connection import Connection
from casarray.adapters.stores.ldap_names import ConnectionLost
from casarray.lab import kerberos_load

REASON = netns.missing() or samba_ad.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture
def open_realm(domain: Domain) -> Iterator[Open]:
    with realms(domain) as open_:
        yield open_


@pytest.fixture
def realm(open_realm: Open) -> ActiveDirectoryRealm:
    return open_realm()


# Setting and moving.


def test_names_come_and_go_in_one_change_that_may_be_repeated(realm: ActiveDirectoryRealm) -> None:
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    wanted = spns("exchangeMDB/cas.lab.example", "http/mail.lab.example")
    for _ in range(2):
        found = realm.change_names(account, wanted, ())
        assert sorted(found.names) == ["exchangeMDB/cas.lab.example", "http/mail.lab.example"]
    swap = (spns("imap/mail.lab.example"), spns("HTTP/MAIL.lab.example", "http/never.lab.example"))
    for _ in range(2):
        found = realm.change_names(account, *swap)
        assert sorted(found.names) == ["exchangeMDB/cas.lab.example", "imap/mail.lab.example"]


def test_who_changes_the_same_names_at_the_same_moment_loses_nothing(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    mine, theirs = spns("http/mail.lab.example"), spns("http/mail.lab.example", "imap/mail.lab.example")
    honest = Connection.modify
    faster = [lambda: realm.change_names(account, theirs, ())]

    def overtaken(self: Connection, dn: str, edits: list[tuple[str, list[str], list[str]]]) -> None:
        if faster:
            faster.pop()()
        honest(self, dn, edits)

    monkeypatch.setattr(Connection, "modify", overtaken)
    found = realm.change_names(account, [*mine, *spns("smtp/mail.lab.example")], ())
    assert sorted(found.names) == ["http/mail.lab.example", "imap/mail.lab.example", "smtp/mail.lab.example"]


def test_names_that_come_in_parts_are_put_together() -> None:
    """As Windows gives more than 1500 of them; Samba gives parts only when it is asked for them."""
    names = [f"http/{number}".encode() for number in range(5)]

    class Parts:
        asked: ClassVar[list[tuple[str, ...]]] = []

        def rows(self, dn: str, scope: str, what: str, attributes: tuple[str, ...]) -> list[tuple[str, object]]:
            assert (dn, scope, what) == ("CN=asa", "base", "(objectClass=*)")
            self.asked.append(attributes)
            first = int(attributes[0].partition("=")[2].partition("-")[0])
            last = "3" if first == 2 else "*"
            return [(dn, {f"servicePrincipalName;range={first}-{last}": names[first : 4 if first == 2 else 5]})]

    first: dict[str, list[bytes]] = {
        "servicePrincipalName;Range=0-1": names[:2],
        "cn": [b"asa"],
        "servicePrincipalName": [],
    }
    found = whole(cast("Connection", Parts()), "CN=asa", first)
    assert found == {"cn": [b"asa"], "servicePrincipalName": names}
    assert Parts.asked == [("servicePrincipalName;range=2-*",), ("servicePrincipalName;range=4-*",)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("HTTP/Mail.lab.example", r"belongs to first\$ \(CN=first,CN=Computers,DC=lab,DC=example\) already"),
        ("host/mail.lab.example", r"http/mail\.lab\.example belongs to first\$ .* host/mail\.lab\.example stands for"),
    ],
)
def test_a_name_that_somebody_has_is_refused_with_its_owner(realm: ActiveDirectoryRealm, asked: str, said: str) -> None:
    first = realm.create("first", AccountKind.COMPUTER, AES)
    second = realm.create("second", AccountKind.COMPUTER, AES)
    realm.change_names(first, spns("http/mail.lab.example"), ())
    with pytest.raises(Conflict, match=said):
        realm.change_names(second, spns("imap/mail.lab.example", asked), ())
    assert realm.account("second").names == ()  # all of it or nothing


def test_a_name_is_moved_and_moving_it_again_changes_nothing(realm: ActiveDirectoryRealm) -> None:
    old, new = (realm.create(name, AccountKind.COMPUTER, AES) for name in ("old", "new"))
    names = spns("http/mail.lab.example", "imap/mail.lab.example")
    realm.change_names(old, [*names, *spns("smtp/mail.lab.example")], ())
    (source,) = realm.owners(names[:1])[names[0]]
    for _ in range(2):  # the second time as after a crash that came later
        assert sorted(realm.move_names(names, source, new).names) == ["http/mail.lab.example", "imap/mail.lab.example"]
    assert realm.account("old").names == ("smtp/mail.lab.example",)


def test_a_move_that_broke_off_in_the_middle_is_finished_by_moving_again(realm: ActiveDirectoryRealm) -> None:
    old, new = (realm.create(name, AccountKind.COMPUTER, AES) for name in ("old", "new"))
    names = spns("http/mail.lab.example")
    realm.change_names(old, names, ())
    (source,) = realm.owners(names)[names[0]]
    realm.change_names(old, (), names)  # taken, and then the power went
    assert realm.move_names(names, source, new).names == ("http/mail.lab.example",)


def test_a_move_whose_second_half_is_refused_is_undone(realm: ActiveDirectoryRealm) -> None:
    old, new, third = (realm.create(name, AccountKind.COMPUTER, AES) for name in ("old", "new", "third"))
    names = spns("http/mail.lab.example", "imap/mail.lab.example")
    realm.change_names(old, names[:1], ())
    realm.change_names(third, names[1:], ())
    (source,) = realm.owners(names[:1])[names[0]]
    with pytest.raises(Conflict, match=r"belongs to third\$.* old\$ has http/mail\.lab\.example again"):
        realm.move_names(names, source, new)
    assert realm.account("old").names == ("http/mail.lab.example",)
    assert realm.account("new").names == ()


def test_a_move_that_cannot_be_undone_says_so_and_is_mended_by_moving_again(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (realm.create(name, AccountKind.COMPUTER, AES) for name in ("old", "new"))
    names = spns("http/mail.lab.example")
    realm.change_names(old, names, ())
    (source,) = realm.owners(names)[names[0]]
    honest = Connection.modify
    done: list[str] = []

    def dies(self: Connection, dn: str, edits: list[tuple[str, list[str], list[str]]]) -> None:
        if done:
            raise ConnectionLost("reset")
        done.append(dn)
        honest(self, dn, edits)

    monkeypatch.setattr(Connection, "modify", dies)
    with pytest.raises(Unavailable, match="could not be given back .* nobody has it, .* run it again"):
        realm.move_names(names, source, new)
    monkeypatch.setattr(Connection, "modify", honest)
    assert realm.owners(names) == {}
    assert realm.move_names(names, source, new).names == ("http/mail.lab.example",)


def test_who_presses_ctrl_c_in_the_middle_leaves_nothing_half_done(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (realm.create(name, AccountKind.COMPUTER, AES) for name in ("old", "new"))
    names = spns("http/mail.lab.example")
    realm.change_names(old, names, ())
    (source,) = realm.owners(names)[names[0]]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(realm, "change_names", interrupted)
        patched.setattr(Connection, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            realm.move_names(names, source, new)
        with pytest.raises(KeyboardInterrupt):
            realm.create("third", AccountKind.COMPUTER, AES)
    assert realm.account("old").names == ("http/mail.lab.example",)
    with pytest.raises(NotFound):
        realm.account("third")


def test_an_owner_in_another_domain_is_changed_at_a_controller_of_that_domain(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (realm.create(name, AccountKind.COMPUTER, AES) for name in ("old", "new"))
    names = spns("http/mail.lab.example")
    realm.change_names(old, names, ())
    (source,) = realm.owners(names)[names[0]]
    monkeypatch.setattr(ad_realm, "is_below", lambda _dn, _domain: False)  # the lab has one domain; it plays two
    assert realm.move_names(names, source, new).names == ("http/mail.lab.example",)
    assert list(realm._others) == ["lab.example"]
    elsewhere = realm._others["lab.example"].connection
    assert elsewhere is not None
    assert elsewhere is not realm._link.connection


# The forest.


def test_owners_are_found_in_the_global_catalogue_whatever_their_capital_letters(
    realm: ActiveDirectoryRealm, domain: Domain
) -> None:
    domain.dc.add_machine("cas1", "http/a*b(c).lab.example", "http/ab.lab.example")
    asked = spns("HOST/CAS1.lab.example", "http/a*b(c).lab.example", "http/nobody", "host/dc1.lab.example")
    found = realm.owners(asked)
    assert {str(spn): [owner.name for owner in owners] for spn, owners in found.items()} == {
        "HOST/CAS1.lab.example": ["CAS1$"],
        "http/a*b(c).lab.example": ["CAS1$"],
        "host/dc1.lab.example": ["DC1$"],
    }
    (owner,) = found[asked[0]]
    assert (owner.where, owner.enabled) == (f"CN=CAS1,{COMPUTERS}", True)
    assert owner.created is not None
    assert realm.remarks == []
    assert realm._forest._catalogue is not None
    assert realm._forest._catalogue.connection is not None


def test_everybody_with_a_name_is_found_page_after_page(
    realm: ActiveDirectoryRealm, domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("casarray.adapters.stores.ldap_connection.PAGE", 7)
    domain.dc.add("\n".join(_named(f"W{number}") for number in range(30)))
    everybody = list(realm.all_owners())
    names = [owner.name for owner in everybody]
    assert len(names) == len(set(names))
    assert {f"W{number}$" for number in range(30)} <= set(names)
    assert "DC1$" in names
    assert [owner.names for owner in everybody if owner.name == "W7$"] == [("http/W7",)]


def _named(name: str) -> str:
    lines = [f"dn: CN={name},{COMPUTERS}", "objectClass: computer", f"sAMAccountName: {name}$"]
    return "\n".join([*lines, "userAccountControl: 4098", f"servicePrincipalName: http/{name}"]) + "\n"


def test_the_lab_fills_a_forest(realm: ActiveDirectoryRealm, domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kerberos_load, "CHUNK", 2)
    before = len(list(realm.all_owners()))
    assert kerberos_load.populate(domain.dc, 5) == 40
    everybody = list(realm.all_owners())
    assert (len(everybody) - before, sum(len(owner.names) == 8 for owner in everybody)) == (5, 5)
    found = kerberos_load.measure(domain.dc)
    assert (found["accounts"], found["owned_of_100"]) == (len(everybody), 5)


def test_without_a_global_catalogue_the_domain_is_asked_and_that_is_said(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ad_forest, "catalogue_url", lambda url: f"{url}:3999")
    monkeypatch.setattr(ad_forest, "_domains", lambda connection: [connection.partitions.domain, "DC=elsewhere"])
    asked = spns("host/dc1.lab.example")
    for _ in range(2):
        assert [owner.name for owner in realm.owners(asked)[asked[0]]] == ["DC1$"]
    assert len(realm.remarks) == 1
    assert "no global catalogue answers" in realm.remarks[0]
    assert "in the domain lab.example alone" in realm.remarks[0]


def test_where_there_is_one_domain_nothing_is_missed_without_a_global_catalogue(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ad_forest, "catalogue_url", lambda url: f"{url}:3999")
    assert len(list(realm.all_owners())) >= 2
    assert realm.remarks == []


@pytest.mark.parametrize(
    ("url", "catalogue"),
    [
        ("ldap://dc1.lab.example", "ldap://dc1.lab.example:3268"),
        ("ldap://dc1.lab.example:389/", "ldap://dc1.lab.example:3268"),
        ("ldaps://[2001:db8::1]:636", "ldaps://[2001:db8::1]:3269"),
    ],
)
def test_a_global_catalogue_has_ports_of_its_own(url: str, catalogue: str) -> None:
    assert ad_forest.catalogue_url(url) == catalogue
