"""A roll as a program of its own, which kills itself at a moment: python -m tests.peers.dying_roll JSON."""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence

from tests.peers.filed_members import At, Mortal

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.app.kerberos.order import Order
from casarray.app.kerberos.ports import Agent, AgentState
from casarray.app.kerberos.rolling import roll
from casarray.core.kerberos.keys import Generation
from casarray.lab.rolling import ACCOUNT, desk, resolved


def dying(moment: str, nth: int) -> At:
    """Dies at the nth time of a moment."""
    seen = 0

    def at(now: str) -> None:
        nonlocal seen
        seen += now == moment
        if seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


class MortalAgent:
    """An agent, told of at every moment."""

    def __init__(self, agent: Agent, at: At) -> None:
        self._agent, self._at = agent, at
        self.state, self.give, self.take = agent.state, agent.give, agent.take
        self.rename, self.drop, self.close = agent.rename, agent.drop, agent.close

    def hold(self, account: str, realm: str, names: Sequence[str], generation: Generation) -> AgentState:
        return self._told("hold", lambda: self._agent.hold(account, realm, names, generation))

    def confirm(self, account: str, number: int, actual: int, lifetime: float) -> AgentState:
        return self._told("confirm", lambda: self._agent.confirm(account, number, actual, lifetime))

    def _told(self, what: str, work: Callable[[], AgentState]) -> AgentState:
        self._at(f"before {what}")
        state = work()
        self._at(f"after {what}")
        return state


def main(told: str) -> None:
    """Roll, until it dies."""
    given = json.loads(told)
    at = dying(given["moment"], given["nth"])

    class Dying(Mortal, ActiveDirectoryRealm):
        pass

    Dying.at = staticmethod(at)
    here = desk(given["controller"], given["address"], given["ccache"], given["names"], Dying)
    reach = here.agents.reach
    here.agents.reach = lambda host: MortalAgent(reach(host), at)  # type: ignore[method-assign]  # the test stands in between
    with resolved(given["addresses"]):
        roll(here, Order(ACCOUNT, force=True))


if __name__ == "__main__":
    main(sys.argv[1])
