"""Both programs of IPv6, run by the kernel; what they have in common with those of IPv4 is tested with these."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casarray.adapters.kernel import bpf
from casarray.core.forwarding.fast_path import ADDRESSES, IPV6

from .bpf_bench import COMPLETE, MAC_IN, MAC_OUT, OK, PASS, REDIRECT, Bench, Ran, bench
from .frames import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Segment, ahead, becomes, mended6

pytestmark = pytest.mark.root
EPOCH, PLACE, MTU = 7, 5, 1400
KNOWN = Segment(source="fd91::2", target="fd91::100", mac_to=MAC_IN, identification=0x1234)
DNAT = replace(KNOWN, target="fd92::2", mac_to=bytes.fromhex("02bb00000001"), mac_from=MAC_OUT, ttl=63)
BOTH = replace(DNAT, source="fd92::1", source_port=61000, target_port=6001)
ARRAY = IPv6Address(KNOWN.target).packed
HEADERS = 74
octet = st.integers(0, 255)


@pytest.fixture(scope="module")
def module_bench() -> Iterator[Bench]:
    with bench(IPV6) as one:
        bpf.put(one.maps[ADDRESSES], ARRAY, bytes(4))
        yield one


@pytest.fixture
def programs(module_bench: Bench) -> Bench:
    """With one connection known in both directions, and no other."""
    know(module_bench)
    return module_bench


def know(on: Bench, after: Segment = DNAT, *, mtu: int = 1500, epoch: int = EPOCH, until: int | None = None) -> None:
    on.forget()
    on.set_epoch(EPOCH)
    entry = partial(becomes, mtu=mtu, epoch=epoch, until=until)
    on.know(KNOWN.key(on.way_in), entry(KNOWN, after, on.way_out))
    on.know(after.answer().key(on.way_out), entry(after.answer(), KNOWN.answer(), on.way_in))


def is_known(on: Bench, after: Segment = DNAT) -> tuple[bool, bool]:
    """The connection: from the client, and to it."""
    ways = (KNOWN.key(on.way_in), after.answer().key(on.way_out))
    return on.knows(ways[0]) is not None, on.knows(ways[1]) is not None


def sent(before: Segment, after: Segment = DNAT) -> bytes:
    """The frame that ``before`` has to leave as."""
    return replace(
        before, source=after.source, source_port=after.source_port, target=after.target, target_port=after.target_port,
        mac_to=after.mac_to, mac_from=after.mac_from, ttl=before.ttl - 1,
    ).frame  # fmt: skip


def test_a_frame_is_made_as_known_octets_are() -> None:
    bare = replace(KNOWN, flags=SYN, sequence=0, acknowledged=0, payload=b"", service=0, identification=0)
    assert bare.frame[14:68] == bytes.fromhex("""
        60000000 0014 06 40
        fd910000000000000000000000000002  fd910000000000000000000000000100
        9c40 1388  00000000  00000000  5002
    """)
    # As a bare SYN's in test_packets.py, which tcpdump called correct: the same words, save that 5000 is 5001 there.
    assert bare.frame[70:72] == bytes.fromhex("03f5")
    assert mended6(bare.frame) == bare.frame


@pytest.mark.parametrize("after", [DNAT, BOTH, KNOWN], ids=["target", "both", "nothing"])
def test_a_known_packet_leaves_as_those_before_it_did(programs: Bench, after: Segment) -> None:
    know(programs, after)
    before = programs.repeated()
    assert programs.arrive(KNOWN.frame) == Ran(REDIRECT, sent(KNOWN, after))
    assert programs.repeated() == before + 1


def test_so_does_the_answer(programs: Bench) -> None:
    answer = replace(DNAT.answer(), payload=b"and hello to you", ttl=64)
    before = programs.repeated()
    assert programs.arrive(answer.frame, at=programs.way_out) == Ran(REDIRECT, sent(answer, KNOWN.answer()))
    assert programs.repeated() == before + 1


address = st.binary(min_size=16, max_size=16).map(lambda some: str(IPv6Address(some)))
mac = st.binary(min_size=6, max_size=6)
port = st.integers(0, 65535)
word = st.integers(0, 0xFFFFFFFF)
plain = st.builds(
    Segment, source=address, source_port=port, target=address, target_port=port, mac_to=st.just(MAC_IN), mac_from=mac,
    sequence=word, acknowledged=word, ttl=st.integers(2, 255), service=octet, identification=port,
    flags=st.sets(st.sampled_from((PSH, URG, ECE, CWR))).map(lambda some: sum(some) | ACK),
    tcp_options=st.binary(max_size=10).map(lambda some: 4 * some), payload=st.binary(max_size=300),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(before=plain, after=plain, mac_to=mac)
def test_every_plain_packet_is_rewritten_exactly(
    module_bench: Bench, before: Segment, after: Segment, mac_to: bytes
) -> None:
    after = replace(after, mac_to=mac_to)
    module_bench.set_epoch(EPOCH)
    key = before.key(module_bench.way_in)
    module_bench.know(key, becomes(before, after, module_bench.way_out, epoch=EPOCH))
    assert module_bench.arrive(before.frame) == Ran(REDIRECT, sent(before, after))
    module_bench.forget(key)


@pytest.mark.parametrize("after", [KNOWN, DNAT, BOTH], ids=["nothing", "target", "both"])
def test_a_sum_that_the_hardware_took_of_the_whole_packet_is_still_right(programs: Bench, after: Segment) -> None:
    know(programs, after)
    try:
        assert programs.arrive(KNOWN.frame, flags=COMPLETE) == Ran(REDIRECT, sent(KNOWN, after))
    except OSError as error:
        if error.strerror != "Invalid argument":
            raise  # "Bad message" is what the kernel says to a wrong sum
        pytest.skip("this kernel cannot give a packet such a sum")


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0])
@pytest.mark.parametrize("way", ["there", "back"])
def test_beginnings_and_ends_pass_and_take_both_directions_with_them(programs: Bench, flags: int, way: str) -> None:
    know(programs, BOTH)
    segment, at = (KNOWN, programs.way_in) if way == "there" else (BOTH.answer(), programs.way_out)
    frame = replace(segment, flags=flags).frame
    assert programs.arrive(frame, at=at) == Ran(PASS, frame)
    assert is_known(programs, BOTH) == (False, False)


@pytest.mark.parametrize("changed_in", [8, 23, 26, 36])
def test_addresses_are_compared_to_their_last_octet(programs: Bench, changed_in: int) -> None:
    frame = bytearray(KNOWN.frame)
    frame[14 + changed_in] ^= 1
    ran = programs.arrive(bytes(frame))
    assert ran.result in (PASS, OK)
    assert ran.frame == frame


def test_a_packet_of_other_ports_or_at_another_interface_passes(programs: Bench) -> None:
    for segment, at in ((replace(KNOWN, source_port=1), programs.way_in), (KNOWN, programs.other)):
        ran = programs.arrive(segment.frame, at=at)
        assert ran.result in (PASS, OK)
        assert ran.frame == segment.frame


@pytest.mark.parametrize("epoch", [0, EPOCH + 1])
def test_in_another_epoch_nothing_is_repeated_and_a_note_is_taken(programs: Bench, epoch: int) -> None:
    programs.set_epoch(epoch)
    assert programs.arrive(KNOWN.frame) == Ran(OK, KNOWN.frame)
    noted = KNOWN.note(programs.way_in, epoch)
    assert programs.note(programs.last_place())[: len(noted)] == noted


def test_what_was_learnt_too_long_ago_is_not_repeated(programs: Bench) -> None:
    know(programs, until=max(ahead(-0.1), 0))
    assert programs.arrive(KNOWN.frame) == Ran(OK, KNOWN.frame)


@pytest.mark.parametrize(
    "extensions",
    [
        (0, bytes.fromhex("0600 0104 00000000")),  # options for every hop
        (43, bytes.fromhex("0600 0000 00000000")),  # a route
        (44, bytes.fromhex("0600 0001 00000001")),  # the first fragment
        (44, bytes.fromhex("0600 0100 00000001")),  # the last
        (60, bytes.fromhex("0600 0104 00000000")),  # options for the target
        (17, b""),
        (59, b""),
    ],
)
def test_a_packet_with_more_than_its_headers_passes(programs: Bench, extensions: tuple[int, bytes]) -> None:
    frame = replace(KNOWN, extensions=extensions).frame
    assert programs.arrive(frame) == Ran(PASS, frame)


def test_what_is_not_ipv6_or_has_a_vlan_tag_or_is_for_another_passes(programs: Bench) -> None:
    frame = KNOWN.frame
    others = [frame[:12] + bytes.fromhex(kind) + frame[14:] for kind in ("0800", "0806", "8100")]
    others += [frame[:14] + bytes((version << 4,)) + frame[15:] for version in (0, 4, 5, 7, 14)]
    others += [frame[:12] + bytes.fromhex("8100 0005") + frame[12:], b"\x02" + bytes(5) + frame[6:]]
    for other in others:
        assert programs.arrive(other) == Ran(PASS, other)
    assert programs.arrive(frame, vlan=5) == Ran(PASS, frame)
    assert programs.arrive(frame).result == REDIRECT


@pytest.mark.parametrize(("hops", "result"), [(0, PASS), (1, PASS), (2, REDIRECT), (255, REDIRECT)])
def test_a_packet_that_has_come_far_enough_passes(programs: Bench, hops: int, result: int) -> None:
    segment = replace(KNOWN, ttl=hops)
    assert programs.arrive(segment.frame) == Ran(result, segment.frame if result == PASS else sent(segment))


@pytest.mark.parametrize("options", [0, 12, 40])
def test_what_is_too_big_for_the_way_out_passes_in_one_and_in_segments(programs: Bench, options: int) -> None:
    know(programs, mtu=1300)
    room = 1300 - 60 - options
    for over, result in ((0, REDIRECT), (1, PASS)):
        one = replace(KNOWN, tcp_options=bytes(options), payload=bytes(room + over))
        assert programs.arrive(one.frame) == Ran(result, one.frame if result == PASS else sent(one))
        many = replace(one, payload=bytes(2500))
        assert programs.arrive(many.frame, gso=room + over).result == result


def test_a_packet_that_breaks_off_in_its_headers_passes(programs: Bench) -> None:
    frame = replace(KNOWN, payload=b"").frame
    assert len(frame) == HEADERS
    for size in range(14, HEADERS):
        assert programs.arrive(frame[:size]) == Ran(PASS, frame[:size])
    assert programs.arrive(frame).result == REDIRECT


@settings(max_examples=400, deadline=None)
@given(
    changes=st.dictionaries(st.integers(12, HEADERS), octet, max_size=3),
    size=st.one_of(st.none(), st.integers(14, HEADERS + 5)),
)
def test_whatever_is_changed_in_a_packet_it_is_repeated_exactly_or_untouched(
    module_bench: Bench, changes: dict[int, int], size: int | None
) -> None:
    know(module_bench)
    octets = bytearray(KNOWN.frame)
    for at, value in changes.items():
        octets[at] = value
    frame = mended6(bytes(octets))[:size]
    kind = len(frame) >= HEADERS and (frame[12:14], frame[14] >> 4, frame[20]) == (b"\x86\xdd", 6, 6)
    ours = kind and frame[22:58] == KNOWN.frame[22:58]
    goes_on = len(frame) > 67 and frame[67] & (SYN | FIN | RST | ACK) == ACK
    ran = module_bench.arrive(frame)
    if ours and goes_on and frame[21] > 1:
        hops = bytes((frame[21] - 1,))
        wanted = DNAT.ethernet + frame[14:21] + hops + DNAT.addresses + DNAT.ports + frame[58:]
        assert ran.result == REDIRECT
        assert mended6(ran.frame) == mended6(wanted)
        assert (ran.frame == mended6(ran.frame)) == (frame == mended6(frame))
    else:
        assert ran.result in (PASS, OK)
        assert ran.frame == frame
    assert is_known(module_bench) == ((False, False) if ours and not goes_on else (True, True))


headed = st.binary(max_size=200).map(KNOWN.frame[:15].__add__)


@settings(max_examples=200, deadline=None)
@given(frame=st.one_of(st.binary(min_size=14, max_size=200), headed), gso=st.integers(0, 2000), place=octet)
def test_octets_without_sense_pass_untouched(module_bench: Bench, frame: bytes, gso: int, place: int) -> None:
    know(module_bench)
    ran = module_bench.arrive(frame, gso=gso)
    assert ran.result in (PASS, OK)
    assert ran.frame == frame
    assert module_bench.leave(frame, place) == Ran(PASS, frame)
    assert is_known(module_bench) == (True, True)


# Learning


@pytest.fixture
def learners(module_bench: Bench) -> Bench:
    """With a note of one packet, from which it can be learnt, and nothing learnt yet."""
    module_bench.forget(*(one.key(module_bench.way_out) for one in (DNAT.answer(), BOTH.answer())))
    module_bench.forget(KNOWN.key(module_bench.way_in))
    module_bench.set_epoch(EPOCH)
    module_bench.set_mtu(module_bench.way_out, MTU)
    module_bench.set_mtu(module_bench.way_in, MTU)
    module_bench.write_note(PLACE, KNOWN.note(module_bench.way_in, EPOCH))
    return module_bench


def comparable(value: bytes) -> tuple[object, ...]:
    """Without its time; what sums grow by may be written with or without carries."""
    fields = list(struct.unpack("<II8x 8s4s III IH 14s4s 32s", value))
    return (*fields[:4], *(change % 0xFFFF for change in fields[4:7]), *fields[7:])


@pytest.mark.parametrize("left", [DNAT, BOTH], ids=["target", "both"])
def test_what_becomes_of_a_packet_is_learnt_for_a_second(learners: Bench, left: Segment) -> None:
    earliest = ahead(0.9)
    assert learners.leave(left.frame, PLACE) == Ran(PASS, left.frame)
    learnt = learners.knows(KNOWN.key(learners.way_in))
    assert learnt is not None
    assert comparable(learnt) == comparable(becomes(KNOWN, left, learners.way_out, epoch=EPOCH, mtu=MTU))
    assert earliest <= int.from_bytes(learnt[8:16], "little") <= ahead(1)


@pytest.mark.parametrize(
    "left",
    [
        replace(DNAT, sequence=1),
        replace(DNAT, acknowledged=1),
        replace(DNAT, extensions=(44, bytes.fromhex("0600 0001 00000001"))),
        replace(DNAT, extensions=(60, bytes.fromhex("0600 0104 00000000"))),
        Segment(),
    ],
    ids=["sequence", "acknowledged", "fragment", "options", "IPv4"],
)
def test_from_a_packet_that_is_not_the_noted_one_nothing_is_learnt(learners: Bench, left: Segment) -> None:
    assert learners.leave(left.frame, PLACE) == Ran(PASS, left.frame)
    assert learners.knows(KNOWN.key(learners.way_in)) is None


def test_what_is_not_the_arrays_is_not_learnt(learners: Bench) -> None:
    passing = replace(KNOWN, target="fd91::101")  # of the array's address all but the last octet
    learners.write_note(PLACE, passing.note(learners.way_in, EPOCH))
    learners.leave(DNAT.frame, PLACE)
    assert learners.knows(passing.key(learners.way_in)) is None


@pytest.mark.parametrize("left", [DNAT, BOTH], ids=["target", "both"])
def test_a_connection_is_noted_learnt_repeated_and_ended(learners: Bench, left: Segment) -> None:
    answer = left.answer()
    for came, gone, way_in, way_out in (
        (KNOWN, left, learners.way_in, learners.way_out),
        (answer, KNOWN.answer(), learners.way_out, learners.way_in),
    ):
        for _ in range(400):  # of one packet in eight a note is taken
            if learners.arrive(came.frame, at=way_in).result == OK:
                break
        learners.leave(gone.frame, learners.last_place(), at=way_out)
        learnt = learners.knows(came.key(way_in))
        assert learnt is not None
        learners.know(came.key(way_in), learnt[:8] + struct.pack("=Q", ahead(60)) + learnt[16:])
        later = replace(came, payload=b"later", sequence=1)
        assert learners.arrive(later.frame, at=way_in) == Ran(REDIRECT, sent(later, gone))
    learners.arrive(replace(answer, flags=FIN | ACK).frame, at=learners.way_out)
    assert is_known(learners, left) == (False, False)
