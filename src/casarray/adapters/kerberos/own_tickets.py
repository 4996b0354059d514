"""Tickets as a server gets them with its own machine account: what key version they are made with now."""

from pathlib import Path

import gssapi
from gssapi.exceptions import GSSError

from casarray.adapters.kerberos import gss
from casarray.core.errors import CasarrayError, WireError
from casarray.core.kerberos.agent_rules import MOST_SKEW, Seen
from casarray.core.kerberos.keys import Holding
from casarray.core.kerberos.keytab import read_keytab
from casarray.core.kerberos.tickets import ticket_of

_SKEW = 37
_NOBODY_HAS_IT = 7


class OwnTickets:
    """`casarray.app.kerberos.member.Tickets`."""

    def __init__(self, keytab: str) -> None:
        self._keytab = keytab
        self._skew: float | None = None

    def skew(self) -> float | None:
        """More than what Kerberos puts up with, if the KDC said so the last time; how much more, it does not say."""
        return self._skew

    def seen(self, holding: Holding) -> Seen:
        """A fresh ticket each time: one from a cache would show an old version."""
        name = holding.names[0]
        try:
            who = gss.credentials(machine_principal(self._keytab), self._keytab, "")
            target = gssapi.Name(f"{name}@{holding.realm}", gssapi.NameType.kerberos_principal)
            context = gssapi.SecurityContext(name=target, creds=who, usage="initiate", mech=gss.KRB5)
            token = context.step()
            self._skew = None
            return Seen(holding.account, name, ticket_of(bytes(token)).version)
        except GSSError as error:
            if gss.number_of(error) == _SKEW:
                self._skew = MOST_SKEW + 1
            if gss.number_of(error) == _NOBODY_HAS_IT:
                return Seen(holding.account, name, None, f"no account has the name {name} yet")
            return Seen(holding.account, name, None, str(gss.told(error, name)))
        except WireError as error:
            return Seen(holding.account, name, None, f"the ticket for {name} cannot be read: {error}")
        except CasarrayError as error:
            return Seen(holding.account, name, None, str(error))


def machine_principal(keytab: str) -> str:
    """Whom a machine's keytab is of: ``CAS1$@REALM`` in Active Directory, else its first ``host/``, else the first."""
    try:
        names = [entry.principal for entry in read_keytab(Path(keytab).read_bytes())]
    except (OSError, WireError):
        return ""
    machine = next((name for name in names if name.partition("@")[0].endswith("$")), "")
    host = next((name for name in names if name.startswith("host/")), "")
    return machine or host or next(iter(names), "")
