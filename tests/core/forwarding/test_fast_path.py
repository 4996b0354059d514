"""What can be told of the fast path without a kernel: its maps, its account, and the shape of its two programs."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.forwarding.bpf import Program
from casarray.core.forwarding.fast_path import (
    ADDRESSES,
    FLOWS,
    LINKS,
    IPV4,
    NOTES,
    STATE,
    MapShape,
    arriving,
    epoch_value,
    leaving,
    maps,
    repeated,
)

LOAD_64, JUMPS, CALL, EXIT = 0x18, 0x05, 0x85, 0x95
MAP_VALUE = 2
MOST_WITHOUT_CAP_BPF = 4096  # BPF_MAXINSNS: what every kernel takes


def instructions(program: Program) -> list[tuple[int, int, int, int]]:
    code = program.assembled({name: number for number, name in enumerate(maps(1))})
    return list(struct.iter_unpack("<BBhi", code))


def test_the_maps_are_the_kernels_kinds_in_the_sizes_that_the_programs_use() -> None:
    assert maps(1000) == {
        FLOWS: MapShape(kind=9, key=16, value=64, entries=1000),  # BPF_MAP_TYPE_LRU_HASH
        NOTES: MapShape(kind=6, key=4, value=32, entries=256),  # BPF_MAP_TYPE_PERCPU_ARRAY
        ADDRESSES: MapShape(kind=1, key=4, value=4, entries=1024),  # BPF_MAP_TYPE_HASH
        LINKS: MapShape(kind=1, key=4, value=4, entries=1024),
        STATE: MapShape(kind=2, key=4, value=8, entries=1),  # BPF_MAP_TYPE_ARRAY
    }


@pytest.mark.parametrize("flows", [1, 131_072])
def test_only_the_flows_grow_with_what_is_asked_for(flows: int) -> None:
    asked, others = maps(flows), maps(7)
    assert asked.pop(FLOWS).entries == flows
    others.pop(FLOWS)
    assert asked == others


@pytest.mark.parametrize("epoch", [0, 1, 0xFFFFFFFF, 1 << 32])
def test_an_epoch_fills_the_value_of_its_map(epoch: int) -> None:
    assert len(epoch_value(epoch)) == maps(1)[STATE].value
    assert int.from_bytes(epoch_value(epoch), "little") == epoch


def test_no_epoch_is_zeros() -> None:
    assert epoch_value(0) == bytes(8)


def account(last: int, packets: int) -> bytes:
    """A processor's own, in a note's place."""
    return struct.pack("<IxxxxQ", last, packets).ljust(IPV4.note, b"\xff")


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, (1 << 63) - 1)), max_size=8))
def test_packets_repeated_are_the_sum_over_all_processors(processors: list[tuple[int, int]]) -> None:
    assert repeated(b"".join(account(*one) for one in processors)) == sum(packets for _, packets in processors)


def test_processors_that_are_not_there_have_repeated_nothing() -> None:
    assert repeated(account(200, 5) + bytes(IPV4.note * 1023)) == 5
    assert repeated(b"") == 0


@pytest.mark.parametrize("made", [arriving, leaving])
def test_every_jump_goes_forwards_and_into_the_program(made: Callable[[], Program]) -> None:
    code = instructions(made())
    for number, (operation, _, offset, _) in enumerate(code):
        if operation & 0x07 == JUMPS and operation not in (CALL, EXIT):
            assert 0 <= offset < len(code) - number - 1
    assert code[-1][0] == EXIT
    assert len(code) <= MOST_WITHOUT_CAP_BPF


@pytest.mark.parametrize(
    ("made", "needed"),
    [(arriving, {FLOWS, NOTES, STATE}), (leaving, {FLOWS, NOTES, STATE, ADDRESSES, LINKS})],
)
def test_each_program_wants_its_maps_and_no_other(made: Callable[[], Program], needed: set[str]) -> None:
    program = made()
    assert program.assembled(dict.fromkeys(needed, 3))
    for name in needed:
        with pytest.raises(KeyError, match=name):
            program.assembled(dict.fromkeys(needed - {name}, 3))


@pytest.mark.parametrize("made", [arriving, leaving])
def test_the_address_of_a_value_is_asked_only_of_the_map_that_has_one(made: Callable[[], Program]) -> None:
    order = list(maps(1))
    asked = {
        order[constant] for op, registers, _, constant in instructions(made()) if (op, registers >> 4) == (0x18, 2)
    }
    assert asked == {STATE}


def test_nothing_is_kept_between_two_makings_of_a_program() -> None:
    assert instructions(arriving()) == instructions(arriving())
    assert instructions(leaving()) == instructions(leaving())
