"""Everything that parses bytes from the network, fed with spoilt and with random ones for a bounded time."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.parsers import PARSERS, feed_for, spoil

NAMES = sorted(PARSERS)


@pytest.mark.parametrize("name", NAMES)
def test_right_bytes_and_all_their_beginnings_are_taken(name: str) -> None:
    for seed in PARSERS[name].seeds:
        for end in range(len(seed) + 1):
            PARSERS[name].feed(seed[:end])


@pytest.mark.parametrize("name", NAMES)
@given(data=st.one_of(st.binary(max_size=400), st.randoms(use_true_random=False)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_end_in_a_value_or_the_promised_error(name: str, data: bytes | random.Random) -> None:
    if isinstance(data, random.Random):
        data = spoil(data.choice(PARSERS[name].seeds), data)
    PARSERS[name].feed(data)


def test_a_few_seconds_of_spoilt_bytes_break_nothing() -> None:
    assert feed_for(4.0, NAMES, random.Random(1)) > 1000


def test_a_parser_that_breaks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(data: bytes) -> None:
        if len(data) > 3 and data[3] == 0x80:
            raise IndexError("beyond the end")

    monkeypatch.setattr("tests.fuzz.parsers.PARSERS", {"broken": type(PARSERS["pdu"])(breaks, (bytes(8),))})
    with pytest.raises(IndexError):
        feed_for(5.0, ["broken"], random.Random(1))
