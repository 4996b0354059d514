"""Reaches the agents of the members: a sealed channel in which both sides have proven who they are."""

from casarray.app.kerberos.ports import Agent
from casarray.core.config import KerberosSettings
from casarray.core.errors import Unavailable


class MemberAgents:
    """`casarray.app.kerberos.ports.Agents` over TCP and GSSAPI."""

    def __init__(self, settings: KerberosSettings) -> None:
        self._settings = settings

    def reach(self, host: str) -> Agent:
        """Connect, by the member's FQDN."""
        raise Unavailable(f"the agent of {host} cannot be reached yet")
