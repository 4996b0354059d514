"""Whom a walk visits, in whose name, and what ought to be answered there."""

from dataclasses import dataclass, field
from uuid import UUID

from casarray.core.outlook.verdicts import Result, Step
from casarray.core.profiles import MAPPER_PORT


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Whose mailbox is to be opened."""

    address: str = ""  # SMTP
    account: str = ""
    dn: str = ""  # legacyExchangeDN
    guessed: bool = False  # the directory does not know the user: the DN is as it would be by the name


@dataclass(frozen=True, slots=True)
class Journey:
    """One walk from the endpoint mapper to the mailbox, at one host."""

    server: str  # the array's or the member's name, as steps show it
    host: str  # what is connected to: an address, or a name
    name: str  # the FQDN by which clients call it: tickets are asked for in this name
    mailbox: Mailbox = field(default_factory=Mailbox)
    server_dn: str = ""  # legacyExchangeDN of the array
    rfr_names: tuple[str, ...] = ()  # the FQDNs that RFR may answer with; empty: any
    own_addresses: tuple[str, ...] = ()  # what the endpoint mapper's towers may say, beside 0.0.0.0; empty: any
    through_array: bool = False  # connections may come to different servers
    deep: bool = True  # log on; else only bind
    logon: str = "negotiate"  # kerberos, ntlm, negotiate; none: without
    mapper_port: int = MAPPER_PORT
    proxy: str = ""  # RPC over HTTP by way of this proxy
    known: tuple[tuple[str, str], ...] = ()  # addresses of members, and whose they are
    database: str = ""  # the database that names the host, if it is one that nobody knows

    def target(self, service_class: str) -> str:
        """The service to log on to; empty without a logon."""
        return f"{service_class}/{self.name}" if self.deep and self.logon != "none" else ""


@dataclass(slots=True)
class Findings:
    """What a walk learnt on its way; steps are what it tells of it."""

    journey: Journey
    steps: list[Step] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)  # by the interface's name
    tower: str = ""  # the address that the mapper tells
    book: UUID | None = None  # the GUID of the address book that answered
    complete: bool = False  # went all the way

    @property
    def failed(self) -> bool:
        """Whether a client would not have come through."""
        return any(step.result is Result.FAILURE for step in self.steps)
