"""Every Get-: what it shows, and who is meant by an -Identity."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.app.cmdlets.typed import Desk, format_list
from tests.core.directory.example import ORGANISATION

from casarray.core.directory.model import Array, Directory, Site
from casarray.core.errors import CasarrayError, Conflict, NotFound
from casarray.core.shell.cmdlet import Bound

GOLDEN = Path(__file__).parents[2] / "golden"
GUID = "8d6b5f3e-1a2b-4c3d-9e8f-001122334455"
GROUP_DN = (
    "CN=Exchange Administrative Group (FYDIBOHF23SPDLT),CN=Administrative Groups,CN=Contoso,CN=Microsoft Exchange,"
    "CN=Services,CN=Configuration"
)
LEGACY = "/o=Contoso/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers/cn="


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(
    "noun",
    [
        "ClientAccessArray", "ExchangeServer", "ClientAccessServer", "MailboxServer", "MailboxDatabase",
        "DatabaseAvailabilityGroup", "RpcClientAccess", "ADSite", "ADSubnet",
    ],
)  # fmt: skip
def test_a_noun_shows_what_was_reviewed(desk: Desk, noun: str) -> None:
    file = GOLDEN / f"cmdlet-{noun}.txt"
    text = format_list(desk(f"Get-{noun}"))
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        file.write_text(text)
    assert text == file.read_text()


def with_guid() -> Desk:
    array = replace(ORGANISATION.arrays["cas"], guid=GUID)
    return Desk(ORGANISATION.put(array))


@pytest.mark.parametrize(
    "identity",
    [
        "CAS",
        "cas",
        "cas.domain.tld",
        "CAS.Domain.TLD",
        GUID,
        "{" + GUID.upper() + "}",
        f"{LEGACY}cas.domain.tld",
        f"CN=CAS,CN=Arrays,{GROUP_DN}",
        f"cn=cas, cn=arrays, {GROUP_DN}, DC=domain, DC=tld",
        "C*",
        "?as",
        "[a-c]as",
    ],
)
def test_an_array_is_found_by_each_of_its_names(identity: str) -> None:
    assert [str(record) for record in with_guid()("Get-ClientAccessArray", identity)] == ["CAS"]


@pytest.mark.parametrize(
    ("noun", "identity", "name"),
    [
        ("ClientAccessServer", "cas1.domain.tld", "cas1"),
        ("ClientAccessServer", f"{LEGACY}cas1", "cas1"),
        ("MailboxServer", f"CN=mbx1,CN=Servers,{GROUP_DN}", "mbx1"),
        ("ExchangeServer", "MBX1", "mbx1"),
        ("MailboxDatabase", f"CN=DB1,CN=Databases,{GROUP_DN}", "DB1"),
        ("DatabaseAvailabilityGroup", f"CN=DAG1,CN=Database Availability Groups,{GROUP_DN}", "DAG1"),
        ("ADSite", "CN=Paderborn,CN=Sites,CN=Configuration,DC=domain,DC=tld", "Paderborn"),
        ("ADSubnet", "CN=10.20.0.0/16,CN=Subnets,CN=Sites,CN=Configuration", "10.20.0.0/16"),
        ("ADSubnet", "FD00:20::/32", "fd00:20::/32"),
    ],
)
def test_other_things_are_found_by_each_of_their_names(desk: Desk, noun: str, identity: str, name: str) -> None:
    assert [str(record) for record in desk(f"Get-{noun}", identity)] == [name]


@pytest.mark.parametrize(
    "identity",
    [
        f"CN=CAS,CN=Arrays,{GROUP_DN.replace('Contoso', 'Fabrikam')}",
        f"CN=CAS,CN=Servers,{GROUP_DN}",
        f"{LEGACY.replace('Contoso', 'Fabrikam')}cas.domain.tld",
        "CN=",
        "=",
        "/",
        GUID,
    ],
)
def test_a_name_of_something_else_is_not_ours(desk: Desk, identity: str) -> None:
    with pytest.raises(NotFound):
        desk("Get-ClientAccessArray", identity)


def test_who_is_unknown_is_not_everybody(desk: Desk) -> None:
    with pytest.raises(NotFound, match='there is no client access array "CAZ"; did you mean "CAS"'):
        desk("Get-ClientAccessArray", "CAZ")


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_nothing_is_not_everybody_either(desk: Desk, nothing: str | None) -> None:
    with pytest.raises(Conflict, match="-Identity is empty"):
        desk.run("Get-ClientAccessArray", [Bound({"Identity": nothing})])


def test_wildcards_that_match_nothing_give_nothing(desk: Desk) -> None:
    assert desk("Get-MailboxDatabase", "X*") == []


@pytest.mark.parametrize(("pattern", "found"), [("*", 2), ("db?", 2), ("DB[2-9]", 1), ("[", 0), ("DB[]", 0)])
def test_wildcards_are_powershells(desk: Desk, pattern: str, found: int) -> None:
    assert len(desk("Get-MailboxDatabase", pattern)) == found


def test_a_server_of_another_role_is_said_to_be_one(desk: Desk) -> None:
    with pytest.raises(NotFound, match="the server mbx1 has no client-access role, so it is no client access server"):
        desk("Get-ClientAccessServer", "mbx1")


def spaced() -> Directory:
    return ORGANISATION.put(Array("China CAS Array", "casarrayap.domain.tld", "Ulm"))


@pytest.mark.parametrize("verb", ["Get", "Set", "Remove"])
@pytest.mark.parametrize("identity", ["China CAS Array", "No Such Array"])
def test_a_name_with_spaces_is_refused_as_identity_of_an_array(verb: str, identity: str) -> None:
    desk = Desk(spaced())
    with pytest.raises(Conflict, match="named by its FQDN, GUID, ExchangeLegacyDN or distinguished name"):
        desk(f"{verb}-ClientAccessArray", identity)
    assert desk.is_as_before(spaced())


def test_an_array_with_spaces_is_found_by_another_name_and_through_the_pipeline() -> None:
    desk = Desk(spaced())
    assert len(desk("Get-ClientAccessArray", f"CN=China CAS Array,CN=Arrays,{GROUP_DN}")) == 1
    found = desk("Get-ClientAccessArray", "casarrayap.domain.tld")
    desk.pipe(found, "Set-ClientAccessArray", Name="China")
    assert "china" in desk.directory.arrays


def test_names_with_commas_survive_in_distinguished_names() -> None:
    desk = Desk(Directory().put(Site("Paderborn, Westfalen")))
    (site,) = desk("Get-ADSite")
    assert site.get("DistinguishedName") == "CN=Paderborn\\, Westfalen,CN=Sites,CN=Configuration"
    assert desk("Get-ADSite", str(site.get("DistinguishedName"))) == [site]


def test_a_legacy_dn_that_many_databases_share_gives_all_of_them(desk: Desk) -> None:
    legacy = f"{LEGACY}cas.domain.tld/cn=Microsoft Private MDB"
    assert [str(record) for record in desk("Get-MailboxDatabase", legacy)] == ["DB1", "DB2"]
    with pytest.raises(Conflict, match=r"matches several entries \(DB1, DB2, ...\): name the mailbox database"):
        desk("Set-MailboxDatabase", legacy, Name="DB3")
    assert desk.is_as_before()


def test_arrays_of_a_site(desk: Desk) -> None:
    assert [str(r) for r in desk("Get-ClientAccessArray", Site="berlin")] == ["BER"]
    assert desk("Get-ClientAccessArray", Site="Ulm") == []
    with pytest.raises(NotFound, match='there is no site "Bonn"'):
        desk("Get-ClientAccessArray", Site="Bonn")


def test_databases_of_a_server_are_those_with_a_copy_there(desk: Desk) -> None:
    assert [str(r) for r in desk("Get-MailboxDatabase", Server="ber1.domain.tld")] == ["DB1"]
    piped = desk.pipe(desk("Get-MailboxServer", "mbx*"), "Get-MailboxDatabase")
    assert [str(r) for r in piped] == ["DB1", "DB2"]


def test_an_object_of_another_kind_in_the_pipeline_is_refused(desk: Desk) -> None:
    servers = desk("Get-MailboxServer")
    with pytest.raises(Conflict, match="-Identity takes a MailboxDatabase; the MailboxServer mbx1"):
        desk.pipe(servers, "Set-MailboxDatabase", RpcClientAccessServer="cas.domain.tld")
    assert desk.is_as_before()


def test_names_in_the_pipeline_will_do(desk: Desk) -> None:
    assert [str(r) for r in desk.pipe(["BER", "CAS"], "Get-ClientAccessArray")] == ["BER", "CAS"]


def test_members_are_the_servers_of_the_site_that_are_not_taken_out(desk: Desk) -> None:
    desk("Remove-RpcClientAccess", Server="cas1")
    (array,) = desk("Get-ClientAccessArray", "CAS")
    assert array.get("Members") == ("cas2",)
    with pytest.raises(NotFound, match="the server cas1 has no RPC client access: it is in no array"):
        desk("Get-RpcClientAccess", Server="cas1.domain.tld")
    assert [str(r) for r in desk("Get-RpcClientAccess", Server="cas*")] == ["cas2\\RpcClientAccess"]


def test_whom_clients_are_told_follows_a_switchover(desk: Desk) -> None:
    desk("Move-ActiveMailboxDatabase", "DB1", ActivateOnServer="ber1")
    (database,) = desk("Get-MailboxDatabase", "DB1")
    assert database.get("RpcClientAccessServer") == "cas.domain.tld"
    assert database.get("ToldToClients") == "outlook.berlin.domain.tld"
    assert database.get("MountedOnServer") == "ber1.domain.tld"
    desk("Set-DatabaseAvailabilityGroup", "DAG1", AllowCrossSiteRpcClientAccess=True)
    assert desk("Get-MailboxDatabase", "DB1")[0].get("ToldToClients") == "cas.domain.tld"


def test_objects_come_one_after_another(desk: Desk) -> None:
    found = iter(desk.cmdlets["Get-MailboxDatabase"].run([Bound({}), Bound({"Identity": "X"})], desk.voice))
    assert str(next(found)) == "DB1"
    assert isinstance(found, Iterator)
    assert str(next(found)) == "DB2"
    with pytest.raises(CasarrayError):
        next(found)


def test_every_cmdlet_has_a_synopsis_an_example_and_help_for_each_parameter(desk: Desk) -> None:
    for cmdlet in desk.cmdlets.values():
        assert cmdlet.synopsis.endswith(".")
        assert cmdlet.examples
        assert all(re.search(cmdlet.name, example) for example in cmdlet.examples)
        assert all(parameter.help.endswith((".", ")")) for parameter in cmdlet.parameters), cmdlet.name
        assert cmdlet.parameters[-1].name == "DomainController"
        positions = [p.position for p in cmdlet.parameters if p.position is not None]
        assert sorted(positions) == list(range(len(positions)))
