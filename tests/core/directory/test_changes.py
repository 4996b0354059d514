"""Changes as values, and what holds of them whatever anybody does."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.directory.example import ORGANISATION, broken, subnet

from casarray.core.config import Network
from casarray.core.directory import edits
from casarray.core.directory.changes import Change, applied, as_json, difference, of_json, renamed, same, things
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
    RpcClientAccess,
    Server,
    Site,
    Subnet,
    Thing,
    key,
)
from casarray.core.directory.rules import check
from casarray.core.errors import Conflict, MovedOn, NotFound, WireError

# As people read them.


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (None, Site("Bonn"), "+ site Bonn"),
        (None, Site("Bonn", "at the Rhine"), "+ site Bonn: description at the Rhine"),
        (
            None,
            Array("CAS", "cas.domain.tld", "Bonn", (ip_address("10.0.0.1"), ip_address("fd00::1"))),
            "+ array CAS: fqdn cas.domain.tld, site Bonn, addresses 10.0.0.1, fd00::1",
        ),
        (Site("Bonn"), None, "- site Bonn"),
        (Site("Bonn", "x"), Site("Bonn"), "~ site Bonn: description: x -> none"),
        (Site("bonn"), Site("Bonn"), "~ site bonn: name: bonn -> Bonn"),
        (
            Server("s", "s.d.tld", "Bonn"),
            Server("s", "s.d.tld", "Bonn", rpc_client_access=None, public_folders=True),
            "~ server s: rpc_client_access: {name RpcClientAccess, encryption_required true, maximum_connections "
            "65536, blocked_client_versions none} -> none, public_folders: false -> true",
        ),
        (
            AvailabilityGroup("D", ("a", "b")),
            AvailabilityGroup("D", (), True),
            "~ group D: servers: a, b -> none, allow_cross_site_rpc_client_access: false -> true",
        ),
    ],
)
def test_a_change_reads_as_one_line(before: Thing | None, after: Thing | None, line: str) -> None:
    directory = Directory()
    (change,) = difference(directory.put(before) if before else directory, directory.put(after) if after else directory)
    assert str(change) == line


# The difference.


def test_a_directory_does_not_differ_from_itself_or_its_like() -> None:
    assert difference(ORGANISATION, ORGANISATION) == ()
    assert difference(ORGANISATION, Directory(ORGANISATION.organization).put(*ORGANISATION)) == ()


def test_another_identity_is_no_difference() -> None:
    after = ORGANISATION.put(*(replace(thing, guid="1234") for thing in ORGANISATION))
    assert difference(ORGANISATION, after) == ()
    assert same(ORGANISATION, after)


def test_another_organisation_is_not_the_same() -> None:
    assert not same(ORGANISATION, replace(ORGANISATION, organization="Fabrikam"))
    assert not same(ORGANISATION, replace(ORGANISATION, admin_group="First"))
    assert not same(ORGANISATION, ORGANISATION.put(Site("Bonn")))


def test_other_capital_letters_are_a_difference_and_a_rename() -> None:
    changes = difference(ORGANISATION, ORGANISATION.put(Site("BERLIN")))
    assert changes == (Change(Kind.SITE, "Berlin", Site("Berlin"), Site("BERLIN")),)
    assert renamed(changes)
    assert not renamed(difference(ORGANISATION, ORGANISATION.put(Site("Berlin", "x"))))


def test_things_are_what_the_changes_leave_of_a_kind() -> None:
    changes = difference(ORGANISATION, ORGANISATION.put(Site("BERLIN"), Site("Bonn")).without(Account("alice")))
    assert things(changes, Kind.SITE) == {"berlin": Site("BERLIN"), "bonn": Site("Bonn")}
    assert things(changes, Kind.ACCOUNT) == {}


# Carrying out.


def test_a_thing_that_somebody_else_changed_is_not_overwritten() -> None:
    changes = difference(ORGANISATION, edits.change(ORGANISATION, Kind.SERVER, "cas1", weight=200))
    meanwhile = edits.change(ORGANISATION, Kind.SERVER, "cas1", weight=50)
    with pytest.raises(MovedOn, match="the server cas1 was changed by somebody else meanwhile; look at it again"):
        applied(meanwhile, changes)


def test_a_thing_that_somebody_else_made_or_removed_is_not_overwritten() -> None:
    made = difference(ORGANISATION, ORGANISATION.put(Site("Bonn")))
    with pytest.raises(MovedOn, match="the site Bonn"):
        applied(ORGANISATION.put(Site("BONN", "another")), made)
    removed = difference(ORGANISATION, ORGANISATION.without(Account("alice")))
    with pytest.raises(MovedOn, match="the account alice"):
        applied(ORGANISATION.without(Account("alice")), removed)


# Whatever anybody does.


@dataclass(frozen=True)
class Known:
    """The name of something that is there when the edit is made."""

    kind: Kind
    number: int

    def name(self, directory: Directory) -> str:
        names = sorted(thing.name for thing in directory.of(self.kind).values())
        return names[self.number % len(names)] if names else "nothing"


def known(kind: Kind) -> st.SearchStrategy[Known]:
    return st.builds(Known, st.just(kind), st.integers(0, 50))


def resolved(value: Any, directory: Directory) -> Any:
    if isinstance(value, Known):
        return value.name(directory)
    if isinstance(value, list):
        return [resolved(item, directory) for item in value]
    return value


NAMES = [f"{word}{n}" for word in ("a", "B", "cas", "Mbx") for n in range(1, 4)]
NETWORKS = ["10.0.0.0/8", "10.20.0.0/16", "10.20.7.0/24", "192.168.0.0/16", "172.16.0.0/12", "fd00::/16", "fe00::/16"]
ADDRESSES = ["10.11.0.100", "10.12.0.21", "10.12.0.22", "fd00::1", "fd00::2"]

name = st.sampled_from(NAMES)
fqdn = st.builds("{}.{}".format, name, st.sampled_from(["domain.tld", "DOMAIN.tld"]))
site, server, array = known(Kind.SITE), known(Kind.SERVER), known(Kind.ARRAY)
database, group, subnets = known(Kind.DATABASE), known(Kind.GROUP), known(Kind.SUBNET)
addresses = st.lists(st.sampled_from(ADDRESSES).map(ip_address), max_size=2, unique=True).map(tuple)
roles = st.sampled_from([(CLIENT_ACCESS,), (MAILBOX,), (CLIENT_ACCESS, MAILBOX)])
networks = st.sampled_from(NETWORKS).map(ip_network)
holders = st.lists(server, min_size=1, max_size=3)

Edit = Callable[[Directory], Directory]


def _edit(
    does: Callable[..., Directory], /, *arguments: st.SearchStrategy[Any], **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[Edit]:
    """An edit with these arguments, and any of these fields."""

    def bound(given: tuple[Any, ...], named: dict[str, Any]) -> Edit:
        return lambda directory: does(
            directory,
            *(resolved(value, directory) for value in given),
            **{field: resolved(value, directory) for field, value in named.items()},
        )

    return st.builds(bound, st.tuples(*arguments), st.fixed_dictionaries({}, optional=fields))


def _new_account(directory: Directory, name: str, database: str) -> Directory:
    return edits.new(directory, Account(name, database))


def _new_subnet(directory: Directory, network: Network, site: str) -> Directory:
    return edits.new(directory, Subnet(network, site))


def _new_database(directory: Directory, name: str, holders: list[str], rpc_server: str = "") -> Directory:
    copies = [Copy(holder, n) for n, holder in enumerate(holders, 1)]
    return edits.new_database(directory, name, holders[0], copies, rpc_server)


def _set_copies(directory: Directory, database: str, holders: list[str]) -> Directory:
    copies = [Copy(holder, n) for n, holder in enumerate(holders, 1)]
    return edits.change(directory, Kind.DATABASE, database, copies=copies)


ANY_EDIT: st.SearchStrategy[Edit] = st.one_of(
    _edit(edits.new, st.builds(Site, name)),
    _edit(_new_subnet, networks, site),
    _edit(edits.new_array, name, fqdn, site, addresses=addresses),
    _edit(edits.new_server, name, fqdn, site, roles, addresses=addresses),
    _edit(edits.new_group, name, st.lists(server, max_size=2)),
    _edit(edits.new_database, name, server),
    _edit(_new_database, name, holders, rpc_server=st.one_of(fqdn, array)),
    _edit(_set_copies, database, holders),
    _edit(_new_account, name, database),
    _edit(edits.change, st.just(Kind.SITE), site, name=name, description=st.sampled_from(["", "x"])),
    _edit(edits.change, st.just(Kind.SUBNET), subnets, site=site, network=networks),
    _edit(edits.change, st.just(Kind.SERVER), server, name=name, fqdn=fqdn, weight=st.integers(0, 3)),
    _edit(edits.change, st.just(Kind.SERVER), server, site=site, roles=roles, addresses=addresses),
    _edit(edits.change, st.just(Kind.ARRAY), array, name=name, fqdn=fqdn, site=site, addresses=addresses),
    _edit(edits.change, st.just(Kind.DATABASE), database, name=name, rpc_client_access_server=array),
    _edit(edits.change, st.just(Kind.GROUP), group, name=name, allow_cross_site_rpc_client_access=st.booleans()),
    _edit(edits.change, st.just(Kind.ACCOUNT), known(Kind.ACCOUNT), name=name, database=database),
    _edit(edits.set_group_servers, group, st.lists(server, max_size=2)),
    _edit(edits.move_active_database, database, server),
    _edit(edits.remove_rpc_client_access, server),
    _edit(edits.new_rpc_client_access, server),
    *(_edit(edits.remove, st.just(kind), known(kind)) for kind in Kind),
)
STEPS = st.lists(ANY_EDIT, min_size=5, max_size=40)


def attempted(directory: Directory, edit: Edit) -> tuple[Directory, tuple[Change, ...]]:
    """The directory after an edit and what it changed; as it was, if it was refused."""
    try:
        after = edit(directory)
        changes = difference(directory, after)
        check(directory, after, changes)
    except (Conflict, NotFound):
        return directory, ()
    return after, changes


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_nothing_that_is_accepted_breaks_the_directory(steps: list[Edit]) -> None:
    directory = ORGANISATION
    for step in steps:
        was = directory
        directory, changes = attempted(was, step)
        assert broken(directory) == []
        assert same(applied(was, changes), directory)


def wanted(steps: list[Edit]) -> Directory:
    directory = ORGANISATION
    for step in steps:
        directory, _ = attempted(directory, step)
    return directory


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_difference_that_was_cut_anywhere_is_planned_again_and_arrives(steps: list[Edit]) -> None:
    after = wanted(steps)
    changes = difference(ORGANISATION, after)
    assert same(applied(ORGANISATION, changes), after)
    for cut in range(len(changes)):
        half_way = applied(ORGANISATION, changes[:cut])
        rest = difference(half_way, after)
        assert rest == changes[cut:], "what is done is not done again"
        assert same(applied(half_way, rest), after)


def left_dangling(directory: Directory) -> list[str]:
    """Who refers to something that is not there; what clients are told may be missing for a moment."""
    found = [line for line in broken(directory) if "is in the site" in line]
    servers = directory.servers
    for database in directory.databases.values():
        found += [f"{database.name} on {c.server}" for c in database.copies if key(c.server) not in servers]
    for group in directory.groups.values():
        found += [f"{group.name} with {name}" for name in group.servers if key(name) not in servers]
    accounts = directory.accounts.values()
    return found + [f"{a.name} in {a.database}" for a in accounts if key(a.database) not in directory.databases]


def carried_out_one_by_one(before: Directory, after: Directory) -> None:
    directory = before
    for change in difference(before, after):
        directory = applied(directory, [change])
        assert left_dangling(directory) == [], str(change)
    assert same(directory, after)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_changes_can_be_carried_out_one_by_one(steps: list[Edit]) -> None:
    carried_out_one_by_one(ORGANISATION, wanted(steps))


def test_everything_can_be_made_and_removed_one_by_one() -> None:
    nothing = Directory(ORGANISATION.organization)
    carried_out_one_by_one(nothing, ORGANISATION)
    carried_out_one_by_one(ORGANISATION, nothing)


# As JSON.


def test_everything_is_itself_again_after_json() -> None:
    for thing in ORGANISATION:
        text = json.dumps(as_json(thing))
        assert of_json(thing.KIND, json.loads(text)) == thing
    assert as_json(None) is None


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_whatever_was_accepted_is_itself_again_after_json(steps: list[Edit]) -> None:
    after = wanted(steps)
    read = Directory(after.organization, after.admin_group).put(
        *(of_json(thing.KIND, json.loads(json.dumps(as_json(thing)))) for thing in after)
    )
    assert same(read, after)


def test_every_field_of_every_kind_survives_json() -> None:
    for thing in (
        Site("Bonn", "am Rhein ☕", "guid-1"),
        Subnet(ip_network("fd00::/16"), "Bonn", "guid-2"),
        Server(
            "s",
            "s.d.tld",
            "Bonn",
            (CLIENT_ACCESS, MAILBOX),
            RpcClientAccess("Rpc", False, 7, "1-2"),
            (ip_address("10.0.0.1"), ip_address("fe80::1")),
            7,
            True,
            "guid-3",
        ),
        Server("s", "s.d.tld", "Bonn", (MAILBOX,), None),
        Array("A", "a.d.tld", "Bonn", (), {"service": [{"name": "app", "port": 1}], "panic": True, "f": 1.5}, "guid-4"),
        AvailabilityGroup("D", ("s", "t"), True, "guid-5"),
        Database("DB", "s", (Copy("s", 1), Copy("t", 2)), "a.d.tld", "guid-6"),
        Account("alice", "DB", "a@d.tld", "Alice", ("b@d.tld",), "/o=O/cn=alice", "guid-8", "guid-7"),
    ):
        read = of_json(thing.KIND, json.loads(json.dumps(as_json(thing))))
        assert (read, read.guid) == (thing, thing.guid)


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (Kind.SITE, None, "Site: dict expected"),
        (Kind.SITE, [], "Site: dict expected"),
        (Kind.SITE, {}, "Site.name is missing"),
        (Kind.SITE, {"name": 7}, "Site.name: str expected"),
        (Kind.SUBNET, {"network": "10.0.0.1/8", "site": "x"}, "Subnet.network: 10.0.0.1/8 has host bits set"),
        (Kind.SUBNET, {"network": 10, "site": "x"}, "Subnet.network: str expected"),
        (Kind.SERVER, {"name": "s", "fqdn": "s", "site": "x", "weight": True}, "Server.weight: int expected"),
        (
            Kind.SERVER,
            {"name": "s", "fqdn": "s", "site": "x", "rpc_client_access": {"maximum_connections": "7"}},
            "Server.rpc_client_access.maximum_connections: int expected",
        ),
        (
            Kind.SERVER,
            {"name": "s", "fqdn": "s", "site": "x", "addresses": ["10.0.0.1", "10.0.0"]},
            "Server.addresses: ",
        ),
        (
            Kind.DATABASE,
            {"name": "D", "active_server": "s", "rpc_client_access_server": ""},
            "Database.copies is missing",
        ),
    ],
)
def test_what_is_not_of_the_kind_is_a_wire_error_that_says_where(kind: Kind, data: object, text: str) -> None:
    with pytest.raises(WireError) as caught:
        of_json(kind, data)
    assert str(caught.value).startswith(f"json: {text}")


def test_the_words_of_a_subnet_are_its_network() -> None:
    assert as_json(subnet("10.0.0.0/8", "Bonn")) == {"network": "10.0.0.0/8", "site": "Bonn", "guid": ""}
