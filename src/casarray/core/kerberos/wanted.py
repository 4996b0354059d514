"""Which service principal names an array needs: by its names, and by what it offers.

A client asks for a ticket for the name it was given, and for the class its protocol says: Outlook for
``exchangeMDB/cas.domain.tld``, a browser for ``http/mail.domain.tld``, whatever the port. So the classes follow from
the services, and the hosts from the names:

- services of Exchange's RPC interfaces: ``exchangeMDB``, ``exchangeRFR``, ``exchangeAB`` on the array's own name;
- web: ``http`` (https too) on published names, and on the array's own name, unless that is for Outlook's RPC alone;
- mail: ``imap``, ``pop``, ``smtp`` on the array's own and its published names. The profile exchange-2013 brings mail
  services without their classes: Exchange's IMAP and POP services read no shared account. Who names such a service for
  the array wants it;
- other RPC: ``host`` on the array's own name. It is what RPC clients ask for, and in Active Directory ``host`` stands
  for ``rpc``, ``cifs`` and others as well, so none of these is wanted by itself; an array does not share files.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from casarray.core import config
from casarray.core.config import KerberosSettings, ProbeKind, Service
from casarray.core.directory.model import Array
from casarray.core.fixed_ports.subject import effective
from casarray.core.kerberos.approach import kind_of
from casarray.core.kerberos.principal import Spn, parse
from casarray.core.kerberos.shares import Share, published
from casarray.core.profiles import EMSMDB, NSPI, PROFILES, RFR

_INTERFACES = {
    text.partition("/")[0]: service
    for text, service in ((EMSMDB, "exchangeMDB"), (RFR, "exchangeRFR"), (NSPI, "exchangeAB"))
}
_PROBES = {
    ProbeKind.HTTP: "http",
    ProbeKind.HTTPS: "http",
    ProbeKind.IMAP: "imap",
    ProbeKind.POP3: "pop",
    ProbeKind.SMTP: "smtp",
}
#: What each class is for, in the order in which they are shown.
MEANING: Mapping[str, str] = {
    "exchangeMDB": "RPC client access",
    "exchangeRFR": "the Address Book service's referrals",
    "exchangeAB": "the Address Book service",
    "http": "web services",
    "imap": "IMAP",
    "pop": "POP",
    "smtp": "SMTP and submission",
    "host": "RPC servers behind the endpoint mapper",
}
OUTLOOK = frozenset(_INTERFACES.values())
MAIL = frozenset(("imap", "pop", "smtp"))
_OWN_NAME_ALONE = OUTLOOK | {"host"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A name that the shared account should have, and why."""

    name: Spn
    array: str
    reason: str


def wanted_names(share: Share, settings: KerberosSettings, profile: str) -> tuple[Wanted, ...]:
    """All that the arrays of a share need, each once. ``profile``: of arrays that name none.

    `Conflict` when an array's settings are wrong, or one of its names cannot stand in a service principal name.
    """
    found: dict[Spn, Wanted] = {}
    for array in share.arrays:
        for one in _of_array(array, settings, profile):
            found.setdefault(one.name, one)
    return tuple(found.values())


def could_be_ours(share: Share) -> frozenset[Spn]:
    """Every name that casarray would give the account, whatever its arrays offered: these it also takes away again."""
    names = set()
    for array in share.arrays:
        for host in _own_names(array.fqdn, short=True):
            names |= {Spn(service, host) for service in MEANING}
        names |= {Spn(service, host) for host in published(array) for service in MEANING.keys() - _OWN_NAME_ALONE}
    return frozenset(names)


def hosts_of(share: Share) -> tuple[str, ...]:
    """The names by which its arrays are reached."""
    return tuple(dict.fromkeys(host for array in share.arrays for host in (array.fqdn, *published(array))))


def _of_array(array: Array, settings: KerberosSettings, profile: str) -> Iterator[Wanted]:
    classes = _classes(effective(array, profile), _named(array))
    # Outlook's RPC has the array's name for itself, and the web has the published ones; without any, one name is all.
    web_elsewhere = bool(OUTLOOK & classes and published(array))
    for service in (service for service in MEANING if service in classes):
        if service != "http" or not web_elsewhere:
            for host, what in _own_names(array.fqdn, short=settings.short_names).items():
                yield _wanted(array, service, host, what)
        if service not in _OWN_NAME_ALONE:
            for host in published(array):
                yield _wanted(array, service, host, "a published name")


def _wanted(array: Array, service: str, host: str, what: str) -> Wanted:
    name = parse(f"{service}/{host}")  # a name from a directory may be anything
    return Wanted(name, array.name, f"{MEANING[service]} on {what} of {array.name}")


def _own_names(fqdn: str, *, short: bool) -> dict[str, str]:
    """The array's own names, and what they are called."""
    label, _, domain = fqdn.partition(".")
    return {fqdn: "the own name"} | ({label: "the short name"} if short and domain else {})


def _named(array: Array) -> frozenset[str]:
    """The services that the array names itself, besides what its profile brings."""
    tables = array.settings.get("service")
    found = tables if isinstance(tables, list | tuple) else ()
    return frozenset(str(table.get("name")) for table in found if isinstance(table, Mapping))


def _classes(array: config.Array, named: frozenset[str]) -> frozenset[str]:
    brought = {s.name for s in PROFILES[array.profile].services} if array.profile == "exchange-2013" else set()
    classes: set[str] = set()
    for service in array.services:
        its = set(_of_service(service))
        classes |= its - MAIL if service.name in brought - named else its
    mapped = any(service.mapper for service in array.services)
    others = any(service.probe is ProbeKind.RPC and not service.mapper for service in array.services)
    if (mapped or others) and not OUTLOOK & classes:
        classes.add("host")
    return frozenset(classes)


def _of_service(service: Service) -> Iterable[str]:
    if service.probe is ProbeKind.KERBEROS:
        yield kind_of(service)
    elif service.probe in _PROBES:
        yield _PROBES[service.probe]
    for interface in service.interfaces:
        found = _INTERFACES.get(interface.partition("/")[0].casefold())
        if found:
            yield found
