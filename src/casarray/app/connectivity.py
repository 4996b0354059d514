"""Walks to the mailbox as Outlook does, tells each step as it is done, and says which member differs.

What is asked in which order, and what the answers mean, `casarray.core.outlook` says; here it is performed, by a
network that does what it is told, and each step is given the time it took.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from casarray.core.dcerpc.client import Reply
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.directory.model import Directory
from casarray.core.errors import Unavailable
from casarray.core.outlook.asking import (
    Answer,
    Ask,
    Certificate,
    Close,
    Command,
    Discover,
    Discovered,
    Open,
    Opened,
    Reach,
    Resolve,
    Resolved,
    ShowCertificate,
    Tell,
    Way,
    Went,
)
from casarray.core.outlook.planning import plan_of
from casarray.core.outlook.verdicts import Result, Step
from casarray.core.outlook.walk import Plan, walk
from casarray.core.outlook.wish import Means, Wish

TellStep = Callable[[Step], None]


class Connection(Protocol):
    """One RPC connection, bound and logged on."""

    @property
    def opened(self) -> Opened:
        """What came of opening it."""

    async def call(self, interface: Syntax, opnum: int, stub: bytes) -> Reply | Went:
        """Make a call. Raises nothing."""

    def close(self) -> None:
        """Hang up. Twice is once."""


class Network(Protocol):
    """The way to names, servers and Autodiscover. Nothing but `asyncio.CancelledError` is raised."""

    async def resolve(self, name: str, *, outside: bool) -> Resolved | Went:
        """A name's addresses."""

    async def reach(self, host: str, port: int) -> Went | None:
        """What is wrong with a port; None if somebody listens."""

    async def discover(self, address: str) -> Discovered | Went:
        """What Autodiscover tells."""

    async def certificate(self, host: str, port: int) -> Certificate | Went:
        """Whom a TLS port says to be."""

    async def open(self, wanted: Open) -> Connection | Went:
        """Connect, bind, log on."""

    async def close(self) -> None:
        """Forget tickets, and whatever is still open."""


OpenNetwork = Callable[[Means], Network]


class Walker:
    """Tests for one administrator: any number of rounds."""

    def __init__(self, open_network: OpenNetwork, clock: Callable[[], float]) -> None:
        """``clock``: seconds that only grow."""
        self._open_network = open_network
        self._clock = clock

    def test(
        self, directory: Directory, wish: Wish, means: Means, tell: TellStep, most_seconds: float | None = None
    ) -> tuple[Step, ...]:
        """Walk once, in an event loop of its own; ``tell`` hears each step. `NotFound` and `Conflict` as `plan_of`."""
        plan = plan_of(directory, wish)
        means = replace(means, log_on=replace(means.log_on, kind=wish.logon))
        return asyncio.run(self._once(plan, means, tell, most_seconds))

    async def _once(self, plan: Plan, means: Means, tell: TellStep, most_seconds: float | None) -> tuple[Step, ...]:
        network = self._open_network(means)
        try:
            async with asyncio.timeout(most_seconds):
                return await perform(plan, network, tell, self._clock)
        except TimeoutError:
            raise Unavailable(f"the test was not over after {most_seconds:g} s: give it more, or test less") from None
        finally:
            await network.close()


async def perform(plan: Plan, network: Network, tell: TellStep, clock: Callable[[], float]) -> tuple[Step, ...]:
    """Perform a plan; its steps, each told as it is done."""
    walking, answer = walk(plan), None
    performer = _Performer(network, tell, clock)
    try:
        command = next(walking)
        while True:
            answer = await performer.perform(command)
            command = walking.send(answer)
    except StopIteration as end:
        steps: Sequence[Step] = end.value.steps
        return tuple(steps)
    finally:
        walking.close()
        performer.close()


class _Performer:
    """Does what a walk says."""

    def __init__(self, network: Network, tell: TellStep, clock: Callable[[], float]) -> None:
        self._network = network
        self._tell = tell
        self._clock = clock
        self._since = clock()
        self._connections: dict[str, Connection] = {}

    async def perform(self, command: Command) -> Answer:  # noqa: PLR0911 - a table
        match command:
            case Tell(step):
                return self._told(step)
            case Resolve(name, outside):
                return await self._network.resolve(name, outside=outside)
            case Reach(host, port):
                return await self._network.reach(host, port)
            case Discover(address):
                return await self._network.discover(address)
            case ShowCertificate(host, port):
                return await self._network.certificate(host, port)
            case Open():
                return await self._open(command)
            case Ask(key, interface, opnum, stub):
                connection = self._connections.get(key)
                if connection is None:
                    return Went(Way.LOST, "is not connected any more")
                return await connection.call(interface, opnum, stub)
            case Close(key):
                self._hang_up(key)
                return None

    def close(self) -> None:
        """Hang up everywhere."""
        for key in list(self._connections):
            self._hang_up(key)

    async def _open(self, wanted: Open) -> Opened | Went:
        self._hang_up(wanted.key)
        found = await self._network.open(wanted)
        if isinstance(found, Went):
            return found
        self._connections[wanted.key] = found
        return found.opened

    def _hang_up(self, key: str) -> None:
        connection = self._connections.pop(key, None)
        if connection is not None:
            connection.close()

    def _told(self, step: Step) -> Step:
        now = self._clock()
        step = replace(step, latency_ms=round((now - self._since) * 1000, 1))
        self._tell(step)
        self._since = self._clock()
        return step


def failed(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Where a client would not have got on."""
    return tuple(step for step in steps if step.result is Result.FAILURE)
