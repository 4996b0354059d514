"""Lets RPC clients prove who they are to a server: by Kerberos, by NTLM, or by SPNEGO with either. For the lab.

NTLM's users stand in a file that only its owner may read, a ``name:password`` on each line; it is read anew for each
logon, and a name's case and domain do not matter.
"""

import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from casarray.core.dcerpc.auth import AuthType, Security
from casarray.core.errors import CasarrayError, Denied
from casarray.core.kerberos.tickets import KERBEROS
from casarray.core.ntlm.context import NtlmServer
from casarray.core.ntlm.crypto import nt_hash
from casarray.core.spnego.negotiation import NTLM, SpnegoServer, Way


class NtlmUsers:
    """The users of a file."""

    def __init__(self, path: Path) -> None:
        """`CasarrayError` if it cannot be read, or if others can."""
        self._path = path
        self._read()

    def hash_of(self, user: str, domain: str) -> bytes | None:  # noqa: ARG002 - any domain is good
        """The `nt_hash` of the password; None for whom the file does not name."""
        try:
            password = self._read().get(user.casefold())
        except CasarrayError as error:
            raise Denied(str(error)) from None
        return None if password is None else nt_hash(password)

    def _read(self) -> dict[str, str]:
        try:
            if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
                raise CasarrayError(f"{self._path} holds passwords and others may read it: chmod 600 {self._path}")
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CasarrayError(f"the NTLM users of {self._path} cannot be read: {error}") from error
        named = (line.partition(":") for line in lines if ":" in line)
        return {user.strip().casefold(): password for user, _, password in named}


class AnyAcceptors:
    """Opens a server's contexts. ``keytab`` and ``users``: None is without Kerberos, without NTLM."""

    def __init__(
        self, keytab: Path | None, users: Path | None, *, name: str = "cas1.lab.example", domain: str = "LAB"
    ) -> None:
        """``name`` and ``domain`` are what NTLM's clients are told. `CasarrayError` for a file of users that is bad."""
        self._kerberos: Callable[[int], Security | None] | None = None
        if keytab is not None:
            from casarray.adapters.kerberos.rpc_security import Acceptors  # noqa: PLC0415 - its library is an extra

            self._kerberos = Acceptors(keytab).accept
        self._users = None if users is None else NtlmUsers(users)
        self._name, self._domain = name, domain

    def accept(self, kind: int) -> Security | None:
        """A context for a client that comes with this type; None if it is another provider's."""
        if kind == AuthType.NTLM:
            return self._ntlm()
        if kind == AuthType.KERBEROS:
            return None if self._kerberos is None else self._kerberos(kind)
        if kind != AuthType.SPNEGO:
            return None
        kerberos, ntlm = self.accept(AuthType.KERBEROS), self._ntlm()
        ways = [Way(KERBEROS, kerberos)] if kerberos is not None else []
        ways += [Way(NTLM, ntlm)] if ntlm is not None else []
        return SpnegoServer(ways) if ways else None

    def _ntlm(self) -> NtlmServer | None:
        if self._users is None:
            return None
        return NtlmServer(self._name, self._domain, self._users.hash_of, random=secrets.token_bytes, clock=time.time)
