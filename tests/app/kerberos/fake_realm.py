"""A realm in memory: accounts, names and keys as a domain controller has them; versions that skip, failures on demand.

Keys are hashes of the password, so that two sides that were given the same password have the same keys.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from casarray.core.errors import Conflict, NotFound
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.encryption import Enctype, bits_of, of_bits
from casarray.core.kerberos.keys import Generation, Key, checks
from casarray.core.kerberos.principal import Spn, parse

SIZES = {Enctype.AES256: 32, Enctype.AES128: 16, Enctype.RC4: 16}
NOW = 1_750_000_000.0


@dataclass(slots=True)
class FakeRealm:
    """`casarray.app.kerberos.ports.Realm`, and what a test wants to know and to change."""

    name: str = "LAB.EXAMPLE"
    now: float = NOW
    accounts: dict[str, Account] = field(default_factory=dict)  # by the name without its $, casefolded
    others: list[Owner] = field(default_factory=list)  # further accounts of the forest, which have names
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    skips: int = 0  # so many versions the next password goes further than one
    unique: bool = True  # the directory itself refuses a name that somebody has
    salt: str = ""  # what the KDC puts into its keys; with one, those of `keys` are wrong
    calls: list[str] = field(default_factory=list)  # "set_password asa$", in their order, without secrets
    closed: int = 0
    _failures: dict[str, tuple[Exception, int, bool]] = field(default_factory=dict)

    # What a test does.

    def put(self, account: Account, password: str = "") -> Account:
        """Have this account, as it is."""
        self.accounts[_bare(account.name)] = account
        if password:
            self.passwords[_bare(account.name)] = password
        return account

    def fail(self, call: str, error: Exception, times: int = 1, *, after: bool = False) -> None:
        """That method raises, the next so many times; ``after``: when it has done its work, so the answer is lost.

        ``move_names half`` fails between taking the names and giving them.
        """
        self._failures[call] = (error, times, after)

    def kdc_keys(self, name: str) -> tuple[Key, ...]:
        """The keys that tickets are made with now."""
        account = self._of(name)
        kinds = of_bits(account.encryption) or (Enctype.RC4,)
        return self._derived(account, self.passwords[_bare(name)], kinds, account.number, self.salt)

    def with_names(self, name: str, *names: str) -> Account:
        """Give an account names, whoever has them already."""
        account = self._of(name)
        return self.put(replace(account, names=(*account.names, *names)))

    # What it does.

    def account(self, name: str) -> Account:
        self._begin("account", name)
        found = self._of(name)
        self._end("account")
        return found

    def create(self, name: str, kind: AccountKind, encryption: Sequence[Enctype], description: str = "") -> Account:
        self._begin("create", name)
        if _bare(name) in self.accounts:
            raise Conflict(f"there is an account {name} already: adopt it, or choose another name")
        wanted = f"{name.rstrip('$')}$" if kind is AccountKind.COMPUTER else name
        where = f"CN={name.rstrip('$')},CN={'Computers' if kind is AccountKind.COMPUTER else 'Users'},DC=lab,DC=example"
        made = Account(wanted, self.name, kind, where, (), 1, bits_of(encryption), set_at=self.now)
        self.put(replace(made, description=description), f"nobody knows {len(self.calls)}")
        self._end("create")
        return self._of(name)

    def change_encryption(self, account: Account, encryption: Sequence[Enctype]) -> Account:
        self._begin("change_encryption", account.name)
        self.put(replace(self._of(account.name), encryption=bits_of(encryption)))
        self._end("change_encryption")
        return self._of(account.name)

    def remove(self, account: Account) -> None:
        self._begin("remove", account.name)
        self._of(account.name)
        del self.accounts[_bare(account.name)]
        self._end("remove")

    def keys(self, account: Account, password: str, encryption: Sequence[Enctype]) -> tuple[Key, ...]:
        self._begin("keys", account.name)
        found = self._of(account.name)
        self._end("keys")
        return self._derived(found, password, encryption, found.number + 1, "")

    def set_password(self, account: Account, password: str) -> Account:
        self._begin("set_password", account.name)
        found = self._of(account.name)
        self.put(replace(found, number=found.number + 1 + self.skips, set_at=self.now), password)
        self.skips = 0
        self._end("set_password")
        return self._of(account.name)

    def prove(self, account: Account, generation: Generation) -> str:
        self._begin("prove", account.name)
        kdc = Generation(0, self.kdc_keys(account.name), 0)
        self._end("prove")
        if set(checks(generation)) & set(checks(kdc)):
            return ""
        return f"the keys of {account} are not those of the KDC: its salt, or its password, is another"

    def change_names(self, account: Account, add: Sequence[Spn], remove: Sequence[Spn]) -> Account:
        self._begin("change_names", account.name)
        found = self._of(account.name)
        for spn in add:
            if self.unique and (
                owner := next((o for o in self._owners(spn) if _bare(o.name) != _bare(found.name)), None)
            ):
                raise Conflict(f"{spn} belongs to {owner.name} ({owner.where}) already")
        gone = {spn.key for spn in remove}
        kept = [name for name in found.names if name.casefold() not in gone]
        held = {name.casefold() for name in kept}
        self.put(replace(found, names=(*kept, *(str(spn) for spn in add if spn.key not in held))))
        self._end("change_names")
        return self._of(account.name)

    def move_names(self, names: Sequence[Spn], source: Owner, target: Account) -> Account:
        self._begin("move_names", f"{source.name} {target.name}")
        before = self._take(names, source)
        try:
            self._begin("move_names half", "")
            self.change_names(target, names, ())
        except Exception:
            self._restore(before)
            raise
        self._end("move_names")
        return self._of(target.name)

    def owners(self, names: Sequence[Spn]) -> Mapping[Spn, tuple[Owner, ...]]:
        self._begin("owners", "")
        found = {spn: owners for spn in names if (owners := self._owners(spn))}
        self._end("owners")
        return found

    def all_owners(self) -> Iterable[Owner]:
        self._begin("all_owners", "")
        yield from self._everybody()

    def close(self) -> None:
        self.closed += 1

    # How.

    def _of(self, name: str) -> Account:
        if (found := self.accounts.get(_bare(name))) is None:
            raise NotFound(f"there is no account {name} in {self.name}: make it with casarray account create {name}")
        return found

    def _begin(self, call: str, what: str) -> None:
        self.calls.append(f"{call} {what}".strip())
        self._maybe_fail(call, after=False)

    def _end(self, call: str) -> None:
        self._maybe_fail(call, after=True)

    def _maybe_fail(self, call: str, *, after: bool) -> None:
        error, times, when = self._failures.get(call, (None, 0, False))
        if error is None or when is not after:
            return
        if times <= 1:
            del self._failures[call]
        else:
            self._failures[call] = (error, times - 1, when)
        raise error

    def _derived(
        self, account: Account, password: str, kinds: Sequence[Enctype], version: int, salt: str
    ) -> tuple[Key, ...]:
        found = []
        for kind in kinds:
            text = f"{account.realm} {_bare(account.name)} {salt} {kind} {password}"
            found.append(Key(kind, version, hashlib.sha256(text.encode()).digest()[: SIZES[kind]]))
        return tuple(found)

    def _everybody(self) -> list[Owner]:
        mine = [Owner(a.name, a.where, a.names, a.enabled) for a in self.accounts.values() if a.names]
        return [*mine, *(other for other in self.others if other.names)]

    def _owners(self, spn: Spn) -> tuple[Owner, ...]:
        return tuple(o for o in self._everybody() if spn.key in {name.casefold() for name in o.names})

    def _take(self, names: Sequence[Spn], source: Owner) -> Owner | Account:
        wanted = {spn.key for spn in names}
        for number, other in enumerate(self.others):
            if other.where == source.where:
                self.others[number] = replace(other, names=_without(other.names, wanted))
                return other
        account = self._of(source.name)
        self.put(replace(account, names=_without(account.names, wanted)))
        return account

    def _restore(self, before: Owner | Account) -> None:
        if isinstance(before, Account):
            self.put(before)
            return
        self.others = [before if other.where == before.where else other for other in self.others]


def _bare(name: str) -> str:
    return name.rpartition("\\")[2].removesuffix("$").casefold()


def _without(names: Sequence[str], gone: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if parse(name).key not in gone)
