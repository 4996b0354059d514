"""Whom a server names, whether it lives or is gone."""

from dataclasses import replace

import pytest
from tests.core.referral.talk import ALICE, GROUP, OLD, PEOPLE, SERVERS, moved, signpost

from casarray.core.directory.model import Array, Directory, Site
from casarray.core.referral.guide import HERE
from casarray.core.referral.signpost import Signpost, Station

PRIVATE = "/cn=Microsoft Private MDB"


def test_the_address_book_is_that_of_the_array_of_the_users_database() -> None:
    assert signpost().address_book(ALICE, None) == "cas.domain.tld"


def test_a_dn_is_the_same_in_capital_letters() -> None:
    assert signpost().address_book(ALICE.upper(), None) == "cas.domain.tld"


def test_a_dn_that_the_directory_has_for_an_account_goes_before_the_one_worked_out_of_its_name() -> None:
    found = signpost().person("/o=Old/ou=Site/cn=Recipients/cn=zo")
    assert found is not None
    assert found.name == "zoe"
    assert signpost().person(f"{GROUP}/cn=Recipients/cn=zoe") is None


def test_after_a_switchover_the_address_book_is_that_of_the_other_sites_array() -> None:
    assert signpost(directory=moved(PEOPLE, "DB1", "ber1")).address_book(ALICE, None) == "outlook.berlin.domain.tld"


def test_a_retired_server_leads_a_known_user_to_the_array_of_the_mailbox() -> None:
    there = moved(PEOPLE, "DB1", "ber1")
    assert signpost("old1", there).address_book(ALICE, None) == "outlook.berlin.domain.tld"


def test_a_retired_server_leads_a_stranger_to_the_array_of_its_site() -> None:
    gone = (replace(OLD, site="Berlin"),)
    assert signpost("old1", gone=gone).address_book("/o=x/cn=nobody", None) == "outlook.berlin.domain.tld"


def test_a_retired_server_of_which_nothing_is_known_leads_a_stranger_to_the_site_of_its_address() -> None:
    post = Signpost(OLD, lambda: PEOPLE, lambda: (OLD,), lambda: "Berlin")
    assert post.address_book("/o=x/cn=nobody", None) == "outlook.berlin.domain.tld"


def test_with_two_arrays_and_no_site_a_stranger_is_led_nowhere() -> None:
    assert signpost("old1").address_book("/o=x/cn=nobody", None) is None


def test_the_only_array_there_is_takes_whoever_comes() -> None:
    one = Directory("Contoso").put(Site("Ulm"), Array("ULM", "ulm.domain.tld", "Ulm"))
    assert signpost("old1", one).address_book("/o=x/cn=nobody", None) == "ulm.domain.tld"


@pytest.mark.parametrize("ending", ["", PRIVATE], ids=["server", "database"])
@pytest.mark.parametrize(
    ("name", "fqdn"),
    [
        ("cas.domain.tld", "cas.domain.tld"),  # an array as it is
        ("CAS.DOMAIN.TLD", "cas.domain.tld"),
        ("CAS", "cas.domain.tld"),  # an array by its short name, which nothing else has
        ("cas1", "cas1.domain.tld"),  # a living server as it is
        ("cas1.domain.tld", "cas1.domain.tld"),
        ("nobody", None),
    ],
)
def test_a_dn_is_answered_with_the_host_name_of_whom_it_names(name: str, fqdn: str | None, ending: str) -> None:
    assert signpost().fqdn_of(f"{SERVERS}{name}{ending}", None) == fqdn


@pytest.mark.parametrize("name", ["old1", "OLD1", "old1.domain.tld"])
@pytest.mark.parametrize("ending", ["", PRIVATE], ids=["server", "database"])
def test_the_dn_of_a_retired_server_is_answered_with_the_array_of_who_asks(name: str, ending: str) -> None:
    post = signpost("old1", moved(PEOPLE, "DB1", "ber1"))
    alice, bob = post.account("alice@DOMAIN.TLD"), post.account("bob@DOMAIN.TLD")
    assert post.fqdn_of(f"{SERVERS}{name}{ending}", alice) == "outlook.berlin.domain.tld"
    assert post.fqdn_of(f"{SERVERS}{name}{ending}", bob) == "cas.domain.tld"


def test_a_dn_without_a_server_names_nobody() -> None:
    assert signpost().fqdn_of("/o=Contoso/cn=Somewhere/cn=else", None) is None


@pytest.mark.parametrize(
    ("server", "home"),
    [
        ("cas1", HERE),
        ("cas2", HERE),
        ("ber1", f"{SERVERS}cas.domain.tld"),  # of another site
        ("mbx1", f"{SERVERS}cas.domain.tld"),  # it has the database, and no clients
        ("ulm2", f"{SERVERS}cas.domain.tld"),  # client access without an array
        ("old1", f"{SERVERS}cas.domain.tld"),
    ],
)
def test_a_mailbox_is_opened_by_the_members_of_its_array_alone(server: str, home: str) -> None:
    post = signpost(server)
    alice = post.person(ALICE)
    assert alice is not None
    assert post.mailbox_home(alice) == home


def test_a_member_that_was_taken_out_of_the_array_leads_to_it() -> None:
    out = PEOPLE.put(replace(PEOPLE.servers["cas1"], rpc_client_access=None))
    post = signpost("cas1", out)
    alice = post.person(ALICE)
    assert alice is not None
    assert post.mailbox_home(alice) == f"{SERVERS}cas.domain.tld"


def test_a_database_that_names_a_server_is_opened_by_that_server_alone() -> None:
    named = PEOPLE.put(replace(PEOPLE.databases["db1"], rpc_client_access_server="cas2.domain.tld"))
    alice = signpost("cas2", named).person(ALICE)
    assert alice is not None
    assert signpost("cas2", named).mailbox_home(alice) == HERE
    assert signpost("cas1", named).mailbox_home(alice) == f"{SERVERS}cas2"


def test_clients_of_a_database_that_still_names_a_retired_server_are_led_to_the_array_of_its_site() -> None:
    stale = PEOPLE.put(replace(PEOPLE.databases["db1"], rpc_client_access_server="old1.domain.tld"))
    for server in ("cas1", "old1"):
        post = signpost(server, stale)
        assert post.address_book(ALICE, None) == "cas.domain.tld"
        alice = post.person(ALICE)
        assert alice is not None
        assert post.mailbox_home(alice) == (HERE if server == "cas1" else f"{SERVERS}cas.domain.tld")


def test_nobody_is_led_in_a_circle() -> None:
    alone = PEOPLE.without(PEOPLE.arrays["cas"], PEOPLE.arrays["ber"]).put(
        replace(PEOPLE.databases["db1"], rpc_client_access_server="old1.domain.tld")
    )
    post = signpost("old1", alone)
    alice = post.person(ALICE)
    assert alice is not None
    assert post.mailbox_home(alice) is None


def test_public_folders_are_opened_on_mailbox_servers_and_not_on_others() -> None:
    assert signpost("mbx1").public_folders_home(None) == HERE
    marked = PEOPLE.put(replace(PEOPLE.servers["mbx2"], public_folders=True))
    assert signpost("mbx2", marked).public_folders_home(None) == HERE
    for server in ("mbx1", "cas1", "old1"):
        assert signpost(server, marked).public_folders_home(None) == f"{SERVERS}mbx2"


def test_where_no_server_has_public_folders_nobody_opens_them() -> None:
    assert signpost("cas1").public_folders_home(None) is None


def test_everybody_with_a_mailbox_is_in_the_address_book_by_display_name() -> None:
    names = [person.name for person in signpost().people()]
    assert names == ["alice", "bob", "bobby", "carol", "zoe"]


def test_the_list_is_made_anew_only_when_the_directory_is_another() -> None:
    held = [PEOPLE]
    post = Signpost(Station("cas1", "cas1.domain.tld"), lambda: held[0])
    first = post.people()
    assert post.people() is first
    held[0] = PEOPLE.without(PEOPLE.accounts["bob"])
    assert "bob" not in [person.name for person in post.people()]
