"""Members' agents in memory: what each holds, who does not answer, who refuses, who fails on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from casarray.app.kerberos.ports import AgentState
from casarray.core.errors import Denied, NotFound, Unavailable
from casarray.core.kerberos.keys import Generation, Holding, told

NOW = 1_750_000_000.0


@dataclass(slots=True)
class FakeMember:
    """The agent of one member, `casarray.app.kerberos.ports.Agent`, and what a test wants to know and to change."""

    host: str
    now: float = NOW
    holdings: dict[str, Holding] = field(default_factory=dict)  # by the account's name, casefolded
    stale: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)  # "hold asa$ 4", in their order, without secrets
    closed: int = 0
    _failures: dict[str, tuple[Exception, int, bool]] = field(default_factory=dict)

    # What a test does.

    def put(self, holding: Holding) -> None:
        """Hold this."""
        self.holdings[holding.account.casefold()] = holding

    def holding(self, account: str) -> Holding:
        """What it holds of an account."""
        return self.holdings[account.casefold()]

    def numbers(self, account: str) -> tuple[int, ...]:
        """The generations it holds of an account, newest first; none if nothing."""
        found = self.holdings.get(account.casefold())
        return tuple(one.number for one in found.generations) if found else ()

    def fail(self, call: str, error: Exception, times: int = 1, *, after: bool = False) -> None:
        """That method raises, the next so many times; ``after``: when it has done its work, so the answer is lost."""
        self._failures[call] = (error, times, after)

    # What it does.

    def state(self) -> AgentState:
        self._begin("state", "")
        self._end("state")
        return self._state()

    def hold(self, account: str, realm: str, names: Sequence[str], generation: Generation) -> AgentState:
        self._begin("hold", f"{account} {generation.number}")
        before = self.holdings.get(account.casefold()) or Holding(account, realm, tuple(names), ())
        self.put(replace(before, names=tuple(names)).with_generation(generation))
        self._end("hold")
        return self._state()

    def confirm(self, account: str, number: int, actual: int, lifetime: float) -> AgentState:
        self._begin("confirm", f"{account} {number} {actual}")
        self.put(self._of(account).confirmed(number, actual, self.now, lifetime))
        self._end("confirm")
        return self._state()

    def rename(self, account: str, names: Sequence[str]) -> AgentState:
        self._begin("rename", account)
        self.put(replace(self._of(account), names=tuple(names)))
        self._end("rename")
        return self._state()

    def give(self, account: str) -> Holding:
        self._begin("give", account)
        found = self._of(account)
        self._end("give")
        return found

    def take(self, holding: Holding) -> AgentState:
        self._begin("take", holding.account)
        self.put(holding)
        self._end("take")
        return self._state()

    def drop(self, account: str) -> AgentState:
        self._begin("drop", account)
        self.holdings.pop(account.casefold(), None)
        self._end("drop")
        return self._state()

    def close(self) -> None:
        self.closed += 1

    def _state(self) -> AgentState:
        held = tuple(told(holding) for holding in self.holdings.values())
        return AgentState(self.host, "0", self.now, held, self.stale, ("/etc/krb5.keytab",))

    def _of(self, account: str) -> Holding:
        if (found := self.holdings.get(account.casefold())) is None:
            raise NotFound(f"{self.host} holds nothing of {account}")
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


@dataclass(slots=True)
class FakeAgents:
    """`casarray.app.kerberos.ports.Agents`: whoever is none of ``members`` does not answer."""

    members: dict[str, FakeMember] = field(default_factory=dict)  # by FQDN, casefolded
    silent: set[str] = field(default_factory=set)  # FQDNs, casefolded: do not answer now
    denying: set[str] = field(default_factory=set)  # do not know us
    reached: list[str] = field(default_factory=list)

    def add(self, host: str, *holdings: Holding) -> FakeMember:
        """A member whose agent runs."""
        member = self.members[host.casefold()] = FakeMember(host)
        for holding in holdings:
            member.put(holding)
        return member

    def reach(self, host: str) -> FakeMember:
        """Connect."""
        self.reached.append(host)
        name = host.casefold()
        if name in self.denying:
            raise Denied(f"the agent of {host} does not know us: add us to its list of administrators")
        if name in self.silent or name not in self.members:
            raise Unavailable(f"the agent of {host} does not answer: is casarray agent running there?")
        return self.members[name]
