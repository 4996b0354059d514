"""Against a real KDC."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from casarray.core.errors import Denied, NotFound, Unavailable
from casarray.core.kerberos.encryption import AES, EXCHANGE, Enctype
from casarray.core.kerberos.keys import Key
from casarray.core.kerberos.salts import computer_salt, principal_salt, user_salt
from casarray.lab.mit_kdc import MitKdc

pytest.importorskip("krb5", reason="pykrb5 is not installed")
from casarray.adapters.kerberos.derivation import ToldSalt, derive, keys_of, prove, told_salt

root = pytest.mark.root


@pytest.mark.parametrize("enctype", EXCHANGE)
def test_a_key_is_what_another_program_makes_of_the_password(enctype: Enctype) -> None:
    crypto = pytest.importorskip("impacket.krb5.crypto", reason="impacket is not installed")
    password, salt = secrets.token_urlsafe(16) + "ä€", "LAB.EXAMPLEhostasa.lab.example"
    made = derive(password, enctype, salt)
    if enctype is not Enctype.RC4:
        assert made == crypto.string_to_key(int(enctype), password.encode(), salt.encode()).contents
        assert made != derive(password, enctype, salt.lower())
    else:
        assert made == crypto.string_to_key(int(enctype), password, "").contents


def test_a_key_of_too_few_rounds_is_not_made() -> None:
    with pytest.raises(Denied, match="no aes256-cts-hmac-sha1-96 key can be made as the KDC tells"):
        derive("password", Enctype.AES256, "salt", (1).to_bytes(4, "big"))


def test_salts_are_made_by_formula() -> None:
    assert computer_salt("LAB.EXAMPLE", "ASA$") == "LAB.EXAMPLEhostasa.lab.example"
    assert user_salt("LAB.EXAMPLE", "Svc-Cas") == "LAB.EXAMPLESvc-Cas"
    assert principal_salt("MIT.EXAMPLE", "http/mail.mit.example") == "MIT.EXAMPLEhttpmail.mit.example"


@root
def test_the_kdc_tells_the_salt_and_the_formula_says_the_same(kdc: MitKdc) -> None:
    kdc.add_service("http/mail")
    for enctype in AES:
        told = told_salt("http/mail", kdc.realm, enctype)
        assert told == ToldSalt(principal_salt(kdc.realm, "http/mail"))
    assert told_salt("http/mail", kdc.realm, Enctype.RC4) is None  # it has no such key


@root
def test_keys_of_the_right_password_are_proven(kdc: MitKdc) -> None:
    password = kdc.add_user("alice")
    keys = keys_of("alice", kdc.realm, password, 1, AES, user_salt(kdc.realm, "alice"))
    assert [(key.enctype, key.version) for key in keys] == [(Enctype.AES256, 1), (Enctype.AES128, 1)]
    assert prove("alice", kdc.realm, keys) == ""


@root
def test_a_type_that_the_kdc_does_not_use_is_no_fault_beside_one_that_it_uses(kdc: MitKdc) -> None:
    password = kdc.add_user("alice")
    keys = keys_of("alice", kdc.realm, password, 1, EXCHANGE, "")
    assert [key.enctype for key in keys] == list(EXCHANGE)
    assert prove("alice", kdc.realm, keys) == ""
    said = prove("alice", kdc.realm, [key for key in keys if key.enctype is Enctype.RC4])
    assert said.startswith("the KDC of MIT.EXAMPLE has no key of alice that is rc4-hmac: change")


@root
def test_another_password_is_told(kdc: MitKdc) -> None:
    salt = user_salt(kdc.realm, "alice")
    kdc.add_user("alice")
    said = prove("alice", kdc.realm, keys_of("alice", kdc.realm, "another", 1, AES, salt), salt)
    assert said.startswith("the KDC's aes256-cts-hmac-sha1-96 key of alice@MIT.EXAMPLE is not ours: its password was")
    assert "another" not in said.partition("made with another salt")[0]


@root
def test_a_wrong_salt_is_told_with_both_salts(kdc: MitKdc) -> None:
    """As with every account that was renamed since its password was set."""
    password = kdc.add_user("alice")
    kdc.local("renprinc -force alice alys")
    formula = user_salt(kdc.realm, "alys")
    keys = [Key(one, 1, derive(password, one, formula)) for one in AES]
    said = prove("alys", kdc.realm, keys, formula)
    assert 'its salt is "MIT.EXAMPLEalice", and ours was made with "MIT.EXAMPLEalys"' in said
    assert prove("alys", kdc.realm, keys_of("alys", kdc.realm, password, 1, AES, formula)) == ""


@root
def test_a_wrong_salt_shows_by_the_rc4_key_too(kdc: MitKdc) -> None:
    password = kdc.add_user("alice")
    kdc.local(f"cpw -e aes256-cts:normal,rc4-hmac:normal -pw {password} alice")
    keys = [Key(one, 1, derive(password, one, "a wrong one")) for one in EXCHANGE]
    assert "although the password is the same" in prove("alice", kdc.realm, keys)


def missing(kdc: MitKdc) -> None:
    """Nobody was added."""


def disabled(kdc: MitKdc) -> None:
    kdc.add_user("alice")
    kdc.local("modprinc -allow_tix alice")


def expired(kdc: MitKdc) -> None:
    kdc.add_user("alice")
    kdc.local("modprinc -pwexpire yesterday alice")


REFUSED = [
    (missing, "the KDC of MIT.EXAMPLE knows no alice@MIT.EXAMPLE: look at the account's name"),
    (disabled, "the KDC gives alice@MIT.EXAMPLE no ticket: the account is disabled"),
    (expired, "the KDC gives alice@MIT.EXAMPLE no ticket: its password has expired"),
]


@root
@pytest.mark.parametrize(("state", "why"), REFUSED)
def test_whom_the_kdc_refuses_is_told_why(kdc: MitKdc, state: Callable[[MitKdc], None], why: str) -> None:
    state(kdc)
    assert prove("alice", kdc.realm, [Key(Enctype.AES256, 1, bytes(32))]).startswith(why)


@root
def test_no_salt_is_told_of_whom_the_kdc_refuses(kdc: MitKdc) -> None:
    with pytest.raises(NotFound, match="knows no alice"):
        told_salt("alice", kdc.realm, Enctype.AES256)
    disabled(kdc)
    with pytest.raises(Denied, match="disabled"):
        told_salt("alice", kdc.realm, Enctype.AES256)


@root
def test_a_kdc_that_does_not_answer_proves_nothing(kdc: MitKdc) -> None:
    password = kdc.add_user("alice")
    keys = keys_of("alice", kdc.realm, password, 1, AES, "")
    kdc.stop("krb5kdc")
    try:
        with pytest.raises(Unavailable, match=r"no KDC of MIT.EXAMPLE answers"):
            prove("alice", kdc.realm, keys)
        with pytest.raises(Unavailable, match=r"no KDC of OTHER.EXAMPLE answers"):
            prove("alice", "OTHER.EXAMPLE", keys)
    finally:
        kdc.start("krb5kdc")
    assert prove("alice", kdc.realm, keys) == ""


@root
def test_a_wrong_clock_proves_nothing_and_is_told(kdc: MitKdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password = kdc.add_user("alice")
    keys = keys_of("alice", kdc.realm, password, 1, AES, "")
    with kdc.clock(600) as ahead:
        monkeypatch.setenv("KRB5_CONFIG", str(ahead))
        assert prove("alice", kdc.realm, keys) == ""  # the library goes by the KDC's clock, if it may
        strict = tmp_path / "krb5.conf"
        strict.write_text(ahead.read_text().replace("[libdefaults]", "[libdefaults]\n    kdc_timesync = 0"))
        monkeypatch.setenv("KRB5_CONFIG", str(strict))
        with pytest.raises(Unavailable, match="differ by more than five minutes: set this one"):
            prove("alice", kdc.realm, keys)


@root
def test_no_key_and_no_password_is_in_what_is_said(kdc: MitKdc, capfd: pytest.CaptureFixture[str]) -> None:
    password = kdc.add_user("alice")
    wrong = keys_of("alice", kdc.realm, f"{password}x", 1, AES, "")
    said = prove("alice", kdc.realm, wrong) + repr(wrong) + "".join(capfd.readouterr())
    assert password not in said
    assert not any(key.value.hex() in said or str(key.value) in said for key in wrong)
