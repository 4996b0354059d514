"""Slots as the kernel lists them; what is filled in a real kernel is tried in tests/contract."""

from collections.abc import Iterable
from typing import cast

from casarray.adapters.kernel import elements, slots
from casarray.adapters.kernel.nfnetlink import Channel, nest, text
from casarray.core.forwarding import nft


class Kernel:
    """A channel to a kernel whose map has these slots, listed in two messages."""

    def __init__(self, held: dict[int, int]) -> None:
        self._held = sorted(held.items())

    def dump(self, _message: object) -> Iterable[bytes]:
        for part in (self._held[:2], self._held[2:]):
            listed = [elements.element(elements.classid_key(nft.SLOT_OFFSET + n & 0xFFFFFFFF), m) for n, m in part]
            yield text(1, "casarray_cas") + text(2, "slots_web") + nest(3, *listed)


def row(held: dict[int, int], size: int) -> tuple[int, ...]:
    return slots.row(cast("Channel", Kernel(held)), "casarray_cas", "slots_web", size)


def test_each_slot_has_its_member_and_those_without_have_nobody() -> None:
    assert row({0: 7, 1: 3, 2: 7, 4: 9}, 6) == (7, 3, 7, 0, 9, 0)


def test_slots_that_no_group_has_are_passed_over() -> None:
    assert row({-1: 5, 0: 7, 3: 3, 4: 8}, 4) == (7, 0, 0, 3)


def test_a_map_without_a_slot_is_nobodys() -> None:
    assert row({}, 3) == (0, 0, 0)
