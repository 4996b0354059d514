"""Members whose holdings lie in files, so that they outlive whoever rolls; and clients with real tickets."""

import os
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gssapi
from tests.app.kerberos.fake_agents import FakeMember

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report
from casarray.app.kerberos.ports import AgentState, Realm
from casarray.app.kerberos.rolling import roll
from casarray.core.config import KerberosSettings
from casarray.core.directory.model import Array, Directory, Server, Site
from casarray.core.errors import Unavailable
from casarray.core.kerberos.account import Account
from casarray.core.kerberos.keys import Generation, Holding
from casarray.core.kerberos.keytab import entries_of, write_keytab

NAMES = ("cas1", "cas2", "cas3")
At = Callable[[str], None]
"""Hears of every moment: "before hold", "after set"."""


class FiledMember(FakeMember):
    """An agent whose holding is in a file, and that tells when something begins and ends."""

    file: Path
    at: At

    def put(self, holding: Holding) -> None:
        super().put(holding)
        draft = self.file.with_name(f".{self.file.name}")
        draft.write_bytes(pickle.dumps(self.holdings))
        draft.replace(self.file)

    def hold(self, account: str, realm: str, names: Sequence[str], generation: Generation) -> AgentState:
        self.at("before hold")
        state = super().hold(account, realm, names, generation)
        self.at("after hold")
        return state

    def confirm(self, account: str, number: int, actual: int, lifetime: float) -> AgentState:
        self.at("before confirm")
        state = super().confirm(account, number, actual, lifetime)
        self.at("after confirm")
        return state


class Mortal:
    """What a realm is made of that tells when something begins and ends."""

    at: At

    def set_password(self, account: Account, password: str) -> Account:
        self.at("before set")
        found: Account = super().set_password(account, password)  # type: ignore[misc]  # a mixin, and what it is mixed into has it
        self.at("after set")
        return found

    def prove(self, account: Account, generation: Generation) -> str:
        said: str = super().prove(account, generation)  # type: ignore[misc]  # a mixin, and what it is mixed into has it
        self.at("after prove")
        return said


class Place:
    """Whoever rolls: in which realm, and with what settings."""

    def __init__(self, folder: Path, domain: str, settings: KerberosSettings, realm: Callable[[At], Realm]) -> None:
        self.folder, self.domain, self.settings = folder, domain, settings
        self._open = realm
        self.silent: set[str] = set()
        self.at: At = lambda _: None
        self.timeout = 5.0  # seconds for an answer of the realm
        self.directory = Directory("Lab").put(
            Site("Here"),
            Array("CAS", f"cas.{domain}", "Here", (), {"profile": "exchange-2010"}),
            *(Server(name, f"{name}.{domain}", "Here") for name in NAMES),
        )

    def realm(self) -> Realm:
        return self._open(self.at)

    @property
    def number(self) -> int:
        """Of the key that the realm has now."""
        return self.realm().account(self.settings.account).number

    def reach(self, host: str) -> FiledMember:
        if host in self.silent:
            raise Unavailable(f"the agent of {host} does not answer")
        member = FiledMember(host, time.time())
        member.file, member.at = self.folder / host, self.at
        if member.file.exists():
            member.holdings = pickle.loads(member.file.read_bytes())
        return member

    def roll(self, **order: Any) -> Report:
        service = DirectoryService(MemoryDirectory(self.directory), "admin")
        desk = Desk(service, lambda: self.settings, self.realm, lambda: self)
        try:
            return roll(desk, Order(self.settings.account, **order), sleep=lambda _: None)
        finally:
            desk.close()

    def killed(self, moment: str, nth: int = 1) -> None:
        """A roll in a process of its own, which is killed at the nth time of this moment."""
        seen = 0

        def die(now: str) -> None:
            nonlocal seen
            seen += now == moment
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            try:
                self.at = die
                self.roll(force=True)
            finally:
                os._exit(7)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"it did not come to {moment}"

    def keytab(self, name: str) -> Path:
        """As the member's agent would write it."""
        path = self.folder / f"{name}.keytab"
        path.write_bytes(write_keytab(entries_of(self.held(name))))
        return path

    def held(self, name: str) -> Holding:
        (holding,) = self.reach(f"{name}.{self.domain}").holdings.values()
        return holding

    def read_by_all(self, token: Callable[[], bytes]) -> None:
        """Every member's keytab opens such a ticket."""
        for name in NAMES:
            credentials = gssapi.Credentials(usage="accept", store={"keytab": str(self.keytab(name))})
            server = gssapi.SecurityContext(creds=credentials)
            server.step(token())
            assert server.complete, name


class Client:
    """Somebody with a ticket for a service: it stays the same one."""

    def __init__(self, cache: str, service: str) -> None:
        """``cache``: with a ticket to get tickets; ``service``: http/cas.domain.tld@REALM."""
        self._cache, self._service = cache, service
        self()

    def __call__(self) -> bytes:
        """A token made with it."""
        credentials = gssapi.Credentials(usage="initiate", store={"ccache": self._cache})
        name = gssapi.Name(self._service, gssapi.NameType.kerberos_principal)
        token: bytes = gssapi.SecurityContext(
            name=name, creds=credentials, usage="initiate", mech=gssapi.MechType.kerberos
        ).step()
        return token
