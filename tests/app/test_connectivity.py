"""Walks are performed as they say, each step with the time it took, and nothing is left open."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from casarray.app.connectivity import Connection, Network, Walker, perform
from casarray.core.dcerpc.client import Reply
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.directory.model import Array, Directory, Site
from casarray.core.errors import Unavailable
from casarray.core.outlook.asking import Certificate, Discovered, Open, Opened, Resolved, Way, Went
from casarray.core.outlook.planning import plan_of
from casarray.core.outlook.verdicts import Step, Trouble
from casarray.core.outlook.wish import LogOn, Means, Wish

VIP = ip_address("10.11.0.100")


class Silence:
    """A connection on which nothing is answered."""

    opened = Opened()

    def __init__(self, network: "Fake") -> None:
        self._network = network
        network.open_now += 1

    async def call(self, interface: Syntax, opnum: int, stub: bytes) -> Reply | Went:  # noqa: ARG002 - as all
        return await self._network.answer()

    def close(self) -> None:
        self._network.open_now -= 1


class Fake:
    """A network whose only server opens connections and says nothing."""

    def __init__(self, answer: "Callable[[], asyncio.Future[Went]] | None" = None) -> None:
        self.open_now = 0
        self.closed = False
        self.now = 100.0
        self._answer = answer

    def clock(self) -> float:
        self.now += 0.004
        return self.now

    async def answer(self) -> Went:
        if self._answer is not None:
            return await self._answer()
        return Went(Way.SILENT, "does not answer")

    async def resolve(self, name: str, *, outside: bool) -> Resolved | Went:  # noqa: ARG002 - as all
        self.now += 0.5
        return Resolved((VIP,))

    async def reach(self, host: str, port: int) -> Went | None:  # noqa: ARG002 - as all
        return None

    async def discover(self, address: str) -> Discovered | Went:  # noqa: ARG002 - as all
        return Went(Way.SILENT, "does not answer")

    async def certificate(self, host: str, port: int) -> Certificate | Went:  # noqa: ARG002 - as all
        return Certificate("")

    async def open(self, wanted: Open) -> Connection | Went:  # noqa: ARG002 - as all
        return Silence(self)

    async def close(self) -> None:
        self.closed = True


def directory() -> Directory:
    return Directory().put(Site("P"), Array("CAS", "cas.domain.tld", "P", (VIP,)))


async def test_each_step_is_told_with_the_time_since_the_one_before_it_and_connections_are_closed() -> None:
    network, heard = Fake(), list[Step]()
    steps = await perform(plan_of(directory(), Wish()), network, heard.append, network.clock)
    assert tuple(heard) == steps
    assert [step.latency_ms for step in steps] == [504.0, 4.0]
    assert steps[-1].trouble is Trouble.MAPPER_DOWN
    assert network.open_now == 0


def test_a_test_has_a_network_of_its_own_which_knows_how_to_log_on_and_is_closed() -> None:
    made: list[tuple[Means, Fake]] = []

    def open_network(means: Means) -> Network:
        made.append((means, Fake()))
        return made[-1][1]

    walker = Walker(open_network, lambda: 0.0)
    steps = walker.test(directory(), Wish(logon="kerberos"), Means(LogOn(user="alice")), lambda _: None)
    ((means, network),) = made
    assert means.log_on == LogOn("kerberos", "alice")
    assert network.closed
    assert len(steps) == 2


def test_what_takes_longer_than_it_may_is_broken_off_and_leaves_nothing() -> None:
    made: list[Fake] = []

    def for_ever() -> "asyncio.Future[Went]":
        return asyncio.get_running_loop().create_future()

    def open_network(_: Means) -> Network:
        made.append(Fake(for_ever))
        return made[-1]

    walker, heard = Walker(open_network, lambda: 0.0), list[Step]()
    with pytest.raises(Unavailable, match=r"not over after 0\.2 s"):
        walker.test(directory(), Wish(), Means(), heard.append, 0.2)
    assert [step.scenario for step in heard] == ["Name resolution (inside)"]
    assert made[0].closed
    assert made[0].open_now == 0
