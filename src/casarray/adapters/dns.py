"""Addresses of names, as the host's own resolver has them, and which names are aliases of others."""

import socket
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

from casarray.core.forwarding.table import Address

AT_ONCE = 16
ALIAS_SECONDS = 3.0


def resolve(names: Collection[str]) -> dict[str, tuple[Address, ...]]:
    """Name -> its addresses, IPv4 first; names that are not known now are left out. Blocking."""
    if not names:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(names)), thread_name_prefix="dns") as threads:
        found = dict(zip(names, threads.map(_addresses, names), strict=True))
    return {name: addresses for name, addresses in found.items() if addresses}


def _addresses(name: str) -> tuple[Address, ...]:
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    found = {ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers}
    return tuple(sorted(found, key=lambda address: (address.version, address)))


def canonical(names: Collection[str], servers: Collection[str] = ()) -> Mapping[str, str]:
    """Those that are aliases (CNAME), each with the name its chain ends at; what DNS does not tell is left out.

    DNS alone is asked, never a hosts file: what counts is what clients elsewhere are told. ``servers``: others than the
    host's own. Blocking.
    """
    try:
        import dns.resolver  # noqa: PLC0415 - half a second, and only where names are looked at
    except ImportError:
        return {}
    try:
        resolver = dns.resolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration:
        return {}
    if servers:
        resolver.nameservers = list(servers)
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(wanted)), thread_name_prefix="dns") as threads:
        found = zip(wanted, threads.map(lambda name: _target(resolver, name), wanted), strict=True)
        return {name: target for name, target in found if target and target.casefold() != name.casefold()}


def _target(resolver: Any, name: str) -> str:
    from dns.exception import DNSException  # noqa: PLC0415 - as above
    from dns.resolver import NXDOMAIN  # noqa: PLC0415 - as above

    try:
        answer = resolver.resolve(f"{name.rstrip('.')}.", "A", raise_on_no_answer=False, lifetime=ALIAS_SECONDS)
        found = answer.canonical_name
    except NXDOMAIN as error:  # an alias may lead to a name that is not there
        found = error.canonical_name
    except (DNSException, OSError, ValueError):
        return ""
    return str(found).rstrip(".")
