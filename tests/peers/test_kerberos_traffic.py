"""Real traffic under the array's name: logins by web, mail and RPC through a gateway, before, during and after a roll
of the shared account's password in a real Active Directory, with a member added meanwhile; and Kerberos turned off.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Domain, LabNames

gssapi = pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")
pytest.importorskip("ldap", reason="python-ldap is not installed (script/setup says what builds it)")
pytest.importorskip("impacket", reason="impacket is not installed")

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Scope
from casarray.app.kerberos.rolling import roll
from casarray.core.config import KerberosSettings
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.wanted import wanted_names
from casarray.lab import kerberos_members, netns, samba_ad
from casarray.lab.kerberos_site import ACCOUNT, ARRAY, KerberosSite, User
from casarray.lab.server import tell

REASON = netns.missing() or samba_ad.missing() or kerberos_members.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


class Traffic:
    """The site, its administrator and its users."""

    def __init__(self, site: KerberosSite, domain: Domain) -> None:
        self.site = site
        self.realm = ActiveDirectoryRealm(
            [f"ldap://{domain.dc.fqdn}"], KerberosSettings(account=ACCOUNT), domain.settings(), LabNames([domain.dc])
        )
        self.users: list[User] = []

    @property
    def desk(self) -> Desk:
        return self.site.desk(self.realm, self.site.reach())

    def roll(self, **order: Any) -> None:
        report = roll(self.desk, Order(ACCOUNT, **order))
        assert report.code == 0, report.text

    def give_names(self) -> None:
        (share,) = self.desk.shares()
        wanted = [one.name for one in wanted_names(share, self.desk.settings, self.desk.profile)]
        self.realm.change_names(self.realm.account(ACCOUNT), wanted, ())

    def take_names(self) -> None:
        account = self.realm.account(ACCOUNT)
        self.realm.change_names(account, (), [parse(name) for name in account.names])

    def until_in_use(self, *names: str) -> None:
        """Wait until exactly these members may get clients."""
        until = time.monotonic() + 20
        while (found := self.members()) != {name: name in names for name in found}:
            assert time.monotonic() < until, self.reasons()
            time.sleep(0.1)

    def until_stale(self, name: str) -> None:
        """Wait until a member's agent says that its keys are old; the gateway reads the same page."""
        until = time.monotonic() + 20
        page = f"http://{self.site.addresses(name)[0]}:7136/health"
        while "it missed a roll" not in (said := self.site.host("gateway").run("curl", "-s", page, check=False).stdout):
            assert time.monotonic() < until, said
            time.sleep(0.1)

    def reasons(self) -> dict[str, str]:
        (group,) = self.site.control.status().arrays[0].groups
        return {member.name: member.reason for member in group.members}

    def members(self) -> dict[str, bool]:
        """Whether clients may be led to them."""
        (group,) = self.site.control.status().arrays[0].groups
        return {member.name: member.eligible for member in group.members}

    def log_in(self, sources: int = 4, **options: Any) -> dict[str, Any]:
        """Logins to their end."""
        load = Load(self, "logins", sources, **options)
        load.process.wait(60)
        return load.said()


class Load:
    """Logins in the background."""

    def __init__(self, traffic: Traffic, name: str, sources: int, **options: Any) -> None:
        self.out = traffic.site.folder / f"{name}.out"
        self.process = traffic.site.start_logins(traffic.users, sources, self.out, **options)

    def stop(self) -> dict[str, Any]:
        """Finish those that are on their way."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return self.said()

    def said(self) -> dict[str, Any]:
        """What they printed at their end."""
        lines = self.out.read_text().splitlines()
        assert len(lines) == 2, self.out.with_suffix(".err").read_text()
        found: dict[str, Any] = json.loads(lines[1])
        return found


@pytest.fixture
def traffic(domain: Domain, tmp_path: Path) -> Iterator[Traffic]:
    """Two members with the keys of the account's first password, its names in the directory, and a running gateway."""
    site = KerberosSite(tmp_path, domain.dc, health={"interval": '"250ms"', "slow_start": '"0s"'})
    found = Traffic(site, domain)

    async def start() -> None:
        await site.__aenter__()
        await asyncio.gather(site.start_gateway(), *map(site.start_agent, site.names))

    try:
        asyncio.run(start())
        found.realm.create(ACCOUNT, AccountKind.COMPUTER, AES)
        found.roll()  # keys first: as soon as the account has the names, clients come with tickets
        found.give_names()
        found.users = [site.user("alice"), site.user("bob")]
        found.until_in_use("cas1", "cas2")
        yield found
    finally:
        found.realm.close()
        site.close()


IMPACKET = """
import sys
from impacket.dcerpc.v5 import epm, rpcrt, transport
from impacket.krb5.ccache import CCache
from impacket.uuid import uuidtup_to_bin
from casarray.core.dcerpc.interfaces import emsmdb
cache, spn, vip = sys.argv[1:]
ticket = CCache.loadFile(cache).getCredential(spn).toTGS()
mailbox = uuidtup_to_bin((str(emsmdb.EMSMDB.uuid), "0.81"))
def rpc(binding, level):
    binding = transport.DCERPCTransportFactory(binding)
    binding.set_kerberos(True)
    binding.set_credentials("alice", "", "LAB.EXAMPLE", TGS=ticket)
    found = binding.get_dce_rpc()
    found.set_auth_type(rpcrt.RPC_C_AUTHN_GSS_NEGOTIATE)
    found.set_auth_level(level)
    found.connect()
    return found
for level in (rpcrt.RPC_C_AUTHN_LEVEL_PKT_INTEGRITY, rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY):
    mapper = rpc(f"ncacn_ip_tcp:{vip}[135]", level)  # which port, asked signed or sealed like all the rest
    binding = epm.hept_map(vip, mailbox, protocol="ncacn_ip_tcp", dce=mapper)
    mapper.disconnect()
    server = rpc(binding, level)
    server.bind(mailbox)
    server.call(emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx("/o=Lab/cn=alice").encode())
    print(emsmdb.EcDoConnectExReply.decode(server.recv(), "little", False).display_name)
    server.disconnect()
"""


def impacket(traffic: Traffic) -> list[str]:
    """Who answers impacket, signed and then sealed, with the ticket that is in alice's cache."""
    site, cache = traffic.site, traffic.users[0].ccache.removeprefix("FILE:")
    command = [sys.executable, "-c", IMPACKET, cache, f"exchangeMDB/{ARRAY}@LAB.EXAMPLE", site.vip]
    done = site.host("clients").run(*command, env=site.environment(), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def curl(traffic: Traffic, *options: str, path: str = "/ews/", text: str = "") -> str:
    """What curl gets from the array as alice; the status stands behind."""
    site = traffic.site
    command = ["curl", "-s", "-w", " %{http_code}", "--resolve", f"{ARRAY}:80:{site.vip}"]
    env = dict(site.environment()) | {"KRB5CCNAME": traffic.users[0].ccache}
    done = site.host("clients").run(*command, *options, f"http://{ARRAY}{path}", env=env, input=text, check=False)
    return done.stdout


ENDLESS = {"count": 100_000, "seconds": 60, "pause": 0.1, "fresh_share": 0.3}


def test_nobody_notices_a_roll_and_turning_it_off_is_clean(traffic: Traffic) -> None:
    site = traffic.site

    # Before: everybody gets in, on both members, and the tickets stay in the caches.
    before = traffic.log_in(count=48)
    assert before["reasons"] == {}
    assert set(before["members"]) == {"cas1", "cas2"}
    assert all(set(counts) == {"http", "imap", "rpc"} for counts in before["members"].values())
    assert curl(traffic, "--negotiate", "-u", ":").startswith("cas")
    first, second = impacket(traffic)
    assert first == second
    assert first in ("cas1", "cas2")

    # During: a member comes, is given what the others hold, and gets clients; then the password is rolled.
    old = Load(traffic, "old", 4, **ENDLESS)
    asyncio.run(site.start_agent(asyncio.run(site.add_member())))
    traffic.roll(copy_from="cas1", scope=Scope(servers=("cas3",)))
    site.take_in()
    traffic.until_in_use("cas1", "cas2", "cas3")
    new = Load(traffic, "new", 8, first_source=100, **ENDLESS)
    number = traffic.realm.account(ACCOUNT).number
    time.sleep(1)
    traffic.roll(force=True)  # within the lifetime of the first password's tickets: both keys are kept
    assert traffic.realm.account(ACCOUNT).number == number + 1
    time.sleep(1.5)
    for during, members in ((old.stop(), {"cas1", "cas2"}), (new.stop(), {"cas1", "cas2", "cas3"})):
        assert during["reasons"] == {}
        assert sum(during["succeeded"].values()) > 50
        assert set(during["members"]) == members

    # After: tickets from before the roll still open every door, and so do new ones.
    for options in ({"fresh_share": 0.0}, {"fresh_share": 1.0}):
        after = traffic.log_in(sources=8, first_source=100, count=48, **options)
        assert after["reasons"] == {}
        assert set(after["members"]) == {"cas1", "cas2", "cas3"}
    assert impacket(traffic) == [first, second]  # the same ticket, and the same server
    callers = [tell(site.folder / f"{name}.sock", "state")["kerberos"]["callers"] for name in site.names]
    assert all("alice@LAB.EXAMPLE" in found or "bob@LAB.EXAMPLE" in found for found in callers)
    turned_off(traffic)


def turned_off(traffic: Traffic) -> None:
    """Without its names nobody gets a ticket; who may fall back does, who may not is told why."""
    traffic.take_names()
    traffic.users = [traffic.site.user("carol")]
    refused = traffic.log_in(count=6)
    assert refused["succeeded"] == {}
    assert all("not found in Kerberos database" in reason for reason in refused["reasons"])
    time.sleep(2.5)  # the agents have looked: names that nobody has make no member stale
    traffic.until_in_use("cas1", "cas2", "cas3")
    offered = curl(traffic, "--negotiate", "-u", ":", "-i", path="/both/")
    assert offered.endswith(" 401")
    assert 'WWW-Authenticate: Basic realm="lab"' in offered
    assert curl(traffic, "--negotiate", "-u", ":").endswith(" 401")
    for member in traffic.site.members.values():
        login = f'user = "alice:{member.password}"'  # each member of the lab has its own
        answer = curl(traffic, "--basic", "-K", "-", path="/both/", text=login)
        if answer.endswith(" 200"):
            break
    assert " alice via " in answer


def test_a_member_that_missed_a_roll_gets_no_clients_until_it_has_caught_up(traffic: Traffic) -> None:
    site = traffic.site
    site.stop_agent("cas2")
    report = roll(traffic.desk, Order(ACCOUNT, force=True))
    assert report.code == 1  # a member does not answer: nothing is changed
    assert traffic.log_in(count=16, fresh_share=1.0)["reasons"] == {}
    traffic.roll(force=True, left_out=("cas2",))
    asyncio.run(site.start_agent("cas2"))
    traffic.until_stale("cas2")
    traffic.until_in_use("cas1")

    elsewhere = traffic.log_in(first_source=100, count=16, fresh_share=1.0)
    assert elsewhere["reasons"] == {}
    assert set(elsewhere["members"]) == {"cas1"}

    traffic.roll(copy_from="cas1", scope=Scope(servers=("cas2",)))
    traffic.until_in_use("cas1", "cas2")
    again = traffic.log_in(sources=8, first_source=200, count=32, fresh_share=1.0)
    assert again["reasons"] == {}
    assert set(again["members"]) == {"cas1", "cas2"}
