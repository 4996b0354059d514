"""Numbers of EMSMDB and NSPI as sentences. [MS-OXCDATA] 2.4, [MS-OXNSPI] 2.2.1."""

from collections.abc import Mapping

_RESULTS: Mapping[int, str] = {
    0x000003EB: "it does not know this user (ecUnknownUser)",
    0x000003F2: "the user may not log on (ecLoginPerm)",
    0x00000478: "another server is the right one (ecWrongServer)",
    0x000004B6: "it wants another way to log on (ecRpcAuthentication)",
    0x000004DF: "it blocks this version of Outlook (BlockedClientVersions of Set-RpcClientAccess)",
    0x000004E0: "the user may not come by HTTP (MAPIBlockOutlookRpcHttp)",
    0x000004E1: "the user must use cached mode (MAPIBlockOutlookNonCachedMode)",
    0x000007D8: "MAPI is off for this user (Set-CASMailbox -MAPIEnabled)",
    0x00000970: "it wants calls to be encrypted (EncryptionRequired of Set-RpcClientAccess)",
    0x80004005: "general failure",
    0x80040107: "the entry id is not valid",
    0x8004010F: "not found",
    0x80040110: "it does not speak this version",
    0x80040111: "the logon failed (ecLoginFailure): its database may be dismounted",
    0x80040115: "it has a network error towards the mailbox server",
    0x80070005: "access denied",
    0x8007000E: "it is out of memory, or has too many sessions",
}


def result_text(result: int) -> str:
    """``it does not know this user (ecUnknownUser) (0x000003EB)``."""
    known = _RESULTS.get(result)
    return f"{known} (0x{result:08X})" if known else f"result 0x{result:08X}"
