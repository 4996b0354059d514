"""What one server knows of its clients: who they are and where they belong: the shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

HERE = ""


@dataclass(frozen=True, slots=True)
class Person:
    """A user with a mailbox, as the address book shows one."""

    name: str  # the account's
    legacy_dn: str
    display_name: str
    address: str = ""  # primary SMTP address
    aliases: tuple[str, ...] = ()  # further ones
    home_mdb: str = ""  # legacyExchangeDN of the database, with the name that is told now
    home_server: str = ""  # and of that name


@dataclass(frozen=True, slots=True)
class Answer:
    """The stub of a response, or the status of a fault; who asked, and what, as far as the call says."""

    stub: bytes = b""
    fault: int = 0
    call: str = ""
    client: str = ""  # the account's name
    about: str = ""  # the server's name that the call asks about


class Guide(Protocol):
    """One server, and what it knows."""

    @property
    def name(self) -> str:
        """What sessions show as the server's name."""

    @property
    def fqdn(self) -> str:
        """The server's own host name: the address book's GUID is made of it."""

    @property
    def organization(self) -> str:
        """``/o=...``, which the DNs of this organisation begin with."""

    def person(self, user_dn: str) -> Person | None:
        """Who has that legacyExchangeDN."""

    def account(self, principal: str) -> Person | None:
        """Who has proven to be that principal, ``alice@LAB.EXAMPLE``; None for whom nothing is known of."""

    def people(self) -> Sequence[Person]:
        """Everybody, by display name, in an order that does not change while nobody comes or goes."""

    def address_book(self, user_dn: str, asker: Person | None) -> str | None:
        """The FQDN of the server or array whose address book this user is to take; None if there is none."""

    def fqdn_of(self, server_dn: str, asker: Person | None) -> str | None:
        """The FQDN of whom a server's or a database's DN names, or of who has taken its place; None if unknown."""

    def mailbox_home(self, person: Person) -> str | None:
        """The DN of the server that opens this mailbox; `HERE` if it is this one, None if nobody does."""

    def public_folders_home(self, person: Person | None) -> str | None:
        """The DN of the server that has public folders for this user; as for `mailbox_home`."""
