"""Elements of nf_tables maps as bytes, and back: one at a time, or a million by columns."""

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from casarray.adapters.kernel.nfnetlink import (
    NLM_F_CREATE,
    Channel,
    Interrupted,
    Kind,
    Message,
    Refused,
    attribute,
    attributes,
    nest,
    string,
    text,
)

#: Elements in one message: the kernel takes 65535 bytes of them. A member's expulsion waits for the change before it:
#: 250 take about 0.3 ms, where 1000 take 1.2 ms and all of them together no less.
ELEMENTS_AT_ONCE = 250

T = TypeVar("T")

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_KEY, _DATA, _TIMEOUT, _EXPIRATION, _USERDATA, _KEY_END = 1, 2, 4, 5, 6, 10
_VALUE, _VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_GOTO = struct.pack("!i", -4)
_UDATA_COMMENT = 0
_ATTEMPTS = 8
_MEANWHILE = {errno.ENOENT, errno.EEXIST, errno.EBUSY}  # a packet or a time-out was faster: look again


@dataclass(frozen=True, slots=True)
class Element:
    """One element as the kernel gives it back."""

    key: bytes
    value: int | None = None
    comment: str = ""
    expires_ms: int | None = None
    key_end: bytes | None = None  # of a range


@dataclass(frozen=True, slots=True)
class Columns:
    """Many elements: keys of shape (n, key bytes), values (n,) uint32, what is left of them (n,) uint64 ms."""

    keys: NDArray[np.uint8]
    values: NDArray[np.uint32]
    expires_ms: NDArray[np.uint64]


def element(
    key: bytes,
    value: int | None = None,
    *,
    chain: str | None = None,
    key_end: bytes | None = None,
    seconds: float | None = None,
    comment: str | None = None,
) -> bytes:
    """One element: maps to a classid, to "goto chain", or (in a set) to nothing."""
    parts = [nest(_KEY, attribute(_VALUE, key))]
    if key_end is not None:
        parts.append(nest(_KEY_END, attribute(_VALUE, key_end)))
    if value is not None:
        parts.append(nest(_DATA, attribute(_VALUE, struct.pack("=I", value))))
    if chain is not None:
        verdict = nest(_VERDICT, attribute(_VERDICT_CODE, _GOTO), text(_VERDICT_CHAIN, chain))
        parts.append(nest(_DATA, verdict))
    if seconds is not None:
        parts.append(attribute(_TIMEOUT, struct.pack("!Q", max(1, round(seconds * 1000)))))
    if comment is not None:
        said = comment.encode() + b"\0"
        parts.append(attribute(_USERDATA, bytes((_UDATA_COMMENT, len(said))) + said))
    return nest(_LIST_ELEM, *parts)


def add(table: str, set_: str, elements: Iterable[bytes]) -> Message:
    """Add these; one that is there already with the same value is no error."""
    return Message(Kind.NEWSETELEM, _listed(table, set_, elements), NLM_F_CREATE)


def delete(table: str, set_: str, elements: Iterable[bytes]) -> Message:
    """Delete these; one that is not there is ENOENT."""
    return Message(Kind.DELSETELEM, _listed(table, set_, elements))


def ask(table: str, set_: str, key: bytes, key_end: bytes | None = None) -> Message:
    """Look one up by its key (or range of keys): the kernel reads no other."""
    return Message(Kind.GETSETELEM, _listed(table, set_, [element(key, key_end=key_end)]))


def every(table: str, set_: str) -> Message:
    """For `Channel.dump`."""
    return Message(Kind.GETSETELEM, text(_LIST_TABLE, table) + text(_LIST_SET, set_))


def classid_key(number: int) -> bytes:
    """A classid as a key: in the host's order, as it is in a register."""
    return struct.pack("=I", number)


def port_key(address: bytes, port: int) -> bytes:
    """Address and port as a concatenated key: every field padded to 4 bytes."""
    return address + struct.pack("!H2x", port)


def decoded(answer: bytes) -> list[Element]:
    """The elements of one answer."""
    return [_decoded(data) for data in _elements(answer)]


def columns(answer: bytes, key_bytes: int) -> Columns:
    """The elements of one answer as columns: without a loop where all elements are of one form, as in our maps."""
    listed = _listing(answer)
    stride = struct.unpack_from("=H", listed)[0] + 3 & ~3 if len(listed) >= 4 else 0
    if stride and len(listed) % stride == 0:
        rows: NDArray[np.uint8] = np.frombuffer(listed, np.uint8).reshape(-1, stride)
        layout = _Layout.of(listed[:stride])
        if layout.fits(rows, key_bytes):
            return layout.read(rows, key_bytes)
    found = [_decoded(data) for data in _elements(answer)]
    found = [e for e in found if len(e.key) == key_bytes and e.value is not None]
    return Columns(
        np.frombuffer(b"".join(e.key for e in found), np.uint8).reshape(-1, key_bytes),
        np.array([e.value for e in found], np.uint32),
        np.array([e.expires_ms or 0 for e in found], np.uint64),
    )


def count(answer: bytes) -> int:
    """How many elements there are in one answer."""
    listed = _listing(answer)
    stride = struct.unpack_from("=H", listed)[0] + 3 & ~3 if len(listed) >= 4 else 0
    if stride and len(listed) % stride == 0:
        lengths = np.frombuffer(listed, "<u2")[:: stride // 2]
        if (lengths == lengths[0]).all():
            return len(lengths)
    return sum(1 for _ in attributes(listed))


def rows(
    keys: NDArray[np.uint8], values: NDArray[np.uint32] | None = None, seconds: NDArray[np.uint32] | None = None
) -> bytes:
    """What `b"".join(element(key, value, seconds=...))` would be, made by columns."""
    pattern = element(bytes(keys.shape[1]), None if values is None else 0, seconds=None if seconds is None else 1)
    layout = _Layout.of(pattern)
    made = np.tile(np.frombuffer(pattern, np.uint8), (len(keys), 1))
    made[:, layout.key : layout.key + keys.shape[1]] = keys
    if values is not None:
        made[:, layout.value : layout.value + 4] = values.astype("=u4").reshape(-1, 1).view(np.uint8)
    if seconds is not None:
        milliseconds = np.maximum(seconds.astype(np.uint64) * 1000, 1)
        made[:, layout.timeout : layout.timeout + 8] = milliseconds.astype(">u8").reshape(-1, 1).view(np.uint8)
    return made.tobytes()


def pieces(elements: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as one message takes."""
    for start in range(0, len(elements), ELEMENTS_AT_ONCE):
        yield elements[start : start + ELEMENTS_AT_ONCE]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An element that is to be there from now on for so long, whatever was there before."""

    map_: str
    key: bytes
    value: int
    seconds: int
    key_end: bytes | None = None


def look_up(channel: Channel, table: str, map_: str, key: bytes, key_end: bytes | None = None) -> Element | None:
    """One element; the kernel looks at no other."""
    try:
        answers = channel.get(ask(table, map_, key, key_end))
    except Refused as refusal:
        if refusal.number == errno.ENOENT:
            return None
        raise
    return next((e for answer in answers for e in decoded(answer)), None)


def put(channel: Channel, table: str, wanted: Sequence[Wanted]) -> None:
    """All of these, or none."""
    for left in reversed(range(_ATTEMPTS)):
        messages = []
        for one in wanted:
            # Not every kernel renews the time-out of an element that is added again, and none changes its value.
            if look_up(channel, table, one.map_, one.key, one.key_end) is not None:
                messages.append(delete(table, one.map_, [element(one.key, key_end=one.key_end)]))
            new = element(one.key, one.value, key_end=one.key_end, seconds=one.seconds)
            messages.append(add(table, one.map_, [new]))
        try:
            channel.commit(*messages)
        except Refused as refusal:
            if refusal.number not in _MEANWHILE or not left:
                raise
        else:
            return


def discard(channel: Channel, table: str, map_: str, element_: bytes) -> None:
    """It is not there afterwards."""
    try:
        channel.commit(delete(table, map_, [element_]))
    except Refused as refusal:
        if refusal.number != errno.ENOENT:
            raise


def discard_ranges(channel: Channel, table: str, map_: str, beginning: bytes) -> None:
    """Delete all ranges whose keys begin like this. Reads the whole map."""
    for _ in range(_ATTEMPTS):
        try:
            found = [e for answer in channel.dump(every(table, map_)) for e in decoded(answer)]
        except Interrupted:
            continue
        for one in found:
            if one.key.startswith(beginning):
                discard(channel, table, map_, element(one.key, key_end=one.key_end))
        return


@dataclass(slots=True)
class _Layout:
    """Where the fields of an element are, and the bytes that must be alike in all elements of that form."""

    headers: list[int]
    key: int = 0
    key_bytes: int = 0
    value: int = 0
    timeout: int = 0
    expires: int = 0

    @classmethod
    def of(cls, one: bytes) -> "_Layout":
        found = cls([0, 1, 2, 3])
        at = 4
        while at + 4 <= len(one):
            length, kind = struct.unpack_from("=HH", one, at)
            kind &= 0x3FFF
            if length < 4:
                break
            found.headers += range(at, at + 4)
            if kind in {_KEY, _DATA} and at + 8 <= len(one):
                found.headers += range(at + 4, at + 8)
                (inner, what) = struct.unpack_from("=HH", one, at + 4)
                if kind == _KEY:
                    found.key, found.key_bytes = at + 8, inner - 4
                elif what & 0x3FFF == _VALUE and inner == 8:
                    found.value = at + 8
            elif kind == _TIMEOUT:
                found.timeout = at + 4
            elif kind == _EXPIRATION:
                found.expires = at + 4
            at += length + 3 & ~3
        return found

    def fits(self, rows: NDArray[np.uint8], key_bytes: int) -> bool:
        """Are all the rows of this form, with a key of this size and a value?"""
        same = bool((rows[:, self.headers] == rows[0, self.headers]).all())
        return same and self.key_bytes == key_bytes and self.value > 0

    def read(self, rows: NDArray[np.uint8], key_bytes: int) -> Columns:
        """The fields, copied out, so that the rows can go."""
        values = rows[:, self.value : self.value + 4].copy().view("=u4").reshape(-1)
        if self.expires:
            expires = rows[:, self.expires : self.expires + 8].copy().view(">u8").reshape(-1).astype(np.uint64)
        else:
            expires = np.zeros(len(rows), np.uint64)
        return Columns(rows[:, self.key : self.key + key_bytes].copy(), values, expires)


def _listed(table: str, set_: str, elements: Iterable[bytes]) -> bytes:
    return text(_LIST_TABLE, table) + text(_LIST_SET, set_) + nest(_LIST_ELEMENTS, *elements)


def _listing(answer: bytes) -> bytes:
    return next((value for kind, value in attributes(answer) if kind == _LIST_ELEMENTS), b"")


def _elements(answer: bytes) -> Iterator[bytes]:
    return (value for _, value in attributes(_listing(answer)))


def _decoded(data: bytes) -> Element:
    fields = dict(attributes(data))
    value = dict(attributes(fields.get(_DATA, b""))).get(_VALUE, b"")
    expires = fields.get(_EXPIRATION, b"")
    return Element(
        key=dict(attributes(fields.get(_KEY, b""))).get(_VALUE, b""),
        value=struct.unpack("=I", value)[0] if len(value) == 4 else None,
        comment=_comment(fields.get(_USERDATA, b"")),
        expires_ms=int.from_bytes(expires, "big") if expires else None,
        key_end=dict(attributes(fields.get(_KEY_END, b""))).get(_VALUE),
    )


def _comment(userdata: bytes) -> str:
    """Of the records kind, length, value in an element's user data, the one that is a comment."""
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == _UDATA_COMMENT:
            return string(userdata[at + 2 : at + 2 + length])
        at += 2 + length
    return ""
