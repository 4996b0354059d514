"""Watches every service of every server, and says what is known of them.

One task for each target: probe, judge, wait. The wait is the policy's interval (a little less, so that hundreds of
servers do not march in step), and ends at once when there is a reason to look: the tripwire broke, a forwarder could
not connect, the last probe failed. So a killed process is noticed within milliseconds, and a hung one after at most
``interval + fall * timeout``.

The services of one server are looked at together. It costs less: one timer wakes them all, and a prober may ask once
what several of them have to ask.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from random import random

from casarray.app.ports import Clock, Prober, Tripwire
from casarray.core.config import HealthPolicy, ProbeKind
from casarray.core.health.patience import Patience
from casarray.core.health.probes import Target
from casarray.core.health.verdict import HealthState, ServiceHealth, judge

log = logging.getLogger(__name__)

#: Two failures that follow each other faster than this are one and the same event.
RETRY_SECONDS = 0.05
#: First probes are spread over so many seconds for each target, so that they do not time each other out.
SPREAD_SECONDS = 0.001
#: At most so much of the interval is left out, at random.
JITTER = 0.05

Key = tuple[str, str]  # server, service


class HealthWatch:
    """What is known of the targets. ``on_change`` is told of each change of state (not of each probe)."""

    def __init__(
        self,
        prober: Prober,
        policy: Callable[[Target], HealthPolicy],
        clock: Clock,
        on_change: Callable[[Target, ServiceHealth], None] = lambda _target, _health: None,
    ) -> None:
        """``policy`` is asked before each probe, so a new configuration counts from then on."""
        self.probes = 0  # performed so far
        self._prober = prober
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._watched: dict[Key, _Watched] = {}
        self._rounds: dict[str, _Round] = {}  # by server: when its services are looked at again
        self._decided = asyncio.Event()  # set: every target has had a first result
        self._decided.set()

    def watch(self, targets: Iterable[Target]) -> None:
        """Watch exactly these from now on, on the running loop. What is known of those that stay in place is kept."""
        wanted = {t.key: t for t in targets if t.service.probe is not ProbeKind.NONE}
        for key, watched in tuple(self._watched.items()):
            target = wanted.get(key)
            if target is None or not _same_place(target, watched.target):
                watched.end()
                del self._watched[key]
        for server in self._rounds.keys() - {server for server, _service in wanted}:
            self._rounds.pop(server).cancel()
        fresh = [t for key, t in wanted.items() if key not in self._watched]
        for key, watched in self._watched.items():
            if watched.target != wanted[key]:
                watched.target = wanted[key]
                watched.look()
        now = self._clock.monotonic()
        for at, target in enumerate(fresh):
            watched = _Watched(target, ServiceHealth(HealthState.UNKNOWN, now))
            self._watched[target.key] = watched
            self._start(watched, self._spread(target, at, len(fresh)))
        self._note_decided()

    def seen(self) -> Mapping[Key, ServiceHealth]:
        """What is known now, by server and service. Services that are not probed are missing."""
        return {key: watched.health for key, watched in self._watched.items()}

    def suspect(self, server: str, service: str) -> None:
        """Somebody could not connect there: look now. Cheap and harmless, however often it is called."""
        if (watched := self._watched.get((server, service))) is not None:
            watched.look()

    async def wait_first(self, seconds: float) -> bool:
        """Wait until every target has had a first result, at most so many seconds. Whether they had."""
        if not self._decided.is_set():
            try:
                await asyncio.wait_for(self._decided.wait(), seconds)
            except TimeoutError:
                return False
        return True

    async def close(self) -> None:
        """Stop looking."""
        tasks = [watched.end() for watched in self._watched.values()]
        self._watched.clear()
        for round_ in self._rounds.values():
            round_.cancel()
        self._rounds.clear()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._prober.close()

    def _spread(self, target: Target, at: int, count: int) -> float:
        longest = min(SPREAD_SECONDS * count, self._policy(target).interval)
        return longest * at / count

    def _start(self, watched: "_Watched", delay: float) -> None:
        watched.task = asyncio.create_task(
            self._keep_looking(watched, delay), name=f"health {'/'.join(watched.target.key)}"
        )
        watched.task.add_done_callback(lambda task: self._ended(watched, task))

    def _ended(self, watched: "_Watched", task: "asyncio.Task[None]") -> None:
        """A watch that died of a fault of ours begins again: silence is not health."""
        if task.cancelled() or task.exception() is None:
            return
        log.critical(
            "health: the watch of %s %s failed, beginning again", *watched.target.key, exc_info=task.exception()
        )
        if self._watched.get(watched.target.key) is watched:
            self._start(watched, self._policy(watched.target).interval)

    async def _keep_looking(self, watched: "_Watched", delay: float) -> None:
        await watched.pause(delay)
        # The first regular wait is any part of the interval, so that all targets together keep us evenly busy.
        slack = 1.0
        while True:
            policy = self._policy(watched.target)
            started = self._clock.monotonic()
            watched.asked = watched.urgent = False
            hurry = await self._look(watched, policy, started)
            now = self._clock.monotonic()
            # Whatever the hurry, the next probe starts no sooner than this, so that no flood of suspicion becomes one
            # of probes; and two failures within a blink are one event.
            soonest = started + min(RETRY_SECONDS, policy.interval / 2)
            if hurry:
                await watched.pause(soonest - now, soonest - now)
                continue
            due = self._round(watched.target.server, soonest, started + policy.interval, policy.interval * slack)
            slack = JITTER
            await watched.rest(due.wait(), soonest - now)

    def _round(self, server: str, soonest: float, latest: float, slack: float) -> "_Round":
        """The server's next round, within these limits; if there is none, a new one any part of ``slack`` early."""
        found = self._rounds.get(server)
        if found is None or found.over or not soonest <= found.at <= latest:
            at = max(soonest, latest - slack * random())
            found = self._rounds[server] = _Round(at, at - self._clock.monotonic())
        return found

    async def _look(self, watched: "_Watched", policy: HealthPolicy, started: float) -> bool:
        """Probe and judge. Whether to look again soon: it fails, or the tripwire can be held now."""
        target = watched.target
        wire_due = watched.wire is None and started >= watched.patience.not_before
        wants_wire = wire_due and watched.steady
        answer, wire = await self._prober.probe(
            target, policy.timeout, (lambda: self._tripped(watched)) if wants_wire else None
        )
        self.probes += 1
        now = self._clock.monotonic()
        if wire is not None:
            watched.wire, watched.held_since = wire, now
        before, watched.steady = watched.health, answer.up
        watched.health = judge(before, answer, policy, now, (now - started) * 1000)
        if watched.health.state is not before.state:
            self._tell(target, before, watched.health)
        if watched.health.state is not HealthState.UP or answer.ours:
            return False
        return wire_due and not wants_wire if answer.up else True

    def _tell(self, target: Target, before: ServiceHealth, health: ServiceHealth) -> None:
        level = logging.WARNING if health.state is HealthState.DOWN else logging.INFO
        log.log(level, "%s: %s is %s: %s", target.server, target.service.name, health.state, health.reason)
        if before.state is HealthState.UNKNOWN:
            self._note_decided()
        self._on_change(target, health)

    def _tripped(self, watched: "_Watched") -> None:
        watched.wire = None
        watched.steady = False
        watched.patience = watched.patience.after_break(watched.held_since, self._clock.monotonic())
        watched.urgent = True  # patience sees to it that this does not happen all the time
        watched.look()

    def _note_decided(self) -> None:
        if any(w.health.state is HealthState.UNKNOWN for w in self._watched.values()):
            self._decided.clear()
        else:
            self._decided.set()


class _Watched:
    """One target under watch."""

    def __init__(self, target: Target, health: ServiceHealth) -> None:
        self.target = target
        self.health = health
        self.task: asyncio.Task[None] | None = None
        self.wire: Tripwire | None = None
        self.held_since = 0.0
        self.patience = Patience()
        # A tripwire is held only after a good answer without one. Samba starts its workers at the first connection, and
        # leaves all others that arrive meanwhile waiting until that one is closed: it must not be one that stays.
        self.steady = False
        self.asked = False  # there is a reason to look that no probe has started after
        self.urgent = False  # ... and it cannot wait at all
        self._waiting: asyncio.Future[None] | None = None

    def look(self) -> None:
        """There is a reason to look."""
        self.asked = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def pause(self, seconds: float, at_least: float = 0.0) -> None:
        """Wait so long, or, when there is a reason to look, ``at_least`` so long."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timer = loop.call_later(seconds, _ring, over)
        try:
            await self.rest(over, at_least)
        finally:
            timer.cancel()

    async def rest(self, over: "asyncio.Future[None]", at_least: float = 0.0) -> None:
        """Wait until it is over, or, when there is a reason to look, ``at_least`` so many seconds."""
        if not self.asked:
            loop = asyncio.get_running_loop()
            before = loop.time()
            self._waiting = over
            try:
                await over
            finally:
                self._waiting = None
            at_least -= loop.time() - before
        if self.asked and not self.urgent and at_least > 0:
            await asyncio.sleep(at_least)

    def end(self) -> "asyncio.Task[None] | asyncio.Future[None]":
        """Stop watching; what is returned is done when the last probe has let go."""
        if self.wire is not None:
            self.wire.cut()
            self.wire = None
        assert self.task is not None
        self.task.cancel()
        return self.task


class _Round:
    """The moment when the services of one server are looked at next, and those that wait for it."""

    __slots__ = ("_timer", "_waiting", "at", "over")

    def __init__(self, at: float, seconds: float) -> None:
        """``at`` on the clock is so many seconds from now."""
        self.at = at
        self.over = False
        self._waiting: list[asyncio.Future[None]] = []
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin)

    def wait(self) -> "asyncio.Future[None]":
        """Done when it is time, unless somebody does so before."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def cancel(self) -> None:
        """It does not take place."""
        self._timer.cancel()

    def _begin(self) -> None:
        self.over = True
        for waiting in self._waiting:
            _ring(waiting)


def _ring(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


def _same_place(one: Target, other: Target) -> bool:
    """Whether what was learnt of one holds for the other."""
    return (one.addresses, one.service.port, one.service.probe, one.mapper_port) == (
        other.addresses,
        other.service.port,
        other.service.probe,
        other.mapper_port,
    )
