"""Lets the probes that ask the same endpoint mapper at the same time do so on one connection.

A server has several services, their probes fall due together (`casarray.app.health`), and each begins with a question
to the same endpoint mapper. Nothing is remembered from one time to the next: who comes later asks anew.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from casarray.core.dcerpc.syntax import Syntax
from casarray.core.forwarding.table import Address
from casarray.core.health.conversation import Answer, Talk
from casarray.core.health.rpc import Agenda, Inquiry, Said, consulting

#: Who joins may have so much more time than whoever began: it ends for both at the same moment.
TOGETHER_SECONDS = 0.05

Heard = Mapping[Syntax, Said] | Answer  # the latter: the endpoint mapper could not be asked at all, and why


class Exchange(Protocol):
    """A talk under way."""

    answer: "asyncio.Future[Answer]"

    def close(self) -> None:
        """Let go of everything. Twice is once."""


Begin = Callable[[Talk, Address, float], Exchange]


class Consultations:
    """The endpoint mappers that are being asked just now."""

    def __init__(self, begin: Begin) -> None:
        """``begin`` starts a talk with an address that ends at that moment of the loop's clock at the latest."""
        self._begin = begin
        self._open: dict[tuple[str, Address, int], _Consultation] = {}

    async def ask(self, name: str, address: Address, inquiry: Inquiry, deadline: float) -> Heard:
        """What the endpoint mapper of the server called so says to every question."""
        key = name, address, inquiry.port
        asker = _Asker(inquiry.interfaces)
        consultation = self._open.get(key)
        if consultation is not None and consultation.admits(deadline):
            consultation.add(asker)
        else:
            consultation = self._open[key] = _Consultation(deadline)
            consultation.add(asker)
            consultation.begin(
                self._begin(Talk(name, consulting(inquiry.port, consultation.agenda)), address, deadline)
            )
        try:
            return await asker.heard
        finally:
            if consultation.leave(asker) and self._open.get(key) is consultation:
                del self._open[key]


class _Asker:
    """A probe that waits for answers."""

    __slots__ = ("_said", "heard", "wanted")

    def __init__(self, wanted: Iterable[Syntax]) -> None:
        self.heard: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        self.wanted = frozenset(wanted)
        self._said: dict[Syntax, Said] = {}

    def hear(self, interface: Syntax, said: Said) -> None:
        if interface in self.wanted:
            self._said[interface] = said
            if len(self._said) == len(self.wanted):
                self.end(self._said)

    def end(self, heard: Heard) -> None:
        if not self.heard.done():
            self.heard.set_result(heard)


class _Consultation:
    """One connection to an endpoint mapper, and the probes that wait for what it says."""

    __slots__ = ("_askers", "_deadline", "_exchange", "agenda")

    def __init__(self, deadline: float) -> None:
        self.agenda = Agenda(self._hear)
        self._deadline = deadline
        self._exchange: Exchange | None = None
        self._askers: list[_Asker] = []

    def admits(self, deadline: float) -> bool:
        """Whether one with this deadline may still join: judged by it, or hardly sooner."""
        under_way = self._exchange is not None and not self._exchange.answer.done() and not self.agenda.closed
        return under_way and 0 <= deadline - self._deadline <= TOGETHER_SECONDS

    def add(self, asker: _Asker) -> None:
        """One more who asks."""
        self._askers.append(asker)
        for interface in asker.wanted:
            self.agenda.add(interface)

    def begin(self, exchange: Exchange) -> None:
        """This carries it."""
        self._exchange = exchange
        exchange.answer.add_done_callback(self._ended)

    def leave(self, asker: _Asker) -> bool:
        """One less who asks, answered or not; whether it was the last one, and all is over."""
        self._askers.remove(asker)
        if self._askers:
            return False
        if self._exchange is not None:
            self._exchange.close()
        return True

    def _hear(self, interface: Syntax, said: Said) -> None:
        for asker in self._askers:
            asker.hear(interface, said)

    def _ended(self, future: "asyncio.Future[Answer]") -> None:
        if not (answer := future.result()).up:
            for asker in self._askers:
                asker.end(answer)
