"""The calls of the address book against impacket: what it asks is read, what is recorded it reads.

impacket numbers its pointers at random, so its octets are compared by what they are read as.
"""

from typing import Any

import pytest
from impacket.dcerpc.v5 import nspi as impacket_nspi
from impacket.dcerpc.v5.dtypes import NULL
from impacket.dcerpc.v5.ndr import NDRCALL
from tests.core.dcerpc.conftest import read_capture
from tests.core.dcerpc.interfaces.address_book import ADA, ADAS_DN, AFTER, AT_ADA, HANDLE, NAME, RECORDED, TAGS

from casarray.core.dcerpc.interfaces.nspi import Opnum, Stat
from casarray.core.dcerpc.interfaces.nspi_calls import (
    NspiCompareMids,
    NspiGetMatches,
    NspiGetSpecialTable,
    NspiQueryRows,
    NspiQueryRowsReply,
    NspiUpdateStat,
)
from casarray.core.dcerpc.interfaces.nspi_names import (
    NspiDnToMid,
    NspiGetPropList,
    NspiGetProps,
    NspiQueryColumns,
    NspiResolveNames,
    NspiResolveNamesW,
)
from casarray.core.dcerpc.interfaces.nspi_properties import PropertyRow, PropertyTag, PropertyValue
from casarray.core.errors import WireError


class Asked:
    """Stands for impacket's connection: keeps what its helpers would send."""

    def __init__(self) -> None:
        self.opnum = -1
        self.octets = b""

    def request(self, call: Any, **_: object) -> None:
        self.opnum, self.octets = call.opnum, call.getData()


HANDLE_OF_IMPACKET = impacket_nspi.handle_t()
HANDLE_OF_IMPACKET["context_handle_uuid"] = HANDLE.uuid.bytes_le

ZERO = Stat(code_page=0, template_locale=0, sort_locale=0)  # where impacket begins
TELETEX = impacket_nspi.CP_TELETEX


def compare(dce: Asked) -> None:
    call = impacket_nspi.NspiCompareMIds()
    call["hRpc"] = HANDLE_OF_IMPACKET
    call["MId1"], call["MId2"] = ADA, ADA + 1
    dce.request(call)


STAT_AT_ADA = impacket_nspi.STAT()
STAT_AT_ADA["CurrentRec"] = ADA
STAT_AT_ADA["Delta"] = -1
HELPERS: dict[str, tuple[Any, Any, Opnum, Any]] = {
    "update stat": (
        *(impacket_nspi.hNspiUpdateStat, (STAT_AT_ADA, 3), Opnum.UPDATE_STAT),
        NspiUpdateStat(HANDLE, Stat(0, 0, ADA, -1, 0, 0, 0, 0, 0), 3),
    ),
    "update stat, whatever the distance": (
        *(impacket_nspi.hNspiUpdateStat, (impacket_nspi.STAT(),), Opnum.UPDATE_STAT),
        NspiUpdateStat(HANDLE, ZERO),
    ),
    "rows of a table": (
        *(impacket_nspi.hNspiQueryRows, {"Count": 7, "pPropTags": list(TAGS)}, Opnum.QUERY_ROWS),
        NspiQueryRows(HANDLE, ZERO, 7, TAGS),
    ),
    "rows of a list": (
        *(impacket_nspi.hNspiQueryRows, {"lpETable": [ADA, ADA + 1]}, Opnum.QUERY_ROWS),
        NspiQueryRows(HANDLE, ZERO, minimal_ids=(ADA, ADA + 1)),
    ),
    "DN to number": (
        *(impacket_nspi.hNspiDNToMId, {"pNames": [ADAS_DN, "/o=O"]}, Opnum.DN_TO_MID),
        NspiDnToMid(HANDLE, (ADAS_DN, "/o=O")),
    ),
    "list of properties": (
        *(impacket_nspi.hNspiGetPropList, {"dwMId": ADA}, Opnum.GET_PROP_LIST),
        NspiGetPropList(HANDLE, ADA, TELETEX),
    ),
    "properties, though the STAT is pointed to and one tag too many announced": (
        *(impacket_nspi.hNspiGetProps, {"CurrentRec": ADA, "pPropTags": list(TAGS)}, Opnum.GET_PROPS),
        NspiGetProps(HANDLE, Stat(0, 0, ADA, 0, 0, 0, TELETEX, 0, 0), TAGS),
    ),
    "comparison": (lambda dce, _: compare(dce), {}, Opnum.COMPARE_MIDS, NspiCompareMids(HANDLE, ZERO, ADA, ADA + 1)),
    "address books, though the STAT is pointed to": (
        *(impacket_nspi.hNspiGetSpecialTable, {"pStat": STAT_AT_ADA}, Opnum.GET_SPECIAL_TABLE),
        NspiGetSpecialTable(HANDLE, Stat(0, 0, ADA, -1, 0, 0, 0, 0, 0)),
    ),
    "columns": (impacket_nspi.hNspiQueryColumns, {}, Opnum.QUERY_COLUMNS, NspiQueryColumns(HANDLE)),
    "names": (
        *(impacket_nspi.hNspiResolveNames, {"pPropTags": [int(NAME)], "paStr": ["ada", "bob"]}, Opnum.RESOLVE_NAMES),
        NspiResolveNames(HANDLE, ("ada", "bob"), ZERO, (NAME,)),
    ),
    "names of UTF-16": (
        *(impacket_nspi.hNspiResolveNamesW, {"paStr": ["ad\u00e4", "b"]}, Opnum.RESOLVE_NAMES_W),
        NspiResolveNamesW(HANDLE, ("ad\u00e4", "b"), ZERO),
    ),
}


@pytest.mark.parametrize("name", HELPERS)
def test_what_impacket_asks_is_read(name: str) -> None:
    helper, arguments, opnum, meant = HELPERS[name]
    asked = Asked()
    if isinstance(arguments, tuple):
        helper(asked, HANDLE_OF_IMPACKET, *arguments)
    else:
        helper(asked, HANDLE_OF_IMPACKET, **arguments)
    assert asked.opnum == opnum
    assert type(meant).decode(asked.octets) == meant


def test_a_right_stat_is_not_taken_for_one_that_is_pointed_to() -> None:
    for sort_type in (0, 3, 1000, 1001, 77):
        asked = NspiGetProps(HANDLE, Stat(sort_type, current_record=ADA), TAGS)
        assert NspiGetProps.decode(asked.encode()) == asked


class GetMatches(NDRCALL):  # type: ignore[misc]  # impacket has no types
    """As the interface definition has it; impacket's own is commented out."""

    opnum = 5
    structure = (
        ("hRpc", impacket_nspi.handle_t),
        ("Reserved1", impacket_nspi.DWORD),
        ("pStat", impacket_nspi.STAT),
        ("pReserved", impacket_nspi.PPropertyTagArray_r),
        ("Reserved2", impacket_nspi.DWORD),
        ("Filter", impacket_nspi.PRestriction_r),
        ("lpPropName", impacket_nspi.PPropertyName_r),
        ("ulRequested", impacket_nspi.DWORD),
        ("pPropTags", impacket_nspi.PPropertyTagArray_r),
    )


class GetMatchesResponse(NDRCALL):  # type: ignore[misc]  # impacket has no types
    """The same for its answer."""

    structure = (
        ("pStat", impacket_nspi.STAT),
        ("ppOutMIds", impacket_nspi.PPropertyTagArray_r),
        ("ppRows", impacket_nspi.PPropertyRowSet_r),
        ("ErrorCode", impacket_nspi.ULONG),
    )


def test_impacket_reads_a_name_check_and_writes_it_again() -> None:
    theirs = GetMatches(read_capture("nspi/get_matches"))
    assert theirs["ulRequested"] == 50
    assert theirs["Filter"]["res"]["resProperty"]["lpProp"]["Value"]["lpszW"] == "ad\0"
    theirs.fields["pReserved"] = theirs.fields["lpPropName"] = NULL
    assert NspiGetMatches.decode(theirs.getData()) == RECORDED["nspi/get_matches"]


ANSWERS = {
    "update_stat": impacket_nspi.NspiUpdateStatResponse,
    "query_rows": impacket_nspi.NspiQueryRowsResponse,
    "get_matches": GetMatchesResponse,
    "dn_to_mid": impacket_nspi.NspiDNToMIdResponse,
    "get_prop_list": impacket_nspi.NspiGetPropListResponse,
    "get_props": impacket_nspi.NspiGetPropsResponse,
    "compare_mids": impacket_nspi.NspiCompareMIdsResponse,
    "get_special_table": impacket_nspi.NspiGetSpecialTableResponse,
    "query_columns": impacket_nspi.NspiQueryColumnsResponse,
    "resolve_names": impacket_nspi.NspiResolveNamesResponse,
    "resolve_names_w": impacket_nspi.NspiResolveNamesWResponse,
}


@pytest.mark.parametrize("ndr64", [False, True], ids=["NDR", "NDR64"])
@pytest.mark.parametrize("name", ANSWERS)
def test_impacket_reads_each_answer_and_what_it_writes_of_it_is_read_the_same(name: str, ndr64: bool) -> None:
    message = RECORDED[f"nspi/{name}_reply"]
    theirs = ANSWERS[name](isNDR64=ndr64)
    theirs.fromString(message.encode(ndr64=ndr64))
    assert theirs["ErrorCode"] == message.result
    assert type(message).decode(theirs.getData(), ndr64=ndr64) == message


def test_impacket_reads_rows_with_their_properties() -> None:
    message = RECORDED["nspi/get_special_table_reply"]
    theirs = impacket_nspi.NspiGetSpecialTableResponse(message.encode())
    (book,) = impacket_nspi.simplifyPropertyRowSet(theirs["ppRows"])
    assert str(book[PropertyTag.PR_ENTRYID]) == "/"
    assert book[PropertyTag.PR_DISPLAY_NAME_W] == "All"
    assert book[PropertyTag.PR_CONTAINER_FLAGS] == 9


def test_a_list_of_entries_of_another_length_than_announced_is_a_wire_error() -> None:
    octets = bytearray(NspiQueryRows(HANDLE, AT_ADA, minimal_ids=(ADA,)).encode())
    octets[60] = 2
    with pytest.raises(WireError, match="announced"):
        NspiQueryRows.decode(bytes(octets))


def test_a_list_of_names_of_another_length_than_announced_is_a_wire_error() -> None:
    octets = bytearray(NspiDnToMid(HANDLE, ("/o=O",)).encode())
    octets[28] = 2
    with pytest.raises(WireError, match="announced"):
        NspiDnToMid.decode(bytes(octets))


def test_a_name_may_be_missing_among_names() -> None:
    asked = NspiResolveNamesW(HANDLE, ("ada", None, "bob"))
    assert NspiResolveNamesW.decode(asked.encode()) == asked


def test_many_rows_are_read_in_one_go() -> None:
    row = PropertyRow(tuple(PropertyValue(PropertyTag.PR_DISPLAY_NAME_W, f"user {n}") for n in range(5)))
    reply = NspiQueryRowsReply(AFTER, (row,) * 500)
    assert NspiQueryRowsReply.decode(reply.encode("big", ndr64=True), "big", ndr64=True) == reply
