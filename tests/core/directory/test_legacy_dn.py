"""legacyExchangeDN, there and back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.directory.example import ORGANISATION

from casarray.core.directory.legacy_dn import (
    accounts_with_legacy_dn,
    fqdn_of,
    last_name,
    of_account,
    of_admin_group,
    of_database,
    of_organization,
    of_server,
)
from casarray.core.directory.model import Account, Array, Database, Directory, Server

BASE = "/o=Contoso/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers"
DB1 = ORGANISATION.databases["db1"]


def test_the_upper_parts_name_the_organisation_and_its_administrative_group() -> None:
    assert of_organization(ORGANISATION) == "/o=Contoso"
    assert of_admin_group(ORGANISATION) == "/o=Contoso/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)"
    assert of_organization(Directory()) == "/o=First Organization"


def test_an_array_ends_in_its_fqdn() -> None:
    assert of_server(ORGANISATION, ORGANISATION.arrays["cas"]) == f"{BASE}/cn=cas.domain.tld"


def test_a_server_ends_in_its_short_name() -> None:
    assert of_server(ORGANISATION, ORGANISATION.servers["cas1"]) == f"{BASE}/cn=cas1"


@pytest.mark.parametrize(
    ("named", "last"),
    [
        ("cas.domain.tld", "cas.domain.tld"),
        ("CAS.DOMAIN.TLD", "cas.domain.tld"),  # as the array writes it
        ("cas2.domain.tld", "cas2"),
        ("gone.domain.tld", "gone.domain.tld"),
    ],
)
def test_a_database_has_the_name_of_whom_its_clients_are_told(named: str, last: str) -> None:
    database = replace(DB1, rpc_client_access_server=named)
    assert of_database(ORGANISATION, database) == f"{BASE}/cn={last}/cn=Microsoft Private MDB"


@pytest.mark.parametrize(
    ("dn", "name"),
    [
        (f"{BASE}/cn=cas1", "cas1"),
        (f"{BASE}/cn=cas.domain.tld/cn=Microsoft Private MDB", "cas.domain.tld"),
        (f"{BASE}/CN=CAS1/CN=MICROSOFT PRIVATE MDB".upper(), "CAS1"),
        (BASE, ""),
        ("/cn=Microsoft Private MDB", ""),
        ("cas1", ""),
        ("", ""),
        ("=", ""),
        (f"{BASE}/cn=", ""),
        (f"{BASE}/cn=cas1/cn=Microsoft Public MDB", ""),
        ("/o=Contoso/ou=First/cn=Recipients/cn=alice", ""),
    ],
)
def test_the_last_name_is_read_from_servers_arrays_and_databases_alone(dn: str, name: str) -> None:
    assert last_name(dn) == name


@pytest.mark.parametrize("named", ["cas.domain.tld", "outlook.berlin.domain.tld", "cas2.domain.tld", "gone.domain.tld"])
def test_a_database_leads_back_to_the_fqdn(named: str) -> None:
    database = Database("DB", "mbx1", (), named)
    assert fqdn_of(ORGANISATION, of_database(ORGANISATION, database)) == named


def test_a_server_leads_back_to_its_fqdn() -> None:
    things: list[Server | Array] = [*ORGANISATION.servers.values(), *ORGANISATION.arrays.values()]
    for thing in things:
        assert fqdn_of(ORGANISATION, of_server(ORGANISATION, thing)) == thing.fqdn


def test_an_array_is_found_although_a_server_is_called_like_its_fqdn() -> None:
    rival = replace(ORGANISATION.servers["cas2"], name="cas.domain.tld")
    directory = ORGANISATION.put(rival)
    assert fqdn_of(directory, of_server(directory, directory.arrays["cas"])) == "cas.domain.tld"


@given(st.text(max_size=80))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert isinstance(fqdn_of(ORGANISATION, text), str)
    assert last_name(f"{BASE}/cn={text}") in (text, text.rpartition("=")[2], "", last_name(text))


def test_an_account_is_found_by_the_dn_it_is_told_whether_the_directory_has_one_or_not() -> None:
    moved = Account("bob", legacy_dn="/o=Old/ou=Site/cn=Recipients/cn=bob2")
    directory = ORGANISATION.put(moved)
    alice = directory.accounts["alice"]
    assert of_account(directory, alice) == f"{of_admin_group(directory)}/cn=Recipients/cn=alice"
    assert of_account(directory, moved) == moved.legacy_dn
    for account in (alice, moved):
        assert accounts_with_legacy_dn(directory, of_account(directory, account).upper()) == (account,)
    # It has a name of its own, so it does not listen to that which would be worked out.
    assert accounts_with_legacy_dn(directory, f"{of_admin_group(directory)}/cn=Recipients/cn=bob") == ()
