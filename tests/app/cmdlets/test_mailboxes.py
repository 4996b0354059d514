"""Mailboxes in the shell: who has one, and under which addresses."""

import pytest
from tests.app.cmdlets.typed import Desk

from casarray.core.directory.model import Account
from casarray.core.errors import Conflict, NotFound


@pytest.fixture
def desk() -> Desk:
    return Desk()


def account(desk: Desk, name: str) -> Account:
    return desk.service.directory().accounts[name]


def test_a_user_gets_a_mailbox_and_is_told_the_array_of_its_database(desk: Desk) -> None:
    (made,) = desk("Enable-Mailbox", "bob", Database="DB2", PrimarySmtpAddress="bob@domain.tld", DisplayName="Bob")
    assert (made.get("Database"), made.get("ToldToClients")) == ("DB2", "cas.domain.tld")
    assert account(desk, "bob") == Account("bob", "DB2", "bob@domain.tld", "Bob")


def test_addresses_are_written_as_in_exchange(desk: Desk) -> None:
    addresses = ("SMTP:first@domain.tld", "smtp:second@domain.tld", "third@domain.tld", "X400:c=de;o=x")
    desk("Set-Mailbox", "alice", EmailAddresses=addresses)
    alice = account(desk, "alice")
    assert (alice.address, alice.aliases) == ("first@domain.tld", ("second@domain.tld", "third@domain.tld"))
    (shown,) = desk("Get-Mailbox", "THIRD@domain.tld")
    assert shown.get("EmailAddresses") == ("SMTP:first@domain.tld", "smtp:second@domain.tld", "smtp:third@domain.tld")


def test_a_mailbox_is_found_by_all_its_names(desk: Desk) -> None:
    (alice,) = desk("Get-Mailbox", "alice")
    for name in ("ExchangeLegacyDN", "PrimarySmtpAddress", "DistinguishedName"):
        assert desk("Get-Mailbox", str(alice.get(name))) == [alice]
    assert desk("Get-Mailbox", Database="DB1") == [alice]
    assert desk("Get-Mailbox", Database="DB2") == []


def test_a_mailbox_moves_and_ends(desk: Desk) -> None:
    desk("Set-Mailbox", "alice", Database="DB2")
    assert account(desk, "alice").database == "DB2"
    desk("Disable-Mailbox", "alice")
    with pytest.raises(NotFound):
        desk("Get-Mailbox", "alice")


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("Enable-Mailbox", {"Identity": "alice", "Database": "DB1"}, "has a mailbox in DB1 already"),
        ("Set-Mailbox", {"Identity": "alice", "EmailAddresses": ("SMTP:a@d.tld", "SMTP:b@d.tld")}, "two primary"),
        ("Set-Mailbox", {"Identity": "alice", "PrimarySmtpAddress": "no address"}, "is no SMTP address"),
        (
            "Enable-Mailbox",
            {"Identity": "eve", "Database": "DB1", "PrimarySmtpAddress": "ALICE@domain.tld"},
            "alice has",
        ),
        ("Set-Mailbox", {"Identity": "alice", "EmailAddresses": ("alice@domain.tld",)}, "is its primary address"),
    ],
)
def test_what_would_confuse_clients_is_refused(desk: Desk, name: str, values: dict[str, str], said: str) -> None:
    with pytest.raises(Conflict, match=said):
        desk(name, **values)
