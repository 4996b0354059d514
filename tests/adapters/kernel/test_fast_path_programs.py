"""The program that repeats what became of packets, run by the kernel: exactly so, or not at all.

What a test cannot give it: packets in several fragments of memory, and checksums that are left to the hardware. Both
are on the way between real interfaces, in tests/gateway.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .bpf_bench import COMPLETE, MAC_IN, MAC_OUT, NOTE_PLACES, OK, PASS, REDIRECT, Bench, Ran, bench
from .frames import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Segment, ahead, becomes, difference, internet_sum, mended

pytestmark = pytest.mark.root
EPOCH = 7
KNOWN = Segment(mac_to=MAC_IN)
DNAT = Segment(  # the target is another, and so are both neighbours
    target="10.92.0.2", mac_to=bytes.fromhex("02bb00000001"), mac_from=MAC_OUT
)
BOTH = replace(DNAT, source="10.92.0.1", source_port=61000, target_port=6001)  # as with source addresses of its own
octet = st.integers(0, 255)


@pytest.fixture(scope="module")
def module_bench() -> Iterator[Bench]:
    with bench() as one:
        yield one


@pytest.fixture
def programs(module_bench: Bench) -> Bench:
    """With one connection known in both directions, and no other."""
    module_bench.forget()
    know(module_bench)
    return module_bench


def know(on: Bench, after: Segment = DNAT, *, mtu: int = 1500, epoch: int = EPOCH, until: int | None = None) -> None:
    on.set_epoch(EPOCH)
    entry = partial(becomes, mtu=mtu, epoch=epoch, until=until)
    on.know(KNOWN.key(on.way_in), entry(KNOWN, after, on.way_out))
    on.know(after.answer().key(on.way_out), entry(after.answer(), KNOWN.answer(), on.way_in))


def is_known(on: Bench) -> tuple[bool, bool]:
    """The connection: from the client, and to it."""
    ways = (KNOWN.key(on.way_in), DNAT.answer().key(on.way_out))
    return on.knows(ways[0]) is not None, on.knows(ways[1]) is not None


def sent(before: Segment, after: Segment = DNAT) -> bytes:
    """The frame that ``before`` has to leave as."""
    return replace(
        before, source=after.source, source_port=after.source_port, target=after.target, target_port=after.target_port,
        mac_to=after.mac_to, mac_from=after.mac_from, ttl=before.ttl - 1,
    ).frame  # fmt: skip


# Repeated


def test_the_ways_to_compute_checksums_agree_with_known_octets() -> None:
    assert internet_sum(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0xFFFF - 0xDDF2  # [RFC 1071] section 3
    assert mended(KNOWN.frame) == KNOWN.frame
    assert internet_sum(KNOWN.frame[14:34]) == 0
    assert (difference(b"\0\0", b"\1\2"), difference(b"\1\2", b"\0\0")) == (0x0201, 0xFFFF - 0x0201)


@pytest.mark.parametrize("after", [DNAT, BOTH, KNOWN], ids=["target", "both", "nothing"])
def test_a_known_packet_leaves_as_those_before_it_did(programs: Bench, after: Segment) -> None:
    know(programs, after)
    assert programs.arrive(KNOWN.frame) == Ran(REDIRECT, sent(KNOWN, after))


def test_so_does_the_answer(programs: Bench) -> None:
    answer = replace(DNAT.answer(), payload=b"and hello to you")
    assert programs.arrive(answer.frame, at=programs.way_out) == Ran(REDIRECT, sent(answer, KNOWN.answer()))


address = st.tuples(octet, octet, octet, octet).map(lambda parts: ".".join(map(str, parts)))
mac = st.binary(min_size=6, max_size=6)
port = st.integers(0, 65535)
word = st.integers(0, 0xFFFFFFFF)
plain = st.builds(
    Segment, source=address, source_port=port, target=address, target_port=port, mac_to=st.just(MAC_IN), mac_from=mac,
    sequence=word, acknowledged=word, ttl=st.integers(2, 255), service=octet, identification=port,
    flags=st.sets(st.sampled_from((PSH, URG, ECE, CWR))).map(lambda some: sum(some) | ACK),
    fragment=st.sampled_from((0, 0x4000, 0x8000)), tcp_options=st.binary(max_size=10).map(lambda some: 4 * some),
    payload=st.binary(max_size=300),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
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


@pytest.mark.parametrize("after", [DNAT, BOTH], ids=["target", "both"])
def test_a_sum_that_the_hardware_took_of_the_whole_packet_is_still_right(programs: Bench, after: Segment) -> None:
    know(programs, after)
    try:
        assert programs.arrive(KNOWN.frame, flags=COMPLETE) == Ran(REDIRECT, sent(KNOWN, after))
    except OSError as error:
        if error.strerror != "Invalid argument":
            raise  # "Bad message" is what the kernel says to a wrong sum
        pytest.skip("this kernel cannot give a packet such a sum")


@pytest.mark.parametrize("at", [24, 50, 55], ids=["ip sum", "tcp sum", "payload"])
def test_a_packet_that_was_damaged_on_its_way_is_not_repaired(programs: Bench, at: int) -> None:
    damaged = bytearray(KNOWN.frame)
    damaged[at] ^= 0x10
    ran = programs.arrive(bytes(damaged))
    assert ran.result == REDIRECT
    assert mended(ran.frame) != ran.frame


def test_what_is_repeated_is_counted_and_nothing_else_is(programs: Bench) -> None:
    before = programs.repeated()
    programs.arrive(KNOWN.frame)
    assert programs.repeated() == before + 1
    programs.arrive(DNAT.answer().frame, at=programs.way_out)
    assert programs.repeated() == before + 2
    programs.arrive(KNOWN.frame, at=programs.other)
    programs.arrive(replace(KNOWN, flags=FIN | ACK).frame)
    assert programs.repeated() == before + 2


def test_the_same_packet_is_repeated_until_it_has_come_far_enough(programs: Bench) -> None:
    know(programs, KNOWN)  # so that it comes back as itself, but for its TTL
    ran = programs.arrive(replace(KNOWN, ttl=64).frame, times=100)
    assert ran == Ran(PASS, replace(KNOWN, ttl=1).frame)


# Passed on untouched


@pytest.mark.parametrize(
    "other",
    [
        replace(KNOWN, source="10.91.0.3"),
        replace(KNOWN, target="10.91.0.101"),
        replace(KNOWN, source_port=40001),
        replace(KNOWN, target_port=5001),
        replace(KNOWN, source_port=KNOWN.target_port, target_port=KNOWN.source_port),
    ],
    ids=["source", "target", "source port", "target port", "ports swapped"],
)
def test_a_packet_of_another_flow_passes(programs: Bench, other: Segment) -> None:
    frame = other.frame
    for _ in range(20):  # of one in eight a note is taken
        ran = programs.arrive(frame)
        assert ran.result in (PASS, OK)
        assert ran.frame == frame


def test_the_same_packet_at_another_interface_passes(programs: Bench) -> None:
    ran = programs.arrive(KNOWN.frame, at=programs.other)
    assert ran.result in (PASS, OK)
    assert ran.frame == KNOWN.frame


@pytest.mark.parametrize("mac_to", ["02aa00000003", "ffffffffffff", "01005e000001"])
def test_a_packet_for_another_hardware_address_passes_and_ends_nothing(programs: Bench, mac_to: str) -> None:
    for flags in (ACK, SYN, FIN | ACK, RST):
        frame = replace(KNOWN, mac_to=bytes.fromhex(mac_to), flags=flags).frame
        assert programs.arrive(frame) == Ran(PASS, frame)
    assert is_known(programs) == (True, True)


@pytest.mark.parametrize("epoch", [0, EPOCH - 1, EPOCH + 1, EPOCH << 8])
def test_in_another_epoch_nothing_is_repeated_and_a_note_is_taken(programs: Bench, epoch: int) -> None:
    programs.set_epoch(epoch)
    assert programs.arrive(KNOWN.frame) == Ran(OK, KNOWN.frame)
    assert programs.note(programs.last_place())[:28] == KNOWN.note(programs.way_in, epoch)
    programs.set_epoch(EPOCH)
    assert programs.arrive(KNOWN.frame).result == REDIRECT


@pytest.mark.parametrize("seconds", [-0.1, -1.5, -1e6])
def test_what_was_learnt_too_long_ago_is_not_repeated_and_a_note_is_taken(programs: Bench, seconds: float) -> None:
    know(programs, until=max(ahead(seconds), 0))
    assert programs.arrive(KNOWN.frame) == Ran(OK, KNOWN.frame)
    assert programs.note(programs.last_place())[:28] == KNOWN.note(programs.way_in, EPOCH)


@pytest.mark.parametrize("flags", [SYN, SYN | ACK, FIN, FIN | ACK, RST, RST | ACK, FIN | PSH | ACK, 0, PSH])
@pytest.mark.parametrize("way", ["there", "back"])
def test_beginnings_and_ends_pass_and_take_both_directions_with_them(programs: Bench, flags: int, way: str) -> None:
    stranger = replace(KNOWN, source_port=1)
    programs.know(stranger.key(programs.way_in), becomes(stranger, DNAT, programs.way_out, epoch=EPOCH))
    segment, at = (KNOWN, programs.way_in) if way == "there" else (DNAT.answer(), programs.way_out)
    frame = replace(segment, flags=flags).frame
    assert programs.arrive(frame, at=at) == Ran(PASS, frame)
    assert is_known(programs) == (False, False)
    assert programs.arrive(stranger.frame).result == REDIRECT


@pytest.mark.parametrize("flags", [SYN, FIN | ACK, RST])
def test_they_do_so_where_ports_are_translated_and_in_any_epoch(programs: Bench, flags: int) -> None:
    know(programs, BOTH)
    programs.set_epoch(0)
    programs.arrive(replace(BOTH.answer(), flags=flags).frame, at=programs.way_out)
    assert programs.knows(KNOWN.key(programs.way_in)) is None
    assert programs.knows(BOTH.answer().key(programs.way_out)) is None


def test_the_end_of_an_unknown_connection_passes_and_no_note_is_taken(programs: Bench) -> None:
    frame = replace(KNOWN, source_port=1, flags=FIN | ACK).frame
    before = programs.last_place()
    assert programs.arrive(frame, times=100) == Ran(PASS, frame)
    assert programs.last_place() == before
    assert is_known(programs) == (True, True)


def test_nothing_but_tcp_over_ipv4_is_looked_at(programs: Bench) -> None:
    frame = KNOWN.frame
    for type_ in ("86dd", "0806", "8100", "88a8", "8847", "0026", "0000"):
        other = frame[:12] + bytes.fromhex(type_) + frame[14:]
        assert programs.arrive(other) == Ran(PASS, other)
    tagged = frame[:12] + bytes.fromhex("8100 0005") + frame[12:]
    assert programs.arrive(tagged) == Ran(PASS, tagged)
    for protocol in (17, 1, 4, 132, 0, 255):
        other = mended(frame[:23] + bytes((protocol,)) + frame[24:])
        assert programs.arrive(other) == Ran(PASS, other)


def test_real_packets_of_other_kinds_pass(programs: Bench) -> None:
    arp = KNOWN.mac_to + KNOWN.mac_from + bytes.fromhex("0806 0001 0800 06 04 0001") + bytes(20) + bytes(18)
    ipv6 = KNOWN.mac_to + KNOWN.mac_from + struct.pack("!HIHBB", 0x86DD, 6 << 28, 25, 6, 64) + bytes(32)
    for frame in (arp, ipv6 + KNOWN.frame[34:], KNOWN.frame[:12] + b"\x86\xdd" + KNOWN.frame[14:]):
        assert programs.arrive(frame) == Ran(PASS, frame)


@pytest.mark.parametrize("tag", [1, 5, 4095])
def test_a_packet_whose_vlan_tag_the_interface_took_off_passes(programs: Bench, tag: int) -> None:
    assert programs.arrive(KNOWN.frame, vlan=tag) == Ran(PASS, KNOWN.frame)
    assert programs.arrive(KNOWN.frame).result == REDIRECT


@pytest.mark.parametrize("version_and_size", [0x44, 0x46, 0x4F, 0x40, 0x55, 0x65, 0x05])
def test_a_header_of_another_size_or_version_passes(programs: Bench, version_and_size: int) -> None:
    frame = mended(KNOWN.frame[:14] + bytes((version_and_size,)) + KNOWN.frame[15:])
    assert programs.arrive(frame) == Ran(PASS, frame)


def test_a_packet_with_options_passes(programs: Bench) -> None:
    frame = replace(KNOWN, ip_options=b"\x01\x01\x01\x00").frame
    assert programs.arrive(frame) == Ran(PASS, frame)


@pytest.mark.parametrize("fragment", [0x2000, 0x2001, 0x0001, 0x1FFF, 0x0100, 0x6000, 0x4001])
def test_a_fragment_passes_be_it_the_first_a_middle_or_the_last(programs: Bench, fragment: int) -> None:
    frame = replace(KNOWN, fragment=fragment).frame
    assert programs.arrive(frame) == Ran(PASS, frame)


@pytest.mark.parametrize(("ttl", "result"), [(0, PASS), (1, PASS), (2, REDIRECT), (128, REDIRECT), (255, REDIRECT)])
def test_a_packet_that_has_come_far_enough_passes(programs: Bench, ttl: int, result: int) -> None:
    segment = replace(KNOWN, ttl=ttl)
    assert programs.arrive(segment.frame) == Ran(result, segment.frame if result == PASS else sent(segment))


@pytest.mark.parametrize("options", [0, 12, 40])
def test_a_packet_that_is_too_big_for_the_way_out_passes(programs: Bench, options: int) -> None:
    know(programs, mtu=600)
    for over, result in ((-1, REDIRECT), (0, REDIRECT), (1, PASS), (700, PASS)):
        segment = replace(KNOWN, tcp_options=bytes(options), payload=bytes(600 - 40 - options + over))
        assert programs.arrive(segment.frame) == Ran(result, segment.frame if result == PASS else sent(segment))


@pytest.mark.parametrize("options", [0, 12, 40])
def test_of_a_big_packet_the_segments_have_to_fit(programs: Bench, options: int) -> None:
    know(programs, mtu=600)
    segment = replace(KNOWN, tcp_options=bytes(options), payload=bytes(2500))
    for over, result in ((-1, REDIRECT), (0, REDIRECT), (1, PASS), (700, PASS)):
        ran = programs.arrive(segment.frame, gso=600 - 40 - options + over)
        assert ran == Ran(result, segment.frame if result == PASS else sent(segment))


def test_reserved_bits_beside_the_size_of_the_tcp_header_are_no_part_of_it(programs: Bench) -> None:
    know(programs, mtu=600)
    frame = replace(KNOWN, payload=bytes(2500)).frame
    frame = mended(frame[:46] + bytes((frame[46] | 0x0F,)) + frame[47:])
    assert programs.arrive(frame, gso=560).result == REDIRECT
    assert programs.arrive(frame, gso=561).result == PASS


def test_a_packet_that_breaks_off_in_its_headers_passes(programs: Bench) -> None:
    frame = replace(KNOWN, payload=b"").frame
    assert len(frame) == 54
    for size in range(14, 54):
        assert programs.arrive(frame[:size]) == Ran(PASS, frame[:size])
    assert programs.arrive(frame).result == REDIRECT


def test_a_packet_with_ethernets_filling_is_rewritten_with_it(programs: Bench) -> None:
    bare = replace(KNOWN, payload=b"")
    assert programs.arrive(bare.frame + bytes(6)) == Ran(REDIRECT, sent(bare) + bytes(6))


# Notes


def test_of_some_packets_of_unknown_flows_a_note_is_taken(programs: Bench) -> None:
    stranger = replace(KNOWN, source_port=2)
    results = [programs.arrive(stranger.frame).result for _ in range(400)]
    # One in eight. Four hundred times none, or more than half, is less likely than one in 10 ** 20.
    assert 0 < results.count(OK) < 200
    assert set(results) == {PASS, OK}
    assert programs.note(programs.last_place())[:28] == stranger.note(programs.way_in, EPOCH)


def test_notes_go_round_and_leave_the_account_alone(programs: Bench) -> None:
    know(programs, until=0)
    before, counted = programs.last_place(), programs.repeated()
    places = NOTE_PLACES - 1  # the account is in the first
    for times in (1, places, 2 * places + 40):
        programs.arrive(KNOWN.frame, times=times)
        assert programs.last_place() == (before - 1 + times) % places + 1
        before = programs.last_place()
    assert programs.repeated() == counted


# Whatever comes


@dataclass(frozen=True, slots=True)
class Changed:
    """A known packet with a few octets changed, or cut off."""

    frame: bytes
    right_interface: bool
    mend: bool


@st.composite
def changed(draw: st.DrawFn) -> Changed:
    frame = bytearray(KNOWN.frame)
    for at in draw(st.lists(st.integers(12, 60).filter(lambda at: at < len(frame)), max_size=3)):
        flipped = [KNOWN.frame[at] ^ 1 << bit for bit in range(8)]
        frame[at] = draw(st.one_of(octet, st.sampled_from(flipped)))
    size = draw(st.one_of(st.just(len(frame)), st.integers(14, len(frame))))
    return Changed(bytes(frame[:size]), draw(st.booleans()) or draw(st.booleans()), draw(st.booleans()))


def is_plain(frame: bytes) -> bool:
    """As the module says: IPv4 without options or fragments, TCP."""
    return (
        len(frame) >= 54
        and frame[12:15] == b"\x08\x00\x45"
        and frame[23] == 6
        and not int.from_bytes(frame[20:22], "big") & 0x3FFF
    )


@settings(max_examples=600, deadline=None)
@given(one=changed())
def test_whatever_is_changed_in_a_packet_it_is_repeated_exactly_or_untouched(module_bench: Bench, one: Changed) -> None:
    know(module_bench)
    frame = mended(one.frame) if one.mend and len(one.frame) >= 54 else one.frame
    at = module_bench.way_in if one.right_interface else module_bench.other
    ours = is_plain(frame) and frame[26:38] == KNOWN.frame[26:38] and one.right_interface
    goes_on = frame[47:48] and frame[47] & (SYN | FIN | RST | ACK) == ACK
    ran = module_bench.arrive(frame, at=at)
    if ours and goes_on and frame[22] > 1:
        addresses, ttl = DNAT.addresses, bytes((frame[22] - 1,))
        wanted = DNAT.ethernet + frame[14:22] + ttl + frame[23:26] + addresses + DNAT.ports + frame[38:]
        assert ran.result == REDIRECT
        assert mended(ran.frame) == mended(wanted)
        assert (ran.frame == mended(ran.frame)) == (frame == mended(frame))
    else:
        assert ran.result in (PASS, OK)
        assert ran.frame == frame
    assert is_known(module_bench) == ((False, False) if ours and not goes_on else (True, True))


headed = st.binary(max_size=200).map(KNOWN.frame[:15].__add__)


@settings(max_examples=300, deadline=None)
@given(frame=st.one_of(st.binary(min_size=14, max_size=200), headed), gso=st.integers(0, 2000), vlan=st.integers(0, 5))
def test_octets_without_sense_pass_untouched(module_bench: Bench, frame: bytes, gso: int, vlan: int) -> None:
    know(module_bench)
    ran = module_bench.arrive(frame, gso=gso, vlan=vlan)
    assert ran.result in (PASS, OK)
    assert ran.frame == frame
    assert is_known(module_bench) == (True, True)
