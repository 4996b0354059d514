"""The shared account in a real MIT realm: krb5kdc and kadmind, asked by kadmin."""

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from casarray.core.config import KerberosSettings
from casarray.core.errors import Conflict, Denied, NotFound, Unavailable
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.encryption import AES, EXCHANGE, Enctype
from casarray.core.kerberos.keys import Generation, Holding
from casarray.core.kerberos.keytab import entries_of, write_keytab
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.tickets import Mechanism, mechanism_of, ticket_of
from casarray.lab.mit_kdc import ADMINISTRATOR, MitKdc

pytest.importorskip("krb5", reason="pykrb5 is not installed")
pytest.importorskip("gssapi", reason="python-gssapi is not installed")
import gssapi

from casarray.adapters.kerberos import kadmin as kadmin_module
from casarray.adapters.kerberos.kadmin import Kadmin
from casarray.adapters.kerberos.mit_realm import MitRealm, principals_of

pytestmark = pytest.mark.root

NAMES = tuple(parse(f"{service}/cas.mit.example") for service in ("http", "imap", "exchangeMDB"))
PRINCIPALS = ("HTTP/cas.mit.example", "exchangeMDB/cas.mit.example", "http/cas.mit.example", "imap/cas.mit.example")
DCE_STYLE = 0x1000  # gss_init_sec_context's flag; the library has no name for it


@pytest.fixture
def realm(kdc: MitKdc) -> MitRealm:
    return MitRealm(kdc.realm, KerberosSettings(principal=ADMINISTRATOR, keytab=str(kdc.administrator)))


@pytest.fixture
def asa(realm: MitRealm) -> Account:
    """The account with names, none of which has a password yet."""
    return realm.change_names(realm.create("asa", AccountKind.COMPUTER, AES), NAMES, ())


def password() -> str:
    return secrets.token_urlsafe(48)


def make(realm: MitRealm, account: Account, text: str, types: Sequence[Enctype] = AES) -> Generation:
    return Generation(account.number + 1, realm.keys(account, text, types), made=0.0, pending=True)


def roll(realm: MitRealm, account: Account) -> tuple[Account, Generation]:
    """As it goes when nothing goes wrong."""
    text = password()
    generation = make(realm, account, text)
    return realm.set_password(account, text), generation


def accept(token: bytes, keytab: Path) -> str:
    """Whom a server with that keytab sees."""
    server = gssapi.SecurityContext(creds=gssapi.Credentials(usage="accept", store={"keytab": str(keytab)}))
    server.step(token)
    assert server.complete  # raises what `step` found
    return str(server.initiator_name)


class Client:
    """A user who has a ticket for the array's services, or gets one."""

    def __init__(self, kdc: MitKdc, name: str) -> None:
        self.cache = kdc.ticket(name, kdc.add_user(name))

    def token(self, service: str, mechanism: object = None, flags: int = 0) -> bytes:
        name = gssapi.Name(f"{service}@MIT.EXAMPLE", gssapi.NameType.kerberos_principal)
        credentials = gssapi.Credentials(usage="initiate", store={"ccache": self.cache})
        context = gssapi.SecurityContext(
            name=name,
            creds=credentials,
            usage="initiate",
            mech=mechanism or gssapi.MechType.kerberos,
            flags=flags or None,
        )
        token: bytes = context.step()
        return token


def written(path: Path, *generations: Generation) -> Path:
    """A member's keytab."""
    holding = Holding("asa", "MIT.EXAMPLE", tuple(map(str, NAMES)), generations)
    path.write_bytes(write_keytab(entries_of(holding)))
    return path


# The account.


def test_an_account_is_made_and_found_however_it_is_written(realm: MitRealm) -> None:
    made = realm.create("ASA$", AccountKind.COMPUTER, AES, 'of the "array",\nmade by hand')
    assert (made.name, made.realm, made.kind, made.number) == ("asa", "MIT.EXAMPLE", AccountKind.PRINCIPALS, 1)
    assert made.where == "asa/casarray@MIT.EXAMPLE"
    assert made.description == 'of the "array", made by hand'
    assert (made.encryption, made.enabled, made.names) == (24, True, ())
    assert realm.account("MIT\\asa") == made
    with pytest.raises(Conflict, match="has an account asa already"):
        realm.create("asa", AccountKind.PRINCIPALS, AES)


def test_an_account_that_is_not_there_is_not_found(realm: MitRealm) -> None:
    with pytest.raises(NotFound, match="casarray account create asa"):
        realm.account("asa")


@pytest.mark.parametrize("name", ["", "a b", "../x", "asa/admin", "x@Y", 'a"b', "a\n"])
def test_a_name_that_is_none_is_refused(realm: MitRealm, name: str) -> None:
    with pytest.raises(Conflict, match="cannot be an account"):
        realm.account(name)


def test_there_are_no_group_managed_accounts(realm: MitRealm) -> None:
    with pytest.raises(Conflict, match="has no group-managed accounts"):
        realm.create("asa", AccountKind.GROUP_MANAGED, AES)


def test_an_account_is_removed_with_all_its_principals(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    assert {"asa/casarray", *PRINCIPALS} <= set(kdc.principals())
    realm.remove(asa)
    realm.remove(asa)
    assert not {"asa/casarray", *PRINCIPALS} & set(kdc.principals())


# Passwords.


def test_a_password_gives_every_principal_the_keys_that_were_foretold(realm: MitRealm, asa: Account) -> None:
    after, generation = roll(realm, asa)
    assert after.number == generation.number == asa.number + 1
    assert {key.principal for key in generation.keys} == {"asa/casarray", *PRINCIPALS}
    assert len(generation.keys) == 10
    assert realm.prove(after, generation) == ""


def test_a_new_name_gives_no_tickets_before_the_password(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    client = Client(kdc, "alice")
    assert asa.set_at is None
    assert realm.remarks[0].startswith("the KDC gives no tickets for exchangeMDB/cas.mit.example, ")
    with pytest.raises(gssapi.exceptions.GSSError):
        client.token("imap/cas.mit.example")
    after, _ = roll(realm, asa)
    assert (after.set_at or 0) > 1.6e9
    assert realm.remarks == []
    for name in PRINCIPALS:
        assert ticket_of(client.token(name)).name == name


def test_tickets_from_before_and_after_a_roll_are_read_throughout(
    kdc: MitKdc, realm: MitRealm, asa: Account, tmp_path: Path
) -> None:
    asa, first = roll(realm, asa)
    early, late = Client(kdc, "alice"), Client(kdc, "bob")
    keytab = written(tmp_path / "keytab", first)
    for name in PRINCIPALS:
        assert accept(early.token(name), keytab) == "alice@MIT.EXAMPLE"
    text = password()
    second = make(realm, asa, text)
    written(keytab, second, first)  # the members get it first
    assert accept(early.token(PRINCIPALS[0]), keytab) == "alice@MIT.EXAMPLE"
    assert realm.prove(asa, second) != ""
    after = realm.set_password(asa, text)
    assert (realm.prove(after, second), realm.prove(after, first) != "") == ("", True)
    for name in PRINCIPALS:
        old, new = early.token(name), late.token(name)
        assert [ticket_of(token).version for token in (old, new)] == [2, 3]
        assert accept(old, keytab) == "alice@MIT.EXAMPLE"
        assert accept(new, keytab) == "bob@MIT.EXAMPLE"
    stale = written(tmp_path / "stale", first)
    with pytest.raises(gssapi.exceptions.GSSError, match="kvno 3 not found in keytab"):
        accept(late.token(PRINCIPALS[1]), stale)


def test_the_encryption_types_are_those_of_the_account(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    changed = realm.change_encryption(asa, EXCHANGE)
    assert changed.encryption == 28
    text = password()
    generation = make(realm, changed, text, EXCHANGE)
    after = realm.set_password(changed, text)
    assert realm.prove(after, generation) == ""
    assert "arcfour-hmac" in kdc.local("getprinc HTTP/cas.mit.example")


def test_a_name_whose_password_somebody_else_set_is_told(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    after, generation = roll(realm, asa)
    kdc.local("cpw -randkey imap/cas.mit.example")
    assert "key of imap/cas.mit.example@MIT.EXAMPLE is not ours" in realm.prove(after, generation)


def test_a_wrong_version_is_told(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    after, generation = roll(realm, asa)
    kdc.local("modprinc -kvno 9 imap/cas.mit.example")
    assert "key of imap/cas.mit.example has version 9, the members' has 2" in realm.prove(after, generation)


def test_a_wrong_salt_is_told(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    text = password()
    generation = make(realm, asa, text)
    after = realm.set_password(asa, text)
    kdc.local(f"cpw -e aes256-cts:norealm -pw {text} imap/cas.mit.example")
    said = realm.prove(after, generation)
    assert 'its salt is "imapcas.mit.example", and ours was made with "MIT.EXAMPLEimapcas.mit.example"' in said
    assert text not in said


# What is broken off.


class Broken(Exception):
    """The process is gone."""


@pytest.fixture
def break_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From now on, so many commands reach kadmin, and then the process that gives them is gone."""
    ask = Kadmin.ask

    def arm(count: int) -> None:
        left = [count]

        def counted(self: Kadmin, *words: str) -> list[str]:
            if left[0] == 0:
                raise Broken
            left[0] -= 1
            return ask(self, *words)

        monkeypatch.setattr(Kadmin, "ask", counted)

    return arm


def test_a_password_that_was_broken_off_anywhere_is_finished_by_running_again(
    kdc: MitKdc, realm: MitRealm, asa: Account, break_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was reached, one of the two generations is the KDC's afterwards, for all names, and nothing is left."""
    whole = Kadmin.ask
    current, held = roll(realm, asa)
    finished = 0
    for reached in range(100):
        monkeypatch.setattr(Kadmin, "ask", whole)
        text = password()
        pending = make(realm, current, text)
        break_after(reached)
        try:
            realm.set_password(current, text)
        except Broken:
            pass
        else:
            break
        monkeypatch.setattr(Kadmin, "ask", whole)
        found = realm.account("asa")
        fits = {one.number: realm.prove(found, one) for one in (held, pending)}
        assert list(fits.values()).count("") == 1, (reached, fits)
        assert fits[found.number] == ""
        finished += found.number == pending.number
        current, held = found, pending if found.number == pending.number else held
        if found.number == pending.number:
            assert "unfinished" not in kdc.local("getstrs asa/casarray")
    else:
        pytest.fail("it never came through")
    assert finished >= 4  # after the account's own principal and after each name's


def test_new_names_whose_first_password_was_broken_off_give_tickets_in_the_end(
    kdc: MitKdc, realm: MitRealm, asa: Account, break_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Kadmin.ask
    text = password()
    pending = make(realm, asa, text)
    break_after(5 + 1 + 2 + 2)  # who there is, the note, the account's own, and a name that gives no tickets yet
    with pytest.raises(Broken):
        realm.set_password(asa, text)
    monkeypatch.setattr(Kadmin, "ask", whole)
    found = realm.account("asa")
    assert (found.number, found.set_at) == (pending.number, None)
    assert realm.prove(found, pending) == ""
    client = Client(kdc, "alice")
    for name in PRINCIPALS:
        assert ticket_of(client.token(name)).version == 2


def test_two_who_set_the_same_password_at_once_set_it_once(
    realm: MitRealm, asa: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is slow, the other takes it for broken off, and finishes it."""
    asa, _ = roll(realm, asa)
    text = password()
    pending = make(realm, asa, text)
    whole, asked = Kadmin.ask, [0]

    def slow(self: Kadmin, *words: str) -> list[str]:
        asked[0] += words[0] == "cpw"
        if asked[0] == 2 and words[0] == "getprinc":
            monkeypatch.setattr(Kadmin, "ask", whole)
            assert realm.prove(realm.account("asa"), pending) == ""
        return whole(self, *words)

    monkeypatch.setattr(Kadmin, "ask", slow)
    after = realm.set_password(asa, text)
    assert asked[0] == 2
    assert realm.prove(after, pending) == ""


def test_the_unfinished_password_in_the_database_is_sealed(
    kdc: MitKdc, realm: MitRealm, asa: Account, break_after: Callable[[int], None]
) -> None:
    text = password()
    break_after(5 + 1 + 2)
    with pytest.raises(Broken):
        realm.set_password(asa, text)
    shown = kdc.local("getstrs asa/casarray")
    assert "unfinished: " in shown
    assert text not in shown


def test_names_that_were_broken_off_anywhere_are_finished_by_asking_again(
    kdc: MitKdc, realm: MitRealm, break_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Kadmin.ask
    account = realm.create("asa", AccountKind.COMPUTER, AES)
    broken = {"add": 0, "remove": 0}
    for reached in range(0, 100, 2):
        for what, add, remove in (("add", NAMES[:2], ()), ("remove", (), NAMES[:2])):
            break_after(reached)
            try:
                realm.change_names(account, add, remove)
            except Broken:
                broken[what] += 1
            monkeypatch.setattr(Kadmin, "ask", whole)
            account = realm.change_names(realm.account("asa"), add, remove)
            assert set(map(parse, account.names)) == set(add)
            assert set(kdc.principals()) & set(PRINCIPALS) == {one for name in add for one in principals_of(name)}
        if max(broken.values()) * 2 <= reached:
            break
    assert min(broken.values()) >= 4


# Names.


def test_names_are_added_and_taken(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    assert set(map(parse, asa.names)) == set(NAMES)
    assert set(PRINCIPALS) <= set(kdc.principals())
    after = realm.change_names(asa, [parse("pop/CAS.mit.example"), NAMES[1]], [parse("HTTP/CAS.MIT.EXAMPLE")])
    assert set(after.names) == {"exchangeMDB/cas.mit.example", "imap/cas.mit.example", "pop/CAS.mit.example"}
    assert "pop/cas.mit.example" in kdc.principals()
    assert not {"HTTP/cas.mit.example", "http/cas.mit.example"} & set(kdc.principals())


def test_who_has_a_name_is_told(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    kdc.add_service("smtp/cas.mit.example")
    wanted = [NAMES[0], parse("smtp/CAS.mit.example"), parse("pop/cas.mit.example")]
    found = realm.owners(wanted)
    assert [[owner.name for owner in found[name]] for name in wanted] == [["asa"], ["smtp/cas.mit.example"], []]
    assert found[NAMES[0]][0].where == "asa/casarray@MIT.EXAMPLE"
    everybody = {owner.name: owner.names for owner in realm.all_owners()}
    assert everybody == {
        "asa": asa.names,
        "smtp/cas.mit.example": ("smtp/cas.mit.example",),
        ADMINISTRATOR: (ADMINISTRATOR,),
    }


def test_a_name_that_somebody_has_is_not_taken(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    kdc.add_service("HTTP/mail.mit.example")
    before = kdc.principals()
    with pytest.raises(Conflict, match=r"http/mail.mit.example belongs to HTTP/mail.mit.example"):
        realm.change_names(asa, [parse("pop/cas.mit.example"), parse("http/mail.mit.example")], ())
    assert kdc.principals() == before
    other = realm.create("other", AccountKind.COMPUTER, AES)
    with pytest.raises(Conflict, match="belongs to asa"):
        realm.change_names(other, NAMES[:1], ())


def test_a_principal_of_nobody_is_taken_over(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    asa, first = roll(realm, asa)
    name = parse("HTTP/mail.mit.example")
    kdc.add_service(str(name))
    client = Client(kdc, "alice")
    assert ticket_of(client.token(str(name))).version == 1
    moved = realm.move_names([name], realm.owners([name])[name][0], asa)
    assert str(name) in moved.names
    with pytest.raises(gssapi.exceptions.GSSError):
        Client(kdc, "bob").token(str(name))
    assert realm.prove(moved, first) == ""  # the keys that members hold are right still
    after, second = roll(realm, moved)
    assert realm.prove(after, second) == ""
    assert ticket_of(Client(kdc, "carol").token(str(name))).version == 2


def test_a_name_is_moved_from_one_account_to_another_or_stays(
    realm: MitRealm, asa: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = realm.create("other", AccountKind.COMPUTER, AES)
    source = Owner("asa", asa.where, asa.names)
    whole = Kadmin.ask

    def refusing(self: Kadmin, *words: str) -> list[str]:
        if words[:2] == ("delstr", "asa/casarray"):
            raise Denied("not you")
        return whole(self, *words)

    monkeypatch.setattr(Kadmin, "ask", refusing)
    with pytest.raises(Denied, match="not you"):
        realm.move_names(NAMES[:1], source, other)
    monkeypatch.setattr(Kadmin, "ask", whole)
    assert [owner.name for owner in realm.owners(NAMES[:1])[NAMES[0]]] == ["asa"]
    assert realm.account("asa").names == asa.names
    moved = realm.move_names(NAMES[:1], source, other)
    assert moved.names == ("http/cas.mit.example",)
    assert [owner.name for owner in realm.owners(NAMES[:1])[NAMES[0]]] == ["other"]


# kadmin itself.


def test_a_password_is_in_no_process_list_and_in_no_error(
    kdc: MitKdc, realm: MitRealm, asa: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    text = password()
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    seen.add((folder / "cmdline").read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(3):
            after = realm.set_password(asa, text)
    finally:
        done.set()
        watcher.join()
    assert any(line.startswith(b"kadmin\0") or b"/kadmin\0" in line for line in seen)
    assert not any(text.encode() in line for line in seen)
    kdc.local("addpol -minlength 200 long", "modprinc -policy long imap/cas.mit.example")
    try:
        with pytest.raises(Conflict, match="refuses: Password is too short") as caught:
            realm.set_password(after, text)
        assert text not in str(caught.value)
    finally:
        kdc.local("modprinc -clearpolicy imap/cas.mit.example", "delpol -force long")
    assert text not in "".join(capfd.readouterr())
    for log in ("kadmind.log", "krb5kdc.log"):
        assert text not in (kdc.folder / log).read_text()


@pytest.mark.parametrize("text", ['with "quotes" and spaces', "ümläut-€", "-pw", "a\\b'c$d`e"])
def test_a_password_arrives_as_it_is(realm: MitRealm, asa: Account, text: str) -> None:
    generation = make(realm, asa, text)
    assert realm.prove(realm.set_password(asa, text), generation) == ""


def test_a_password_of_several_lines_is_no_command(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    with pytest.raises(Conflict, match="no control characters"):
        realm.set_password(asa, "a\ndelprinc -force imap/cas.mit.example")
    assert "imap/cas.mit.example" in kdc.principals()


@pytest.mark.parametrize("principal", ["", ADMINISTRATOR])
def test_the_ticket_of_a_cache_is_enough(
    kdc: MitKdc, asa: Account, monkeypatch: pytest.MonkeyPatch, principal: str
) -> None:
    cache = kdc.admin_ticket()
    assert MitRealm(kdc.realm, KerberosSettings(principal=principal, ccache=cache)).account("asa") == asa
    monkeypatch.setenv("KRB5CCNAME", cache)
    assert MitRealm(kdc.realm, KerberosSettings(principal=principal)).account("asa") == asa


def test_a_keytab_says_whom_it_is_of(kdc: MitKdc, asa: Account) -> None:
    assert MitRealm(kdc.realm, KerberosSettings(keytab=str(kdc.administrator))).account("asa") == asa


def settings_without(kdc: MitKdc, tmp_path: Path) -> Iterator[tuple[KerberosSettings, str]]:
    """Those with which kadmin lets nobody in."""
    alice = kdc.ticket("alice", kdc.add_user("alice"))
    nothing = tmp_path / "nothing"
    nothing.write_bytes(write_keytab([]))
    yield KerberosSettings(principal="nobody/admin", keytab=str(kdc.administrator)), "does not let nobody/admin in"
    yield KerberosSettings(keytab=str(tmp_path / "none")), "cannot be read"
    yield KerberosSettings(keytab=str(nothing)), "is empty"
    yield KerberosSettings(principal=ADMINISTRATOR, keytab=str(tmp_path / "none")), "does not let casarray/admin in"
    yield KerberosSettings(ccache=f"FILE:{tmp_path}/none"), "kinit -S kadmin/admin"
    yield KerberosSettings(ccache=alice), "kinit -S kadmin/admin"


def test_whom_kadmin_does_not_let_in_is_told_what_it_takes(kdc: MitKdc, tmp_path: Path) -> None:
    for settings, why in settings_without(kdc, tmp_path):
        with pytest.raises(Denied, match=why):
            MitRealm(kdc.realm, settings).account("asa")


@pytest.mark.usefixtures("asa")
def test_a_right_that_is_missing_is_named(kdc: MitKdc) -> None:
    alice = f"FILE:{kdc.folder}/private/alice-admin.ccache"
    kdc.add_user("alice")
    keytab = str(kdc.keytab("alice"))
    kdc.host.run("kinit", "-c", alice, "-S", "kadmin/admin", "-k", "-t", keytab, "alice", env=kdc.environment())
    weak = MitRealm(kdc.realm, KerberosSettings(ccache=alice))
    with pytest.raises(Denied, match=r'give it the right "i" in kadm5.acl'):
        weak.account("asa")
    with (
        pytest.raises(Denied, match=r'give it the right "c" in kadm5.acl'),
        Kadmin(kdc.realm, KerberosSettings(ccache=alice)) as session,
    ):
        session.ask("cpw", "-randkey", "asa/casarray")


@pytest.mark.parametrize("adjusts", [True, False])
def test_a_wrong_clock_is_told(
    kdc: MitKdc, realm: MitRealm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adjusts: bool
) -> None:
    """A program that may go by the KDC's clock gets a ticket, and kadmind, whose clock is right, refuses it."""
    with kdc.clock(-100_000) as ahead:
        conf = tmp_path / "krb5.conf"
        conf.write_text(ahead.read_text().replace("[libdefaults]", f"[libdefaults]\n    kdc_timesync = {adjusts:d}"))
        monkeypatch.setenv("KRB5_CONFIG", str(conf))
        with pytest.raises(Unavailable, match=r"the clocks (differ too much|of the KDC, of kadmind)"):
            realm.account("asa")


@pytest.mark.parametrize(
    ("daemon", "said"),
    [("kadmind", "kadmind of MIT.EXAMPLE does not answer"), ("krb5kdc", "no KDC of MIT.EXAMPLE answers")],
)
def test_a_daemon_that_is_gone_is_told(kdc: MitKdc, realm: MitRealm, asa: Account, daemon: str, said: str) -> None:
    kdc.stop(daemon)
    try:
        with pytest.raises(Unavailable, match=said):
            realm.account("asa")
    finally:
        kdc.start(daemon)
    assert realm.account("asa") == asa


def test_a_kadmin_that_was_killed_is_told(kdc: MitKdc, realm: MitRealm, asa: Account) -> None:
    with Kadmin(kdc.realm, realm._settings) as session:
        session._process.kill()
        session._process.wait()
        with pytest.raises(Unavailable, match="try again|it ended") as caught:
            session.ask("cpw", "-pw", "unheard of", "imap/cas.mit.example")
    assert "unheard" not in str(caught.value)
    assert realm.account("asa") == asa


def test_a_kadmind_that_goes_in_the_middle_is_told_and_the_rest_is_mended(
    kdc: MitKdc, realm: MitRealm, asa: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    asa, _ = roll(realm, asa)
    whole, asked = Kadmin.ask, [0]

    def stopping(self: Kadmin, *words: str) -> list[str]:
        asked[0] += words[0] == "cpw"
        if asked[0] == 3:
            kdc.stop("kadmind")
        return whole(self, *words)

    monkeypatch.setattr(Kadmin, "ask", stopping)
    text = password()
    pending = make(realm, asa, text)
    try:
        with pytest.raises(Unavailable, match="kadmind of MIT.EXAMPLE does not answer") as caught:
            realm.set_password(asa, text)
        assert text not in str(caught.value)
    finally:
        monkeypatch.setattr(Kadmin, "ask", whole)
        kdc.start("kadmind")
    found = realm.account("asa")
    assert found.number == pending.number
    assert realm.prove(found, pending) == ""


def test_a_kadmind_that_says_nothing_is_not_waited_for_without_end(
    realm: MitRealm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent = tmp_path / "kadmin"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(kadmin_module, "ANSWER_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="does not answer within"):
        realm.account("asa")


TERSE = r"a@R\t0\t5\t0\t0\tb@R\t0\t0\t7\t1"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("echo garbage", "in a way that is not known"),
        (r"printf 'a@R\tb\tc\td\te\tf\tg\th\ti\n'", "in a way that is not known"),
        ("exit 3", "kadmind of MIT.EXAMPLE does not answer"),
        ("echo 'get_principal: No space left on device while retrieving.'", "refuses: No space left on device"),
        (f"printf '{TERSE}\n'", ""),  # one that does not repeat what it is told
        (f"""printf '%s\r%s\n' "$line" x; printf '{TERSE}\n'""", ""),  # one that does, on a narrow terminal
    ],
    ids=range(6),
)
def test_a_kadmin_of_another_kind_is_understood_or_refused(
    realm: MitRealm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, said: str
) -> None:
    other = tmp_path / "kadmin"
    other.write_text(
        "#!/bin/sh\nprintf 'kadmin:  '\nwhile read -r line; do\n"
        f"case $line in getprinc*) {answer} ;; esac\nprintf 'kadmin:  '\ndone\n"
    )
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if said:
        with pytest.raises((Conflict, Unavailable), match=said):
            realm.account("asa")
    else:
        found = realm.account("asa")
        assert (found.number, found.set_at, found.names) == (7, 5.0, ())


def test_without_the_program_it_is_said_how_to_get_it(realm: MitRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.which", lambda _: None)
        with pytest.raises(Unavailable, match="install the package krb5-user"):
            realm.account("asa")


# What clients send.


def test_the_ticket_in_real_tokens_is_read(kdc: MitKdc) -> None:
    kdc.add_service("exchangeMDB/cas.mit.example")
    client, name = Client(kdc, "alice"), "exchangeMDB/cas.mit.example"
    spnego = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
    framed, negotiated, bare = client.token(name), client.token(name, spnego), client.token(name, flags=DCE_STYLE)
    assert [token[0] for token in (framed, negotiated, bare)] == [0x60, 0x60, 0x6E]
    for token in (framed, negotiated, bare, client.token(name, spnego, DCE_STYLE)):
        assert mechanism_of(token) is Mechanism.KERBEROS
        ticket = ticket_of(token)
        assert (ticket.realm, ticket.name, ticket.enctype, ticket.version) == (kdc.realm, name, 18, 1)
