"""The directory as one frozen value. Members of an array are computed from it, never stored in it.

Everything has a name that is unique in its kind, whatever its capital letters. What stands in more than one store
(memory, SQLite, Active Directory) stands in all of them in these words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar

from casarray.core.config import Network
from casarray.core.forwarding.table import Address

CLIENT_ACCESS, MAILBOX = "client-access", "mailbox"
ROLES = (CLIENT_ACCESS, MAILBOX)
DEFAULT_ORGANIZATION = "First Organization"
DEFAULT_ADMIN_GROUP = "Exchange Administrative Group (FYDIBOHF23SPDLT)"
MAXIMUM_CONNECTIONS = 65536  # what Exchange shows when nobody said otherwise; it is documented as not enforced


class Kind(StrEnum):
    """The kinds of things, in an order in which they can be made: each refers to earlier ones alone."""

    ORGANIZATION = "organization"  # there is exactly one
    SITE = "site"
    SUBNET = "subnet"
    SERVER = "server"
    ARRAY = "array"
    GROUP = "group"
    DATABASE = "database"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Organization:
    """The Exchange organisation: what every legacyExchangeDN begins with."""

    title: str = DEFAULT_ORGANIZATION
    admin_group: str = DEFAULT_ADMIN_GROUP
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.ORGANIZATION

    @property
    def name(self) -> str:
        """What it stands under in Active Directory, whatever it is called."""
        return "Microsoft Exchange"


@dataclass(frozen=True, slots=True)
class Site:
    """An Active Directory site."""

    name: str
    description: str = ""
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.SITE


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet and the site it belongs to."""

    network: Network
    site: str
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.SUBNET

    @property
    def name(self) -> str:
        """As Active Directory names it: ``10.11.0.0/24``."""
        return str(self.network)


@dataclass(frozen=True, slots=True)
class RpcClientAccess:
    """The RPC client access object of a server: with it, the server is a member of its site's array."""

    name: str = "RpcClientAccess"
    encryption_required: bool = True
    maximum_connections: int = MAXIMUM_CONNECTIONS
    blocked_client_versions: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """A machine with roles."""

    name: str
    fqdn: str
    site: str
    roles: tuple[str, ...] = (CLIENT_ACCESS,)  # in the order of `ROLES`
    rpc_client_access: RpcClientAccess | None = RpcClientAccess()  # None: taken out of the array, reversibly
    addresses: tuple[Address, ...] = ()  # none: the FQDN says
    weight: int = 100
    public_folders: bool = False  # clients reach its public folders past the array, on its own ports
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.SERVER

    @property
    def is_member(self) -> bool:
        """It belongs to the array of its site, if that has one."""
        return CLIENT_ACCESS in self.roles and self.rpc_client_access is not None


@dataclass(frozen=True, slots=True)
class Array:
    """A client access array: one name for the client-access servers of one site."""

    name: str
    fqdn: str
    site: str
    addresses: tuple[Address, ...] = ()  # none: the FQDN says
    settings: Mapping[str, object] = field(default_factory=dict)  # further keys of `[[array]]`, as in the file
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.ARRAY


@dataclass(frozen=True, slots=True)
class AvailabilityGroup:
    """A database availability group."""

    name: str
    servers: tuple[str, ...] = ()
    allow_cross_site_rpc_client_access: bool = False
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.GROUP


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a database; the lowest preference is where it should be active."""

    server: str
    activation_preference: int = 1


@dataclass(frozen=True, slots=True)
class Database:
    """A mailbox database, and the name that clients of its mailboxes are told."""

    name: str
    active_server: str
    copies: tuple[Copy, ...]  # by activation preference
    rpc_client_access_server: str  # FQDN of an array or of a client-access server
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.DATABASE


@dataclass(frozen=True, slots=True)
class Account:
    """A user with a mailbox."""

    name: str
    database: str = ""
    address: str = ""  # primary SMTP address
    display_name: str = ""
    aliases: tuple[str, ...] = ()  # further SMTP addresses
    legacy_dn: str = ""  # its legacyExchangeDN; empty: worked out of its name, see `legacy_dn.of_account`
    mailbox_guid: str = ""  # of the mailbox; empty: the account's own guid stands for it
    guid: str = field(default="", compare=False)
    KIND: ClassVar[Kind] = Kind.ACCOUNT


Thing = Organization | Site | Subnet | Server | Array | AvailabilityGroup | Database | Account

CLASSES: Mapping[Kind, type[Any]] = {
    cls.KIND: cls for cls in (Organization, Site, Subnet, Server, Array, AvailabilityGroup, Database, Account)
}


def key(name: str) -> str:
    """What names are compared by."""
    return name.casefold()


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """Everything at one moment. Each mapping is keyed by `key` of the thing's name and never changed in place.

    Two are compared by `changes.difference`; by itself each is equal to itself alone, so that `lookup` can keep what it
    worked out for it.
    """

    organization: str = DEFAULT_ORGANIZATION
    admin_group: str = DEFAULT_ADMIN_GROUP
    sites: Mapping[str, Site] = field(default_factory=dict)
    subnets: Mapping[str, Subnet] = field(default_factory=dict)
    servers: Mapping[str, Server] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    groups: Mapping[str, AvailabilityGroup] = field(default_factory=dict)
    databases: Mapping[str, Database] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)

    def of(self, kind: Kind) -> Mapping[str, Any]:
        """The mapping of one kind."""
        if kind is Kind.ORGANIZATION:
            only = Organization(self.organization, self.admin_group)
            return {key(only.name): only}
        found: Mapping[str, Any] = getattr(self, f"{kind}s")
        return found

    def get(self, kind: Kind, name: str) -> Any | None:
        """The thing of that kind and name, or None."""
        return self.of(kind).get(key(name))

    def put(self, *things: Thing) -> "Directory":
        """With these, each in the place of what had its kind and name."""
        changed: dict[str, Any] = {}
        for thing in things:
            if isinstance(thing, Organization):
                changed |= {"organization": thing.title, "admin_group": thing.admin_group}
                continue
            kind = f"{thing.KIND}s"
            if kind not in changed:  # one copy of the mapping, not one for each thing
                changed[kind] = dict(self.of(thing.KIND))
            changed[kind][key(thing.name)] = thing
        return replace(self, **changed)

    def without(self, *things: Thing) -> "Directory":
        """Without what has the kind and name of these. There is always an organisation: it keeps its name."""
        changed: dict[str, Any] = {}
        for thing in things:
            if isinstance(thing, Organization):
                continue
            kind = f"{thing.KIND}s"
            if kind not in changed:
                changed[kind] = dict(self.of(thing.KIND))
            changed[kind].pop(key(thing.name), None)
        return replace(self, **changed)

    def __iter__(self) -> Iterator[Thing]:
        """Everything in the organisation, in an order in which it can be made."""
        for kind in Kind:
            if kind is not Kind.ORGANIZATION:
                yield from self.of(kind).values()
