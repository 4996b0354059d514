"""Results over time -> may this service, this member, be used.

`judge` takes one service from result to result; `standing` makes of a group's services what holds for the member.
"Now" is an argument everywhere, in seconds of a clock that never jumps.

A service that keeps coming and going costs its clients a reset each time, so the third fall within a minute keeps it
down for `HealthPolicy.hold`, each further one for twice as long as before, until it has stayed up for a minute.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from casarray.core.config import HealthPolicy, ProbeKind, Service
from casarray.core.health.conversation import Answer

FLAPPING_FALLS = 3
FLAPPING_SECONDS = 60.0
LONGEST_HOLD = 32  # times the first one


class HealthState(StrEnum):
    """What is known of a service, or of a member in a group."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"  # not probed yet


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What is known of one service of one server."""

    state: HealthState
    since: float  # the state's beginning
    reason: str = "not probed yet"  # what the last probe said
    latency_ms: float | None = None  # of the last probe that was answered well
    failures: int = 0  # in a row
    successes: int = 0  # in a row
    recovered_at: float | None = None  # when it came up; None: it was up when we came, or is not up
    falls: tuple[float, ...] = ()  # when it went down, the last few times
    hold_until: float = 0.0  # flapping: it stays down till then
    holds: int = 0  # how many holds in a row
    certificate_expires: float | None = None  # seconds since the epoch


def judge(
    before: ServiceHealth, answer: Answer, policy: HealthPolicy, now: float, latency_ms: float | None = None
) -> ServiceHealth:
    """The health after this answer."""
    if answer.ours:
        return replace(before, reason=answer.reason)
    seen = ServiceHealth(
        state=before.state,
        since=before.since,
        reason=answer.reason,
        latency_ms=latency_ms if answer.up else before.latency_ms,
        failures=0 if answer.up else before.failures + 1,
        successes=before.successes + 1 if answer.up else 0,
        recovered_at=before.recovered_at,
        falls=before.falls,
        hold_until=before.hold_until,
        holds=before.holds,
        certificate_expires=answer.certificate_expires or before.certificate_expires,
    )  # written out: `replace` costs four times as much, and this is done for every probe
    if before.state is HealthState.UNKNOWN:
        return replace(seen, state=HealthState.UP if answer.up else HealthState.DOWN, since=now)
    if answer.up and before.state is HealthState.DOWN:
        return _rise(seen, policy, now)
    if not answer.up and before.state is HealthState.UP and (answer.conclusive or seen.failures >= policy.fall):
        return _fall(seen, policy, now)
    return seen


def _rise(seen: ServiceHealth, policy: HealthPolicy, now: float) -> ServiceHealth:
    if seen.successes < policy.rise:
        return replace(seen, reason=f"{seen.reason} again, {seen.successes} of {policy.rise} times")
    if now < seen.hold_until:
        left = seen.hold_until - now
        return replace(seen, reason=f"{seen.reason} again, but came and went: held down for {left:.0f} s more")
    return replace(seen, state=HealthState.UP, since=now, recovered_at=now)


def _fall(seen: ServiceHealth, policy: HealthPolicy, now: float) -> ServiceHealth:
    falls = (*(f for f in seen.falls if now - f < FLAPPING_SECONDS), now)[-FLAPPING_FALLS:]
    if seen.holds and now - seen.since < FLAPPING_SECONDS:
        holds = seen.holds + 1
    else:
        holds = 1 if len(falls) == FLAPPING_FALLS else 0
    hold = policy.hold * min(1 << (holds - 1), LONGEST_HOLD) if holds else 0.0
    return replace(
        seen,
        state=HealthState.DOWN,
        since=now,
        recovered_at=None,
        falls=falls,
        hold_until=now + hold,
        holds=holds,
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds for one member in one group; eligible when ``state`` is UP."""

    state: HealthState
    reason: str
    up_since: float | None = None  # since when all of it is up; None: it was when we came (nothing to start slowly)


def standing(services: Iterable[Service], health: Mapping[str, ServiceHealth]) -> Standing:
    """What holds for a member, from the services of one group and what is known of the member's, by service name.

    It is up while every required service is, down as soon as one is down, and unknown while one has had no result.
    """
    required = {s.name: health.get(s.name) for s in services if s.required and s.probe is not ProbeKind.NONE}
    down = [h.reason for h in required.values() if h is not None and h.state is HealthState.DOWN]
    if down:
        return Standing(HealthState.DOWN, "; ".join(dict.fromkeys(down)))
    waiting = [name for name, h in required.items() if h is None or h.state is HealthState.UNKNOWN]
    if waiting:
        return Standing(HealthState.UNKNOWN, f"not probed yet: {', '.join(waiting)}")
    recovered = [h.recovered_at for h in required.values() if h is not None and h.recovered_at is not None]
    return Standing(HealthState.UP, "every required service answers", max(recovered, default=None))
