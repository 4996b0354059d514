"""The management interface, which every RPC server has. [C706] appendix Q.

void rpc__mgmt_inq_if_ids(
    [in] handle_t h, [out] rpc_if_id_vector_p_t *if_id_vector, [out] error_status_t *status);
boolean32 rpc__mgmt_is_server_listening([in] handle_t h, [out] error_status_t *status);

typedef struct { unsigned32 count; [size_is(count)] rpc_if_id_p_t if_id[*]; } rpc_if_id_vector_t;
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.ndr import NdrReader, NdrWriter
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import WireError

MGMT: Final = Syntax(UUID("afa8bd80-7d8a-11c9-bef4-08002b102989"), 1, 0)

INQ_IF_IDS: Final = 0
INQ_STATS: Final = 1
IS_SERVER_LISTENING: Final = 2
STOP_SERVER_LISTENING: Final = 3
INQ_PRINC_NAME: Final = 4

MAX_INTERFACES: Final = 1024


@dataclass(frozen=True, slots=True)
class InqIfIdsReply:
    """Which interfaces the server has. The request is an empty stub. None: a null vector."""

    interfaces: tuple[Syntax, ...] | None
    status: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.pointer(self.interfaces is not None)
        if self.interfaces is not None:
            writer.count(len(self.interfaces))
            writer.u32(len(self.interfaces))
            for _ in self.interfaces:
                writer.pointer(True)
            for interface in self.interfaces:
                writer.uuid(interface.uuid)
                writer.u16(interface.major)
                writer.u16(interface.minor)
        writer.u32(self.status)
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "InqIfIdsReply":
        """Read the stub; anything wrong is a `WireError`."""
        reader = NdrReader(stub, order, ndr64)
        interfaces: tuple[Syntax, ...] | None = None
        if reader.pointer("if_id_vector"):
            conformance = reader.count("if_id_vector", MAX_INTERFACES)
            if reader.u32("count") != conformance:
                raise WireError("range", f"if_id_vector: count is not {conformance}")
            referents = [reader.pointer("if_id") for _ in range(conformance)]
            interfaces = tuple(
                Syntax(reader.uuid("if_id"), reader.u16("vers_major"), reader.u16("vers_minor"))
                for referent in referents
                if referent
            )
        return cls(interfaces, reader.u32("status"))


@dataclass(frozen=True, slots=True)
class IsServerListeningReply:
    """Whether it takes calls. The request is an empty stub."""

    listening: bool
    status: int = 0

    def encode(self, order: Order = "little", ndr64: bool = False) -> bytes:
        """The stub."""
        writer = NdrWriter(order, ndr64)
        writer.u32(self.status)
        writer.u32(int(self.listening))
        return bytes(writer)

    @classmethod
    def decode(cls, stub: bytes, order: Order = "little", ndr64: bool = False) -> "IsServerListeningReply":
        """Read the stub; anything wrong is a `WireError`."""
        reader = NdrReader(stub, order, ndr64)
        status = reader.u32("status")
        return cls(bool(reader.u32("result")), status)
