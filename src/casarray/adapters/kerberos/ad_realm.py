"""The shared account in a forest of Active Directory, over sealed LDAP.

    ActiveDirectoryRealm(urls: Sequence[str], settings: KerberosSettings, directory: DirectorySettings)

Everything is asked of, and written to, one domain controller as long as it answers. What reads is repeated with another
one; what writes is not: when an answer is lost, nobody knows whether it was done, and that is said.

Only this is written: the account itself, its password (`unicodePwd`), `msDS-SupportedEncryptionTypes`, and names
(`servicePrincipalName`), those of their former owner too when they are moved.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from casarray.adapters.kerberos import derivation
from casarray.adapters.kerberos.ad_forest import Forest
from casarray.adapters.kerberos.ad_names import NameChange, whole
from casarray.adapters.stores.ldap_connection import Connection, Connector, Keys
from casarray.adapters.stores.ldap_link import Link
from casarray.adapters.stores.ldap_names import ConnectionLost, Names
from casarray.core.config import Bind, DirectorySettings, KerberosSettings
from casarray.core.directory.active_directory import domain_name, is_below, parent
from casarray.core.errors import CasarrayError, Conflict, Denied, MovedOn, NotFound, Unavailable
from casarray.core.kerberos import ad_account
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.encryption import Enctype, bits_of
from casarray.core.kerberos.keys import Generation, Key
from casarray.core.kerberos.principal import Spn

T = TypeVar("T")


def logon(settings: KerberosSettings, directory: DirectorySettings) -> DirectorySettings:
    """How to log on: as ``[kerberos]`` says, where it says something; else as ``[directory]`` does."""
    if settings.keytab or settings.ccache:
        return replace(
            directory,
            bind=Bind.GSSAPI,
            starttls=False,
            principal=settings.principal,
            keytab=settings.keytab,
            ccache=settings.ccache,
        )
    return replace(directory, principal=settings.principal or directory.principal)


class ActiveDirectoryRealm:
    """`casarray.app.kerberos.ports.Realm` in Active Directory."""

    def __init__(
        self,
        urls: Sequence[str],
        settings: KerberosSettings,
        directory: DirectorySettings,
        names: Names | None = None,
    ) -> None:
        """``urls``: domain controllers in the order to try them, or the domain itself. Connects when first needed."""
        self._settings = logon(settings, directory)
        self._names = names
        self._keys = Keys(
            "kerberos.realm" if settings.realm else "directory.store",
            "kerberos.keytab" if settings.keytab else "directory.keytab",
        )
        self._link = self._link_of(urls)
        self.remarks: list[str] = []
        self._forest = Forest(self._link, urls, self._link_of, self.remarks)
        self._others: dict[str, Link] = {}  # other domains of the forest, by their name

    @property
    def name(self) -> str:
        """The realm: the domain's name in capitals."""
        return self._link.attempt(_realm)

    # The account.

    def account(self, name: str) -> Account:
        """The account of that name, with or without its $; one that is named exactly before another."""
        wanted = name.rpartition("\\")[2]
        found = self._link.attempt(lambda connection: _accounts(connection, wanted))
        exact = [one for one in found if one.name.casefold() == wanted.casefold()]
        if not (chosen := exact or found):
            raise NotFound(
                f"there is no account {wanted} in {self.name}: make it with casarray account create {wanted}, or write "
                f"its name as the directory has it"
            )
        return chosen[0]

    def create(self, name: str, kind: AccountKind, encryption: Sequence[Enctype], description: str = "") -> Account:
        """Make it disabled, give it a password nobody knows, enable it. What fails half-way is removed again."""
        name = ad_account.new_name(name, kind)
        self._refuse_taken(name)
        dn = self._link.attempt(lambda connection: _place(connection, name, kind))
        values = ad_account.new_values(name, kind, bits_of(encryption), description)
        with self._right(f'"Create {kind.capitalize()} objects" on {parent(dn)}'):
            self._once(lambda connection: connection.add(dn, values), f"the account {name} was made")
        try:
            self._write_password(dn, f"aA1-{secrets.token_urlsafe(60)}")
            with self._right(f'"Write userAccountControl" on {dn}'):
                control = str(int(ad_account.control(kind)))
                self._once(lambda c: c.replace(dn, {"userAccountControl": (control,)}), f"{name} was enabled")
            return self._at(dn)
        except CasarrayError as error:
            raise type(error)(f"{error}. {self._undone(name, dn)}") from error
        except BaseException:  # Ctrl-C
            self._undone(name, dn)
            raise

    def change_encryption(self, account: Account, encryption: Sequence[Enctype]) -> Account:
        """Set ``msDS-SupportedEncryptionTypes``."""
        values = {"msDS-SupportedEncryptionTypes": (str(bits_of(encryption)),)}
        with self._right(f'"Write msDS-SupportedEncryptionTypes" on {account.where}'):
            self._once(lambda c: c.replace(account.where, values), f"the encryption types of {account} were set")
        return self._at(account.where)

    def remove(self, account: Account) -> None:
        """Delete it."""
        with self._right(f'"Delete" on {account.where}'):
            self._once(lambda connection: connection.delete(account.where), f"{account} was deleted")

    # Its password and keys.

    def keys(self, account: Account, password: str, encryption: Sequence[Enctype]) -> tuple[Key, ...]:
        """The keys that this password would give, under the next key version; by the salts the KDC tells."""
        number, salt = account.number + 1, ad_account.salt_of(account)
        return derivation.keys_of(account.name, account.realm, password, number, encryption, salt)

    def set_password(self, account: Account, password: str) -> Account:
        """Set it, and read back what came of it."""
        self._write_password(account.where, password)
        return self._at(account.where)

    def prove(self, account: Account, generation: Generation) -> str:
        """Get a ticket with these keys."""
        return derivation.prove(account.name, account.realm, generation.keys, ad_account.salt_of(account))

    def _write_password(self, dn: str, password: str) -> None:
        octets = ad_account.password_octets(password)
        with self._right(f'"Reset password" on {dn}'):
            self._once(lambda connection: connection.replace(dn, {"unicodePwd": (octets,)}), "the password was set")

    # Its names.

    def change_names(self, account: Account, add: Sequence[Spn], remove: Sequence[Spn]) -> Account:
        """Give it names and take names, in one modification.

        The domain controller itself sees to it that nobody else in the forest has one, an alias of one included
        ([MS-ADTS] 3.1.1.5.1.3); its refusal names nobody, so the owner is looked up.
        """
        change = NameChange(account.where, tuple(add), tuple(remove))
        with self._right(_names_right(account.where)), self._owner_named(account.where, add):
            self._once(change.apply, f"the names of {account} were changed")
        return self._at(account.where)

    def move_names(self, names: Sequence[Spn], source: Owner, target: Account) -> Account:
        """Take names from one account and give them to another.

        They are two objects, and LDAP changes one at a time: between the two, nobody has the names, and clients get no
        new tickets for them. When the second half fails, the first is undone. Whoever dies in between runs it again:
        names that the former owner no longer has are given all the same.
        """
        taking = NameChange(source.where, (), tuple(names))
        link = self._link_to(source.where)
        link.attempt(lambda connection: connection.host)  # both at hand before anything is changed
        with self._right(_names_right(source.where)):
            taken = self._once(taking.apply, f"{_listed(names)} was taken from {source.name}", link)
        try:
            return self.change_names(target, names, ())
        except CasarrayError as error:
            raise type(error)(f"{error}. {self._given_back(source, taken, link)}") from error
        except BaseException:  # Ctrl-C
            self._given_back(source, taken, link)
            raise

    def owners(self, names: Sequence[Spn]) -> Mapping[Spn, tuple[Owner, ...]]:
        """Who has each of these in the whole forest."""
        return self._forest.owners(names)

    def all_owners(self) -> Iterable[Owner]:
        """Every account of the forest that has a name."""
        return self._forest.everybody()

    def close(self) -> None:
        """Hang up everywhere."""
        self._forest.close()
        for link in (self._link, *self._others.values()):
            link.close()

    # How.

    def _at(self, dn: str) -> Account:
        def read(connection: Connection) -> Account:
            for found, values in connection.rows(dn, "base", "(objectClass=*)", ad_account.ATTRIBUTES):
                return ad_account.account_of(found, whole(connection, found, values), _realm(connection))
            raise NotFound(f"{dn} is gone, or may not be read")

        try:
            return self._link.attempt(read)
        except MovedOn as error:
            raise NotFound(f"{dn} is gone: somebody deleted or moved it meanwhile") from error

    def _refuse_taken(self, name: str) -> None:
        with suppress(NotFound):
            there = self.account(name)
            half = "" if there.enabled else ", disabled, perhaps because an earlier attempt broke off"
            raise Conflict(
                f"there is an account {there} already ({there.where}{half}): use it with casarray account adopt "
                f"{there.name}, remove it with casarray account remove {there.name}, or choose another name"
            )

    def _undone(self, name: str, dn: str) -> str:
        try:
            self._once(lambda connection: connection.delete(dn), "")
        except CasarrayError as error:
            return (
                f"The half-made account {name} could not be removed again ({error}): it is disabled; delete {dn} "
                f"before you try again"
            )
        return f"The half-made account {name} was removed again"

    def _given_back(self, source: Owner, taken: Sequence[Spn], link: Link) -> str:
        if not taken:
            return f"{source.name} had none of them any more; run it again"
        try:
            self._once(NameChange(source.where, tuple(taken), ()).apply, "", link)
        except CasarrayError as error:
            return (
                f"{_listed(taken)} was taken from {source.name} and could not be given back ({error}): nobody has it, "
                f"and clients get no tickets for it; run it again as soon as that is mended"
            )
        return f"{source.name} has {_listed(taken)} again, so nothing is changed"

    def _once(self, work: Callable[[Connection], T], done: str, link: Link | None = None) -> T:
        try:
            return (link or self._link).once(work)
        except ConnectionLost as error:
            raise Unavailable(
                f"the domain controller was lost ({error}), and nobody knows whether {done or 'it was done'}: look at "
                f"it again, and repeat what is missing"
            ) from error

    @contextmanager
    def _right(self, right: str) -> Iterator[None]:
        """Name the right that is missing."""
        try:
            yield
        except Denied as error:
            who = self._link.connection.who if self._link.connection else "us"
            raise Denied(
                f"{error}. Needed is the right {right}, for {who}: have it delegated, or log on as somebody who has it"
            ) from error

    @contextmanager
    def _owner_named(self, dn: str, add: Sequence[Spn]) -> Iterator[None]:
        """Say who has a name that the domain controller refused."""
        try:
            yield
        except MovedOn:
            raise
        except Conflict as error:
            if said := self._already(dn, add):
                raise Conflict(said) from error
            raise

    def _already(self, dn: str, add: Sequence[Spn]) -> str:
        for spn in add:
            others = [spn.alias] if spn.alias else list(spn.covers)
            for has, owners in self.owners((spn, *others)).items():
                if other := next((o for o in owners if o.where.casefold() != dn.casefold()), None):
                    means = "" if has == spn else f", and host/{spn.host} stands for both"
                    return (
                        f"{has} belongs to {other.name} ({other.where}) already{means}: nothing was changed; "
                        f"casarray spn plan shows how it can be moved"
                    )
        return ""

    def _link_of(self, urls: Sequence[str]) -> Link:
        return Link(Connector(urls, self._settings, self._names, self._keys))

    def _link_to(self, dn: str) -> Link:
        """The way to a domain controller of an object's domain."""
        if self._link.attempt(lambda connection: is_below(dn, connection.partitions.domain)):
            return self._link
        domain = domain_name(dn)
        if domain not in self._others:
            scheme = "ldaps" if self._settings.bind is Bind.SIMPLE and not self._settings.starttls else "ldap"
            self._others[domain] = self._link_of([f"{scheme}://{domain}"])
        return self._others[domain]


def _realm(connection: Connection) -> str:
    return domain_name(connection.partitions.domain).upper()


def _accounts(connection: Connection, name: str) -> list[Account]:
    realm, domain = _realm(connection), connection.partitions.domain
    rows = connection.rows(domain, "sub", ad_account.account_filter(name), ad_account.ATTRIBUTES)
    return [ad_account.account_of(dn, whole(connection, dn, values), realm) for dn, values in rows]


def _place(connection: Connection, name: str, kind: AccountKind) -> str:
    domain = connection.partitions.domain
    for _, values in connection.rows(domain, "base", "(objectClass=*)", ("wellKnownObjects",)):
        known = [value.decode("utf-8", "replace") for value in values.get("wellKnownObjects", ())]
        return ad_account.new_dn(name, kind, known, domain)
    raise Unavailable(f"{domain} cannot be read")


def _names_right(dn: str) -> str:
    return f'"Write servicePrincipalName" on {dn} (the validated write is for the names of its own host alone)'


def _listed(names: Sequence[Spn]) -> str:
    return ", ".join(map(str, names))
