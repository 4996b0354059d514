"""What a lab server answers: endpoint mapper, address book and mailbox, without a socket.

Enough for a client to bind, map and make the simplest calls. Wherever a protocol has room for it the answer names the
server: RFR by its host name, NSPI by a GUID made from that name, EMSMDB by the display name, the mapper by the
annotation of its entries. A context handle counts only on the server that issued it and within the association group it
was issued to; any other is a fault, and that is what a client sees when its connections went to different servers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from uuid import NAMESPACE_DNS, UUID, uuid4, uuid5

from casarray.core.dcerpc.association import BAD_STUB_DATA, CONTEXT_MISMATCH, OP_RANGE_ERROR, Call
from casarray.core.dcerpc.interfaces import emsmdb, epm, nspi, rfr
from casarray.core.dcerpc.interfaces.emsmdb import ASYNC_EMSMDB, EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.tower import TCP, Tower
from casarray.core.errors import WireError
from casarray.lab.journal import name_of_dn, name_of_uuid

UNKNOWN_USER = 0x000003EB  # ecUnknownUser
NOT_FOUND = 0x8004010F  # MAPI_E_NOT_FOUND
GENERAL_FAILURE = 0x80004005
MAX_HANDLES = 100_000  # of sessions and address books; and again of lookups left half-way
ANY = IPv4Address(0)


def server_guid(fqdn: str) -> UUID:
    """The GUID with which the server of that name answers a bind to the address book."""
    return uuid5(NAMESPACE_DNS, fqdn.lower())


@dataclass(frozen=True, slots=True)
class Answer:
    """The stub of a response, or the status of a fault; who asked, and what."""

    stub: bytes = b""
    fault: int = 0
    call: str = ""
    client: str = ""  # the client's name if the call carried it


@dataclass(frozen=True, slots=True)
class Registration:
    """An interface that the endpoint mapper knows."""

    interface: Syntax
    port: int
    annotation: str


@dataclass(slots=True)
class Exchange:
    """One server's state."""

    name: str
    domain: str = "lab.example"
    address: IPv4Address = ANY  # what towers say; 0.0.0.0 as a server does that is asked over IPv6
    ports: Mapping[str, int] = field(default_factory=dict)  # service (epm, ab, rpc) -> port
    page: int = 500  # entries in one answer to a lookup, however many were asked for
    _handles: dict[UUID, tuple[int, str]] = field(default_factory=dict)  # issued -> association group, client
    _pages: dict[UUID, list[Registration]] = field(default_factory=dict)  # issued -> what is still to be told
    _groups: dict[int, set[UUID]] = field(default_factory=dict)  # association group -> everything issued to it

    @property
    def fqdn(self) -> str:
        """The host name."""
        return f"{self.name}.{self.domain}"

    @property
    def interfaces(self) -> Mapping[str, tuple[Syntax, ...]]:
        """Service -> the interfaces that answer on its port."""
        return {"epm": (EPM,), "ab": (RFR, NSPI), "rpc": (EMSMDB, ASYNC_EMSMDB)}

    def answer(self, call: Call) -> Answer:
        """Answer a call, whatever is in it; handles count within the association group it came on."""
        handler = _CALLS.get((call.interface, call.opnum))
        if handler is None:
            return Answer(fault=OP_RANGE_ERROR, call=f"opnum {call.opnum}")
        try:
            return handler(self, call)
        except WireError:
            return Answer(fault=BAD_STUB_DATA, call=handler.__name__.lstrip("_"))

    def forget_group(self, group: int) -> None:
        """Run down an association group: its last connection is gone, and with it what was issued to it."""
        for uuid in self._groups.pop(group, ()):
            self._handles.pop(uuid, None)
            self._pages.pop(uuid, None)

    @property
    def open_handles(self) -> int:
        """How many handles are valid now."""
        return len(self._handles)

    @property
    def open_lookups(self) -> int:
        """How many lookups were left half-way."""
        return len(self._pages)

    def _issue(self, group: int, client: str) -> ContextHandle | None:
        if len(self._handles) >= MAX_HANDLES:
            return None
        handle = self._new_handle(group)
        self._handles[handle.uuid] = (group, client)
        return handle

    def _new_handle(self, group: int) -> ContextHandle:
        handle = ContextHandle(uuid4())
        self._groups.setdefault(group, set()).add(handle.uuid)
        return handle

    def _take_back(self, handle: ContextHandle, group: int) -> None:
        self._handles.pop(handle.uuid, None)
        self._pages.pop(handle.uuid, None)
        self._groups.get(group, set()).discard(handle.uuid)

    def _owner(self, handle: ContextHandle, group: int) -> str | None:
        """The client a handle was issued to; None if it was not issued here, or to another group."""
        owner, client = self._handles.get(handle.uuid, (0, ""))
        return client if owner == group else None

    def _registrations(self) -> list[Registration]:
        labels = {"ab": "address book", "rpc": "mailbox"}
        return [
            Registration(interface, self.ports[service], f"{self.name}: {labels[service]}")
            for service in ("rpc", "ab")
            if self.ports.get(service)
            for interface in self.interfaces[service]
        ]

    def _tower(self, registration: Registration, transfer: Syntax = NDR) -> Tower:
        return Tower.tcp(registration.interface, registration.port, self.address, transfer)

    def _ept_map(self, call: Call) -> Answer:
        asked = epm.EptMap.decode(call.stub, call.order, call.ndr64)
        found: list[Tower] = []
        wanted = asked.tower.interface if asked.tower else None
        if asked.tower and wanted and asked.tower.transport == TCP and asked.tower.transfer in (NDR, NDR64):
            found = [
                self._tower(registration, asked.tower.transfer or NDR)
                for registration in self._registrations()
                if registration.interface.uuid == wanted.uuid and registration.interface.major == wanted.major
            ]
        reply = epm.EptMapReply(
            tuple(found[: asked.max_towers]), epm.OK if found else epm.NOT_REGISTERED, max_towers=asked.max_towers
        )
        return Answer(reply.encode(call.order, call.ndr64), call="ept_map", client=name_of_uuid(asked.object))

    def _ept_lookup(self, call: Call) -> Answer:
        asked = epm.EptLookup.decode(call.stub, call.order, call.ndr64)
        if asked.handle.is_nil:
            left = self._registrations()
            if asked.inquiry == epm.Inquiry.BY_INTERFACE and asked.interface:
                left = [r for r in left if r.interface.uuid == asked.interface.uuid]
        else:
            pages = self._pages.get(asked.handle.uuid)
            self._take_back(asked.handle, call.group_id)
            if pages is None:
                return Answer(fault=CONTEXT_MISMATCH, call="ept_lookup")
            left = pages
        count = min(asked.max_entries, self.page)
        page, rest = left[:count], left[count:]
        handle = NIL_HANDLE
        if page and rest:
            handle = self._new_handle(call.group_id)
            self._pages[handle.uuid] = rest
            while len(self._pages) > MAX_HANDLES:  # somebody asks and never comes back
                del self._pages[next(iter(self._pages))]
        reply = epm.EptLookupReply(
            tuple(epm.Entry(self._tower(entry), entry.annotation) for entry in page),
            epm.OK if page else epm.NOT_REGISTERED,
            handle,
            asked.max_entries,
        )
        return Answer(reply.encode(call.order, call.ndr64), call="ept_lookup", client=name_of_uuid(asked.object))

    def _ept_lookup_handle_free(self, call: Call) -> Answer:
        asked = epm.EptLookupHandleFree.decode(call.stub, call.order, call.ndr64)
        if not asked.handle.is_nil and asked.handle.uuid not in self._pages:
            return Answer(fault=CONTEXT_MISMATCH, call="ept_lookup_handle_free")
        self._take_back(asked.handle, call.group_id)
        return Answer(epm.EptLookupHandleFreeReply().encode(call.order, call.ndr64), call="ept_lookup_handle_free")

    def _rfr_get_new_dsa(self, call: Call) -> Answer:
        asked = rfr.RfrGetNewDsa.decode(call.stub, call.order, call.ndr64)
        reply = rfr.RfrGetNewDsaReply(self.fqdn)
        return Answer(reply.encode(call.order, call.ndr64), call="RfrGetNewDSA", client=name_of_dn(asked.user_dn))

    def _rfr_get_fqdn(self, call: Call) -> Answer:
        asked = rfr.RfrGetFqdnFromServerDn.decode(call.stub, call.order, call.ndr64)
        known = rfr.server_of_dn(asked.server_dn) != ""
        reply = rfr.RfrGetFqdnFromServerDnReply(self.fqdn if known else None, 0 if known else NOT_FOUND)
        return Answer(reply.encode(call.order, call.ndr64), call="RfrGetFQDNFromServerDN")

    def _nspi_bind(self, call: Call) -> Answer:
        asked = nspi.NspiBind.decode(call.stub, call.order, call.ndr64)
        guid = server_guid(self.fqdn) if asked.server_guid is not None else None
        # The client's GUID means nothing to a server; a lab client puts its own name there.
        client = name_of_uuid(asked.server_guid)
        handle = None if asked.stat.code_page == nspi.CODE_PAGE_UNICODE else self._issue(call.group_id, client)
        reply = nspi.NspiBindReply(guid, handle or NIL_HANDLE, 0 if handle else GENERAL_FAILURE)
        return Answer(reply.encode(call.order, call.ndr64), call="NspiBind", client=client)

    def _nspi_unbind(self, call: Call) -> Answer:
        asked = nspi.NspiUnbind.decode(call.stub, call.order, call.ndr64)
        client = self._owner(asked.handle, call.group_id)
        if client is None:
            return Answer(fault=CONTEXT_MISMATCH, call="NspiUnbind")
        self._take_back(asked.handle, call.group_id)
        return Answer(nspi.NspiUnbindReply().encode(call.order, call.ndr64), call="NspiUnbind", client=client)

    def _connect(self, call: Call) -> Answer:
        asked = emsmdb.EcDoConnectEx.decode(call.stub, call.order, call.ndr64)
        client = name_of_dn(asked.user_dn)
        handle = self._issue(call.group_id, client) if client else None
        reply = emsmdb.EcDoConnectExReply(
            handle or NIL_HANDLE,
            dn_prefix="/o=Lab" if handle else None,
            display_name=self.name if handle else None,
            time_stamp=asked.time_stamp,
            result=0 if handle else UNKNOWN_USER,
        )
        return Answer(reply.encode(call.order, call.ndr64), call="EcDoConnectEx", client=client)

    def _disconnect(self, call: Call) -> Answer:
        asked = emsmdb.EcDoDisconnect.decode(call.stub, call.order, call.ndr64)
        client = self._owner(asked.session, call.group_id)
        if client is None:
            return Answer(fault=CONTEXT_MISMATCH, call="EcDoDisconnect")
        self._take_back(asked.session, call.group_id)
        return Answer(emsmdb.EcHandleReply().encode(call.order, call.ndr64), call="EcDoDisconnect", client=client)

    def _async_connect(self, call: Call) -> Answer:
        asked = emsmdb.EcDoAsyncConnectEx.decode(call.stub, call.order, call.ndr64)
        client = self._owner(asked.session, call.group_id)
        if client is None:
            return Answer(fault=CONTEXT_MISMATCH, call="EcDoAsyncConnectEx")
        # The handle to wait with is worth nothing here, as nobody waits: it is not kept.
        reply = emsmdb.EcHandleReply(ContextHandle(uuid4()))
        return Answer(reply.encode(call.order, call.ndr64), call="EcDoAsyncConnectEx", client=client)

    def _dummy(self, call: Call) -> Answer:
        return Answer(emsmdb.EcDummyRpcReply().encode(call.order, call.ndr64), call="EcDummyRpc")


_CALLS: Mapping[tuple[Syntax, int], Callable[[Exchange, Call], Answer]] = {
    (EPM, epm.EPT_LOOKUP): Exchange._ept_lookup,
    (EPM, epm.EPT_MAP): Exchange._ept_map,
    (EPM, epm.EPT_LOOKUP_HANDLE_FREE): Exchange._ept_lookup_handle_free,
    (RFR, rfr.Opnum.GET_NEW_DSA): Exchange._rfr_get_new_dsa,
    (RFR, rfr.Opnum.GET_FQDN_FROM_SERVER_DN): Exchange._rfr_get_fqdn,
    (NSPI, nspi.Opnum.BIND): Exchange._nspi_bind,
    (NSPI, nspi.Opnum.UNBIND): Exchange._nspi_unbind,
    (EMSMDB, emsmdb.Opnum.CONNECT): Exchange._connect,
    (EMSMDB, emsmdb.Opnum.DISCONNECT): Exchange._disconnect,
    (EMSMDB, emsmdb.Opnum.ASYNC_CONNECT): Exchange._async_connect,
    (EMSMDB, emsmdb.Opnum.DUMMY): Exchange._dummy,
}
