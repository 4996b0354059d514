"""The member's side: what its agent holds, who may change it, and whether this server can read the array's tickets."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from casarray.app.kerberos.ports import AgentState
from casarray.core.errors import CasarrayError, Conflict, NotFound
from casarray.core.kerberos import agent_rules
from casarray.core.kerberos.agent_config import AgentSettings
from casarray.core.kerberos.agent_messages import CHANGING, Answer, Op, Request
from casarray.core.kerberos.agent_rules import Seen
from casarray.core.kerberos.keys import Holding, told
from casarray.core.records import to_json

log = logging.getLogger(__name__)

T = TypeVar("T")


class Vault(Protocol):
    """Where holdings are kept, encrypted. Raises `Unavailable`, `Denied`."""

    def read(self) -> tuple[Holding, ...]:
        """All of them; nothing if there never was one."""

    def write(self, holdings: tuple[Holding, ...]) -> None:
        """All of them, on the disk when this returns; or as it was before."""


class Keytabs(Protocol):
    """The files that services read."""

    def write(self, holdings: Sequence[Holding]) -> tuple[str, ...]:
        """Make the files say this, and reload who reads a changed one; the files, with what went wrong behind each."""


class Tickets(Protocol):
    """Tickets as this server itself gets them."""

    def seen(self, holding: Holding) -> Seen:
        """The key version in a fresh ticket for one of its names. Never raises."""

    def skew(self) -> float | None:
        """Seconds the clock is ahead of the KDC's, as far as the last tickets showed it."""


Fetch = Callable[[str, str], Holding]
"""A peer and an account -> what that peer holds of it. `Unavailable`, `Denied`, `NotFound`."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the health page says."""

    stale: tuple[str, ...]
    unknown: tuple[str, ...]  # what could not be found out; no reason to get no clients


class Member:
    """One server's agent. For many threads at once; changes are made one after the other."""

    def __init__(
        self,
        settings: AgentSettings,
        version: str,
        *,
        vault: Vault,
        keytabs: Keytabs,
        tickets: Tickets,
        fetch: Fetch,
        now: Callable[[], float],
    ) -> None:
        """Reads the vault. Raises what that raises."""
        self._settings = settings
        self._version = version
        self._vault = vault
        self._keytabs = keytabs
        self._tickets = tickets
        self._fetch = fetch
        self._now = now
        self._changing = threading.Lock()
        self._holdings: dict[str, Holding] = {one.account.casefold(): one for one in vault.read()}
        self._files: tuple[str, ...] = ()
        self._seen: dict[str, Seen] = {}  # the last ticket for each account
        self._health = Health(self._stale(), ("it was not compared with the realm yet",))

    @property
    def health(self) -> Health:
        """As the last check found it."""
        return self._health

    @property
    def holdings(self) -> tuple[Holding, ...]:
        """All that is held, keys included."""
        return tuple(self._holdings.values())

    def state(self) -> AgentState:
        """Without secrets."""
        return AgentState(
            self._settings.fqdn,
            self._version,
            self._now(),
            tuple(told(one) for one in self.holdings),
            self._health.stale,
            self._files,
            self._tickets.skew(),
        )

    def knows(self, who: str) -> bool:
        """Whether this principal may ask anything at all."""
        return agent_rules.may(who, Op.STATE, self._settings.administrators, self._settings.members)

    def answer(self, who: str, request: Request) -> Answer:
        """Do what this principal asks, if it may. Errors are answers."""
        try:
            agent_rules.check_right(who, request.op, self._settings.administrators, self._settings.members)
            if request.op is Op.GIVE:
                given = self._holding(request.account)
                log.info("%s was given the keys of %s", who, request.account)
                return Answer(holding=given)
            if request.op in CHANGING:
                self._change(request)
                log.info("%s: %s %s", who, request.op, request.account or (request.holding or _NOBODY).account)
            return Answer(state=to_json(self.state()))
        except CasarrayError as error:
            log.warning("%s: %s %s was refused: %s", who, request.op, request.account, error)
            return Answer(kind=type(error).__name__, error=f"{self._settings.fqdn}: {error}")

    def check(self) -> Health:
        """Compare with the realm, catch up if a peer can help, end old generations, put damaged keytabs right."""
        with self._changing:
            now = self._now()
            current = {name: agent_rules.without_ended(one, now) for name, one in self._holdings.items()}
            if current != self._holdings:
                self._keep(current)
        for account in agent_rules.lacking(self.holdings, self._settings.accounts):
            self._ask_peers(Seen(account))
        seen = [self._tickets.seen(one) for one in self.holdings if one.names]
        for one in seen:
            self._catch_up(one)
        with self._changing:
            try:
                self._files = self._keytabs.write(self.holdings)
            except CasarrayError as error:
                log.error("the keytabs could not be written: %s", error)
        for one in seen:
            # While the realm cannot be asked, what was so last is so: a stale member does not become a good one.
            if one.version is not None or one.nobody:
                self._seen[one.account.casefold()] = one
        stale = self._stale()
        if stale != self._health.stale:
            for sentence in stale or ("this server holds the keys that tickets are made with",):
                log.warning("%s", sentence)
        self._health = Health(stale, tuple(one.unknown for one in seen if one.unknown))
        return self._health

    def _catch_up(self, seen: Seen) -> None:
        """Ask the peers for the keys that this server has missed."""
        held = self._holdings.get(seen.account.casefold())
        if held is not None and not agent_rules.holds(held, seen):
            self._ask_peers(seen)

    def _ask_peers(self, seen: Seen) -> None:
        """The first that holds what was seen gives it."""
        for peer in self._settings.peers:
            try:
                found = self._fetch(peer, seen.account)
                if found.account.casefold() != seen.account.casefold() or not agent_rules.holds(found, seen):
                    continue
                with self._changing:
                    ours = self._holdings.get(seen.account.casefold(), Holding(found.account, found.realm, (), ()))
                    self._keep({**self._holdings, seen.account.casefold(): agent_rules.caught_up(ours, found)})
                    self._files = self._keytabs.write(self.holdings)
            except CasarrayError as error:
                log.warning("%s did not help to catch up: %s", peer, error)
                continue
            log.warning("this server lacked keys of %s, and got them from %s", seen.account, peer)
            return

    def _change(self, request: Request) -> None:
        with self._changing:
            before = dict(self._holdings)
            self._keep(self._changed(request))
            try:
                self._files = self._keytabs.write(self.holdings)
            except CasarrayError:
                self._keep(before)  # whoever asked is told that nothing has changed: so nothing has
                with suppress(CasarrayError):  # the first error is the one to tell; the next check tries again
                    self._files = self._keytabs.write(self.holdings)
                raise
            # Whoever is asked for its state in a moment is to say what is so now.
            self._health = Health(self._stale(), self._health.unknown)

    def _stale(self) -> tuple[str, ...]:
        seen, skew = tuple(self._seen.values()), self._tickets.skew()
        return agent_rules.stale(self.holdings, seen, skew, self._settings.accounts)

    def _changed(self, request: Request) -> dict[str, Holding]:
        if not request.account and request.op is not Op.TAKE:
            raise Conflict("the account is missing")
        holdings = dict(self._holdings)
        name = request.account.casefold()
        match request.op:
            case Op.HOLD:
                generation = _needed(request.generation, "a generation")
                held = holdings.get(name) or Holding(request.account, request.realm, (), ())
                renamed = Holding(held.account, request.realm, request.names or held.names, held.generations)
                holdings[name] = renamed.with_generation(generation)
            case Op.CONFIRM:
                held = self._holding(request.account)
                if held.of(request.number) is None and (done := held.of(request.actual)) and not done.pending:
                    return holdings  # it was confirmed before, and the answer was lost
                if held.of(request.number) is None:
                    raise NotFound(f"it holds no generation {request.number} of {request.account}")
                holdings[name] = held.confirmed(request.number, request.actual, self._now(), request.lifetime)
            case Op.RENAME:
                held = self._holding(request.account)
                holdings[name] = Holding(held.account, held.realm, request.names, held.generations)
            case Op.TAKE:
                taken = _needed(request.holding, "a holding")
                holdings[taken.account.casefold()] = taken
            case Op.DROP:
                holdings.pop(name, None)
            case _:
                raise Conflict(f"{request.op} changes nothing")
        return holdings

    def _keep(self, holdings: dict[str, Holding]) -> None:
        self._vault.write(tuple(holdings.values()))
        self._holdings = holdings

    def _holding(self, account: str) -> Holding:
        found = self._holdings.get(account.casefold())
        if found is None:
            raise NotFound(f"it holds no keys of {account}")
        return found


_NOBODY = Holding("", "", (), ())


def _needed(found: T | None, what: str) -> T:
    if found is None:
        raise Conflict(f"{what} is missing")
    return found
