"""The slots of a group in the kernel: read, filled, cut."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from casarray.adapters.kernel import elements, readback
from casarray.adapters.kernel.nfnetlink import Channel
from casarray.core.forwarding import nft


def row(channel: Channel, table: str, map_: str, size: int) -> tuple[int, ...]:
    """The member of each slot, 0 = nobody."""
    members = np.zeros(size, np.int64)
    for numbers, values in _listed(channel, table, map_):
        there = (numbers >= 0) & (numbers < size)
        members[numbers[there]] = values[there]
    return tuple(members.tolist())


def _listed(channel: Channel, table: str, map_: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
    """Slots and their members, of those slots that have one."""
    for answer in readback.listed(channel, elements.every(table, map_)):
        part = elements.columns(answer, 4)
        yield part.keys.view("=u4").reshape(-1).astype(np.int64) - nft.SLOT_OFFSET, part.values


class Filler:
    """Fills slots of one table; reads each map once, however many pieces there are."""

    def __init__(self, channel: Channel, table: str) -> None:
        self._channel = channel
        self._table = table
        self._held: dict[str, dict[int, int]] = {}

    def fill(self, group: str, slots: Iterable[tuple[int, int]], backup: Iterable[tuple[int, int]]) -> None:
        """Give these slots these members, 0 = nobody."""
        self._fill(nft.slots_map(group), slots)
        self._fill(nft.backup_map(group), backup)

    def cut(self, group: str, size: int) -> None:
        """Take out all slots behind the first so many."""
        for map_ in (nft.slots_map(group), nft.backup_map(group)):
            self._fill(map_, [(number, 0) for number in self._read(map_) if number >= size])

    def _read(self, map_: str) -> dict[int, int]:
        if map_ not in self._held:
            held: dict[int, int] = {}
            for numbers, values in _listed(self._channel, self._table, map_):
                held.update(zip(numbers.tolist(), values.tolist(), strict=True))
            self._held[map_] = held
        return self._held[map_]

    def _fill(self, map_: str, wanted: Iterable[tuple[int, int]]) -> None:
        held = self._read(map_)
        for piece in elements.pieces([(n, m) for n, m in wanted if held.get(n, 0) != m]):
            # A value cannot be changed in place; in one transaction, no packet sees the slot empty.
            gone = [n for n, _ in piece if n in held]
            new = {n: m for n, m in piece if m}
            messages = [elements.delete(self._table, map_, [elements.rows(_keys(gone))])] if gone else []
            if new:
                members = np.array([*new.values()], np.uint32)
                messages.append(elements.add(self._table, map_, [elements.rows(_keys([*new]), members)]))
            self._channel.commit(*messages)
            for number in gone:
                del held[number]
            held.update(new)


def _keys(numbers: Sequence[int]) -> NDArray[np.uint8]:
    """The numbers as `elements.classid_key` has them."""
    return (np.array(numbers, "=u4") + np.uint32(nft.SLOT_OFFSET)).view(np.uint8).reshape(-1, 4)
