"""Results over time -> verdicts, as plain data."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from casarray.core.config import HealthPolicy, ProbeKind, Service
from casarray.core.health.conversation import Answer
from casarray.core.health.verdict import HealthState, ServiceHealth, judge, standing

UP, DOWN, UNKNOWN = HealthState.UP, HealthState.DOWN, HealthState.UNKNOWN
POLICY = HealthPolicy(interval=1, timeout=0.5, rise=2, fall=2, hold=10)
GOOD = Answer(True, "cas1 answers")
BAD = Answer(False, "cas1 is silent")
REFUSED = Answer(False, "cas1 refuses", conclusive=True)
OURS = Answer(False, "cas1 was not probed: no file descriptors left", ours=True)
NEW = ServiceHealth(UNKNOWN, 0.0)


def after(
    *answers: Answer, start: ServiceHealth = NEW, at: float = 100.0, policy: HealthPolicy = POLICY
) -> ServiceHealth:
    """The health after these answers, one each second."""
    for n, answer in enumerate(answers):
        start = judge(start, answer, policy, at + n, 3.0)
    return start


def test_the_first_result_decides() -> None:
    assert after(GOOD).state is UP
    assert after(BAD).state is DOWN


def test_one_failure_is_forgiven_and_two_in_a_row_are_not() -> None:
    assert after(GOOD, BAD).state is UP
    assert after(GOOD, BAD, GOOD, BAD).state is UP
    down = after(GOOD, BAD, BAD)
    assert (down.state, down.since, down.reason) == (DOWN, 102.0, "cas1 is silent")


def test_a_refused_connection_counts_as_all_of_them() -> None:
    assert after(GOOD, REFUSED).state is DOWN


def test_two_good_answers_in_a_row_raise_it_again() -> None:
    down = after(GOOD, BAD, BAD)
    once = after(GOOD, start=down, at=110)
    assert (once.state, once.reason) == (DOWN, "cas1 answers again, 1 of 2 times")
    assert after(GOOD, BAD, GOOD, start=down, at=110).state is DOWN
    up = after(GOOD, GOOD, start=down, at=110)
    assert (up.state, up.since, up.recovered_at) == (UP, 111.0, 111.0)


def test_what_was_up_when_we_came_has_not_recovered() -> None:
    assert after(GOOD, GOOD).recovered_at is None


def test_a_fault_of_ours_says_nothing_of_the_server() -> None:
    assert after(OURS).state is UNKNOWN
    ill = after(GOOD, OURS, OURS, OURS)
    assert (ill.state, ill.failures, ill.reason) == (UP, 0, OURS.reason)


def test_the_latency_is_that_of_the_last_good_answer() -> None:
    up = judge(NEW, GOOD, POLICY, 1.0, 7.5)
    assert judge(up, BAD, POLICY, 2.0, 500.0).latency_ms == 7.5


def fall_and_rise(health: ServiceHealth, at: float) -> tuple[ServiceHealth, float]:
    """Let it fall at ``at``, then answer well each second until it is up again; when that was."""
    health = judge(health, REFUSED, POLICY, at)
    assert health.state is DOWN
    while health.state is DOWN:
        at += 1
        health = judge(health, GOOD, POLICY, at)
    return health, at


def test_coming_and_going_is_held_down_for_longer_and_longer() -> None:
    health, at, downtimes = after(GOOD), 200.0, []
    for _ in range(6):
        health, up_at = fall_and_rise(health, at)
        downtimes.append(up_at - at)
        at = up_at + 1
    assert downtimes == [2, 2, 10, 20, 40, 80]


def test_a_hold_is_never_longer_than_32_times_the_first() -> None:
    health, at = after(GOOD), 200.0
    for _ in range(12):
        start = at
        health, up_at = fall_and_rise(health, at)
        at = up_at + 1
    assert up_at - start == 320


def test_a_minute_of_peace_is_a_new_beginning() -> None:
    health, at = after(GOOD), 200.0
    for _ in range(4):
        health, up_at = fall_and_rise(health, at)
        at = up_at + 1
    _, up_again = fall_and_rise(health, up_at + 61)
    assert up_again - (up_at + 61) == 2


def test_the_reason_says_that_it_is_held_down() -> None:
    health = replace(after(GOOD), state=DOWN, hold_until=130.0, successes=5)
    assert judge(health, GOOD, POLICY, 120.0).reason == "cas1 answers again, but came and went: held down for 10 s more"


ANSWERS = st.sampled_from([GOOD, BAD, REFUSED, OURS])
POLICIES = st.builds(
    HealthPolicy, rise=st.integers(1, 4), fall=st.integers(1, 4), hold=st.sampled_from([0.0, 5.0, 10.0])
)


@given(st.lists(st.tuples(ANSWERS, st.floats(0.01, 30)), max_size=80), POLICIES)
def test_no_history_makes_it_up_on_failures_or_down_on_answers(
    history: list[tuple[Answer, float]], policy: HealthPolicy
) -> None:
    health, now = NEW, 0.0
    for answer, wait in history:
        before, now = health, now + wait
        health = judge(before, answer, policy, now)
        if health.state is UP and before.state is not UP:
            assert answer.up
            assert before.state is UNKNOWN or (health.successes >= policy.rise and now >= before.hold_until)
        if health.state is DOWN and before.state is UP:
            assert not answer.up
            assert answer.conclusive or health.failures >= policy.fall
        if health.state is before.state:
            assert health.since == before.since
        assert len(health.falls) <= 3


@given(POLICIES, st.lists(ANSWERS, max_size=40))
def test_whatever_happened_a_healthy_service_is_up_again_in_the_end(
    policy: HealthPolicy, history: list[Answer]
) -> None:
    health = NEW
    for n, answer in enumerate([*history, *[GOOD] * 400]):
        health = judge(health, answer, policy, float(n))
    assert health.state is UP


def service(name: str, *, required: bool = True, probe: ProbeKind = ProbeKind.TCP) -> Service:
    return Service(name, 1, "rpc", probe, required)


def test_a_member_is_eligible_while_every_required_service_is_up() -> None:
    services = [service("epm"), service("rpc"), service("extra", required=False), service("mute", probe=ProbeKind.NONE)]
    up, down = ServiceHealth(UP, 1.0), ServiceHealth(DOWN, 1.0, "cas1 refuses connections on 5001")
    assert standing(services, {"epm": up, "rpc": up, "extra": down}).state is UP
    assert standing(services, {"epm": up, "rpc": down}).reason == "cas1 refuses connections on 5001"
    assert standing(services, {"epm": up, "rpc": down}).state is DOWN
    assert standing(services, {"epm": down}).state is DOWN
    waiting = standing(services, {"epm": up, "rpc": NEW})
    assert (waiting.state, waiting.reason) == (UNKNOWN, "not probed yet: rpc")
    assert standing(services, {"epm": up}).state is UNKNOWN
    assert standing([], {}).state is UP


def test_a_slow_start_counts_from_the_last_service_that_recovered() -> None:
    services = [service("epm"), service("rpc")]
    old, back = ServiceHealth(UP, 1.0), ServiceHealth(UP, 50.0, recovered_at=50.0)
    assert standing(services, {"epm": old, "rpc": old}).up_since is None
    assert standing(services, {"epm": old, "rpc": back}).up_since == 50.0
    assert standing(services, {"epm": replace(back, recovered_at=70.0), "rpc": back}).up_since == 70.0
