"""The measurement of logins through rolls, behind `script/figures`."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.app.kerberos.order import Order
from casarray.app.kerberos.rolling import roll
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.errors import CasarrayError, Unavailable
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.wanted import wanted_names
from casarray.lab import kerberos_members, samba_ad
from casarray.lab.directory_load import OneName
from casarray.lab.figure import Figure, spread
from casarray.lab.kerberos_site import ACCOUNT, KerberosSite, User
from casarray.lab.measure_kerberos import told_of
from casarray.lab.netns import Lab
from casarray.lab.samba_ad import ADMINISTRATOR, DomainController

MANY = 10_000
ROLLS = 3
USERS, ADDRESSES = 4, 5
MOST_SECONDS = 600.0
GOAL = f"0 failed in {MANY:,} during {ROLLS} rolls"


async def logins(folder: Path, runs: int) -> list[Figure]:
    """Logins by web, IMAP and RPC at three members, while the password is rolled three times: none may fail.

    A thousand for each of ``runs``, ten thousand at most. Four of five use a ticket from before the first roll.
    """
    if reason := samba_ad.missing() or kerberos_members.missing():
        return [Figure("failed logins", GOAL, f"not measured: {reason}", None)]
    for place in ("dc", "site"):
        (folder / place).mkdir()
    with Lab() as lab, DomainController(lab, folder / "dc") as controller:
        return [await measured(controller, folder / "site", min(MANY, 1_000 * runs))]


async def measured(controller: DomainController, folder: Path, count: int, pause: float = 0.0) -> Figure:
    """So many logins at a site beside that domain controller; each client pauses for so many seconds in between."""
    health = {"interval": '"250ms"'}
    async with KerberosSite(folder, controller, first=3, health=health) as site:
        with told_of(controller):
            return await _measured(site, count, pause)


async def _measured(site: KerberosSite, count: int, pause: float) -> Figure:
    await asyncio.gather(site.start_gateway(), *map(site.start_agent, site.names))
    administrator = await asyncio.to_thread(Administrator, site)
    await asyncio.to_thread(administrator.begin)
    users = [await asyncio.to_thread(site.user, f"user{number}") for number in range(USERS)]
    await site.all_in_use()
    return await _through_rolls(site, users, administrator.roll, count, pause)


async def _through_rolls(
    site: KerberosSite, users: list[User], roll_once: Callable[[], float], count: int, pause: float
) -> Figure:
    out = site.folder / "logins.out"
    load = site.start_logins(
        users, ADDRESSES, out, count=count, seconds=MOST_SECONDS, fresh_share=0.2, pause=pause, progress=True
    )
    seconds = []
    for number in range(1, ROLLS + 1):
        await _until(out, load, count * number // (ROLLS + 1))
        seconds.append(await asyncio.to_thread(roll_once))
    await asyncio.to_thread(load.wait)
    found = _lines(out)[-1]
    if not isinstance(found, dict):
        raise Unavailable(f"the logins ended without a word:\n{out.with_suffix('.err').read_text()[-2000:]}")
    return _figure(found, seconds, count)


async def _until(out: Path, load: "subprocess.Popen[Any]", wanted: int) -> None:
    """Until so many logins were tried; `CasarrayError` if they are over before."""
    until = time.monotonic() + MOST_SECONDS
    while not any(isinstance(said, int) and said >= wanted for said in _lines(out)):
        if load.poll() is not None or time.monotonic() > until:
            raise CasarrayError(f"the logins were over before a roll that was to come after {wanted:,} of them")
        await asyncio.sleep(0.05)


def _lines(out: Path) -> list[Any]:
    return [json.loads(line) for line in out.read_text().splitlines(keepends=True)[1:] if line.endswith("\n")]


def _figure(found: dict[str, Any], seconds: list[float], count: int) -> Figure:
    succeeded, failed = sum(found["succeeded"].values()), sum(found["failed"].values())
    by_member = ", ".join(f"{name} {sum(n.values()):,}" for name, n in sorted(found["members"].items()))
    value = f"{failed} failed, {succeeded:,} succeeded ({by_member}) in {found['seconds']:.0f} s"
    value += f"; rolls: {spread(seconds, 's')}"
    if failed:
        value += "; " + "; ".join(f"{n} times {reason}" for reason, n in found["reasons"].items())
    met = failed == 0 and succeeded == count and len(seconds) == ROLLS
    return Figure(f"failed logins in {count:,} during {ROLLS} rolls", GOAL, value, met, (float(failed),), "")


class Administrator:
    """Whoever looks after the site's shared account, in the domain's network."""

    def __init__(self, site: KerberosSite) -> None:
        controller = site.controller
        settings = KerberosSettings(account=ACCOUNT, ccache=controller.ticket(ADMINISTRATOR, controller.password))
        self._urls, self._names = [f"ldap://{controller.fqdn}"], OneName(controller.address)
        self._settings = settings
        self._site = site

    def begin(self) -> None:
        """The account, its first password at every member, then its names."""
        with self._site.controller.host.inside():
            realm = self._realm()
            try:
                realm.create(ACCOUNT, AccountKind.COMPUTER, AES)
                self._roll(realm, force=False)
                desk = self._site.desk(realm, self._site.reach())
                (share,) = desk.shares()
                names = [one.name for one in wanted_names(share, desk.settings, desk.profile)]
                realm.change_names(realm.account(ACCOUNT), names, ())
            finally:
                realm.close()

    def roll(self) -> float:
        """A new password; how many seconds that took."""
        since = time.monotonic()
        with self._site.controller.host.inside():
            realm = self._realm()
            try:
                self._roll(realm, force=True)  # within a ticket's life: every key is kept
            finally:
                realm.close()
        return time.monotonic() - since

    def _realm(self) -> ActiveDirectoryRealm:
        return ActiveDirectoryRealm(self._urls, self._settings, DirectorySettings(timeout=10.0), self._names)

    def _roll(self, realm: ActiveDirectoryRealm, *, force: bool) -> None:
        report = roll(self._site.desk(realm, self._site.reach()), Order(ACCOUNT, force=force))
        if report.code:
            raise CasarrayError(f"a roll failed: {report.text}")
