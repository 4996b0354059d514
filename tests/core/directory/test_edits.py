"""What administrators do to a directory."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from tests.core.directory.example import ORGANISATION, broken, changes_of, subnet

from casarray.core.directory import edits
from casarray.core.directory.changes import Change
from casarray.core.directory.lookup import members
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    RpcClientAccess,
    Server,
    Site,
)
from casarray.core.directory.rules import check
from casarray.core.errors import Conflict, NotFound


def accepted(after: Directory, before: Directory = ORGANISATION) -> tuple[Change, ...]:
    """What changed, when the rules have nothing against it."""
    changes = changes_of(after, before)
    check(before, after, changes)
    assert broken(after) == []
    return changes


def member_names(directory: Directory, array: str = "cas") -> list[str]:
    return [server.name for server in members(directory, directory.arrays[array])]


# Making.


@pytest.mark.parametrize("thing", list(ORGANISATION), ids=lambda thing: f"{thing.KIND}-{thing.name}")
def test_what_is_there_cannot_be_made_again(thing: Site) -> None:
    with pytest.raises(Conflict, match=f"{thing.KIND} {thing.name} (already|is there already)"):
        edits.new(ORGANISATION, thing)


def test_a_name_in_other_capital_letters_is_the_same_name() -> None:
    with pytest.raises(Conflict, match=r"^there is a site Paderborn already$"):
        edits.new(ORGANISATION, Site("PADERBORN"))


def test_a_subnet_that_is_there_says_whose_it_is() -> None:
    with pytest.raises(Conflict, match=r"^the subnet 10.20.0.0/16 is there already: it belongs to the site Berlin$"):
        edits.new(ORGANISATION, subnet("10.20.0.0/16", "Ulm"))


def test_a_new_array_writes_its_site_as_the_site_does() -> None:
    after = edits.new_array(ORGANISATION, "ULM", "ulm.domain.tld", "uLM", addresses=(ip_address("10.1.1.1"),))
    assert after.arrays["ulm"] == Array("ULM", "ulm.domain.tld", "Ulm", (ip_address("10.1.1.1"),))
    accepted(after)


def test_an_array_can_be_made_for_a_site_with_a_single_server() -> None:
    after = edits.new_array(ORGANISATION, "ULM", "ulm.domain.tld", "Ulm")
    accepted(after)
    assert member_names(after, "ulm") == ["ulm2"]


def test_a_new_array_needs_a_site_that_is_there() -> None:
    with pytest.raises(NotFound, match='there is no site "Bonn"; there are Berlin, Leer, Paderborn, Ulm'):
        edits.new_array(ORGANISATION, "BN", "bn.domain.tld", "Bonn")


def test_a_new_client_access_server_is_a_member_by_itself() -> None:
    after = edits.new_server(ORGANISATION, "cas3", "cas3.domain.tld", "paderborn")
    accepted(after)
    assert member_names(after) == ["cas1", "cas2", "cas3"]


def test_a_new_mailbox_server_is_none() -> None:
    after = edits.new_server(ORGANISATION, "mbx3", "mbx3.domain.tld", "Paderborn", [MAILBOX])
    assert after.servers["mbx3"].rpc_client_access is None
    assert member_names(after) == ["cas1", "cas2"]


def test_roles_are_kept_in_one_order() -> None:
    after = edits.new_server(ORGANISATION, "x", "x.domain.tld", "Ulm", [MAILBOX, CLIENT_ACCESS])
    assert after.servers["x"].roles == (CLIENT_ACCESS, MAILBOX)


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("MBX1", "cas.domain.tld"),
        ("ber1", "outlook.berlin.domain.tld"),
        ("ulm1", "ulm2.domain.tld"),
        ("leer1", "leer1.domain.tld"),
    ],
)
def test_a_new_database_takes_the_array_of_its_site_by_itself(server: str, told: str) -> None:
    after = edits.new_database(ORGANISATION, "DB9", server)
    accepted(after)
    home = after.servers[server.lower()].name
    assert after.databases["db9"] == Database("DB9", home, (Copy(home),), told)


def test_a_new_database_may_name_another_array_by_its_name() -> None:
    after = edits.new_database(ORGANISATION, "DB9", "mbx1", rpc_client_access_server="ber")
    assert after.databases["db9"].rpc_client_access_server == "outlook.berlin.domain.tld"


def test_copies_come_in_the_order_of_their_preference() -> None:
    after = edits.new_database(ORGANISATION, "DB9", "mbx1", [Copy("ber1", 2), Copy("mbx1", 1)])
    assert [copy.server for copy in after.databases["db9"].copies] == ["mbx1", "ber1"]
    accepted(after)


def test_a_new_database_needs_its_server() -> None:
    with pytest.raises(NotFound, match=r'there is no server "mbx9"; did you mean "mbx'):
        edits.new_database(ORGANISATION, "DB9", "mbx9")


def test_databases_made_before_their_array_keep_what_they_tell() -> None:
    before = edits.new_database(ORGANISATION, "DB9", "ulm1")
    after = edits.new_array(before, "ULM", "ulm.domain.tld", "Ulm")
    assert after.databases["db9"].rpc_client_access_server == "ulm2.domain.tld"


# Whom a database names.


@pytest.mark.parametrize("text", ["cas.domain.tld", "CAS.DOMAIN.TLD", "CAS", "cas"])
def test_an_array_is_named_by_its_fqdn_or_name(text: str) -> None:
    assert edits.rpc_server(ORGANISATION, text) == "cas.domain.tld"


def test_a_client_access_server_is_named_by_its_fqdn_or_name() -> None:
    assert edits.rpc_server(ORGANISATION, "CAS2") == "cas2.domain.tld"
    assert edits.rpc_server(ORGANISATION, "cas2.domain.tld") == "cas2.domain.tld"


def test_a_mailbox_server_cannot_be_named() -> None:
    with pytest.raises(Conflict, match="the server mbx1 has no client-access role: name an array or a client-access"):
        edits.rpc_server(ORGANISATION, "mbx1")


def test_a_name_that_is_not_there_gets_the_nearest_that_can_be_named() -> None:
    with pytest.raises(NotFound, match="did you mean .*cas.domain.tld"):
        edits.rpc_server(ORGANISATION, "csa.domain.tld")
    with pytest.raises(NotFound) as caught:
        edits.rpc_server(ORGANISATION, "mbx9.domain.tld")
    assert "mbx1" not in str(caught.value)


# Changing.


def test_a_change_of_one_field_is_one_change() -> None:
    changes = accepted(edits.change(ORGANISATION, Kind.SERVER, "CAS1", weight=200))
    assert [str(change) for change in changes] == ["~ server cas1: weight: 100 -> 200"]


def test_a_change_to_what_is_there_is_none() -> None:
    assert accepted(edits.change(ORGANISATION, Kind.SERVER, "CAS1", weight=100)) == ()


def test_what_is_not_there_cannot_be_changed_or_removed() -> None:
    with pytest.raises(NotFound, match='there is no array "CSA"; did you mean "CAS"'):
        edits.change(ORGANISATION, Kind.ARRAY, "CSA", fqdn="x.domain.tld")
    with pytest.raises(NotFound, match='there is no array "CSA"; did you mean "CAS"'):
        edits.remove(ORGANISATION, Kind.ARRAY, "CSA")


def test_a_changed_site_is_written_as_the_site_does() -> None:
    after = edits.change(ORGANISATION, Kind.SERVER, "cas2", site="BERLIN")
    accepted(after)
    assert after.servers["cas2"].site == "Berlin"
    assert member_names(after) == ["cas1"]
    assert member_names(after, "ber") == ["ber1", "cas2"]


def test_a_database_is_given_another_array_by_its_name() -> None:
    after = edits.change(ORGANISATION, Kind.DATABASE, "DB1", rpc_client_access_server="BER")
    accepted(after)
    assert after.databases["db1"].rpc_client_access_server == "outlook.berlin.domain.tld"


def test_changed_copies_come_in_the_order_of_their_preference() -> None:
    after = edits.change(ORGANISATION, Kind.DATABASE, "DB1", copies=[Copy("mbx1", 9), Copy("ber1", 3)])
    assert [copy.server for copy in after.databases["db1"].copies] == ["ber1", "mbx1"]


# Renaming.


def test_a_renamed_site_is_followed_by_what_is_in_it() -> None:
    after = edits.change(ORGANISATION, Kind.SITE, "paderborn", name="Bonn")
    changes = accepted(after)
    assert "paderborn" not in after.sites
    assert after.arrays["cas"].site == "Bonn"
    assert {server.site for server in after.servers.values()} == {"Bonn", "Berlin", "Leer", "Ulm"}
    assert member_names(after) == ["cas1", "cas2"]
    assert str(changes[0]) == "+ site Bonn"
    assert str(changes[-1]) == "- site Paderborn"


def test_a_renamed_server_is_followed_by_copies_and_groups() -> None:
    after = edits.change(ORGANISATION, Kind.SERVER, "BER1", name="bln1")
    accepted(after)
    assert after.groups["dag1"] == AvailabilityGroup("DAG1", ("mbx1", "bln1"))
    assert [copy.server for copy in after.databases["db1"].copies] == ["mbx1", "bln1"]


def test_a_renamed_server_is_followed_by_the_databases_that_are_active_on_it() -> None:
    after = edits.change(ORGANISATION, Kind.SERVER, "mbx2", name="mbx9", fqdn="mbx9.domain.tld")
    accepted(after)
    assert after.databases["db2"].active_server == "mbx9"


def test_a_renamed_database_is_followed_by_its_mailboxes() -> None:
    after = edits.change(ORGANISATION, Kind.DATABASE, "db1", name="Mail1")
    accepted(after)
    assert after.accounts["alice"].database == "Mail1"


def test_a_renamed_array_keeps_what_its_databases_tell() -> None:
    after = edits.change(ORGANISATION, Kind.ARRAY, "CAS", name="MAIL")
    accepted(after)
    assert after.arrays["mail"] == replace(ORGANISATION.arrays["cas"], name="MAIL")


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(Conflict, match="there is a server cas2 already"):
        edits.change(ORGANISATION, Kind.SERVER, "cas1", name="CAS2")


def test_other_capital_letters_alone_are_one_change() -> None:
    after = edits.change(ORGANISATION, Kind.SERVER, "mbx1", name="MBX1")
    (change,) = accepted(after)
    assert (change.before, change.after) == (ORGANISATION.servers["mbx1"], after.servers["mbx1"])
    assert str(change) == "~ server mbx1: name: mbx1 -> MBX1"


def test_a_subnet_may_become_a_larger_one() -> None:
    before = ORGANISATION.without(subnet("fd00::/16", ""))
    after = edits.change(before, Kind.SUBNET, "FD00:20::/32", network=ip_network("fd00:20::/28"))
    assert [str(change) for change in accepted(after, before)] == [
        "+ subnet fd00:20::/28: site Berlin",
        "- subnet fd00:20::/32",
    ]


# In and out of the array.


def test_a_server_is_taken_out_of_its_array_and_put_back() -> None:
    out = edits.remove_rpc_client_access(ORGANISATION, "CAS1")
    accepted(out)
    assert member_names(out) == ["cas2"]
    back = edits.new_rpc_client_access(out, "Cas1", encryption_required=False)
    accepted(back, out)
    assert member_names(back) == ["cas1", "cas2"]
    assert back.servers["cas1"].rpc_client_access == RpcClientAccess(encryption_required=False)


def test_a_server_is_not_taken_out_twice() -> None:
    out = edits.remove_rpc_client_access(ORGANISATION, "cas1")
    for edit in (edits.remove_rpc_client_access, edits.set_rpc_client_access):
        with pytest.raises(NotFound, match="the server cas1 has no RPC client access: it is in no array"):
            edit(out, "cas1")


def test_a_server_is_not_put_in_twice() -> None:
    with pytest.raises(Conflict, match="the server cas1 has RPC client access already"):
        edits.new_rpc_client_access(ORGANISATION, "cas1")


def test_a_mailbox_server_is_not_put_in() -> None:
    with pytest.raises(Conflict, match="the server mbx1 has no client-access role"):
        edits.new_rpc_client_access(ORGANISATION, "mbx1")


def test_settings_of_rpc_client_access_change_one_by_one() -> None:
    once = edits.set_rpc_client_access(ORGANISATION, "cas1", maximum_connections=100)
    twice = edits.set_rpc_client_access(once, "cas1", name="Rpc", blocked_client_versions="0.0.0-5.65535.65535")
    accepted(twice)
    assert twice.servers["cas1"].rpc_client_access == RpcClientAccess("Rpc", True, 100, "0.0.0-5.65535.65535")


# Availability groups.


def test_a_new_group_writes_its_servers_as_they_do_and_each_once() -> None:
    after = edits.new_group(ORGANISATION, "DAG2", ["MBX2", "mbx2", "leer1"], allow_cross_site_rpc_client_access=True)
    accepted(after)
    assert after.groups["dag2"] == AvailabilityGroup("DAG2", ("mbx2", "leer1"), True)


def test_the_servers_of_a_group_are_changed_as_a_whole() -> None:
    after = edits.set_group_servers(ORGANISATION, "dag1", ["BER1"])
    accepted(after)
    assert after.groups["dag1"].servers == ("ber1",)


def test_a_group_needs_servers_that_are_there() -> None:
    with pytest.raises(NotFound, match='there is no server "nobody"'):
        edits.set_group_servers(ORGANISATION, "dag1", ["mbx1", "nobody"])


# Switchover.


def test_another_copy_is_made_the_active_one() -> None:
    after = edits.move_active_database(ORGANISATION, "db1", "BER1")
    assert [str(change) for change in accepted(after)] == ["~ database DB1: active_server: mbx1 -> ber1"]


def test_the_active_copy_is_not_made_active() -> None:
    with pytest.raises(Conflict, match="the database DB1 is active on mbx1 already"):
        edits.move_active_database(ORGANISATION, "db1", "MBX1")


def test_a_database_is_not_moved_to_where_it_has_no_copy() -> None:
    with pytest.raises(Conflict, match="the database DB1 has no copy on mbx2; its copies are on mbx1, ber1"):
        edits.move_active_database(ORGANISATION, "db1", "mbx2")


def test_mailbox_servers_are_those_with_the_role() -> None:
    assert sorted(edits.mailbox_servers(ORGANISATION)) == ["ber1", "leer1", "mbx1", "mbx2", "ulm1"]


def test_a_directory_is_never_changed_in_place() -> None:
    before = {kind: dict(ORGANISATION.of(kind)) for kind in Kind}
    edits.change(ORGANISATION, Kind.SITE, "Paderborn", name="Bonn")
    edits.change(ORGANISATION, Kind.SERVER, "mbx1", name="mbx7")
    edits.remove(ORGANISATION, Kind.ACCOUNT, "alice")
    edits.new(ORGANISATION, Server("z", "z.domain.tld", "Ulm"))
    assert {kind: dict(ORGANISATION.of(kind)) for kind in Kind} == before
