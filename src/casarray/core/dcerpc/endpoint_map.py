"""An endpoint mapper's book: what is registered, and the answers to ept_map and ept_lookup. No socket, no clock.

Lookups end as on Windows: the last page carries status 0 and a nil handle, which is the only end that impacket knows.
Samba gives a live handle and says "not registered" on the next call, the only end that rpcclient knows: it asks for one
entry at a time, and takes a nil handle as leave to begin again, for ever. So a last page that is exactly as full as the
client allowed ends in Samba's way, as it does for whoever fills pages without looking ahead.

Handles are numbers in a row, not secrets, and at most ``max_handles`` are kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from casarray.core.dcerpc.cursor import NIL
from casarray.core.dcerpc.interfaces.epm import (
    CANNOT_PERFORM,
    EPT_LOOKUP,
    EPT_LOOKUP_HANDLE_FREE,
    EPT_MAP,
    MAX_ENTRIES,
    NOT_REGISTERED,
    OK,
    Entry,
    EptLookup,
    EptLookupHandleFree,
    EptLookupHandleFreeReply,
    EptLookupReply,
    EptMap,
    EptMapReply,
    Inquiry,
    Versions,
)
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.server import CONTEXT_MISMATCH, OP_RANGE_ERROR, Call
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower

MAX_HANDLES: Final = 64


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a handle still has to give."""

    opnum: int
    entries: tuple[Entry, ...]


class EndpointMap:
    """Answers for one host. It is itself a handler: ``RpcServer({EPM: endpoint_map})``."""

    def __init__(
        self, entries: Iterable[Entry] = (), *, page: int = MAX_ENTRIES, max_handles: int = MAX_HANDLES
    ) -> None:
        self.entries = tuple(entries)  # may be replaced at any time
        self._page = page
        self._max_handles = max_handles
        self._rests: dict[UUID, _Rest] = {}
        self._next_handle = 1

    def __call__(self, call: Call) -> bytes | int:
        """The stub that answers a call, or the status of a fault; a stub that cannot be read is a `WireError`."""
        if call.opnum == EPT_MAP:
            answer: EptMapReply | EptLookupReply | int = self.map(EptMap.decode(call.stub, call.order, call.ndr64))
        elif call.opnum == EPT_LOOKUP:
            answer = self.lookup(EptLookup.decode(call.stub, call.order, call.ndr64))
        elif call.opnum == EPT_LOOKUP_HANDLE_FREE:
            freed = self.free(EptLookupHandleFree.decode(call.stub, call.order, call.ndr64))
            return freed if isinstance(freed, int) else freed.encode(call.order, call.ndr64)
        else:
            return OP_RANGE_ERROR
        return answer if isinstance(answer, int) else answer.encode(call.order, call.ndr64)

    def map(self, asked: EptMap) -> EptMapReply | int:
        """The towers for what was asked, or what a handle has left; a handle that nobody issued is a fault."""
        found = self._left(EPT_MAP, asked.handle)
        if found is None:
            return CONTEXT_MISMATCH
        if asked.handle.is_nil and asked.tower is not None:
            found = self._matching(asked.tower, asked.object or NIL)
        page, handle = self._turn_page(EPT_MAP, found, asked.max_towers, ahead=True)
        towers = tuple(entry.tower for entry in page if entry.tower is not None)
        return EptMapReply(towers, OK if found else NOT_REGISTERED, handle, asked.max_towers)

    def lookup(self, asked: EptLookup) -> EptLookupReply | int:
        """The entries for what was asked, or what a handle has left; a handle that nobody issued is a fault."""
        found = self._left(EPT_LOOKUP, asked.handle)
        if found is None:
            return CONTEXT_MISMATCH
        if asked.handle.is_nil:
            by_interface = asked.inquiry in (Inquiry.BY_INTERFACE, Inquiry.BY_BOTH)
            if asked.inquiry > Inquiry.BY_BOTH or (by_interface and not _is_version_option(asked.versions)):
                return EptLookupReply((), CANNOT_PERFORM, NIL_HANDLE, asked.max_entries)
            found = tuple(entry for entry in self.entries if _inquired(entry, asked))
        page, handle = self._turn_page(EPT_LOOKUP, found, asked.max_entries, ahead=False)
        return EptLookupReply(page, OK if found else NOT_REGISTERED, handle, asked.max_entries)

    def free(self, asked: EptLookupHandleFree) -> EptLookupHandleFreeReply | int:
        """Forget a handle; one that nobody issued is a fault."""
        if not asked.handle.is_nil and self._rests.pop(asked.handle.uuid, None) is None:
            return CONTEXT_MISMATCH
        return EptLookupHandleFreeReply()

    def _matching(self, wanted: Tower, wanted_object: UUID) -> tuple[Entry, ...]:
        """Registrations that serve the tower: for exactly this object, else for any (nil). [MS-RPCE] 2.2.1.2.5."""
        serving = [entry for entry in self.entries if entry.tower is not None and _serves(entry.tower, wanted)]
        exact = [entry for entry in serving if entry.object == wanted_object]
        return tuple(exact or [entry for entry in serving if entry.object == NIL])

    def _left(self, opnum: int, handle: ContextHandle) -> tuple[Entry, ...] | None:
        """What the handle has left; nothing for nil, None for one that nobody issued."""
        if handle.is_nil:
            return ()
        rest = self._rests.get(handle.uuid)
        if rest is None or rest.opnum != opnum:
            return None
        del self._rests[handle.uuid]
        return rest.entries

    def _turn_page(
        self, opnum: int, found: tuple[Entry, ...], most: int, *, ahead: bool
    ) -> tuple[tuple[Entry, ...], ContextHandle]:
        """The next page, and the handle to the rest: nil when there is none, or when nothing may be given.

        Without looking ``ahead`` a page of ``most`` entries has a rest, if only an empty one.
        """
        count = min(most, self._page)
        page, rest = found[:count], found[count:]
        if not page or not (rest or (len(page) == most and not ahead)):
            return page, NIL_HANDLE
        handle = ContextHandle(UUID(int=self._next_handle))
        self._next_handle += 1
        self._rests[handle.uuid] = _Rest(opnum, rest)
        if len(self._rests) > self._max_handles:  # somebody asks and never comes back
            del self._rests[next(iter(self._rests))]
        return page, handle


def _serves(tower: Tower, wanted: Tower) -> bool:
    """Whether a registered tower is an answer to ``wanted``; port and address of the question do not count."""
    has, wants = tower.interface, wanted.interface
    if has is None or wants is None or has.uuid != wants.uuid or has.major != wants.major or has.minor < wants.minor:
        return False
    return (tower.transfer, tower.rpc_protocol, tower.transport) == (
        wanted.transfer,
        wanted.rpc_protocol,
        wanted.transport,
    )


def _inquired(entry: Entry, asked: EptLookup) -> bool:
    if asked.inquiry in (Inquiry.BY_OBJECT, Inquiry.BY_BOTH) and entry.object != (asked.object or NIL):
        return False
    if asked.inquiry not in (Inquiry.BY_INTERFACE, Inquiry.BY_BOTH):
        return True
    has = entry.tower.interface if entry.tower is not None else None
    if has is None or asked.interface is None or has.uuid != asked.interface.uuid:
        return False
    return _version_fits(has, asked.interface, asked.versions)


def _is_version_option(option: int) -> bool:
    return Versions.ALL <= option <= Versions.UP_TO


def _version_fits(has: Syntax, wants: Syntax, option: int) -> bool:
    """Whether a registered version is one of those asked for. [MS-RPCE] 2.2.1.2.4."""
    match option:
        case Versions.COMPATIBLE:
            return has.major == wants.major and has.minor >= wants.minor
        case Versions.EXACT:
            return (has.major, has.minor) == (wants.major, wants.minor)
        case Versions.MAJOR_ONLY:
            return has.major == wants.major
        case Versions.UP_TO:
            return (has.major, has.minor) <= (wants.major, wants.minor)
        case _:
            return True
