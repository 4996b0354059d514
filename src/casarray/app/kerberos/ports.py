"""What the use cases around the shared account need of the world. All calls block."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Held, Holding, Key
from casarray.core.kerberos.principal import Spn


class Realm(Protocol):
    """Where shared accounts and their names live: a forest of Active Directory, or an MIT realm.

    Raises `Unavailable` when it cannot be reached, `Denied` with the right that is missing, `NotFound`, `Conflict`.
    """

    @property
    def name(self) -> str:
        """Upper case."""

    def account(self, name: str) -> Account:
        """The account of that name, with or without its $. `NotFound`."""

    def create(self, name: str, kind: AccountKind, encryption: Sequence[Enctype], description: str = "") -> Account:
        """Make it, with a random password nobody knows. `Conflict` if there is one."""

    def change_encryption(self, account: Account, encryption: Sequence[Enctype]) -> Account:
        """Set ``msDS-SupportedEncryptionTypes``. The keys are made when the password is set the next time."""

    def remove(self, account: Account) -> None:
        """Delete it."""

    def keys(self, account: Account, password: str, encryption: Sequence[Enctype]) -> tuple[Key, ...]:
        """The keys that this password would give, under the next key version; by the salts the KDC tells."""

    def set_password(self, account: Account, password: str) -> Account:
        """Set it, and read back what came of it: the version may be another than the next one."""

    def prove(self, account: Account, generation: Generation) -> str:
        """Get a ticket with these keys: empty if the KDC's are the same, else a sentence (a wrong salt)."""

    def change_names(self, account: Account, add: Sequence[Spn], remove: Sequence[Spn]) -> Account:
        """Give it names and take names, in one modification. `Conflict` names who has one already."""

    def move_names(self, names: Sequence[Spn], source: Owner, target: Account) -> Account:
        """Take names from one account and give them to another; when the second half fails, the first is undone."""

    def owners(self, names: Sequence[Spn]) -> Mapping[Spn, tuple[Owner, ...]]:
        """Who has each of these in the whole forest; aliases are not looked at."""

    def all_owners(self) -> Iterable[Owner]:
        """Every account of the forest that has a name."""

    def close(self) -> None:
        """Let go of it. Twice is once."""


@runtime_checkable
class Remarks(Protocol):
    """A realm that has something to say about how it looked: that no global catalogue answered, for example."""

    remarks: list[str]  # a sentence each


@dataclass(frozen=True, slots=True)
class AgentState:
    """What a member's agent says of itself."""

    host: str
    version: str
    now: float  # its clock, seconds since the epoch
    held: tuple[Held, ...] = ()
    stale: tuple[str, ...] = ()  # why it should get no clients, a sentence each; empty: it may
    keytabs: tuple[str, ...] = ()  # the files it keeps
    skew: float | None = None  # seconds its clock is ahead of the KDC's, as its last ticket showed it

    def holding(self, account: str) -> Held | None:
        """What it holds of an account."""
        wanted = account.casefold()
        return next((one for one in self.held if one.account.casefold() == wanted), None)


class Agent(Protocol):
    """The agent of one member, over a sealed channel in which both sides have proven who they are."""

    def state(self) -> AgentState:
        """What it holds, without secrets."""

    def hold(self, account: str, realm: str, names: Sequence[str], generation: Generation) -> AgentState:
        """Keep this generation besides those it has, under these names, and write its keytabs."""

    def confirm(self, account: str, number: int, actual: int, lifetime: float) -> AgentState:
        """The generation is in the directory, under that number; older ones end ``lifetime`` seconds from now."""

    def rename(self, account: str, names: Sequence[str]) -> AgentState:
        """The account's names are these now; its keys stay."""

    def give(self, account: str) -> Holding:
        """All it holds of an account, keys included, for another member. `NotFound` if nothing."""

    def take(self, holding: Holding) -> AgentState:
        """Hold exactly this of its account."""

    def drop(self, account: str) -> AgentState:
        """Forget the account and write the keytabs without it."""

    def close(self) -> None:
        """Hang up. Twice is once."""


class Agents(Protocol):
    """How members' agents are reached."""

    def reach(self, host: str) -> Agent:
        """Connect, by the member's FQDN. `Unavailable` when nobody answers, `Denied` when it does not know us."""
