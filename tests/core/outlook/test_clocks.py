"""What time a server has, read from its challenge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import Denied
from casarray.core.ntlm.messages import AvId, Challenge, Flag, Negotiate
from casarray.core.outlook.clocks import ClockAsker, difference_text, time_in

NOON = 1_780_000_000.0


def challenge(*pairs: tuple[int, bytes]) -> bytes:
    return Challenge(Flag.UNICODE | Flag.TARGET_INFO, bytes(8), "CAS1", pairs).encode()


STAMP = (AvId.TIMESTAMP.value, int((NOON + 11_644_473_600) * 1e7).to_bytes(8, "little"))


def test_the_time_of_a_challenge_is_read() -> None:
    assert time_in(challenge((AvId.DNS_COMPUTER.value, b"c\0"), STAMP)) == pytest.approx(NOON)


def test_a_challenge_without_a_time_tells_none() -> None:
    assert time_in(challenge()) is None
    assert time_in(challenge((AvId.TIMESTAMP.value, b"short"))) is None


@given(st.binary(max_size=200), st.integers(0, 120))
def test_no_bytes_raise(noise: bytes, at: int) -> None:
    right = challenge(STAMP)
    time_in(noise)
    time_in(right[:at] + noise + right[at + len(noise) :])


def test_an_asker_begins_ntlm_and_ends_it_with_the_challenge() -> None:
    asker = ClockAsker()
    assert Negotiate.decode(asker.step(b"")).flags & Flag.TARGET_INFO
    with pytest.raises(Denied):
        asker.step(challenge(STAMP))
    assert asker.time == pytest.approx(NOON)
    assert not asker.complete


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (1800, "30 minutes ahead of"),
        (-600, "10 minutes behind"),
        (7300, "2 hours ahead of"),
        (-86400, "24 hours behind"),
    ],
)
def test_a_difference_is_said_as_people_say_it(ahead: float, text: str) -> None:
    assert difference_text(ahead) == text
