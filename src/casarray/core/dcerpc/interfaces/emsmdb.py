"""EMSMDB, the mailbox interface: opening and closing a session. [MS-OXCRPC].

A session is a context handle. It is valid on every connection of the client's association group and only on the server
that issued it, which is why all of a client's connections must reach the same server. What is said within a session,
as far as the logon that a server may redirect, is in `emsmdb_rops`; no array reads it in passing, for it is sealed.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self
from uuid import UUID

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle, NdrReader, NdrWriter
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import WireError

EMSMDB = Syntax(UUID("a4f1db00-ca47-1067-b31f-00dd010662da"), 0, 81)
ASYNC_EMSMDB = Syntax(UUID("5261574a-4572-206e-b268-6b199213b4e4"), 0, 1)

DN_MAX = 1024  # octets with the NUL; the IDL has no bound, directories do
NAME_MAX = 1024
AUX_MAX = 0x1008  # [MS-OXCRPC] 2.2.1.4, SMALL_RANGE_ULONG

Version = tuple[int, int, int]


class Opnum(IntEnum):
    """[MS-OXCRPC] 3.1.4, those that are spoken here."""

    DISCONNECT = 1
    DUMMY = 6
    CONNECT = 10
    RPC_EXT = 11
    ASYNC_CONNECT = 14


class EcResult(IntEnum):
    """How a call or a remote operation ended. [MS-OXCDATA] 2.4, [MS-OXCRPC] 3.1.4.1, [MS-OXCSTOR] 2.2.1.1."""

    SUCCESS = 0
    UNKNOWN_USER = 0x000003EB
    LOGIN_PERMISSION = 0x000003F2
    WRONG_SERVER = 0x00000478
    RPC_AUTHENTICATION = 0x000004B6
    RPC_FAILED = 0x80040115
    CLIENT_VERSION_DISALLOWED = 0x000004DF
    RPC_HTTP_DISALLOWED = 0x000004E0
    CACHED_MODE_REQUIRED = 0x000004E1
    PROTOCOL_DISABLED = 0x000007D8
    NOT_ENCRYPTED = 0x00000970
    NOT_SUPPORTED = 0x80040102
    NOT_FOUND = 0x8004010F
    VERSION_MISMATCH = 0x80040110
    LOGIN_FAILURE = 0x80040111
    ACCESS_DENIED = 0x80070005
    OUT_OF_MEMORY = 0x8007000E


def _read_version(stub: NdrReader, what: str) -> Version:
    return (stub.u16(what), stub.u16(what), stub.u16(what))


def _write_version(stub: NdrWriter, version: Version) -> None:
    for part in version:
        stub.u16(part)


def _read_text(stub: NdrReader, what: str) -> str | None:
    """``[out, string] char**``: a reference, which leaves no trace, to a pointer to a string."""
    return stub.string(what, NAME_MAX) if stub.pointer(what) else None


def _write_text(stub: NdrWriter, text: str | None) -> None:
    stub.pointer(text is not None)
    if text is not None:
        stub.string(text)


def _read_aux_size(stub: NdrReader, what: str) -> int:
    size = stub.u32(what)
    if size > AUX_MAX:
        raise WireError("range", f"{what}: {size}, at most {AUX_MAX} allowed")
    return size


@dataclass(frozen=True, slots=True)
class EcDoConnectEx:
    """Opens a session. [MS-OXCRPC] 3.1.4.1. In the order of the wire:

    ``szUserDN, ulFlags, ulConMod, cbLimit, ulCpid, ulLcidString, ulLcidSort, ulIcxrLink, usFCanConvertCodePages,
    rgwClientVersion[3], *pulTimeStamp, rgbAuxIn[size_is(cbAuxIn)], cbAuxIn, *pcbAuxOut``
    """

    user_dn: str
    flags: int = 0
    connection_hash: int = 0  # ulConMod: a stable hash of the user DN
    limit: int = 0
    code_page: int = 1252
    locale_string: int = 0x409
    locale_sort: int = 0x409
    session_link: int = 0xFFFFFFFF  # none; servers since 2010 know no other
    can_convert_code_pages: int = 1
    client_version: Version = (14, 0, 0)
    time_stamp: int = 0
    aux_in: bytes = b""
    aux_out_max: int = AUX_MAX

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.string(self.user_dn)
        for value in (
            self.flags,
            self.connection_hash,
            self.limit,
            self.code_page,
            self.locale_string,
            self.locale_sort,
            self.session_link,
        ):
            stub.u32(value)
        stub.u16(self.can_convert_code_pages)
        _write_version(stub, self.client_version)
        stub.u32(self.time_stamp)
        stub.conformant(self.aux_in)
        stub.u32(len(self.aux_in))
        stub.u32(self.aux_out_max)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        user_dn = stub.string("EcDoConnectEx: user DN", DN_MAX)
        flags, connection_hash, limit, code_page, locale_string, locale_sort, link = [
            stub.u32("EcDoConnectEx: numbers") for _ in range(7)
        ]
        can_convert = stub.u16("EcDoConnectEx: code pages")
        version = _read_version(stub, "EcDoConnectEx: version")
        time_stamp = stub.u32("EcDoConnectEx: time stamp")
        aux_in = stub.conformant("EcDoConnectEx: aux", AUX_MAX)
        size = _read_aux_size(stub, "EcDoConnectEx: aux size")
        if size != len(aux_in) or 1 <= size <= 7:
            raise WireError("range", f"EcDoConnectEx: {size} octets of aux announced, {len(aux_in)} there")
        aux_out_max = _read_aux_size(stub, "EcDoConnectEx: room for aux")
        return cls(
            user_dn,
            flags,
            connection_hash,
            limit,
            code_page,
            locale_string,
            locale_sort,
            link,
            can_convert,
            version,
            time_stamp,
            aux_in,
            aux_out_max,
        )


@dataclass(frozen=True, slots=True)
class EcDoConnectExReply:
    """The session, or why there is none. [MS-OXCRPC] 3.1.4.1. In the order of the wire:

    ``*pcxh, *pcmsPollsMax, *pcRetry, *pcmsRetryDelay, *picxr, szDNPrefix, szDisplayName, rgwServerVersion[3],
    rgwBestVersion[3], *pulTimeStamp, rgbAuxOut[size_is(*pcbAuxOut), length_is(*pcbAuxOut)], *pcbAuxOut, result``
    """

    session: ContextHandle = NIL_HANDLE
    polls_max_ms: int = 60_000
    retries: int = 6
    retry_delay_ms: int = 10_000
    session_index: int = 0
    dn_prefix: str | None = ""
    display_name: str | None = ""
    server_version: Version = (14, 0, 0)
    best_version: Version = (14, 0, 0)
    time_stamp: int = 0
    aux_out: bytes = b""
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.session)
        stub.u32(self.polls_max_ms)
        stub.u32(self.retries)
        stub.u32(self.retry_delay_ms)
        stub.u16(self.session_index)
        _write_text(stub, self.dn_prefix)
        _write_text(stub, self.display_name)
        _write_version(stub, self.server_version)
        _write_version(stub, self.best_version)
        stub.u32(self.time_stamp)
        stub.conformant_varying(self.aux_out)
        stub.u32(len(self.aux_out))
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        session = stub.handle("EcDoConnectEx reply: session")
        polls, retries, delay = [stub.u32("EcDoConnectEx reply: numbers") for _ in range(3)]
        index = stub.u16("EcDoConnectEx reply: index")
        prefix = _read_text(stub, "EcDoConnectEx reply: DN prefix")
        name = _read_text(stub, "EcDoConnectEx reply: display name")
        server_version = _read_version(stub, "EcDoConnectEx reply: server version")
        best_version = _read_version(stub, "EcDoConnectEx reply: best version")
        time_stamp = stub.u32("EcDoConnectEx reply: time stamp")
        aux_out = stub.conformant_varying("EcDoConnectEx reply: aux", AUX_MAX)
        if _read_aux_size(stub, "EcDoConnectEx reply: aux size") != len(aux_out):
            raise WireError("range", "EcDoConnectEx reply: aux of another size than announced")
        result = stub.u32("EcDoConnectEx reply: result")
        return cls(
            session,
            polls,
            retries,
            delay,
            index,
            prefix,
            name,
            server_version,
            best_version,
            time_stamp,
            aux_out,
            result,
        )


@dataclass(frozen=True, slots=True)
class EcDoDisconnect:
    """Ends a session: ``long EcDoDisconnect([in, out, ref] CXH* pcxh)``. [MS-OXCRPC] 3.1.4.3."""

    session: ContextHandle

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.session)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        return cls(NdrReader(octets, order, ndr64).handle("EcDoDisconnect: session"))


class EcDoAsyncConnectEx(EcDoDisconnect):
    """Makes a handle to wait for notifications with: ``long EcDoAsyncConnectEx([in] CXH cxh, [out, ref] ACXH* pacxh)``.

    [MS-OXCRPC] 3.1.4.4. The first call that shows a session's handle, mostly on another connection than the one that
    opened it: so it is the one that fails when connections of a client reached different servers.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class EcHandleReply:
    """What EcDoDisconnect (the session, now nil) and EcDoAsyncConnectEx (the new handle) answer."""

    handle: ContextHandle = NIL_HANDLE
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.handle(self.handle)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        handle = stub.handle("EMSMDB reply: handle")
        return cls(handle, stub.u32("EMSMDB reply: result"))


@dataclass(frozen=True, slots=True)
class EcDummyRpc:
    """Asks for nothing: ``long EcDummyRpc([in] handle_t hBinding)``; its stub is empty. [MS-OXCRPC] 3.1.4."""

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:  # noqa: ARG002 - like all others
        """The stub of the request."""
        return b""

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:  # noqa: ARG003 - like all others
        """Any stub will do: a verification trailer may follow the nothing."""
        return cls()


@dataclass(frozen=True, slots=True)
class EcDummyRpcReply:
    """A result, 0 from a server that lives."""

    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        return cls(NdrReader(octets, order, ndr64).u32("EcDummyRpc reply: result"))
