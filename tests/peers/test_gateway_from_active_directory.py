"""A gateway that is told nothing but where Active Directory is: it serves what a real domain controller holds."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway.gateways import PROGRAM, QUICK, WHY_NOT, members, outlook, people, soon, unhurt

from casarray.lab.samba_ad import ADMINISTRATOR, DomainController
from casarray.lab.samba_ad import missing as no_samba
from casarray.lab.site import NetworkSite

REASON = WHY_NOT or no_samba()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SERVERS = ("cas1", "cas2", "cas3")
CONFIG = """
[gateway]
name = "gw1"
mode = "kernel"
state = "{folder}/state"
control = "{folder}/casarray.sock"
metrics = ""

[directory]
store = "ldap://dc1.lab.example"
principal = "gw1"
keytab = "{keytab}"
interval = "500ms"
timeout = "3s"
"""


class Domain:
    """The site, and the domain controller beside its gateway."""

    def __init__(self, site: NetworkSite, controller: DomainController) -> None:
        self.site = site
        self.controller = controller

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of the command line on the gateway's host, as the domain's administrator."""
        env = self.controller.environment() | {
            "KRB5CCNAME": self.controller.ticket(ADMINISTRATOR, self.controller.password)
        }
        return self.site.host("gateway").run(PROGRAM, *words, check=False, env=env, timeout=60)

    def address(self, name: str) -> str:
        """The DN of a server."""
        found = self.controller.search(
            f"CN=Configuration,{self.controller.base}", f"(&(objectClass=msExchExchangeServer)(cn={name}))", "cn"
        )
        return next(line.partition(": ")[2] for line in found.splitlines() if line.startswith("dn: "))


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    """The lab's file, copied into a new domain by the command line; then a gateway that knows the domain alone."""
    folder = tmp_path_factory.mktemp("domain")
    site = NetworkSite(folder, servers=SERVERS, health=QUICK)
    environment = dict(os.environ)
    overlay: Path | None = None
    try:
        asyncio.run(site.__aenter__())
        controller = DomainController(site.lab, folder / "dc")
        controller.set_up()
        gateway = site.host("gateway")
        site.lab.leg(gateway, "domain", "10.99.0.31/24")
        overlay = Path("/etc/netns") / gateway.name
        overlay.mkdir(parents=True)
        (overlay / "resolv.conf").write_text("nameserver 10.99.0.10\noptions timeout:1\n")
        controller.start()
        controller.extend_schema()
        controller.add_user("gw1")
        made = Domain(site, controller)
        copied = f"sqlite:{folder}/seed"
        for words in (
            ("apply", "-f", str(site.config_path), "--store", copied, "--yes"),
            ("directory", "copy", "--from", copied, "--to", "ldap://dc1.lab.example", "--yes"),
        ):
            done = made.cli(*words)
            assert done.returncode == 0, done.stderr + done.stdout
        os.environ |= controller.environment()
        site.config_path.write_text(CONFIG.format(folder=folder, keytab=controller.keytab("gw1")))
        asyncio.run(site.start_gateway())
        yield made
        controller.tear_down()
    finally:
        os.environ.clear()
        os.environ |= environment
        site.close()
        if overlay is not None:
            shutil.rmtree(overlay, ignore_errors=True)


async def test_the_array_of_active_directory_is_served(domain: Domain) -> None:
    site = domain.site
    await soon(lambda: all(m.eligible for m in members(site).values()))
    assert set(members(site)) == set(SERVERS)
    async with people(site, 8) as clients:
        await unhurt(clients)


async def test_the_plan_of_a_second_copy_is_empty(domain: Domain) -> None:
    words = ("directory", "copy", "--from", f"sqlite:{domain.site.folder}/seed", "--to", "ldap://dc1.lab.example")
    done = await asyncio.to_thread(domain.cli, *words, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["changes"] == []


async def test_what_the_shell_makes_stands_in_active_directory(domain: Domain) -> None:
    lines = """
New-ADSite Berlin
New-MailboxServer mbx1 -Fqdn mbx1.lab.example -Site Berlin
New-MailboxDatabase -Name DB1 -Server mbx1
New-ClientAccessArray
  -Name BER
  -Fqdn ber.lab.example
  -Site Berlin
Get-MailboxDatabase | Set-MailboxDatabase -RpcClientAccessServer ber.lab.example
Get-ClientAccessArray BER | fl Name,Fqdn,Site,Members
"""
    done = await asyncio.to_thread(domain.cli, "shell", "--store", "ldap://dc1.lab.example", "-c", lines)
    assert done.returncode == 0, done.stderr
    assert "Fqdn    : ber.lab.example" in done.stdout
    below = f"CN=Configuration,{domain.controller.base}"
    array = domain.controller.search(below, "(&(objectClass=msExchClientAccessArray)(cn=BER))", "networkAddress")
    assert "networkAddress: ncacn_ip_tcp:ber.lab.example" in array
    database = domain.controller.search(below, "(&(objectClass=msExchPrivateMDB)(cn=DB1))", "legacyExchangeDN")
    unfolded = database.replace("\n ", "")
    assert "/cn=Configuration/cn=Servers/cn=ber.lab.example/cn=Microsoft Private MDB" in unfolded


async def test_what_somebody_changes_with_other_tools_is_followed(domain: Domain) -> None:
    site = domain.site
    cas3 = domain.address("cas3")
    roles = "dn: {dn}\nchangetype: modify\nreplace: msExchCurrentServerRoles\nmsExchCurrentServerRoles: {bits}\n-\n"
    async with people(site, 8) as clients:
        stay = [client for client in clients if client.member != "cas3"]
        await asyncio.to_thread(domain.controller.modify, roles.format(dn=cas3, bits=2))
        await soon(lambda: set(members(site)) == {"cas1", "cas2"})
        await unhurt(stay)
    await asyncio.to_thread(domain.controller.modify, roles.format(dn=cas3, bits=4))
    await soon(lambda: set(members(site)) == set(SERVERS) and members(site)["cas3"].eligible)


async def test_without_the_domain_controller_everything_goes_on_and_a_restart_does_too(domain: Domain) -> None:
    site = domain.site
    await soon(lambda: all(m.eligible for m in members(site).values()))
    async with people(site, 8) as clients:
        domain.controller.stop()
        await soon(lambda: not site.control.status().directory.reachable, 30.0)  # type: ignore[union-attr]  # it has one
        assert any("cannot be reached" in warning for warning in site.control.status().warnings)
        await unhurt(clients)
        site.kill_gateway()
        await site.start_gateway()
        assert set(members(site)) == set(SERVERS)
        await unhurt(clients)
    with site.host("clients").inside():
        late = outlook(site, 60)
        await late.open()
        late.close()
    await asyncio.to_thread(domain.controller.start)
    await soon(lambda: site.control.status().directory.reachable, 30.0)  # type: ignore[union-attr]  # as above
