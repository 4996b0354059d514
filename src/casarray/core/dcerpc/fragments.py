"""Fragments of a call put together and taken apart. [C706] chapter 12, [MS-RPCE] 3.3.1.5.8.

Fragments of one call follow each other; those of another may not come in between. A joiner holds one call at most,
and never more of it than its limit.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeVar

from casarray.core.dcerpc.pdu import FIRST, LAST, TRAILER_SIZE, Request, Response
from casarray.core.errors import WireError

#: The largest call a server puts together. [MS-RPCE] 3.3.3.5.4.
MAX_REQUEST: Final = 4 * 1024 * 1024
#: The largest answer of an endpoint mapper worth reading: 500 entries need 100 KiB.
MAX_MAPPER_ANSWER: Final = 256 * 1024

P = TypeVar("P", Request, Response)


class Joiner:
    """Puts the fragments of one direction together. ``limit`` is the most octets of stub it will hold."""

    def __init__(self, limit: int = MAX_REQUEST) -> None:
        self._limit = limit
        self._head: Request | Response | None = None
        self._stub = bytearray()

    @property
    def open_call(self) -> int | None:
        """The call id of which the last fragment is still to come."""
        return None if self._head is None else self._head.call_id

    @property
    def held(self) -> int:
        """Octets of stub held."""
        return len(self._stub)

    def drop(self) -> None:
        """Forget the call that is being put together."""
        self._head = None
        self._stub = bytearray()

    def add(self, fragment: P) -> P | None:
        """The whole call once its last fragment is there. Wrong order is `WireError("fragment")`.

        The whole carries the first fragment's fields, the joined stub and both flags; the auth trailers of a call that
        came in pieces are gone from it, each having been about its own piece.
        """
        if len(self._stub) + len(fragment.stub) > self._limit:
            raise WireError("oversize", f"a call of more than {self._limit} octets")
        head = self._head
        if head is None:
            if not fragment.flags & FIRST:
                raise WireError("fragment", f"call {fragment.call_id} begins in the middle")
            if fragment.flags & LAST:
                return fragment
            self._head = fragment
            self._stub += fragment.stub
            return None
        _belongs(head, fragment)
        self._stub += fragment.stub
        if not fragment.flags & LAST:
            return None
        whole = replace(head, flags=head.flags | LAST, stub=bytes(self._stub), auth=None, raw=b"", alloc_hint=None)
        self.drop()
        assert isinstance(whole, type(fragment))  # _belongs has seen to it
        return whole


def _belongs(head: Request | Response, fragment: Request | Response) -> None:
    """Whether a fragment continues the call that ``head`` began."""
    if fragment.flags & FIRST:
        raise WireError("fragment", f"call {fragment.call_id} begins within call {head.call_id}")
    if fragment.type is not head.type or fragment.call_id != head.call_id:
        raise WireError("fragment", f"call {fragment.call_id} continues call {head.call_id}")
    if fragment.context_id != head.context_id:
        raise WireError("fragment", f"call {head.call_id} changes its context id")
    if fragment.order != head.order:
        raise WireError("fragment", f"call {head.call_id} changes its byte order")
    if isinstance(head, Request) and isinstance(fragment, Request) and fragment.opnum != head.opnum:
        raise WireError("fragment", f"call {head.call_id} changes its opnum")


def split(whole: P, max_fragment: int) -> Iterator[P]:
    """The fragments of a call, none of them larger than ``max_fragment`` octets with headers and trailer.

    Each but the last carries a multiple of eight octets of stub, so that alignment survives; with an auth trailer
    (the same one on each piece) a multiple of sixteen.
    """
    room = max_fragment - whole.stub_at
    if whole.auth is not None:
        room -= TRAILER_SIZE + len(whole.auth.token) + 15
    room &= -8 if whole.auth is None else -16
    if room <= 0:
        raise WireError("oversize", f"no stub fits a fragment of {max_fragment} octets")
    size = len(whole.stub)
    if size <= max_fragment - whole.stub_at and whole.auth is None:
        yield whole
        return
    flags = whole.flags & ~(FIRST | LAST)
    for at in range(0, size or 1, room):
        ends = (FIRST if at == 0 else 0) | (LAST if at + room >= size else 0)
        yield replace(whole, flags=flags | ends, stub=whole.stub[at : at + room], alloc_hint=size - at, raw=b"")
