"""A small codec for nf_tables over netlink: only what is on a hot path, or is read back.

The kernel works through a netlink message before `send` returns, and continues a dump inside `recv`. So an answer is
there or will never come: nothing here waits, and a call takes what the kernel takes. It may block inside the kernel
while another process commits a big transaction.

Numbers in attributes are big-endian; what the rules compare is as in a register: addresses and ports big-endian, a
classid in the host's order, each field of a concatenated key padded to 4 bytes. Names and numbers are those of
linux/netfilter/nf_tables.h, nfnetlink.h and netlink.h.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from casarray.core.errors import CasarrayError, Denied, Unavailable

NFPROTO_INET = 1
NFNLGRP_NFTABLES = 7
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x001, 0x004, 0x010, 0x300
NLM_F_CREATE = 0x400
NLA_F_NESTED = 0x8000

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_SO_ATTACH_FILTER, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 26, 32, 33
_SUBSYSTEM = 10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_F_ACK_TLVS, _F_CAPPED = 0x200, 0x100
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
_BODY = _HEADER.size + 4  # nfgenmsg: family, version, resource id
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER_BYTES = 4 << 20


class Kind(IntEnum):
    """nf_tables messages."""

    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    GETCHAIN = 4
    GETRULE = 7
    GETSET = 10
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14
    GETOBJ = 19


class Refused(Unavailable):
    """The kernel said no; ``number`` is the errno."""

    def __init__(self, number: int, detail: str = "") -> None:
        """``detail`` is what the kernel says besides the number, often nothing."""
        super().__init__(f"the kernel refused a change of its table: {detail or os.strerror(number)}")
        self.number = number


class Interrupted(Exception):
    """The tables changed while they were dumped: something may be missing. Try again."""


@dataclass(frozen=True, slots=True)
class Message:
    """One nf_tables request: its attributes, and what is asked beside NLM_F_REQUEST."""

    kind: Kind
    body: bytes
    flags: int = 0


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a name."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each attribute, in order. Whatever does not fit ends it."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3


def string(value: bytes) -> str:
    """The name in an attribute."""
    return value.rstrip(b"\0").decode(errors="replace")


def translated(error: OSError) -> CasarrayError:
    """What it means to the administrator."""
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Denied(
            "changing the kernel's forwarding table needs CAP_NET_ADMIN: run as root, give casarray the capability, "
            'or set mode = "userspace"'
        )
    if error.errno in {errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL}:
        return Unavailable(f'this kernel has no nf_tables ({error}): set mode = "userspace"')
    return Unavailable(f"the kernel's forwarding table cannot be reached: {error}")


class Channel:
    """A netlink socket of our own to nf_tables, for one thread at a time, in the network namespace of its maker."""

    def __init__(self) -> None:
        """`Denied` or `Unavailable` if there is none to be had."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            self._socket.setblocking(False)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.bind((0, 0))
        except OSError as error:
            raise translated(error) from error
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            except OSError:  # without CAP_NET_ADMIN: then the first change will say so
                break
        self.port_id: int = self._socket.getsockname()[0]
        self._sequence = 0

    def close(self) -> None:
        """Nothing to finish: what was sent was done."""
        self._socket.close()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def commit(self, *messages: Message) -> None:
        """Perform all of the messages as one transaction, or none. Raises the first refusal."""
        first = self._sequence + 1
        parts = [self._edge(_BATCH_BEGIN)]
        for number, message in enumerate(messages, 1):
            flags = message.flags | (NLM_F_ACK if number == len(messages) else 0)
            parts.append(self._request(message, flags))
        parts.append(self._edge(_BATCH_END))
        self._send(b"".join(parts))
        done = False
        refusal: tuple[int, CasarrayError] | None = None
        for kind, sequence, data, at in self._received():
            if kind != _NLMSG_ERROR or sequence < first:
                continue
            failure = _failure(data, at)
            if failure is None:
                done = True
            elif refusal is None or sequence < refusal[0]:
                refusal = sequence, failure
        if refusal:
            raise refusal[1]
        if not done:
            raise Unavailable("the kernel did not say what became of a change of its table")

    def get(self, message: Message) -> list[bytes]:
        """The attributes of each message that answers a question which is not a dump."""
        self._send(self._request(message, 0))
        found: list[bytes] = []
        for kind, sequence, data, at in self._received():
            if sequence != self._sequence:
                continue
            if kind == _NLMSG_ERROR:
                if failure := _failure(data, at):
                    raise failure
            else:
                found.append(_attributes_at(data, at))
        return found

    def dump(self, message: Message) -> Iterator[bytes]:
        """The attributes of each thing there is. `Interrupted` at the end if something changed meanwhile."""
        self._send(self._request(message, NLM_F_DUMP))
        interrupted = False
        for kind, sequence, data, at in self._received():
            if sequence != self._sequence:
                continue
            interrupted |= bool(_HEADER.unpack_from(data, at)[2] & NLM_F_DUMP_INTR)
            if kind in {_NLMSG_ERROR, _NLMSG_DONE}:
                if failure := _failure(data, at):
                    raise failure
                if interrupted:
                    raise Interrupted
                return
            yield _attributes_at(data, at)
        raise Unavailable("the kernel broke off the list of its table")

    def _edge(self, kind: int) -> bytes:
        """Where a transaction begins or ends."""
        self._sequence += 1
        return _HEADER.pack(_BODY, kind, NLM_F_REQUEST, self._sequence, 0) + struct.pack("!BBH", 0, 0, _SUBSYSTEM)

    def _request(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        header = _HEADER.pack(
            _BODY + len(message.body),
            _SUBSYSTEM << 8 | message.kind,
            NLM_F_REQUEST | message.flags | flags,
            self._sequence,
            0,
        )
        return header + struct.pack("!BBH", NFPROTO_INET, 0, 0) + message.body

    def _send(self, data: bytes) -> None:
        # Whatever an earlier call left unread would be taken for the answer to this one.
        for _ in self._received():
            pass
        try:
            self._socket.send(data)
        except OSError as error:
            raise translated(error) from error

    def _received(self) -> Iterator[tuple[int, int, bytes, int]]:
        """Kind, sequence, datagram and offset of each message that is there."""
        while True:
            try:
                data = self._socket.recv(1 << 17)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue  # something was lost; whoever misses it says so
                raise translated(error) from error
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                if length < _HEADER.size or at + length > len(data):
                    break
                yield kind, sequence, data, at
                at += length + 3 & ~3


def _attributes_at(data: bytes, at: int) -> bytes:
    (length,) = struct.unpack_from("=I", data, at)
    return data[at + _BODY : at + length]


def _failure(data: bytes, at: int) -> CasarrayError | None:
    """What an NLMSG_ERROR or NLMSG_DONE says: both begin with a negative errno, or 0."""
    length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
    if length < _HEADER.size + 4:
        return None
    (code,) = struct.unpack_from("=i", data, at + _HEADER.size)
    if not code:
        return None
    detail = ""
    if kind == _NLMSG_ERROR and flags & _F_ACK_TLVS:
        (inner,) = struct.unpack_from("=I", data, at + _HEADER.size + 4)
        start = at + _HEADER.size + 4 + (_HEADER.size if flags & _F_CAPPED else inner + 3 & ~3)
        detail = next((string(value) for number, value in attributes(data[start : at + length]) if number == 1), "")
    if -code in {errno.EPERM, errno.EACCES}:
        return translated(OSError(-code, os.strerror(-code)))
    return Refused(-code, detail)


class Watch:
    """Wakes when somebody else changes the table: the kernel's announcements, without those of our own doing."""

    def __init__(self, ours: Sequence[int]) -> None:
        """``ours``: the port ids whose changes are not news; the kernel drops their announcements unseen."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            self._socket.setblocking(False)
            self.ignore(ours)
            self._socket.bind((0, 1 << NFNLGRP_NFTABLES - 1))
        except OSError as error:
            raise translated(error) from error

    def close(self) -> None:
        """No more news."""
        self._socket.close()

    def fileno(self) -> int:
        """For the event loop to wait on."""
        return self._socket.fileno()

    def ignore(self, ours: Sequence[int]) -> None:
        """From now on these port ids are ours."""
        # Classic BPF. It loads in network order what the kernel wrote in the host's.
        swapped = [int.from_bytes(struct.pack("=I", port), "big") for port in ours]
        program = [_bpf(0x20, 12)]  # the sender's port id, in the header of the first message
        program += [_bpf(0x15, port, hit=len(ours) - number) for number, port in enumerate(swapped)]
        program += [_bpf(0x06, 0xFFFFFFFF), _bpf(0x06, 0)]  # take it whole; drop it
        code = ctypes.create_string_buffer(b"".join(program))
        filter_ = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)

    def news(self, table: str) -> bool:
        """Read what was announced: was this table concerned, or may it have been?"""
        concerned = False
        while True:
            try:
                data = self._socket.recv(1 << 17)
            except BlockingIOError:
                return concerned
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise translated(error) from error
                concerned = True
                continue
            at = 0
            while at + _BODY <= len(data):
                (length,) = struct.unpack_from("=I", data, at)
                if length < _BODY:
                    break
                # The first attribute of every nf_tables message but NEWGEN is the name of the table.
                name = next(attributes(data[at + _BODY : at + length]), (0, b""))
                concerned |= name[0] == 1 and string(name[1]) == table
                at += length + 3 & ~3


def _bpf(code: int, value: int, hit: int = 0) -> bytes:
    return struct.pack("=HBBI", code, hit, 0, value)
