"""Everything that the use cases of the shared account work with, each opened when it is first needed."""

from collections.abc import Callable, Collection, Mapping

from casarray.app.directory import DirectoryService
from casarray.app.kerberos.ports import Agents, Realm, Remarks
from casarray.app.kerberos.telling import EventLog, NoTimers, Quiet, Timers
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.kerberos.shares import Share, share_of, shares

Canonical = Callable[[Collection[str]], Mapping[str, str]]
"""Names -> those that are aliases in DNS, each with the name it leads to."""


def usual_profile() -> str:
    """What arrays offer that name no profile, unless the configuration says otherwise."""
    return DirectorySettings().profile


def no_aliases(_names: Collection[str]) -> Mapping[str, str]:
    """Where no DNS can be asked."""
    return {}


class Desk:
    """One administrator: the directory with the arrays, the realm with the accounts, the members' agents."""

    def __init__(
        self,
        directory: DirectoryService,
        settings: Callable[[], KerberosSettings],
        open_realm: Callable[[], Realm],
        agents: Callable[[], Agents],
        *,
        profile: Callable[[], str] = usual_profile,
        canonical: Canonical = no_aliases,
        events: Callable[[], EventLog] = Quiet,
        timers: Callable[[], Timers] = NoTimers,
    ) -> None:
        self.directory = directory
        self._read_settings = settings
        self._open_realm = open_realm
        self._open_agents = agents
        self._read_profile = profile
        self.canonical = canonical
        self._open_events = events
        self._open_timers = timers
        self._settings: KerberosSettings | None = None
        self._realm: Realm | None = None
        self._agents: Agents | None = None

    @property
    def settings(self) -> KerberosSettings:
        """The `[kerberos]` table."""
        if self._settings is None:
            self._settings = self._read_settings()
        return self._settings

    @property
    def profile(self) -> str:
        """That of arrays which name none."""
        return self._read_profile()

    @property
    def realm(self) -> Realm:
        """The realm, connected. `ConfigError` if the configuration does not say where it is."""
        if self._realm is None:
            self._realm = self._open_realm()
        return self._realm

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the realm has to say about how it looked so far, a sentence each, to be shown as warnings."""
        return tuple(self._realm.remarks) if isinstance(self._realm, Remarks) else ()

    @property
    def agents(self) -> Agents:
        """The way to the members' agents."""
        if self._agents is None:
            self._agents = self._open_agents()
        return self._agents

    def events(self) -> EventLog:
        """The event log of this machine."""
        return self._open_events()

    def timers(self) -> Timers:
        """What this machine does by the clock."""
        return self._open_timers()

    def shares(self) -> tuple[Share, ...]:
        """Which arrays use which account, by the directory as it is now."""
        return shares(self.directory.directory(), self.settings)

    def share_of(self, account: str) -> Share:
        """The one of that account. `NotFound` says how an array gets one."""
        return share_of(self.directory.directory(), self.settings, account)

    def close(self) -> None:
        """Let go of the realm. Twice is once."""
        if self._realm is not None:
            self._realm.close()
            self._realm = None
