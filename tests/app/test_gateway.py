"""What is asked of a whole gateway, when something in it cannot be done."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.app.test_arrays import DeafMapper, KnowingProber

from casarray.adapters.clock import SystemClock
from casarray.adapters.memory_forwarder import MemoryForwarder
from casarray.adapters.stores.sqlite import SqliteState
from casarray.app.arrays import ArrayService
from casarray.app.gatekeeper import Plan
from casarray.app.gateway import GatewayService
from casarray.app.operations import GatewayStatus
from casarray.app.ports import ServerWish
from casarray.core.config import Array, Config, Gateway, ProbeKind, Server, Service, Site, Wish
from casarray.core.errors import Unavailable

SERVICES = (Service("https", 443, "web", ProbeKind.TCP),)


def site(number: int) -> tuple[Site, Array, Server]:
    name = f"site{number}"
    array = Array(f"cas{number}", f"{name}.tld", name, (ip_address(f"10.11.{number}.100"),), SERVICES, slots=251)
    return Site(name), array, Server(f"s{number}", name, (ip_address(f"10.12.{number}.21"),))


def config(*numbers: int) -> Config:
    sites, arrays, servers = zip(*map(site, numbers), strict=True)
    return Config(Gateway("gw1"), sites, arrays, servers)


class Scene:
    """A gateway whose arrays forward in memory, and the configuration that a reload would read."""

    def __init__(self, folder: Path) -> None:
        self.new = config(1, 2)
        self.forwarders: dict[str, MemoryForwarder] = {}
        self.gateway = GatewayService(
            self.new,
            SqliteState(str(folder)),
            SystemClock(),
            about=GatewayStatus("gw1", "kernel", "routed", "0", 0.0, 1, 0, ""),
            load=self._load,
            open_array=self._open,
        )

    async def _load(self) -> Config:
        return self.new

    async def _open(self, plan: Plan, wishes: Mapping[str, ServerWish]) -> ArrayService:
        forwarder = self.forwarders.setdefault(plan.array.name, MemoryForwarder())
        array = ArrayService(plan, forwarder, SystemClock(), KnowingProber())
        await array.start(wishes, lambda _array: DeafMapper())
        return array


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    it = Scene(tmp_path)
    await it.gateway.start()
    yield it
    await it.gateway.close(keep=True)


async def test_a_reload_that_the_kernel_refuses_ends_and_the_next_one_is_heard(scene: Scene) -> None:
    scene.forwarders["cas1"].fails = Unavailable("the kernel says no")
    arrays = tuple(replace(a, affinity_timeout=60) for a in scene.new.arrays)
    scene.new = replace(scene.new, arrays=arrays)
    async with asyncio.timeout(5):
        report = await scene.gateway.reload()
    (warning,) = report.warnings
    assert "cas1" in warning
    assert "the kernel says no" in warning
    assert not scene.gateway.readiness()[0]
    table = scene.gateway.arrays["cas2"].gatekeeper.table
    assert table is not None
    assert table.groups[0].affinity_seconds == 60
    scene.forwarders["cas1"].fails = None
    async with asyncio.timeout(5):
        assert (await scene.gateway.reload()).warnings == ()
    assert scene.gateway.readiness()[0]


async def test_an_array_that_cannot_be_taken_away_keeps_no_new_one_from_serving(scene: Scene) -> None:
    scene.forwarders["cas1"].fails = Unavailable("the kernel says no")
    scene.new = config(2, 3)
    async with asyncio.timeout(5):
        report = await scene.gateway.reload()
    assert [w for w in report.warnings if "cas1" in w and "the kernel says no" in w]
    assert set(scene.gateway.arrays) == {"cas2", "cas3"}
    assert scene.gateway.readiness() == (True, "every array forwards")


async def test_a_word_of_the_operator_that_cannot_be_done_yet_is_kept_and_said_so(scene: Scene) -> None:
    scene.forwarders["cas1"].fails = Unavailable("the kernel says no")
    async with asyncio.timeout(5):
        change = await scene.gateway.set_server("s1", Wish.OUT)
    assert any("not in force yet" in warning and "the kernel says no" in warning for warning in change.warnings)
    scene.forwarders["cas1"].fails = None
    assert await scene.gateway.arrays["cas1"].gatekeeper.settled()
    assert scene.gateway.arrays["cas1"].gatekeeper.nodes["web"].usable == frozenset()
