"""Pins in bulk: counted, saved and put back. Blocking, for a thread; nothing is held longer than the call.

Saved pins are: b"CAP1", then for IPv4 and for IPv6 the number of pins (u32), the clients' addresses (4 or 16 bytes
each, network order), the member ids (u16 each) and the seconds left (u32 each); all numbers little-endian.
"""

import errno
import io
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from casarray.adapters.kernel import elements, readback
from casarray.adapters.kernel.nfnetlink import NLM_F_CREATE, Channel, Interrupted, Kind, Message, Refused, nest, text
from casarray.core.errors import WireError
from casarray.core.forwarding import nft
from casarray.core.forwarding.table import Address, Group

Living = Mapping[int, Collection[Address]]
"""Member -> the clients (or prefixes) that have connections to it."""

_MAGIC = b"CAP1"
_KEY_BYTES = {4: 4, 6: 16}
_WORTH_COUNTING = 100_000


def counted(channel: Channel, table: str, groups: Iterable[str]) -> dict[str, int]:
    """How many pins each group has, those that ran out moments ago included.

    A kernel that does not keep count (before 6.17 or so) has to walk its maps; a group with more pins than that is
    worth is left out.
    """
    known = readback.counts(channel, table)
    found = {}
    for group in groups:
        maps = [nft.pin_map(group, version) for version in _KEY_BYTES]
        if known is not None:
            found[group] = sum(known.get(map_, 0) for map_ in maps)
            continue
        number = 0
        for answer in (a for map_ in maps for a in _leniently(channel, table, map_)):
            number += elements.count(answer)
            if number > _WORTH_COUNTING:
                break
        else:
            found[group] = number
    return found


def saved(channel: Channel, table: str, group: str) -> bytes:
    """All pins of a group, 10 bytes a pin for IPv4; empty if there are none.

    The kernel lists a map in pieces and counts its way to each from the start, so this takes 40 s for 1,000,000 pins
    (0.4 s for 100,000), all of it in the kernel, holding up nobody.
    """
    data = io.BytesIO()  # it gives away what it holds without copying it, and a million pins are 10 MB
    data.write(_MAGIC)
    for version, size in _KEY_BYTES.items():
        start, members, seconds = data.tell(), bytearray(), bytearray()
        data.write(bytes(4))
        for answer in _leniently(channel, table, nft.pin_map(group, version)):
            found = elements.columns(answer, size)
            data.write(found.keys.tobytes())
            members += found.values.astype("<u2").tobytes()
            seconds += (found.expires_ms // 1000 + 1).astype("<u4").tobytes()
        struct.pack_into("<I", data.getbuffer(), start, len(members) // 2)
        data.write(members)
        data.write(seconds)
    return data.getvalue() if data.tell() > len(_MAGIC) + 8 else b""


def held(data: bytes) -> int:
    """How many pins there are in what `saved` gave."""
    number, at = 0, len(_MAGIC)
    for size in _KEY_BYTES.values() if data else ():
        (here,) = struct.unpack_from("<I", data, at)
        number += here
        at += 4 + here * (size + 6)
    return number


def restored(channel: Channel, table: str, group: str, data: bytes) -> int:
    """Put saved pins back, a piece at a time, and how many. A client that is pinned by now keeps that pin.

    `WireError` for bytes that `saved` did not write; `Refused` if the map is full.
    """
    if not data:
        return 0
    if data[:4] != _MAGIC:
        raise WireError("pins", "these are not saved pins")
    at, put = 4, 0
    for version, size in _KEY_BYTES.items():
        if at + 4 > len(data):
            raise WireError("pins", "the saved pins are cut off")
        (number,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + number * (size + 6) > len(data):
            raise WireError("pins", "the saved pins are cut off")
        keys = np.frombuffer(data, np.uint8, number * size, at).reshape(-1, size)
        at += number * size
        members = np.frombuffer(data, "<u2", number, at)
        at += number * 2
        seconds = np.frombuffer(data, "<u4", number, at)
        at += number * 4
        for start in range(0, number, elements.ELEMENTS_AT_ONCE):
            piece = slice(start, start + elements.ELEMENTS_AT_ONCE)
            rows = elements.rows(keys[piece], members[piece].astype(np.uint32), seconds[piece])
            put += _put(channel, table, nft.pin_map(group, version), rows, len(rows) // len(keys[piece]))
    return put


def _put(channel: Channel, table: str, map_: str, rows: bytes, stride: int) -> int:
    """Add these pins; where one is refused because the client is pinned, the halves, down to that one."""
    body = text(1, table) + text(2, map_) + nest(3, rows)
    try:
        channel.commit(Message(Kind.NEWSETELEM, body, NLM_F_CREATE))
    except Refused as refusal:
        if refusal.number not in {errno.EEXIST, errno.EBUSY}:
            raise
        number = len(rows) // stride
        if number == 1:
            return 0
        middle = number // 2 * stride
        first = _put(channel, table, map_, rows[:middle], stride)
        return first + _put(channel, table, map_, rows[middle:], stride)
    return len(rows) // stride


def _leniently(channel: Channel, table: str, map_: str) -> Iterator[bytes]:
    """A dump of a map that changes all the time: a pin made meanwhile may be in it or not."""
    try:
        yield from channel.dump(elements.every(table, map_))
    except Interrupted:
        return
    except Refused as refusal:
        if refusal.number != errno.ENOENT:
            raise


def of_connections(channel: Channel, table: str, group: Group, living: Living) -> int:
    """Pin clients to the members they have connections with, unless they are pinned; how many.

    For a group whose pins somebody flushed: the connections are still known.
    """
    put = 0
    for version, size in _KEY_BYTES.items():
        for member, clients in living.items():
            packed = [client.packed for client in clients if client.version == version]
            for piece in elements.pieces(packed):
                keys = np.frombuffer(b"".join(piece), np.uint8).reshape(-1, size)
                members = np.full(len(piece), member, np.uint32)
                rows = elements.rows(keys, members, np.full(len(piece), group.affinity_seconds, np.uint32))
                put += _put(channel, table, nft.pin_map(group.name, version), rows, len(rows) // len(piece))
    return put


def renewed(channel: Channel, table: str, group: Group, living: Living, before_seconds: int) -> int:
    """Renew the pins of clients to members they have connections with, if they run out that soon; how many."""
    number = 0
    for member, clients in living.items():
        for client in clients:
            map_ = nft.pin_map(group.name, client.version)
            pin = elements.look_up(channel, table, map_, client.packed)
            if pin is not None and pin.value == member and (pin.expires_ms or 0) < before_seconds * 1000:
                elements.put(channel, table, [elements.Wanted(map_, client.packed, member, group.affinity_seconds)])
                number += 1
    return number
