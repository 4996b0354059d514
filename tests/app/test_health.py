"""The health watch, with a prober that does as it is told, in virtual time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from ipaddress import ip_address
from itertools import pairwise

import pytest
from tests.app.virtual_time import VirtualLoop, in_virtual_time

from casarray.app.health import HealthWatch
from casarray.core.config import HealthPolicy, ProbeKind, Service
from casarray.core.health.conversation import Answer
from casarray.core.health.probes import Target
from casarray.core.health.verdict import HealthState, ServiceHealth

UP, DOWN, UNKNOWN = HealthState.UP, HealthState.DOWN, HealthState.UNKNOWN
FAST = HealthPolicy(interval=0.1, timeout=0.15)


def target(server: str = "cas1", service: str = "rpc", probe: ProbeKind = ProbeKind.TCP) -> Target:
    return Target(server, (ip_address("10.12.0.21"),), Service(service, 5001, "rpc", probe))


@dataclass
class Wire:
    """A tripwire that a test can break."""

    trip: Callable[[], None]
    whole: bool = True

    def cut(self) -> None:
        self.whole = False

    def snap(self) -> None:
        self.whole = False
        self.trip()


@dataclass
class Prober:
    """`casarray.app.ports.Prober`: ``behaviour`` by server and service, else up."""

    loop: VirtualLoop
    behaviour: dict[tuple[str, str], str] = field(default_factory=dict)
    started: list[float] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    running: int = 0
    most: int = 0
    wireless: bool = False

    async def probe(
        self, target: Target, seconds: float, trip: Callable[[], None] | None = None
    ) -> tuple[Answer, Wire | None]:
        self.started.append(self.loop.time())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            behaviour = self.behaviour.get(target.key, "up")
            await asyncio.sleep({"hangs": seconds, "slow": 0.3}.get(behaviour, 0.001))
        finally:
            self.running -= 1
        if behaviour == "bug":
            raise RuntimeError("a bug")
        if behaviour in ("up", "slow"):
            if trip is not None and not self.wireless:
                self.wires.append(Wire(trip))
                return Answer(True, "answers"), self.wires[-1]
            return Answer(True, "answers"), None
        return Answer(False, behaviour, conclusive=behaviour == "refuses", ours=behaviour == "ours"), None

    def close(self) -> None:
        assert self.running == 0


@dataclass
class Case:
    """A watch and all about it."""

    loop: VirtualLoop
    prober: Prober
    watch: HealthWatch
    changes: list[tuple[float, tuple[str, str], HealthState]]
    policy: HealthPolicy = field(default_factory=HealthPolicy)

    def state(self, server: str = "cas1", service: str = "rpc") -> HealthState:
        return self.watch.seen()[server, service].state

    async def until(self, state: HealthState) -> float:
        """Seconds until cas1's rpc is in that state."""
        since = self.loop.time()
        async with asyncio.timeout(1000):
            while self.state() is not state:
                await asyncio.sleep(0.001)
        return self.loop.time() - since


def virtual(body: Callable[[Case], Awaitable[None]]) -> Callable[[], None]:
    """Make a test of it."""

    async def run(loop: VirtualLoop) -> None:
        prober = Prober(loop)
        changes: list[tuple[float, tuple[str, str], HealthState]] = []

        def note(target: Target, health: ServiceHealth) -> None:
            changes.append((loop.time(), target.key, health.state))

        case = Case(loop, prober, HealthWatch(prober, lambda _target: case.policy, loop, note), changes)
        await body(case)
        await case.watch.close()
        assert all(not wire.whole for wire in prober.wires)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    @wraps(body)
    def test() -> None:
        in_virtual_time(run)

    del test.__wrapped__  # pytest would take its argument for a fixture
    return test


@virtual
async def test_the_first_results_are_waited_for(case: Case) -> None:
    case.watch.watch([target("cas1"), target("cas2")])
    case.prober.behaviour["cas2", "rpc"] = "hangs"
    assert case.state("cas1") is UNKNOWN
    assert not await case.watch.wait_first(0.5)
    assert await case.watch.wait_first(0.5)
    assert (case.state("cas1"), case.state("cas2")) == (UP, DOWN)
    assert [(key, state) for _, key, state in case.changes] == [(("cas1", "rpc"), UP), (("cas2", "rpc"), DOWN)]


@virtual
async def test_no_targets_are_decided_at_once(case: Case) -> None:
    case.watch.watch([target(probe=ProbeKind.NONE)])
    assert await case.watch.wait_first(0)
    assert case.watch.seen() == {}


@pytest.mark.parametrize(("policy", "limit"), [(HealthPolicy(), 3.0), (FAST, 0.5)])
@pytest.mark.parametrize("moment", [0.0, 0.3, 0.7, 0.99])
def test_a_hung_service_is_down_within_an_interval_and_two_timeouts(
    policy: HealthPolicy, limit: float, moment: float
) -> None:
    @virtual
    async def hang(case: Case) -> None:
        case.policy = policy
        case.watch.watch([target()])
        await asyncio.sleep(10 + moment * policy.interval)
        case.prober.behaviour["cas1", "rpc"] = "hangs"
        assert await case.until(DOWN) <= min(limit, policy.interval + 2 * policy.timeout + 0.01)

    hang()


@virtual
async def test_a_broken_tripwire_is_looked_at_at_once(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10.5)
    case.prober.behaviour["cas1", "rpc"] = "refuses"
    case.prober.wires[0].snap()
    assert await case.until(DOWN) < 0.01


@virtual
async def test_a_tripwire_that_breaks_right_after_a_probe_does_not_wait(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10)
    before = len(case.prober.started)
    while len(case.prober.started) == before or case.prober.running:
        await asyncio.sleep(0.0005)
    case.prober.behaviour["cas1", "rpc"] = "refuses"
    case.prober.wires[-1].snap()
    assert await case.until(DOWN) < 0.01


@virtual
async def test_a_kill_that_first_looks_like_a_reset_is_down_within_100_ms(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10.5)
    case.prober.behaviour["cas1", "rpc"] = "resets"
    case.prober.wires[0].snap()
    await asyncio.sleep(0.02)
    assert case.state() is UP
    assert await case.until(DOWN) < 0.08


@virtual
async def test_a_polite_end_of_a_tripwire_is_no_failure(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(100.5)
    before = len(case.prober.started)
    case.prober.wires[-1].snap()
    await asyncio.sleep(0.1)
    assert case.state() is UP
    assert len(case.prober.started) == before + 2  # one to see that it lives, one to hold the next tripwire
    assert len(case.prober.wires) == 2
    assert len(case.changes) == 1


@virtual
async def test_a_tripwire_is_held_only_after_a_good_answer_without_one(case: Case) -> None:
    case.watch.watch([target()])
    assert await case.watch.wait_first(1)
    assert case.prober.wires == []
    await asyncio.sleep(0.1)
    assert len(case.prober.wires) == 1
    assert len(case.prober.started) == 2


@virtual
async def test_a_service_that_comes_back_is_not_hurried_for_a_tripwire(case: Case) -> None:
    case.prober.behaviour["cas1", "rpc"] = "refuses"
    case.watch.watch([target()])
    await asyncio.sleep(10)
    del case.prober.behaviour["cas1", "rpc"]
    assert await case.until(UP) > 0.9


@virtual
async def test_a_prober_without_tripwires_is_asked_once_an_interval(case: Case) -> None:
    case.prober.wireless = True
    case.watch.watch([target()])
    await asyncio.sleep(100)
    assert len(case.prober.started) < 110


@virtual
async def test_a_server_that_ends_every_tripwire_at_once_is_left_alone_for_longer_and_longer(case: Case) -> None:
    case.watch.watch([target()])
    snapped = []
    while case.loop.time() < 2000:
        await asyncio.sleep(0.01)
        if case.prober.wires and case.prober.wires[-1].whole:
            case.prober.wires[-1].snap()
            snapped.append(case.loop.time())
    waits = [b - a for a, b in pairwise(snapped)]
    assert waits[0] < 0.1
    assert all(b > a for a, b in pairwise(waits[1:9]))
    assert max(waits) < 302
    assert len(snapped) <= 13
    assert len(case.prober.started) < 1000 / (1 - 0.1) + 30
    assert case.state() is UP


@virtual
async def test_a_suspicion_is_looked_at_at_once(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10.5)
    case.prober.behaviour["cas1", "rpc"] = "refuses"
    case.watch.suspect("cas1", "rpc")
    case.watch.suspect("nobody", "nothing")
    assert await case.until(DOWN) < 0.06


@virtual
async def test_a_suspicion_during_a_probe_is_looked_at_after_it(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10)
    while not case.prober.running:
        await asyncio.sleep(0.0001)
    case.watch.suspect("cas1", "rpc")
    before = len(case.prober.started)
    await asyncio.sleep(0.1)
    assert len(case.prober.started) == before + 1


@virtual
async def test_a_flood_of_suspicion_is_no_flood_of_probes(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10)
    before = len(case.prober.started)
    for _ in range(10_000):
        case.watch.suspect("cas1", "rpc")
        await asyncio.sleep(0.0001)
    assert len(case.prober.started) - before <= 21
    assert case.prober.most == 1


@virtual
async def test_a_service_that_is_down_is_asked_once_an_interval(case: Case) -> None:
    case.prober.behaviour["cas1", "rpc"] = "refuses"
    case.watch.watch([target()])
    await asyncio.sleep(100)
    assert 100 <= len(case.prober.started) <= 112


@virtual
async def test_it_comes_back_after_two_intervals(case: Case) -> None:
    case.prober.behaviour["cas1", "rpc"] = "refuses"
    case.watch.watch([target()])
    await asyncio.sleep(10)
    del case.prober.behaviour["cas1", "rpc"]
    assert 0.9 < await case.until(UP) < 2.1
    assert case.watch.seen()["cas1", "rpc"].recovered_at is not None


@virtual
async def test_a_fault_of_ours_changes_nothing(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10)
    case.prober.behaviour["cas1", "rpc"] = "ours"
    before = len(case.prober.started)
    await asyncio.sleep(10)
    assert case.state() is UP
    assert case.watch.seen()["cas1", "rpc"].reason == "ours"
    assert len(case.prober.started) - before <= 12


@virtual
async def test_a_target_that_stays_keeps_what_is_known_of_it(case: Case) -> None:
    case.watch.watch([target("cas1"), target("cas2")])
    await asyncio.sleep(10)
    since = case.watch.seen()["cas1", "rpc"].since
    moved = replace(target("cas2"), addresses=(ip_address("10.12.0.99"),))
    other_path = replace(target("cas1"), host="other.example")
    case.watch.watch([other_path, moved, target("cas3")])
    assert case.watch.seen()["cas1", "rpc"].since == since
    assert case.state("cas2") is UNKNOWN
    assert await case.watch.wait_first(1)
    assert set(case.watch.seen()) == {("cas1", "rpc"), ("cas2", "rpc"), ("cas3", "rpc")}
    case.watch.watch([target("cas1")])
    assert set(case.watch.seen()) == {("cas1", "rpc")}
    await asyncio.sleep(1)
    assert [w.whole for w in case.prober.wires].count(True) == 1


@virtual
async def test_a_new_policy_counts_from_the_next_probe_on(case: Case) -> None:
    case.watch.watch([target()])
    await asyncio.sleep(10)
    case.policy = FAST
    await asyncio.sleep(2)
    before = len(case.prober.started)
    await asyncio.sleep(1)
    assert 9 <= len(case.prober.started) - before <= 12


@virtual
async def test_many_targets_do_not_march_in_step(case: Case) -> None:
    case.watch.watch([target(f"cas{n}") for n in range(200)])
    await asyncio.sleep(10)
    late = sorted(at for at in case.prober.started if at > case.loop.time() - 1)
    busiest = max(sum(1 for at in late if start <= at < start + 0.1) for start in late)
    assert busiest < 60


def starts(case: Case, seconds: float) -> list[float]:
    """When probes were started, in the last so many seconds."""
    return [at for at in case.prober.started if at > case.loop.time() - seconds]


@virtual
async def test_the_services_of_a_server_are_looked_at_together(case: Case) -> None:
    case.watch.watch([target(server, service) for server in ("cas1", "cas2") for service in ("ab", "rpc", "web")])
    await asyncio.sleep(10)
    late = starts(case, 5.0)
    moments = set(late)
    assert 8 <= len(moments) <= 12
    assert all(late.count(at) == 3 for at in moments)


@virtual
async def test_a_service_that_is_looked_at_in_between_is_together_with_the_others_again(case: Case) -> None:
    case.watch.watch([target("cas1", service) for service in ("ab", "rpc", "web")])
    await asyncio.sleep(10)
    while not starts(case, 0.01):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.3)
    case.watch.suspect("cas1", "ab")
    await asyncio.sleep(0.1)
    assert len(starts(case, 0.2)) == 1
    await asyncio.sleep(0.8)
    late = starts(case, 0.8)
    assert len(late) == 3
    assert len(set(late)) == 1


@virtual
async def test_a_probe_that_lasts_beyond_the_next_moment_is_followed_by_another(case: Case) -> None:
    case.prober.behaviour["cas1", "rpc"] = "slow"
    case.watch.watch([target()])
    await asyncio.sleep(10)
    while not starts(case, 0.01):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.85)
    case.watch.suspect("cas1", "rpc")
    await asyncio.sleep(2.2)
    assert len(starts(case, 2.3)) == 3


@virtual
async def test_a_service_that_hangs_delays_no_other_of_its_server(case: Case) -> None:
    case.policy = HealthPolicy(interval=0.1, timeout=1.0)
    case.prober.behaviour["cas1", "web"] = "hangs"
    case.watch.watch([target("cas1", service) for service in ("ab", "web")])
    await asyncio.sleep(5)
    assert case.state("cas1", "web") is DOWN
    assert 18 <= len(starts(case, 2.0)) <= 26


def test_a_watch_that_dies_of_a_bug_begins_again_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    @virtual
    async def dies(case: Case) -> None:
        case.prober.behaviour["cas1", "rpc"] = "bug"
        case.watch.watch([target()])
        await asyncio.sleep(3)
        del case.prober.behaviour["cas1", "rpc"]
        assert await case.until(UP) < 1.5

    dies()
    assert [r.levelno for r in caplog.records].count(logging.CRITICAL) >= 2


@virtual
async def test_closing_in_the_middle_of_probes_leaves_nothing(case: Case) -> None:
    for n in range(20):
        case.prober.behaviour[f"cas{n}", "rpc"] = "hangs"
    case.watch.watch([target(f"cas{n}") for n in range(40)])
    await asyncio.sleep(0.03)
    assert case.prober.running
