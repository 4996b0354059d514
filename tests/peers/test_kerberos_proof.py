"""`test kerberos` against a real domain controller, and real Apache, Dovecot and Postfix with right and wrong keys."""

import asyncio
import itertools
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from tests.app.kerberos.fake_agents import FakeAgents
from tests.conftest import Domain, LabNames

pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")
pytest.importorskip("ldap", reason="python-ldap is not installed")

from casarray.adapters.clock import SystemClock
from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.adapters.kerberos.derivation import derive
from casarray.adapters.kerberos.knocking import GssKnocker
from casarray.adapters.kerberos.probing import KerberosProbes
from casarray.adapters.net.dial import DialProber
from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.health import HealthWatch
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.proving import Step, Verdict, Wish, prove
from casarray.core.config import DirectorySettings, HealthPolicy, KerberosSettings, ProbeKind, Service
from casarray.core.directory.model import Array, Directory, Server, Site
from casarray.core.health.probes import Target as ProbeTarget
from casarray.core.health.verdict import HealthState, ServiceHealth
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keytab import NT_PRINCIPAL, KeytabEntry, write_keytab
from casarray.core.kerberos.proof import Trouble
from casarray.core.kerberos.salts import computer_salt, user_salt
from casarray.lab import kerberos_members, mit_kdc, netns, samba_ad
from casarray.lab.kerberos_members import HTTP, MAIL, KerberosMember
from casarray.lab.netns import Lab

REASON = netns.missing() or samba_ad.missing() or kerberos_members.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

ARRAY = "cas.lab.example"
ACCOUNT = "asa$"
DN = "CN=asa,CN=Computers,DC=lab,DC=example"
NAMES = tuple(f"{service}/{ARRAY}" for service in ("http", "imap", "pop", "smtp", "exchangeMDB"))
RPC = 5001
EMSMDB = "a4f1db00-ca47-1067-b31f-00dd010662da/0.81"
SERVICES: list[Mapping[str, object]] = [
    {"name": "http", "port": 80, "probe": "http", "path": "/ews/"},
    {"name": "imap", "port": 143, "probe": "imap"},
    {"name": "pop3", "port": 110, "probe": "pop3"},
    {"name": "smtp", "port": 25, "probe": "smtp"},
    {"name": "mailbox", "port": RPC, "probe": "rpc", "interfaces": [EMSMDB]},
]
_hosts = itertools.count(161)  # another address each time: the controller's host remembers whose the last one was
Troubles = dict[tuple[str, str], Trouble | None]


class Place:
    """An array whose members read tickets, an account with its names, and an administrator who tests."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.dc = domain.dc
        self.version = 0
        self.servers: list[Server] = []
        self.agents = FakeAgents()
        self.realm = ActiveDirectoryRealm(
            (f"ldap://{self.dc.fqdn}",),
            KerberosSettings(ccache=domain.settings().ccache),
            DirectorySettings(timeout=5.0),
            LabNames(domain.controllers),
        )
        self.dc.load(
            f"dn: {DN}\nchangetype: add\nobjectClass: computer\nsAMAccountName: {ACCOUNT}\nuserAccountControl: 4096\n"
            + "".join(f"servicePrincipalName: {name}\n" for name in NAMES)
            + "msDS-SupportedEncryptionTypes: 24\n"
        )
        self.roll()
        self.settings = KerberosSettings(account=ACCOUNT, ccache=self.dc.ticket("alice", self.dc.add_user("alice")))

    def change(self, *lines: str, dn: str = DN) -> None:
        self.dc.load(f"dn: {dn}\nchangetype: modify\n" + "\n".join(lines) + "\n-\n")

    def add_behind_everybodys_back(self, user: str, name: str) -> None:
        """A user with a name that somebody has already, as replication brings it: nobody checks."""
        self.dc.add_user(user)
        database = self.dc.folder / f"private/sam.ldb.d/{self.dc.base.upper()}.ldb"
        change = f"dn: CN={user},CN=Users,{self.dc.base}\nchangetype: modify\nadd: servicePrincipalName\n"
        change += f"servicePrincipalName: {name}\n-\n"
        self.dc.host.run("ldbmodify", "-H", str(database), input=change, env=self.dc.environment())

    def roll(self) -> None:
        """Another password; the members are not told."""
        self.password = f"aA1-{secrets.token_urlsafe(40)}"
        self.dc.set_password(DN, self.password)
        found = self.dc.search(DN, "(objectClass=*)", "msDS-KeyVersionNumber", scope="base")
        self.version = int(found.partition("msDS-KeyVersionNumber: ")[2].split()[0])

    def keytab(self, salt: str = "", types: tuple[Enctype, ...] = (Enctype.AES256, Enctype.AES128)) -> bytes:
        """The keys that the password gives, under every name."""
        salted = salt or computer_salt(self.dc.realm, ACCOUNT)
        keys = {kind: derive(self.password, kind, salted) for kind in types}
        spelt = (*NAMES, f"HTTP/{ARRAY}")
        return write_keytab(
            KeytabEntry(tuple(name.split("/")), self.dc.realm, NT_PRINCIPAL, 0, self.version, kind, key)
            for name in spelt
            for kind, key in keys.items()
        )

    def test(self, **wish: Any) -> tuple[Step, ...]:
        """As the command does it."""
        array = Array("CAS", ARRAY, "Lab", settings={"service": SERVICES})
        directory = Directory(
            sites={"lab": Site("Lab")},
            arrays={"cas": array},
            servers={server.name: server for server in self.servers},
        )
        service = DirectoryService(MemoryDirectory(directory), "admin")
        desk = Desk(service, lambda: self.settings, lambda: self.realm, lambda: self.agents)
        knocker = GssKnocker(self.settings)
        try:
            steps = prove(desk, knocker, Wish(**wish), lambda _: None, time.time)
        finally:
            knocker.close()
        for step in steps:
            print(step.verdict, step.what, step.text, "|", step.next)
        return steps

    def troubles(self, **wish: Any) -> Troubles:
        """What is wrong with the members, by server and service."""
        return {(s.server, s.service): s.trouble for s in self.test(**wish) if s.what == "member"}


@pytest.fixture
def place(domain: Domain) -> Iterator[Place]:
    found = Place(domain)
    yield found
    found.realm.close()


@pytest.fixture
def member(place: Place) -> Iterator[KerberosMember]:
    """A member with the right keys."""
    with started(place, "cas1") as found:
        yield found


@contextmanager
def started(place: Place, name: str, services: tuple[str, ...] = (HTTP, MAIL)) -> Iterator[KerberosMember]:
    """A member that the array knows, with the account's keys as they are now."""
    with Lab() as lab:
        host, address = lab.namespace(name), f"10.99.0.{next(_hosts)}"
        place.dc.lab.leg(host, "domain", f"{address}/24", device="eth0")
        with KerberosMember(host, name, [address], krb5_conf=place.dc.krb5_conf, services=services) as found:
            found.write_keytabs(place.keytab())
            place.servers.append(Server(name, found.fqdn, "Lab", addresses=(ip_address(address),)))
            yield found


@contextmanager
def rpc_server(member: KerberosMember) -> Iterator[None]:
    """The lab's RPC server on it, reading the web server's keytab."""
    command = [sys.executable, "-m", "casarray.lab.server", "--name", "cas1", "--address", *member.addresses]
    command += ["--rpc-port", str(RPC), "--keytab", str(member.keytabs["http"].path)]
    env = os.environ | {"PYTHONPATH": str(netns.here())}
    process = member.host.spawn(*command, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(b"ready")
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_every_service_takes_the_ticket_and_proves_it(place: Place, member: KerberosMember) -> None:
    with rpc_server(member):
        steps = place.test()
    assert {(s.server, s.service): s.verdict for s in steps if s.what == "member"} == {
        ("cas1", service): Verdict.OK for service in ("http", "imap", "pop3", "smtp", "mailbox")
    }
    tickets = [s for s in steps if s.what == "ticket"]
    assert {(s.name, s.version, s.encryption) for s in tickets} == {
        (name, place.version, "aes256-cts-hmac-sha1-96") for name in NAMES
    }
    assert {s.answered_by for s in steps if s.service == "imap"} == {"cas1 ready"}


def test_a_stale_member_and_one_with_a_wrong_salt_are_told_apart(place: Place, member: KerberosMember) -> None:
    place.roll()
    assert place.troubles(service="http") == {("cas1", "http"): Trouble.STALE}
    member.write_keytabs(place.keytab(types=(Enctype.AES128,)))  # a key of this version, but of another type
    assert place.troubles(service="http") == {("cas1", "http"): Trouble.STALE}
    # Keys as a tool makes them that takes the account for a user's. Dovecot says nothing of it; Apache does.
    member.write_keytabs(place.keytab(user_salt(place.dc.realm, "asa")))
    wrong = {("cas1", service): Trouble.WRONG_KEY for service in ("http", "imap", "pop3", "smtp")}
    assert place.troubles(seconds=4.0) == wrong | {("cas1", "mailbox"): Trouble.UNREACHABLE}
    member.write_keytabs(place.keytab())
    assert place.troubles(service="http") == {("cas1", "http"): None}
    # The browsers' name, at a place that asks nobody.
    assert place.troubles(service="http", path="/health/") == {("cas1", "http"): Trouble.OPEN}


def test_what_is_wrong_with_the_names_is_said_once_each(place: Place, member: KerberosMember) -> None:
    def tickets(**wish: Any) -> dict[str, Trouble | None]:
        return {s.name: s.trouble for s in place.test(**wish) if s.what == "ticket"}

    place.change("delete: servicePrincipalName", f"servicePrincipalName: pop/{ARRAY}")
    place.add_behind_everybodys_back("other", f"smtp/{ARRAY}")
    steps = place.test()
    found = {s.name: s.trouble for s in steps if s.what == "ticket"}
    assert (found[f"pop/{ARRAY}"], found[f"smtp/{ARRAY}"]) == (Trouble.MISSING_NAME, Trouble.DUPLICATE_NAME)
    assert "other" in next(s.text for s in steps if s.trouble is Trouble.DUPLICATE_NAME)
    # RC4 alone: it works, and is warned of.
    place.change("replace: msDS-SupportedEncryptionTypes", "msDS-SupportedEncryptionTypes: 4")
    member.write_keytabs(place.keytab(types=(Enctype.RC4,)))
    steps = place.test(service="http")
    assert [(s.verdict, s.trouble, s.encryption) for s in steps if s.what == "ticket"] == [
        (Verdict.WARNING, Trouble.RC4, "rc4-hmac")
    ]
    assert [s.trouble for s in steps if s.what == "member"] == [None]
    assert tickets(name="http/10.99.0.1") == {"http/10.99.0.1": Trouble.NOT_A_NAME}
    place.settings = KerberosSettings(account=ACCOUNT, ccache="FILE:/nonexistent")
    assert set(tickets().values()) == {Trouble.NO_TICKET_OF_OURS}


def test_a_member_whose_clock_is_wrong_says_so_and_how_much(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, source = tmp_path / "clock.so", tmp_path / "clock.c"
    source.write_text(mit_kdc._CLOCK)
    built = ["gcc", "-shared", "-fPIC", "-DAHEAD=1800", "-o", str(library), str(source), "-ldl"]
    subprocess.run(built, check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    with started(place, "cas1", (HTTP,)):
        monkeypatch.delenv("LD_PRELOAD")
        (step,) = (s for s in place.test(service="http") if s.what == "member")
    assert step.trouble is Trouble.CLOCK
    assert "it is 30 minutes ahead" in step.text


async def test_the_probe_takes_a_stale_member_out_and_back_and_bears_a_silent_kdc(
    place: Place, member: KerberosMember
) -> None:
    probes = KerberosProbes(place.settings, ticket_seconds=0.2)
    prober = DialProber(open_door=lambda: probes)
    health: dict[str, ServiceHealth] = {}

    def target(name: str, port: int) -> ProbeTarget:
        service = Service(name, port, name, ProbeKind.KERBEROS, path="/ews/")
        return ProbeTarget("cas1", (ip_address(member.addresses[0]),), service, host=ARRAY)

    watch = HealthWatch(prober, lambda _: HealthPolicy(interval=0.3, timeout=2.0, hold=0.0), SystemClock())
    watch.watch([target("http", 80), target("imap", 143)])

    async def becomes(state: HealthState, *services: str) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            health.update({service: found for (_, service), found in watch.seen().items()})
            if all(health[service].state is state for service in services):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(health)

    try:
        await becomes(HealthState.UP, "http", "imap")
        place.roll()
        await becomes(HealthState.DOWN, "http", "imap")
        assert "its keytab is stale" in health["http"].reason
        member.write_keytabs(place.keytab())
        await becomes(HealthState.UP, "http")
        with place.dc.frozen():
            await asyncio.sleep(3)
            await becomes(HealthState.UP, "http")  # with the ticket it has
    finally:
        await watch.close()


async def test_without_any_ticket_nobody_is_judged(member: KerberosMember) -> None:
    probes = KerberosProbes(KerberosSettings(ccache="FILE:/nonexistent"))
    service = Service("imap", 143, "imap", ProbeKind.KERBEROS)
    target = ProbeTarget("cas1", (ip_address(member.addresses[0]),), service, host=ARRAY)
    prober = DialProber(open_door=lambda: probes)
    answer, _ = await prober.probe(target, 5.0)
    prober.close()
    assert answer.ours
    assert "there is no ticket for imap/cas.lab.example" in answer.reason
