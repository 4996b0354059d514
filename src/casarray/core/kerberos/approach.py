"""How a service of an array is asked whether it takes a ticket: which protocol, which port, which class of names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from casarray.core.config import Array, ProbeKind, Service
from casarray.core.kerberos.principal import Spn
from casarray.core.profiles import EMSMDB, MAPPER_PORT, NSPI, RFR, TLS_PORTS, WELL_KNOWN


class Protocol(StrEnum):
    """In which a ticket is shown."""

    HTTP = "http"
    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"
    RPC = "rpc"


@dataclass(frozen=True, slots=True)
class Approach:
    """One way in."""

    service: str  # what the array calls it
    protocol: Protocol
    kind: str  # the class of its names: http, imap, exchangeMDB
    port: int | None  # None: the endpoint mapper says
    tls: bool = False
    path: str = "/"  # HTTP
    interface: str = ""  # RPC: uuid/major.minor
    mapper_port: int | None = MAPPER_PORT

    def takes(self, name: Spn) -> bool:
        """Whether clients of this service ask for such names."""
        return name.service.casefold() == self.kind.casefold()

    def __str__(self) -> str:
        """``imap on 143``."""
        return f"{self.service} on {self.port or 'a dynamic port'}"


_OF_KIND: Mapping[str, Protocol] = {
    "http": Protocol.HTTP,
    "imap": Protocol.IMAP,
    "pop": Protocol.POP3,
    "smtp": Protocol.SMTP,
    "exchangemdb": Protocol.RPC,
    "exchangerfr": Protocol.RPC,
    "exchangeab": Protocol.RPC,
    "host": Protocol.RPC,
}
_OF_PROBE: Mapping[ProbeKind, str] = {
    ProbeKind.HTTP: "http",
    ProbeKind.HTTPS: "http",
    ProbeKind.IMAP: "imap",
    ProbeKind.POP3: "pop",
    ProbeKind.SMTP: "smtp",
}
_INTERFACES: Mapping[str, str] = {EMSMDB: "exchangeMDB", RFR: "exchangeRFR", NSPI: "exchangeAB"}
_INTERFACE_OF = {kind.casefold(): interface for interface, kind in _INTERFACES.items()}
_PORTS = {80: "http", 443: "http", 143: "imap", 993: "imap", 110: "pop", 995: "pop", 25: "smtp", 465: "smtp"} | {
    587: "smtp"
}
KINDS = tuple(sorted({"http", "imap", "pop", "smtp", "exchangeMDB", "exchangeRFR", "exchangeAB", "host"}))

#: Exchange's virtual directories that take tickets, where their health is looked at another place: by the services'
#: names in the profiles. owa and ecp have a page to log on, and phones send passwords.
_PATHS: Mapping[str, str] = {
    "ews": "/ews/exchange.asmx",
    "autodiscover": "/autodiscover/autodiscover.xml",
    "mapi": "/mapi/emsmdb/",
    "oab": "/oab/",
    "rpc": "/rpc/rpcproxy.dll",
}
_NO_TICKETS = frozenset(("owa", "ecp", "activesync"))


def kind_of(service: Service) -> str:
    """The class of the names that its clients ask for; empty if nobody can know. Of RPC, see `approaches`."""
    if service.kerberos_service:
        return service.kerberos_service
    if service.probe is not ProbeKind.KERBEROS:
        return _OF_PROBE.get(service.probe, "")
    if (known := WELL_KNOWN.get(service.name)) is not None:
        return _OF_PROBE[known.probe]
    named = next((_INTERFACES[one] for one in service.interfaces if one in _INTERFACES), "")
    return named or ("host" if service.interfaces else _PORTS.get(service.port or 0, ""))


def approaches(array: Array) -> tuple[Approach, ...]:
    """All ways in that tickets are shown at, in the order of the array's services."""
    mapper = next((s for s in array.services if s.mapper), None)
    mapper_port = mapper.port if mapper else None
    return tuple(one for service in array.services if not service.mapper for one in _of(array, service, mapper_port))


def approach(service: Service, mapper_port: int | None = MAPPER_PORT) -> Approach | None:
    """The one way that a service with the probe kerberos is asked; None if it cannot be known."""
    kind = kind_of(service)
    protocol = _OF_KIND.get(kind.casefold())
    if protocol is None:
        return None
    if protocol is Protocol.RPC:
        wanted = _INTERFACE_OF.get(kind.casefold(), "")
        interface = next(iter(service.interfaces), wanted)
        if not interface:
            return None
        return Approach(service.name, protocol, kind, service.port, interface=interface, mapper_port=mapper_port)
    if service.port is None:
        return None
    tls = service.port in TLS_PORTS or (
        protocol is Protocol.HTTP and (service.port == 443 or service.probe is ProbeKind.HTTPS)
    )
    return Approach(service.name, protocol, kind, service.port, tls, service.path)


def _of(array: Array, service: Service, mapper_port: int | None) -> Iterator[Approach]:
    if service.probe is ProbeKind.RPC and not service.kerberos_service:
        for interface in service.interfaces:
            kind = _INTERFACES.get(interface, "host")
            yield Approach(service.name, Protocol.RPC, kind, service.port, interface=interface, mapper_port=mapper_port)
        return
    found = approach(service, mapper_port)
    if found is None:
        return
    if found.protocol is Protocol.HTTP and service.probe is not ProbeKind.KERBEROS:
        exchange = array.profile.startswith("exchange-")
        if exchange and service.name in _NO_TICKETS:
            return
        if exchange:
            path = "/ews/exchange.asmx" if service.path == "/owa/" else _PATHS.get(service.name, found.path)
            found = Approach(found.service, found.protocol, found.kind, found.port, found.tls, path)
    yield found
