"""NTLM over HTTP, for clients of an RPC proxy: two short legs, of which the second carries the channel's request."""

import secrets
import time

from casarray.core.errors import Denied
from casarray.core.ntlm.context import NtlmClient


class HttpNtlm:
    """`casarray.adapters.net.rpc_http_client.HttpLogon` by name and password. One for each HTTP connection."""

    scheme = "NTLM"
    mechanism = "NTLM"

    def __init__(self, user: str, domain: str, password: str, host: str) -> None:
        """``host`` is the proxy's name."""
        self._security = NtlmClient(user, domain, password, f"HTTP/{host}", random=secrets.token_bytes, clock=time.time)

    def step(self, token: bytes) -> tuple[bytes, bool]:
        """First what we can do; then the proof, with which the channel begins."""
        if self._security.complete:
            raise Denied("the RPC proxy does not take this name and password")
        return self._security.step(token), bool(token)
