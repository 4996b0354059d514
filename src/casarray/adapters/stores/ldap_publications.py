"""Service connection points in Active Directory: `casarray.app.autodiscover_publishing.Publications`."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from casarray.adapters.stores.ldap_link import Link
from casarray.adapters.stores.ldap_names import ConnectionLost, Names
from casarray.core.autodiscover.publication import ATTRIBUTES, FILTER, Pointer, read_pointer
from casarray.core.config import DirectorySettings
from casarray.core.directory.active_directory import Partitions, dn_key
from casarray.core.directory.ad_steps import Step
from casarray.core.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from casarray.adapters.stores.ldap_connection import Connection


class LdapPublications:
    """All of one forest."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def partitions(self) -> Partitions:
        return self._link.attempt(lambda connection: connection.partitions)

    def pointers(self) -> Sequence[Pointer]:
        return self._link.attempt(_pointers)

    def perform(self, steps: Sequence[Step]) -> None:
        from casarray.adapters.stores.ldap_directory import carry_out  # noqa: PLC0415 - its library is an extra

        connection = self._link.attempt(lambda connection: connection)
        for done, step in enumerate(steps):
            try:
                carry_out(connection, step)
            except ConnectionLost as error:
                self._link.lost()
                raise Unavailable(
                    f"the domain controller {connection.host} was lost ({error}) when {done} of {len(steps)} steps "
                    "were done: repeat the command, what is done already is not done twice"
                ) from error


def _pointers(connection: "Connection") -> list[Pointer]:
    found = []
    for dn, values in connection.rows(connection.partitions.configuration, "sub", FILTER, ATTRIBUTES):
        texts = {name: [value.decode("utf-8", "replace") for value in octets] for name, octets in values.items()}
        if (pointer := read_pointer(dn, texts)) is not None:
            found.append(pointer)
    return sorted(found, key=lambda pointer: dn_key(pointer.dn))


@contextmanager
def open_publications(settings: DirectorySettings, names: Names | None = None) -> Iterator[LdapPublications]:
    """Those of the domain that ``[directory]`` names. `ConfigError` when it is no Active Directory."""
    if not settings.store[0].startswith("ldap"):
        raise ConfigError(
            "service connection points stand in Active Directory: name its domain controllers under [directory]"
        )
    try:
        from casarray.adapters.stores.ldap_connection import Connector  # noqa: PLC0415 - an extra of the installation
    except ImportError as error:
        raise ConfigError(f"Active Directory needs python-ldap ({error}): pip install 'casarray[ad]'") from error
    with closing(Link(Connector(settings.store, settings, names))) as link:
        yield LdapPublications(link)
