"""NSPI, the address book: everybody in the directory as one table, and names looked up in it. [MS-OXNSPI] 3.1.4.1.

There is one address book, the Global Address List (container 0), and nothing in it can be changed. Every server has a
GUID of its own and numbers of its own for everybody: what one server has told means nothing to another.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol
from uuid import NAMESPACE_DNS, UUID, uuid5

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces import nspi, nspi_calls, nspi_names
from casarray.core.dcerpc.interfaces.nspi import NspiResult, Opnum, Stat
from casarray.core.dcerpc.interfaces.nspi_entry_ids import DisplayType, PermanentEntryId, Resolved
from casarray.core.dcerpc.interfaces.nspi_properties import (
    PropertyRow,
    PropertyTag,
    PropertyType,
    in_string8,
    type_of,
)
from casarray.core.dcerpc.interfaces.nspi_restrictions import Restriction
from casarray.core.dcerpc.ndr import NIL_HANDLE
from casarray.core.dcerpc.server import CONTEXT_MISMATCH, OP_RANGE_ERROR, Call
from casarray.core.referral.entries import (
    COLUMNS,
    USUAL_TAGS,
    Properties,
    can_be_searched,
    checked_name,
    missing_row,
    properties,
    row_of,
    satisfies,
)
from casarray.core.referral.global_list import GlobalList
from casarray.core.referral.guide import Answer, Guide, Person
from casarray.core.referral.handles import Handles

MOST_ROWS = 500  # in one answer; a client that wants more asks again from where it stands then
MOST_NAMES = 100  # in one name check
MOST_SEARCHED = 20_000  # entries that anything but a name is looked for among: the loop stands still meanwhile
LIST_VERSION = 1  # of the list of address books, which never changes
#: PR_CONTAINER_FLAGS: it holds recipients, and nobody may change it. [MS-OXNSPI] 2.2.1.13, [MS-OXOABK] 2.2.2.1.
RECIPIENTS_UNMODIFIABLE = 0x9


class _Reply(Protocol):
    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes: ...


_Decode = Callable[[bytes, Order, bool], Any]  # each method below takes what its own one makes


def server_guid(fqdn: str) -> UUID:
    """The GUID with which the server of that name answers a bind to the address book."""
    return uuid5(NAMESPACE_DNS, fqdn.lower())


class AddressBook:
    """Answers NSPI for one server. A stub that cannot be read is a `WireError`."""

    def __init__(
        self, guide: Guide, new_uuid: Callable[[], UUID], name_of_guid: Callable[[UUID | None], str] = lambda _: ""
    ) -> None:
        """``name_of_guid``: whose the GUID is that a client binds with. It means nothing to a server, but a lab's."""
        self.books: Handles[str] = Handles(new_uuid)  # by the name of whom each was opened for
        self._guide = guide
        self._guid = server_guid(guide.fqdn)
        self._name_of_guid = name_of_guid
        self._list = GlobalList()

    def answer(self, call: Call, asker: Person | None) -> Answer:
        """``asker`` is who is known to call, from another call or by authentication."""
        match call.opnum:
            case Opnum.BIND:
                return self._bind(call, asker)
            case Opnum.UNBIND:
                return self._unbind(call)
            case _ if (known := _WITHIN.get(call.opnum)) is not None:
                return self._within(call, *known)
            case _:
                return Answer(fault=OP_RANGE_ERROR, call=f"opnum {call.opnum}")

    def _bind(self, call: Call, asker: Person | None) -> Answer:
        asked = nspi.NspiBind.decode(call.stub, call.order, call.ndr64)
        guid = self._guid if asked.server_guid is not None else None
        client = self._name_of_guid(asked.server_guid) or (asker.name if asker is not None else "")
        unicode = asked.stat.code_page == nspi.CODE_PAGE_UNICODE
        handle = None if unicode else self.books.issue(call.group_id, client)
        refused = NspiResult.INVALID_CODE_PAGE if unicode else NspiResult.OUT_OF_RESOURCES
        reply = nspi.NspiBindReply(guid, handle or NIL_HANDLE, 0 if handle else refused)
        return Answer(reply.encode(call.order, call.ndr64), call="NspiBind", client=client)

    def _unbind(self, call: Call) -> Answer:
        asked = nspi.NspiUnbind.decode(call.stub, call.order, call.ndr64)
        client = self.books.take_back(asked.handle, call.group_id)
        if client is None:
            return Answer(fault=CONTEXT_MISMATCH, call="NspiUnbind")
        return Answer(nspi.NspiUnbindReply().encode(call.order, call.ndr64), call="NspiUnbind", client=client)

    def _within(self, call: Call, name: str, decode: _Decode, work: "Callable[[AddressBook, Any], _Reply]") -> Answer:
        """A call that needs an open address book."""
        asked = decode(call.stub, call.order, call.ndr64)
        client = self.books.value(asked.handle, call.group_id)
        if client is None:
            return Answer(fault=CONTEXT_MISMATCH, call=name)
        self._list.show(self._guide.people())
        return Answer(work(self, asked).encode(call.order, call.ndr64), call=name, client=client)

    # The calls, once an address book is open

    def update_stat(self, asked: nspi_calls.NspiUpdateStat) -> nspi_calls.NspiUpdateStatReply:
        """Where the client stands now."""
        stat = asked.stat
        row, before = self._place(stat), self._list.place(_without_delta(stat))
        if isinstance(row, NspiResult) or before is None:
            return nspi_calls.NspiUpdateStatReply(stat, asked.delta, _result(row))
        moved = None if asked.delta is None else row - before
        return nspi_calls.NspiUpdateStatReply(self._list.standing(stat, row), moved)

    def query_rows(self, asked: nspi_calls.NspiQueryRows) -> nspi_calls.NspiQueryRowsReply:
        """The rows of a list, or those from where the client stands on."""
        tags = asked.tags if asked.tags is not None else USUAL_TAGS
        ephemeral = bool(asked.flags & nspi_calls.EPHEMERAL_IDS)
        if asked.minimal_ids is not None:
            listed = asked.minimal_ids[: min(asked.count, MOST_ROWS)]
            found = tuple(self._row(self._list.row_of(number), tags, ephemeral) for number in listed)
            return nspi_calls.NspiQueryRowsReply(asked.stat, found)
        row = self._place(asked.stat)
        if isinstance(row, NspiResult):
            return nspi_calls.NspiQueryRowsReply(asked.stat, None, row)
        end = min(len(self._list), row + min(asked.count, MOST_ROWS))
        rows = tuple(self._row(one, tags, ephemeral) for one in range(row, end))
        return nspi_calls.NspiQueryRowsReply(self._list.standing(asked.stat, end), rows)

    def get_matches(self, asked: nspi_calls.NspiGetMatches) -> nspi_calls.NspiGetMatchesReply:
        """Whom a restriction wants; without one, the entry at which the client stands."""
        most = min(asked.requested, MOST_ROWS)
        rows = self._matches(asked.stat, asked.restriction, most + 1)
        if isinstance(rows, NspiResult):
            return nspi_calls.NspiGetMatchesReply(asked.stat, result=rows)
        if len(rows) > most:
            return nspi_calls.NspiGetMatchesReply(asked.stat, result=NspiResult.TABLE_TOO_BIG)
        numbers = tuple(self._list.number(self._list.at(row)) for row in rows)
        tags = asked.tags
        shown = None if tags is None else tuple(self._row(row, tags) for row in rows)
        return nspi_calls.NspiGetMatchesReply(asked.stat, numbers, shown)

    def resolve(self, asked: nspi_names.NspiResolveNames) -> nspi_names.NspiResolveNamesReply:
        """Whom each name means."""
        if len(asked.names) > MOST_NAMES:
            return nspi_names.NspiResolveNamesReply(None, None, NspiResult.OUT_OF_RESOURCES)
        if asked.stat.container_id:
            return nspi_names.NspiResolveNamesReply(None, None, NspiResult.INVALID_BOOKMARK)
        tags = asked.tags if asked.tags is not None else USUAL_TAGS
        how, rows = [], []
        for name in asked.names:
            found = self._list.named(name, 2) if name is not None else []
            how.append((Resolved.NOT_AT_ALL, Resolved.TO_ONE, Resolved.TO_MORE_THAN_ONE)[len(found)])
            if len(found) == 1:
                rows.append(self._row(found[0], tags))
        return nspi_names.NspiResolveNamesReply(tuple(map(int, how)), tuple(rows))

    def get_props(self, asked: nspi_names.NspiGetProps) -> nspi_names.NspiGetPropsReply:
        """Of the entry at which the client stands."""
        row = self._place(asked.stat)
        if isinstance(row, NspiResult) or row >= len(self._list):
            return nspi_names.NspiGetPropsReply(None, _result(row))
        known = self._properties(row, bool(asked.flags & nspi_calls.EPHEMERAL_IDS))
        found = row_of(known, asked.tags, unicode=asked.stat.code_page == nspi.CODE_PAGE_UNICODE)
        whole = all(type_of(value.tag) != PropertyType.ERROR for value in found.values)
        return nspi_names.NspiGetPropsReply(found, 0 if whole else NspiResult.ERRORS_RETURNED)

    def prop_list(self, asked: nspi_names.NspiGetPropList) -> nspi_names.NspiGetPropListReply:
        """What an entry has."""
        row = self._list.row_of(asked.minimal_id)
        if row is None:
            return nspi_names.NspiGetPropListReply(None, NspiResult.NOT_FOUND)
        tags = tuple(self._properties(row))
        return nspi_names.NspiGetPropListReply(_as_wanted(tags, asked.code_page == nspi.CODE_PAGE_UNICODE))

    def columns(self, asked: nspi_names.NspiQueryColumns) -> nspi_names.NspiQueryColumnsReply:
        """What any entry may have."""
        return nspi_names.NspiQueryColumnsReply(_as_wanted(COLUMNS, bool(asked.flags & nspi_names.UNICODE_TYPES)))

    def dn_to_mid(self, asked: nspi_names.NspiDnToMid) -> nspi_names.NspiDnToMidReply:
        """A number for each DN, 0 for nobody's."""
        rows = [self._list.row_of_dn(name) if name is not None else None for name in asked.names]
        numbers = tuple(0 if row is None else self._list.number(self._list.at(row)) for row in rows)
        return nspi_names.NspiDnToMidReply(numbers)

    def compare(self, asked: nspi_calls.NspiCompareMids) -> nspi_calls.NspiCompareMidsReply:
        """Who stands first."""
        first, second = self._list.row_of(asked.first), self._list.row_of(asked.second)
        if first is None or second is None:
            return nspi_calls.NspiCompareMidsReply(0, NspiResult.GENERAL_FAILURE)
        return nspi_calls.NspiCompareMidsReply((first > second) - (first < second))

    def special_table(self, asked: nspi_calls.NspiGetSpecialTable) -> nspi_calls.NspiGetSpecialTableReply:
        """The list of address books, which is one; templates for addresses there are none."""
        if asked.flags & nspi_calls.ADDRESS_CREATION_TEMPLATES:
            return nspi_calls.NspiGetSpecialTableReply(asked.version, ())
        if asked.version == LIST_VERSION:
            return nspi_calls.NspiGetSpecialTableReply(LIST_VERSION)
        known: Properties = {
            PropertyTag.PR_ENTRYID: PermanentEntryId("/", DisplayType.CONTAINER).to_octets(),
            PropertyTag.PR_CONTAINER_FLAGS: RECIPIENTS_UNMODIFIABLE,
            PropertyTag.PR_DEPTH: 0,
            PropertyTag.PR_EMS_AB_CONTAINERID: 0,
            PropertyTag.PR_DISPLAY_NAME_W: "Global Address List",
            PropertyTag.PR_EMS_AB_IS_MASTER: False,
        }
        unicode = bool(asked.flags & nspi_calls.UNICODE_STRINGS)
        return nspi_calls.NspiGetSpecialTableReply(LIST_VERSION, (row_of(known, None, unicode=unicode),))

    # What they share

    def _place(self, stat: Stat) -> int | NspiResult:
        """The row at which a client stands, or why it stands nowhere."""
        if stat.container_id:
            return NspiResult.INVALID_BOOKMARK
        row = self._list.place(stat)
        return NspiResult.NOT_FOUND if row is None else row

    def _properties(self, row: int, ephemeral: bool = False) -> Properties:
        person = self._list.at(row)
        return properties(person, self._list.number(person), self._guid, ephemeral=ephemeral)

    def _row(self, row: int | None, tags: tuple[int, ...], ephemeral: bool = False) -> PropertyRow:
        return missing_row(tags) if row is None else row_of(self._properties(row, ephemeral), tags)

    def _matches(self, stat: Stat, restriction: Restriction | None, most: int) -> list[int] | NspiResult:
        if stat.container_id:
            return NspiResult.INVALID_BOOKMARK
        if restriction is None:
            row = self._place(stat)
            if isinstance(row, NspiResult):
                return row
            return [row] if row < len(self._list) else []
        if (typed := checked_name(restriction)) is not None:
            return self._list.named(typed, most)
        if len(self._list) > MOST_SEARCHED or not can_be_searched(restriction):
            return NspiResult.TOO_COMPLEX
        return list(islice(self._satisfying(restriction), most))

    def _satisfying(self, restriction: Restriction) -> Iterator[int]:
        """Names are checked against the whole list once each, not once for each entry."""
        named: dict[str, frozenset[int]] = {}
        for row in range(len(self._list)):

            def is_named(typed: str, row: int = row) -> bool:
                if typed not in named:
                    named[typed] = frozenset(self._list.named(typed, len(self._list)))
                return row in named[typed]

            if satisfies(self._properties(row), restriction, is_named):
                yield row


def _without_delta(stat: Stat) -> Stat:
    return Stat(stat.sort_type, stat.container_id, stat.current_record, 0, stat.position, stat.total_records)


def _result(row: int | NspiResult) -> int:
    """Why there is no row."""
    return row if isinstance(row, NspiResult) else NspiResult.NOT_FOUND


def _as_wanted(tags: tuple[int, ...], unicode: bool) -> tuple[int, ...]:
    return tags if unicode else tuple(map(in_string8, tags))


_WITHIN: Mapping[int, tuple[str, _Decode, Callable[[AddressBook, Any], _Reply]]] = {
    Opnum.UPDATE_STAT: ("NspiUpdateStat", nspi_calls.NspiUpdateStat.decode, AddressBook.update_stat),
    Opnum.QUERY_ROWS: ("NspiQueryRows", nspi_calls.NspiQueryRows.decode, AddressBook.query_rows),
    Opnum.GET_MATCHES: ("NspiGetMatches", nspi_calls.NspiGetMatches.decode, AddressBook.get_matches),
    Opnum.COMPARE_MIDS: ("NspiCompareMIds", nspi_calls.NspiCompareMids.decode, AddressBook.compare),
    Opnum.GET_SPECIAL_TABLE: (
        "NspiGetSpecialTable",
        nspi_calls.NspiGetSpecialTable.decode,
        AddressBook.special_table,
    ),
    Opnum.DN_TO_MID: ("NspiDNToMId", nspi_names.NspiDnToMid.decode, AddressBook.dn_to_mid),
    Opnum.GET_PROPS: ("NspiGetProps", nspi_names.NspiGetProps.decode, AddressBook.get_props),
    Opnum.GET_PROP_LIST: ("NspiGetPropList", nspi_names.NspiGetPropList.decode, AddressBook.prop_list),
    Opnum.QUERY_COLUMNS: ("NspiQueryColumns", nspi_names.NspiQueryColumns.decode, AddressBook.columns),
    Opnum.RESOLVE_NAMES: ("NspiResolveNames", nspi_names.NspiResolveNames.decode, AddressBook.resolve),
    Opnum.RESOLVE_NAMES_W: ("NspiResolveNamesW", nspi_names.NspiResolveNamesW.decode, AddressBook.resolve),
}
