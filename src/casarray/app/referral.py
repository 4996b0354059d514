"""Stands in for servers that are gone: leads whoever still comes to the array, and keeps who that was.

One address stands for one retired name, or for several. It has an endpoint mapper, whose towers say that address and
our own ports, and behind it RFR, NSPI and EMSMDB as `core.referral` answers them for a server that serves nobody.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from typing import Final, Protocol
from uuid import UUID

from casarray.core.config import Config, ReferralSettings, Retired
from casarray.core.dcerpc.association import ACCESS_DENIED, BAD_STUB_DATA, AssociationGroups, Call, RpcServer
from casarray.core.dcerpc.auth import Caller, Security, ServerAuth
from casarray.core.dcerpc.endpoint_map import EndpointMap
from casarray.core.dcerpc.interfaces.epm import EPM, Entry
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.directory.lookup import site_of
from casarray.core.directory.model import Directory, key
from casarray.core.errors import Unavailable, WireError
from casarray.core.forwarding.table import Address
from casarray.core.referral.client_access import BOOK_INTERFACES, MAILBOX_INTERFACES, ClientAccess, Demands
from casarray.core.referral.guide import Answer
from casarray.core.referral.mailbox import EPOCH
from casarray.core.referral.signpost import Signpost, Station
from casarray.core.referral.visits import Visit, Visits

log = logging.getLogger(__name__)

MAPPER, BOOK, MAILBOX = "mapper", "book", "mailbox"
SERVICES: Final[Mapping[str, tuple[Syntax, ...]]] = {
    MAPPER: (EPM,),
    BOOK: BOOK_INTERFACES,
    MAILBOX: MAILBOX_INTERFACES,
}
NOWHERE: Final = IPv4Address(0)

#: What is counted besides calls by their names.
OTHER, REFUSED = "other", "refused authentication"
PROVIDERS: Final[Mapping[int, str]] = {9: "Negotiate", 10: "NTLM", 16: "Kerberos"}

OpenSecurity = Callable[[int], Security | None]


class VisitStore(Protocol):
    """Keeps who came over a restart. Blocking."""

    def load(self) -> Sequence[Visit]:
        """What was kept."""

    def save(self, visits: Sequence[Visit]) -> None:
        """Keep these."""

    def put_aside(self) -> object:
        """Out of the way with what cannot be read; where it is now."""


@dataclass(slots=True)
class Post:
    """One address and the server that it stands for."""

    address: Address
    names: tuple[str, ...]  # short
    access: ClientAccess
    ports: dict[str, int]  # by service; 0 until it is known
    groups: AssociationGroups = field(default_factory=AssociationGroups)
    mapper: EndpointMap = field(default_factory=EndpointMap)

    def listening(self, ports: Mapping[str, int]) -> None:
        """These are its ports: the endpoint mapper tells them."""
        self.ports = dict(ports)
        # A tower has room for an IPv4 address alone; clients take the one they asked.
        place = self.address if isinstance(self.address, IPv4Address) else NOWHERE
        self.mapper.entries = tuple(
            Entry(Tower.tcp(interface, self.ports[service], place), f"{self.names[0]}: {service}")
            for service in (MAILBOX, BOOK)
            for interface in SERVICES[service]
        )

    def name(self, about: str) -> str:
        """The old name that a client came by; all of them where it has not said."""
        said = next((name for name in self.names if key(name) == key(about.partition(".")[0])), None)
        return said or " or ".join(self.names)


class ReferralService:
    """Everything but the sockets. ``now`` is in seconds since the epoch."""

    def __init__(
        self,
        config: Config,
        new_uuid: Callable[[], UUID],
        now: Callable[[], float],
        *,
        kept: Sequence[Visit] = (),
        open_security: OpenSecurity | None = None,
        utc: Callable[[], datetime] = lambda: EPOCH,
    ) -> None:
        """``open_security`` opens an acceptor for a provider; without it nobody can authenticate."""
        self.directory = Directory()  # to be set whenever it has become another
        self.visits = Visits(kept)
        self.calls: Counter[tuple[str, str]] = Counter()  # retired name, call -> answers
        self.now = now
        self.open_security = open_security
        self.connections: Callable[[], int] = lambda: 0  # how many there are now, as the listener knows
        settings = config.referral
        self._stations = tuple(_station(one) for one in config.retired)
        self._utc = utc
        self.posts = tuple(self._posts(config.retired, settings, new_uuid))

    def _posts(
        self, retired: Sequence[Retired], settings: ReferralSettings, new_uuid: Callable[[], UUID]
    ) -> Iterator[Post]:
        demands = Demands(settings.anonymous, settings.encryption_required)
        for address in dict.fromkeys(address for one in retired for address in one.addresses):
            here = [_station(one) for one in retired if address in one.addresses]
            guide = Signpost(here[0], lambda: self.directory, lambda: self._stations, self._site_of(address))
            names = tuple(station.name for station in here)
            ports = {MAPPER: settings.mapper_port, BOOK: settings.book_port, MAILBOX: settings.mailbox_port}
            yield Post(address, names, ClientAccess(guide, new_uuid, demands, now=self._utc), ports)

    def _site_of(self, address: Address) -> Callable[[], str]:
        return lambda: site_of(self.directory, address) or ""

    def count(self, post: Post, call: str) -> None:
        """Something was answered; ``call`` is one of a few words, as each is a time series for ever."""
        self.calls[post.names[0], call] += 1

    def visitor(self, post: Post, service: str, client: Address) -> "Visitor":
        """A new connection."""
        return Visitor(self, post, service, client)

    def warnings(self) -> tuple[str, ...]:
        """What an administrator should know, a sentence each."""
        directory = self.directory
        said = [] if directory.arrays else ["the directory has no array that anybody could be led to: add one"]
        for station in self._stations:
            server = directory.servers.get(key(station.name))
            if server is not None and server.is_member:
                said.append(
                    f"{station.name} is retired here and still a member of its site's array in the directory: take it "
                    f"out (casarray server take-out {station.name}), or clients are led to it"
                )
        return tuple(said)


class Visitor:
    """One connection: what is answered, and who it was."""

    def __init__(self, service: ReferralService, post: Post, kind: str, client: Address) -> None:
        self._service = service
        self._post = post
        self._kind = kind
        self._client = client
        self._user = ""
        self._about = ""
        self._proven = ""
        self._called = False
        self._noted = False
        self._wanted: int | None = None  # the provider by which it wanted to authenticate
        self.rpc = RpcServer(
            SERVICES[kind],
            groups=post.groups,
            secondary_address=str(post.ports[kind]),
            auth=ServerAuth(self._open),
        )

    def answer(self, call: Call) -> bytes:
        """The octets that answer it."""
        if call.interface == EPM:
            return self._map(call)
        self._called = True
        answer = self._post.access.answer(call)
        self._remember(call, answer)
        self._service.count(self._post, answer.call if not answer.call.startswith("opnum") else OTHER)
        if answer.fault:
            return call.fault(answer.fault, did_not_execute=answer.fault == ACCESS_DENIED)
        return call.reply(answer.stub)

    def gone(self) -> None:
        """The connection has ended."""
        group = self.rpc.group_id
        if self.rpc.close():
            self._post.access.forget_group(group)
        if self._noted:
            return
        if (caller := self.rpc.caller) is not None:
            self._prove(caller)
        if self._called or caller is not None:
            self._note()
        elif self._wanted is not None:
            self._refused(self._wanted)

    def _open(self, kind: int) -> Security | None:
        """An acceptor for a client that comes with this provider, if we have it."""
        self._wanted = kind
        return None if self._service.open_security is None else self._service.open_security(kind)

    def _refused(self, kind: int) -> None:
        """It wanted to authenticate and has not: nobody here could take its proof, or it was none."""
        self._service.count(self._post, REFUSED)
        if self._note():
            log.warning(
                "%s could not authenticate by %s to %s: [referral] keytab must have the keys of its names; NTLM is not "
                "taken",
                self._client,
                PROVIDERS.get(kind, f"provider {kind}"),
                self._post.name(""),
            )

    def _map(self, call: Call) -> bytes:
        try:
            found = self._post.mapper(call)
        except WireError:
            return call.fault(BAD_STUB_DATA)
        return call.reply(found) if isinstance(found, bytes) else call.fault(found)

    def _prove(self, caller: Caller) -> None:
        self._proven = caller.mechanism
        self._user = caller.name.partition("@")[0]

    def _remember(self, call: Call, answer: Answer) -> None:
        if (caller := call.caller) is not None:
            self._prove(caller)
        elif answer.client:
            self._user = answer.client
        self._about = answer.about or self._about
        known = len(self._post.names) == 1 or self._about
        if self._user and known and not self._noted:
            self._note()

    def _note(self) -> bool:
        """Keep that it came; whether it is somebody new."""
        self._noted = True
        service, name = self._service, self._post.name(self._about)
        new = service.visits.note(self._user, str(self._client), name, service.now(), self._proven)
        if new:
            log.info("%s still comes to %s, from %s", self._user or "somebody", name, self._client)
        return new


def _station(retired: Retired) -> Station:
    return Station(retired.short_name, retired.name, retired.site, retired=True)


def kept(store: VisitStore) -> Sequence[Visit]:
    """What was kept. A list that is damaged is put aside: leading clients matters more than counting them."""
    try:
        return store.load()
    except Unavailable as error:
        log.error("%s: it is now %s", error, store.put_aside())
        return ()
