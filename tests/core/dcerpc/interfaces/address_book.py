"""The exchanges of NSPI and EMSMDB that are recorded in tests/captures, as values: a name check and a logon.

One user, Ada, in an address book of one, asked for in every way there is.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from casarray.core.dcerpc.interfaces.emsmdb import EcResult
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    NO_HANDLE,
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonRedirect,
    LogonSuccess,
    PublicLogonSuccess,
    RopFailure,
    RopLogon,
    RopRelease,
    reply_octets,
    request_octets,
)
from casarray.core.dcerpc.interfaces.nspi import NspiResult, Stat
from casarray.core.dcerpc.interfaces.nspi_calls import (
    NspiCompareMids,
    NspiCompareMidsReply,
    NspiGetMatches,
    NspiGetMatchesReply,
    NspiGetSpecialTable,
    NspiGetSpecialTableReply,
    NspiQueryRows,
    NspiQueryRowsReply,
    NspiUpdateStat,
    NspiUpdateStatReply,
)
from casarray.core.dcerpc.interfaces.nspi_entry_ids import DisplayType, EphemeralEntryId, PermanentEntryId, Resolved
from casarray.core.dcerpc.interfaces.nspi_names import (
    NspiDnToMid,
    NspiDnToMidReply,
    NspiGetPropList,
    NspiGetPropListReply,
    NspiGetProps,
    NspiGetPropsReply,
    NspiQueryColumns,
    NspiQueryColumnsReply,
    NspiResolveNames,
    NspiResolveNamesReply,
    NspiResolveNamesW,
    NspiResolveNamesWReply,
)
from casarray.core.dcerpc.interfaces.nspi_properties import PropertyRow, PropertyTag, PropertyValue
from casarray.core.dcerpc.interfaces.nspi_restrictions import PropertyRestriction, Relation
from casarray.core.dcerpc.ndr import ContextHandle

HANDLE = ContextHandle(UUID("11223344-5566-7788-99aa-bbccddeeff00"))
SERVER = UUID("00112233-4455-6677-8899-aabbccddeeff")
MAILBOX = UUID("a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8")
ADA, ADAS_DN = 0x10, "/o=O/ou=G/cn=Recipients/cn=ada"
ARRAY_DN = "/o=O/ou=G/cn=Configuration/cn=Servers/cn=cas.lab"
NAME, NAME_W, ANR_W = PropertyTag.PR_DISPLAY_NAME, PropertyTag.PR_DISPLAY_NAME_W, PropertyTag.PR_ANR_W
TAGS = (NAME_W, PropertyTag.PR_OBJECT_TYPE)
BEGINNING, AFTER = Stat(), Stat(current_record=2, position=1, total_records=1)
AT_ADA = Stat(current_record=ADA)

ROW = PropertyRow((PropertyValue(NAME_W, "Ada"), PropertyValue(PropertyTag.PR_OBJECT_TYPE, 6)))
PROPERTIES = PropertyRow(
    (
        PropertyValue(PropertyTag.PR_ENTRYID, EphemeralEntryId(SERVER, ADA).to_octets()),
        PropertyValue(PropertyTag.PR_EMAIL_ADDRESS, ADAS_DN),
        PropertyValue(PropertyTag.PR_EMS_AB_PROXY_ADDRESSES_W, ("SMTP:ada@lab", "smtp:a@lab")),
        PropertyValue.missing(PropertyTag.PR_EMS_AB_HOME_MDB_W),
    )
)
ADDRESS_LIST = PropertyRow(
    (
        PropertyValue(PropertyTag.PR_ENTRYID, PermanentEntryId("/", DisplayType.CONTAINER).to_octets()),
        PropertyValue(PropertyTag.PR_CONTAINER_FLAGS, 9),
        PropertyValue(PropertyTag.PR_DEPTH, 0),
        PropertyValue(PropertyTag.PR_EMS_AB_CONTAINERID, 0),
        PropertyValue(NAME_W, "All"),
        PropertyValue(PropertyTag.PR_EMS_AB_IS_MASTER, False),
    )
)

#: By the name of their file in tests/captures.
RECORDED: Mapping[str, Any] = {
    "nspi/update_stat": NspiUpdateStat(HANDLE, Stat(delta=-1, current_record=2), delta=0),
    "nspi/update_stat_reply": NspiUpdateStatReply(AT_ADA, delta=-1),
    "nspi/query_rows": NspiQueryRows(HANDLE, BEGINNING, 50, TAGS, minimal_ids=(ADA,)),
    "nspi/query_rows_reply": NspiQueryRowsReply(AFTER, (ROW,)),
    "nspi/get_matches": NspiGetMatches(
        HANDLE, BEGINNING, PropertyRestriction(Relation.EQUAL, ANR_W, PropertyValue(ANR_W, "ad")), TAGS
    ),
    "nspi/get_matches_reply": NspiGetMatchesReply(AFTER, (ADA,), (ROW,)),
    "nspi/dn_to_mid": NspiDnToMid(HANDLE, (ADAS_DN, "/o=O")),
    "nspi/dn_to_mid_reply": NspiDnToMidReply((ADA, 0)),
    "nspi/get_prop_list": NspiGetPropList(HANDLE, ADA),
    "nspi/get_prop_list_reply": NspiGetPropListReply(TAGS),
    "nspi/get_props": NspiGetProps(HANDLE, AT_ADA, tuple(value.tag for value in PROPERTIES.values)),
    "nspi/get_props_reply": NspiGetPropsReply(PROPERTIES, NspiResult.ERRORS_RETURNED),
    "nspi/compare_mids": NspiCompareMids(HANDLE, BEGINNING, ADA, ADA + 1),
    "nspi/compare_mids_reply": NspiCompareMidsReply(-1),
    "nspi/get_special_table": NspiGetSpecialTable(HANDLE),
    "nspi/get_special_table_reply": NspiGetSpecialTableReply(1, (ADDRESS_LIST,)),
    "nspi/query_columns": NspiQueryColumns(HANDLE),
    "nspi/query_columns_reply": NspiQueryColumnsReply(TAGS),
    "nspi/resolve_names": NspiResolveNames(HANDLE, ("ada", "bob"), tags=(NAME,)),
    "nspi/resolve_names_reply": NspiResolveNamesReply(
        (Resolved.TO_ONE, Resolved.NOT_AT_ALL), (PropertyRow((PropertyValue(NAME, "Ada"),)),)
    ),
    "nspi/resolve_names_w": NspiResolveNamesW(HANDLE, ("ada",), tags=TAGS),
    "nspi/resolve_names_w_reply": NspiResolveNamesWReply((Resolved.TO_ONE,), (ROW,)),
    "emsmdb/logon": EcDoRpcExt2(HANDLE, request_octets((RopLogon(ADAS_DN),))),
    "emsmdb/logon_reply": EcDoRpcExt2Reply(
        HANDLE,
        reply_octets((LogonSuccess(MAILBOX, datetime(2026, 11, 25, 2, 3, 4, tzinfo=UTC), replica_guid=SERVER),), (1,)),
    ),
    "emsmdb/logon_wrong_server_reply": EcDoRpcExt2Reply(HANDLE, reply_octets((LogonRedirect(ARRAY_DN),), (NO_HANDLE,))),
    "emsmdb/logon_denied_reply": EcDoRpcExt2Reply(
        HANDLE, reply_octets((RopFailure(EcResult.LOGIN_PERMISSION),), (NO_HANDLE,))
    ),
    "emsmdb/public_logon": EcDoRpcExt2(HANDLE, request_octets((RopLogon("", 0, 2),))),
    "emsmdb/public_logon_reply": EcDoRpcExt2Reply(HANDLE, reply_octets((PublicLogonSuccess(),), (2,))),
    "emsmdb/release": EcDoRpcExt2(HANDLE, request_octets((RopRelease(),), (1,))),
    "emsmdb/release_reply": EcDoRpcExt2Reply(HANDLE, reply_octets((), (NO_HANDLE,))),
}
