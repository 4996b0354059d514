"""What servers were found to offer, and the configuration that follows from it. No sockets: `adapters.survey` looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from casarray.core.config import ProbeKind, Service
from casarray.core.forwarding.table import Address
from casarray.core.profiles import EMSMDB, NSPI, PROFILES, WELL_KNOWN

MAPPER = "epm"
HEALTH_PAGE = "healthcheck"

#: What is looked for on every server, besides the interfaces behind its endpoint mapper.
CANDIDATES: tuple[Service, ...] = (
    Service(MAPPER, 135, "rpc", ProbeKind.TCP),
    *WELL_KNOWN.values(),
    # Exchange 2013 and later say by this page whether they should get clients.
    Service(HEALTH_PAGE, 443, "web", ProbeKind.HTTPS, path="/owa/healthcheck.htm"),
)
#: A web server is there whatever it answers to a stranger.
ANY_STATUS = tuple(range(100, 500))


@dataclass(frozen=True, slots=True)
class Interface:
    """An RPC interface that the endpoint mapper lists."""

    interface: str  # uuid/major.minor
    port: int  # TCP
    annotation: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of looking for one service."""

    service: str
    up: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What one server offers."""

    server: str
    address: Address
    found: tuple[Found, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    mapper_reason: str = ""  # why the endpoint mapper could not be asked for its interfaces

    def has(self, service: str) -> bool:
        """Whether this service answered."""
        return any(found.up for found in self.found if found.service == service)

    def port_of(self, interface: str) -> int | None:
        """The TCP port on which the interface listens."""
        return next((i.port for i in self.interfaces if i.interface == interface), None)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the array should offer."""

    profile: str
    without: tuple[str, ...] = ()  # services of the profile that some server lacks
    ports: Mapping[str, int] | None = None  # services of the profile on other ports
    services: tuple[str, ...] = ()  # well-known ones, instead of a profile
    also: tuple[str, ...] = ()  # well-known ones that every server has beyond the profile
    remarks: tuple[str, ...] = ()  # sentences for the administrator


def conclude(offers: Sequence[Offer], profile: str | None = None) -> Conclusion:
    """The profile that fits what all servers offer, or the given one, and what to change in it."""
    common = [name for name in WELL_KNOWN if offers and all(offer.has(name) for offer in offers)]
    remarks = [
        f"{offer.server} ({offer.address}) answers on no port that was tried" for offer in offers if _silent(offer)
    ]
    chosen = profile or _profile_for(offers)
    if chosen is None:
        return Conclusion("", services=tuple(common), remarks=tuple(remarks))
    if not any(offer.found and not _silent(offer) for offer in offers):
        if offers:
            remarks.append(f"nothing could be seen of the servers, so the profile is {chosen}, unchanged")
        return Conclusion(chosen, remarks=tuple(remarks))
    mine = {service.name for service in PROFILES[chosen].services}
    without = tuple(name for name in WELL_KNOWN if name in mine and name not in common)
    if chosen == "exchange-2013":
        without = tuple(name for name in without if name != "https")
    ports, more = _static_ports(offers) if chosen == "exchange-2010" else ({}, [])
    covered = mine | ({"https"} if chosen == "exchange-2013" else set())
    also = tuple(name for name in common if name not in covered)
    remarks += [f"the array offers no {name}: not every server has it" for name in without]
    return Conclusion(chosen, without, ports, also=also, remarks=(*remarks, *more))


def _silent(offer: Offer) -> bool:
    return bool(offer.found) and not any(found.up for found in offer.found)


def _profile_for(offers: Sequence[Offer]) -> str | None:
    """The profile that what was seen speaks for; None when single services describe it better."""
    seen = [offer for offer in offers if not _silent(offer)]
    if not seen or any(offer.port_of(EMSMDB) for offer in seen):
        return "exchange-2010"
    if any(offer.has(HEALTH_PAGE) for offer in seen):
        return "exchange-2013"
    if all(offer.has(MAPPER) for offer in seen):
        return "msrpc"
    names = {name for name in WELL_KNOWN if all(offer.has(name) for offer in seen)}
    return next((p for p in ("web", "mail") if names == {service.name for service in PROFILES[p].services}), None)


def _static_ports(offers: Sequence[Offer]) -> tuple[dict[str, int], list[str]]:
    """The ports of the two RPC services, where all servers agree on another one than the profile's."""
    ports: dict[str, int] = {}
    remarks = []
    for service, interface in (("rpc", EMSMDB), ("ab", NSPI)):
        usual = next(s.port for s in PROFILES["exchange-2010"].services if s.name == service)
        seen = {port for offer in offers if (port := offer.port_of(interface))}
        if len(seen) == 1 and seen != {usual}:
            ports[service] = seen.pop()
        elif len(seen) > 1:
            shown = ", ".join(str(port) for port in sorted(seen))
            remarks.append(
                f"{service} has a port of its own on each server ({shown}): that works, a static one is easier to watch"
            )
    return ports, remarks


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the administrator said."""

    gateway: str
    name: str
    fqdn: str
    site: str
    addresses: tuple[Address, ...]
    servers: tuple[tuple[str, tuple[Address, ...]], ...]


def write_config(wanted: Wanted, conclusion: Conclusion) -> str:
    """A commented configuration file."""
    lines = [
        "# casarray: one name and address in front of all servers of a site.",
        "# casarray check -c FILE    says whether this is right and what it does",
        "# casarray run -c FILE      starts the gateway",
        "# Every key with its default: docs/operate/configuration.md",
        "",
        "[gateway]",
        f"name = {_quoted(wanted.gateway)}",
        'mode = "auto"            # the kernel where it can be had, else userspace',
        'return_path = "routed"   # the servers\' way back to the clients leads through here; else "masquerade"',
        "",
        "[[site]]",
        f"name = {_quoted(wanted.site)}",
        "# The subnets of the site, as in Active Directory. The array's address should be in one of them.",
        '# subnets = ["10.11.0.0/24", "10.12.0.0/24"]',
        "",
        "[[array]]",
        f"name = {_quoted(wanted.name)}",
        f"fqdn = {_quoted(wanted.fqdn)}   # only the inside should be able to resolve it",
        f"site = {_quoted(wanted.site)}",
        f"addresses = [{', '.join(_quoted(str(a)) for a in wanted.addresses)}]",
        *_array_services(conclusion),
        "",
        *_servers(wanted),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _array_services(conclusion: Conclusion) -> list[str]:
    lines = []
    if conclusion.profile:
        lines.append(f"profile = {_quoted(conclusion.profile)}")
    if conclusion.without:
        lines += ["# Not every server has these.", f"without = [{', '.join(map(_quoted, conclusion.without))}]"]
    lines.append('affinity_timeout = "3h"   # so long after its last new connection a client stays on its server')
    lines += [f"# {remark}" for remark in conclusion.remarks]
    for name, port in (conclusion.ports or {}).items():
        lines += ["", "[[array.service]]            # all servers have it on this port", f"name = {_quoted(name)}"]
        lines.append(f"port = {port}")
    for name in conclusion.services:
        lines += ["", "[[array.service]]", f"name = {_quoted(name)}"]
    for name in conclusion.also:
        lines += ["", f"# Every server has {name} as well; take the # away to offer it.", "# [[array.service]]"]
        lines.append(f"# name = {_quoted(name)}")
    return lines


def _servers(wanted: Wanted) -> list[str]:
    lines = []
    for name, addresses in wanted.servers:
        shown = [_quoted(str(address)) for address in addresses]
        value = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
        lines += [
            "[[server]]",
            f"name = {_quoted(name)}",
            f"site = {_quoted(wanted.site)}",
            f"address = {value}",
            "weight = 100   # its share of new clients, relative to the other servers'",
            "",
        ]
    return lines


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
