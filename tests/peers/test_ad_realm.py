"""Shared accounts in Active Directory, their keys, and who may touch them, against Samba's real domain controller."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Domain, LabNames

from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.errors import ConfigError, Conflict, Denied, NotFound, Unavailable
from casarray.core.kerberos.account import AccountKind, Owner
from casarray.core.kerberos.account_rules import findings
from casarray.core.kerberos.encryption import AES, EXCHANGE, Enctype
from casarray.core.kerberos.keys import Generation, Key
from casarray.core.kerberos.keytab import read_keytab
from casarray.lab import netns, samba_ad

ldap = pytest.importorskip("ldap", reason="python-ldap is not installed")
pytest.importorskip("krb5", reason="pykrb5 is not installed")

from tests.peers.ad_realms import COMPUTERS, Open, password, realms, spns

from casarray.adapters.kerberos import ad_realm
from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.adapters.stores.ldap_connection import Connection
from casarray.adapters.stores.ldap_names import ConnectionLost

REASON = netns.missing() or samba_ad.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

COMPUTER = "bf967a86-0de6-11d0-a285-00aa003049e2"  # schemaIDGUID of the class


@pytest.fixture
def open_realm(domain: Domain) -> Iterator[Open]:
    with realms(domain) as open_:
        yield open_


@pytest.fixture
def realm(open_realm: Open) -> ActiveDirectoryRealm:
    return open_realm()


def exported(domain: Domain, folder: Path, principal: str) -> dict[tuple[Enctype, int], bytes]:
    """The keys that the domain controller itself has."""
    path = folder / f"{secrets.token_hex(4)}.keytab"
    keytab = read_keytab(domain.dc.export(path, principal).read_bytes())
    return {(Enctype(entry.enctype), entry.version): entry.key for entry in keytab}


# Making.


@pytest.mark.parametrize("types", [AES, EXCHANGE])
def test_a_computer_account_is_made_ready_to_be_shared(realm: ActiveDirectoryRealm, types: tuple[Enctype, ...]) -> None:
    account = realm.create("asa", AccountKind.COMPUTER, types, "of the arrays")
    assert (account.name, account.realm, account.kind) == ("asa$", "LAB.EXAMPLE", AccountKind.COMPUTER)
    assert (account.where, account.description) == (f"CN=asa,{COMPUTERS}", "of the arrays")
    assert account.encryption == {AES: 24, EXCHANGE: 28}[types]
    assert (account.enabled, account.expires_at, account.password_expires) == (True, None, False)
    assert account.number >= 1
    assert account.set_at is not None
    assert findings(account, account.set_at) == ()
    assert realm.account("ASA") == realm.account("lab\\asa$") == account


def test_a_user_whose_password_stays_and_for_whom_nobody_acts_is_made(
    realm: ActiveDirectoryRealm, domain: Domain
) -> None:
    account = realm.create("svc-cas", AccountKind.USER, AES)
    assert (account.name, account.kind) == ("svc-cas", AccountKind.USER)
    assert (account.where, account.password_expires) == ("CN=svc-cas,CN=Users,DC=lab,DC=example", False)
    assert account.set_at is not None
    assert findings(account, account.set_at) == ()
    control = domain.dc.search(account.where, "(objectClass=*)", "userAccountControl", scope="base")
    assert f"userAccountControl: {0x200 | 0x10000 | 0x100000}\n" in control


def test_a_new_account_stands_where_an_administrator_has_redirected_them(
    realm: ActiveDirectoryRealm, domain: Domain
) -> None:
    mark = "B:32:AA312825768811D1ADED00C04FD8D5CD"
    domain.dc.load(f"dn: OU=Here,{domain.dc.base}\nchangetype: add\nobjectClass: organizationalUnit\n")

    def redirect(old: str, new: str) -> None:
        lines = ["changetype: modify", "delete: wellKnownObjects", f"wellKnownObjects: {mark}:{old}", "-"]
        lines += ["add: wellKnownObjects", f"wellKnownObjects: {mark}:{new}", "-"]
        domain.dc.load("\n".join([f"dn: {domain.dc.base}", *lines]) + "\n")

    redirect(COMPUTERS, f"OU=Here,{domain.dc.base}")
    try:
        account = realm.create("asa", AccountKind.COMPUTER, AES)
        assert account.where == f"CN=asa,OU=Here,{domain.dc.base}"
        realm.remove(account)
    finally:
        redirect(f"OU=Here,{domain.dc.base}", COMPUTERS)
        domain.dc.load(f"dn: OU=Here,{domain.dc.base}\nchangetype: delete\n")


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("asa", AccountKind.COMPUTER, "account adopt asa\\$"),
        ("ASA$", AccountKind.COMPUTER, "there is an account LAB"),
        ("asa", AccountKind.USER, "there is an account LAB"),
        ("sixteen-letters-", AccountKind.COMPUTER, "15 characters at most"),
        ("x" * 21, AccountKind.USER, "20 characters at most"),
        ("a*b", AccountKind.COMPUTER, "cannot name an account"),
        ("4711", AccountKind.USER, "cannot name an account"),
        ("asa2", AccountKind.GROUP_MANAGED, "cannot be shared"),
    ],
)
def test_what_cannot_be_made_is_refused(realm: ActiveDirectoryRealm, name: str, kind: AccountKind, said: str) -> None:
    realm.create("asa", AccountKind.COMPUTER, AES)
    with pytest.raises(Conflict, match=said):
        realm.create(name, kind, AES)


def test_an_account_that_an_earlier_attempt_left_behind_is_told_from_others(
    realm: ActiveDirectoryRealm, domain: Domain
) -> None:
    """As after a crash: made, and disabled still."""
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    domain.dc.load(
        f"dn: {account.where}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 4098\n-\n"
    )
    with pytest.raises(Conflict, match="disabled, perhaps because an earlier attempt broke off.*account remove asa"):
        realm.create("asa", AccountKind.COMPUTER, AES)


@pytest.mark.parametrize("step", ["unicodePwd", "userAccountControl"])
def test_an_account_that_is_half_made_is_removed_again(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    honest = Connection.replace

    def refused(self: Connection, dn: str, values: dict[str, list[str | bytes]]) -> None:
        if step in values:
            raise Denied("no")
        honest(self, dn, values)

    monkeypatch.setattr(Connection, "replace", refused)
    with pytest.raises(Denied, match="half-made account asa\\$ was removed again"):
        realm.create("asa", AccountKind.COMPUTER, AES)
    monkeypatch.setattr(Connection, "replace", honest)
    with pytest.raises(NotFound):
        realm.account("asa")
    assert realm.create("asa", AccountKind.COMPUTER, AES).enabled


def test_an_account_is_deleted_once(realm: ActiveDirectoryRealm) -> None:
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    realm.remove(account)
    with pytest.raises(NotFound, match="casarray account create asa"):
        realm.account("asa")
    for late in (realm.remove, lambda gone: realm.set_password(gone, password())):
        with pytest.raises((NotFound, Conflict), match="gone|somebody else"):
            late(account)


# Looking.


def test_what_a_directory_holds_of_others_is_read(realm: ActiveDirectoryRealm, domain: Domain) -> None:
    base = domain.dc.base
    domain.dc.load(
        f"dn: CN=gmsa,CN=Managed Service Accounts,{base}\nchangetype: add\n"
        "objectClass: msDS-GroupManagedServiceAccount\nsAMAccountName: gmsa$\nmsDS-ManagedPasswordInterval: 30\n"
        "userAccountControl: 4096\n"
    )
    domain.dc.add_user("anna")
    domain.dc.load(
        f"dn: CN=anna,CN=Users,{base}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 514\n-\n"
        "replace: accountExpires\naccountExpires: 132539328000000000\n-\n"
        "replace: userPrincipalName\nuserPrincipalName: a.b@lab.example\n-\n"
    )
    gmsa, anna = realm.account("gmsa"), realm.account("anna")
    assert (gmsa.kind, anna.kind) == (AccountKind.GROUP_MANAGED, AccountKind.USER)
    assert (anna.enabled, anna.password_expires, anna.expires_at) == (False, True, 1609459200.0)
    assert (anna.encryption, anna.logon_name) == (0, "a.b@lab.example")
    codes = [one.code for one in findings(anna, 2e9)]
    assert codes == ["disabled", "expired", "password-expires", "aged", "encryption-unset"]
    controller = realm.account("DC1")
    assert controller.domain_controller
    assert "domain-controller" in [one.code for one in findings(controller, controller.set_at or 0)]


def test_of_a_user_and_a_computer_of_one_name_the_one_is_meant_that_was_written(
    realm: ActiveDirectoryRealm, domain: Domain
) -> None:
    domain.dc.add_machine("twin")
    domain.dc.add_user("twin")
    assert realm.account("twin").kind is AccountKind.USER
    assert realm.account("twin$").kind is AccountKind.COMPUTER


# Passwords and keys.


@pytest.mark.parametrize("kind", [AccountKind.COMPUTER, AccountKind.USER])
def test_keys_made_here_are_those_of_the_domain_controller(
    realm: ActiveDirectoryRealm, domain: Domain, tmp_path: Path, kind: AccountKind
) -> None:
    account = realm.create("Asa-MiXed", kind, EXCHANGE)
    fresh = password()
    made = realm.keys(account, fresh, EXCHANGE)
    after = realm.set_password(account, fresh)
    assert after.number == account.number + 1
    assert {(key.enctype, key.version): key.value for key in made} == exported(domain, tmp_path, account.name)
    assert realm.prove(after, Generation(after.number, made, 0)) == ""


def test_keys_of_another_password_are_not_proven(realm: ActiveDirectoryRealm) -> None:
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    fresh = password()
    after = realm.set_password(account, fresh)
    other = tuple(replace(key, version=after.number) for key in realm.keys(account, password(), AES))
    assert realm.prove(after, Generation(after.number, other, 0)) != ""
    cut = tuple(Key(key.enctype, key.version, bytes(len(key.value))) for key in other)
    assert realm.prove(after, Generation(after.number, cut, 0)) != ""


def test_a_lost_answer_is_said_to_be_one_and_not_repeated(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    honest, calls = Connection.replace, []

    def cut(self: Connection, dn: str, values: dict[str, list[str | bytes]]) -> None:
        calls.append(dn)
        honest(self, dn, values)
        raise ConnectionLost("reset")

    monkeypatch.setattr(Connection, "replace", cut)
    with pytest.raises(Unavailable, match="nobody knows whether the password was set") as caught:
        realm.set_password(account, secret := password())
    assert len(calls) == 1
    assert secret not in repr(caught.value)
    monkeypatch.setattr(Connection, "replace", honest)
    assert realm.account("asa").number == account.number + 1  # it was


def test_a_controller_that_does_not_answer_is_named_and_nothing_is_done(domain: Domain, open_realm: Open) -> None:
    realm = open_realm(timeout=1.0)
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    with domain.dc.frozen(), pytest.raises(Unavailable, match=r"dc1\.lab\.example"):
        realm.set_password(account, password())
    assert realm.account("asa").number == account.number
    assert realm.set_password(account, password()).number == account.number + 1


def test_encryption_types_are_set_and_said(realm: ActiveDirectoryRealm) -> None:
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    assert realm.change_encryption(account, EXCHANGE).encryption == 28
    assert realm.change_encryption(account, (Enctype.RC4,)).encryption == 4
    assert [one.code for one in findings(realm.account("asa"), account.set_at or 0)] == ["rc4-only"]


# Rights.


def test_each_right_that_is_missing_is_named(realm: ActiveDirectoryRealm, domain: Domain, open_realm: Open) -> None:
    asa = realm.create("asa", AccountKind.COMPUTER, AES)
    realm.change_names(asa, spns("http/mail.lab.example"), ())
    source = Owner(asa.name, asa.where, ("http/mail.lab.example",))
    anna = open_realm(domain.dc.ticket("anna", domain.dc.add_user("anna")))
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: anna.create("mine", AccountKind.COMPUTER, AES), f'"Create Computer objects" on {COMPUTERS}'),
        (lambda: anna.create("mine", AccountKind.USER, AES), '"Create User objects" on CN=Users'),
        (lambda: anna.set_password(asa, password()), f'"Reset password" on {asa.where}'),
        (lambda: anna.change_encryption(asa, EXCHANGE), '"Write msDS-SupportedEncryptionTypes"'),
        (lambda: anna.change_names(asa, spns("imap/mail.lab.example"), ()), '"Write servicePrincipalName"'),
        (lambda: anna.move_names(spns("http/mail.lab.example"), source, asa), '"Write servicePrincipalName"'),
        (lambda: anna.remove(asa), f'"Delete" on {asa.where}'),
    ]
    for call, right in calls:
        with pytest.raises(Denied) as caught:
            call()
        assert right in str(caught.value)
        assert "delegated" in str(caught.value)
    after = realm.account("asa")
    assert (after.number, after.names, after.encryption) == (asa.number, ("http/mail.lab.example",), 24)


def test_the_rights_of_the_manual_are_enough_for_who_is_no_administrator(domain: Domain, open_realm: Open) -> None:
    """docs/operate/kerberos-realms.md says the same with the words of Windows and of samba-tool."""
    logon = domain.dc.add_user("casarray")
    found = domain.dc.search(domain.dc.base, "(sAMAccountName=casarray)", "objectSid")
    sid = found.partition("objectSid: ")[2].split()[0]
    rights = (
        f"(OA;;CCDC;{COMPUTER};;{sid})",
        f"(OA;CIIO;CR;00299570-246d-11d0-a768-00aa006e0529;{COMPUTER};{sid})",
        f"(OA;CIIO;RPWP;f3a64788-5306-11d1-a9c5-0000f80367c1;{COMPUTER};{sid})",
        f"(OA;CIIO;RPWP;bf967a68-0de6-11d0-a285-00aa003049e2;{COMPUTER};{sid})",
        f"(OA;CIIO;RPWP;20119867-1d04-4ab7-9371-cfc3d5df0afd;{COMPUTER};{sid})",
    )
    with domain.dc.granted(COMPUTERS, *rights):
        theirs = open_realm()
        foreign = theirs.create("foreign", AccountKind.COMPUTER, AES)
        theirs.change_names(foreign, spns("http/mail.lab.example"), ())
        realm = open_realm(domain.dc.ticket("casarray", logon))
        own = realm.create("asa", AccountKind.COMPUTER, AES, "of the arrays")
        (source,) = next(iter(realm.owners(spns("http/mail.lab.example")).values()))
        assert realm.move_names(spns("http/mail.lab.example"), source, own).names == ("http/mail.lab.example",)
        for account in (own, foreign):
            assert realm.set_password(account, password()).number == account.number + 1
            assert realm.change_encryption(account, EXCHANGE).encryption == 28
            realm.remove(account)
    with pytest.raises(Denied):
        realm.create("asa", AccountKind.COMPUTER, AES)


def test_two_rights_on_the_account_alone_are_enough_to_roll_and_to_name(domain: Domain, open_realm: Open) -> None:
    logon = domain.dc.add_user("casarray")
    found = domain.dc.search(domain.dc.base, "(sAMAccountName=casarray)", "objectSid")
    sid = found.partition("objectSid: ")[2].split()[0]
    asa = open_realm().create("asa", AccountKind.COMPUTER, AES)
    realm = open_realm(domain.dc.ticket("casarray", logon))
    password_right = f"(OA;;CR;00299570-246d-11d0-a768-00aa006e0529;;{sid})"
    with domain.dc.granted(asa.where, password_right, f"(OA;;RPWP;f3a64788-5306-11d1-a9c5-0000f80367c1;;{sid})"):
        assert realm.set_password(asa, password()).number == asa.number + 1
        assert realm.change_names(asa, spns("http/mail.lab.example"), ()).names == ("http/mail.lab.example",)
        with pytest.raises(Denied, match="Write msDS-SupportedEncryptionTypes"):
            realm.change_encryption(asa, EXCHANGE)


# Logging on.


def test_the_account_of_the_kerberos_table_is_used_before_that_of_the_directory() -> None:
    directory = DirectorySettings(principal="d", keytab="/d.keytab", ccache="FILE:/d", starttls=True)
    found = ad_realm.logon(KerberosSettings(keytab="/k.keytab"), directory)
    assert (found.principal, found.keytab, found.ccache, found.starttls) == ("", "/k.keytab", "", False)
    found = ad_realm.logon(KerberosSettings(principal="k"), directory)
    assert (found.principal, found.keytab, found.ccache) == ("k", "/d.keytab", "FILE:/d")
    assert ad_realm.logon(KerberosSettings(), directory) == directory


@pytest.mark.parametrize("minor", ["Clock skew too great", "Ticket not yet valid"])
def test_a_wrong_clock_is_said_to_be_one(
    realm: ActiveDirectoryRealm, monkeypatch: pytest.MonkeyPatch, minor: str
) -> None:
    """The words are those of libkrb5 when this machine's clock goes an hour fast, or slow, and the ticket is old."""

    def refuse(*_: object) -> None:
        text = f"SASL(-1): generic failure: GSSAPI Error: Unspecified GSS failure. Minor code may ... ({minor})"
        raise ldap.LOCAL_ERROR({"desc": "Local error", "info": text})

    monkeypatch.setattr("ldap.ldapobject.SimpleLDAPObject.sasl_non_interactive_bind_s", refuse)
    with pytest.raises(Denied, match=rf"clock and ours differ .* \({minor}\): let NTP set both"):
        realm.account("asa")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (KerberosSettings(realm=("ldaps://dc1",)), "write ldap:// in kerberos.realm"),
        (KerberosSettings(), "write ldap:// in directory.store"),
        (KerberosSettings(realm=("ldaps://a b",)), "kerberos.realm: .* is not understood"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_said_with_its_key(settings: KerberosSettings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ActiveDirectoryRealm(settings.realm or ("ldaps://dc1",), settings, DirectorySettings())


def test_a_keytab_that_is_not_there_is_said_with_its_key(domain: Domain) -> None:
    settings = KerberosSettings(keytab="/nonexistent.keytab")
    names = LabNames(domain.controllers)
    realm = ActiveDirectoryRealm([f"ldap://{domain.dc.fqdn}"], settings, DirectorySettings(), names)
    with pytest.raises(Denied, match=r"^kerberos\.keytab: "):
        realm.account("asa")
    realm.close()


def test_a_keytab_is_enough_to_log_on(domain: Domain) -> None:
    keytab = domain.dc.add_machine("admin-host")
    settings = KerberosSettings(principal="ADMIN-HOST$@LAB.EXAMPLE", keytab=str(keytab))
    realm = ActiveDirectoryRealm(
        [f"ldap://{domain.dc.fqdn}"], settings, DirectorySettings(timeout=5.0), LabNames(domain.controllers)
    )
    try:
        assert realm.account("admin-host").name == "ADMIN-HOST$"
        assert realm.name == "LAB.EXAMPLE"
    finally:
        realm.close()
