"""What follows from a directory."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.directory.example import ORGANISATION, mailbox_server, subnet

from casarray.core.directory.lookup import (
    accounts_in,
    accounts_with_address,
    array_of_site,
    arrays_of_site,
    by_fqdn,
    databases_naming,
    databases_on,
    group_of,
    groups_of,
    members,
    servers_of_site,
    site_of,
    subnets_around,
    subnets_inside,
    subnets_of_site,
    told,
    usual_rpc_server,
    with_address,
    with_fqdn,
)
from casarray.core.directory.model import (
    Account,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Server,
    Site,
    Subnet,
    key,
)

CAS, BER = ORGANISATION.arrays["cas"], ORGANISATION.arrays["ber"]


def names(things: object) -> list[str]:
    assert isinstance(things, tuple | list)
    return [thing.name for thing in things]


# Members.


def test_members_are_the_client_access_servers_of_the_site_by_name() -> None:
    assert names(members(ORGANISATION, CAS)) == ["cas1", "cas2"]
    assert names(members(ORGANISATION, BER)) == ["ber1"]


def test_a_server_that_was_taken_out_is_no_member_and_stays_a_server() -> None:
    after = ORGANISATION.put(replace(ORGANISATION.servers["cas1"], rpc_client_access=None))
    assert names(members(after, CAS)) == ["cas2"]
    assert names(members(ORGANISATION, CAS)) == ["cas1", "cas2"]


def test_a_new_server_of_the_site_is_a_member_by_itself() -> None:
    after = ORGANISATION.put(Server("cas0", "cas0.domain.tld", "PADERBORN"))
    assert names(members(after, CAS)) == ["cas0", "cas1", "cas2"]


def test_an_array_may_have_no_members() -> None:
    array = Array("LEE", "lee.domain.tld", "Leer")
    assert members(ORGANISATION.put(array), array) == ()


# Names and addresses.


def test_what_has_an_fqdn_is_found_whatever_the_capital_letters() -> None:
    assert by_fqdn(ORGANISATION, "CAS.Domain.TLD") is CAS
    assert by_fqdn(ORGANISATION, "cas1.domain.tld") is ORGANISATION.servers["cas1"]
    assert by_fqdn(ORGANISATION, "cas") is None


def test_an_array_goes_before_a_server_that_has_its_name_too() -> None:
    after = ORGANISATION.put(Server("rival", "cas.domain.tld", "Ulm"))
    assert by_fqdn(after, "cas.domain.tld") is CAS
    assert names(with_fqdn(after, "cas.domain.tld")) == ["CAS", "rival"]


def test_an_address_is_found_at_arrays_and_servers() -> None:
    assert with_address(ORGANISATION, ip_address("10.11.0.100")) == (CAS,)
    assert names(with_address(ORGANISATION, ip_address("10.12.0.21"))) == ["cas1"]
    assert with_address(ORGANISATION, ip_address("::10.12.0.21")) == ()


def test_a_site_without_an_array_has_none() -> None:
    assert array_of_site(ORGANISATION, "Leer") is None
    assert array_of_site(ORGANISATION, "nowhere") is None
    assert array_of_site(ORGANISATION, "berlin") is BER


def test_two_arrays_of_one_site_are_both_seen() -> None:
    after = ORGANISATION.put(Array("CAS2", "cas2.tld", "paderborn"))
    assert names(arrays_of_site(after, "Paderborn")) == ["CAS", "CAS2"]


def test_a_group_is_found_by_its_server() -> None:
    assert group_of(ORGANISATION, "MBX1") is ORGANISATION.groups["dag1"]
    assert group_of(ORGANISATION, "mbx2") is None


def test_a_server_in_two_groups_is_seen_in_both() -> None:
    after = ORGANISATION.put(AvailabilityGroup("DAG2", ("ber1", "BER1")))
    assert names(groups_of(after, "ber1")) == ["DAG1", "DAG2"]


def test_what_stands_on_a_thing_is_found_by_it() -> None:
    assert names(databases_naming(ORGANISATION, "CAS.domain.tld")) == ["DB1", "DB2"]
    assert names(databases_on(ORGANISATION, "BER1")) == ["DB1"]
    assert names(accounts_in(ORGANISATION, "db1")) == ["alice"]
    assert names(accounts_with_address(ORGANISATION, "ALICE@domain.tld")) == ["alice"]
    assert accounts_with_address(ORGANISATION.put(Account("bob")), "") == ()
    aliased = ORGANISATION.put(Account("bob", "DB1", "bob@d.tld", aliases=("Info@d.tld", "INFO@d.tld")))
    assert names(accounts_with_address(aliased, "info@D.TLD")) == ["bob"]
    assert names(accounts_with_address(aliased.put(Account("eve", address="info@d.tld")), "info@d.tld")) == [
        "bob",
        "eve",
    ]
    assert names(servers_of_site(ORGANISATION, "ULM")) == ["ulm1", "ulm2"]
    assert names(subnets_of_site(ORGANISATION, "berlin")) == ["10.20.0.0/16", "fd00:20::/32"]


# Addresses and sites.


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("10.1.2.3", "Paderborn"),
        ("10.19.255.255", "Paderborn"),
        ("10.20.0.0", "Berlin"),
        ("10.20.255.255", "Berlin"),
        ("10.21.0.0", "Paderborn"),
        ("11.0.0.0", None),
        ("fd00:1::1", "Paderborn"),
        ("fd00:20:ffff::1", "Berlin"),
        ("fd01::1", None),
        ("::ffff:10.20.0.1", None),
        ("fd00:20::1%eth0", "Berlin"),
    ],
)
def test_the_longest_subnet_says_the_site(address: str, site: str | None) -> None:
    assert site_of(ORGANISATION, ip_address(address)) == site


def test_the_empty_prefix_takes_what_is_left() -> None:
    after = ORGANISATION.put(subnet("0.0.0.0/0", "Ulm"))
    assert site_of(after, ip_address("192.0.2.1")) == "Ulm"
    assert site_of(after, ip_address("10.20.1.1")) == "Berlin"
    assert site_of(after, ip_address("2001:db8::1")) is None


def test_a_host_may_have_a_subnet_of_its_own() -> None:
    after = ORGANISATION.put(subnet("10.20.0.7/32", "Leer"))
    assert [site_of(after, ip_address(f"10.20.0.{n}")) for n in (6, 7, 8)] == ["Berlin", "Leer", "Berlin"]


def _network(number: int, length: int, six: bool) -> str:
    bits = 128 if six else 32
    length = min(length, bits)
    first = (number << (bits - 8)) | (0xA5 << (bits - 24))
    return str(ip_network((first >> (bits - length) << (bits - length), length)))


networks = st.builds(_network, st.integers(8, 15), st.sampled_from([0, 4, 6, 7, 8, 12, 24, 32, 48, 128]), st.booleans())


@given(st.lists(networks, max_size=12), networks)
def test_any_subnets_and_any_network_are_searched_like_one_by_one(known: list[str], wanted: str) -> None:
    directory = Directory().put(*(subnet(text, f"site {n}") for n, text in enumerate(known)))
    network = ip_network(wanted)

    def holds(outer: Subnet, inner: Subnet) -> bool:
        same = outer.network.version == inner.network.version
        return same and inner.network.subnet_of(outer.network)  # type: ignore[arg-type]  # one version, as it says

    one = Subnet(network, "")
    around = [other for other in directory.subnets.values() if holds(other, one)]
    inside = [other for other in directory.subnets.values() if holds(one, other) and other.network != network]
    assert list(subnets_around(directory, network)) == sorted(around, key=lambda s: -s.network.prefixlen)
    assert set(subnets_inside(directory, network)) == set(inside)
    longest = max((s for s in around), key=lambda s: s.network.prefixlen, default=None)
    whole = ip_network(network.network_address)
    if network == whole:
        assert site_of(directory, network.network_address) == (longest.site if longest else None)


# What a new database tells its clients.


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("mbx1", "cas.domain.tld"),  # the array of its site
        ("ber1", "outlook.berlin.domain.tld"),  # also if it has client access itself
        ("ulm1", "ulm2.domain.tld"),  # no array: a client-access server of the site
        ("ulm2", "ulm2.domain.tld"),
        ("leer1", "leer1.domain.tld"),  # nobody there: itself
    ],
)
def test_a_new_database_tells_the_array_of_its_site_else_a_server(server: str, expected: str) -> None:
    assert usual_rpc_server(ORGANISATION, ORGANISATION.servers[server]) == expected


def test_without_an_array_a_client_access_server_tells_itself() -> None:
    after = ORGANISATION.put(Server("ulm3", "ulm3.domain.tld", "Ulm"))
    assert usual_rpc_server(after, after.servers["ulm3"]) == "ulm3.domain.tld"


def test_a_server_that_was_taken_out_is_not_told_to_others() -> None:
    after = ORGANISATION.put(replace(ORGANISATION.servers["ulm2"], rpc_client_access=None))
    assert usual_rpc_server(after, after.servers["ulm1"]) == "ulm1.domain.tld"


# What clients are told after a switchover.


def moved(active: str, *, allowed: bool, named: str = "cas.domain.tld", group: bool = True) -> str:
    directory = ORGANISATION.put(
        AvailabilityGroup("DAG1", ("mbx1", "ber1", "leer1") if group else (), allowed),
        Array("BER", "outlook.berlin.domain.tld", "Berlin"),
    )
    copies = (Copy("mbx1", 1), Copy("ber1", 2), Copy("leer1", 3))
    return told(directory, Database("DB", active, copies, named))


@pytest.mark.parametrize(
    ("active", "allowed", "expected"),
    [
        ("mbx1", False, "cas.domain.tld"),  # at home
        ("mbx1", True, "cas.domain.tld"),
        ("ber1", False, "outlook.berlin.domain.tld"),  # moved: the array where it is mounted
        ("ber1", True, "cas.domain.tld"),  # moved and allowed: the array of the most preferred copy
        ("leer1", False, "cas.domain.tld"),  # a site without an array leaves what it names
        ("leer1", True, "cas.domain.tld"),
    ],
)
def test_allow_cross_site_decides_after_a_switchover(active: str, allowed: bool, expected: str) -> None:
    assert moved(active, allowed=allowed) == expected


def test_without_a_group_the_array_where_it_is_mounted_is_told() -> None:
    assert moved("ber1", allowed=True, group=False) == "outlook.berlin.domain.tld"


def test_a_server_of_the_right_site_that_is_named_stays_told() -> None:
    assert moved("mbx1", allowed=False, named="cas2.domain.tld") == "cas2.domain.tld"
    assert moved("ber1", allowed=False, named="cas2.domain.tld") == "outlook.berlin.domain.tld"


def test_a_name_that_is_gone_gives_way_to_the_array_of_the_site() -> None:
    assert moved("mbx1", allowed=False, named="gone.domain.tld") == "cas.domain.tld"
    assert moved("leer1", allowed=False, named="gone.domain.tld") == "gone.domain.tld"


def test_the_lowest_preference_counts_not_the_first_copy() -> None:
    directory = ORGANISATION.put(AvailabilityGroup("DAG1", ("mbx1", "ber1"), True))
    database = Database("DB", "mbx1", (Copy("mbx1", 2), Copy("ber1", 1)), "cas.domain.tld")
    assert told(directory, database) == "outlook.berlin.domain.tld"


def test_a_server_that_is_not_there_leaves_what_the_database_names() -> None:
    assert told(ORGANISATION, Database("DB", "nobody", (Copy("nobody"),), "x.domain.tld")) == "x.domain.tld"


def test_told_compares_names_whatever_the_capital_letters() -> None:
    directory = ORGANISATION.put(mailbox_server("MBX1", "PADERBORN"), Site("PADERBORN"))
    assert told(directory, Database("DB", "Mbx1", (Copy("mBX1"),), "CAS.domain.tld")) == "CAS.domain.tld"
    assert key("MBX1") in directory.servers
