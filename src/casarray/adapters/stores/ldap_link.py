"""A connection to a domain controller that is kept: made when it is needed, and anew when it was lost."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from casarray.adapters.stores.ldap_names import ConnectionLost
from casarray.core.errors import Unavailable

if TYPE_CHECKING:
    from casarray.adapters.stores.ldap_connection import Connection, Connector

T = TypeVar("T")


class Link:
    """One connection at a time, to one domain controller after another."""

    def __init__(self, connector: "Connector") -> None:
        self._connector = connector
        self.connection: Connection | None = None

    def attempt(self, work: "Callable[[Connection], T]") -> T:
        """Do what may be done twice, with another domain controller if this one fails meanwhile."""
        tries = 0
        while True:
            fresh = self.connection is None
            if self.connection is None:
                self.connection = self._connector.connect()
            try:
                return work(self.connection)
            except ConnectionLost as error:
                host = self.connection.host
                self.drop()
                if not fresh:
                    continue  # an idle connection may have been closed, and its domain controller be well
                self._connector.give_up()
                tries += 1
                if tries >= self._connector.tries:
                    raise Unavailable(f"the domain controller {host} was lost: {error}") from error

    def once(self, work: "Callable[[Connection], T]") -> T:
        """Do what must not be done twice, over a connection that has just answered.

        `ConnectionLost`: whether it was done, nobody knows.
        """
        connection = self.attempt(_answering)
        try:
            return work(connection)
        except ConnectionLost:
            self.lost()
            raise

    def lost(self) -> None:
        """The domain controller failed: begin with another one the next time."""
        self.drop()
        self._connector.give_up()

    def drop(self) -> None:
        """Hang up, if there is a connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def close(self) -> None:
        """Hang up, and forget the tickets."""
        self.drop()
        self._connector.close()


def _answering(connection: "Connection") -> "Connection":
    connection.highest_usn()
    return connection
