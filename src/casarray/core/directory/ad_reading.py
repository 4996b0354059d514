"""Entries of Active Directory as a `Directory`. What cannot be understood is left out, with a sentence about it."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TypeVar

from casarray.core.config_keys import ARRAY, IN_ARRAY
from casarray.core.directory.active_directory import (
    ADMIN_GROUPS,
    CLIENT_ACCESS_BIT,
    MAILBOX_BIT,
    SETTINGS,
    SMTP,
    TCP,
    Entry,
    EntryKind,
    dn_key,
    first_value,
    is_alias,
    is_deleted,
    is_duplicate,
    parent,
    settings_of,
)
from casarray.core.directory.legacy_dn import last_name
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    DEFAULT_ADMIN_GROUP,
    DEFAULT_ORGANIZATION,
    MAILBOX,
    MAXIMUM_CONNECTIONS,
    Account,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    RpcClientAccess,
    Server,
    Site,
    Subnet,
    Thing,
    key,
)
from casarray.core.forwarding.table import Address

MOST_NAMED = 5  # of those a sentence is about
TAKEN_OUT = "rpc_client_access"  # the setting that takes a server out of its array: =false
RPC = "rpc."  # settings of a server's RPC client access begin so
ORDER = "order"  # of the servers of an availability group


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands in Active Directory, and at which entries."""

    directory: Directory
    missing: tuple[str, ...]
    entries: Mapping[tuple[Kind, str], Entry]  # by kind and folded name
    copies: Mapping[str, tuple[Entry, ...]]  # by the folded DN of their database
    access: Mapping[str, Entry]  # RPC client access objects, by the folded DN of their server
    admin_group_dn: str = ""  # where new things are put; empty: it has to be made first
    containers: frozenset[str] = frozenset()  # folded DNs


@dataclass(slots=True)
class _Notes:
    """Sentences about what was left out: one for each reason, however many it met."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.by_reason.setdefault(reason, []).append(name)

    def sentences(self) -> tuple[str, ...]:
        out = []
        for reason, names in self.by_reason.items():
            some = ", ".join(sorted(names)[:MOST_NAMED])
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            out.append(f"{some}{more}: {reason}")
        return tuple(out)


class _Left(Exception):
    """The entry is left out, for this reason."""


def read(entries: Iterable[Entry]) -> Reading:
    """The directory that these entries make."""
    return _Reader(entries).reading()


T = TypeVar("T", bound=Thing)


class _Reader:
    def __init__(self, entries: Iterable[Entry]) -> None:
        self._notes = _Notes()
        self._by_kind: dict[EntryKind, list[Entry]] = {kind: [] for kind in EntryKind}
        for entry in sorted(entries, key=lambda e: dn_key(e.dn)):
            self._by_kind[entry.kind].append(entry)
        self._entries: dict[tuple[Kind, str], Entry] = {}
        self._named: dict[str, str] = {}  # folded DN -> the name of the thing
        # The object stands below its server, or in a container there.
        self._access = {
            dn_key(dn): e for e in self._by_kind[EntryKind.ACCESS] for dn in (parent(e.dn), parent(parent(e.dn)))
        }
        self._copies: dict[str, list[Entry]] = {}
        for copy in self._by_kind[EntryKind.COPY]:
            self._copies.setdefault(dn_key(parent(copy.dn)), []).append(copy)
        self._public = {dn_key(e.first("msExchOwningServer")) for e in self._by_kind[EntryKind.PUBLIC_DATABASE]}
        self._fqdn_of_server: dict[str, str] = {}

    def reading(self) -> Reading:
        organization, admin_group, admin_group_dn = self._organization()
        sites = self._things(EntryKind.SITE, self._site)
        subnets = self._things(EntryKind.SUBNET, self._subnet)
        servers = self._things(EntryKind.SERVER, self._server)
        self._fqdn_of_server = {name: server.fqdn for name, server in servers.items()}
        arrays = self._things(EntryKind.ARRAY, self._array)
        members = self._group_members()
        groups = self._things(EntryKind.GROUP, lambda e: self._group(e, members.get(dn_key(e.dn), ())))
        databases = self._things(EntryKind.DATABASE, self._database)
        accounts = self._things(EntryKind.ACCOUNT, self._account)
        self._note_foreign()
        return Reading(
            Directory(organization, admin_group, sites, subnets, servers, arrays, groups, databases, accounts),
            self._notes.sentences(),
            self._entries,
            {dn: tuple(copies) for dn, copies in self._copies.items()},
            self._access,
            admin_group_dn,
            frozenset(dn_key(e.dn) for e in self._by_kind[EntryKind.CONTAINER]),
        )

    def _things(self, entry_kind: EntryKind, make: Callable[[Entry], T]) -> dict[str, T]:
        found: dict[str, T] = {}
        for entry in self._by_kind[entry_kind]:
            try:
                if is_duplicate(entry.dn):
                    raise _Left(f"set aside by replication, since two {entry_kind}s of that name were made at once")
                thing = make(entry)
                if key(thing.name) in found:
                    raise _Left(f"there are two {entry_kind}s of that name, only the first is read")
            except _Left as reason:
                self._notes.add(f"left out: {reason}", first_value(entry.dn).partition("\n")[0])
                continue
            found[key(thing.name)] = thing
            self._entries[thing.KIND, key(thing.name)] = entry
            self._named[dn_key(entry.dn)] = thing.name
        return dict(sorted(found.items()))

    def _organization(self) -> tuple[str, str, str]:
        """Its name, the name of the administrative group that things are put in, and that group's DN."""
        groups: dict[str, str] = {}
        organization = ""
        for entry in self._by_kind[EntryKind.CONTAINER]:
            if key(entry.name) == key(ADMIN_GROUPS):
                organization = organization or first_value(parent(entry.dn))
                continue
            for dn in (entry.dn, parent(entry.dn)):
                if key(first_value(parent(dn))) == key(ADMIN_GROUPS):
                    groups[key(first_value(dn))] = dn
        usual = groups.get(key(DEFAULT_ADMIN_GROUP)) or next((dn for _, dn in sorted(groups.items())), "")
        return organization or DEFAULT_ORGANIZATION, first_value(usual) or DEFAULT_ADMIN_GROUP, usual

    def _site(self, entry: Entry) -> Site:
        return Site(entry.name, entry.first("description"), entry.guid)

    def _subnet(self, entry: Entry) -> Subnet:
        try:
            network = ip_network(entry.name, strict=False)
        except ValueError:
            raise _Left("this cannot be a subnet") from None
        return Subnet(network, self._site_named(entry, "siteObject"), entry.guid)

    def _site_named(self, entry: Entry, attribute: str) -> str:
        dn = entry.first(attribute)
        if not dn or is_deleted(dn):
            raise _Left("it belongs to no site")
        try:
            return self._named[dn_key(dn)]
        except KeyError:
            raise _Left(f"its site {first_value(dn)} is not there, or may not be read") from None

    def _fqdn(self, entry: Entry) -> str:
        names = (value[len(TCP) :] for value in entry.of("networkAddress") if key(value).startswith(TCP))
        if fqdn := next(names, ""):
            return fqdn
        raise _Left("its networkAddress has no name for TCP")

    def _server(self, entry: Entry) -> Server:
        bits = _number(entry.first("msExchCurrentServerRoles"), 0)
        roles = [(CLIENT_ACCESS, CLIENT_ACCESS_BIT), (MAILBOX, MAILBOX_BIT)]
        found = tuple(role for role, bit in roles if bits & bit)
        if not found:
            raise _Left("it has neither the client-access nor the mailbox role")
        settings = settings_of(entry.of(SETTINGS))
        return Server(
            entry.name,
            self._fqdn(entry),
            self._site_named(entry, "msExchServerSite"),
            found,
            self._rpc_client_access(entry, settings) if CLIENT_ACCESS in found else None,
            self._addresses(entry, settings),
            _number(settings.get("weight", ""), 100),
            dn_key(entry.dn) in self._public or settings.get("public_folders") == "true",
            entry.guid,
        )

    def _rpc_client_access(self, entry: Entry, settings: Mapping[str, str]) -> RpcClientAccess | None:
        """Where Exchange keeps an object for it, that decides; where no server has one, each is a member."""
        there = self._access.get(dn_key(entry.dn))
        if (self._access and there is None) or settings.get(TAKEN_OUT) == "false":
            return None
        usual = RpcClientAccess()
        return RpcClientAccess(
            there.name if there else settings.get(f"{RPC}name", usual.name),
            settings.get(f"{RPC}encryption_required") != "false",
            _number(settings.get(f"{RPC}maximum_connections", ""), MAXIMUM_CONNECTIONS),
            settings.get(f"{RPC}blocked_client_versions", ""),
        )

    def _addresses(self, entry: Entry, settings: Mapping[str, str]) -> tuple[Address, ...]:
        found: list[Address] = []
        for word in settings.get("addresses", "").replace(",", " ").split():
            try:
                found.append(ip_address(word))
            except ValueError:
                self._notes.add(f'"{word[:60]}" in its {SETTINGS} is no address, and passed over', entry.name)
        return tuple(found)

    def _array(self, entry: Entry) -> Array:
        settings = settings_of(entry.of(SETTINGS))
        kept = {}
        for name, text in settings.items():
            if name == "addresses":
                continue
            if name in IN_ARRAY or ARRAY.key(name) is not None:
                kept[name] = setting_value(text)
            else:
                self._notes.add(
                    f'"{name[:60]}" in its {SETTINGS} is no setting of an array, and passed over', entry.name
                )
        site = self._site_named(entry, "msExchServerSite")
        return Array(entry.name, self._fqdn(entry), site, self._addresses(entry, settings), kept, entry.guid)

    def _group_members(self) -> dict[str, tuple[str, ...]]:
        """Folded DN of a group -> its servers. Servers name their group; where none does, databases tell."""
        found: dict[str, set[str]] = {}
        for attribute, kind in (
            ("msExchMDBAvailabilityGroupLink", EntryKind.SERVER),
            ("msExchMasterServerOrAvailabilityGroup", EntryKind.DATABASE),
        ):
            for entry in self._by_kind[kind]:
                group = dn_key(entry.first(attribute))
                server = entry.dn if kind is EntryKind.SERVER else entry.first("msExchOwningServer")
                if group and (name := self._named.get(dn_key(server))):
                    found.setdefault(group, set()).add(name)
            if found:
                break
        return {group: tuple(sorted(names, key=key)) for group, names in found.items()}

    def _group(self, entry: Entry, servers: tuple[str, ...]) -> AvailabilityGroup:
        settings = settings_of(entry.of(SETTINGS))
        order = [key(name.strip()) for name in settings.get(ORDER, "").split(",")]
        places = {name: number for number, name in enumerate(order)}
        ordered = tuple(sorted(servers, key=lambda name: (places.get(key(name), len(places)), key(name))))
        across = settings.get("allow_cross_site_rpc_client_access") == "true"
        return AvailabilityGroup(entry.name, ordered, across, entry.guid)

    def _database(self, entry: Entry) -> Database:
        owner = entry.first("msExchOwningServer")
        if not owner or is_deleted(owner):
            raise _Left("it is on no server")
        active = self._named.get(dn_key(owner)) or first_value(owner)
        copies = tuple(sorted(self._copies_of(entry), key=lambda c: (c.activation_preference, key(c.server))))
        told = last_name(entry.first("legacyExchangeDN"))
        if not told:
            raise _Left("its legacyExchangeDN does not say whom its clients are told")
        fqdn = self._fqdn_of_server.get(key(told), told)
        return Database(entry.name, active, copies or (Copy(active),), fqdn, entry.guid)

    def _copies_of(self, database: Entry) -> Iterable[Copy]:
        for entry in self._copies.get(dn_key(database.dn), ()):
            host = entry.first("msExchHostServerLink")
            if is_duplicate(entry.dn) or is_deleted(host):
                continue
            name = self._named.get(dn_key(host)) or (first_value(host) if host else entry.name)
            yield Copy(name, _number(entry.first("msExchActivationPreference"), 1))

    def _account(self, entry: Entry) -> Account:
        if not entry.first("sAMAccountName"):
            raise _Left("it has no logon name, or that may not be read")
        home = entry.first("homeMDB")
        database = "" if is_deleted(home) else self._named.get(dn_key(home)) or (first_value(home) if home else "")
        primary = (value[len(SMTP) :] for value in entry.of("proxyAddresses") if value.startswith(SMTP))
        return Account(
            entry.first("sAMAccountName"),
            database,
            next(primary, "") or entry.first("mail"),
            entry.first("displayName"),
            tuple(sorted((v[len(SMTP) :] for v in entry.of("proxyAddresses") if is_alias(v)), key=key)),
            entry.first("legacyExchangeDN"),
            settings_of(entry.of(SETTINGS)).get("mailbox_guid") or entry.first("msExchMailboxGuid"),
            entry.guid,
        )

    def _note_foreign(self) -> None:
        for entry in self._by_kind[EntryKind.OTHER]:
            what = entry.classes[-1] if entry.classes else "object"
            self._notes.add(f"passed over: a {what} does not belong in {first_value(parent(entry.dn))}", entry.name)


def setting_value(text: str) -> object:
    """A setting's value: JSON where it is that, else the text itself."""
    with suppress(ValueError, RecursionError):
        return json.loads(text, parse_constant=_no_constant)
    return text


def _no_constant(text: str) -> object:
    raise ValueError(text)  # NaN does not even equal itself: it stays a text


def setting_text(value: object) -> str:
    """A value as `setting_value` reads it back; a plain text stays plain."""
    if isinstance(value, str) and value == value.strip() and setting_value(value) is value and value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _number(text: str, default: int) -> int:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 12 else default
