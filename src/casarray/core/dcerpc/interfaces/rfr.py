"""RFR, the referral interface: "which address book server is mine, and what is the host name behind this DN?"

It answers with the FQDN of a server *or of an array*, so it is where an array's name belongs. [MS-OXABREF]. It has no
context handles and shares the port of NSPI.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self
from uuid import UUID

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.ndr import NdrReader, NdrWriter
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import WireError

RFR = Syntax(UUID("1544f5e0-613c-11d1-93df-00c04fd7bd09"), 1, 0)

#: Bounds for names on the wire, NUL included. The DN's are the IDL's own range; nothing else has one.
DN_MIN, DN_MAX = 10, 1024
NAME_MAX = 1024


class Opnum(IntEnum):
    """[MS-OXABREF] 3.1.4."""

    GET_NEW_DSA = 0
    GET_FQDN_FROM_SERVER_DN = 1


def server_of_dn(dn: str) -> str:
    """The server a DN is about: what follows ``cn=Servers``, in a server's DN and in a database's alike.

    ``/o=../ou=../cn=Configuration/cn=Servers/cn=CAS1/cn=Microsoft Private MDB`` -> ``CAS1``; empty if there is none.
    """
    parts = dn.split("/")
    for place, part in enumerate(parts[:-1]):
        if part.lower() == "cn=servers" and parts[place + 1].lower().startswith("cn="):
            return parts[place + 1][3:]
    return ""


def _double_pointer(stub: NdrReader, what: str) -> str | None:
    """``[unique] char**``: a pointer to a pointer to a string; None if either is null."""
    if not stub.pointer(what) or not stub.pointer(what):
        return None
    return stub.string(what, NAME_MAX)


def _write_double_pointer(stub: NdrWriter, text: str | None) -> None:
    stub.pointer(text is not None)
    if text is not None:
        stub.pointer(True)
        stub.string(text)


@dataclass(frozen=True, slots=True)
class RfrGetNewDsa:
    """Asks for an address book server. [MS-OXABREF] 3.1.4.1.

    ``long RfrGetNewDSA([in] handle_t hRpc, [in] unsigned long ulFlags, [in, string] unsigned char* pUserDN,
    [in, out, unique, string] unsigned char** ppszUnused, [in, out, unique, string] unsigned char** ppszServer)``
    """

    user_dn: str
    flags: int = 0
    unused: str | None = None
    server: str | None = None  # ignored by servers

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        stub = NdrWriter(order, ndr64)
        stub.u32(self.flags)
        stub.string(self.user_dn)
        _write_double_pointer(stub, self.unused)
        _write_double_pointer(stub, self.server)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        flags = stub.u32("RfrGetNewDSA: flags")
        user_dn = stub.string("RfrGetNewDSA: user DN", DN_MAX)
        unused = _double_pointer(stub, "RfrGetNewDSA: unused")
        return cls(user_dn, flags, unused, _double_pointer(stub, "RfrGetNewDSA: server"))


@dataclass(frozen=True, slots=True)
class RfrGetNewDsaReply:
    """The FQDN of an NSPI server or of a server array. [MS-OXABREF] 3.1.4.1."""

    server: str | None
    result: int = 0
    unused: str | None = None

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        _write_double_pointer(stub, self.unused)
        _write_double_pointer(stub, self.server)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        unused = _double_pointer(stub, "RfrGetNewDSA reply: unused")
        server = _double_pointer(stub, "RfrGetNewDSA reply: server")
        return cls(server, stub.u32("RfrGetNewDSA reply: result"), unused)


@dataclass(frozen=True, slots=True)
class RfrGetFqdnFromServerDn:
    """Asks for the host name behind a server's (or a database's) DN. [MS-OXABREF] 3.1.4.2.

    ``long RfrGetFQDNFromServerDN([in] handle_t hRpc, [in] unsigned long ulFlags, [in, range(10,1024)] unsigned long
    cbMailboxServerDN, [in, string, size_is(cbMailboxServerDN)] unsigned char* szMailboxServerDN,
    [out, ref, string] unsigned char** ppszServerFQDN)``
    """

    server_dn: str
    flags: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the request."""
        size = len(self.server_dn) + 1
        if not DN_MIN <= size <= DN_MAX:
            raise WireError("range", f"a server DN of {size} octets, {DN_MIN} to {DN_MAX} allowed")
        stub = NdrWriter(order, ndr64)
        stub.u32(self.flags)
        stub.u32(size)
        stub.string(self.server_dn)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The request in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        flags = stub.u32("RfrGetFQDNFromServerDN: flags")
        size = stub.u32("RfrGetFQDNFromServerDN: size")
        if not DN_MIN <= size <= DN_MAX:
            raise WireError("range", f"RfrGetFQDNFromServerDN: size {size}, {DN_MIN} to {DN_MAX} allowed")
        return cls(stub.string("RfrGetFQDNFromServerDN: DN", size), flags)


@dataclass(frozen=True, slots=True)
class RfrGetFqdnFromServerDnReply:
    """The host name, if there is one. [MS-OXABREF] 3.1.4.2."""

    fqdn: str | None
    result: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub of the response."""
        stub = NdrWriter(order, ndr64)
        stub.pointer(self.fqdn is not None)  # the outer pointer is a reference and leaves no trace
        if self.fqdn is not None:
            stub.string(self.fqdn)
        stub.u32(self.result)
        return bytes(stub)

    @classmethod
    def decode(cls, octets: bytes, order: Order = "little", ndr64: bool = False) -> Self:
        """The response in a stub, or `WireError`."""
        stub = NdrReader(octets, order, ndr64)
        fqdn = None
        if stub.pointer("RfrGetFQDNFromServerDN reply: name"):
            fqdn = stub.string("RfrGetFQDNFromServerDN reply: name", NAME_MAX)
        return cls(fqdn, stub.u32("RfrGetFQDNFromServerDN reply: result"))
