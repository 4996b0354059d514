"""Pins and pinholes: bounded, expiring, all or none."""

from ipaddress import IPv4Address

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from casarray.core.affinity.sticky import Holes, Pins
from casarray.core.errors import Unavailable
from casarray.core.forwarding.table import OpenRange, Pinhole

A, B, C = (IPv4Address(f"192.0.2.{n}") for n in (1, 2, 3))


def test_a_pin_lives_its_time_and_not_longer() -> None:
    pins = Pins()
    pins.set(A, 7, now=100, seconds=10)
    assert (pins.member(A, 109.9), pins.seconds_left(A, 103.5)) == (7, 6)
    assert (pins.member(A, 110), pins.seconds_left(A, 110), pins.count(110)) == (None, None, 0)


def test_full_pins_take_nobody_new_but_renew() -> None:
    pins = Pins(most=2)
    assert pins.set(A, 1, 0, 10)
    assert pins.set(B, 1, 0, 10)
    assert not pins.set(C, 1, 0, 10)
    assert pins.set(A, 2, 5, 10)
    assert pins.set(C, 3, 10, 10)  # B's has run out
    assert [pins.member(c, 10) for c in (A, B, C)] == [2, None, 3]


def test_a_shorter_affinity_makes_later_pins_go_first_without_harm() -> None:
    pins = Pins()
    pins.set(A, 1, 0, 100)
    pins.set(B, 1, 1, 10)
    assert (pins.member(A, 50), pins.member(B, 50)) == (1, None)


class AgainstADictionary(RuleBasedStateMachine):
    """Pins are a dictionary with times."""

    def __init__(self) -> None:
        super().__init__()
        self.pins, self.model, self.now = Pins(most=4), dict[IPv4Address, tuple[int, float]](), 0.0

    @rule(client=st.sampled_from([IPv4Address(n) for n in range(8)]), member=st.integers(1, 3))
    def pin(self, client: IPv4Address, member: int) -> None:
        self.model = {c: p for c, p in self.model.items() if p[1] > self.now}
        # A pin of its own that has run out but is not yet dropped still has its place.
        room = len(self.model) < 4 or client in self.model
        assert self.pins.set(client, member, self.now, 10) is room
        if room:
            self.model[client] = (member, self.now + 10)

    @rule(client=st.sampled_from([IPv4Address(n) for n in range(8)]))
    def forget(self, client: IPv4Address) -> None:
        self.pins.forget(client)
        self.model.pop(client, None)

    @rule(seconds=st.sampled_from([0, 1, 5, 11]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def equal(self) -> None:
        for client in (IPv4Address(n) for n in range(8)):
            member, until = self.model.get(client, (None, 0.0))
            assert self.pins.member(client, self.now) == (member if until > self.now else None)


TestAgainstADictionary = AgainstADictionary.TestCase


def hole(client: IPv4Address, port: int, seconds: int = 10, member: int = 1) -> Pinhole:
    return Pinhole("rpc", client, port, member, seconds)


def test_a_pinhole_is_for_one_client_one_port_and_a_time() -> None:
    holes = Holes()
    holes.open([hole(A, 6000)], now=0)
    assert [o.member_id for o in holes.find(A, 6000, 9)] == [1]
    assert not holes.find(A, 6001, 9)
    assert not holes.find(B, 6000, 9)
    assert not holes.find(A, 6000, 10)


def test_a_range_holds_both_its_ends_and_the_pinhole_comes_first() -> None:
    holes = Holes()
    holes.open([OpenRange("rpc", A, 2, 6000, 6002, 10), hole(A, 6001)], now=0)
    assert [[o.member_id for o in holes.find(A, port, 0)] for port in range(5999, 6004)] == [[], [2], [1, 2], [2], []]
    assert holes.ports() == {6000, 6001, 6002}


def test_no_room_opens_none_of_them() -> None:
    holes = Holes(most=2)
    holes.open([hole(A, 6000)], now=0)
    with pytest.raises(Unavailable):
        holes.open([hole(B, 6000), hole(B, 6001)], now=0)
    assert not holes.find(B, 6000, 0)
    holes.open([hole(B, 6000), hole(B, 6001)], now=10)  # A's has run out
    assert holes.find(B, 6001, 10)


def test_pinholes_of_groups_that_went_are_closed() -> None:
    holes = Holes()
    holes.open([hole(A, 6000), OpenRange("other", B, 1, 1, 9, 10)], now=0)
    holes.keep(["other"])
    assert (holes.ports(), len(holes)) == (set(range(1, 10)), 1)
