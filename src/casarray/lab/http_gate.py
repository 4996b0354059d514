"""Asks clients of an RPC proxy for NTLM, for the lab: a real proxy has a domain controller say who is right."""

import base64
import secrets
import time
from collections.abc import Mapping

from casarray.adapters.net.rpc_http_proxy import Verdict
from casarray.core.errors import Denied
from casarray.core.ntlm.context import NtlmServer
from casarray.core.ntlm.crypto import nt_hash


class NtlmGate:
    """Lets in those who know their password. ``passwords`` by name, in small letters."""

    def __init__(self, passwords: Mapping[str, str], *, name: str = "mail.lab.example", domain: str = "LAB") -> None:
        self._passwords = passwords
        self._name, self._domain = name, domain

    def __call__(self) -> "NtlmCheck":
        """For one connection."""
        return NtlmCheck(
            NtlmServer(self._name, self._domain, self._hash_of, random=secrets.token_bytes, clock=time.time)
        )

    def _hash_of(self, user: str, domain: str) -> bytes | None:  # noqa: ARG002 - any domain is good
        password = self._passwords.get(user.casefold())
        return None if password is None else nt_hash(password)


class NtlmCheck:
    """One connection's."""

    def __init__(self, server: NtlmServer) -> None:
        self._server = server

    def judge(self, credentials: tuple[str, bytes] | None) -> Verdict:
        """The challenge, then who it is. `Denied` for who is not."""
        if credentials is None or not credentials[1]:
            return Verdict(offers=("NTLM",))
        if credentials[0] != "ntlm":
            raise Denied("only NTLM is taken here")
        answer = self._server.step(credentials[1])
        if self._server.complete:
            return Verdict(self._server.peer)
        return Verdict(offers=(f"NTLM {base64.b64encode(answer).decode('ascii')}",))
