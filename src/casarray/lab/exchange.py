"""What a lab server answers: endpoint mapper, address book and mailbox, without a socket.

RFR, NSPI and EMSMDB are answered by `core.referral`, from a directory if there is one, else for the lab's own users, of
whom any number will do. Without a directory the answers name the server wherever a protocol has room for it: RFR by its
host name, NSPI by a GUID made from that name, EMSMDB by the display name, the mapper by the annotation of its entries.
A context handle counts only on the server that issued it and within the association group it was issued to; any other
is a fault, and that is what a client sees when its connections went to different servers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import UUID, uuid4

from casarray.core.dcerpc.association import BAD_STUB_DATA, CONTEXT_MISMATCH, OP_RANGE_ERROR, Call
from casarray.core.dcerpc.interfaces import epm, rfr
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.tower import TCP, Tower
from casarray.core.errors import WireError
from casarray.core.referral.address_book import server_guid
from casarray.core.referral.client_access import BOOK_INTERFACES, MAILBOX_INTERFACES, ClientAccess, Demands
from casarray.core.referral.guide import HERE, Answer, Guide, Person
from casarray.lab.journal import name_of_dn, name_of_uuid, user, user_dn

__all__ = ["Answer", "Exchange", "Simulated", "server_guid"]

MAX_LOOKUPS = 100_000  # that were left half-way
LISTED_USERS = 1000  # of the simulated ones
ANY = IPv4Address(0)


@dataclass(slots=True)
class Simulated:
    """The lab's own users, all at home wherever they come: `core.referral.guide.Guide` of one server."""

    name: str
    fqdn: str
    organization: str = "/o=Lab"
    _people: tuple[Person, ...] = ()

    def person(self, user_dn: str) -> Person | None:
        """Anybody with a name."""
        name = name_of_dn(user_dn)
        return Person(name, user_dn, name) if name else None

    def account(self, principal: str) -> Person | None:
        """Anybody, too."""
        return self.person(user_dn(principal.partition("@")[0]))

    def people(self) -> Sequence[Person]:
        """The first thousand."""
        if not self._people:
            names = [user(number) for number in range(LISTED_USERS)]
            self._people = tuple(Person(name, user_dn(name), name, f"{name}@lab.example") for name in names)
        return self._people

    def address_book(self, user_dn: str, asker: Person | None) -> str | None:  # noqa: ARG002 - as all guides
        """Its own."""
        return self.fqdn

    def fqdn_of(self, server_dn: str, asker: Person | None) -> str | None:  # noqa: ARG002 - as all guides
        """Its own, whatever server is named."""
        return self.fqdn if rfr.server_of_dn(server_dn) else None

    def mailbox_home(self, person: Person) -> str | None:  # noqa: ARG002 - as all guides
        """Here."""
        return HERE

    def public_folders_home(self, person: Person | None) -> str | None:  # noqa: ARG002 - as all guides
        """Here."""
        return HERE


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
    guide: Guide | None = None  # None: the lab's own users
    demands: Demands = field(default_factory=Demands)
    _pages: dict[UUID, list[Registration]] = field(default_factory=dict)  # issued -> what is still to be told
    _groups: dict[int, set[UUID]] = field(default_factory=dict)  # association group -> its lookups
    _access: ClientAccess = field(init=False)

    def __post_init__(self) -> None:
        guide = self.guide or Simulated(self.name, self.fqdn)
        self._access = ClientAccess(guide, uuid4, self.demands, name_of_uuid, lambda: datetime.now(UTC))

    @property
    def fqdn(self) -> str:
        """The host name."""
        return f"{self.name}.{self.domain}"

    @property
    def interfaces(self) -> Mapping[str, tuple[Syntax, ...]]:
        """Service -> the interfaces that answer on its port."""
        return {"epm": (EPM,), "ab": BOOK_INTERFACES, "rpc": MAILBOX_INTERFACES}

    def answer(self, call: Call) -> Answer:
        """Answer a call, whatever is in it; handles count within the association group it came on."""
        if call.interface != EPM:
            return self._access.answer(call)
        handler = _CALLS.get(call.opnum)
        if handler is None:
            return Answer(fault=OP_RANGE_ERROR, call=f"opnum {call.opnum}")
        try:
            return handler(self, call)
        except WireError:
            return Answer(fault=BAD_STUB_DATA, call=handler.__name__.lstrip("_"))

    def forget_group(self, group: int) -> None:
        """Run down an association group: its last connection is gone, and with it what was issued to it."""
        self._access.forget_group(group)
        for uuid in self._groups.pop(group, ()):
            self._pages.pop(uuid, None)

    @property
    def open_handles(self) -> int:
        """How many handles are valid now."""
        return self._access.open_handles

    @property
    def open_lookups(self) -> int:
        """How many lookups were left half-way."""
        return len(self._pages)

    def _new_lookup(self, group: int, rest: list[Registration]) -> ContextHandle:
        handle = ContextHandle(uuid4())
        self._groups.setdefault(group, set()).add(handle.uuid)
        self._pages[handle.uuid] = rest
        while len(self._pages) > MAX_LOOKUPS:  # somebody asks and never comes back
            del self._pages[next(iter(self._pages))]
        return handle

    def _take_back(self, handle: ContextHandle, group: int) -> None:
        self._pages.pop(handle.uuid, None)
        self._groups.get(group, set()).discard(handle.uuid)

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
            handle = self._new_lookup(call.group_id, rest)
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


_CALLS: Mapping[int, Callable[[Exchange, Call], Answer]] = {
    epm.EPT_LOOKUP: Exchange._ept_lookup,
    epm.EPT_MAP: Exchange._ept_map,
    epm.EPT_LOOKUP_HANDLE_FREE: Exchange._ept_lookup_handle_free,
}
