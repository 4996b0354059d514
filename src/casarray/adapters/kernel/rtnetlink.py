"""A small codec for rtnetlink: the links, addresses, routes and traffic filters of this network namespace.

A library for it (pyroute2) knows far more, and took a fifth of a gateway's start to load and a fifth of its memory.

The kernel works through a request before `send` returns and continues a list inside `recv`, so nothing here waits.
Numbers are in the host's order, addresses as on the wire. Names are those of linux/rtnetlink.h, if_link.h, if_addr.h
and pkt_cls.h. Whatever the kernel refuses is an `OSError` with its errno.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from casarray.adapters.kernel.nfnetlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    attribute,
    attributes,
    nest,
    string,
    text,
)
from casarray.core.forwarding.table import Address

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # where a filter hangs in `clsact`: TC_H_MIN_INGRESS, TC_H_MIN_EGRESS

_NLM_F_EXCL = 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_GETLINK, _NEWADDR, _DELADDR, _GETADDR, _GETROUTE = 18, 20, 21, 22, 26
_NEWQDISC, _DELQDISC, _NEWTFILTER, _DELTFILTER, _GETTFILTER = 36, 37, 44, 45, 46
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=8BI")  # rtmsg: family, lengths of destination and source, and what is 0 in a question
_TRAFFIC = struct.Struct("=B3xiIII")  # tcmsg: family, index, handle, parent, info
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 3, 4, 10
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 2, 6, 8, 11
_RTA_DST, _RTA_OIF = 1, 4
_TCA_KIND, _TCA_OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS = 6, 7, 8
_BPF_ACT_DIRECT = 1
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_ATTEMPTS = 20
_LARGEST = 1 << 17


@dataclass(frozen=True, slots=True)
class Link:
    """An interface."""

    index: int
    name: str
    kind: int  # ARPHRD_*
    flags: int  # IFF_*
    mtu: int
    master: int  # the index of the bridge or bond that it is part of, or 0


@dataclass(frozen=True, slots=True)
class Held:
    """An address that an interface has."""

    index: int
    address: Address
    prefix: int
    protocol: int  # IFA_PROTO, who put it there; 0: nobody said


@dataclass(frozen=True, slots=True)
class Filter:
    """A traffic filter. ``name`` is that of a BPF program, else empty."""

    kind: str
    name: str
    handle: int


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a traffic filter hangs, and among others there."""

    index: int
    where: int  # INGRESS or EGRESS
    handle: int
    preference: int
    protocol: int  # ETH_P_*; packets of others are not shown to it


class Routes:
    """A socket to rtnetlink, for one thread at a time, in the network namespace of its maker."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def links(self) -> list[Link]:
        """Every interface."""
        return [_link(answer) for answer in self._listed(_GETLINK, _LINK.pack(0, 0, 0, 0, 0))]

    def addresses(self) -> list[Held]:
        """Every address of every interface; on a point-to-point link, that of this end."""
        found = []
        for answer in self._listed(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            _, prefix, _, _, index = _ADDRESS.unpack_from(answer)
            fields = dict(attributes(answer[_ADDRESS.size :]))
            if packed := fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS):
                found.append(Held(index, ip_address(packed), prefix, (fields.get(_IFA_PROTO) or b"\0")[0]))
        return found

    def add_address(
        self, index: int, address: Address, protocol: int, *, flags: int = 0, lifetimes: tuple[int, int] | None = None
    ) -> None:
        """Put it there as a host's. ``lifetimes``: seconds that it is preferred, and valid."""
        more = attribute(_IFA_PROTO, bytes((protocol,)))
        if flags:
            more += attribute(_IFA_FLAGS, struct.pack("=I", flags))
        if lifetimes is not None:
            more += attribute(_IFA_CACHEINFO, struct.pack("=IIII", *lifetimes, 0, 0))
        self._told(_NEWADDR, _host(index, address) + more, NLM_F_CREATE | _NLM_F_EXCL)

    def delete_address(self, index: int, address: Address) -> None:
        """Take a host's address away."""
        self._told(_DELADDR, _host(index, address))

    def way_to(self, address: Address) -> int | None:
        """The index of the interface by which packets to it leave."""
        body = _ROUTE.pack(_family(address), address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
        for answer in self._told(_GETROUTE, body + attribute(_RTA_DST, address.packed)):
            if index := dict(attributes(answer[_ROUTE.size :])).get(_RTA_OIF):
                return int(struct.unpack("=I", index)[0])
        return None

    def add_clsact(self, index: int) -> None:
        """Where filters hang; EEXIST if it is there."""
        body = _TRAFFIC.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + text(_TCA_KIND, "clsact")
        self._told(_NEWQDISC, body, NLM_F_CREATE | _NLM_F_EXCL)

    def delete_clsact(self, index: int) -> None:
        """With all its filters."""
        self._told(_DELQDISC, _TRAFFIC.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + text(_TCA_KIND, "clsact"))

    def filters(self, index: int, where: int) -> list[Filter]:
        """Those that hang there; without `clsact` there are none, or EINVAL."""
        found = []
        for answer in self._listed(_GETTFILTER, _TRAFFIC.pack(0, index, 0, where, 0)):
            _, _, handle, _, _ = _TRAFFIC.unpack_from(answer)
            if not handle:
                continue  # the heading of a list
            fields = dict(attributes(answer[_TRAFFIC.size :]))
            kind = string(fields.get(_TCA_KIND, b""))
            options = dict(attributes(fields.get(_TCA_OPTIONS, b""))) if kind == "bpf" else {}
            found.append(Filter(kind, string(options.get(_BPF_NAME, b"")), handle))
        return found

    def put_program(self, spot: Spot, descriptor: int, name: str) -> None:
        """Have the BPF program decide of packets there, in place of one that is there."""
        options = nest(
            _TCA_OPTIONS,
            attribute(_BPF_FD, struct.pack("=I", descriptor)),
            text(_BPF_NAME, name),
            attribute(_BPF_FLAGS, struct.pack("=I", _BPF_ACT_DIRECT)),
        )
        self._told(_NEWTFILTER, _filter(spot) + options, NLM_F_CREATE)

    def delete_program(self, spot: Spot) -> None:
        """ENOENT if there is none."""
        self._told(_DELTFILTER, _filter(spot))

    def _told(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        return self._asked(kind, NLM_F_ACK | flags, body)

    def _listed(self, kind: int, body: bytes) -> list[bytes]:
        """A list, again while it changes under us."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(InterruptedError):
                return self._asked(kind, NLM_F_DUMP, body)
        return self._asked(kind, NLM_F_DUMP, body)

    def _asked(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """What comes between the question and its end."""
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0) + body)
        found = []
        interrupted = False
        for what, marks, answer in self._received():
            interrupted |= bool(marks & NLM_F_DUMP_INTR)
            if what not in {_NLMSG_ERROR, _NLMSG_DONE}:
                found.append(answer)
                continue
            code = -struct.unpack_from("=i", answer)[0] or (errno.EINTR if interrupted else 0)
            if code:
                raise OSError(code, os.strerror(code))
            break
        return found

    def _received(self) -> Iterator[tuple[int, int, bytes]]:
        """Type, flags and content of each message that answers the last question."""
        while True:
            data = self._socket.recv(_LARGEST)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                if length < _HEADER.size:
                    break
                if sequence == self._sequence:
                    yield kind, flags, data[at + _HEADER.size : at + length]
                at += length + 3 & ~3


def _link(answer: bytes) -> Link:
    _, kind, index, flags, _ = _LINK.unpack_from(answer)
    fields = dict(attributes(answer[_LINK.size :]))
    mtu, master = (struct.unpack("=I", fields.get(n) or bytes(4))[0] for n in (_IFLA_MTU, _IFLA_MASTER))
    return Link(index, string(fields.get(_IFLA_IFNAME, b"")), kind, flags, mtu, master)


def _host(index: int, address: Address) -> bytes:
    head = _ADDRESS.pack(_family(address), address.max_prefixlen, 0, 0, index)
    return head + attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _filter(spot: Spot) -> bytes:
    info = spot.preference << 16 | socket.htons(spot.protocol)
    return _TRAFFIC.pack(0, spot.index, spot.handle, spot.where, info) + text(_TCA_KIND, "bpf")
