"""TCP segments in Ethernet frames, and what the fast path's maps say of them: written anew from the RFCs.

Nothing of it is computed as the programs compute it: every checksum is a sum over the whole packet.
"""

import struct
import time
from dataclasses import dataclass, replace
from ipaddress import ip_address

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
WHOLE = 0x4000  # "don't fragment"


def internet_sum(octets: bytes) -> int:
    """[RFC 1071]: the complement of the sum of 16-bit words with the carries added back."""
    total = 0
    for at in range(0, len(octets), 2):
        total += int.from_bytes(octets[at : at + 2].ljust(2, b"\0"), "big")
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment over the IP version of its addresses, as it lies in a frame."""

    source: str = "10.91.0.2"
    source_port: int = 40000
    target: str = "10.91.0.100"
    target_port: int = 5000
    mac_to: bytes = bytes.fromhex("02aa00000001")
    mac_from: bytes = bytes.fromhex("02aa00000002")
    sequence: int = 0x11223344
    acknowledged: int = 0x55667788
    flags: int = ACK
    ttl: int = 64
    service: int = 0
    identification: int = 0x0102
    fragment: int = WHOLE
    ip_options: bytes = b""  # of IPv4
    extensions: tuple[int, bytes] = (6, b"")  # of IPv6: the first one's type, and all of them
    tcp_options: bytes = b""
    payload: bytes = b"hello"

    @property
    def addresses(self) -> bytes:
        return ip_address(self.source).packed + ip_address(self.target).packed

    @property
    def version(self) -> int:
        return ip_address(self.source).version

    @property
    def ports(self) -> bytes:
        return struct.pack("!HH", self.source_port, self.target_port)

    @property
    def ethernet(self) -> bytes:
        return self.mac_to + self.mac_from + (b"\x08\x00" if self.version == 4 else b"\x86\xdd")

    @property
    def frame(self) -> bytes:
        offset = (20 + len(self.tcp_options)) // 4 << 4
        words = struct.pack("!IIBBHHH", self.sequence, self.acknowledged, offset, self.flags, 0xFFFF, 0, 0)
        tcp = self.ports + words + self.tcp_options + self.payload
        pseudo = self.addresses + struct.pack("!II", len(tcp), 6)
        tcp = tcp[:16] + struct.pack("!H", internet_sum(pseudo + tcp)) + tcp[18:]
        return self.ethernet + (self._header4(tcp) if self.version == 4 else self._header6(tcp)) + tcp

    def _header4(self, tcp: bytes) -> bytes:
        size = 20 + len(self.ip_options)
        first = (
            0x40 | size // 4, self.service, size + len(tcp), self.identification, self.fragment, self.ttl, 6, 0,
        )  # fmt: skip
        ip = struct.pack("!BBHHHBBH", *first) + self.addresses + self.ip_options
        return ip[:10] + struct.pack("!H", internet_sum(ip)) + ip[12:]

    def _header6(self, tcp: bytes) -> bytes:
        """What identifies IPv4's fragments is the flow's label here."""
        first = 6 << 28 | self.service << 20 | self.identification
        kind, extensions = self.extensions
        return struct.pack("!IHBB", first, len(extensions) + len(tcp), kind, self.ttl) + self.addresses + extensions

    def key(self, interface: int) -> bytes:
        """That of its flow, when it comes in by this interface."""
        return self.addresses + self.ports + struct.pack("=I", interface)

    def note(self, interface: int, epoch: int) -> bytes:
        """What is noted of it when it comes in."""
        return self.key(interface) + struct.pack("!II", self.sequence, self.acknowledged) + struct.pack("=I", epoch)

    def answer(self) -> "Segment":
        """One that goes the other way, between the same ends."""
        return replace(
            self, source=self.target, source_port=self.target_port, target=self.source, target_port=self.source_port,
            mac_to=self.mac_from, mac_from=self.mac_to, sequence=self.acknowledged, acknowledged=self.sequence,
        )  # fmt: skip


def mended(frame: bytes) -> bytes:
    """With right checksums, whatever else is in these octets where a plain segment over IPv4 has its fields."""
    ip = frame[14:24] + b"\0\0" + frame[26:34]
    return _tcp_mended(frame[:14] + ip[:10] + struct.pack("!H", internet_sum(ip)) + ip[12:] + frame[34:], 34, 4)


def mended6(frame: bytes) -> bytes:
    """The same of one over IPv6."""
    return _tcp_mended(frame, 54, 16)


def _tcp_mended(frame: bytes, at: int, address: int) -> bytes:
    tcp = frame[at : at + 16] + b"\0\0" + frame[at + 18 :]
    pseudo = frame[at - 2 * address : at] + struct.pack("!II", len(tcp), 6)
    return frame[:at] + tcp[:16] + struct.pack("!H", internet_sum(pseudo + tcp)) + tcp[18:]


def ahead(seconds: float) -> int:
    """On the clock that the programs read."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(seconds * 1e9)


def becomes(
    before: Segment, after: Segment, out: int, *, epoch: int = 1, mtu: int = 1500, until: int | None = None
) -> bytes:
    """A flow's entry: packets like ``before`` leave by ``out``, with addresses, ports and MACs of ``after``."""
    addresses = difference(before.addresses, after.addresses)
    one = b"\1\0" if before.version == 4 else b"\0\1"  # a TTL stands at an even place, a hop limit at an odd one
    header = difference(before.addresses + one, after.addresses + b"\0\0")
    new4, new6 = (after.addresses, b"") if after.version == 4 else (bytes(8), after.addresses)
    return struct.pack(
        "<IIQ 8s4s III IH 14s4x", epoch, out, ahead(60) if until is None else until, new4, after.ports,
        header, addresses, difference(before.ports, after.ports), mtu, 0, after.ethernet,
    ) + new6  # fmt: skip


def difference(old: bytes, new: bytes) -> int:
    """What a one's complement sum grows by, as a little-endian machine adds."""
    total = 0
    for before, after in zip(struct.iter_unpack("<H", old), struct.iter_unpack("<H", new), strict=True):
        total += after[0] + (before[0] ^ 0xFFFF)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
