"""What a directory must keep to: every refusal with its text, and nothing changed by it."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from tests.core.directory.example import ORGANISATION, broken, mailbox_server, subnet

from casarray.core.directory import edits
from casarray.core.directory.changes import difference, same
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Account,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    Organization,
    RpcClientAccess,
    Server,
    Site,
    Thing,
)
from casarray.core.directory.rules import check, find, missing
from casarray.core.errors import CasarrayError, Conflict, NotFound

ORG = ORGANISATION
CAS1, MBX1 = ORG.servers["cas1"], ORG.servers["mbx1"]
DB1 = ORG.databases["db1"]

Edit = Callable[[Directory], Directory]


def put(*things: Thing) -> Edit:
    return lambda directory: directory.put(*things)


def gone(*things: Thing) -> Edit:
    return lambda directory: directory.without(*things)


def refusal(edit: Edit, *, force: bool = False, before: Directory = ORGANISATION) -> str:
    """The sentence with which the change is refused, empty if it is not."""
    was = Directory().put(*before)
    try:
        after = edit(before)
        check(before, after, difference(before, after), force=force)
    except CasarrayError as error:
        assert same(Directory(before.organization).put(*was), before), "a refused change has changed something"
        return str(error)
    if not force and before is ORGANISATION:
        assert broken(after) == []
    return ""


def test_what_may_be_made_is_made() -> None:
    for thing in (
        Site("Bonn"),
        subnet("172.16.0.0/12", "ulm"),
        subnet("fe00::/16", "Leer"),
        Server("cas9", "cas9.domain.tld", "LEER"),
        Array("LEE", "lee.domain.tld", "Leer"),
        Array("ULM", "ulm.domain.tld", "Ulm", (ip_address("10.11.0.101"), ip_address("fd00::101"))),
        AvailabilityGroup("DAG2"),
        AvailabilityGroup("DAG2", ("mbx2", "ULM1")),
        Database("DB9", "Mbx2", (Copy("mbX2"),), "CAS.domain.tld"),
        Database("DB9", "leer1", (Copy("leer1"),), "leer1.domain.tld"),
        Account("bob"),
        Account("bob", "dB2"),
    ):
        assert refusal(put(thing)) == "", thing


# Never, whoever forces it.

NEVER = {
    "a site needs a name": (put(Site("")), 'site: "" cannot be a name; write a name of 1 to 64 characters'),
    "a site's name has no slash": (put(Site("a/b")), "without quotes, slashes and outer blanks"),
    "a site's name has an end": (put(Site("x" * 65)), "1 to 64 characters"),
    "an array's name has no quote": (put(Array('C"', "c.domain.tld", "Ulm")), "cannot be a name"),
    "a database's name is printable": (put(replace(DB1, name="DB\n9")), "cannot be a name"),
    "a group's name has no outer blanks": (put(AvailabilityGroup(" DAG")), "cannot be a name"),
    "an account's name has no outer blanks": (put(Account("bob ")), "cannot be a name"),
    "a server's name is needed": (put(replace(CAS1, name="", fqdn="x.domain.tld", addresses=())), "cannot be a name"),
    "an FQDN has a domain": (put(Array("X", "cas", "Ulm")), 'array: "cas" has no domain; write a full host name'),
    "an FQDN is a host name": (put(Array("X", "c as.domain.tld", "Ulm")), "is not a host name"),
    "an FQDN has no dot at its end": (
        put(Array("X", "c.domain.tld.", "Ulm")),
        'without the dot at its end: "c.domain.tld"',
    ),
    "an FQDN is no address": (put(Array("X", "10.1.1.1", "Ulm")), "is an address, not a name"),
    "a server's FQDN is a host name": (put(replace(CAS1, fqdn="cas_1..tld")), "server: "),
    "an FQDN is that of one thing": (
        put(Array("X", "CAS1.domain.tld", "Ulm")),
        "CAS1.domain.tld is the name of the server cas1 already; choose another FQDN",
    ),
    "an FQDN is not an array's too": (
        put(Server("cas9", "cas.domain.tld", "Ulm")),
        "cas.domain.tld is the name of the array CAS already; choose another FQDN",
    ),
    "an array's site is there": (
        put(Array("X", "x.domain.tld", "Paderbron")),
        'there is no site "Paderbron"; did you mean "Paderborn"?',
    ),
    "a server's site is there": (put(replace(CAS1, site="Bonn")), 'there is no site "Bonn"'),
    "a subnet's site is there": (put(subnet("192.168.0.0/16", "Bonn")), 'there is no site "Bonn"'),
    "a site has one array": (
        put(Array("CAS2", "cas2.tld", "paderborn")),
        "the site paderborn has the array CAS (cas.domain.tld) already, and a site has one: use that, remove it, or "
        "name another site",
    ),
    "an array's settings are keys of the file": (
        put(Array("X", "x.domain.tld", "Ulm", (), {"afinity_timeout": "1h"})),
        'the array X: settings.afinity_timeout: unknown key; did you mean "affinity_timeout"?',
    ),
    "an array's settings do not repeat its fields": (
        put(Array("X", "x.domain.tld", "Ulm", (), {"fqdn": "y.domain.tld"})),
        "the array X: settings.fqdn is a field of the array itself",
    ),
    "an organisation has a name": (put(Organization("a/b")), 'organization: "a/b" cannot be a name'),
    "an array does not move to a site that has one": (
        put(replace(ORG.arrays["ber"], site="Paderborn")),
        "the site Paderborn has the array CAS (cas.domain.tld) already",
    ),
    "two new arrays do not share a site": (
        put(Array("A", "a.domain.tld", "Ulm"), Array("B", "b.domain.tld", "Ulm")),
        "the site Ulm has the array",
    ),
    "an address is that of one thing": (
        put(replace(ORG.servers["cas2"], addresses=(ip_address("10.11.0.100"),))),
        "10.11.0.100 is the address of the array CAS already",
    ),
    "an array's address is not a server's": (
        put(replace(ORG.arrays["ber"], addresses=(ip_address("10.12.0.21"),))),
        "10.12.0.21 is the address of the server cas1 already",
    ),
    "a server has a role": (
        put(replace(CAS1, roles=())),
        "the server cas1 would have no role; give it client-access, mailbox or both",
    ),
    "a role is a known one": (
        put(replace(CAS1, roles=(CLIENT_ACCESS, "edge"))),
        "the server cas1: edge is no role; roles are client-access and mailbox",
    ),
    "a weight is not zero": (
        put(replace(CAS1, weight=0)),
        "its weight cannot be 0; write a number between 1 and 10000",
    ),
    "a weight is not below zero": (put(replace(CAS1, weight=-5)), "its weight cannot be -5"),
    "a weight has an end": (put(replace(CAS1, weight=10001)), "its weight cannot be 10001"),
    "connections are one at least": (
        put(replace(CAS1, rpc_client_access=RpcClientAccess(maximum_connections=0))),
        "the server cas1: its RPC client access cannot have 0 maximum connections; write a number between 1 and 65536",
    ),
    "blocked versions have an end": (
        put(replace(CAS1, rpc_client_access=RpcClientAccess(blocked_client_versions="1" * 256))),
        "its blocked client versions are longer than 255 characters",
    ),
    "a server in a group keeps its mailbox role": (
        put(replace(ORG.servers["ber1"], roles=(CLIENT_ACCESS,))),
        "the server ber1 still needs its mailbox role: the database DB1 has a copy on it, it is in the availability "
        "group DAG1; remove or move these first",
    ),
    "a group's server is there": (
        put(AvailabilityGroup("D", ("mbx9",))),
        'there is no server "mbx9"; did you mean "mbx',
    ),
    "a group's server has mailboxes": (
        put(AvailabilityGroup("D", ("cas1",))),
        "the server cas1 has no mailbox role, so it cannot be in the availability group",
    ),
    "a server is in one group": (
        put(AvailabilityGroup("D", ("MBX1",))),
        "the server MBX1 is in the availability group DAG1 already: take it out there first",
    ),
    "a server is in one of two new groups": (
        put(AvailabilityGroup("D", ("mbx2",)), AvailabilityGroup("E", ("mbx2",))),
        "the server mbx2 is in the availability group",
    ),
    "a database has a copy": (
        put(replace(DB1, copies=())),
        "the database DB1 would have no copy; name the server it is on",
    ),
    "preferences differ": (
        put(replace(DB1, copies=(Copy("mbx1", 1), Copy("ber1", 1)))),
        "two copies of the database DB1 have the same activation preference",
    ),
    "preferences begin with one": (
        put(replace(DB1, copies=(Copy("mbx1", 0), Copy("ber1", 1)))),
        "a copy of the database DB1 has the activation preference 0; the first is 1",
    ),
    "a server has one copy": (
        put(replace(DB1, copies=(Copy("mbx1", 1), Copy("MBX1", 2)))),
        "the database DB1 would have two copies on one server; name each server once",
    ),
    "a copy's server is there": (put(replace(DB1, copies=(Copy("mbx1", 1), Copy("x", 2)))), 'there is no server "x"'),
    "a copy's server has mailboxes": (
        put(replace(DB1, copies=(Copy("mbx1", 1), Copy("cas1", 2)))),
        "the server cas1 has no mailbox role, so it cannot hold the database DB1",
    ),
    "a database is active where it has a copy": (
        put(replace(DB1, active_server="mbx2")),
        "the database DB1 has no copy on mbx2; its copies are on mbx1, ber1",
    ),
    "an account's database is there": (put(Account("bob", "DB3")), 'there is no database "DB3"; did you mean "DB2" or'),
    "a site with things in it stays": (
        gone(ORG.sites["ulm"]),
        "the site Ulm is still needed: the server ulm1 is in it, the server ulm2 is in it; remove or move these first",
    ),
    "a site with an array and subnets stays": (
        gone(ORG.sites["berlin"]),
        "the site Berlin is still needed: the array BER is in it, the server ber1 is in it, the subnet 10.20.0.0/16 is "
        "in it, the subnet fd00:20::/32 is in it",
    ),
    "a server with copies stays": (
        gone(MBX1),
        "the server mbx1 is still needed: the database DB1 has a copy on it, it is in the availability group DAG1",
    ),
    "a database with mailboxes stays": (
        gone(DB1),
        "the database DB1 is still needed: the mailbox of alice is in it; remove or move these first",
    ),
}


@pytest.mark.parametrize("what", NEVER)
@pytest.mark.parametrize("force", [False, True], ids=["asked", "forced"])
def test_it_is_refused_and_force_does_not_help(what: str, force: bool) -> None:
    edit, text = NEVER[what]
    assert text in refusal(edit, force=force)


# Unless it is forced.

FQDN_GONE = (
    "clients of 2 databases would be told a name that is gone (cas.domain.tld): DB1, DB2; give them another "
    "RpcClientAccessServer first, or force it (Outlook keeps the old name in its profiles until they are repaired)"
)
DB3 = Database("DB3", "leer1", (Copy("leer1"),), "ulm2.domain.tld")

UNLESS_FORCED = {
    "an array that databases name stays": (gone(ORG.arrays["cas"]), f"array CAS: {FQDN_GONE}"),
    "an array that databases name keeps its FQDN": (
        put(replace(ORG.arrays["cas"], fqdn="new.domain.tld")),
        f"array CAS: {FQDN_GONE}",
    ),
    "a database tells a name that is there": (
        put(replace(DB1, rpc_client_access_server="x.domain.tld")),
        'clients of the database DB1 would be told "x.domain.tld", and no array or server has that name; name one that '
        "is there, or force it",
    ),
    "a new database tells a name that is there": (
        put(replace(DB1, name="DB9", rpc_client_access_server="")),
        'clients of the database DB9 would be told "", and no array or server has that name',
    ),
    "a subnet within one of its own site is for nothing": (
        put(subnet("10.30.0.0/16", "PADERBORN")),
        "10.30.0.0/16 lies within 10.0.0.0/8, which belongs to the site Paderborn already: nothing to do; if a subnet "
        "of its own is meant, force it",
    ),
    "a subnet within another site's overlaps": (
        put(subnet("10.20.7.0/24", "Ulm")),
        "10.20.7.0/24 overlaps 10.20.0.0/16 of the site Berlin: clients in it would belong to Ulm instead, since the "
        "longest subnet counts; if that is meant, force it",
    ),
    "a subnet around another site's overlaps": (
        put(subnet("0.0.0.0/0", "Berlin")),
        "0.0.0.0/0 overlaps 10.0.0.0/8 of the site Paderborn, which would stay there, since the longest subnet counts",
    ),
    "a v6 subnet overlaps as well": (put(subnet("fd00:20:1::/48", "Ulm")), "fd00:20:1::/48 overlaps fd00:20::/32"),
}


@pytest.mark.parametrize("what", UNLESS_FORCED)
def test_it_is_refused_unless_forced(what: str) -> None:
    edit, text = UNLESS_FORCED[what]
    assert text in refusal(edit)
    assert refusal(edit, force=True) == ""


def test_a_server_that_holds_databases_without_the_role_can_be_changed_all_the_same() -> None:
    odd = ORGANISATION.put(replace(MBX1, roles=(CLIENT_ACCESS,)))  # as other tools may have left it
    assert refusal(lambda d: d.put(replace(d.servers["mbx1"], weight=7)), before=odd) == ""
    assert "still needs its mailbox role" in refusal(put(replace(MBX1, roles=(CLIENT_ACCESS,))))


def test_an_organisation_in_use_keeps_its_name_unless_forced() -> None:
    renamed = put(Organization("Fabrikam"))
    assert "legacyExchangeDN" in refusal(renamed)
    check(ORGANISATION, renamed(ORGANISATION), difference(ORGANISATION, renamed(ORGANISATION)), force=True)


def test_a_server_that_databases_name_stays_and_keeps_name_and_role() -> None:
    before = ORGANISATION.put(DB3)
    ulm2 = before.servers["ulm2"]
    told = "clients of 1 database would be told"
    assert f"server ulm2: {told} a name that is gone (ulm2.domain.tld): DB3; give it" in refusal(
        gone(ulm2), before=before
    )
    assert f"{told} a name that is gone" in refusal(put(replace(ulm2, fqdn="x.domain.tld")), before=before)
    lost = put(replace(ulm2, roles=(MAILBOX,), rpc_client_access=None))
    assert f"{told} a server without client access (ulm2.domain.tld): DB3" in refusal(lost, before=before)
    for edit in (gone(ulm2), lost):
        assert refusal(edit, before=before, force=True) == ""


def test_taking_a_server_out_of_its_array_is_not_refused() -> None:
    assert refusal(put(replace(CAS1, rpc_client_access=None))) == ""


def test_ten_of_many_databases_are_named() -> None:
    many = [Database(f"D{n:02}", "mbx1", (Copy("mbx1"),), "outlook.berlin.domain.tld") for n in range(25)]
    text = refusal(gone(ORGANISATION.arrays["ber"]), before=ORGANISATION.put(*many))
    assert "clients of 25 databases" in text
    assert "D08, D09 and 15 more;" in text


def test_an_array_may_go_together_with_what_names_it() -> None:
    databases = [replace(d, rpc_client_access_server="cas1.domain.tld") for d in ORGANISATION.databases.values()]
    assert refusal(lambda d: d.put(*databases).without(ORGANISATION.arrays["cas"])) == ""


def test_another_array_may_take_over_the_name() -> None:
    assert refusal(lambda d: d.without(d.arrays["cas"]).put(Array("NEW", "cas.domain.tld", "Paderborn"))) == ""


def test_an_fqdn_may_change_in_its_capital_letters() -> None:
    assert refusal(put(replace(ORGANISATION.arrays["cas"], fqdn="CAS.domain.tld"))) == ""


def test_two_arrays_may_change_places() -> None:
    cas, ber = ORGANISATION.arrays["cas"], ORGANISATION.arrays["ber"]
    assert refusal(put(replace(cas, site="Berlin"), replace(ber, site="Paderborn"))) == ""


def test_two_servers_may_change_addresses_at_once() -> None:
    cas2 = ORGANISATION.servers["cas2"]
    assert refusal(put(replace(CAS1, addresses=()), replace(cas2, addresses=CAS1.addresses))) == ""


def test_a_database_whose_name_was_forced_away_can_still_be_moved() -> None:
    before = ORGANISATION.without(ORGANISATION.arrays["cas"])
    assert refusal(lambda d: edits.move_active_database(d, "DB1", "ber1"), before=before) == ""


def test_what_is_broken_already_does_not_hinder_other_changes() -> None:
    before = ORGANISATION.put(Array("CAS2", "cas2.tld", "Paderborn"), Account("bob", "nowhere"))
    assert refusal(put(replace(ORGANISATION.arrays["ber"], addresses=(ip_address("10.20.0.1"),))), before=before) == ""
    assert refusal(gone(Array("CAS2", "cas2.tld", "Paderborn")), before=before) == ""


# Subnets that overlap and are meant.


def test_a_site_can_be_renamed_although_its_subnets_overlap() -> None:
    for site in ("Paderborn", "Berlin"):
        assert refusal(lambda d, site=site: edits.change(d, Kind.SITE, site, name="Bonn")) == ""  # type: ignore[misc]  # mypy takes a lambda's default for an argument


def test_a_site_with_a_subnet_within_its_own_can_be_renamed() -> None:
    before = ORGANISATION.put(subnet("10.30.0.0/16", "Paderborn"))
    assert refusal(lambda d: edits.change(d, Kind.SITE, "Paderborn", name="Bonn"), before=before) == ""


def test_a_subnet_that_overlaps_may_move_to_a_third_site() -> None:
    assert refusal(put(subnet("10.20.0.0/16", "Ulm"))) == ""


def test_a_subnet_may_take_in_those_of_its_own_site() -> None:
    before = ORGANISATION.without(subnet("10.0.0.0/8", ""))
    assert refusal(put(subnet("10.16.0.0/12", "Berlin")), before=before) == ""


def test_the_nearest_subnet_around_counts() -> None:
    # Within 10.0.0.0/8 of Paderborn, but Berlin's is nearer: it changes something, and that has to be meant.
    assert "overlaps 10.20.0.0/16 of the site Berlin" in refusal(put(subnet("10.20.7.0/24", "Paderborn")))


def test_networks_of_two_versions_never_overlap() -> None:
    assert refusal(put(subnet("::/8", "Ulm"))) == ""


# Names that are not there.


def test_the_nearest_names_are_offered() -> None:
    with pytest.raises(NotFound, match=r'^there is no server "cas3"; did you mean "cas2" or "cas1"\?$'):
        find(ORGANISATION, Kind.SERVER, "cas3")


def test_without_a_near_name_some_are_listed() -> None:
    assert missing("site", "Wien", ["B", "A"]) == 'there is no site "Wien"; there are A, B'
    assert missing("site", "Wien", ["A"]) == 'there is no site "Wien"; there is A'
    assert missing("site", "Wien", map(str, range(7))) == 'there is no site "Wien"; there are 0, 1, 2, 3, 4 and 2 more'
    assert missing("site", "Wien", []) == 'there is no site "Wien": there is none at all yet'


def test_a_refused_removal_of_a_server_names_ten_databases_at_most() -> None:
    many = [Database(f"D{n:02}", "mbx2", (Copy("mbx2"),), "cas.domain.tld") for n in range(12)]
    with pytest.raises(Conflict, match=r"and 3 more; remove or move these first$"):
        check(
            ORGANISATION.put(*many),
            ORGANISATION.put(*many).without(mailbox_server("mbx2", "")),
            difference(ORGANISATION.put(*many), ORGANISATION.put(*many).without(mailbox_server("mbx2", ""))),
        )


# Where a rule ends.


def test_255_characters_of_blocked_versions_are_accepted() -> None:
    access = RpcClientAccess(blocked_client_versions="1" * 255)
    assert refusal(put(replace(CAS1, rpc_client_access=access))) == ""


def test_the_largest_and_the_smallest_numbers_are_accepted() -> None:
    for weight, connections in ((1, 1), (10000, 65536)):
        access = RpcClientAccess(maximum_connections=connections)
        assert refusal(put(replace(CAS1, weight=weight, rpc_client_access=access))) == ""


def test_a_server_that_databases_name_may_change_otherwise() -> None:
    before = ORGANISATION.put(DB3)
    assert refusal(put(replace(before.servers["ulm2"], weight=7)), before=before) == ""


def test_an_array_called_like_a_server_does_not_share_its_fqdn() -> None:
    array = Array("cas1", "cas1.domain.tld", "Ulm")
    assert "cas1.domain.tld is the name of the server cas1 already" in refusal(put(array))


def test_ten_databases_are_all_named() -> None:
    ten = [Database(f"D{n}", "mbx1", (Copy("mbx1"),), "outlook.berlin.domain.tld") for n in range(10)]
    text = refusal(gone(ORGANISATION.arrays["ber"]), before=ORGANISATION.put(*ten))
    assert "D8, D9; give them another" in text


def test_an_account_called_like_a_database_hinders_nobody() -> None:
    before = ORGANISATION.put(Account("DB1", "DB2"))
    assert refusal(gone(Account("DB1")), before=before) == ""
    assert refusal(gone(AvailabilityGroup("DAG1")), before=ORGANISATION.put(AvailabilityGroup("DB1"))) == ""


def test_a_host_at_the_end_of_a_subnet_overlaps_it() -> None:
    before = ORGANISATION.put(subnet("192.168.0.255/32", "Ulm"))
    assert "overlaps 192.168.0.255/32 of the site Ulm" in refusal(put(subnet("192.168.0.0/24", "Leer")), before=before)
