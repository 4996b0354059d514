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
    IPV4,
    IPV6,
    LINKS,
    NOTES,
    STATE,
    MapShape,
    Version,
    arriving,
    epoch_value,
    leaving,
    maps,
    repeated,
)

Making = Callable[[Version], Program]
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


def test_those_of_ipv6_have_room_for_its_addresses() -> None:
    grown = {name: (shape.key, shape.value) for name, shape in maps(1000, IPV6).items() if shape != maps(1000)[name]}
    assert grown == {FLOWS: (40, 96), NOTES: (4, 56), ADDRESSES: (16, 4)}


def test_notes_stand_where_processors_put_them() -> None:
    assert all(version.note % 8 == 0 for version in (IPV4, IPV6))  # the kernel rounds up each processor's own


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


def account(last: int, packets: int, version: Version = IPV4) -> bytes:
    """A processor's own, in a note's place."""
    return struct.pack("<IxxxxQ", last, packets).ljust(version.note, b"\xff")


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, (1 << 63) - 1)), max_size=8))
def test_packets_repeated_are_the_sum_over_all_processors(processors: list[tuple[int, int]]) -> None:
    assert repeated(b"".join(account(*one) for one in processors)) == sum(packets for _, packets in processors)


def test_accounts_of_ipv6_lie_as_far_apart_as_its_notes() -> None:
    assert repeated(b"".join(account(9, packets, IPV6) for packets in (3, 4, 5)), IPV6) == 12


def test_processors_that_are_not_there_have_repeated_nothing() -> None:
    assert repeated(account(200, 5) + bytes(IPV4.note * 1023)) == 5
    assert repeated(b"") == 0


@pytest.mark.parametrize("version", [IPV4, IPV6], ids=["4", "6"])
@pytest.mark.parametrize("made", [arriving, leaving])
def test_every_jump_goes_forwards_and_into_the_program(made: Making, version: Version) -> None:
    code = instructions(made(version))
    for number, (operation, _, offset, _) in enumerate(code):
        if operation & 0x07 == JUMPS and operation not in (CALL, EXIT):
            assert 0 <= offset < len(code) - number - 1
    assert code[-1][0] == EXIT
    assert len(code) <= MOST_WITHOUT_CAP_BPF


@pytest.mark.parametrize(
    ("made", "needed"),
    [(arriving, {FLOWS, NOTES, STATE}), (leaving, {FLOWS, NOTES, STATE, ADDRESSES, LINKS})],
)
@pytest.mark.parametrize("version", [IPV4, IPV6], ids=["4", "6"])
def test_each_program_wants_its_maps_and_no_other(made: Making, version: Version, needed: set[str]) -> None:
    program = made(version)
    assert program.assembled(dict.fromkeys(needed, 3))
    for name in needed:
        with pytest.raises(KeyError, match=name):
            program.assembled(dict.fromkeys(needed - {name}, 3))


@pytest.mark.parametrize("version", [IPV4, IPV6], ids=["4", "6"])
@pytest.mark.parametrize("made", [arriving, leaving])
def test_the_address_of_a_value_is_asked_only_of_the_map_that_has_one(made: Making, version: Version) -> None:
    order = list(maps(1))
    wide = [one for one in instructions(made(version)) if one[0] == LOAD_64]
    assert {order[constant] for _, registers, _, constant in wide if registers >> 4 == MAP_VALUE} == {STATE}


def test_nothing_is_kept_between_two_makings_of_a_program() -> None:
    assert instructions(arriving()) == instructions(arriving())
    assert instructions(leaving()) == instructions(leaving())
