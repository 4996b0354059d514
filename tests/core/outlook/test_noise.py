"""Whatever servers answer, a walk ends in steps and raises nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.outlook.sites import VIP, Balancer, Server, Site, outcome, plan

from casarray.core.outlook.asking import Ask, Way, Went
from casarray.core.outlook.verdicts import Result


class Noisy(Server):
    """Answers rightly, but for one call."""

    spoilt = 0
    noise = b""
    at = 0
    cut = False
    calls = 0

    def answer(self, asked: Ask) -> bytes | Went:
        right = super().answer(asked)
        self.calls += 1
        if self.calls != self.spoilt or isinstance(right, Went):
            return right
        at = min(self.at, len(right))
        return right[:at] + self.noise + (b"" if self.cut else right[at + len(self.noise) :])


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 16), st.integers(0, 200), st.binary(max_size=24), st.booleans())
def test_a_spoilt_answer_stops_the_walk_or_does_not_matter(spoilt: int, at: int, noise: bytes, cut: bool) -> None:
    server = Noisy("cas1")
    server.spoilt, server.at, server.noise, server.cut = spoilt, at, noise, cut
    steps = Site({str(VIP): Balancer([server])}).walk(plan())
    assert steps
    assert all(step.text for step in steps)
    assert sum(step.result is Result.FAILURE for step in steps) <= 1
    assert all(step.result is not Result.FAILURE for step in steps[:-1]), outcome(steps)


@given(st.sampled_from(Way), st.integers(1, 16))
def test_a_call_that_goes_wrong_in_any_way_stops_the_walk(way: Way, which: int) -> None:
    class Broken(Noisy):
        def answer(self, asked: Ask) -> bytes | Went:
            self.calls += 1
            return Went(way, "goes wrong", 1) if self.calls == which else Server.answer(self, asked)

    steps = Site({str(VIP): Balancer([Broken("cas1")])}).walk(plan())
    assert steps
    assert sum(step.result is Result.FAILURE for step in steps) <= 1
