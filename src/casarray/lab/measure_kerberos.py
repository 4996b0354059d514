"""The measurements around the shared account behind `script/figures`."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos import spns
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order
from casarray.app.kerberos.ports import Agents
from casarray.app.kerberos.rolling import roll as roll_now
from casarray.app.kerberos.telling import MemberState
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.directory.model import Array
from casarray.core.errors import CasarrayError, Unavailable
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.roll_steps import Outcome
from casarray.lab import kerberos_load, rolling, samba_ad
from casarray.lab.agents import LabAgents
from casarray.lab.directory_load import OneName
from casarray.lab.figure import Figure, spread
from casarray.lab.measure_directory import small
from casarray.lab.netns import Lab
from casarray.lab.samba_ad import ADMINISTRATOR, DomainController

MANY = 10_000
MEMBERS = 50


@contextmanager
def desk_at(controller: DomainController, account: str) -> Iterator[Desk]:
    """An administrator's desk in a lab's domain; use it in the controller's network."""
    settings = KerberosSettings(account=account, ccache=controller.ticket(ADMINISTRATOR, controller.password))
    array = Array("CAS", "cas.domain.tld", "Paderborn", settings={"published": ["mail.domain.tld"]})
    service = DirectoryService(MemoryDirectory(small().put(array)), "figures")

    def realm() -> ActiveDirectoryRealm:
        urls, names = [f"ldap://{controller.fqdn}"], OneName(controller.address)
        return ActiveDirectoryRealm(urls, settings, DirectorySettings(timeout=60.0), names)

    def agents() -> Agents:
        raise Unavailable("no agents take part")

    desk = Desk(service, lambda: settings, realm, agents)
    try:
        yield desk
    finally:
        desk.close()


@contextmanager
def told_of(controller: DomainController) -> Iterator[None]:
    """For a while this process's Kerberos knows the lab's realm."""
    before = os.environ.get("KRB5_CONFIG")
    os.environ["KRB5_CONFIG"] = str(controller.krb5_conf)
    try:
        yield
    finally:
        if before is None:
            del os.environ["KRB5_CONFIG"]
        else:
            os.environ["KRB5_CONFIG"] = before


async def audit(folder: Path, runs: int) -> list[Figure]:
    """An audit of a real forest of 10,000 accounts with eight names each, from the logon to the findings."""
    if reason := samba_ad.missing():
        return [Figure("spn audit", "5 s", f"not measured: {reason}", None)]
    with Lab() as lab, DomainController(lab, folder) as controller:
        names = await asyncio.to_thread(kerberos_load.populate, controller, MANY)
        seconds = await asyncio.to_thread(_audits, controller, max(3, runs // 4))
    what = f"spn audit of a forest with {MANY:,} accounts and {names:,} names"
    return [Figure(what, "5 s", spread(seconds, "s"), max(seconds) <= 5, tuple(seconds), "s")]


def _audits(controller: DomainController, runs: int) -> list[float]:
    seconds = []
    with controller.host.inside(), told_of(controller):
        with desk_at(controller, "asa$") as desk:
            account = desk.realm.create("asa", AccountKind.COMPUTER, AES)
            desk.realm.change_names(account, [parse("http/mail.domain.tld")], ())
        for _ in range(runs):
            began = time.perf_counter()
            with desk_at(controller, "asa$") as desk:
                found = spns.audit(desk)
            seconds.append(time.perf_counter() - began)
            if len(found) != 3:
                raise CasarrayError(f"an audit should find the three names that are missing, and found {len(found)}")
    return seconds


async def roll(folder: Path, runs: int) -> list[Figure]:
    """Rolls over 50 members with real agents, as a command does them: from the logon to a ticket with the new keys."""
    if reason := samba_ad.missing():
        return [Figure("roll", "10 s", f"not measured: {reason}", None)]
    (folder / "members").mkdir()
    with Lab() as lab, DomainController(lab, folder / "dc") as controller:
        seconds = await asyncio.to_thread(_rolls, controller, folder / "members", max(3, runs // 2))
    what = f"roll over {MEMBERS} members, every one confirms twice"
    return [Figure(what, "10 s", spread(seconds, "s"), max(seconds) <= 10, tuple(seconds), "s")]


def _rolls(controller: DomainController, folder: Path, runs: int) -> list[float]:
    seconds = []
    names = rolling.names_of(MEMBERS)
    addresses = rolling.addresses_of(names, controller.domain)
    with controller.host.inside(), rolling.krb5_of(controller), rolling.resolved(addresses):
        ccache = controller.ticket(ADMINISTRATOR, controller.password)
        keytabs = rolling.join(controller, names, folder)
        with LabAgents(rolling.agents_of(controller, keytabs, addresses, folder)):
            for number in range(runs + 1):
                desk = rolling.desk(controller.fqdn, controller.address, ccache, names, ActiveDirectoryRealm)
                if not number:
                    desk.realm.create("asa", AccountKind.COMPUTER, AES)
                began = time.perf_counter()
                report = roll_now(desk, Order(rolling.ACCOUNT, force=True))
                if number:  # the first one has no old keys to look after
                    seconds.append(time.perf_counter() - began)
                desk.close()
                confirmed = sum(line.state is MemberState.CONFIRMED for line in report.members)
                if report.outcome is not Outcome.ROLLED or confirmed != MEMBERS:
                    raise CasarrayError(f"a roll went wrong: {report.text}")
    return seconds
