"""A client and a server of RPC joined in memory, and the servers of the small organisation."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from tests.core.directory.example import ORGANISATION

from casarray.core.dcerpc.association import AssociationGroups, Call, Failed, Reply, RpcClient, RpcServer
from casarray.core.dcerpc.auth import AuthLevel, Caller
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.directory.model import Account, Directory
from casarray.core.referral.client_access import BOOK_INTERFACES, MAILBOX_INTERFACES, ClientAccess, Demands
from casarray.core.referral.signpost import Signpost, Station

R = TypeVar("R")

GROUP = "/o=Contoso/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)"
SERVERS = f"{GROUP}/cn=Configuration/cn=Servers/cn="
ALICE = f"{GROUP}/cn=Recipients/cn=alice"
OLD = Station("old1", "old1.domain.tld", retired=True)

#: The organisation with more people, of whom some have names that begin alike.
PEOPLE = ORGANISATION.put(
    Account("bob", "DB2", "bob@domain.tld", "Bob Smith", aliases=("robert@domain.tld",)),
    Account("bobby", "DB2", "bobby@domain.tld", "Bobby Jones"),
    Account("carol", "DB1", "carol@domain.tld", "Smithers, Carol"),
    Account("dave", "", "", "Dave without a mailbox"),
    Account("zoe", "DB1", "zoe@domain.tld", "Zoë Ångström", legacy_dn="/o=Old/ou=Site/cn=Recipients/cn=zo"),
)


class Fault(Exception):
    """The server answered with one."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:08x}")
        self.status = status


def numbered() -> Callable[[], UUID]:
    """UUIDs in a row instead of random ones."""
    numbers = count(1)
    return lambda: UUID(int=next(numbers))


def signpost(name: str = "cas1", directory: Directory = PEOPLE, gone: tuple[Station, ...] = (OLD,)) -> Signpost:
    """What that server tells; a retired one if it is among ``gone``."""
    station = next((one for one in gone if one.name == name), Station(name, f"{name}.domain.tld"))
    return Signpost(station, lambda: directory, lambda: gone)


def access(name: str = "cas1", directory: Directory = PEOPLE, demands: Demands | None = None) -> ClientAccess:
    """That server."""
    return ClientAccess(signpost(name, directory), numbered(), demands or Demands())


class Talk:
    """One connection to a server, bound to all its interfaces."""

    def __init__(
        self,
        server: ClientAccess,
        *,
        group_id: int = 0,
        groups: AssociationGroups | None = None,
        ndr64: bool = False,
        caller: Caller | None = None,
    ) -> None:
        self.access = server
        self.caller = caller
        self.ndr64 = ndr64
        self.server = RpcServer(
            (*BOOK_INTERFACES, *MAILBOX_INTERFACES), transfer=(NDR64, NDR) if ndr64 else (NDR,), groups=groups
        )
        self.client = RpcClient()
        transfer = (NDR, NDR64) if ndr64 else (NDR,)
        asked = self.client.bind(*BOOK_INTERFACES, *MAILBOX_INTERFACES, group_id=group_id, transfer=transfer)
        self.client.receive(self.server.serve(asked))

    def stub(self, interface: Syntax, opnum: int, stub: bytes) -> Reply:
        """Call with these octets; `Fault` if that is the answer."""
        (call,) = [e for e in self.server.receive(self.client.call(interface, opnum, stub)) if isinstance(e, Call)]
        known: Any = _Known(call, self.caller) if self.caller else call
        answer = self.access.answer(known)
        octets = call.fault(answer.fault) if answer.fault else call.reply(answer.stub)
        (event,) = self.client.receive(octets)
        if isinstance(event, Failed):
            raise Fault(event.status)
        assert isinstance(event, Reply)
        return event

    def ask(self, interface: Syntax, opnum: int, asked: Any, reply: Callable[[bytes, Any, bool], R]) -> R:
        """Call with a message, and read the answer."""
        event = self.stub(interface, opnum, asked.encode(ndr64=self.ndr64))
        return reply(event.stub, event.order, event.ndr64)


class _Known:
    """A call whose caller is known, without the tokens."""

    def __init__(self, call: Call, caller: Caller) -> None:
        self._call = call
        self.caller = caller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def by_kerberos(name: str, level: AuthLevel = AuthLevel.PRIVACY) -> Caller:
    """Somebody who has shown a ticket."""
    return Caller(f"{name}@DOMAIN.TLD", "Kerberos", level)


def moved(directory: Directory, database: str, server: str) -> Directory:
    """After a switchover."""
    return directory.put(replace(directory.databases[database.casefold()], active_server=server))
