"""What somebody wants to test, and with what means."""

from dataclasses import dataclass, field
from enum import StrEnum

from casarray.core.profiles import MAPPER_PORT


class Depth(StrEnum):
    """How far a test goes."""

    SELF = "self"  # without a logon
    DEEP = "deep"  # into the mailbox


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be tested; empty: what the directory says."""

    user: str = ""  # an SMTP address, or an account's name
    array: str = ""  # its name or FQDN
    server: str = ""  # one server: a member by itself, or with ``by_server`` under its own name
    by_server: bool = False  # -RpcTestType Server: the server under its own name, not the array
    http: bool = False
    proxy: str = ""  # of RPC over HTTP; empty: as Autodiscover or the array says
    logon: str = "negotiate"  # kerberos, ntlm, negotiate, none
    depth: Depth | None = None  # None: deep for a user
    each_member: bool = False
    discover: bool = True  # ask Autodiscover, where there is a user
    outside: bool = False
    mapper_port: int = MAPPER_PORT

    @property
    def deep(self) -> bool:
        """Whether the mailbox is to be opened."""
        return self.depth is Depth.DEEP or (self.depth is None and bool(self.user))


@dataclass(frozen=True, slots=True)
class LogOn:
    """In whose name and how; without a password by the tickets of ``kinit``."""

    kind: str = "negotiate"  # kerberos, ntlm, negotiate
    user: str = ""  # alice, LAB\\alice or alice@lab.example
    password: str = ""

    def __repr__(self) -> str:
        """Without the password."""
        return f"LogOn({self.user!r})"


@dataclass(frozen=True, slots=True)
class Means:
    """What a test is done with, beside what is to be tested."""

    log_on: LogOn = field(default_factory=LogOn)
    timeout_seconds: float = 10.0  # for each answer
    outside_dns: str = ""  # the address of a name server of the outside
    autodiscover_url: str = ""  # ask there first
    trust_any_certificate: bool = False
    proxy_authentication: str = "negotiate"  # basic, ntlm, negotiate, none: at the proxy of RPC over HTTP
    authorities: str = ""  # a file with the certificates to trust, instead of the system's
