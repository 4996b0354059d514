"""The kernel's connection table, read and flushed by mark over ctnetlink.

A few messages on a plain socket: the general netlink libraries parse every attribute of every entry, and are ten times
slower than the `conntrack` program. Here the kernel selects by mark, and only what is asked for is unpacked.

Every call opens a socket of its own, so any thread may call at any time, in the network namespace of that thread. A
dump arrives in pieces of at most 32 KiB, between which other threads run; nothing else is held. All calls block: from
a coroutine, use `asyncio.to_thread`.

Of a flush, the kernel (`net/netfilter/nf_conntrack_netlink.c`, ctnetlink_flush_conntrack) looks at both IP versions
as long as the message's version byte is 0, and at every zone as long as no CTA_ZONE is given. Nothing more is needed.
"""

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from casarray.core.errors import Denied, Unavailable
from casarray.core.forwarding.table import Address

_NETLINK_NETFILTER = 12
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_NFGEN = struct.Struct("=BBH")  # nfgenmsg: family, version, resource
_BODY = _HEADER.size + _NFGEN.size
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length with header, type
_TYPE_BITS = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP_INTERRUPTED, _DUMP = 0x001, 0x004, 0x010, 0x300

_CT_NEW, _CT_GET, _CT_DELETE = 0x100, 0x101, 0x102  # subsystem 1, messages 0 to 2
_CTA_ORIGINAL, _CTA_REPLY, _CTA_PROTOINFO, _CTA_TIMEOUT, _CTA_MARK, _CTA_MARK_MASK = 1, 2, 4, 7, 8, 21
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP4_SOURCE, _IP4_DESTINATION, _IP6_SOURCE, _IP6_DESTINATION = 1, 2, 3, 4
_PROTO_NUMBER, _PROTO_SOURCE, _PROTO_DESTINATION = 1, 2, 3
_NESTED = 0x8000

_ESTABLISHED = 3  # enum tcp_conntrack
_TIME_WAIT = 7  # from here on there is nothing left to end
# After a reset that is not just where the kernel awaits it, as on the fast path, it keeps the state for so long.
_RESET_SECONDS = 10

_RECEIVE_BYTES = 65536  # the kernel fills at most 32 KiB a datagram
_TIMEOUT_SECONDS = 5.0
_ATTEMPTS = 5

Half = bytes
"""One side of a connection as bytes in network order: source address, destination address, source port, destination
port; 12 bytes for IPv4, 36 for IPv6. Compact, since a dead member may have had hundreds of thousands."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection through the array, as the connection table has it."""

    client: Address
    client_port: int
    array_address: Address
    array_port: int
    member_address: Address
    member_port: int


class _Interrupted(Exception):
    """The table changed its shape while it was dumped: entries may be missing."""


class Conntrack:
    """The connection table of this network namespace. Marks are compared within a mask; 0 is nobody's mark.

    Raises `Denied` without CAP_NET_ADMIN and `Unavailable` when the kernel does not answer.
    """

    def flush(self, mark: int, mask: int) -> None:
        """Forget every connection whose mark is ``mark`` within ``mask``, IPv4 and IPv6, in one kernel call."""
        with _open() as link:
            _send(link, _message(_CT_DELETE, _REQUEST | _ACK, _by_mark(mark, mask)))
            for _ in _answers(link):
                pass

    def connections(self, mark: int, mask: int) -> Iterator[Connection]:
        """The living TCP connections with that mark. One may come twice if the table is resized meanwhile."""
        for client, member in self.halves(mark, mask):
            yield _connection(client, member)

    def halves(self, mark: int, mask: int) -> Iterator[tuple[Half, Half]]:
        """The same as the client sends and as the member answers, unparsed."""
        for entry, start, end in _dump(_by_mark(mark, mask)):
            found = _find(entry, start, end)
            if _is_alive(entry, found):
                original, reply = found.get(_CTA_ORIGINAL), found.get(_CTA_REPLY)
                if original and reply and (client := _half(entry, *original)) and (member := _half(entry, *reply)):
                    yield client, member

    def count_by_mark(self, mask: int) -> Counter[int]:
        """How many living TCP connections there are of each mark within ``mask``, unmarked ones left out."""
        for _ in range(_ATTEMPTS):
            counted: Counter[int] = Counter()
            try:
                for entry, start, end in _dump(b"", attempts=1):
                    found = _find(entry, start, end)
                    if (at := found.get(_CTA_MARK)) and _is_alive(entry, found):
                        counted[int.from_bytes(entry[at[0] : at[0] + 4], "big") & mask] += 1
            except _Interrupted:
                continue
            del counted[0]
            return counted
        raise Unavailable("the connection table changed its shape at every attempt to count it; try again")

    def known(self, halves: list[Half]) -> list[bool]:
        """For each of these: does the table hold a connection that begins or answers like this?"""
        answer: list[bool] = []
        with _open() as link:
            for first in range(0, len(halves), 64):  # so many answers surely fit into the receive buffer
                some = halves[first : first + 64]
                _send(link, b"".join(_message(_CT_GET, _REQUEST | _ACK, *_ask(half)) for half in some))
                answer += [_one_answer(link) for _ in some]
        return answer


def _by_mark(mark: int, mask: int) -> bytes:
    # Mask 0 would select everything, mark 0 the connections of everybody but us.
    if not mark & mask or mark & ~mask:
        raise ValueError(f"mark {mark:#x} must be within mask {mask:#x}, and not 0")
    return _attribute(_CTA_MARK, mark.to_bytes(4, "big")) + _attribute(_CTA_MARK_MASK, mask.to_bytes(4, "big"))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, attributes: bytes, family: int = socket.AF_UNSPEC) -> bytes:
    return _HEADER.pack(_BODY + len(attributes), kind, flags, 1, 0) + _NFGEN.pack(family, 0, 0) + attributes


def _ask(half: Half) -> tuple[bytes, int]:
    """The attributes and the family that name one connection."""
    size, first, second, family = (
        (4, _IP4_SOURCE, _IP4_DESTINATION, socket.AF_INET)
        if len(half) == 12
        else (16, _IP6_SOURCE, _IP6_DESTINATION, socket.AF_INET6)
    )
    ip = _attribute(first, half[:size]) + _attribute(second, half[size : 2 * size])
    ports = _attribute(_PROTO_SOURCE, half[-4:-2]) + _attribute(_PROTO_DESTINATION, half[-2:])
    proto = _attribute(_PROTO_NUMBER, bytes([socket.IPPROTO_TCP])) + ports
    inside = _attribute(_TUPLE_IP | _NESTED, ip) + _attribute(_TUPLE_PROTO | _NESTED, proto)
    return _attribute(_CTA_ORIGINAL | _NESTED, inside), family


def _open() -> socket.socket:
    try:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        link.settimeout(_TIMEOUT_SECONDS)
        link.bind((0, 0))
    except OSError as error:
        raise _translated(error) from error
    return link


def _send(link: socket.socket, message: bytes) -> None:
    try:
        link.send(message)
    except OSError as error:
        raise _translated(error) from error


def _receive(link: socket.socket) -> bytes:
    try:
        return link.recv(_RECEIVE_BYTES)
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> Denied | Unavailable:
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Denied("reading the connection table needs CAP_NET_ADMIN: run as root or give casarray the capability")
    return Unavailable(f"the kernel's connection table cannot be reached: {error}")


def _answers(link: socket.socket) -> Iterator[tuple[bytes, int, int]]:
    """Each entry that comes back, as datagram and the bounds of its attributes, until the kernel says it is done."""
    interrupted = False
    while True:
        data = _receive(link)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
            interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
            if kind in {_NLMSG_DONE, _NLMSG_ERROR}:
                _raise_for(data, at)
                if interrupted:
                    raise _Interrupted
                return
            if length < _BODY:
                raise Unavailable("the kernel sent a netlink message that is too short")
            if kind == _CT_NEW:
                yield data, at + _BODY, at + length
            at += length + 3 & ~3


def _raise_for(data: bytes, at: int) -> None:
    """Both NLMSG_ERROR and NLMSG_DONE begin with a negative errno, or 0."""
    (code,) = struct.unpack_from("=i", data, at + _HEADER.size)
    if code:
        raise _translated(OSError(-code, os.strerror(-code)))


def _one_answer(link: socket.socket) -> bool:
    """The answer to one CT_GET: an entry and an acknowledgement, or "no such entry"."""
    found = False
    while True:
        data = _receive(link)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", data, at + _HEADER.size)
                if code not in {0, -errno.ENOENT}:
                    _raise_for(data, at)
                return found
            found = True
            at += max(length + 3 & ~3, _HEADER.size)


def _dump(selection: bytes, attempts: int = _ATTEMPTS) -> Iterator[tuple[bytes, int, int]]:
    for left in reversed(range(attempts)):
        with _open() as link:
            _send(link, _message(_CT_GET, _REQUEST | _DUMP, selection))
            try:
                yield from _answers(link)
            except _Interrupted:
                if attempts == 1:
                    raise
                if not left:
                    raise Unavailable("the connection table changed its shape at every attempt to list it") from None
                continue
        return


def _find(data: bytes, at: int, end: int) -> dict[int, tuple[int, int]]:
    """Where each attribute's value begins and ends."""
    found: dict[int, tuple[int, int]] = {}
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        found[kind & _TYPE_BITS] = (at + 4, at + length)
        at += length + 3 & ~3
    return found


def _is_alive(data: bytes, found: dict[int, tuple[int, int]]) -> bool:
    """A TCP connection that has not ended; CTA_PROTOINFO holds CTA_PROTOINFO_TCP holds the state, each the first."""
    protocol, timeout = found.get(_CTA_PROTOINFO), found.get(_CTA_TIMEOUT)
    if protocol is None or protocol[1] - protocol[0] < 9:
        return False
    state = data[protocol[0] + 8]
    if state == _ESTABLISHED and timeout and int.from_bytes(data[timeout[0] : timeout[1]], "big") <= _RESET_SECONDS:
        return False
    return 0 < state < _TIME_WAIT


def _half(data: bytes, at: int, end: int) -> Half | None:
    """A CTA_TUPLE as a `Half`; None if it is not TCP over IP."""
    parts = _find(data, at, end)
    if _TUPLE_IP not in parts or _TUPLE_PROTO not in parts:
        return None
    ip, proto = _find(data, *parts[_TUPLE_IP]), _find(data, *parts[_TUPLE_PROTO])
    source, destination = (
        ip.get(_IP4_SOURCE) or ip.get(_IP6_SOURCE),
        ip.get(_IP4_DESTINATION) or ip.get(_IP6_DESTINATION),
    )
    from_port, to_port = proto.get(_PROTO_SOURCE), proto.get(_PROTO_DESTINATION)
    if not (source and destination and from_port and to_port):
        return None
    half = b"".join(data[slice(*part)] for part in (source, destination, from_port, to_port))
    return half if len(half) in {12, 36} else None


def _connection(client: Half, member: Half) -> Connection:
    from_client, to_array, client_port, array_port = endpoints(client)
    from_member, _, member_port, _ = endpoints(member)
    return Connection(from_client, client_port, to_array, array_port, from_member, member_port)


def endpoints(half: Half) -> tuple[Address, Address, int, int]:
    """Source, destination and their ports."""
    ports = int.from_bytes(half[-4:-2], "big"), int.from_bytes(half[-2:], "big")
    if len(half) == 12:
        return IPv4Address(half[:4]), IPv4Address(half[4:8]), *ports
    return IPv6Address(half[:16]), IPv6Address(half[16:32]), *ports
