"""Reaches the agents of the members: a sealed channel in which both sides have proven who they are."""

import socket
import threading
from collections.abc import Sequence

import gssapi

from casarray.adapters.kerberos import gss
from casarray.app.kerberos.ports import Agent, AgentState
from casarray.core.config import KerberosSettings
from casarray.core.errors import CasarrayError, Conflict, Denied, NotFound, Unavailable, WireError
from casarray.core.kerberos.agent_messages import Answer, Op, Request, read_answer, write_request
from casarray.core.kerberos.keys import Generation, Holding
from casarray.core.records import from_json

PATIENCE = 10.0  # seconds for an answer: a member writes keytabs and reloads services meanwhile
_ERRORS: dict[str, type[CasarrayError]] = {
    "NotFound": NotFound,
    "Denied": Denied,
    "Conflict": Conflict,
    "Unavailable": Unavailable,
}


class MemberAgents:
    """`casarray.app.kerberos.ports.Agents` over TCP and GSSAPI. For many threads at once."""

    def __init__(self, settings: KerberosSettings, patience: float = PATIENCE) -> None:
        self._settings = settings
        self._patience = patience
        self._lock = threading.Lock()
        self._credentials: gssapi.Credentials | None = None

    def reach(self, host: str) -> Agent:
        """Connect, by the member's FQDN (or FQDN:port). `Unavailable`, `Denied`."""
        name, _, port = host.partition(":")
        who = self._who()
        try:
            sock = socket.create_connection((name, int(port or self._settings.agent_port)), self._patience)
        except OSError as error:
            why = "does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise Unavailable(
                f"the agent of {name} cannot be reached ({why}): is `casarray agent run` running there, and port "
                f"{port or self._settings.agent_port} open?"
            ) from None
        try:
            return MemberAgent(gss.initiate(sock, name, who), name)
        except BaseException:
            sock.close()
            raise

    def _who(self) -> gssapi.Credentials:
        """One set of tickets for all members; got anew when it is about to run out."""
        with self._lock:
            settings = self._settings
            if self._credentials is None or (self._credentials.lifetime or 0) < 60:
                self._credentials = gss.credentials(settings.principal, settings.keytab, settings.ccache)
            return self._credentials


class MemberAgent:
    """`casarray.app.kerberos.ports.Agent`. For one thread at a time."""

    def __init__(self, channel: gss.Sealed, host: str) -> None:
        self._channel = channel
        self._host = host

    def state(self) -> AgentState:
        """What it holds, without secrets."""
        return self._state(Request(Op.STATE))

    def hold(self, account: str, realm: str, names: Sequence[str], generation: Generation) -> AgentState:
        """Keep this generation besides those it has."""
        return self._state(Request(Op.HOLD, account, realm, tuple(names), generation=generation))

    def confirm(self, account: str, number: int, actual: int, lifetime: float) -> AgentState:
        """The generation is in the directory."""
        return self._state(Request(Op.CONFIRM, account, number=number, actual=actual, lifetime=lifetime))

    def rename(self, account: str, names: Sequence[str]) -> AgentState:
        """The account's names are these now."""
        return self._state(Request(Op.RENAME, account, names=tuple(names)))

    def give(self, account: str) -> Holding:
        """All it holds of an account, keys included."""
        holding = self._ask(Request(Op.GIVE, account)).holding
        if holding is None:
            raise NotFound(f"{self._host} gave nothing of {account}")
        return holding

    def take(self, holding: Holding) -> AgentState:
        """Hold exactly this of its account."""
        return self._state(Request(Op.TAKE, holding.account, holding=holding))

    def drop(self, account: str) -> AgentState:
        """Forget the account."""
        return self._state(Request(Op.DROP, account))

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _state(self, request: Request) -> AgentState:
        return from_json(AgentState, self._ask(request).state)

    def _ask(self, request: Request) -> Answer:
        try:
            self._channel.send(write_request(request))
            data = self._channel.receive()
            if not data:
                raise Unavailable("it hung up")
            answer = read_answer(data)
        except WireError as error:
            raise Unavailable(f"the agent of {self._host} answers what cannot be read: {error}") from None
        except Unavailable as error:
            raise Unavailable(f"the agent of {self._host} was lost: {error}") from None
        if answer.error:
            raise _ERRORS.get(answer.kind, Unavailable)(answer.error)
        return answer
