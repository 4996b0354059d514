"""Tickets as a server gets them with its own machine account: what key version they are made with now."""

import itertools
import os
import time
from pathlib import Path

import gssapi
import krb5
from gssapi.exceptions import GSSError

from casarray.adapters.kerberos import gss
from casarray.core.errors import CasarrayError, WireError
from casarray.core.kerberos.agent_rules import MOST_SKEW, Seen, holds
from casarray.core.kerberos.keys import Holding
from casarray.core.kerberos.keytab import read_keytab
from casarray.core.kerberos.tickets import ticket_of

_SKEW = 37
_NOBODY_HAS_IT = 7
MOST_NAMES = 16  # asked about at one check
_caches = itertools.count()


class OwnTickets:
    """`casarray.app.kerberos.member.Tickets`."""

    def __init__(self, keytab: str) -> None:
        self._keytab = keytab
        self._skew: float | None = None

    def skew(self) -> float | None:
        """Seconds our clock was ahead of the KDC's at the last ticket; just too many where it only said so."""
        return self._skew

    def seen(self, holding: Holding) -> Seen:
        """For the first name that somebody has; where each name has keys of its own, the first that we cannot read."""
        each = any(key.principal for generation in holding.generations for key in generation.keys)
        found: Seen | None = None
        for name in holding.names[:MOST_NAMES]:
            one = self._ticket(holding, name)
            if one.nobody:
                found = found or one
                continue
            found = one
            if not each or one.version is None or not holds(holding, one):
                break
        assert found is not None  # a holding without names is not asked about
        return found

    def _ticket(self, holding: Holding, name: str) -> Seen:
        """A fresh one each time: one from a cache would show an old version."""
        context = krb5.init_context()
        # A name of its own each time, or the library would find the tickets of the time before.
        cache = krb5.cc_resolve(context, f"MEMORY:own-{os.getpid()}-{next(_caches)}".encode())
        try:
            self._log_on(context, cache)
            who = gss.credentials("", "", f"MEMORY:{(cache.name or b'').decode()}")
            target = gssapi.Name(f"{name}@{holding.realm}", gssapi.NameType.kerberos_principal)
            token = gssapi.SecurityContext(name=target, creds=who, usage="initiate", mech=gss.KRB5).step()
            return Seen(holding.account, name, ticket_of(bytes(token)).version)
        except krb5.Krb5Error as error:
            if error.err_code - gss.TABLE == _SKEW:
                self._skew = MOST_SKEW + 1
            return Seen(holding.account, name, None, f"this server cannot log on with {self._keytab}: {error}")
        except GSSError as error:
            if gss.number_of(error) == _NOBODY_HAS_IT:
                return Seen(holding.account, name, None, f"no account has the name {name} yet", nobody=True)
            return Seen(holding.account, name, None, f"there is no ticket for {name}: {gss.reason(error)}")
        except WireError as error:
            return Seen(holding.account, name, None, f"the ticket for {name} cannot be read: {error}")
        except CasarrayError as error:
            return Seen(holding.account, name, None, str(error))
        finally:
            krb5.cc_destroy(context, cache)

    def _log_on(self, context: krb5.Context, cache: krb5.CCache) -> None:
        """Into the cache. The library puts up with a wrong clock, those that read tickets do not: so it is measured."""
        client = krb5.parse_name_flags(context, machine_principal(self._keytab).encode())
        options = krb5.get_init_creds_opt_alloc(context)
        found = krb5.get_init_creds_keytab(context, client, options, krb5.kt_resolve(context, self._keytab.encode()))
        self._skew = time.time() - found.times.authtime
        krb5.cc_initialize(context, cache, client)
        krb5.cc_store_cred(context, cache, found)


def machine_principal(keytab: str) -> str:
    """Whom a machine's keytab is of: ``CAS1$@REALM`` in Active Directory, else its first ``host/``, else the first."""
    try:
        names = [entry.principal for entry in read_keytab(Path(keytab).read_bytes())]
    except (OSError, WireError):
        return ""
    machine = next((name for name in names if name.partition("@")[0].endswith("$")), "")
    host = next((name for name in names if name.startswith("host/")), "")
    return machine or host or next(iter(names), "")
