"""One modification of the service principal names of one object."""

from dataclasses import dataclass

from casarray.adapters.stores.ldap_connection import Connection
from casarray.core.errors import Conflict, MovedOn, NotFound
from casarray.core.kerberos.principal import Spn

ATTRIBUTE = "servicePrincipalName"


@dataclass(frozen=True, slots=True)
class NameChange:
    """These come, those go. What is so already is left as it is, so that it can be done again."""

    dn: str
    add: tuple[Spn, ...]
    remove: tuple[Spn, ...]

    def apply(self, connection: Connection) -> tuple[Spn, ...]:
        """Do it; returns those that were taken. All of it is done or nothing."""
        held = self._held(connection)
        gone = {spn.key: spn for spn in self.remove if spn.key in held}
        come = {spn.key: spn for spn in self.add if spn.key not in held}
        if gone or come:
            written = [held[name] for name in gone]  # as it stands there
            try:
                connection.modify(self.dn, [(ATTRIBUTE, written, [str(spn) for spn in come.values()])])
            except MovedOn:
                raise
            except Conflict:
                if come:
                    raise
                # Samba looks for others with a name that is taken away, too, and so refuses to take a duplicate away.
                # What stays it lets pass. Who adds a name in this very moment loses it: hence not always so.
                connection.replace(self.dn, {ATTRIBUTE: [text for name, text in held.items() if name not in gone]})
        return tuple(gone.values())

    def _held(self, connection: Connection) -> dict[str, str]:
        try:
            for _, values in connection.rows(self.dn, "base", "(objectClass=*)", (ATTRIBUTE,)):
                texts = [value.decode("utf-8", "replace") for value in values.get(ATTRIBUTE, ())]
                return {text.casefold(): text for text in texts}
        except MovedOn as error:
            raise NotFound(f"{self.dn} is gone: somebody deleted or moved it meanwhile") from error
        raise NotFound(f"{self.dn} is gone, or may not be read")
