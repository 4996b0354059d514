"""The service principal names of one object: read as a whole, and changed in one modification."""

import re
from contextlib import suppress
from dataclasses import dataclass

from casarray.adapters.stores.ldap_connection import Connection
from casarray.core.errors import Conflict, MovedOn, NotFound
from casarray.core.kerberos.principal import Spn

ATTRIBUTE = "servicePrincipalName"
ATTEMPTS = 3  # when somebody else changes the same names at the same moment

_PART = re.compile(rf"{ATTRIBUTE};range=\d+-(\d+|\*)", re.IGNORECASE)


def whole(connection: Connection, dn: str, values: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """What a search found of an object, with all names.

    Of an attribute with more than 1500 values a domain controller gives parts: [MS-ADTS] 3.1.1.3.1.3.3.
    """
    found = dict(values)
    while part := next((name for name in found if _PART.fullmatch(name)), None):
        found[ATTRIBUTE] = [*found.get(ATTRIBUTE, []), *found.pop(part)]
        last = part.rpartition("-")[2]
        if last != "*":
            rest = f"{ATTRIBUTE};range={int(last) + 1}-*"
            for _, more in connection.rows(dn, "base", "(objectClass=*)", (rest,)):
                found |= {name: more[name] for name in more if _PART.fullmatch(name)}
    return found


@dataclass(frozen=True, slots=True)
class NameChange:
    """These come, those go. What is so already is left as it is, so that it can be done again."""

    dn: str
    add: tuple[Spn, ...]
    remove: tuple[Spn, ...]

    def apply(self, connection: Connection) -> tuple[Spn, ...]:
        """Do it; returns those that were taken. All of it is done or nothing."""
        for _ in range(ATTEMPTS - 1):
            with suppress(MovedOn):  # they are not what they were a moment ago
                return self._apply(connection)
        return self._apply(connection)

    def _apply(self, connection: Connection) -> tuple[Spn, ...]:
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
                names = whole(connection, self.dn, values).get(ATTRIBUTE, ())
                return {text.casefold(): text for text in (name.decode("utf-8", "replace") for name in names)}
        except MovedOn as error:
            raise NotFound(f"{self.dn} is gone: somebody deleted or moved it meanwhile") from error
        raise NotFound(f"{self.dn} is gone, or may not be read")
