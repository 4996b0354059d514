"""The directory in Active Directory, over LDAP. `open_ldap(urls, settings)` opens it.

    open_ldap(urls: Sequence[str], settings: DirectorySettings, names: Names | None = None) -> LdapDirectory

It is read once as a whole; afterwards only what has a higher update number (``uSNChanged``) is fetched, and what was
deleted. Update numbers belong to one domain controller's database: going on with another one means reading it all.

Changes are LDAP operations in an order that can be left half-way (`core.directory.ad_writing`), each naming the values
it expects. Active Directory keeps no trail of who changed what with which command, so `history` is empty here.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from casarray.adapters.stores.ldap_link import Link
from casarray.adapters.stores.ldap_names import ConnectionLost, Names
from casarray.app.stores import Entry as Trail
from casarray.app.stores import Note, Snapshot
from casarray.core.config import DirectorySettings
from casarray.core.directory import active_directory as ad
from casarray.core.directory.active_directory import Entry, EntryKind, domain_name, parent
from casarray.core.directory.ad_reading import Reading, read
from casarray.core.directory.ad_schema import VOCABULARY, schema_filter, schema_ldif
from casarray.core.directory.ad_steps import Add, Bare, Delete, Modify, OnlyArray, Rename, Step, words
from casarray.core.directory.ad_writing import plan
from casarray.core.directory.changes import Change
from casarray.core.directory.model import Kind, key
from casarray.core.errors import ConfigError, Conflict, Denied, MovedOn, Unavailable

if TYPE_CHECKING:
    from casarray.adapters.stores.ldap_connection import Connection, Connector

CENSUS_SECONDS = 60.0  # between two looks at what is gone, where deleted objects may not be seen
ROUNDS = 5  # of fetching what changed while it was fetched
EXTRA = "casarray[ad]"
NEEDED_TO_SERVE = ("msExchClientAccessArray", "msExchExchangeServer", "msExchPrivateMDB")

T = TypeVar("T")


def open_ldap(urls: Sequence[str], settings: DirectorySettings, names: Names | None = None) -> "LdapDirectory":
    """The directory of the domain that these name: domain controllers in the order to try them, or the domain itself.

    Connects at the first call that needs it. `ConfigError` names what cannot be right in ``[directory]``.
    """
    try:
        from casarray.adapters.stores.ldap_connection import Connector  # noqa: PLC0415 - an extra of the installation
    except ImportError as error:
        raise ConfigError(
            f"Active Directory needs python-ldap, which is not installed ({error}): pip install '{EXTRA}'; the Debian "
            f"packages gcc, python3-dev, libldap2-dev and libsasl2-dev build it"
        ) from error
    return LdapDirectory(" ".join(urls), Connector(urls, settings, names))


class LdapDirectory:
    """`casarray.app.stores.DirectoryStore` in Active Directory."""

    def __init__(self, name: str, connector: "Connector") -> None:
        self.name = name
        self._link = Link(connector)
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}  # by GUID
        self._source = ""  # the database that they are from
        self._usn = 0  # everything up to there is in
        self._revision = ""
        self._snapshot: tuple[Snapshot, Reading] | None = None
        self._counted, self._counted_at = 0, 0.0  # when what is there was last compared with what is known
        self._stumbled = False  # the last change met something else than what we believed
        self._schema: frozenset[str] = frozenset()  # folded

    def read(self) -> Snapshot:
        with self._lock:
            return self._attempt(self._caught_up)[0]

    def revision(self) -> str:
        with self._lock:
            self._attempt(self._catch_up)
            return self._revision

    def history(self, most: int = 100) -> Sequence[Trail]:  # noqa: ARG002 - there is none
        return ()

    def close(self) -> None:
        with self._lock:
            self._link.close()

    def schema_ldif(self) -> str:
        """What this forest's schema lacks, as LDIF to import; empty when it lacks nothing."""
        with self._lock:
            root, known = self._attempt(lambda c: (c.partitions.root, self._read_schema(c)))
            return schema_ldif(root, known) if len(known) < len(VOCABULARY) else ""

    # The connection.

    @property
    def _connection(self) -> "Connection | None":
        return self._link.connection

    def _attempt(self, work: "Callable[[Connection], T]") -> T:
        """Do it, with another domain controller if this one fails meanwhile."""
        return self._link.attempt(work)

    # Reading.

    def _caught_up(self, connection: "Connection") -> tuple[Snapshot, Reading]:
        self._catch_up(connection)
        if self._snapshot is None or self._snapshot[0].revision != self._revision:
            reading = read(self._entries.values())
            missing = (*self._unread(connection), *reading.missing)
            self._snapshot = (Snapshot(reading.directory, self._revision, missing), reading)
        return self._snapshot

    def _unread(self, connection: "Connection") -> list[str]:
        """What this domain controller did not show, a sentence each."""
        found = []
        if not self._schema.issuperset(name.casefold() for name in NEEDED_TO_SERVE):
            self._schema = self._read_schema(connection)  # it may have been extended since
        lacking = [name for name in NEEDED_TO_SERVE if name.casefold() not in self._schema]
        if lacking:
            found.append(
                f"the schema of {domain_name(connection.partitions.root)} does not know {', '.join(lacking)}, so there "
                f"are none: `casarray directory schema --store {self.name.split()[0]}` prints what to import"
            )
        known = ("DomainDnsZones", "ForestDnsZones", connection.partitions.configuration)
        elsewhere = sorted(url for url in connection.referrals if not any(name in url for name in known))
        if elsewhere:
            found.append(f"accounts of other domains are not read: {', '.join(elsewhere)}")
        return found

    def _catch_up(self, connection: "Connection") -> None:
        if self._source != connection.identity:
            self._read_all(connection)
        for _ in range(ROUNDS):
            usn = connection.highest_usn()
            if usn == self._usn:
                break
            if usn < self._usn:
                self._read_all(connection)  # somebody put back an older database
                continue
            if self._fetch(connection, self._usn):
                self._revision = f"{connection.identity}:{usn}"
            self._usn = usn
        if not connection.sees_deleted:
            self._count(connection)

    def _read_all(self, connection: "Connection") -> None:
        usn = connection.highest_usn()
        partitions = connection.partitions
        self._schema = self._read_schema(connection)
        found: dict[str, Entry] = {}
        for base, what, attributes in (
            (partitions.sites, ad.SITES_FILTER, ad.ATTRIBUTES),
            (partitions.exchange, ad.ORGANIZATION_FILTER, ad.ATTRIBUTES),
            (partitions.domain, ad.ACCOUNTS_FILTER, ad.ACCOUNT_ATTRIBUTES),
        ):
            self._take(found, self._below(connection, base, what, attributes), partitions)
        holders = [e.dn for e in found.values() if e.kind is EntryKind.CONTAINER and e.name in _HOLDERS]
        for holder in holders:
            self._take(found, connection.entries(holder, "one", ad.FOREIGN_FILTER, ad.ATTRIBUTES), partitions)
        if found != self._entries or not self._revision:
            self._revision = f"{connection.identity}:{usn}"
        self._entries, self._source, self._usn = found, connection.identity, usn
        self._counted, self._counted_at = usn, time.monotonic()

    def _below(self, connection: "Connection", base: str, what: str, attributes: Sequence[str]) -> Iterable[Entry]:
        try:
            yield from connection.entries(base, "sub", what, attributes)
        except MovedOn:
            return  # there is no Exchange organisation yet

    def _take(self, found: dict[str, Entry], entries: Iterable[Entry], partitions: ad.Partitions) -> None:
        for entry in entries:
            if ad.belongs(entry, partitions):
                found[entry.guid] = entry

    def _fetch(self, connection: "Connection", since: int) -> bool:
        """Everything with a higher update number. Whether anything of it means something here."""
        partitions = connection.partitions
        users = "(objectCategory=person)(objectClass=user)"
        came = [
            *connection.entries(partitions.configuration, "sub", ad.changed_filter(since), ad.ATTRIBUTES),
            *connection.entries(partitions.domain, "sub", ad.changed_filter(since, users), ad.ACCOUNT_ATTRIBUTES),
        ]
        gone: set[str] = set()
        if connection.sees_deleted:
            what = ad.changed_filter(since, "(isDeleted=TRUE)")  # a deleted site stays where it stood
            for partition in (partitions.configuration, partitions.domain):
                gone |= set(connection.guids(partition, "sub", what, deleted=True))
        # Only when all of it is there: what was fetched by half would not be told from what was known.
        return self._put(came, gone, partitions)

    def _put(self, came: Sequence[Entry], gone: Iterable[str], partitions: ad.Partitions) -> bool:
        entries = dict(self._entries)
        for entry in came:
            known = entries.get(entry.guid)
            if known is not None and known.dn != entry.dn:
                entries = {guid: ad.followed(e, known.dn, entry.dn) for guid, e in entries.items()}
        for entry in came:
            entries.pop(entry.guid, None)
        self._take(entries, came, partitions)
        for guid in gone:
            entries.pop(guid, None)
        before, self._entries = self._entries, entries
        return entries != before

    def _count(self, connection: "Connection") -> None:
        """Who may not see deleted objects notices them by their absence, now and then."""
        if self._counted == self._usn or time.monotonic() - self._counted_at < CENSUS_SECONDS:
            return
        partitions = connection.partitions
        there: set[str] = set()
        for base, what in (
            (partitions.sites, ad.SITES_FILTER),
            (partitions.exchange, ad.ORGANIZATION_FILTER),
            (partitions.domain, ad.ACCOUNTS_FILTER),
        ):
            with suppress(MovedOn):  # it is gone as a whole
                there |= set(connection.guids(base, "sub", what))
        gone = [guid for guid, e in self._entries.items() if guid not in there and e.kind is not EntryKind.OTHER]
        if self._put((), gone, partitions):
            self._revision = f"{connection.identity}:{self._usn}, counted"
        self._counted, self._counted_at = self._usn, time.monotonic()

    def _read_schema(self, connection: "Connection") -> frozenset[str]:
        rows = connection.rows(connection.partitions.schema, "one", schema_filter(), ("lDAPDisplayName",))
        return frozenset(values["lDAPDisplayName"][0].decode().casefold() for _, values in rows)

    # Changing.

    def change(self, snapshot: Snapshot, changes: Sequence[Change], note: Note) -> None:  # noqa: ARG002 - who: AD's log
        with self._lock:
            seen, reading = self._attempt(self._caught_up)
            if seen.revision != snapshot.revision:
                raise MovedOn("the directory was changed by somebody else meanwhile; look at it again and repeat")
            connection = self._attempt(lambda c: c)
            users = self._users(connection, changes, reading)
            steps = plan(reading, changes, connection.partitions, self._schema, users)
            self._check_schema(connection, steps)
            try:
                for number, step in enumerate(steps):
                    self._perform(connection, step, f"{number} of {len(steps)} steps were done")
            except MovedOn:
                # What changed will be fetched. If that does not help, or may not be seen, everything is read again.
                if self._stumbled or not connection.sees_deleted:
                    self._source = ""
                self._stumbled = True
                raise
            self._stumbled = False

    def _users(self, connection: "Connection", changes: Sequence[Change], reading: Reading) -> dict[str, Entry]:
        """The users who are there already of those that are to become accounts."""
        found = {}
        for change in changes:
            if change.kind is Kind.ACCOUNT and change.before is None and change.after is not None:
                what = ad.account_filter(change.after.name)
                for entry in connection.entries(connection.partitions.domain, "sub", what, ad.ACCOUNT_ATTRIBUTES):
                    if entry.guid not in {e.guid for e in reading.entries.values()}:
                        found[key(change.after.name)] = entry
        return found

    def _check_schema(self, connection: "Connection", steps: Sequence[Step]) -> None:
        used = {word for step in steps for word in words(step)}
        lacking = sorted(w for w in used if w in VOCABULARY and w.casefold() not in self._schema)
        if lacking:
            self._schema = self._read_schema(connection)  # it may have been extended since
            lacking = [word for word in lacking if word.casefold() not in self._schema]
        if lacking:
            raise Unavailable(
                f"the schema of {domain_name(connection.partitions.root)} does not know {', '.join(lacking)}; nothing "
                f"was changed. `casarray directory schema --store {self.name.split()[0]}` prints what a schema "
                f"administrator has to import"
            )

    def _perform(self, connection: "Connection", step: Step, so_far: str) -> None:
        try:
            if isinstance(step, OnlyArray):
                self._check_only_array(connection, step)
            else:
                carry_out(connection, step)
        except MovedOn:
            if isinstance(step, Add):
                self._refuse_hidden(connection, step)
            raise
        except Denied as error:
            raise Denied(f"{error}. {_right(connection.who, step)}; {so_far}") from error
        except ConnectionLost as error:
            self._link.lost()
            raise Unavailable(
                f"the domain controller {connection.host} was lost ({error}) when {so_far}: look at the directory "
                f"again and repeat, what is done already is not done twice"
            ) from error

    def _refuse_hidden(self, connection: "Connection", step: Add) -> None:
        """What is in the way of a new object may be something that was not read, and would not be the next time."""
        self._source = ""
        _, reading = self._caught_up(connection)
        if ad.dn_key(step.dn) in {ad.dn_key(entry.dn) for entry in reading.entries.values()}:
            return
        with suppress(MovedOn):
            if list(connection.rows(step.dn, "base", "(objectClass=*)", ("1.1",))):
                raise Conflict(
                    f"there is an object {step.dn} already, which is none that can be read here (what is wrong with it "
                    f"may stand among the directory's warnings): remove or rename it, or choose another name"
                )

    def _check_only_array(self, connection: "Connection", step: OnlyArray) -> None:
        site = ad.escape_filter(step.site)
        what = f"(&(objectClass=msExchClientAccessArray)(msExchServerSite={site}))"
        created = {
            ad.dn_key(dn): int(values["uSNCreated"][0])
            for dn, values in connection.rows(connection.partitions.exchange, "sub", what, ("uSNCreated",))
        }
        ours = created.pop(ad.dn_key(step.dn), 0)
        moved = not any(isinstance(undo, Delete) for undo in step.undo)
        first = [dn for dn, number in created.items() if moved or number < ours]
        if not first:
            return
        for undo in step.undo:
            carry_out(connection, undo)
        raise Conflict(
            f"somebody else gave the site {ad.first_value(step.site)} an array at the same time "
            f"({ad.first_value(first[0])}), and a site has one: ours was taken back"
        )


_HOLDERS = (ad.SERVERS, ad.ARRAYS, ad.DATABASES)


def carry_out(connection: "Connection", step: Step) -> None:
    """Perform one step that is an LDAP operation, or look."""
    if isinstance(step, Add):
        try:
            connection.add(step.dn, {"objectClass": step.classes, **step.values})
        except MovedOn:
            if not step.may_exist:
                raise
    elif isinstance(step, Modify):
        if step.edits:
            connection.modify(step.dn, [(edit.attribute, edit.gone, edit.come) for edit in step.edits])
    elif isinstance(step, Rename):
        try:
            connection.rename(step.dn, f"CN={ad.escape_value(step.name)}")
        except Conflict as error:
            raise Conflict(
                f"{error}. In the configuration partition only what was made with the flag for it (systemFlags "
                f"0x40000000) can get another name: make a new one, and remove this"
            ) from error
    elif isinstance(step, Delete):
        try:
            connection.delete(step.dn)
        except MovedOn:
            if not step.may_lack:
                raise
    elif isinstance(step, Bare):
        expected = {ad.dn_key(dn) for dn in (step.dn, *step.besides)}
        found = (dn for dn, _ in connection.rows(step.dn, "sub", "(objectClass=*)", ("1.1",)))
        other = next((dn for dn in found if ad.dn_key(dn) not in expected), None)
        if other is not None:
            raise Conflict(
                f"{step.dn} cannot be removed, there is {other} below it; what Exchange or Windows put there has to be "
                f"removed with its own tools first. Nothing was changed"
            )


def _right(who: str, step: Step) -> str:
    """Which right is missing, and where."""
    if isinstance(step, Add):
        return f"Give {who} the right to create {step.classes[0]} objects in {parent(step.dn)}"
    if isinstance(step, Modify):
        return f"Give {who} the right to write {', '.join(e.attribute for e in step.edits)} of {step.dn}"
    if isinstance(step, Delete):
        return f"Give {who} the right to delete {step.dn}"
    return f"Give {who} full control of {step.dn}"
