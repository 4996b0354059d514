"""What one server tells its clients by the directory, whether it still serves or is gone.

A live server is the right one for the mailboxes whose database tells its clients that server, or the array that it is a
member of; all others it leads away. A retired one, of which there is only the name that old profiles still have, leads
everybody away: to the array of the user's mailbox where the user is known, else to that of the site the server was in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from casarray.core.autodiscover.decide import told_database
from casarray.core.dcerpc.interfaces.rfr import server_of_dn
from casarray.core.directory import legacy_dn
from casarray.core.directory.lookup import array_of_site, by_fqdn, servers_of_site
from casarray.core.directory.model import CLIENT_ACCESS, MAILBOX, Account, Array, Database, Directory, Server, key
from casarray.core.referral.guide import HERE, Person


@dataclass(frozen=True, slots=True)
class Station:
    """The server that answers, as `[[retired]]` or a lab has it."""

    name: str  # short
    fqdn: str
    site: str = ""  # of a retired one; empty: the directory's site for it, or the only one there is
    retired: bool = False


class Signpost:
    """`casarray.core.referral.guide.Guide` by a directory, which is asked anew for each answer.

    ``gone`` are all retired servers, whichever of them it is that answers.
    """

    def __init__(
        self,
        station: Station,
        directory: Callable[[], Directory],
        gone: Callable[[], Sequence[Station]] = tuple,
        site: Callable[[], str] = str,
    ) -> None:
        """``site``: the one that is likely, for a retired server of which nothing says where it was."""
        self._station = station
        self._directory = directory
        self._gone = gone
        self._site = site
        self._mdbs: tuple[Directory | None, dict[str, str]] = (None, {})  # by the database's name
        self._listed: tuple[Directory | None, tuple[Person, ...]] = (None, ())

    @property
    def name(self) -> str:
        """The short name."""
        return self._station.name

    @property
    def fqdn(self) -> str:
        """The host name."""
        return self._station.fqdn

    @property
    def organization(self) -> str:
        """What DNs begin with."""
        return legacy_dn.of_organization(self._directory())

    def person(self, user_dn: str) -> Person | None:
        """By the account's legacyExchangeDN."""
        directory = self._directory()
        found = legacy_dn.accounts_with_legacy_dn(directory, user_dn) if user_dn else ()
        return self._person(directory, found[0]) if len(found) == 1 else None

    def account(self, principal: str) -> Person | None:
        """By the account's name, which is what a principal begins with."""
        directory = self._directory()
        account = directory.accounts.get(key(principal.partition("@")[0]))
        return self._person(directory, account) if account is not None else None

    def people(self) -> Sequence[Person]:
        """Everybody who has a mailbox."""
        directory = self._directory()
        if self._listed[0] is not directory:
            found = [self._person(directory, account) for account in directory.accounts.values()]
            known = [person for person in found if person is not None]
            self._listed = directory, tuple(sorted(known, key=lambda person: (key(person.display_name), person.name)))
        return self._listed[1]

    def address_book(self, user_dn: str, asker: Person | None) -> str | None:
        """Of the array of the user's database, as a live server says it too."""
        directory = self._directory()
        person = self.person(user_dn)
        if person is not None:
            return legacy_dn.fqdn_of(directory, person.home_server)
        return self._instead(directory, self._station, asker)

    def fqdn_of(self, server_dn: str, asker: Person | None) -> str | None:
        """An array's as it is, a live server's too; in the place of a retired server, an array's."""
        directory, name = self._directory(), server_of_dn(server_dn)
        if not name:
            return None
        if isinstance(found := by_fqdn(directory, name), Array):
            return found.fqdn
        if (gone := self._retired(name)) is not None:
            return self._instead(directory, gone, asker)
        named = found or directory.servers.get(key(name)) or directory.arrays.get(key(name))
        return named.fqdn if named is not None else None

    def mailbox_home(self, person: Person) -> str | None:
        """Of the user's array; this server if it serves there, or if the database names it itself."""
        directory = self._directory()
        if not person.home_server:
            return None
        host = legacy_dn.fqdn_of(directory, person.home_server)
        if self._serves(directory, host):
            return HERE
        return person.home_server if self._retired(host) is None else None  # nobody is led in a circle

    def public_folders_home(self, person: Person | None) -> str | None:
        """This server if it has any, else one that has, of the user's site before others.

        Where the directory does not say who has any, every mailbox server has.
        """
        directory, own = self._directory(), self._own_server()
        if own is not None and own.public_folders:
            return HERE
        if own is not None and MAILBOX in own.roles and not any(s.public_folders for s in directory.servers.values()):
            return HERE
        sites = [own.site] if own is not None else []
        if person is not None and (
            (owner := by_fqdn(directory, legacy_dn.fqdn_of(directory, person.home_server))) is not None
        ):
            sites.insert(0, owner.site)
        near = [server for site in sites for server in servers_of_site(directory, site)]
        everybody = [directory.servers[name] for name in sorted(directory.servers)]
        for server in (*near, *everybody):
            if server.public_folders and self._retired(server.name) is None:
                return legacy_dn.of_server(directory, server)
        return None

    def _person(self, directory: Directory, account: Account) -> Person | None:
        """None for an account without a mailbox, or whose database is unknown."""
        database = directory.databases.get(key(account.database)) if account.database else None
        if database is None:
            return None
        mdb = self._mdb(directory, database)
        return Person(
            account.name,
            legacy_dn.of_account(directory, account),
            account.display_name or account.name,
            account.address,
            account.aliases,
            home_mdb=mdb,
            home_server=mdb.removesuffix(legacy_dn.PRIVATE_MDB),
        )

    def _mdb(self, directory: Directory, database: Database) -> str:
        """The DN that its clients are told, worked out once for each directory: a database has many mailboxes."""
        if self._mdbs[0] is not directory:
            self._mdbs = directory, {}
        known = self._mdbs[1].get(database.name)
        if known is None:
            known = self._mdbs[1][database.name] = legacy_dn.of_database(directory, self._led(directory, database))
        return known

    def _led(self, directory: Directory, database: Database) -> Database:
        """The database as its clients are told of it now; that it still names a server that is gone helps nobody."""
        told = told_database(directory, database)
        if self._retired(told.rpc_client_access_server) is None:
            return told
        active = directory.servers.get(key(database.active_server))
        array = array_of_site(directory, active.site) if active is not None else None
        return replace(told, rpc_client_access_server=array.fqdn) if array is not None else told

    def _retired(self, name: str) -> Station | None:
        wanted = key(name)
        return next((one for one in self._gone() if wanted in (key(one.name), key(one.fqdn))), None)

    def _own_server(self) -> Server | None:
        return None if self._station.retired else self._directory().servers.get(key(self._station.name))

    def _serves(self, directory: Directory, fqdn: str) -> bool:
        """Whether clients that are told this name are right here."""
        own, named = self._own_server(), by_fqdn(directory, fqdn)
        if own is None or named is None or CLIENT_ACCESS not in own.roles:
            return False
        if isinstance(named, Array):
            return own.is_member and key(own.site) == key(named.site)
        return named is own

    def _instead(self, directory: Directory, station: Station, asker: Person | None) -> str | None:
        """The name in a station's place: of the asker's array, of its site's array, or of the only one there is."""
        if asker is not None and asker.home_server:
            return legacy_dn.fqdn_of(directory, asker.home_server)
        server = directory.servers.get(key(station.name))
        sites = (station.site, server.site if server is not None else "", self._site())
        array = next((array for site in sites if site and (array := array_of_site(directory, site))), None)
        if array is None and len(directory.arrays) == 1:
            array = next(iter(directory.arrays.values()))
        return array.fqdn if array is not None else None
