"""The way past netfilter for packets of connections that stand: two BPF programs on each interface.

The kernel's table decides about each connection; these programs only repeat what it did. A packet that comes in is
looked up by its addresses, ports and interface. If it is known what becomes of such packets, it is written anew and
leaves at once. Else it goes the usual way, and of some of these a note is taken (`arriving`). Where a packet leaves, a
note of it tells what it was before; both together are what is repeated from then on (`leaving`). So the programs know
nothing of members, pins and slots, and are right whatever the rules say: DNAT alone, or with a source address of the
gateway's.

What ends the repeating:

- ``epoch`` changes: everything learnt before is void. 0: nothing is repeated, nothing learnt (docs/decisions/0026).
- A second passed: the next packet goes the usual way, which keeps the connection table's entry alive, follows
  the routes and the neighbours, and is learnt anew.
- SYN, FIN and RST go the usual way, and take what was learnt of their direction and of its answers with them.

Only plain packets are repeated: without options, fragments or extension headers, TCP with ACK, small enough for the
way out, a TTL above 1. Each IP version has programs and maps of its own.
"""

import struct
from dataclasses import dataclass

from casarray.core.forwarding.bpf import Program, Register

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Register

FLOWS, NOTES, ADDRESSES, LINKS, STATE = "flows", "notes", "addresses", "links", "state"


class Kind:
    """`enum bpf_map_type`."""

    HASH, ARRAY, PER_PROCESSOR, LEAST_RECENTLY_USED = 1, 2, 6, 9


@dataclass(frozen=True, slots=True)
class MapShape:
    """What a map is made of, in octets and entries."""

    kind: int
    key: int
    value: int
    entries: int


_MOST_NOTES = 256  # a batch of packets that the kernel takes at once is 64
_MOST_ADDRESSES, _MOST_LINKS = 1024, 1024


@dataclass(frozen=True, slots=True)
class Version:
    """Where things are in an Ethernet frame with an IP header of this version and a TCP header, and in our maps."""

    ether_type: int  # in network order, as a little-endian machine reads it
    address: int  # octets
    source: int  # the target follows it
    ports: int  # where the IP header has ended
    new_source: int  # in a flow's value; the new target follows it
    value: int  # octets of it

    @property
    def tcp_sum(self) -> int:
        """The checksum."""
        return self.ports + 16

    @property
    def key(self) -> int:
        """Octets of a flow's key: source, target, ports, interface."""
        return 2 * self.address + 8

    @property
    def note(self) -> int:
        """Octets of a note: the key, sequence and acknowledgement numbers, the epoch."""
        return self.key + 16


IPV4 = Version(ether_type=0x0008, address=4, source=26, ports=34, new_source=16, value=64)
IPV6 = Version(ether_type=0xDD86, address=16, source=22, ports=54, new_source=64, value=96)


def maps(flows: int, version: Version = IPV4) -> dict[str, MapShape]:
    """The maps of both programs. ``flows``: directions of connections that are remembered at most."""
    return {
        FLOWS: MapShape(Kind.LEAST_RECENTLY_USED, version.key, version.value, flows),
        NOTES: MapShape(Kind.PER_PROCESSOR, 4, version.note, _MOST_NOTES),
        ADDRESSES: MapShape(Kind.HASH, version.address, 4, _MOST_ADDRESSES),  # the array's
        LINKS: MapShape(Kind.HASH, 4, 4, _MOST_LINKS),  # interface -> its MTU; others are not left by
        STATE: MapShape(Kind.ARRAY, 4, 8, 1),  # the epoch
    }


def repeated(first_notes: bytes, version: Version = IPV4) -> int:
    """Packets repeated so far, from what `NOTES` has under key 0: not a note, but a processor's own account each."""
    accounts = range(_ACCOUNT_PACKETS, len(first_notes), version.note)
    return sum(int(struct.unpack_from("<Q", first_notes, at)[0]) for at in accounts)


def epoch_value(epoch: int) -> bytes:
    """The value of `STATE`; 0 stops the repeating."""
    return struct.pack("<Q", epoch)


# struct __sk_buff
_LENGTH, _PACKET_TYPE, _PROTOCOL, _VLAN_PRESENT, _IFINDEX, _TC_INDEX, _TC_CLASSID, _DATA, _DATA_END, _GSO_SIZE = (
    0, 4, 16, 20, 40, 44, 72, 76, 80, 176,
)  # fmt: skip
# enum bpf_func_id
_LOOK_UP, _UPDATE, _DELETE, _RANDOM, _WRITE, _TCP_SUM, _REDIRECT, _SUM, _ADD_TO_SUM, _COARSE_CLOCK = (
    1, 2, 3, 7, 9, 11, 23, 28, 40, 160,
)  # fmt: skip
_NEXT_PROGRAM, _OK, _DROP = -1, 0, 2  # TC_ACT_*
_TO_US = 0  # PACKET_HOST: its hardware address is the interface's

_TYPE, _IP = 12, 14  # octets of an Ethernet frame
_FRAGMENT, _TTL, _IP_PROTOCOL, _IP_SUM = 20, 22, 23, 24  # of one with IPv4
_NEXT_HEADER, _HOP_LIMIT = 20, 21  # of one with IPv6
_SEQUENCE, _ACKNOWLEDGED, _TCP_SIZE, _TCP_FLAGS, _TCP_END = 4, 8, 12, 13, 20  # of a TCP header
_NOT_WHOLE = 0xFF3F  # more fragments, or not the first; in network order, as a little-endian machine reads it
_FIN_SYN_RST, _ACK = 0x07, 0x10
_PSEUDO_HEADER = 0x10
_MINUS_ONE_TTL, _MINUS_ONE_HOP = 0xFFFE, 0xFEFF  # as a little-endian machine adds to a one's complement sum
_ONE_HOP = 1 << 24  # the last of four octets

_ACCOUNT_LAST, _ACCOUNT_PACKETS = 0, 8  # under key 0: the place of the last note; packets repeated
# After the key in a note: what is the same before and after, and the epoch.
_NOTE_SEQUENCE, _NOTE_ACKNOWLEDGED, _NOTE_EPOCH = 0, 4, 8
# What becomes of a flow's packets; the new addresses are where the version has them.
_EPOCH, _OUT, _UNTIL, _NEW_PORTS, _IP_CHANGE, _TCP_CHANGE, _PORTS_CHANGE, _MTU, _ETHERNET = (
    0, 4, 8, 24, 28, 32, 36, 40, 46,
)  # fmt: skip
_VALID_NANOSECONDS = 1_000_000_000
_LEARN_ONE_OF = 8  # a power of two; most connections that end after a few packets are never learnt

# On the stack, which ends at 0.
_KEY = -40  # source, target, ports, interface
_SMALL = -44  # a key of four octets
_ADDRESS = -64  # one address
_BACK = -88  # the key of the flow that answers
_FRAME = -102  # the new Ethernet and IP header, the latter aligned
_VALUE = -160  # where packets leave: what becomes of a flow's packets


def arriving(v: Version = IPV4) -> Program:
    """Where packets come in: repeat what is known, or take a note."""
    p = Program()
    p.do(R6, "=", R1)
    p.load(4, R2, R6, _PACKET_TYPE)
    p.when(R2, "!=", _TO_US, "pass")  # for another on a link where everybody hears it, or for all: not forwarded
    _plain_tcp(p, v)
    _copy(p, (R10, _KEY), (R7, v.source), 2 * v.address)
    p.copy(4, R10, _KEY + 2 * v.address, R7, v.ports)
    p.copy(4, R10, _KEY + v.key - 4, R6, _IFINDEX)
    _look_up(p, FLOWS, _KEY)
    p.do(R9, "=", R0)
    p.load(1, R2, R7, v.ports + _TCP_FLAGS)
    p.do(R2, "&", _FIN_SYN_RST | _ACK)
    p.when(R2, "!=", _ACK, "an end")
    p.when(R9, "==", 0, "unknown")
    p.map_value(R1, STATE)
    p.load(4, R2, R1, 0)
    p.load(4, R3, R9, _EPOCH)
    p.when(R2, "!=", R3, "note")
    p.call(_COARSE_CLOCK)
    p.load(8, R2, R9, _UNTIL)
    p.when(R0, ">", R2, "note")
    _fits(p, v)
    _repeat(p, v)
    p.label("an end")
    p.when(R9, "==", 0, "pass")
    _forget_both(p, v)
    p.goto("pass")
    p.label("unknown")
    p.call(_RANDOM)
    p.do(R0, "&", _LEARN_ONE_OF - 1)
    p.when(R0, "!=", 0, "pass")
    p.label("note")
    _take_note(p, v)
    p.label("pass")
    p.exit(_NEXT_PROGRAM)
    p.label("drop")
    p.exit(_DROP)
    return p


def leaving(v: Version = IPV4) -> Program:
    """Where packets go out: if there is a note of this one, learn from it."""
    p = Program()
    p.do(R6, "=", R1)
    p.load(4, R2, R6, _TC_INDEX)
    p.when(R2, "==", 0, "pass")
    p.store(4, R10, _SMALL, R2)
    _plain_tcp(p, v)
    p.load(2, R2, R7, _TYPE)
    p.when(R2, "!=", v.ether_type, "pass")
    _look_up(p, NOTES, _SMALL)
    p.when(R0, "==", 0, "pass")
    p.do(R9, "=", R0)
    for noted, offset in ((_NOTE_SEQUENCE, _SEQUENCE), (_NOTE_ACKNOWLEDGED, _ACKNOWLEDGED)):
        p.load(4, R2, R7, v.ports + offset)
        p.load(4, R3, R9, v.key + noted)
        p.when(R2, "!=", R3, "pass")
    p.map_value(R1, STATE)
    p.load(4, R8, R1, 0)
    p.when(R8, "==", 0, "pass")
    p.load(4, R2, R9, v.key + _NOTE_EPOCH)
    p.when(R2, "!=", R8, "pass")
    # The array's: it came to its address, or it leaves from there.
    _copy(p, (R10, _ADDRESS), (R9, v.address), v.address)
    _look_up(p, ADDRESSES, _ADDRESS)
    p.when(R0, "!=", 0, "ours")
    _copy(p, (R10, _ADDRESS), (R7, v.source), v.address)
    _look_up(p, ADDRESSES, _ADDRESS)
    p.when(R0, "==", 0, "pass")
    p.label("ours")
    _learn(p, v)
    p.label("pass")
    p.exit(_NEXT_PROGRAM)
    return p


def _plain_tcp(p: Program, v: Version) -> None:
    """R7: the frame, surely with all headers; what is not plain TCP over this IP passes."""
    p.load(4, R2, R6, _PROTOCOL)
    p.when(R2, "!=", v.ether_type, "pass")
    p.load(4, R2, R6, _VLAN_PRESENT)
    p.when(R2, "!=", 0, "pass")
    p.load(4, R7, R6, _DATA)
    p.load(4, R3, R6, _DATA_END)
    p.address(R2, R7, v.ports + _TCP_END)
    p.when(R2, ">", R3, "pass")
    p.load(1, R2, R7, _IP)
    if v is IPV4:
        p.when(R2, "!=", 0x45, "pass")
        p.load(2, R2, R7, _FRAGMENT)
        p.do(R2, "&", _NOT_WHOLE)
        p.when(R2, "!=", 0, "pass")
    else:
        p.do(R2, "&", 0xF0)
        p.when(R2, "!=", 0x60, "pass")
    p.load(1, R2, R7, _IP_PROTOCOL if v is IPV4 else _NEXT_HEADER)
    p.when(R2, "!=", 6, "pass")


def _copy(p: Program, to: tuple[Register, int], source: tuple[Register, int], size: int) -> None:
    """Four octets at a time; R5 is lost."""
    for offset in range(0, size, 4):
        p.copy(4, to[0], to[1] + offset, source[0], source[1] + offset)


def _look_up(p: Program, name: str, key: int) -> None:
    """R0: the value's address, or 0."""
    p.map(R1, name)
    p.address(R2, R10, key)
    p.call(_LOOK_UP)


def _fits(p: Program, v: Version) -> None:
    """What is too big for the way out, or has come far enough, passes: the usual way answers it by ICMP."""
    p.load(4, R2, R6, _GSO_SIZE)
    p.when(R2, "!=", 0, "segments")
    p.load(4, R2, R6, _LENGTH)
    p.do(R2, "-", _IP)
    p.goto("measured")
    p.label("segments")  # each with headers of its own
    p.load(1, R3, R7, v.ports + _TCP_SIZE)
    p.do(R3, ">>", 2)
    p.do(R3, "&", 0x3C)
    p.do(R2, "+", R3)
    p.do(R2, "+", v.ports - _IP)
    p.label("measured")
    p.load(4, R3, R9, _MTU)
    p.when(R2, ">", R3, "pass")
    p.load(1, R2, R7, _TTL if v is IPV4 else _HOP_LIMIT)
    p.when(R2, "<=", 1, "pass")


def _repeat(p: Program, v: Version) -> None:
    """Write the headers anew and send the packet out. R9: what becomes of it."""
    for size, offset in ((2, 0), (4, 2), (4, 6), (4, 10)):
        p.copy(size, R10, _FRAME + offset, R9, _ETHERNET + offset)
    if v is IPV4:
        _new_header4(p)
    else:
        p.copy(4, R10, _FRAME + _IP, R7, _IP)
        p.load(4, R2, R7, _IP + 4)
        p.do(R2, "-", _ONE_HOP)
        p.store(4, R10, _FRAME + _IP + 4, R2)
    _copy(p, (R10, _FRAME + v.source), (R9, v.new_source), 2 * v.address)
    p.address(R3, R10, _FRAME)
    _write(p, 0, v.ports)
    p.when(R0, "!=", 0, "pass")
    _sum_tcp(p, v, _TCP_CHANGE, _PSEUDO_HEADER)
    if v is not IPV4:
        # The hardware's sum of the packet, if it took one: no checksum of the header's makes up for its changes.
        p.do(R1, "=", R6)
        p.load(4, R2, R9, _IP_CHANGE)
        p.call(_ADD_TO_SUM)
    p.load(4, R2, R10, _KEY + 2 * v.address)
    p.load(4, R3, R9, _NEW_PORTS)
    p.when(R2, "==", R3, "out")
    _sum_tcp(p, v, _PORTS_CHANGE, 0)
    p.address(R3, R9, _NEW_PORTS)
    _write(p, v.ports, 4)
    p.when(R0, "!=", 0, "drop")
    p.label("out")
    p.store(4, R10, _SMALL, 0)
    _look_up(p, NOTES, _SMALL)
    p.when(R0, "==", 0, "drop")
    p.load(8, R2, R0, _ACCOUNT_PACKETS)
    p.do(R2, "+", 1)
    p.store(8, R0, _ACCOUNT_PACKETS, R2)
    p.load(4, R1, R9, _OUT)
    p.do(R2, "=", 0)
    p.call(_REDIRECT)
    p.leave()


def _new_header4(p: Program) -> None:
    """All but the addresses: one hop less, and the checksum by what has changed."""
    _copy(p, (R10, _FRAME + _IP), (R7, _IP), 8)
    p.load(2, R2, R7, _TTL)
    p.do(R2, "-", 1)
    p.store(2, R10, _FRAME + _TTL, R2)
    p.load(2, R2, R7, _IP_SUM)
    p.do(R2, "^", 0xFFFF)
    p.load(4, R3, R9, _IP_CHANGE)
    p.do(R2, "+", R3)
    _fold(p, R2)
    p.do(R2, "^", 0xFFFF)
    p.store(2, R10, _FRAME + _IP_SUM, R2)


def _write(p: Program, at: int, size: int) -> None:
    """Into the packet, from where R3 points. R0: not 0 if that could not be."""
    p.do(R1, "=", R6)
    p.do(R2, "=", at)
    p.do(R4, "=", size)
    p.do(R5, "=", 0)
    p.call(_WRITE)


def _sum_tcp(p: Program, v: Version, change: int, flags: int) -> None:
    """The TCP checksum, by what has changed; a checksum that is left to the hardware knows the addresses only."""
    p.do(R1, "=", R6)
    p.do(R2, "=", v.tcp_sum)
    p.do(R3, "=", 0)
    p.load(4, R4, R9, change)
    p.do(R5, "=", flags)
    p.call(_TCP_SUM)
    p.when(R0, "!=", 0, "drop")


def _forget_both(p: Program, v: Version) -> None:
    """The flow in R9 and the one that answers it."""
    _copy(p, (R10, _BACK), (R9, v.new_source + v.address), v.address)
    _copy(p, (R10, _BACK + v.address), (R9, v.new_source), v.address)
    ports = _BACK + 2 * v.address
    p.copy(2, R10, ports, R9, _NEW_PORTS + 2)
    p.copy(2, R10, ports + 2, R9, _NEW_PORTS)
    p.copy(4, R10, ports + 4, R9, _OUT)
    for key in (_BACK, _KEY):
        p.map(R1, FLOWS)
        p.address(R2, R10, key)
        p.call(_DELETE)


def _take_note(p: Program, v: Version) -> None:
    """In the next place of this processor's; the packet carries the place's number along as its class."""
    p.store(4, R10, _SMALL, 0)
    _look_up(p, NOTES, _SMALL)
    p.when(R0, "==", 0, "pass")
    p.load(4, R8, R0, _ACCOUNT_LAST)
    p.do(R8, "+", 1)
    p.do(R8, "&", _MOST_NOTES - 1)
    p.when(R8, "!=", 0, "a place")
    p.do(R8, "=", 1)
    p.label("a place")
    p.store(4, R0, _ACCOUNT_LAST, R8)
    p.store(4, R10, _SMALL, R8)
    _look_up(p, NOTES, _SMALL)
    p.when(R0, "==", 0, "pass")
    _copy(p, (R0, 0), (R10, _KEY), v.key)
    p.copy(4, R0, v.key + _NOTE_SEQUENCE, R7, v.ports + _SEQUENCE)
    p.copy(4, R0, v.key + _NOTE_ACKNOWLEDGED, R7, v.ports + _ACKNOWLEDGED)
    p.map_value(R1, STATE)
    p.copy(4, R0, v.key + _NOTE_EPOCH, R1, 0)
    p.store(4, R6, _TC_CLASSID, R8)
    p.exit(_OK)  # only then does the kernel keep the class with the packet


def _learn(p: Program, v: Version) -> None:
    """R9: the note, whose beginning is the flow's key; R7: the frame as it leaves; R8: the epoch."""
    p.copy(4, R10, _SMALL, R6, _IFINDEX)
    _look_up(p, LINKS, _SMALL)
    p.when(R0, "==", 0, "pass")
    p.copy(4, R10, _VALUE + _MTU, R0, 0)
    p.store(4, R10, _VALUE + _EPOCH, R8)
    p.copy(4, R10, _VALUE + _OUT, R6, _IFINDEX)
    for gap in (16, 20, _ETHERNET - 2, _ETHERNET + 14):  # the verifier wants every octet written, used or not
        p.store(4, R10, _VALUE + gap, 0)
    _copy(p, (R10, _VALUE + v.new_source), (R7, v.source), 2 * v.address)
    p.copy(4, R10, _VALUE + _NEW_PORTS, R7, v.ports)
    for size, offset in ((2, 0), (4, 2), (4, 6), (4, 10)):
        p.copy(size, R10, _VALUE + _ETHERNET + offset, R7, offset)
    changes = ((_PORTS_CHANGE, 2 * v.address, _NEW_PORTS, 4), (_TCP_CHANGE, 0, v.new_source, 2 * v.address))
    for change, old, new, size in changes:
        p.address(R1, R9, old)
        p.do(R2, "=", size)
        p.address(R3, R10, _VALUE + new)
        p.do(R4, "=", size)
        p.do(R5, "=", 0)
        p.call(_SUM)
        p.store(4, R10, _VALUE + change, R0)
    p.do(R0, "<<", 32)
    p.do(R0, ">>", 32)
    _fold(p, R0)
    p.do(R0, "+", _MINUS_ONE_TTL if v is IPV4 else _MINUS_ONE_HOP)
    p.store(4, R10, _VALUE + _IP_CHANGE, R0)
    p.call(_COARSE_CLOCK)
    p.do(R0, "+", _VALID_NANOSECONDS)
    p.store(8, R10, _VALUE + _UNTIL, R0)
    p.map(R1, FLOWS)
    p.do(R2, "=", R9)
    p.address(R3, R10, _VALUE)
    p.do(R4, "=", 0)
    p.call(_UPDATE)


def _fold(p: Program, sum_: Register) -> None:
    """To 16 bits, one's complement; R5 is lost."""
    for _ in range(2):
        p.do(R5, "=", sum_)
        p.do(R5, ">>", 16)
        p.do(sum_, "&", 0xFFFF)
        p.do(sum_, "+", R5)
