"""The directory in Active Directory, against Samba's real domain controller."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.conftest import Domain

from casarray.adapters.stores import ldap_directory
from casarray.adapters.stores.ldap_directory import LdapDirectory
from casarray.app.directory import DirectoryService
from casarray.app.stores import Note
from casarray.core.config import Bind, DirectorySettings
from casarray.core.directory import edits
from casarray.core.directory.ad_steps import Step
from casarray.core.directory.changes import difference, same
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Account,
    Array,
    Copy,
    Database,
    Directory,
    Kind,
    Server,
    Site,
    Subnet,
)
from casarray.core.errors import ConfigError, Conflict, Denied, MovedOn, Unavailable
from casarray.lab import netns, samba_ad
from casarray.lab.samba_ad import DomainController

REASON = netns.missing() or samba_ad.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

NOTE = Note("alice", "a test")
ADMIN_GROUP = "CN=Exchange Administrative Group (FYDIBOHF23SPDLT),CN=Administrative Groups,CN=Lab Org"
TOP = "CN=Microsoft Exchange,CN=Services,CN=Configuration,DC=lab,DC=example"
GROUP = f"{ADMIN_GROUP},{TOP}"
SITES = "CN=Sites,CN=Configuration,DC=lab,DC=example"
LEGACY = "/o=Lab Org/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers/cn="

#: An organisation as an inventory of a real one shows it: made by others, with more in it than we know.
ORGANISATION = f"""\
dn: CN=Paderborn,{SITES}
objectClass: site
description: the head office

dn: CN=10.11.0.0/24,CN=Subnets,{SITES}
objectClass: subnet
siteObject: CN=Paderborn,{SITES}

dn: {TOP}
objectClass: msExchContainer

dn: CN=Lab Org,{TOP}
objectClass: msExchContainer
legacyExchangeDN: /o=Lab Org

dn: CN=Administrative Groups,CN=Lab Org,{TOP}
objectClass: msExchContainer

dn: {GROUP}
objectClass: msExchContainer

dn: CN=Servers,{GROUP}
objectClass: msExchContainer

dn: CN=Arrays,{GROUP}
objectClass: msExchContainer

dn: CN=Databases,{GROUP}
objectClass: msExchContainer

dn: CN=CAS1,CN=Servers,{GROUP}
objectClass: msExchExchangeServer
networkAddress: netbios:CAS1
networkAddress: ncacn_ip_tcp:cas1.lab.example
msExchServerSite: CN=Paderborn,{SITES}
msExchCurrentServerRoles: 36
legacyExchangeDN: {LEGACY}CAS1

dn: CN=MBX1,CN=Servers,{GROUP}
objectClass: msExchExchangeServer
networkAddress: ncacn_ip_tcp:mbx1.lab.example
msExchServerSite: CN=Paderborn,{SITES}
msExchCurrentServerRoles: 2

dn: CN=CAS,CN=Arrays,{GROUP}
objectClass: msExchClientAccessArray
networkAddress: ncacn_ip_tcp:cas.lab.example
msExchServerSite: CN=Paderborn,{SITES}
legacyExchangeDN: {LEGACY}cas.lab.example

dn: CN=DB1,CN=Databases,{GROUP}
objectClass: msExchPrivateMDB
msExchOwningServer: CN=MBX1,CN=Servers,{GROUP}
legacyExchangeDN: {LEGACY}cas.lab.example/cn=Microsoft Private MDB

dn: CN=DB2,CN=Databases,{GROUP}
objectClass: msExchPrivateMDB
msExchOwningServer: CN=MBX1,CN=Servers,{GROUP}
legacyExchangeDN: {LEGACY}CAS1/cn=Microsoft Private MDB
"""


def change(store: LdapDirectory, edit: Callable[[Directory], Directory], **force: bool) -> Directory:
    """Carry it out as a person would; what the store holds then."""
    service = DirectoryService(store, "alice")
    service.change(edit, "a test", **force)
    return service.directory()


def organisation(directory: Directory) -> Directory:
    """A site with an array, two servers and a database."""
    directory = directory.put(Site("Paderborn"), Site("Berlin"), Subnet(ip_network("10.11.0.0/24"), "Paderborn"))
    directory = edits.new_server(directory, "CAS1", "cas1.lab.example", "Paderborn")
    directory = edits.new_server(directory, "MBX1", "mbx1.lab.example", "Paderborn", (MAILBOX,))
    directory = edits.new_server(directory, "MBX2", "mbx2.lab.example", "Berlin", (CLIENT_ACCESS, MAILBOX))
    directory = edits.new_array(directory, "CAS", "cas.lab.example", "Paderborn")
    return edits.new_database(directory, "DB1", "MBX1")


# Reading what others have made.


def test_an_organisation_that_is_already_there_is_read_without_writing_to_it(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    store = domain.open()
    store.read()
    usn = domain.dc.search("", "(objectClass=*)", "highestCommittedUSN", scope="base")
    found = store.read()
    directory = found.directory
    assert (directory.organization, found.missing) == ("Lab Org", ())
    assert directory.sites["paderborn"] == Site("Paderborn", "the head office")
    assert directory.subnets["10.11.0.0/24"].site == "Paderborn"
    assert directory.servers["cas1"] == Server("CAS1", "cas1.lab.example", "Paderborn")
    assert directory.servers["mbx1"] == Server("MBX1", "mbx1.lab.example", "Paderborn", (MAILBOX,), None)
    assert directory.arrays["cas"] == Array("CAS", "cas.lab.example", "Paderborn")
    assert directory.databases["db1"] == Database("DB1", "MBX1", (Copy("MBX1"),), "cas.lab.example")
    assert directory.databases["db2"].rpc_client_access_server == "cas1.lab.example"
    assert domain.dc.search("", "(objectClass=*)", "highestCommittedUSN", scope="base") == usn


def test_what_we_change_leaves_what_others_wrote(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    store = domain.open()
    both = (CLIENT_ACCESS, MAILBOX)
    change(store, lambda d: edits.change(d, Kind.SERVER, "CAS1", fqdn="new.lab.example", roles=both), force=True)
    shown = domain.dc.search(f"CN=CAS1,CN=Servers,{GROUP}", "(objectClass=*)", scope="base")
    assert "networkAddress: netbios:CAS1\n" in shown
    assert "networkAddress: ncacn_ip_tcp:new.lab.example\n" in shown
    assert "msExchCurrentServerRoles: 38\n" in shown  # 32, the hub's, stays
    assert f"legacyExchangeDN: {LEGACY}CAS1\n" in shown.replace("\n ", "")


def test_what_is_changed_behind_our_back_is_followed_without_reading_all(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    store = domain.open()
    before = store.read()
    domain.dc.modify(
        f"dn: CN=MBX1,CN=Servers,{GROUP}\nchangetype: modify\nreplace: msExchCurrentServerRoles\n"
        f"msExchCurrentServerRoles: 6\n-\n\ndn: CN=DB2,CN=Databases,{GROUP}\nchangetype: delete\n"
    )
    store._read_all = None  # type: ignore[assignment,method-assign]  # it would fail if it were called
    assert store.revision() != before.revision
    after = store.read()
    assert [str(c) for c in difference(before.directory, after.directory)] == [
        "~ server MBX1: roles: mailbox -> client-access, mailbox, rpc_client_access: none -> {name RpcClientAccess, "
        "encryption_required true, maximum_connections 65536, blocked_client_versions none}",
        "- database DB2",
    ]


def test_the_revision_stays_while_others_work_on_what_we_do_not_read(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    store = domain.open()
    before = store.revision()
    domain.dc.add_user("somebody")
    domain.dc.modify(
        f"dn: CN=CAS1,CN=Servers,{GROUP}\nchangetype: modify\nreplace: serialNumber\nserialNumber: 14\n-\n"
    )
    assert store.revision() == before


def test_a_site_renamed_behind_our_back_takes_its_servers_along(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    store = domain.open()
    store.read()
    domain.dc.modify(f"dn: CN=Paderborn,{SITES}\nchangetype: modrdn\nnewrdn: CN=PB\ndeleteoldrdn: 1\n")
    directory = store.read().directory
    assert {server.site for server in directory.servers.values()} == {"PB"}
    assert directory.arrays["cas"].site == "PB"
    assert same(directory, domain.open().read().directory)


def test_what_cannot_be_understood_is_passed_over_and_said(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    domain.dc.add(
        f"dn: CN=Odd,CN=Arrays,{GROUP}\nobjectClass: msExchContainer\n\n"
        f"dn: CN=EDGE1,CN=Servers,{GROUP}\nobjectClass: msExchExchangeServer\nmsExchCurrentServerRoles: 64\n\n"
        f"dn: CN=CAS9,CN=Servers,{GROUP}\nobjectClass: msExchExchangeServer\nmsExchCurrentServerRoles: 4\n"
        "networkAddress: ncacn_ip_tcp:cas9.lab.example\n"
    )
    found = domain.open().read()
    assert set(found.directory.servers) == {"cas1", "mbx1"}
    assert set(found.missing) == {
        "CAS9: left out: it belongs to no site",
        "EDGE1: left out: it has neither the client-access nor the mailbox role",
        "Odd: passed over: a msExchContainer does not belong in Arrays",
    }


def test_a_server_loses_and_gets_the_object_that_exchange_keeps_for_rpc_client_access(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    protocols = f"CN=Protocols,CN=CAS1,CN=Servers,{GROUP}"
    access = f"CN=RpcClientAccess,{protocols}"
    domain.dc.add(f"dn: {protocols}\nobjectClass: msExchContainer\n\ndn: {access}\nobjectClass: msExchContainer\n")
    store = domain.open()
    change(store, lambda d: edits.new_server(d, "CAS2", "cas2.lab.example", "Paderborn"))
    there = f"CN=RpcClientAccess,CN=Protocols,CN=CAS2,CN=Servers,{GROUP}"
    assert there in domain.dc.search(TOP, "(cn=RpcClientAccess)").replace("\n ", "")
    change(store, lambda d: edits.remove_rpc_client_access(d, "CAS2"))
    assert there not in domain.dc.search(TOP, "(cn=RpcClientAccess)").replace("\n ", "")
    directory = change(store, lambda d: edits.remove_rpc_client_access(d, "CAS1"))
    # Now no server has such an object, and still none of these two is a member.
    assert not any(server.is_member for server in directory.servers.values())
    directory = change(store, lambda d: edits.new_rpc_client_access(d, "CAS1"))
    assert [s.name for s in directory.servers.values() if s.is_member] == ["CAS1"]


# Writing against others, and against interruptions.


def test_a_value_that_somebody_changed_a_moment_ago_is_not_overwritten(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = domain.open()
    change(store, organisation)
    snapshot = store.read()
    carry_out = ldap_directory.carry_out
    rival = domain.open()

    def overtaken(connection: object, step: Step) -> None:
        monkeypatch.setattr(ldap_directory, "carry_out", carry_out)
        change(rival, lambda d: edits.change(d, Kind.ARRAY, "CAS", site="Berlin"))
        carry_out(connection, step)  # type: ignore[arg-type]  # whatever it was

    monkeypatch.setattr(ldap_directory, "carry_out", overtaken)
    mine = edits.change(edits.new(snapshot.directory, Site("Ulm")), Kind.ARRAY, "CAS", site="Ulm")
    with pytest.raises(MovedOn, match="look at it again"):
        store.change(snapshot, [c for c in difference(snapshot.directory, mine) if c.kind is Kind.ARRAY], NOTE)
    assert store.read().directory.arrays["cas"].site == "Berlin"


class Interrupted(BaseException):
    """As a kill would."""


def made(d: Directory) -> Directory:
    """Much that is new."""
    d = edits.new_group(organisation(d), "DAG1", ("MBX2", "MBX1"))
    d = edits.new_database(d, "DB2", "MBX1", (Copy("MBX1", 1), Copy("MBX2", 2)))
    return edits.remove_rpc_client_access(d.put(Account("carol", "DB1", "carol@lab.example")), "CAS1")


def reshaped(d: Directory) -> Directory:
    """Of what was made, things renamed, moved and removed."""
    d = edits.change(d, Kind.SERVER, "MBX1", name="MBX7")
    d = edits.change(d, Kind.SITE, "Paderborn", name="PB")
    d = edits.change(d, Kind.ARRAY, "CAS", fqdn="outlook.lab.example", site="Berlin")
    d = edits.change(edits.change(d, Kind.SERVER, "CAS1", weight=5), Kind.GROUP, "DAG1", servers=("MBX2",))
    d = edits.change(d, Kind.DATABASE, "DB2", active_server="MBX2", copies=(Copy("MBX2", 1),))
    return edits.remove(edits.remove(d, Kind.ACCOUNT, "carol"), Kind.DATABASE, "DB1")


@pytest.mark.parametrize("wanted", [made, reshaped], ids=["made", "reshaped"])
def test_changes_that_are_interrupted_anywhere_are_completed_by_repeating_them(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Directory], Directory]
) -> None:
    carry_out = ldap_directory.carry_out
    for after in range(100):
        store = domain.open()
        if wanted is reshaped:
            begins = store.read()
            store.change(begins, difference(begins.directory, made(begins.directory)), NOTE)
        snapshot = store.read()
        target = wanted(snapshot.directory)
        left = after

        def until(connection: object, step: Step) -> None:
            nonlocal left
            if left == 0:
                raise Interrupted
            left -= 1
            carry_out(connection, step)  # type: ignore[arg-type]  # whatever it was

        monkeypatch.setattr(ldap_directory, "carry_out", until)
        interrupted = False
        try:
            store.change(snapshot, difference(snapshot.directory, target), NOTE)
        except Interrupted:
            interrupted = True
        monkeypatch.setattr(ldap_directory, "carry_out", carry_out)
        again = domain.open()
        found = again.read()
        assert found.missing == ()
        again.change(found, difference(found.directory, target), NOTE)
        assert [str(c) for c in difference(again.read().directory, target)] == []
        domain.close()
        domain.dc.wipe()
        if not interrupted:
            break
    assert after >= 12


def test_administrators_who_change_the_same_server_at_the_same_time_lose_nothing(domain: Domain) -> None:
    change(domain.open(), organisation)
    errors: list[BaseException] = []

    def work(store: LdapDirectory, name: str) -> None:
        service = DirectoryService(store, name)
        try:
            for number in range(8):
                service.change(lambda d: edits.change(d, Kind.SERVER, "CAS1", weight=d.servers["cas1"].weight + 1), "")
                service.change(lambda d, n=number: edits.new_database(d, f"{name}{n}", "MBX1"), "")  # type: ignore[misc]  # mypy takes a lambda's default for an argument
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(domain.open(), name)) for name in ("alice", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    directory = domain.open().read().directory
    assert directory.servers["cas1"].weight == 116
    assert len(directory.databases) == 17


def test_two_administrators_give_a_site_an_array_at_the_same_time_and_one_stands(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rival = domain.open(), domain.open()
    change(store, lambda d: d.put(Site("Paderborn")))
    theirs = rival.read()
    carry_out = ldap_directory.carry_out

    def overtaken(connection: object, step: Step) -> None:
        monkeypatch.setattr(ldap_directory, "carry_out", carry_out)
        array = edits.new_array(theirs.directory, "First", "first.lab.example", "Paderborn")
        rival.change(theirs, difference(theirs.directory, array), NOTE)
        carry_out(connection, step)  # type: ignore[arg-type]  # whatever it was

    monkeypatch.setattr(ldap_directory, "carry_out", overtaken)
    with pytest.raises(Conflict, match=r"gave the site Paderborn an array at the same time \(first\)"):
        change(store, lambda d: edits.new_array(d, "Second", "second.lab.example", "Paderborn"))
    assert [a.name for a in store.read().directory.arrays.values()] == ["First"]


def test_a_server_that_exchange_itself_installed_is_not_removed(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    domain.dc.add(f"dn: CN=Protocols,CN=MBX1,CN=Servers,{GROUP}\nobjectClass: msExchContainer\n")
    store = domain.open()
    before = change(store, lambda d: edits.remove(edits.remove(d, Kind.DATABASE, "DB1"), Kind.DATABASE, "DB2"))
    with pytest.raises(Conflict, match="CN=Protocols.*removed with its own tools first. Nothing was changed"):
        change(store, lambda d: edits.remove(d, Kind.SERVER, "MBX1"))
    assert same(store.read().directory, before)


def test_an_object_in_the_way_that_cannot_be_read_is_named(domain: Domain) -> None:
    domain.dc.add(ORGANISATION)
    domain.dc.add(f"dn: CN=CAS9,CN=Servers,{GROUP}\nobjectClass: msExchExchangeServer\nmsExchCurrentServerRoles: 4\n")
    with pytest.raises(Conflict, match="there is an object CN=CAS9,CN=Servers,.* already"):
        change(domain.open(), lambda d: edits.new_server(d, "CAS9", "cas9.lab.example", "Paderborn"))


def test_a_user_becomes_an_account_and_stays_a_user(domain: Domain) -> None:
    domain.dc.add_user("erin")
    store = domain.open()
    change(store, organisation)
    change(store, lambda d: d.put(Account("erin", "DB1", "erin@lab.example", "Erin")))
    assert store.read().directory.accounts["erin"] == Account("erin", "DB1", "erin@lab.example", "Erin")
    change(store, lambda d: edits.remove(d, Kind.ACCOUNT, "erin"))
    assert store.read().directory.accounts == {}
    assert "sAMAccountName: erin" in domain.dc.search(domain.dc.base, "(sAMAccountName=erin)", "sAMAccountName")


# Logging on.


@pytest.fixture
def reader(domain: Domain, tmp_path: Path) -> DirectorySettings:
    """A plain user, by name and password."""
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text(domain.dc.add_user("reader"))
    return DirectorySettings(
        bind=Bind.SIMPLE, user="reader@lab.example", password_file=str(secret), ca=str(domain.dc.ca), timeout=5.0
    )


def test_a_name_and_password_log_on_once_the_connection_is_encrypted(domain: Domain, reader: DirectorySettings) -> None:
    store = domain.open(settings=reader, starttls=True)
    assert "default-first-site-name" in store.read().directory.sites


def test_a_name_and_password_log_on_over_ldaps(domain: Domain, reader: DirectorySettings) -> None:
    # libldap dials by itself and asks the host's resolver, so this is done where that is the lab's.
    program = (
        "from casarray.core.config import *\nfrom casarray.adapters.stores.ldap_directory import open_ldap\n"
        f"store = open_ldap(['ldaps://dc1.lab.example'], DirectorySettings(bind=Bind.SIMPLE, user={reader.user!r}, "
        f"password_file={reader.password_file!r}, ca={reader.ca!r}))\nprint(*store.read().directory.sites)\n"
    )
    environment = domain.dc.environment() | {"PYTHONPATH": str(netns.here())}
    said = domain.dc.host.run(sys.executable, "-c", program, env=environment).stdout
    assert said.strip() == "default-first-site-name"


def test_a_certificate_that_nobody_vouches_for_is_refused(domain: Domain, reader: DirectorySettings) -> None:
    with pytest.raises(Unavailable, match="its certificate is not vouched for by a certificate the host trusts"):
        domain.open(settings=reader, starttls=True, ca="").read()


def test_a_wrong_password_is_refused(domain: Domain, reader: DirectorySettings) -> None:
    Path(reader.password_file).write_text("wrong\n")
    with pytest.raises(Denied, match=r"dc1.lab.example does not believe reader@lab.example: the password is wrong"):
        domain.open(settings=reader, starttls=True).read()


def test_a_password_that_everybody_may_read_is_not_used(domain: Domain, reader: DirectorySettings) -> None:
    Path(reader.password_file).chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read .*chmod 600"):
        domain.open(settings=reader, starttls=True).read()


def test_a_keytab_logs_on(domain: Domain) -> None:
    domain.dc.add_user("gw1")
    for principal in ("gw1@LAB.EXAMPLE", ""):
        settings = DirectorySettings(keytab=str(domain.dc.keytab("gw1")), principal=principal)
        assert domain.open(settings=settings).read().missing == ()


def test_without_a_ticket_it_says_how_to_get_one(domain: Domain, tmp_path: Path) -> None:
    settings = DirectorySettings(ccache=f"FILE:{tmp_path}/none")
    with pytest.raises(Denied, match="with kinit"):
        domain.open(settings=settings).read()


def test_who_may_only_read_is_told_which_right_is_missing(domain: Domain) -> None:
    change(domain.open(), organisation)
    ticket = domain.dc.ticket("carl", domain.dc.add_user("carl"))
    store = domain.open(settings=DirectorySettings(ccache=ticket, principal="carl"))
    before = store.read()
    assert "cas" in before.directory.arrays
    with pytest.raises(Denied, match=r"Give carl the right to create msExchExchangeServer objects in CN=Servers,CN="):
        change(store, lambda d: edits.new_server(d, "CAS2", "cas2.lab.example", "Paderborn"))
    with pytest.raises(Denied, match="Give carl the right to write networkAddress of CN=CAS1"):
        change(store, lambda d: edits.change(d, Kind.SERVER, "CAS1", fqdn="x.lab.example"))
    assert same(store.read().directory, before.directory)


def test_who_cannot_see_deleted_objects_notices_them_all_the_same(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap_directory, "CENSUS_SECONDS", 0.0)
    admin = domain.open()
    change(admin, organisation)
    ticket = domain.dc.ticket("carl", domain.dc.add_user("carl"))
    store = domain.open(settings=DirectorySettings(ccache=ticket))
    assert "db1" in store.read().directory.databases
    assert store._connection is not None
    store._connection.sees_deleted = False  # Samba shows them to everybody, Windows to administrators
    after = change(admin, lambda d: edits.remove(d, Kind.DATABASE, "DB1"))
    assert same(store.read().directory, after)


# A domain controller that goes away.


def test_a_domain_controller_that_is_killed_is_unavailable_until_it_is_back(domain: Domain) -> None:
    store = domain.open(timeout=2.0)
    change(store, organisation)
    before = store.read()
    domain.dc.stop()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no domain controller answers"):
        store.revision()
    assert time.monotonic() - began < 10
    domain.dc.start()
    assert store.revision() == before.revision
    assert same(store.read().directory, before.directory)
    change(store, lambda d: edits.change(d, Kind.ARRAY, "CAS", fqdn="new.lab.example"), force=True)


def test_a_domain_controller_that_hangs_is_given_up_in_time(domain: Domain) -> None:
    store = domain.open(timeout=1.0)
    before = store.read()
    with domain.dc.frozen():
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no domain controller answers"):
            store.revision()
        assert time.monotonic() - began < 10
    assert store.revision() == before.revision


def test_a_domain_controller_that_dies_during_a_change_leaves_something_to_go_on_with(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = domain.open(timeout=2.0)
    carry_out = ldap_directory.carry_out
    count = 0

    def killed(connection: object, step: Step) -> None:
        nonlocal count
        count += 1
        if count == 8:
            domain.dc.stop()
        carry_out(connection, step)  # type: ignore[arg-type]  # whatever it was

    monkeypatch.setattr(ldap_directory, "carry_out", killed)
    with pytest.raises(Unavailable, match=r"was lost .* when 7 of \d+ steps were done"):
        change(store, organisation)
    domain.dc.start()
    monkeypatch.setattr(ldap_directory, "carry_out", carry_out)
    snapshot = store.read()
    wanted = organisation(snapshot.directory)
    store.change(snapshot, difference(snapshot.directory, wanted), NOTE)
    assert same(store.read().directory, wanted)


@pytest.fixture(scope="module")
def other_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DomainController]:
    """A domain of its own, whose schema knows nothing of Exchange until a test teaches it."""
    with netns.Lab() as lab, DomainController(lab, tmp_path_factory.mktemp("bare")) as dc:
        yield dc


def test_a_schema_without_the_classes_is_named_and_nothing_changed(
    other_lab: DomainController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(other_lab.krb5_conf))
    bare = Domain(other_lab)
    with other_lab.host.inside():
        store = bare.open()
        change(store, lambda d: d.put(Site("Paderborn")))
        found = store.read()
        (sentence,) = found.missing
        assert sentence.startswith("the schema of lab.example does not know msExchClientAccessArray,")
        with pytest.raises(
            Unavailable, match=r"not know msExchClientAccessArray, .*nothing was changed.*schema --store"
        ):
            change(store, lambda d: edits.new_array(d, "CAS", "cas.lab.example", "Paderborn"))
        assert same(store.read().directory, found.directory)
        ldif = store.schema_ldif()
        assert "lDAPDisplayName: msExchClientAccessArray" in ldif
        other_lab.modify(ldif)
        change(store, lambda d: edits.new_array(d, "CAS", "cas.lab.example", "Paderborn"))
        assert store.schema_ldif() == ""
        assert store.read().missing == ()
        bare.close()


def test_another_domain_controller_takes_over(
    other_lab: DomainController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(other_lab.krb5_conf))
    pair = Domain(other_lab)
    second = DomainController(other_lab.lab, tmp_path / "dc2", name="dc2", address="10.99.0.12", beside=other_lab)
    with other_lab.host.inside():
        change(pair.open(), lambda d: d.put(Subnet(ip_network("10.99.0.0/24"), "Default-First-Site-Name")))
        pair.close()
    with second:
        pair.controllers.append(second)
        monkeypatch.setenv("KRB5_CONFIG", str(second.krb5_conf))
        with second.host.inside():
            store = pair.open("ldap://lab.example", timeout=3.0)
            before = store.read()
            assert store._connection is not None
            assert store._connection.host == "dc1.lab.example"
            other_lab.stop()
            assert same(store.read().directory, before.directory)
            assert store._connection.host == "dc2.lab.example"
            change(store, lambda d: d.put(Subnet(ip_network("10.98.0.0/24"), "Default-First-Site-Name")))
            assert "10.98.0.0/24" in store.read().directory.subnets
            pair.close()


# Names.


def test_the_domain_is_found_by_its_name(domain: Domain) -> None:
    text = domain.dc.host.run(
        sys.executable,
        "-c",
        "from casarray.adapters.stores.ldap_names import Names\n"
        "print(Names().controllers('lab.example', 3), Names().addresses('dc1.lab.example'))",
        env=domain.dc.environment() | {"PYTHONPATH": str(netns.here())},
    ).stdout
    assert text.strip() == "['dc1.lab.example'] ['10.99.0.10']"
