"""Addresses of names, as the host's own resolver has them."""

import socket
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from casarray.core.forwarding.table import Address

AT_ONCE = 16


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
