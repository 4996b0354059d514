"""A forest to roll in: Contoso with a shared account in a realm from memory, and the agents of its three members."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.app.kerberos.fake_agents import FakeAgents, FakeMember
from tests.app.kerberos.fake_realm import NOW, FakeRealm
from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, Report
from casarray.app.kerberos.rolling import roll
from casarray.app.kerberos.telling import Event
from casarray.core.config import KerberosSettings
from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.encryption import AES, bits_of
from casarray.core.kerberos.keys import Generation, Holding, checks
from casarray.core.kerberos.roll import print_of

SPN = "exchangeMDB/cas.domain.tld"
MEMBERS = ("ber1", "cas1", "cas2")
DAY = 86_400.0


class Watched(FakeRealm):
    """A realm that lets somebody look before it takes a password."""

    look: Callable[[str], None]

    def set_password(self, account: Account, password: str) -> Account:
        self.look(password)
        return super().set_password(account, password)


class Log:
    """An event log to read."""

    def __init__(self) -> None:
        self.lines: list[tuple[Event, str]] = []

    def write(self, event: Event, text: str) -> None:
        self.lines.append((event, text))

    @property
    def numbers(self) -> list[int]:
        return [event.value for event, _ in self.lines]


class Clockwork:
    """Timers that are only noted."""

    folder = "/etc/systemd/system"
    program = ("/usr/bin/casarray",)

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def write(self, files: Sequence[tuple[str, str]], folder: str | None) -> Sequence[str]:
        self.files |= {f"{folder or self.folder}/{name}": text for name, text in files}
        return list(self.files)


class Watcher:
    """Keeps what it sees, and answers as it was told."""

    def __init__(self, *answers: bool) -> None:
        self.phases: list[str] = []
        self.asked: list[str] = []
        self.heard: list[str] = []
        self.failed: list[str] = []
        self._answers = iter(answers)

    def phase(self, text: str, members: Sequence[str]) -> None:  # noqa: ARG002 - not needed
        self.phases.append(text)

    def member(self, name: str, why: str) -> None:
        if why:
            self.failed.append(name)

    def agree(self, question: str) -> bool:
        self.asked.append(question)
        return next(self._answers, False)

    def verbose(self, text: str) -> None:
        self.heard.append(text)


class Forest:
    """All of it."""

    def __init__(
        self,
        realm: FakeRealm | None = None,
        *,
        held: bool = True,
        account: str = "asa$",
        now: float = NOW,
        **settings: Any,
    ) -> None:
        """``held``: every member holds the account's present keys; ``now``: by everybody's clock."""
        self.realm, self.name = realm or FakeRealm(), account
        self.realm.now = now
        made = Account(account, self.realm.name, AccountKind.COMPUTER, "CN=asa", (SPN,), 3, bits_of(AES))
        self.realm.put(replace(made, set_at=now - 30 * DAY), "the first")
        self.agents = FakeAgents()
        for name in MEMBERS:
            member = self.agents.add(f"{name}.domain.tld", *([self.holding()] if held else []))
            member.now = now
        self.log, self.clockwork = Log(), Clockwork()
        chosen = replace(KerberosSettings(account=account, keytab="/etc/casarray/admin.keytab"), **settings)
        service = DirectoryService(MemoryDirectory(ORGANISATION), "admin")
        self.desk = Desk(
            service,
            lambda: chosen,
            lambda: self.realm,
            lambda: self.agents,
            events=lambda: self.log,
            timers=lambda: self.clockwork,
        )

    def __call__(self, watch: Watcher | None = None, **order: Any) -> Report:
        """Roll."""
        wanted = Order(self.name, **order)
        return roll(self.desk, wanted, watch, now=lambda: self.realm.now, sleep=lambda _: None)

    def holding(self) -> Holding:
        """What a member holds that has the present keys."""
        account = self.account
        keys = Generation(account.number, self.realm.kdc_keys(self.name), self.realm.now - 30 * DAY)
        return Holding(self.name, account.realm, (SPN,), (keys,))

    @property
    def account(self) -> Account:
        return self.realm.accounts[self.name.removesuffix("$").casefold()]

    def member(self, name: str) -> FakeMember:
        return self.agents.members[f"{name}.domain.tld"]

    def is_right(self, *names: str) -> bool:
        """These members (all of them) hold what the KDC makes tickets with, confirmed, under its number."""
        wanted = checks(Generation(self.account.number, self.realm.kdc_keys(self.name), 0.0))
        found = [self.member(name).holding(self.name).of(self.account.number) for name in names or MEMBERS]
        return all(one is not None and not one.pending and checks(one) == wanted for one in found)

    def reads(self, *names: str) -> bool:
        """These members (all of them) hold the key that the KDC makes tickets with, under whatever number."""
        wanted = print_of(checks(Generation(0, self.realm.kdc_keys(self.name), 0.0)))
        return all(
            any(wanted == print_of(checks(one)) for one in self.member(name).holding(self.name).generations)
            for name in names or MEMBERS
        )

    def is_as_before(self) -> bool:
        """Nobody has anything new."""
        return self.account.number == 3 and all(self.member(name).numbers(self.name) == (3,) for name in MEMBERS)
