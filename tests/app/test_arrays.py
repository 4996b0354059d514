"""One array from its start on, with a prober that knows the answers at once."""

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from casarray.adapters.clock import SystemClock
from casarray.adapters.memory_forwarder import MemoryForwarder
from casarray.app.arrays import ArrayService
from casarray.app.gatekeeper import Plan
from casarray.app.ports import Tripwire
from casarray.core.config import Array, Gateway, ProbeKind, Server, Service
from casarray.core.forwarding.diff import Expel
from casarray.core.health.conversation import Answer
from casarray.core.health.probes import Target

SERVICES = (Service("epm", 135, "rpc", ProbeKind.TCP, mapper=True), Service("rpc", 5001, "rpc", ProbeKind.TCP))
ARRAY = Array("CAS", "cas.domain.tld", "Paderborn", (ip_address("10.11.0.100"),), SERVICES, slots=251)
MEMBERS = tuple(Server(f"cas{n}", "Paderborn", (ip_address(f"10.12.0.{20 + n}"),)) for n in (1, 2, 3))
PLAN = Plan(ARRAY, Gateway("gw1"), MEMBERS, {s.name: n for n, s in enumerate(MEMBERS, 1)}, {"rpc": 1}, 0x1234)


class KnowingProber:
    """Fulfils `app.ports.Prober`."""

    def __init__(self, down: frozenset[str] = frozenset()) -> None:
        self.down = down

    async def probe(
        self, target: Target, _seconds: float, _trip: Callable[[], None] | None = None
    ) -> tuple[Answer, Tripwire | None]:
        await asyncio.sleep(0)
        if target.server in self.down:
            return Answer(False, f"{target.server} refuses connections", conclusive=True), None
        return Answer(True, "it answers"), None

    def close(self) -> None:
        """Nothing is open."""


class DeafMapper:
    """Fulfils `app.ports.Mapper`."""

    relays = 0

    async def start(self) -> None:
        """Takes its time, so that probes are faster."""
        await asyncio.sleep(0.1)

    def replan(self, array: Array) -> None:
        """It does not care."""

    def end_member(self, member_id: int) -> None:
        """Nobody is there."""

    def counters(self) -> Mapping[str, int]:
        """Nothing happens."""
        return {}

    async def close(self) -> None:
        """Nothing is open."""


async def serve(forwarder: MemoryForwarder, down: frozenset[str] = frozenset()) -> ArrayService:
    service = ArrayService(PLAN, forwarder, SystemClock(), KnowingProber(down))
    await service.start({}, lambda _service: DeafMapper())
    return service


def usable(service: ArrayService) -> frozenset[int]:
    return service.gatekeeper.nodes["rpc"].usable


async def test_a_member_that_died_between_two_gateways_is_taken_out_however_soon_the_probe_says_so() -> None:
    forwarder = MemoryForwarder()
    first = await serve(forwarder)
    assert usable(first) == {1, 2, 3}
    await first.close(keep=True)
    second = await serve(forwarder, down=frozenset({"cas2"}))
    try:
        async with asyncio.timeout(3):
            while usable(second) != {1, 3}:
                await asyncio.sleep(0.01)
    finally:
        await second.close(keep=True)


async def test_a_gateway_that_finds_a_table_without_members_fills_it() -> None:
    forwarder = MemoryForwarder()
    first = await serve(forwarder)
    await first.close(keep=True)
    await forwarder.apply([Expel("rpc", member) for member in (1, 2, 3)])  # as one that was killed half-way leaves it
    second = await serve(forwarder)
    try:
        async with asyncio.timeout(3):
            while usable(second) != {1, 2, 3}:
                await asyncio.sleep(0.01)
    finally:
        await second.close(keep=True)
