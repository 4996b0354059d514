"""The program that learns what becomes of packets, run by the kernel; and both together."""

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casarray.adapters.kernel import bpf
from casarray.core.forwarding.fast_path import ADDRESSES

from .bpf_bench import MAC_IN, MAC_OUT, NOTE_PLACES, OK, PASS, REDIRECT, Bench, Ran, bench
from .frames import ACK, FIN, Segment, ahead, becomes, internet_sum

pytestmark = pytest.mark.root
EPOCH, PLACE, MTU = 7, 5, 1400
CAME = Segment(mac_to=MAC_IN)
LEFT = Segment(target="10.92.0.2", mac_to=bytes.fromhex("02bb00000001"), mac_from=MAC_OUT, ttl=63)
TRANSLATED = replace(LEFT, source="10.92.0.1", source_port=61000, target_port=6001)
ARRAY = CAME.addresses[4:]
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def module_bench() -> Iterator[Bench]:
    with bench() as one:
        bpf.put(one.maps[ADDRESSES], ARRAY, bytes(4))
        yield one


@pytest.fixture
def programs(module_bench: Bench) -> Bench:
    """With a note of one packet, from which it can be learnt, and nothing learnt yet."""
    ready(module_bench)
    return module_bench


def ready(on: Bench) -> None:
    on.forget(*(key(on, one) for one in (CAME, LEFT.answer(), TRANSLATED.answer())))
    on.set_epoch(EPOCH)
    on.set_mtu(on.way_out, MTU)
    on.set_mtu(on.way_in, MTU)
    on.write_note(PLACE, CAME.note(on.way_in, EPOCH))


def key(on: Bench, segment: Segment) -> bytes:
    """Of a packet from the client, or of an answer."""
    return segment.key(on.way_in if segment.source == CAME.source else on.way_out)


def comparable(value: bytes) -> tuple[object, ...]:
    """A flow's entry without its time; what checksums grow by may be written with or without carries."""
    fields = list(struct.unpack("<II8x 8s4s III IH 14s4s", value))
    return (*fields[:4], *(change % 0xFFFF for change in fields[4:7]), *fields[7:])


@pytest.mark.parametrize("left", [LEFT, TRANSLATED, CAME], ids=["target", "both", "nothing"])
def test_what_becomes_of_a_packet_is_learnt_for_a_second(programs: Bench, left: Segment) -> None:
    earliest = ahead(0.9)
    assert programs.leave(left.frame, PLACE) == Ran(PASS, left.frame)
    learnt = programs.knows(key(programs, CAME))
    assert learnt is not None
    assert comparable(learnt) == comparable(becomes(CAME, left, programs.way_out, epoch=EPOCH, mtu=MTU))
    until = int.from_bytes(learnt[8:16], "little")
    assert earliest <= until <= ahead(1)


def test_so_is_what_becomes_of_the_answer_which_leaves_from_the_arrays_address(programs: Bench) -> None:
    came, left = LEFT.answer(), replace(CAME.answer(), ttl=62)
    programs.write_note(PLACE, came.note(programs.way_out, EPOCH))
    assert programs.leave(left.frame, PLACE, at=programs.way_in) == Ran(PASS, left.frame)
    learnt = programs.knows(came.key(programs.way_out))
    assert learnt is not None
    assert comparable(learnt) == comparable(becomes(came, left, programs.way_in, epoch=EPOCH, mtu=MTU))


def test_what_is_learnt_anew_takes_the_place_of_the_old(programs: Bench) -> None:
    programs.leave(LEFT.frame, PLACE)
    programs.leave(TRANSLATED.frame, PLACE)
    learnt = programs.knows(key(programs, CAME))
    assert learnt is not None
    assert learnt[16:28] == TRANSLATED.addresses + TRANSLATED.ports


def nothing_learnt(on: Bench, frame: bytes, *, place: int = PLACE, at: int | None = None, vlan: int = 0) -> bool:
    """This packet passes, and afterwards nothing is known of the flow it was noted as."""
    assert on.leave(frame, place, at=at, vlan=vlan) == Ran(PASS, frame)
    return on.knows(key(on, CAME)) is None


@pytest.mark.parametrize("place", [0, PLACE - 1, PLACE + 1, NOTE_PLACES, NOTE_PLACES + PLACE, 0xFFFF])
def test_a_packet_without_a_note_passes(programs: Bench, place: int) -> None:
    assert nothing_learnt(programs, LEFT.frame, place=place)


@pytest.mark.parametrize(
    "other",
    [
        replace(LEFT, sequence=LEFT.sequence + 1),
        replace(LEFT, acknowledged=LEFT.acknowledged ^ 0x80000000),
        replace(LEFT, sequence=LEFT.acknowledged, acknowledged=LEFT.sequence),
        replace(LEFT, ip_options=b"\1\1\1\0"),
        replace(LEFT, fragment=0x2000),
        replace(LEFT, fragment=0x0010),
    ],
    ids=["sequence", "acknowledged", "swapped", "options", "first fragment", "later fragment"],
)
def test_from_a_packet_that_is_not_the_noted_one_nothing_is_learnt(programs: Bench, other: Segment) -> None:
    assert nothing_learnt(programs, other.frame)


def test_from_other_kinds_of_packets_nothing_is_learnt(programs: Bench) -> None:
    frame = LEFT.frame
    for other in (
        frame[:12] + b"\x86\xdd" + frame[14:],
        frame[:12] + b"\x08\x06" + frame[14:],
        frame[:12] + bytes.fromhex("8100 0005") + frame[12:],
        frame[:23] + b"\x11" + frame[24:],
        frame[:53],
        frame[:34],
    ):
        assert nothing_learnt(programs, other)
    assert nothing_learnt(programs, frame, vlan=5)
    assert not nothing_learnt(programs, frame)


@pytest.mark.parametrize("epoch", [0, EPOCH - 1, EPOCH + 1])
def test_a_note_of_another_epoch_is_void(programs: Bench, epoch: int) -> None:
    programs.set_epoch(epoch)
    assert nothing_learnt(programs, LEFT.frame)


def test_without_an_epoch_nothing_is_learnt_even_from_a_note_without_one(programs: Bench) -> None:
    programs.set_epoch(0)
    programs.write_note(PLACE, CAME.note(programs.way_in, 0))
    assert nothing_learnt(programs, LEFT.frame)


def test_what_is_not_the_arrays_is_not_learnt(programs: Bench) -> None:
    passing = replace(CAME, target="10.92.0.2")  # another's, that is only forwarded
    programs.write_note(PLACE, passing.note(programs.way_in, EPOCH))
    assert programs.leave(LEFT.frame, PLACE) == Ran(PASS, LEFT.frame)
    assert programs.knows(passing.key(programs.way_in)) is None


def test_an_interface_that_nobody_named_is_not_left_by(programs: Bench) -> None:
    assert nothing_learnt(programs, LEFT.frame, at=programs.other)
    programs.set_mtu(programs.way_out, None)
    assert nothing_learnt(programs, LEFT.frame)


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=200), place=st.integers(0, 300), headed=st.booleans())
def test_from_octets_without_sense_nothing_is_learnt(
    module_bench: Bench, octets: bytes, place: int, headed: bool
) -> None:
    ready(module_bench)
    # With sixty-four right bits of sequence numbers it would be the noted packet.
    frame = LEFT.frame[:38] + octets if headed else LEFT.frame[:14] + octets
    if frame[38:46] != LEFT.frame[38:46]:
        assert nothing_learnt(module_bench, frame, place=PLACE if headed else place)


# Both together


def noted(on: Bench, segment: Segment) -> int:
    """The packet comes in until a note is taken, which is one time in eight; the note's place."""
    at = on.way_in if segment.source == CAME.source else on.way_out
    for _ in range(400):
        ran = on.arrive(segment.frame, at=at)
        assert ran.frame == segment.frame
        if ran.result == OK:
            return on.last_place()
    raise AssertionError("no note was taken")


def lasting(on: Bench, segment: Segment) -> bytes:
    """What was learnt of its flow, made to last longer than the test may take."""
    learnt = on.knows(key(on, segment))
    assert learnt is not None
    on.know(key(on, segment), learnt[:8] + struct.pack("=Q", ahead(60)) + learnt[16:])
    return learnt


def later(segment: Segment, number: int) -> Segment:
    """Another packet of the same flow."""
    return replace(segment, sequence=number, acknowledged=number << 20, payload=bytes(100 * number))


@pytest.mark.parametrize("left", [LEFT, TRANSLATED], ids=["target", "both"])
def test_the_next_packets_of_a_connection_leave_as_the_noted_one_did(programs: Bench, left: Segment) -> None:
    left_answer = left.answer()
    programs.leave(left.frame, noted(programs, CAME))
    programs.leave(replace(CAME.answer(), ttl=63).frame, noted(programs, left_answer), at=programs.way_in)
    for one in (CAME, left_answer):
        lasting(programs, one)
    for number in range(3):
        there, back = later(CAME, number), later(left_answer, number)
        assert programs.arrive(there.frame) == Ran(REDIRECT, later(left, number).frame)
        wanted = replace(later(CAME.answer(), number), ttl=back.ttl - 1)
        assert programs.arrive(back.frame, at=programs.way_out) == Ran(REDIRECT, wanted.frame)


@pytest.mark.parametrize("target", ["10.92.0.2", "10.91.0.99", "200.1.2.3", "10.91.0.102", "0.0.0.1"])
def test_every_carry_of_the_headers_sum_is_added_back(programs: Bench, target: str) -> None:
    left = replace(LEFT, target=target)
    programs.leave(left.frame, noted(programs, CAME))
    learnt = lasting(programs, CAME)
    change = int.from_bytes(learnt[28:32], "little")
    header = replace(CAME, identification=0).frame[14:34]
    for carries in (1, 2, 3):
        for beside in range(-3, 4):
            # What the header has to sum up to for these to meet, as the machine adds: it reads the lower octet first.
            wanted = (carries * 0x10000 - change + beside) % 0xFFFF
            wanted = int.from_bytes(wanted.to_bytes(2, "little"), "big")
            identification = (wanted - (internet_sum(header[:10] + header[12:]) ^ 0xFFFF)) % 0xFFFF
            there, gone = (replace(one, identification=identification) for one in (CAME, left))
            assert programs.arrive(there.frame) == Ran(REDIRECT, gone.frame)


@pytest.mark.parametrize("way", ["there", "back"])
def test_what_was_learnt_of_a_connection_ends_with_it(programs: Bench, way: str) -> None:
    programs.leave(TRANSLATED.frame, noted(programs, CAME))
    programs.leave(CAME.answer().frame, noted(programs, TRANSLATED.answer()), at=programs.way_in)
    end = replace(CAME if way == "there" else TRANSLATED.answer(), flags=FIN | ACK)
    assert programs.arrive(end.frame, at=programs.way_in if way == "there" else programs.way_out).result == PASS
    assert programs.knows(key(programs, CAME)) is None
    assert programs.knows(key(programs, TRANSLATED.answer())) is None


def test_a_change_of_epoch_voids_what_was_learnt_and_it_is_learnt_anew(programs: Bench) -> None:
    programs.leave(LEFT.frame, noted(programs, CAME))
    programs.set_epoch(EPOCH + 1)
    assert programs.arrive(CAME.frame) == Ran(OK, CAME.frame)
    programs.leave(TRANSLATED.frame, programs.last_place())
    lasting(programs, CAME)
    assert programs.arrive(CAME.frame) == Ran(REDIRECT, TRANSLATED.frame)


def test_a_note_taken_before_the_epoch_changed_teaches_nothing_after(programs: Bench) -> None:
    place = noted(programs, CAME)
    programs.set_epoch(EPOCH + 1)
    assert nothing_learnt(programs, LEFT.frame, place=place)
