"""Every New-, Set-, Remove-, Add- and Move-: what it does, what it refuses, and that nothing changed then."""

import re
from collections.abc import Callable, Sequence

import pytest
from tests.app.cmdlets.typed import PLAIN, Desk
from tests.core.directory.example import ORGANISATION, broken

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.stores import Note, Snapshot
from casarray.core.directory.changes import Change
from casarray.core.directory.model import MAILBOX, Copy
from casarray.core.errors import CasarrayError
from casarray.core.shell.cmdlet import Bound, Impact, Value


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_two_lines_of_the_manual() -> None:
    desk = Desk(PLAIN)
    (array,) = desk("New-ClientAccessArray", Name="CAS", Fqdn="cas.domain.tld", Site="Paderborn")
    assert (array.get("Name"), array.get("Members")) == ("CAS", ("cas1",))
    assert array.get("Guid")
    assert desk.voice.warnings == [
        "clients of DB1 (cas1.domain.tld), DB2 (cas1.domain.tld) are still told a server: set RpcClientAccessServer "
        "of these databases to cas.domain.tld"
    ]
    assert desk.pipe(desk("Get-MailboxDatabase"), "Set-MailboxDatabase", RpcClientAccessServer="cas.domain.tld") == []
    assert desk.voice.warnings == []
    assert {d.rpc_client_access_server for d in desk.directory.databases.values()} == {"cas.domain.tld"}
    assert desk.store.revision() == "2"
    assert [entry.note.what for entry in desk.store.history()][:2] == ["Set-MailboxDatabase ..."] * 2


def test_the_name_of_an_array_is_the_host_part_of_its_fqdn_by_itself(desk: Desk) -> None:
    (array,) = desk("New-ClientAccessArray", Fqdn="casarray01.contoso.com", Site="Ulm")
    assert array.get("Name") == "casarray01"


def test_an_array_can_have_addresses_and_a_site_by_its_distinguished_name(desk: Desk) -> None:
    site = "CN=Ulm,CN=Sites,CN=Configuration"
    (array,) = desk("New-ClientAccessArray", Fqdn="a.b.c", Site=site, Address=("10.1.2.3", "2001:db8::1"))
    assert (array.get("Site"), array.get("Addresses")) == ("Ulm", ("10.1.2.3", "2001:db8::1"))
    assert desk.voice.warnings == [
        "the address 10.1.2.3 belongs to the site Paderborn, not to Ulm: give that site its subnet with New-ADSubnet",
        "the address 2001:db8::1 belongs to no site, not to Ulm: give that site its subnet with New-ADSubnet",
    ]


def test_a_new_database_takes_the_array_of_its_site_by_itself(desk: Desk) -> None:
    (database,) = desk("New-MailboxDatabase", "DB3", Server="mbx2.domain.tld", EdbFilePath="D:\\DB3.edb")
    assert database.get("RpcClientAccessServer") == "cas.domain.tld"
    assert desk("New-MailboxDatabase", "DB4", Server="ulm1")[0].get("RpcClientAccessServer") == "ulm2.domain.tld"


@pytest.mark.parametrize(
    "identity",
    ["BER", "outlook.berlin.domain.tld", "ber1", "CN=ber1,CN=Servers," + "{group}"],
)
def test_whom_clients_are_told_may_be_given_by_any_name(desk: Desk, identity: str) -> None:
    dn = str(desk("Get-ExchangeServer", "ber1")[0].get("DistinguishedName"))
    desk("Set-MailboxDatabase", "DB1", RpcClientAccessServer=identity.replace("{group}", dn.split(",", 2)[2]))
    told = desk.directory.databases["db1"].rpc_client_access_server
    assert told == ("ber1.domain.tld" if "ber1" in identity else "outlook.berlin.domain.tld")


def test_an_array_of_another_site_is_warned_of(desk: Desk) -> None:
    desk.pipe(desk("Get-MailboxDatabase"), "Set-MailboxDatabase", RpcClientAccessServer="BER")
    assert desk.voice.warnings == [
        "outlook.berlin.domain.tld serves another site than the one where these databases are active: "
        "DB1 (Paderborn), DB2 (Paderborn)"
    ]


def test_a_server_instead_of_the_sites_array_is_warned_of(desk: Desk) -> None:
    desk("Set-MailboxDatabase", "DB2", RpcClientAccessServer="cas2")
    assert desk.voice.warnings == ["clients of DB2 are told a server, although the site has the array cas.domain.tld"]


REFUSED: tuple[tuple[str, dict[str, Value], str], ...] = (
    (
        "New-ClientAccessArray", {"Name": "C2", "Fqdn": "c2.domain.tld", "Site": "Paderborn"},
        "the site Paderborn has the array CAS (cas.domain.tld) already, and a site has one",
    ),
    ("New-ClientAccessArray", {"Fqdn": "cas_!.domain.tld", "Site": "Ulm"}, '"cas_!.domain.tld" is not a host name'),
    ("New-ClientAccessArray", {"Fqdn": "10.11.0.100", "Site": "Ulm"}, "is an address, not a name"),
    ("New-ClientAccessArray", {"Name": "X", "Fqdn": "cas", "Site": "Ulm"}, '"cas" has no domain'),
    ("New-ClientAccessArray", {"Fqdn": "", "Site": "Ulm"}, 'cannot be a name'),
    ("New-ClientAccessArray", {"Fqdn": "x.domain.tld", "Site": "Bonn"}, 'there is no site "Bonn"'),
    ("New-ClientAccessArray", {"Fqdn": "x.domain.tld", "Site": ""}, "-Site is empty"),
    ("New-ClientAccessArray", {"Name": "x" * 65, "Fqdn": "x.domain.tld", "Site": "Ulm"}, "1 to 64 characters"),
    ("New-ClientAccessArray", {"Name": "CAS", "Fqdn": "x.domain.tld", "Site": "Ulm"}, "there is an array CAS already"),
    (
        "New-ClientAccessArray", {"Fqdn": "x.domain.tld", "Site": "Ulm", "Address": ("10.0.0.256",)},
        '-Address: "10.0.0.256" is not an IP address',
    ),
    ("New-ClientAccessArray", {"Fqdn": "cas1.domain.tld", "Site": "Ulm"}, "is the name of the server cas1 already"),
    ("Set-ClientAccessArray", {"Identity": "CAS", "Fqdn": "new.domain.tld"}, "clients of 2 databases would be told"),
    ("Set-ClientAccessArray", {"Identity": "CAS", "Site": "Berlin"}, "the site Berlin has the array BER"),
    ("Set-ClientAccessArray", {"Identity": "CAS", "Published": ("10.0.0.1",)}, "is an address, not a name"),
    ("Remove-ClientAccessArray", {"Identity": "CAS"}, "clients of 2 databases would be told a name that is gone"),
    ("Set-MailboxDatabase", {"Identity": "DB1", "RpcClientAccessServer": "mbx1"}, "no client-access role"),
    ("Set-MailboxDatabase", {"Identity": "DB1", "RpcClientAccessServer": ""}, "-RpcClientAccessServer is empty"),
    (
        "Set-MailboxDatabase", {"Identity": "DB1", "RpcClientAccessServer": "cass.domain.tld"},
        'there is no array or client-access server "cass.domain.tld"; did you mean',
    ),
    ("Set-MailboxDatabase", {"Identity": "DB*", "Name": "X"}, 'there is no mailbox database "DB*"'),
    ("New-MailboxDatabase", {"Name": "DB3", "Server": "cas1"}, "no mailbox role"),
    ("New-MailboxDatabase", {"Name": "db1", "Server": "mbx1"}, "there is a database DB1 already"),
    ("Remove-MailboxDatabase", {"Identity": "DB1"}, "the mailbox of alice is in it"),
    ("Move-ActiveMailboxDatabase", {"Identity": "DB1", "ActivateOnServer": "mbx1"}, "active on mbx1 already"),
    ("Move-ActiveMailboxDatabase", {"Identity": "DB1", "ActivateOnServer": "mbx2"}, "has no copy on mbx2"),
    ("Move-ActiveMailboxDatabase", {"Identity": "DB2"}, "no other copy than that on mbx2"),
    ("Move-ActiveMailboxDatabase", {"Identity": "DB1", "Server": "mbx1"}, "with -Server the server that all shall"),
    ("Move-ActiveMailboxDatabase", {"Server": "leer1"}, "no database is active on leer1"),
    ("New-ClientAccessServer", {"Name": "cas3"}, "give its full name with -Fqdn"),
    ("New-ClientAccessServer", {}, "the server has no name"),
    ("New-ClientAccessServer", {"Fqdn": "cas3.domain.tld"}, "the site of the server cas3 is not known"),
    (
        "New-ClientAccessServer", {"Fqdn": "cas3.domain.tld", "Site": "Ulm", "Address": ("10.12.0.21",)},
        "10.12.0.21 is the address of the server cas1 already",
    ),
    ("New-ClientAccessServer", {"Fqdn": "cas1.domain.tld"}, "a server cas1 with the client-access role already"),
    ("New-MailboxServer", {"Fqdn": "cas1.other.tld"}, "it is cas1.domain.tld, not cas1.other.tld"),
    ("New-MailboxServer", {"Name": "cas1", "Site": "Ulm"}, "it is in the site Paderborn, not in Ulm"),
    ("Set-ClientAccessServer", {"Identity": "cas1", "Weight": 0}, "its weight cannot be 0"),
    ("Remove-MailboxServer", {"Identity": "mbx1"}, "the database DB1 has a copy on it"),
    ("Remove-MailboxServer", {"Identity": "ber1"}, "it is in the availability group DAG1"),
    ("Remove-ClientAccessServer", {"Identity": "mbx1"}, "no client-access role"),
    ("New-RpcClientAccess", {"Server": "cas1"}, "has RPC client access already"),
    ("New-RpcClientAccess", {"Server": "mbx1"}, "no client-access role"),
    ("Set-RpcClientAccess", {"Server": "mbx1", "EncryptionRequired": False}, "has no RPC client access"),
    ("Set-RpcClientAccess", {"Server": "cas1", "MaximumConnections": 0}, "maximum connections"),
    ("Set-RpcClientAccess", {"Server": "cas1", "BlockedClientVersions": "all"}, '"all" are no client versions'),
    ("Remove-RpcClientAccess", {"Server": "mbx1"}, "has no RPC client access: it is in no array"),
    ("New-DatabaseAvailabilityGroup", {"Name": "dag1"}, "there is a group DAG1 already"),
    ("Remove-DatabaseAvailabilityGroup", {"Identity": "DAG1"}, "has servers (mbx1, ber1)"),
    (
        "Add-DatabaseAvailabilityGroupServer", {"Identity": "DAG1", "MailboxServer": "mbx1"},
        "the server mbx1 is in the availability group DAG1 already",
    ),
    ("Add-DatabaseAvailabilityGroupServer", {"Identity": "DAG1", "MailboxServer": "cas1"}, "no mailbox role"),
    ("Remove-DatabaseAvailabilityGroupServer", {"Identity": "DAG1", "MailboxServer": "ber1"}, "holds copies of DB1"),
    ("Remove-DatabaseAvailabilityGroupServer", {"Identity": "DAG1", "MailboxServer": "mbx2"}, "is not in the avail"),
    ("Add-MailboxDatabaseCopy", {"Identity": "DB1", "MailboxServer": "ber1"}, "has a copy on ber1 already"),
    ("Add-MailboxDatabaseCopy", {"Identity": "DB1", "MailboxServer": "mbx2"}, "not in one availability group"),
    ("Set-MailboxDatabaseCopy", {"Identity": "DB1\\ber1", "ActivationPreference": 3}, "write a number from 1 to 2"),
    ("Set-MailboxDatabaseCopy", {"Identity": "DB1\\mbx2", "ActivationPreference": 1}, "has no copy on mbx2"),
    ("Remove-MailboxDatabaseCopy", {"Identity": "DB1\\mbx1"}, "is the active one: move it to another server first"),
    ("Remove-MailboxDatabaseCopy", {"Identity": "DB2\\mbx2"}, "is the active one: remove the database instead"),
    ("Remove-MailboxDatabaseCopy", {"Identity": "DB1"}, "names no copy: write DATABASE\\SERVER"),
    ("New-ADSite", {"Name": "ulm"}, "there is a site Ulm already"),
    ("New-ADSite", {"Name": "Bonn", "Subnet": ("10.20.3.0/24",)}, "10.20.3.0/24 overlaps 10.20.0.0/16 of the site"),
    ("Remove-ADSite", {"Identity": "Ulm"}, "the server ulm1 is in it"),
    ("New-ADSubnet", {"Name": "10.20.1.0/24", "Site": "Ulm"}, "overlaps 10.20.0.0/16 of the site Berlin"),
    ("New-ADSubnet", {"Name": "10.20.0.0/16", "Site": "Ulm"}, "it belongs to the site Berlin"),
    ("New-ADSubnet", {"Name": "10.30.0.1/16", "Site": "Ulm"}, "the subnet is 10.30.0.0/16"),
    ("New-ADSubnet", {"Name": "10.30.0.0", "Site": "Ulm"}, "has no prefix length"),
    ("New-ADSubnet", {"Name": "ten", "Site": "Ulm"}, '"ten" is not a subnet'),
    ("New-ADSubnet", {"Name": "172.16.0.0/16", "Site": "Bonn"}, 'there is no site "Bonn"'),
    ("Set-ADSubnet", {"Identity": "10.20.0.0/24", "Site": "Ulm"}, 'there is no subnet "10.20.0.0/24"'),
)  # fmt: skip


@pytest.mark.parametrize(("name", "values", "said"), REFUSED)
def test_what_is_refused_says_why_and_changes_nothing(
    desk: Desk, name: str, values: dict[str, Value], said: str
) -> None:
    with pytest.raises(CasarrayError, match=re.escape(said)):
        desk.run(name, [Bound(values)])
    assert desk.is_as_before()
    assert desk.voice.asked == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Set-ClientAccessArray", {"Identity": "CAS", "Fqdn": "new.domain.tld"}),
        ("Remove-ClientAccessArray", {"Identity": "CAS"}),
        ("New-ADSubnet", {"Name": "10.20.1.0/24", "Site": "Ulm"}),
        ("Set-ADSubnet", {"Identity": "10.20.0.0/16", "Site": "Paderborn"}),
        ("New-ADSite", {"Name": "Bonn", "Subnet": ("10.20.3.0/24",)}),
    ],
)
def test_what_is_refused_for_the_sake_of_others_can_be_forced(desk: Desk, name: str, values: dict[str, Value]) -> None:
    with pytest.raises(CasarrayError, match="force it"):
        desk.run(name, [Bound(values)])
    desk.run(name, [Bound({**values, "Force": True})])
    assert not desk.is_as_before()


def test_an_array_may_be_renamed_and_moved_to_a_free_site(desk: Desk) -> None:
    desk("Set-ClientAccessArray", "BER", Name="ULM", Site="Ulm", Address=("10.9.0.1",))
    assert "ber" not in desk.directory.arrays
    (array,) = desk("Get-ClientAccessArray", "ULM")
    assert (array.get("Members"), array.get("Addresses")) == (("ulm2",), ("10.9.0.1",))


def test_an_array_has_a_shared_account_and_published_names_until_they_are_set_to_nothing(desk: Desk) -> None:
    before = dict(desk.directory.arrays["cas"].settings)
    desk("Set-ClientAccessArray", "CAS", ServiceAccount="CONTOSO\\cas-asa$", Published=("mail.domain.tld.", "a.b"))
    (array,) = desk("Get-ClientAccessArray", "CAS")
    assert (array.get("ServiceAccount"), array.get("Published")) == ("cas-asa$", ("mail.domain.tld", "a.b"))
    desk("Set-ClientAccessArray", "CAS", ServiceAccount="")
    assert dict(desk.directory.arrays["cas"].settings) == {**before, "published": ["mail.domain.tld", "a.b"]}
    desk("Set-ClientAccessArray", "CAS", Published=("",))
    assert dict(desk.directory.arrays["cas"].settings) == before


def test_an_array_that_nobody_is_told_can_be_removed(desk: Desk) -> None:
    desk("Remove-ClientAccessArray", "outlook.berlin.domain.tld")
    assert list(desk.directory.arrays) == ["cas"]


def test_a_server_finds_its_site_by_its_address(desk: Desk) -> None:
    (server,) = desk("New-ClientAccessServer", Fqdn="cas3.domain.tld", Address=("10.20.0.3",), Weight=50)
    assert [server.get(n) for n in ("Name", "Site", "ClientAccessArray", "InArray")] == ["cas3", "Berlin", "BER", True]


def test_an_address_that_is_named_twice_is_one(desk: Desk) -> None:
    (server,) = desk("New-ClientAccessServer", "cas3.domain.tld", Site="Ulm", Address=("10.1.1.1", "10.1.1.1"))
    assert server.get("Addresses") == ("10.1.1.1",)


def test_a_full_name_will_do_as_a_servers_name(desk: Desk) -> None:
    (server,) = desk("New-MailboxServer", "mbx9.domain.tld", Site="Ulm", PublicFolders=True)
    assert [server.get(n) for n in ("Name", "Fqdn", "PublicFolders")] == ["mbx9", "mbx9.domain.tld", True]


def test_a_role_comes_to_a_server_and_goes_again(desk: Desk) -> None:
    (server,) = desk("New-MailboxServer", "cas1")
    assert server.get("ServerRole") == "Mailbox, ClientAccess"
    desk("Remove-ClientAccessServer", "cas1")
    assert desk.directory.servers["cas1"].roles == (MAILBOX,)
    assert desk.directory.servers["cas1"].rpc_client_access is None
    desk("Remove-MailboxServer", "cas1")
    assert "cas1" not in desk.directory.servers


def test_a_renamed_server_keeps_its_databases(desk: Desk) -> None:
    desk("Set-MailboxServer", "mbx1", Name="mbx7", Fqdn="mbx7.domain.tld")
    database = desk.directory.databases["db1"]
    assert (database.active_server, database.copies[0].server) == ("mbx7", "mbx7")
    assert broken(desk.directory) == []


def test_a_server_is_taken_out_of_its_array_and_put_back(desk: Desk) -> None:
    desk.pipe(desk("Get-ClientAccessServer", "cas1"), "Remove-RpcClientAccess")
    assert desk.voice.asked == ["Remove-RpcClientAccess cas1"]
    assert not desk.directory.servers["cas1"].is_member
    (access,) = desk("New-RpcClientAccess", Server="cas1", BlockedClientVersions="0.0.0-5.9.9; 7.0.0-65535.65535.65535")
    assert (access.get("Server"), access.get("EncryptionRequired")) == ("cas1", True)
    assert desk.directory.servers["cas1"].is_member


def test_a_limit_that_nothing_enforces_is_kept_and_warned_of(desk: Desk) -> None:
    desk.pipe(desk("Get-RpcClientAccess"), "Set-RpcClientAccess", MaximumConnections=100, EncryptionRequired=False)
    assert desk.voice.warnings == ["MaximumConnections is kept, but as in Exchange 2010 nothing enforces it"]
    assert {record.get("MaximumConnections") for record in desk("Get-RpcClientAccess")} == {100}
    assert {record.get("EncryptionRequired") for record in desk("Get-RpcClientAccess")} == {False}


def test_a_pipeline_of_servers_joins_one_group_by_one_change(desk: Desk) -> None:
    desk("New-DatabaseAvailabilityGroup", "DAG2", WitnessServer="hub1")
    desk.pipe(desk("Get-MailboxServer", "[lmu]*2"), "Add-DatabaseAvailabilityGroupServer", Identity="DAG2")
    desk.pipe(["leer1", "ulm1"], "Add-DatabaseAvailabilityGroupServer", Identity="DAG2")
    assert desk.directory.groups["dag2"].servers == ("mbx2", "leer1", "ulm1")
    assert desk.store.revision() == "3"
    desk("Remove-DatabaseAvailabilityGroupServer", "DAG2", MailboxServer="mbx2")
    desk("Set-DatabaseAvailabilityGroup", "DAG2", Name="DAG3", AllowCrossSiteRpcClientAccess=True)
    desk.pipe(["leer1", "ulm1"], "Remove-DatabaseAvailabilityGroupServer", Identity="DAG3")
    desk("Remove-DatabaseAvailabilityGroup", "DAG3")
    assert list(desk.directory.groups) == ["dag1"]


def test_copies_come_change_places_and_go(desk: Desk) -> None:
    desk("Add-DatabaseAvailabilityGroupServer", "DAG1", MailboxServer="leer1")
    desk("Add-MailboxDatabaseCopy", "DB1", MailboxServer="leer1", ActivationPreference=1)
    (database,) = desk("Get-MailboxDatabase", "DB1")
    preferences = database.get("ActivationPreference")
    assert isinstance(preferences, tuple)
    assert list(map(str, preferences)) == ["[leer1, 1]", "[mbx1, 2]", "[ber1, 3]"]
    assert next((pair.get("Key"), pair.get("Value")) for pair in preferences) == ("leer1", 1)
    desk("Set-MailboxDatabaseCopy", "DB1\\leer1", ActivationPreference=3)
    desk("Remove-MailboxDatabaseCopy", "DB1\\ber1.domain.tld")
    assert desk.directory.databases["db1"].copies == (Copy("mbx1", 1), Copy("leer1", 2))


def test_a_server_switchover_moves_all_that_is_active_there(desk: Desk) -> None:
    moved = desk("Move-ActiveMailboxDatabase", Server="mbx1")
    assert [(str(record), record.get("Server")) for record in moved] == [("DB1", "ber1")]
    assert desk.voice.asked == ["Move-ActiveMailboxDatabase DB1"]


def test_a_site_is_made_with_its_subnets_renamed_and_removed(desk: Desk) -> None:
    (site,) = desk("New-ADSite", "Bonn", Subnet=("172.16.0.0/16", "2001:db8::/32"), Description="new")
    assert site.get("Subnets") == ("172.16.0.0/16", "2001:db8::/32")
    desk("Set-ADSite", "Bonn", Name="Köln")
    assert [str(r) for r in desk("Get-ADSubnet", Site="KÖLN")] == ["172.16.0.0/16", "2001:db8::/32"]
    desk("Set-ADSubnet", "172.16.0.0/16", Site="Ulm")
    desk("Remove-ADSubnet", "2001:db8::/32")
    desk("Remove-ADSite", "Köln")
    assert "köln" not in desk.directory.sites
    assert desk.directory.subnets["172.16.0.0/16"].site == "Ulm"


def test_a_renamed_site_takes_what_is_in_it_along(desk: Desk) -> None:
    desk("Set-ADSite", "Paderborn", Name="Bielefeld")
    assert broken(desk.directory) == []
    assert desk("Get-ClientAccessArray", Site="Bielefeld")[0].get("Members") == ("cas1", "cas2")


# One batch, one change.


def test_one_bad_object_in_a_pipeline_leaves_all_as_they_were(desk: Desk) -> None:
    with pytest.raises(CasarrayError, match='there is no mailbox database "DB9"'):
        desk.pipe(["DB1", "DB9", "DB2"], "Set-MailboxDatabase", RpcClientAccessServer="BER")
    assert desk.is_as_before()


def test_two_of_one_name_in_a_pipeline_are_refused(desk: Desk) -> None:
    with pytest.raises(CasarrayError, match="there is a database DB7 already"):
        desk.pipe(["mbx1", "mbx2"], "New-MailboxDatabase", Name="DB7")
    assert desk.is_as_before()


def test_two_arrays_for_one_site_in_a_pipeline_are_refused(desk: Desk) -> None:
    with pytest.raises(CasarrayError, match="and a site has one"):
        desk.run("New-ClientAccessArray", [Bound({"Fqdn": f"{n}.domain.tld", "Site": "Ulm"}) for n in "ab"])
    assert desk.is_as_before()


def test_the_same_object_twice_is_changed_once_and_removed_only_once(desk: Desk) -> None:
    desk.pipe(["DB2", "db2"], "Set-MailboxDatabase", Name="DB3")
    assert sorted(desk.directory.databases) == ["db1", "db3"]
    with pytest.raises(CasarrayError, match="was named twice"):
        desk.pipe(["DB3", "db3"], "Remove-MailboxDatabase")


def test_databases_and_their_array_can_go_in_any_order_but_not_the_array_first(desk: Desk) -> None:
    desk.pipe(desk("Get-MailboxDatabase", "DB2"), "Remove-MailboxDatabase")
    assert list(desk.directory.databases) == ["db1"]


# Asking, and only telling.


def test_what_if_shows_the_plan_and_changes_nothing(desk: Desk) -> None:
    bounds = [Bound({"Identity": name, "RpcClientAccessServer": "cas2"}) for name in ("DB1", "DB2")]
    assert desk.run("Set-MailboxDatabase", bounds, what_if=True) == []
    change = "rpc_client_access_server: cas.domain.tld -> cas2.domain.tld"
    assert desk.voice.heard == [
        f'What if: Performing operation "Set-MailboxDatabase" on Target "~ database {name}: {change}".'
        for name in ("DB1", "DB2")
    ]
    assert desk.voice.asked == []
    assert desk.voice.warnings == [
        "clients of DB1, DB2 are told a server, although the site has the array cas.domain.tld"
    ]
    assert desk.is_as_before()


def test_what_if_refuses_what_would_be_refused(desk: Desk) -> None:
    with pytest.raises(CasarrayError, match="clients of 2 databases"):
        desk.run("Remove-ClientAccessArray", [Bound({"Identity": "CAS"})], what_if=True)


def test_every_change_can_be_tried_without_doing_it(desk: Desk) -> None:
    desk.run("New-MailboxServer", [Bound({"Name": "cas1"})], what_if=True)
    assert desk.voice.heard == [
        'What if: Performing operation "New-MailboxServer" on Target '
        '"~ server cas1: roles: client-access -> client-access, mailbox".'
    ]
    assert desk.is_as_before()


def test_only_what_was_agreed_to_is_done(desk: Desk) -> None:
    desk.run(
        "Set-MailboxDatabase",
        [Bound({"Identity": name, "RpcClientAccessServer": "BER"}) for name in ("DB1", "DB2")],
        agree=[False, True],
    )
    assert desk.voice.asked == ["Set-MailboxDatabase DB1", "Set-MailboxDatabase DB2"]
    told = [database.rpc_client_access_server for database in desk.directory.databases.values()]
    assert told == ["cas.domain.tld", "outlook.berlin.domain.tld"]


def test_if_nothing_is_agreed_to_nothing_is_done(desk: Desk) -> None:
    assert desk.run("New-ADSite", [Bound({"Name": "Bonn"})], agree=[False]) == []
    assert desk.is_as_before()


def test_who_changes_nothing_is_told_so(desk: Desk) -> None:
    desk.pipe(desk("Get-MailboxDatabase"), "Set-MailboxDatabase", RpcClientAccessServer="cas.domain.tld")
    assert desk.voice.warnings == ["The command completed successfully but no settings of DB1, DB2 have been modified."]
    assert desk.is_as_before()


def test_an_empty_pipeline_does_nothing(desk: Desk) -> None:
    assert desk.pipe([], "Remove-MailboxDatabase") == []
    assert desk.voice.warnings == []
    assert desk.is_as_before()


def test_what_destroys_asks_and_what_only_looks_cannot(desk: Desk) -> None:
    for name, cmdlet in desk.cmdlets.items():
        verb = name.partition("-")[0]
        wanted = {"Get": Impact.NONE, "Remove": Impact.HIGH, "Disable": Impact.HIGH, "Move": Impact.HIGH}.get(
            verb, Impact.LOW
        )
        assert cmdlet.impact is wanted, name


class Overtaken(MemoryDirectory):
    """A store in which somebody else is faster, once."""

    faster: Callable[[], object] | None = None

    def change(self, snapshot: Snapshot, changes: Sequence[Change], note: Note) -> None:
        if self.faster is not None:
            call, self.faster = self.faster, None
            call()
        super().change(snapshot, changes, note)


def test_a_change_is_planned_anew_when_somebody_was_faster() -> None:
    store = Overtaken(ORGANISATION)
    desk, rival = Desk(store=store), Desk(store=store)
    store.faster = lambda: rival("New-MailboxDatabase", "DB8", Server="mbx2")
    desk("New-MailboxDatabase", "DB9", Server="mbx2")
    assert {"db8", "db9"} <= set(desk.directory.databases)


def test_who_was_overtaken_in_the_same_thing_is_refused_like_anybody_later() -> None:
    store = Overtaken(ORGANISATION)
    desk, rival = Desk(store=store), Desk(store=store)
    store.faster = lambda: rival("New-ClientAccessArray", Fqdn="a.domain.tld", Site="Ulm")
    with pytest.raises(CasarrayError, match="the site Ulm has the array a"):
        desk("New-ClientAccessArray", Fqdn="b.domain.tld", Site="Ulm")
    assert "b" not in desk.directory.arrays
