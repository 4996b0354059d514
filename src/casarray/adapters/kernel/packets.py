"""Packets that the gateway makes itself, byte for byte: bare SYNs, and announcements of its addresses."""

import socket
import struct
from ipaddress import IPv4Address

from casarray.adapters.kernel.conntrack import Half

_SYN = 0x02
_HOP_LIMIT = 64
_ARPHRD_ETHER = 1
_BROADCAST = b"\xff" * 6
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_ALL_NODES_MAC = bytes.fromhex("333300000001")


def checksum(data: bytes) -> int:
    """The Internet checksum, [RFC 1071]: the ones' complement of the ones' complement sum of 16-bit words."""
    if len(data) % 2:
        data += b"\0"
    # Folding a number in base 65536 by its digits is the remainder modulo 65535, save that 0 may stand for 65535.
    total = int.from_bytes(data, "big")
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def bare_syn(half: Half, sequence: int = 0) -> bytes:
    """The IP packet with which the receiving end of ``half`` would open a connection to its sending end.

    The IPv4 header's own checksum and identification are left 0: the kernel fills them in ([raw(7)], IP_HDRINCL).
    """
    size = (len(half) - 4) // 2
    source, destination = half[size : 2 * size], half[:size]
    from_port, to_port = half[-2:], half[-4:-2]
    before = from_port + to_port + struct.pack("!IIBBH", sequence, 0, 5 << 4, _SYN, 65535)
    # The pseudo headers of [RFC 9293] 3.1 and [RFC 8200] 8.1 have the same sum: addresses, length, protocol.
    pseudo = source + destination + struct.pack("!II", 20, socket.IPPROTO_TCP)
    segment = before + struct.pack("!HH", checksum(pseudo + before), 0)
    if size == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, _HOP_LIMIT, socket.IPPROTO_TCP, 0)
    else:
        header = struct.pack("!IHBB", 6 << 28, 20, socket.IPPROTO_TCP, _HOP_LIMIT)
    return header + source + destination + segment


def arp_announcement(address: IPv4Address, mac: bytes, operation: int) -> bytes:
    """An Ethernet frame: gratuitous ARP as a request (1) or as a reply (2); some neighbours heed only one of them."""
    packed = address.packed
    header = struct.pack("!HHBBH", _ARPHRD_ETHER, 0x0800, 6, 4, operation)
    return _BROADCAST + mac + b"\x08\x06" + header + mac + packed + _BROADCAST + packed


def neighbour_advertisement(address: bytes, mac: bytes, *, router: bool) -> bytes:
    """An Ethernet frame: unsolicited neighbour advertisement to all nodes, [RFC 4861] 4.4 and 7.2.6."""
    flags = 0x20000000 | (0x80000000 if router else 0)  # override what is cached
    option = b"\x02\x01" + mac  # target link-layer address
    body = struct.pack("!I", flags) + address + option
    pseudo = address + _ALL_NODES + struct.pack("!II", len(body) + 4, socket.IPPROTO_ICMPV6)
    message = struct.pack("!BBH", 136, 0, checksum(pseudo + b"\x88\0\0\0" + body)) + body
    # Hop limit 255: receivers drop a lower one, as it may have come from beyond the link.
    header = struct.pack("!IHBB", 6 << 28, len(message), socket.IPPROTO_ICMPV6, 255)
    return _ALL_NODES_MAC + mac + b"\x86\xdd" + header + address + _ALL_NODES + message
