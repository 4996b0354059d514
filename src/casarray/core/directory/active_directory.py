"""What stands where in Active Directory: the words of its schema, distinguished names, search filters, entries.

Sites and subnets stand below ``CN=Sites`` of the configuration partition, as every domain has them. The organisation
stands below ``CN=Microsoft Exchange,CN=Services`` there, as Exchange 2010 keeps it:

    CN=ORG / CN=Administrative Groups / CN=ADMIN GROUP / CN=Servers    / CN=CAS1    msExchExchangeServer
                                                         CN=Arrays     / CN=CAS     msExchClientAccessArray
                                                         CN=Databases  / CN=DB1     msExchPrivateMDB
                                                                         / CN=MBX1  msExchMDBCopy, one a copy
                                                         CN=Database Availability Groups / CN=DAG1

Accounts are users of the domain that have a ``homeMDB``. What Exchange has no place for (addresses, weights, an array's
settings) is kept in ``casarraySettings``, values of the form key=value. How these become a `Directory` stands in
`ad_reading`, how changes become LDAP operations in `ad_writing`, the schema itself in `ad_schema`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

CONTAINER_CLASS = "msExchContainer"
SETTINGS = "casarraySettings"
SETTINGS_CLASS = "casarrayObject"  # an auxiliary class, so that no class of Exchange has to be changed
ACCOUNT_MARK = "account=yes"  # of a user who is an account without a database
TCP = "ncacn_ip_tcp:"  # of a networkAddress: what follows is the FQDN
SMTP = "SMTP:"  # of a proxyAddress, in capitals: the primary one; in small letters, a further one

MAILBOX_BIT, CLIENT_ACCESS_BIT = 2, 4  # of msExchCurrentServerRoles; others are left as they are

SERVERS, ARRAYS, DATABASES = "Servers", "Arrays", "Databases"
GROUPS = "Database Availability Groups"
ADMIN_GROUPS = "Administrative Groups"
EXCHANGE = "CN=Microsoft Exchange,CN=Services"
RPC_CLIENT_ACCESS = "RpcClientAccess"

ATTRIBUTES = (
    "objectClass",
    "objectGUID",
    "description",
    "siteObject",
    "networkAddress",
    "msExchServerSite",
    "msExchCurrentServerRoles",
    "legacyExchangeDN",
    "msExchOwningServer",
    "msExchMasterServerOrAvailabilityGroup",
    "msExchMDBAvailabilityGroupLink",
    "msExchHostServerLink",
    "msExchActivationPreference",
    SETTINGS,
)
ACCOUNT_ATTRIBUTES = (
    "objectClass",
    "objectGUID",
    "sAMAccountName",
    "homeMDB",
    "displayName",
    "mail",
    "proxyAddresses",
    "legacyExchangeDN",
    "msExchMailboxGuid",
    SETTINGS,
)

LINKS = (
    "siteObject",
    "msExchServerSite",
    "msExchOwningServer",
    "msExchMasterServerOrAvailabilityGroup",
    "msExchMDBAvailabilityGroupLink",
    "msExchHostServerLink",
    "homeMDB",
)


class EntryKind(StrEnum):
    """What an entry is to us."""

    SITE = "site"
    SUBNET = "subnet"
    SERVER = "server"
    ARRAY = "array"
    GROUP = "group"
    DATABASE = "database"
    PUBLIC_DATABASE = "public-folder database"
    COPY = "database copy"
    ACCESS = "RPC client access"
    ACCOUNT = "account"
    CONTAINER = "container"
    OTHER = "other"


#: The first class found decides: an array is an Exchange server too, by its class.
_CLASSES: Mapping[str, EntryKind] = {
    "msexchclientaccessarray": EntryKind.ARRAY,
    "msexchexchangeserver": EntryKind.SERVER,
    "msexchprivatemdb": EntryKind.DATABASE,
    "msexchpublicmdb": EntryKind.PUBLIC_DATABASE,
    "msexchmdbcopy": EntryKind.COPY,
    "msexchmdbavailabilitygroup": EntryKind.GROUP,
    "site": EntryKind.SITE,
    "subnet": EntryKind.SUBNET,
}
_CONTAINERS = {name.casefold() for name in (SERVERS, ARRAYS, DATABASES, GROUPS, ADMIN_GROUPS)}


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of Active Directory, with those of its attributes that mean something here."""

    dn: str
    guid: str
    kind: EntryKind
    classes: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The value of its first name part."""
        return first_value(self.dn)

    def first(self, attribute: str) -> str:
        """The first value of an attribute; empty if it has none."""
        return next(iter(self.values.get(attribute, ())), "")

    def of(self, attribute: str) -> tuple[str, ...]:
        """All values of an attribute."""
        return self.values.get(attribute, ())


@dataclass(frozen=True, slots=True)
class Partitions:
    """The parts of the forest, as a domain controller names them."""

    domain: str
    configuration: str
    schema: str
    root: str  # the forest's first domain

    @property
    def sites(self) -> str:
        """Where sites stand."""
        return f"CN=Sites,{self.configuration}"

    @property
    def exchange(self) -> str:
        """Where the Exchange organisation stands."""
        return f"{EXCHANGE},{self.configuration}"

    @property
    def users(self) -> str:
        """Where a new account is put."""
        return f"CN=Users,{self.domain}"


def kind_of(classes: Iterable[str], dn: str) -> EntryKind:
    """What an entry of these classes is, at that place."""
    folded = {name.casefold() for name in classes}
    for name, kind in _CLASSES.items():
        if name in folded:
            return kind
    if first_value(dn).casefold() == RPC_CLIENT_ACCESS.casefold():
        return EntryKind.ACCESS
    if first_value(dn).casefold() in _CONTAINERS or "msexchadmingroup" in folded:
        return EntryKind.CONTAINER
    if "user" in folded and "computer" not in folded:
        return EntryKind.ACCOUNT
    return EntryKind.OTHER


def belongs(entry: Entry, partitions: Partitions) -> bool:
    """Whether an entry is part of what is read; it may have been moved away, or have stopped being a mailbox."""
    kind = entry.kind
    if kind is EntryKind.ACCOUNT:
        return bool(entry.of("homeMDB")) or ACCOUNT_MARK in entry.of(SETTINGS)
    if kind in (EntryKind.SITE, EntryKind.SUBNET):
        return is_below(entry.dn, partitions.sites) and not is_deleted(entry.dn)
    if not is_below(entry.dn, partitions.exchange) or is_deleted(entry.dn):
        return False
    if kind is EntryKind.OTHER:
        return first_value(parent(entry.dn)) in (SERVERS, ARRAYS, DATABASES)
    return True


def followed(entry: Entry, old: str, new: str) -> Entry:
    """The entry after another one was renamed: its own DN and those it refers to follow, without an update number."""

    def follow(dn: str) -> str:
        return f"{dn[: len(dn) - len(old)]}{new}" if is_below(dn, old) else dn

    links = {name: tuple(map(follow, entry.values[name])) for name in LINKS if name in entry.values}
    if follow(entry.dn) == entry.dn and all(entry.values[name] == values for name, values in links.items()):
        return entry
    return replace(entry, dn=follow(entry.dn), values={**entry.values, **links})


def is_alias(proxy_address: str) -> bool:
    """Whether a value of proxyAddresses is a further SMTP address: not the primary one, nor one of X.400 or EX."""
    return proxy_address.startswith(SMTP.lower())


# Distinguished names ([RFC4514]).


def escape_value(text: str) -> str:
    """A value as it stands in a distinguished name."""
    out = [f"\\{c}" if c in ',+"\\<>;=' else f"\\{ord(c):02x}" if ord(c) < 0x20 else c for c in text]
    if out and text[0] in " #":
        out[0] = f"\\{text[0]}"
    if len(out) > 1 and text[-1] == " ":
        out[-1] = "\\ "
    return "".join(out)


def child(name: str, parent: str) -> str:
    """The DN of ``CN=name`` below a parent."""
    return f"CN={escape_value(name)},{parent}"


def split(dn: str) -> tuple[str, str]:
    """The first name part as it stands, and the DN of the parent (empty at the top)."""
    at = dn.find(",")
    while at > 0 and _escaped(dn, at):
        at = dn.find(",", at + 1)
    return (dn, "") if at < 0 else (dn[:at], dn[at + 1 :])


def _escaped(text: str, at: int) -> bool:
    before = len(text[:at]) - len(text[:at].rstrip("\\"))
    return before % 2 == 1


def parent(dn: str) -> str:
    """The DN of the parent."""
    return split(dn)[1]


def first_value(dn: str) -> str:
    """The value of the first name part, without escapes: ``CN=Lab\\, Org,...`` gives ``Lab, Org``."""
    value = split(dn)[0].partition("=")[2]
    if "\\" not in value:
        return value
    out = bytearray()
    at = 0
    while at < len(value):
        if value[at] != "\\":
            out += value[at].encode()
            at += 1
        elif len(pair := value[at + 1 : at + 3]) == 2 and all(c in "0123456789abcdefABCDEF" for c in pair):
            out.append(int(pair, 16))
            at += 3
        else:
            out += value[at + 1 : at + 2].encode()
            at += 2
    return out.decode("utf-8", "replace")


def dn_key(dn: str) -> str:
    """What the DNs that one domain controller gives are compared by."""
    return dn.casefold()


def is_below(dn: str, base: str) -> bool:
    """Whether an object stands somewhere below another, or is that."""
    one, other = dn_key(dn), dn_key(base)
    return one == other or one.endswith("," + other)


def is_deleted(dn: str) -> bool:
    """Whether a DN is that of a deleted object: links may go on naming it."""
    return "\\0adel:" in dn.casefold()


def is_duplicate(dn: str) -> bool:
    """Whether replication has put an object aside because two of its name were made at two domain controllers."""
    return "\\0acnf:" in dn.casefold()


def domain_name(dn: str) -> str:
    """The DNS name of a domain partition: ``DC=lab,DC=example`` gives ``lab.example``."""
    parts = []
    while dn:
        rdn, dn = split(dn)
        if rdn[:3].casefold() == "dc=":
            parts.append(rdn[3:])
    return ".".join(parts)


def domain_dn(name: str) -> str:
    """The DN of a domain of that DNS name."""
    return ",".join(f"DC={escape_value(label)}" for label in name.strip(".").split("."))


# Filters ([RFC4515]).


def escape_filter(text: str) -> str:
    """A value as it stands in a search filter."""
    return "".join(f"\\{ord(c):02x}" if c in "\\*()\0" else c for c in text)


#: Everything of an organisation that is read; servers with their arrays, which are servers by class.
ORGANIZATION_FILTER = (
    "(|(objectClass=msExchExchangeServer)(objectClass=msExchPrivateMDB)(objectClass=msExchPublicMDB)"
    "(objectClass=msExchMDBCopy)(objectClass=msExchMDBAvailabilityGroup)(objectClass=msExchAdminGroup)"
    + "".join(f"(cn={name})" for name in (RPC_CLIENT_ACCESS, ADMIN_GROUPS, SERVERS, ARRAYS, DATABASES, GROUPS))
    + ")"
)
#: What stands among servers, arrays and databases without being one: it is named, so that nobody wonders.
FOREIGN_FILTER = (
    "(!(|(objectClass=msExchExchangeServer)(objectClass=msExchPrivateMDB)(objectClass=msExchPublicMDB)"
    "(objectClass=msExchMDBAvailabilityGroup)))"
)
SITES_FILTER = "(|(objectClass=site)(objectClass=subnet))"
ACCOUNTS_FILTER = f"(&(objectCategory=person)(objectClass=user)(|(homeMDB=*)(objectClass={SETTINGS_CLASS})))"


def changed_filter(usn: int, what: str = "") -> str:
    """What has changed after that update number, of ``what`` (a filter)."""
    changed = f"(uSNChanged>={usn + 1})"
    return f"(&{what}{changed})" if what else changed


def account_filter(name: str) -> str:
    """The user of that logon name."""
    return f"(&(objectCategory=person)(objectClass=user)(sAMAccountName={escape_filter(name)}))"


# Our own settings on an object: key=value.


def settings_of(lines: Iterable[str]) -> dict[str, str]:
    """The settings by their keys; of a key that stands there twice the first in alphabetical order counts."""
    found: dict[str, str] = {}
    for line in sorted(lines):
        name, mark, value = line.partition("=")
        if mark and name.strip():
            found.setdefault(name.strip(), value.strip())
    return found


def setting_lines(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The settings as values of the attribute."""
    return tuple(f"{name}={value}" for name, value in sorted(settings.items()))


def walk_up(dn: str) -> Iterator[str]:
    """The DN and its parents, nearest first."""
    while dn:
        yield dn
        dn = parent(dn)
