"""Probes of one server ask its endpoint mapper on one connection: with a talk that a test leads, and over sockets."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any

import pytest
import uvloop

from casarray.adapters.net.consulting import TOGETHER_SECONDS, Consultations, Heard
from casarray.adapters.net.dial import DialProber
from casarray.core.config import ProbeKind, Service
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM, NOT_REGISTERED, EptMap, EptMapReply
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.server import Call, RpcServer
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.forwarding.table import Address
from casarray.core.health.conversation import Answer, Dial, Failure, Step, Talk
from casarray.core.health.probes import Target
from casarray.core.health.rpc import Inquiry, Ports

HERE = ip_address("127.0.0.1")
AB, STORE = Inquiry(135, (NSPI,)), Inquiry(135, (EMSMDB,))
PORTS = {NSPI: 49160, EMSMDB: 49161}


def map_(call: Call) -> bytes:
    """An endpoint mapper that knows `PORTS`."""
    asked = EptMap.decode(call.stub, call.order, call.ndr64).tower
    assert asked is not None
    assert asked.interface is not None
    port = PORTS.get(asked.interface)
    towers = () if port is None else (Tower.tcp(asked.interface, port),)
    return EptMapReply(towers, 0 if towers else NOT_REGISTERED, max_towers=8).encode(call.order, call.ndr64)


@dataclass
class Led:
    """A talk that goes on when the test says so."""

    talk: Talk
    address: Address
    deadline: float
    answer: "asyncio.Future[Answer]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    open: bool = True
    step: Step | Answer = field(init=False)
    server: RpcServer = field(default_factory=lambda: RpcServer({EPM: map_}))

    def __post_init__(self) -> None:
        self.step = self.talk.begin()

    async def go_on(self, times: int = 1) -> None:
        """Let the server answer so often (connecting included), and those who wait hear it."""
        for _ in range(times):
            assert not isinstance(self.step, Answer)
            told = b"" if isinstance(self.step, Dial) else self.server.serve(getattr(self.step, "data", b""))
            self._now(self.talk.go_on(told))
        await asyncio.sleep(0.001)

    async def fail(self, failure: Failure) -> None:
        self._now(self.talk.fail(failure))
        await asyncio.sleep(0.001)

    def _now(self, step: Step | Answer) -> None:
        self.step = step
        if isinstance(step, Answer):
            self.answer.set_result(step)

    def close(self) -> None:
        self.open = False


class Bench:
    """Consultations, the talks they began, and those who ask."""

    def __init__(self) -> None:
        self.talks: list[Led] = []
        self.consultations = Consultations(self._begin)

    def _begin(self, talk: Talk, address: Address, deadline: float) -> Led:
        self.talks.append(Led(talk, address, deadline))
        return self.talks[-1]

    async def ask(
        self, inquiry: Inquiry, deadline: float = 10.0, server: str = "cas1", address: Address = HERE
    ) -> "asyncio.Task[Heard]":
        task = asyncio.create_task(self.consultations.ask(server, address, inquiry, deadline))
        await asyncio.sleep(0)
        return task


def running(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


def test_those_who_ask_together_ask_on_one_connection() -> None:
    async def body() -> None:
        bench = Bench()
        one, other = await bench.ask(AB), await bench.ask(STORE)
        (talk,) = bench.talks
        await talk.go_on(4)  # connect, bind, two questions
        assert await one == {NSPI: Ports((49160,), 0)}
        assert await other == {EMSMDB: Ports((49161,), 0)}
        assert isinstance(talk.step, Answer)
        assert not talk.open

    running(body())


def test_who_is_answered_does_not_wait_for_the_others() -> None:
    async def body() -> None:
        bench = Bench()
        one, other = await bench.ask(AB), await bench.ask(STORE)
        (talk,) = bench.talks
        await talk.go_on(3)
        assert one.done()
        assert talk.open
        assert not other.done()
        await talk.fail(Failure.TIMEOUT)
        heard = await other
        assert isinstance(heard, Answer)
        assert heard.reason == "cas1 accepts connections on 135 but does not answer ept_map for EMSMDB"
        assert not talk.open

    running(body())


def test_who_comes_while_it_is_asked_is_served_as_well() -> None:
    async def body() -> None:
        bench = Bench()
        one = await bench.ask(AB)
        (talk,) = bench.talks
        await talk.go_on(2)
        other, third = await bench.ask(STORE), await bench.ask(AB)
        await talk.go_on(3)
        assert [await task for task in (one, third)] == [{NSPI: Ports((49160,), 0)}] * 2
        assert await other == {EMSMDB: Ports((49161,), 0)}
        assert len(bench.talks) == 1

    running(body())


def test_nothing_is_remembered() -> None:
    async def body() -> None:
        bench = Bench()
        for times in (1, 2):
            task = await bench.ask(AB)
            await bench.talks[-1].go_on(3)
            assert await task
            assert len(bench.talks) == times

    running(body())


def test_a_mapper_that_cannot_be_asked_is_told_to_all() -> None:
    async def body() -> None:
        bench = Bench()
        tasks = [await bench.ask(AB), await bench.ask(STORE)]
        await bench.talks[0].fail(Failure.REFUSED)
        refused = Answer(False, "cas1 refuses connections on 135", conclusive=True)
        assert [await task for task in tasks] == [refused, refused]
        assert not bench.talks[0].open
        await bench.ask(AB)
        assert len(bench.talks) == 2

    running(body())


def test_one_who_gives_up_takes_nothing_from_the_others_and_the_last_one_hangs_up() -> None:
    async def body() -> None:
        bench = Bench()
        one, other, third = await bench.ask(AB), await bench.ask(STORE), await bench.ask(AB)
        (talk,) = bench.talks
        one.cancel()
        await talk.go_on(4)
        assert await other == {EMSMDB: Ports((49161,), 0)}
        assert await third
        alone = await bench.ask(AB)
        await bench.talks[1].go_on(1)
        alone.cancel()
        await asyncio.sleep(0.001)
        assert not bench.talks[1].open

    running(body())


@pytest.mark.parametrize(
    "other",
    [
        {"deadline": 9.99},
        {"deadline": 10.0 + 2 * TOGETHER_SECONDS},
        {"server": "cas2"},
        {"address": ip_address("127.0.0.2")},
    ],
    ids=["less time", "more time", "server", "address"],
)
def test_who_asks_something_else_or_has_another_time_asks_alone(other: dict[str, Any]) -> None:
    async def body() -> None:
        bench = Bench()
        one, two = await bench.ask(AB), await bench.ask(AB, **other)
        assert len(bench.talks) == 2
        for talk in bench.talks:
            await talk.go_on(3)
        assert await one == await two

    running(body())


@asynccontextmanager
async def mapper(ports: dict[Syntax, int], accepted: list[int]) -> AsyncIterator[None]:
    """A server whose endpoint mapper and interfaces are on ports of their own; what is connected to is noted."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, interface: Syntax) -> None:
        accepted.append(writer.get_extra_info("sockname")[1])
        rpc = RpcServer({EPM: map_} if interface == EPM else [interface])
        while data := await reader.read(4096):
            writer.write(rpc.serve(data))
        writer.close()

    servers = []
    for interface in (EPM, *PORTS):
        server = await asyncio.start_server(partial(answer, interface=interface), "127.0.0.1", 0)
        servers.append(server)
        ports[interface] = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        for server in servers:
            server.close()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_services_of_a_server_are_probed_with_one_connection_to_its_mapper(
    factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        ports: dict[Syntax, int] = {}
        accepted: list[int] = []
        async with mapper(ports, accepted):
            for interface in tuple(PORTS):
                monkeypatch.setitem(PORTS, interface, ports[interface])
            services = (
                Service("epm", ports[EPM], "rpc", ProbeKind.RPC, mapper=True),
                Service("ab", None, "rpc", ProbeKind.RPC, interfaces=(str(NSPI),)),
                Service("store", None, "rpc", ProbeKind.RPC, interfaces=(str(EMSMDB),)),
            )
            prober = DialProber()
            targets = [Target("cas1", (HERE,), service, ports[EPM]) for service in services]
            answers = await asyncio.gather(*(prober.probe(target, 2.0) for target in targets))
            assert [answer.reason for answer, _ in answers] == [
                f"cas1 answers ept_map on {ports[EPM]}",
                f"cas1 accepts the bind to NSPI on {ports[NSPI]}",
                f"cas1 accepts the bind to EMSMDB on {ports[EMSMDB]}",
            ]
            assert sorted(accepted) == sorted(ports.values())
            broken: list[str] = []
            answer, wire = await prober.probe(targets[0], 2.0, lambda: broken.append("epm"))
            assert answer.up
            assert wire is not None  # an endpoint mapper's tripwire is a connection of its own
            prober.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())
