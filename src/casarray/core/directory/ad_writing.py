"""Changes of a directory as LDAP operations, in an order that can be left half-way and taken up again.

Active Directory changes one object at a time, and each operation here names the values it expects to find: a value that
somebody else has changed makes the domain controller refuse it. What only got another name (it has the same GUID) is
renamed in place, and what refers to it follows by itself, as links in Active Directory do.
"""

from collections.abc import Iterable, Mapping, Sequence

from casarray.core.directory import active_directory as ad
from casarray.core.directory import legacy_dn
from casarray.core.directory.active_directory import SETTINGS, SETTINGS_CLASS, Entry, Partitions, child, dn_key, parent
from casarray.core.directory.ad_reading import ORDER, RPC, TAKEN_OUT, Reading, setting_text
from casarray.core.directory.ad_steps import Add, Bare, Delete, Edit, Modify, OnlyArray, Rename, Step, taken_over
from casarray.core.directory.changes import Change, applied
from casarray.core.directory.lookup import group_of
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    MAXIMUM_CONNECTIONS,
    Account,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    Organization,
    RpcClientAccess,
    Server,
    Site,
    Subnet,
    Thing,
    key,
)
from casarray.core.errors import Conflict

GROUP_LINK = "msExchMDBAvailabilityGroupLink"
MASTER = "msExchMasterServerOrAvailabilityGroup"
DISABLED_USER = "514"  # userAccountControl: a user who cannot log on until somebody gives it a password
ALLOW_RENAME = str(0x4000_0000)  # systemFlags: else nothing in the configuration partition can get another name
SITE_PARTS = (("Servers", "serversContainer"), ("NTDS Site Settings", "nTDSSiteSettings"))


def plan(
    reading: Reading,
    changes: Sequence[Change],
    partitions: Partitions,
    schema: frozenset[str],
    users: Mapping[str, Entry] | None = None,
) -> tuple[Step, ...]:
    """The operations that carry out the changes. `MovedOn` when the reading is not what the changes expect.

    ``schema`` holds the folded names of classes and attributes the forest knows, of those in `ad_schema`; ``users`` the
    users who exist already of those that become accounts, by folded name.
    """
    return _Planner(reading, changes, partitions, schema, users or {}).steps()


class _Planner:
    def __init__(
        self,
        reading: Reading,
        changes: Sequence[Change],
        partitions: Partitions,
        schema: frozenset[str],
        users: Mapping[str, Entry],
    ) -> None:
        self._reading = reading
        self._changes = changes
        self._partitions = partitions
        self._schema = schema
        self._users = users
        self._before = reading.directory
        self._after = applied(reading.directory, changes)
        self._checks: list[Step] = []
        self._steps: list[Step] = []
        self._last: list[Step] = []  # what is looked at when all is done
        self._moved: dict[tuple[Kind, str], str] = {}  # DNs of what was made or renamed here
        self._read_as: dict[str, str] = {}  # DN after a rename -> as it was read
        self._renamed_to: dict[str, str] = {}  # the other way round, folded
        self._made_containers: set[str] = set()
        self._places = {dn_key(entry.dn) for entry in reading.entries.values()} if reading.access else set()

    def steps(self) -> tuple[Step, ...]:
        renamed = self._renamed()
        for change in self._changes:
            before, after = change.before, change.after
            if isinstance(after, Organization):
                self._name_organization()
            elif after is not None and before is None and (old := renamed.get((change.kind, after.guid))):
                self._change(old, after)
            elif before is None and after is not None:
                self._make(after)
            elif before is not None and after is not None:
                self._change(before, after)
            elif before is not None and (change.kind, before.guid) not in renamed:
                self._remove(before)
        return (*self._checks, *self._steps, *self._last)

    def _renamed(self) -> dict[tuple[Kind, str], Thing]:
        """What goes under one name and comes under another, by its GUID."""
        come = {(c.kind, c.after.guid) for c in self._changes if c.before is None and c.after and c.after.guid}
        gone = {(c.kind, c.before.guid): c.before for c in self._changes if c.after is None and c.before}
        return {which: thing for which, thing in gone.items() if which in come}

    def _entry(self, thing: Thing) -> Entry:
        return self._reading.entries[thing.KIND, key(thing.name)]

    def _dn(self, kind: Kind, name: str) -> str:
        """Where a thing stands, or will by then; empty if there is none of that name."""
        if moved := self._moved.get((kind, key(name))):
            return moved
        entry = self._reading.entries.get((kind, key(name)))
        return entry.dn if entry else ""

    # What a thing is in attributes.

    def _values(self, thing: Thing, directory: Directory, entry: Entry | None) -> dict[str, tuple[str, ...]]:
        found: dict[str, str | Iterable[str]] = {}
        if isinstance(thing, Site):
            found["description"] = thing.description
        elif isinstance(thing, Subnet):
            found["siteObject"] = self._dn(Kind.SITE, thing.site)
        elif isinstance(thing, Array | Server):
            found["networkAddress"] = ad.TCP + thing.fqdn
            found["msExchServerSite"] = self._dn(Kind.SITE, thing.site)
            found["legacyExchangeDN"] = legacy_dn.of_server(directory, thing)
            if isinstance(thing, Server):
                found["msExchCurrentServerRoles"] = str(_bits(thing, entry))
        elif isinstance(thing, Database):
            found["msExchOwningServer"] = self._dn(Kind.SERVER, thing.active_server)
            found["legacyExchangeDN"] = legacy_dn.of_database(directory, thing)
        elif isinstance(thing, Account):
            found |= self._account_values(thing, entry)
        return {name: (v,) if isinstance(v, str) else tuple(v) for name, v in found.items() if v}

    def _account_values(self, account: Account, entry: Entry | None) -> dict[str, str | Iterable[str]]:
        found: dict[str, str | Iterable[str]] = {
            "sAMAccountName": account.name,
            "homeMDB": self._dn(Kind.DATABASE, account.database) if account.database else "",
            "displayName": account.display_name,
            "mail": account.address,
            "legacyExchangeDN": account.legacy_dn,
        }
        told = entry is not None and any(v.startswith(ad.SMTP) for v in entry.of("proxyAddresses"))
        addresses = [f"{ad.SMTP.lower()}{alias}" for alias in account.aliases]
        if account.address and (told or addresses):
            addresses.insert(0, ad.SMTP + account.address)
        return found | {"proxyAddresses": addresses}

    def _settings(self, thing: Thing) -> dict[str, str]:
        """What has no attribute of its own, where it is not the default."""
        found: dict[str, str] = {}
        if isinstance(thing, Array | Server) and thing.addresses:
            found["addresses"] = ",".join(map(str, thing.addresses))
        if isinstance(thing, Array):
            found |= {name: setting_text(value) for name, value in thing.settings.items()}
        elif isinstance(thing, Server):
            if thing.weight != 100:
                found["weight"] = str(thing.weight)
            if thing.public_folders:
                found["public_folders"] = "true"
            found |= self._access_settings(thing)
        elif isinstance(thing, AvailabilityGroup):
            if thing.allow_cross_site_rpc_client_access:
                found["allow_cross_site_rpc_client_access"] = "true"
            if list(thing.servers) != sorted(thing.servers, key=key):
                found[ORDER] = ",".join(thing.servers)
        elif isinstance(thing, Account):
            if not thing.database:
                found |= ad.settings_of([ad.ACCOUNT_MARK])
            if thing.mailbox_guid:  # Exchange's own attribute is octets, and Exchange's to change
                found["mailbox_guid"] = thing.mailbox_guid
        return found

    def _access_settings(self, server: Server) -> dict[str, str]:
        access = server.rpc_client_access
        if access is None:
            # While other servers have an object for it, lacking one says the same.
            objects_say = len({e.guid for e in self._reading.access.values()}) > 1
            needless = objects_say and SETTINGS.casefold() not in self._schema
            return {TAKEN_OUT: "false"} if CLIENT_ACCESS in server.roles and not needless else {}
        usual = RpcClientAccess()
        found = {}
        if access.name != usual.name and not self._reading.access:
            found[f"{RPC}name"] = access.name
        if access.encryption_required != usual.encryption_required:
            found[f"{RPC}encryption_required"] = "false"
        if access.maximum_connections != MAXIMUM_CONNECTIONS:
            found[f"{RPC}maximum_connections"] = str(access.maximum_connections)
        if access.blocked_client_versions:
            found[f"{RPC}blocked_client_versions"] = access.blocked_client_versions
        return found

    # The three things that can happen to a thing.

    def _make(self, thing: Thing) -> None:
        if isinstance(thing, Account):
            self._make_account(thing)
            return
        parent_dn = self._container_of(thing.KIND)
        dn = child(thing.name, parent_dn)
        self._moved[thing.KIND, key(thing.name)] = dn
        values = self._values(thing, self._after, None)
        if isinstance(thing, Database) and MASTER.casefold() in self._schema:
            group = group_of(self._after, thing.active_server)
            master = self._dn(Kind.GROUP, group.name) if group else self._dn(Kind.SERVER, thing.active_server)
            values |= {MASTER: (master,)} if master else {}
        if parent_dn != self._partitions.sites:  # where it is set by itself
            values["systemFlags"] = (ALLOW_RENAME,)
        self._add(dn, _CLASS_OF[thing.KIND], values, self._settings(thing))
        if isinstance(thing, Site):
            self._steps += [Add(child(name, dn), (cls,), {}, may_exist=True) for name, cls in SITE_PARTS]
        elif isinstance(thing, Server):
            self._put_access(thing, dn, None)
        elif isinstance(thing, AvailabilityGroup):
            self._put_members(thing, ())
        elif isinstance(thing, Database):
            self._steps += self._copies_made(thing, dn, {})
        elif isinstance(thing, Array):
            self._last.append(OnlyArray(dn, self._dn(Kind.SITE, thing.site), (Delete(dn),)))

    def _add(self, dn: str, cls: str, values: dict[str, tuple[str, ...]], settings: Mapping[str, str]) -> None:
        classes: tuple[str, ...] = (cls,)
        if settings:
            values[SETTINGS] = ad.setting_lines(settings)
            classes = (cls, SETTINGS_CLASS) if SETTINGS_CLASS.casefold() in self._schema else classes
        self._steps.append(Add(dn, classes, values))

    def _change(self, before: Thing, after: Thing) -> None:
        entry = self._entry(before)
        dn = self._dn(before.KIND, before.name)
        if before.name != after.name:
            dn = self._rename(before, after, dn)
        copies = self._copies_by_server(entry) if isinstance(after, Database) else {}
        if isinstance(after, Database):
            self._steps += self._copies_made(after, dn, copies)
        self._modify(dn, self._edits(before, after, entry))
        if isinstance(after, Server):
            self._put_access(after, dn, entry)
        elif isinstance(after, AvailabilityGroup) and isinstance(before, AvailabilityGroup):
            self._put_members(after, before.servers)
        elif isinstance(after, Database):
            self._steps += self._copies_kept(after, dn, copies)
        elif isinstance(after, Array) and isinstance(before, Array) and key(before.site) != key(after.site):
            site, old = self._dn(Kind.SITE, after.site), self._dn(Kind.SITE, before.site)
            if site != old:
                undo = Modify(dn, (Edit("msExchServerSite", (site,), (old,)),))
                self._last.append(OnlyArray(dn, site, (undo,)))

    def _edits(self, before: Thing, after: Thing, entry: Entry) -> tuple[Edit, ...]:
        was, now = self._values(before, self._before, entry), self._values(after, self._after, entry)
        edits = []
        for name in sorted({*was, *now}):
            old, fresh = was.get(name, ()), now.get(name, ())
            if name == "msExchCurrentServerRoles":
                old = entry.of(name)
            if old == fresh:
                continue
            found = self._raw(entry, name)
            expected = {value.casefold() for value in old}
            gone = found if name in _SINGLE else tuple(v for v in found if v.casefold() in expected)
            edits.append(Edit(name, gone, fresh))
        return (*edits, *self._setting_edits(self._settings(before), self._settings(after), entry))

    def _setting_edits(self, was: Mapping[str, str], now: Mapping[str, str], entry: Entry) -> tuple[Edit, ...]:
        """Lines of other keys stay as they are, whoever wrote them."""
        changed = {name for name in {*was, *now} if was.get(name) != now.get(name)}
        lines = entry.of(SETTINGS)
        gone = tuple(line for line in lines if line.partition("=")[0].strip() in changed)
        come = tuple(line for line in ad.setting_lines({n: now[n] for n in changed if n in now}) if line not in gone)
        gone = tuple(line for line in gone if line not in ad.setting_lines(now))
        if not gone and not come:
            return ()
        if come and SETTINGS_CLASS.casefold() in self._schema and SETTINGS_CLASS not in entry.classes:
            # Samba looks at the other attributes before it takes the class: an operation of its own.
            self._steps.append(Modify(self._at(entry), (Edit("objectClass", (), (SETTINGS_CLASS,)),)))
        return (Edit(SETTINGS, gone, come),)

    def _at(self, entry: Entry) -> str:
        """Where an entry stands by now: renames come first."""
        return self._renamed_to.get(dn_key(entry.dn), entry.dn)

    def _modify(self, dn: str, edits: tuple[Edit, ...]) -> None:
        if edits:
            self._steps.append(Modify(dn, edits))

    def _raw(self, entry: Entry, name: str) -> tuple[str, ...]:
        """The values of an attribute by the time of the next step: links follow what was renamed before."""
        values = entry.of(name)
        return tuple(self._renamed_to.get(dn_key(dn), dn) for dn in values) if name in ad.LINKS else values

    def _rename(self, before: Thing, after: Thing, dn: str) -> str:
        # An account's name is an attribute; the object may be called otherwise.
        if not isinstance(after, Account) or key(self._entry(before).name) == key(before.name):
            self._steps.append(Rename(dn, after.name))
            dn = child(after.name, parent(dn))
        self._moved[before.KIND, key(before.name)] = self._moved[after.KIND, key(after.name)] = dn
        self._read_as[dn] = self._entry(before).dn
        self._renamed_to[dn_key(self._entry(before).dn)] = dn
        if isinstance(before, Server):
            # Databases name a server in their legacyExchangeDN by its short name.
            for database in self._before.databases.values():
                entry = self._entry(database)
                legacy = entry.first("legacyExchangeDN")
                stays = self._after.databases.get(key(database.name))
                if stays is not None and key(legacy_dn.last_name(legacy)) == key(before.name):
                    fresh = legacy_dn.of_database(self._after, stays)
                    self._steps.append(Modify(entry.dn, (Edit("legacyExchangeDN", (legacy,), (fresh,)),)))
        return dn

    def _remove(self, thing: Thing) -> None:
        entry, dn = self._entry(thing), self._dn(thing.KIND, thing.name)
        if isinstance(thing, Account):
            home = self._raw(entry, "homeMDB")
            gone = [Edit("homeMDB", home)] if home else []
            self._modify(dn, (*gone, *self._setting_edits(self._settings(thing), {}, entry)))
            return
        below: list[str] = []
        if isinstance(thing, Site):
            below = [child(name, dn) for name, _ in SITE_PARTS]
        elif isinstance(thing, Database):
            below = [copy.dn for copy in self._reading.copies.get(dn_key(entry.dn), ())]
        elif isinstance(thing, Server) and (access := self._reading.access.get(dn_key(entry.dn))):
            below = [access.dn, *([parent(access.dn)] if dn_key(parent(access.dn)) != dn_key(entry.dn) else [])]
        elif isinstance(thing, AvailabilityGroup):
            self._put_members(AvailabilityGroup(thing.name), thing.servers)
        self._checks.append(Bare(entry.dn, tuple(below)))
        self._steps += [Delete(part, may_lack=True) for part in below]
        self._steps.append(Delete(dn))

    # What hangs on things.

    def _container_of(self, kind: Kind) -> str:
        if kind is Kind.SITE:
            return self._partitions.sites
        if kind is Kind.SUBNET:
            return child("Subnets", self._partitions.sites)
        group = self._reading.admin_group_dn or self._make_admin_group()
        dn = child(_CONTAINER_OF[kind], group)
        if dn_key(dn) not in self._reading.containers:
            self._make_container(dn)
        return dn

    def _name_organization(self) -> None:
        if self._reading.admin_group_dn:
            raise Conflict(
                f"the organisation is {self._before.organization} ({self._before.admin_group}) in Active Directory, "
                "where everything of Exchange stands below it: it cannot get another name"
            )
        self._container_of(Kind.SERVER)  # with something in it, so that it is seen when it is read

    def _make_admin_group(self) -> str:
        organization = child(self._after.organization, self._partitions.exchange)
        groups = child(ad.ADMIN_GROUPS, organization)
        group = child(self._after.admin_group, groups)
        self._make_container(self._partitions.exchange)
        self._make_container(organization, legacy_dn.of_organization(self._after))
        self._make_container(groups)
        self._make_container(group, legacy_dn.of_admin_group(self._after))
        return group

    def _make_container(self, dn: str, legacy: str = "") -> None:
        if dn not in self._made_containers:
            self._made_containers.add(dn)
            values = {"legacyExchangeDN": (legacy,)} if legacy else {}
            self._steps.append(Add(dn, (ad.CONTAINER_CLASS,), values, may_exist=True))

    def _put_access(self, server: Server, dn: str, entry: Entry | None) -> None:
        """Where Exchange keeps objects for RPC client access, this server gets or loses one like the others'."""
        if not self._reading.access:
            return
        there = self._reading.access.get(dn_key(entry.dn)) if entry else None
        access = server.rpc_client_access
        if there is not None:
            at = f"{there.dn[: len(there.dn) - len(entry.dn)]}{dn}" if entry else there.dn  # its server may be renamed
            if access is None:
                self._steps.append(Delete(at, may_lack=True))
            elif access.name != there.name:
                self._steps.append(Rename(at, access.name))
        elif access is not None:
            sample = next(iter(self._reading.access.values()))
            holder = parent(sample.dn)
            if dn_key(holder) not in self._places:  # a container of the server, not the server itself
                dn = child(ad.first_value(holder), dn)
                self._steps.append(Add(dn, (ad.CONTAINER_CLASS,), {}, may_exist=True))
            values = {"systemFlags": (ALLOW_RENAME,)}
            self._steps.append(Add(child(access.name, dn), (sample.classes[-1],), values, may_exist=True))

    def _put_members(self, group: AvailabilityGroup, before: tuple[str, ...]) -> None:
        dn = self._dn(Kind.GROUP, group.name)
        was = {self._dn(Kind.SERVER, name): name for name in before}
        now = {self._dn(Kind.SERVER, name): name for name in group.servers}
        for server, name in {**was, **now}.items():
            if server in was and server in now:
                continue
            entry = self._reading.entries.get((Kind.SERVER, key(name)))
            there = self._raw(entry, GROUP_LINK) if entry else ()
            come = (dn,) if server in now else ()
            if there or come:
                self._steps.append(Modify(server, (Edit(GROUP_LINK, there, come),)))

    def _copies_by_server(self, database: Entry) -> dict[str, Entry]:
        copies = self._reading.copies.get(dn_key(database.dn), ())
        return {dn_key(copy.first("msExchHostServerLink")): copy for copy in copies}

    def _copies_made(self, database: Database, dn: str, there: Mapping[str, Entry]) -> list[Step]:
        if not there and database.copies == (Copy(database.active_server),):
            return []  # the server that owns it says so
        steps: list[Step] = []
        for copy in database.copies:
            server = self._dn(Kind.SERVER, copy.server)
            if self._was(server) not in there:
                values = {
                    "msExchHostServerLink": (server,),
                    "msExchActivationPreference": (str(copy.activation_preference),),
                }
                steps.append(Add(child(copy.server, dn), ("msExchMDBCopy",), values))
        return steps

    def _copies_kept(self, database: Database, dn: str, there: Mapping[str, Entry]) -> list[Step]:
        """Preferences of copies that stay, and the end of those that go."""
        wanted = {self._was(self._dn(Kind.SERVER, copy.server)): copy for copy in database.copies}
        steps: list[Step] = []
        for server, entry in there.items():
            at = f"{ad.split(entry.dn)[0]},{dn}"
            copy = wanted.get(server)
            if copy is None:
                steps.append(Delete(at, may_lack=True))
            elif entry.first("msExchActivationPreference") != str(copy.activation_preference):
                edit = Edit(
                    "msExchActivationPreference",
                    entry.of("msExchActivationPreference"),
                    (str(copy.activation_preference),),
                )
                steps.append(Modify(at, (edit,)))
        return steps

    def _was(self, dn: str) -> str:
        """The folded DN under which a server was read, though it be renamed in the same plan."""
        return dn_key(self._read_as.get(dn, dn))

    def _make_account(self, account: Account) -> None:
        user = self._users.get(key(account.name))
        values = self._values(account, self._after, user)
        settings = self._settings(account)
        if user is None:
            dn = child(account.name, self._partitions.users)
            self._add(dn, "user", {**values, "userAccountControl": (DISABLED_USER,)}, settings)
        else:
            dn = user.dn
            edits = [
                taken_over(name, user.of(name), fresh, single=name in _SINGLE)
                for name, fresh in values.items()
                if user.of(name) != fresh and name != "sAMAccountName"
            ]
            self._modify(dn, (*edits, *self._setting_edits({}, settings, user)))
        self._moved[Kind.ACCOUNT, key(account.name)] = dn


def _bits(server: Server, entry: Entry | None) -> int:
    found = entry.first("msExchCurrentServerRoles") if entry else ""
    others = int(found) & ~(ad.CLIENT_ACCESS_BIT | ad.MAILBOX_BIT) if found.isdigit() else 0
    return (
        others
        | (ad.CLIENT_ACCESS_BIT if CLIENT_ACCESS in server.roles else 0)
        | (ad.MAILBOX_BIT if MAILBOX in server.roles else 0)
    )


_CLASS_OF = {
    Kind.SITE: "site",
    Kind.SUBNET: "subnet",
    Kind.SERVER: "msExchExchangeServer",
    Kind.ARRAY: "msExchClientAccessArray",
    Kind.GROUP: "msExchMDBAvailabilityGroup",
    Kind.DATABASE: "msExchPrivateMDB",
}
_CONTAINER_OF = {
    Kind.SERVER: ad.SERVERS,
    Kind.ARRAY: ad.ARRAYS,
    Kind.GROUP: ad.GROUPS,
    Kind.DATABASE: ad.DATABASES,
}
_SINGLE = {
    "siteObject",
    "msExchServerSite",
    "msExchCurrentServerRoles",
    "legacyExchangeDN",
    "msExchOwningServer",
    "sAMAccountName",
    "homeMDB",
    "displayName",
    "mail",
}
