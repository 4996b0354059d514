"""What attributes of Active Directory say of an account, whatever stands in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import Conflict
from casarray.core.kerberos import ad_account
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.account_rules import findings
from casarray.core.kerberos.encryption import AES, bits_of

DN = "CN=asa,CN=Computers,DC=lab,DC=example"
FULL = {
    "sAMAccountName": [b"asa$"],
    "objectClass": [b"top", b"person", b"user", b"Computer"],
    "userAccountControl": [b"4096"],
    "servicePrincipalName": [b"http/mail.lab.example", b"imap/mail.lab.example"],
    "msDS-KeyVersionNumber": [b"7"],
    "msDS-SupportedEncryptionTypes": [b"24"],
    "pwdLastSet": [b"132539328000000000"],
    "accountExpires": [b"9223372036854775807"],
    "lastLogonTimestamp": [b"132540192005000000"],
    "description": ["für die Arrays".encode()],
}


def test_an_entry_is_read() -> None:
    account = ad_account.account_of(DN, FULL, "LAB.EXAMPLE")
    assert (account.name, account.kind, account.where) == ("asa$", AccountKind.COMPUTER, DN)
    assert account.names == ("http/mail.lab.example", "imap/mail.lab.example")
    assert (account.number, account.encryption, account.enabled) == (7, 24, True)
    assert (account.set_at, account.expires_at, account.seen_at) == (1609459200.0, None, 1609545600.5)
    assert account.description == "für die Arrays"
    assert (account.domain_controller, account.delegates) == (False, False)
    assert (account.must_change, account.password_expires) == (False, False)


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (0x1000, set()),
        (0x1002, {"disabled"}),
        (0x2000, {"controller"}),
        (0x81000, {"delegates"}),
    ],
)
def test_bits_are_told_apart(control: int, said: set[str]) -> None:
    account = ad_account.account_of(DN, FULL | {"userAccountControl": [str(control).encode()]}, "R")
    found = {"disabled": not account.enabled, "controller": account.domain_controller, "delegates": account.delegates}
    assert {word for word, is_so in found.items() if is_so} == said


@given(st.dictionaries(st.sampled_from(ad_account.ATTRIBUTES), st.lists(st.binary(max_size=30), max_size=3)))
def test_whatever_stands_there_is_read_and_judged(values: dict[str, list[bytes]]) -> None:
    account = ad_account.account_of(DN, values, "LAB.EXAMPLE")
    for now in (0.0, 1.75e9, 1e12):
        assert all(one.text for one in findings(account, now))


@given(st.integers(-(2**70), 2**70))
def test_no_number_is_too_big(number: int) -> None:
    numbers = ("userAccountControl", "pwdLastSet", "accountExpires", "lastLogonTimestamp", "msDS-KeyVersionNumber")
    values = FULL | {name: [str(number).encode()] for name in numbers}
    assert findings(ad_account.account_of(DN, values, "R"), 1.75e9) is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20210101000000.0Z", 1609459200.0), ("20210101000000Z", 1609459200.0), ("", None), ("gestern", None)],
)
def test_when_an_owner_was_made_is_read_if_it_can_be(text: str, seconds: float | None) -> None:
    owner = ad_account.owner_of(DN, {"whenCreated": [text.encode()], "userAccountControl": [b"4098"]})
    assert (owner.created, owner.enabled, owner.name) == (seconds, False, DN)


def test_what_would_end_a_filter_does_not() -> None:
    assert ad_account.account_filter("a*)(b$") == (
        "(&(objectClass=user)(|(sAMAccountName=a\\2a\\29\\28b)(sAMAccountName=a\\2a\\29\\28b$)))"
    )
    assert ad_account.names_filter(["http/*"]) == "(|(servicePrincipalName=http/\\2a))"


@pytest.mark.parametrize(
    ("name", "kind", "made"),
    [
        ("asa", AccountKind.COMPUTER, "asa$"),
        ("LAB\\asa$", AccountKind.COMPUTER, "asa$"),
        ("fifteen-letters", AccountKind.COMPUTER, "fifteen-letters$"),
        ("svc.cas_1", AccountKind.USER, "svc.cas_1"),
    ],
)
def test_a_name_is_written_as_its_kind_wants_it(name: str, kind: AccountKind, made: str) -> None:
    assert ad_account.new_name(name, kind) == made


@pytest.mark.parametrize("name", ["", "$", "a b", "a,b", "käse", "-a", "12", "a$b", "a\0"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(Conflict, match="cannot name an account"):
        ad_account.new_name(name, AccountKind.COMPUTER)


def test_an_account_is_made_disabled_and_with_its_encryption_types() -> None:
    values = ad_account.new_values("asa$", AccountKind.COMPUTER, bits_of(AES), "")
    assert values == {
        "objectClass": ("computer",),
        "sAMAccountName": ("asa$",),
        "userAccountControl": (str(0x1002),),
        "msDS-SupportedEncryptionTypes": ("24",),
    }


def test_without_a_well_known_container_the_usual_one_is_taken() -> None:
    assert ad_account.new_dn("asa$", AccountKind.COMPUTER, (), "DC=lab,DC=example") == DN
    known = ("B:32:aa312825768811d1aded00c04fd8d5cd:OU=Here,DC=lab,DC=example", "B:32:00:CN=Else")
    assert ad_account.new_dn("asa$", AccountKind.COMPUTER, known, "DC=x") == "CN=asa,OU=Here,DC=lab,DC=example"


def test_the_salt_is_that_of_the_kind() -> None:
    computer = ad_account.account_of(DN, FULL, "LAB.EXAMPLE")
    assert ad_account.salt_of(computer) == "LAB.EXAMPLEhostasa.lab.example"
    user = FULL | {"objectClass": [b"user"], "sAMAccountName": [b"Svc"]}
    assert ad_account.salt_of(ad_account.account_of(DN, user, "LAB.EXAMPLE")) == "LAB.EXAMPLESvc"
    renamed = user | {"userPrincipalName": [b"old@lab.example"]}
    assert ad_account.salt_of(ad_account.account_of(DN, renamed, "LAB.EXAMPLE")) == "LAB.EXAMPLEold"


def test_a_password_travels_in_quotation_marks_in_utf_16() -> None:
    assert ad_account.password_octets("ab") == b'"\0a\0b\0"\0'
