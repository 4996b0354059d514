"""Profiles: the services, affinity groups and probes of well-known products, under one name.

Interfaces and their versions: "Standards Assignments" of [MS-OXCRPC] (EMSMDB, AsyncEMSMDB), [MS-OXNSPI], [MS-OXABREF].
"""

from collections.abc import Mapping
from dataclasses import dataclass

from casarray.core.config import ProbeKind, Service

EMSMDB = "a4f1db00-ca47-1067-b31f-00dd010662da/0.81"
NSPI = "f5cc5a18-4264-101a-8c59-08002b2f8426/56.0"
RFR = "1544f5e0-613c-11d1-93df-00c04fd7bd09/1.0"

MAPPER_PORT = 135
AUTODISCOVER_PATH = "/autodiscover/autodiscover.xml"
#: Ports where TLS comes before the greeting: submissions, imaps, pop3s. RFC 8314.
TLS_PORTS = frozenset({465, 993, 995})


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of services."""

    name: str
    meaning: str
    services: tuple[Service, ...]


#: Services that need only be named: their port and probe are everybody's. Each is a group of its own, for mail clients
#: need no affinity between protocols, and a server without POP should still serve IMAP.
WELL_KNOWN: Mapping[str, Service] = {
    service.name: service
    for service in (
        Service("http", 80, "web", ProbeKind.HTTP),
        Service("https", 443, "web", ProbeKind.HTTPS),
        Service("imap", 143, "imap", ProbeKind.IMAP),
        Service("imaps", 993, "imaps", ProbeKind.IMAP),
        Service("pop3", 110, "pop3", ProbeKind.POP3),
        Service("pop3s", 995, "pop3s", ProbeKind.POP3),
        Service("smtp", 25, "smtp", ProbeKind.SMTP),
        Service("submission", 587, "submission", ProbeKind.SMTP),
    )
}

_MAPPER = Service("epm", 135, "rpc", ProbeKind.RPC, mapper=True)
_MAIL = tuple(WELL_KNOWN[name] for name in ("imap", "imaps", "pop3", "pop3s", "smtp", "submission"))


def _virtual_directory(name: str, path: str, *, required: bool) -> Service:
    """Since 2013 each virtual directory tells by itself whether it should get clients."""
    return Service(name, 443, "web", ProbeKind.HTTPS, required=required, path=f"{path}/healthcheck.htm")


_EXCHANGE_2010 = Profile(
    "exchange-2010",
    "RPC client access with static ports as administrators usually set them (5001 for MSExchangeRPC, 5000 for "
    "MSExchangeAB); where the servers still use dynamic ports it works as well. HTTPS is a group of its own, so the "
    "loss of IIS moves no RPC client. IMAP and POP are off in a fresh Exchange 2010: add `imaps` and the like by name.",
    (
        _MAPPER,
        Service("rpc", 5001, "rpc", ProbeKind.RPC, interfaces=(EMSMDB,)),
        Service("ab", 5000, "rpc", ProbeKind.RPC, interfaces=(NSPI, RFR)),
        # Without a session /owa/ redirects to the logon page; an ill application answers 500 or 503.
        Service("https", 443, "web", ProbeKind.HTTPS, path="/owa/", status=(200, 301, 302, 401, 403)),
    ),
)

_EXCHANGE_2013 = Profile(
    "exchange-2013",
    "Exchange 2013 and later: no RPC over TCP. A server serves the web while owa, ews, activesync and autodiscover say "
    "so; the other virtual directories are watched and shown only, for not every version and role has them.",
    (
        _virtual_directory("owa", "/owa", required=True),
        _virtual_directory("ews", "/ews", required=True),
        _virtual_directory("activesync", "/Microsoft-Server-ActiveSync", required=True),
        _virtual_directory("autodiscover", "/autodiscover", required=True),
        _virtual_directory("ecp", "/ecp", required=False),
        _virtual_directory("mapi", "/mapi", required=False),
        _virtual_directory("oab", "/oab", required=False),
        _virtual_directory("rpc", "/rpc", required=False),
        *_MAIL,
    ),
)

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        _EXCHANGE_2010,
        _EXCHANGE_2013,
        Profile(
            "msrpc",
            "Any RPC servers behind their endpoint mappers, all ports dynamic, for example Samba. Name the interfaces "
            "that matter in an `[[array.service]]` without a port, and they are probed as well.",
            (_MAPPER,),
        ),
        Profile("mail", "IMAP, POP and SMTP, each a group of its own.", _MAIL),
        Profile("web", "HTTP and HTTPS, one group.", (WELL_KNOWN["http"], WELL_KNOWN["https"])),
    )
}
