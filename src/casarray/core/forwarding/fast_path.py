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
- SYN, FIN and RST go the usual way, and take what was learnt of their connection with them.

Only plain packets are repeated: IPv4 without options or fragments, TCP with ACK, small enough for the way out, a TTL
above 1. IPv6 goes the usual way.
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


NOTE_SIZE = 32
_MOST_NOTES = 256  # a batch of packets that the kernel takes at once is 64
_MOST_ADDRESSES, _MOST_LINKS = 1024, 1024


def maps(flows: int) -> dict[str, MapShape]:
    """The maps of both programs. ``flows``: directions of connections that are remembered at most."""
    return {
        FLOWS: MapShape(Kind.LEAST_RECENTLY_USED, 16, 64, flows),
        NOTES: MapShape(Kind.PER_PROCESSOR, 4, NOTE_SIZE, _MOST_NOTES),
        ADDRESSES: MapShape(Kind.HASH, 4, 4, _MOST_ADDRESSES),  # the array's
        LINKS: MapShape(Kind.HASH, 4, 4, _MOST_LINKS),  # interface -> its MTU; others are not left by
        STATE: MapShape(Kind.ARRAY, 4, 8, 1),  # the epoch
    }


def repeated(first_notes: bytes) -> int:
    """Packets repeated so far, from what `NOTES` has under key 0: not a note, but a processor's own account each."""
    accounts = range(_ACCOUNT_PACKETS, len(first_notes), NOTE_SIZE)
    return sum(int(struct.unpack_from("<Q", first_notes, at)[0]) for at in accounts)


def epoch_value(epoch: int) -> bytes:
    """The value of `STATE`; 0 stops the repeating."""
    return struct.pack("<Q", epoch)


# struct __sk_buff
_LENGTH, _PACKET_TYPE, _PROTOCOL, _VLAN_PRESENT, _IFINDEX, _TC_INDEX, _TC_CLASSID, _DATA, _DATA_END, _GSO_SIZE = (
    0, 4, 16, 20, 40, 44, 72, 76, 80, 176,
)  # fmt: skip
# enum bpf_func_id
_LOOK_UP, _UPDATE, _DELETE, _RANDOM, _WRITE, _TCP_SUM, _REDIRECT, _SUM, _COARSE_CLOCK = 1, 2, 3, 7, 9, 11, 23, 28, 160
_NEXT_PROGRAM, _OK, _DROP = -1, 0, 2  # TC_ACT_*
_TO_US = 0  # PACKET_HOST: its hardware address is the interface's

# Octets of an Ethernet frame with an IPv4 header without options and a TCP header.
_TYPE, _IP, _FRAGMENT, _TTL, _IP_PROTOCOL, _IP_SUM, _SOURCE, _TARGET, _PORTS = 12, 14, 20, 22, 23, 24, 26, 30, 34
_SEQUENCE, _ACKNOWLEDGED, _TCP_SIZE, _TCP_FLAGS, _TCP_SUM_AT, _END = 38, 42, 46, 47, 50, 54
_IPV4 = 0x0008  # network order, as a little-endian machine reads it
_NOT_WHOLE = 0xFF3F  # likewise: more fragments, or not the first
_FIN_SYN_RST, _ACK = 0x07, 0x10
_PSEUDO_HEADER = 0x10
_MINUS_ONE = 0xFFFE  # of a TTL, as a little-endian machine adds to a one's complement sum

# A note: addresses, ports and interface as in a flow's key, then what is the same before and after.
_NOTE_SEQUENCE, _NOTE_ACKNOWLEDGED, _NOTE_EPOCH = 16, 20, 24
_ACCOUNT_LAST, _ACCOUNT_PACKETS = 0, 8  # under key 0: the place of the last note; packets repeated
# What becomes of a flow's packets.
_EPOCH, _OUT, _UNTIL, _NEW_SOURCE, _NEW_TARGET, _NEW_PORTS = 0, 4, 8, 16, 20, 24
_IP_CHANGE, _TCP_CHANGE, _PORTS_CHANGE, _MTU, _ETHERNET = 28, 32, 36, 40, 46
_VALID_NANOSECONDS = 1_000_000_000
_LEARN_ONE_OF = 8  # a power of two; most connections that end after a few packets are never learnt

_KEY = -16  # on the stack: source, target, ports, interface
_SMALL = -20  # on the stack: a key of four octets
_BACK = -64  # on the stack: the key of the flow that answers
_FRAME = -66  # on the stack: the new Ethernet and IP header, the latter aligned
_VALUE = -96  # on the stack, where packets leave: what becomes of a flow's packets


def arriving() -> Program:
    """Where packets come in: repeat what is known, or take a note."""
    p = Program()
    p.do(R6, "=", R1)
    p.load(4, R2, R6, _PACKET_TYPE)
    p.when(R2, "!=", _TO_US, "pass")  # for another on a link where everybody hears it, or for all: not forwarded
    _plain_tcp(p)
    for to, offset in ((_KEY, _SOURCE), (_KEY + 4, _TARGET), (_KEY + 8, _PORTS)):
        p.copy(4, R10, to, R7, offset)
    p.copy(4, R10, _KEY + 12, R6, _IFINDEX)
    _look_up(p, FLOWS, _KEY)
    p.do(R9, "=", R0)
    p.load(1, R2, R7, _TCP_FLAGS)
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
    _fits(p)
    _repeat(p)
    p.label("an end")
    p.when(R9, "==", 0, "pass")
    _forget_both(p)
    p.goto("pass")
    p.label("unknown")
    p.call(_RANDOM)
    p.do(R0, "&", _LEARN_ONE_OF - 1)
    p.when(R0, "!=", 0, "pass")
    p.label("note")
    _take_note(p)
    p.label("pass")
    p.exit(_NEXT_PROGRAM)
    p.label("drop")
    p.exit(_DROP)
    return p


def leaving() -> Program:
    """Where packets go out: if there is a note of this one, learn from it."""
    p = Program()
    p.do(R6, "=", R1)
    p.load(4, R2, R6, _TC_INDEX)
    p.when(R2, "==", 0, "pass")
    p.store(4, R10, _SMALL, R2)
    _plain_tcp(p)
    p.load(2, R2, R7, _TYPE)
    p.when(R2, "!=", _IPV4, "pass")
    _look_up(p, NOTES, _SMALL)
    p.when(R0, "==", 0, "pass")
    p.do(R9, "=", R0)
    for noted, offset in ((_NOTE_SEQUENCE, _SEQUENCE), (_NOTE_ACKNOWLEDGED, _ACKNOWLEDGED)):
        p.load(4, R2, R7, offset)
        p.load(4, R3, R9, noted)
        p.when(R2, "!=", R3, "pass")
    p.map_value(R1, STATE)
    p.load(4, R8, R1, 0)
    p.when(R8, "==", 0, "pass")
    p.load(4, R2, R9, _NOTE_EPOCH)
    p.when(R2, "!=", R8, "pass")
    # The array's: it came to its address, or it leaves from there.
    p.copy(4, R10, _SMALL, R9, 4)
    _look_up(p, ADDRESSES, _SMALL)
    p.when(R0, "!=", 0, "ours")
    p.copy(4, R10, _SMALL, R7, _SOURCE)
    _look_up(p, ADDRESSES, _SMALL)
    p.when(R0, "==", 0, "pass")
    p.label("ours")
    _learn(p)
    p.label("pass")
    p.exit(_NEXT_PROGRAM)
    return p


def _plain_tcp(p: Program) -> None:
    """R7: the frame, surely with all headers; what is not plain TCP over IPv4 passes."""
    p.load(4, R2, R6, _PROTOCOL)
    p.when(R2, "!=", _IPV4, "pass")
    p.load(4, R2, R6, _VLAN_PRESENT)
    p.when(R2, "!=", 0, "pass")
    p.load(4, R7, R6, _DATA)
    p.load(4, R3, R6, _DATA_END)
    p.address(R2, R7, _END)
    p.when(R2, ">", R3, "pass")
    p.load(1, R2, R7, _IP)
    p.when(R2, "!=", 0x45, "pass")
    p.load(1, R2, R7, _IP_PROTOCOL)
    p.when(R2, "!=", 6, "pass")
    p.load(2, R2, R7, _FRAGMENT)
    p.do(R2, "&", _NOT_WHOLE)
    p.when(R2, "!=", 0, "pass")


def _look_up(p: Program, name: str, key: int) -> None:
    """R0: the value's address, or 0."""
    p.map(R1, name)
    p.address(R2, R10, key)
    p.call(_LOOK_UP)


def _fits(p: Program) -> None:
    """What is too big for the way out, or has come far enough, passes: the usual way answers it by ICMP."""
    p.load(4, R2, R6, _GSO_SIZE)
    p.when(R2, "!=", 0, "segments")
    p.load(4, R2, R6, _LENGTH)
    p.do(R2, "-", _IP)
    p.goto("measured")
    p.label("segments")  # each with headers of its own
    p.load(1, R3, R7, _TCP_SIZE)
    p.do(R3, ">>", 2)
    p.do(R3, "&", 0x3C)
    p.do(R2, "+", R3)
    p.do(R2, "+", 20)
    p.label("measured")
    p.load(4, R3, R9, _MTU)
    p.when(R2, ">", R3, "pass")
    p.load(1, R2, R7, _TTL)
    p.when(R2, "<=", 1, "pass")


def _repeat(p: Program) -> None:
    """Write the headers anew and send the packet out. R9: what becomes of it."""
    for size, to, offset in ((2, 0, 0), (4, 2, 2), (4, 6, 6), (4, 10, 10)):
        p.copy(size, R10, _FRAME + to, R9, _ETHERNET + offset)
    p.load(4, R2, R7, _IP)
    p.store(4, R10, _FRAME + _IP, R2)
    p.copy(4, R10, _FRAME + _IP + 4, R7, _IP + 4)
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
    p.copy(4, R10, _FRAME + _SOURCE, R9, _NEW_SOURCE)
    p.copy(4, R10, _FRAME + _TARGET, R9, _NEW_TARGET)
    p.do(R1, "=", R6)
    p.do(R2, "=", 0)
    p.address(R3, R10, _FRAME)
    p.do(R4, "=", _PORTS)
    p.do(R5, "=", 0)
    p.call(_WRITE)
    p.when(R0, "!=", 0, "pass")
    _sum_tcp(p, _TCP_CHANGE, _PSEUDO_HEADER)
    p.load(4, R2, R10, _KEY + 8)
    p.load(4, R3, R9, _NEW_PORTS)
    p.when(R2, "==", R3, "out")
    _sum_tcp(p, _PORTS_CHANGE, 0)
    p.do(R1, "=", R6)
    p.do(R2, "=", _PORTS)
    p.address(R3, R9, _NEW_PORTS)
    p.do(R4, "=", 4)
    p.do(R5, "=", 0)
    p.call(_WRITE)
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


def _sum_tcp(p: Program, change: int, flags: int) -> None:
    """The TCP checksum, by what has changed; a checksum that is left to the hardware knows the addresses only."""
    p.do(R1, "=", R6)
    p.do(R2, "=", _TCP_SUM_AT)
    p.do(R3, "=", 0)
    p.load(4, R4, R9, change)
    p.do(R5, "=", flags)
    p.call(_TCP_SUM)
    p.when(R0, "!=", 0, "drop")


def _forget_both(p: Program) -> None:
    """The flow in R9 and the one that answers it."""
    p.copy(4, R10, _BACK, R9, _NEW_TARGET)
    p.copy(4, R10, _BACK + 4, R9, _NEW_SOURCE)
    p.copy(2, R10, _BACK + 8, R9, _NEW_PORTS + 2)
    p.copy(2, R10, _BACK + 10, R9, _NEW_PORTS)
    p.copy(4, R10, _BACK + 12, R9, _OUT)
    for key in (_BACK, _KEY):
        p.map(R1, FLOWS)
        p.address(R2, R10, key)
        p.call(_DELETE)


def _take_note(p: Program) -> None:
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
    for offset in (0, 4, 8, 12):
        p.copy(4, R0, offset, R10, _KEY + offset)
    p.copy(4, R0, _NOTE_SEQUENCE, R7, _SEQUENCE)
    p.copy(4, R0, _NOTE_ACKNOWLEDGED, R7, _ACKNOWLEDGED)
    p.map_value(R1, STATE)
    p.copy(4, R0, _NOTE_EPOCH, R1, 0)
    p.store(4, R6, _TC_CLASSID, R8)
    p.exit(_OK)  # only then does the kernel keep the class with the packet


def _learn(p: Program) -> None:
    """R9: the note, whose beginning is the flow's key; R7: the frame as it leaves; R8: the epoch."""
    p.copy(4, R10, _SMALL, R6, _IFINDEX)
    _look_up(p, LINKS, _SMALL)
    p.when(R0, "==", 0, "pass")
    p.copy(4, R10, _VALUE + _MTU, R0, 0)
    p.store(4, R10, _VALUE + _EPOCH, R8)
    p.copy(4, R10, _VALUE + _OUT, R6, _IFINDEX)
    for to, offset in ((_NEW_SOURCE, _SOURCE), (_NEW_TARGET, _TARGET), (_NEW_PORTS, _PORTS)):
        p.copy(4, R10, _VALUE + to, R7, offset)
    p.store(2, R10, _VALUE + _ETHERNET - 2, 0)
    for size, offset in ((2, 0), (4, 2), (4, 6), (4, 10)):
        p.copy(size, R10, _VALUE + _ETHERNET + offset, R7, offset)
    p.store(4, R10, _VALUE + 60, 0)
    for change, old, new, size in ((_PORTS_CHANGE, 8, _NEW_PORTS, 4), (_TCP_CHANGE, 0, _NEW_SOURCE, 8)):
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
    p.do(R0, "+", _MINUS_ONE)
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
