"""What a member holds: generations that come, are confirmed, and end."""

import pytest

from casarray.core.errors import Conflict
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import MOST_GENERATIONS, Generation, Holding, Key, checks, told

NOW, LIFETIME = 1000.0, 36_000.0


def generation(number: int, text: str = "", *, pending: bool = False, until: float | None = None) -> Generation:
    value = (text or str(number)).encode().ljust(32, b".")
    return Generation(number, (Key(Enctype.AES256, number, value),), 0.0, pending, until)


def holding(*generations: Generation) -> Holding:
    return Holding("asa$", "LAB.EXAMPLE", ("http/cas",), generations)


def numbers(held: Holding) -> list[tuple[int, bool, float | None]]:
    return [(one.number, one.pending, one.until) for one in held.generations]


def test_new_keys_are_pending_beside_the_old_ones() -> None:
    held = holding(generation(3)).with_generation(generation(4, pending=True))
    assert numbers(held) == [(4, True, None), (3, False, None)]


def test_pending_keys_take_the_place_of_pending_ones_whatever_their_number() -> None:
    held = holding(generation(5, pending=True), generation(3)).with_generation(generation(4, "new", pending=True))
    assert numbers(held) == [(4, True, None), (3, False, None)]


def test_pending_keys_do_not_take_the_place_of_keys_that_are_in_use() -> None:
    held = holding(generation(4), generation(3))
    with pytest.raises(Conflict, match="somebody else has rolled this account meanwhile"):
        held.with_generation(generation(4, "others", pending=True))
    assert numbers(held.with_generation(generation(4, pending=True)))[0] == (4, True, None), "the same keys may come"
    assert checks(held.with_generation(generation(4, "right")).generations[0]) == checks(generation(4, "right"))


def test_confirmed_keys_get_their_number_and_older_ones_an_end() -> None:
    held = holding(generation(4, pending=True), generation(3), generation(2, until=NOW + 1), generation(1, until=NOW))
    after = held.confirmed(4, 6, NOW, LIFETIME)
    assert numbers(after) == [(6, False, None), (3, False, NOW + LIFETIME), (2, False, NOW + 1)]
    assert [key.version for key in after.generations[0].keys] == [6]


def test_whoever_confirms_late_ends_nothing_that_came_later() -> None:
    held = holding(generation(5), generation(4, until=NOW + 9), generation(3, until=NOW + 9))
    assert numbers(held.confirmed(4, 4, NOW, LIFETIME)) == [(5, False, None), (4, False, None), (3, False, NOW + 9)]


def test_the_oldest_go_when_there_are_too_many() -> None:
    held = holding()
    for number in range(1, MOST_GENERATIONS + 3):
        held = held.with_generation(generation(number))
    assert [one.number for one in held.generations] == list(range(MOST_GENERATIONS + 2, 2, -1))


def test_no_key_is_shown() -> None:
    held = holding(generation(3, "secret"))
    assert "secret" not in f"{held!r} {held} {told(held)!r}"
    assert told(held).generations[0].checks == checks(generation(3, "secret"))
