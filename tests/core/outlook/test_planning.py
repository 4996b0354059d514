"""From what is typed, and what the directory knows, to the plan of the walk."""

from ipaddress import ip_address

import pytest

from casarray.core.directory.model import (
    ROLES,
    Account,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Server,
    Site,
)
from casarray.core.errors import Conflict, NotFound
from casarray.core.outlook.planning import plan_of
from casarray.core.outlook.wish import Depth, Wish

GROUP = "/o=First Organization/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)"


def server(name: str, site: str, address: str = "") -> Server:
    return Server(name, f"{name}.domain.tld", site, ROLES, addresses=(ip_address(address),) if address else ())


def two_sites(told: str = "cas.domain.tld", active: str = "cas1") -> Directory:
    return Directory().put(
        Site("Paderborn"),
        Site("Berlin"),
        server("cas1", "Paderborn", "10.12.0.21"),
        server("cas2", "Paderborn"),
        server("ber1", "Berlin", "10.22.0.21"),
        Array("CAS", "cas.domain.tld", "Paderborn", (ip_address("10.11.0.100"),), {"published": ["mail.domain.tld"]}),
        Array("BER", "ber.domain.tld", "Berlin"),
        AvailabilityGroup("DAG1", ("cas1", "ber1")),
        Database("DB1", active, (Copy("cas1", 1), Copy("ber1", 2)), told),
        Account("alice", "DB1", "alice@domain.tld"),
        Account("carol"),
    )


def test_a_user_is_enough_to_know_array_mailbox_and_depth() -> None:
    plan = plan_of(two_sites(), Wish("alice@domain.tld"))
    assert (plan.server, plan.name, plan.database, plan.told) == ("CAS", "cas.domain.tld", "DB1", "cas.domain.tld")
    assert (plan.mailbox.account, plan.mailbox.dn) == ("alice", f"{GROUP}/cn=Recipients/cn=alice")
    assert plan.discover
    assert plan.journey is not None
    assert plan.journey.deep
    assert plan.journey.through_array
    assert plan.journey.server_dn == f"{GROUP}/cn=Configuration/cn=Servers/cn=cas.domain.tld"
    assert plan.known == (("10.12.0.21", "cas1"),)
    assert plan.members == ()


@pytest.mark.parametrize("name", ["alice", "ALICE", "DOMAIN\\alice", "alice@domain.tld"])
def test_a_user_may_be_named_in_all_the_usual_ways(name: str) -> None:
    assert plan_of(two_sites(), Wish(name)).mailbox.address == "alice@domain.tld"


def test_after_a_switchover_it_is_the_other_sites_array_that_is_walked_to() -> None:
    plan = plan_of(two_sites(active="ber1"), Wish("alice"))
    assert (plan.server, plan.told) == ("BER", "ber.domain.tld")


def test_a_database_that_names_nobody_is_told_as_it_stands() -> None:
    plan = plan_of(two_sites("old.domain.tld"), Wish("alice", array="CAS"))
    assert (plan.name, plan.told, plan.told_known) == ("cas.domain.tld", "old.domain.tld", False)


def test_a_database_that_names_a_server_is_walked_to_at_the_array_of_its_site() -> None:
    plan = plan_of(two_sites("cas1.domain.tld"), Wish("alice"))
    assert (plan.name, plan.told, plan.told_known) == ("cas.domain.tld", "cas1.domain.tld", True)


def test_every_member_is_walked_to_at_its_address_or_name_and_called_as_the_array() -> None:
    plan = plan_of(two_sites(), Wish("alice", each_member=True))
    assert [(one.server, one.host) for one in plan.members] == [("cas1", "10.12.0.21"), ("cas2", "cas2.domain.tld")]
    assert {one.target("exchangeMDB") for one in plan.members} == {"exchangeMDB/cas.domain.tld"}
    assert not any(one.through_array for one in plan.members)
    over_http = plan_of(two_sites(), Wish("alice", each_member=True, http=True))
    assert [one.host for one in over_http.members] == ["cas1.domain.tld", "cas2.domain.tld"]
    assert over_http.proxy == "mail.domain.tld"


def test_one_member_alone_is_walked_to_without_the_array() -> None:
    plan = plan_of(two_sites(), Wish("alice", server="cas1"))
    assert plan.journey is None
    assert [one.server for one in plan.members] == ["cas1"]
    with pytest.raises(NotFound, match="ber1 is no member of CAS"):
        plan_of(two_sites(), Wish("alice", array="CAS", server="ber1"))


def test_a_server_under_its_own_name_may_name_itself_or_its_array() -> None:
    plan = plan_of(two_sites(), Wish("alice", server="cas1", by_server=True))
    assert plan.journey is not None
    assert (plan.name, plan.journey.through_array) == ("cas1.domain.tld", False)
    assert plan.journey.rfr_names == ("cas1.domain.tld", "cas.domain.tld")
    assert plan.journey.target("exchangeRFR") == "exchangeRFR/cas1.domain.tld"
    with pytest.raises(Conflict, match="--server NAME"):
        plan_of(two_sites(), Wish(by_server=True))


def test_without_a_user_nobody_logs_on_and_a_deep_test_wants_one() -> None:
    plan = plan_of(two_sites(), Wish(array="CAS"))
    assert plan.journey is not None
    assert not plan.journey.deep
    assert plan.journey.target("exchangeMDB") == ""
    assert not plan.discover
    with pytest.raises(Conflict, match="say whose"):
        plan_of(two_sites(), Wish(array="CAS", depth=Depth.DEEP))


def test_which_array_has_to_be_clear() -> None:
    with pytest.raises(Conflict, match="there are 2 arrays: say which"):
        plan_of(two_sites(), Wish())
    with pytest.raises(NotFound, match="no array ULM"):
        plan_of(two_sites(), Wish(array="ULM"))
    with pytest.raises(NotFound, match="name one by its FQDN"):
        plan_of(Directory(), Wish())


def test_an_array_that_the_directory_does_not_know_is_walked_to_by_its_fqdn() -> None:
    plan = plan_of(Directory(), Wish("bob@domain.tld", array="cas.domain.tld"))
    assert (plan.name, plan.own_addresses, plan.told) == ("cas.domain.tld", (), "")
    assert plan.mailbox.guessed
    assert plan.mailbox.dn == f"{GROUP}/cn=Recipients/cn=bob"


def test_an_account_without_a_mailbox_is_nobody_of_whom_something_is_told() -> None:
    assert plan_of(two_sites(), Wish("carol", array="CAS")).told == ""


def test_two_accounts_with_one_address_are_refused() -> None:
    twice = two_sites().put(Account("alice2", "DB1", "alice@domain.tld"))
    with pytest.raises(Conflict, match="have the same address"):
        plan_of(twice, Wish("alice@domain.tld"))
