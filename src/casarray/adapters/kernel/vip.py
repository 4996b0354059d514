"""Puts an array's addresses on an interface, and tells the neighbours who has them now.

An address that some interface already has is left as it is. One of ours is a host route (/32, /128) that carries a
protocol number of our own (IFA_PROTO, Linux 5.18), so a later run knows it again and may take it away. Over IPv6 it
comes without duplicate address detection, which would keep it silent for a second, and deprecated, so that the
gateway's own connections do not begin from it.

Calls block for milliseconds (`announce` for its pauses): from a coroutine, use a thread.
"""

import errno
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_interface
from pathlib import Path

from casarray.adapters.kernel.packets import arp_announcement, neighbour_advertisement
from casarray.adapters.kernel.rtnetlink import Routes
from casarray.core.errors import CasarrayError, Denied, NotFound, Unavailable
from casarray.core.forwarding.table import Address

OURS = 0xCA  # IFA_PROTO of the addresses that casarray placed

_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_IFA_F_NODAD = 0x02
_FOREVER = 0xFFFFFFFF
_ARPHRD_ETHER = 1


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an address of the array is. ``interface`` is empty if no interface of this host has it."""

    address: Address
    interface: str
    ours: bool  # casarray put it there, in this run or an earlier one


def place(address: Address, interface: str = "auto") -> Placed:
    """Have ``address`` on an interface of this host: the named one, or ("auto") the one it belongs to.

    With "none", nothing is placed, only looked for. Raises `NotFound` for an unknown interface or when none fits,
    `Unavailable` for one that is down, `Denied` without CAP_NET_ADMIN.
    """
    with routes() as route:
        if present := _present(route, address):
            return present
        if interface == "none":
            return Placed(address, "", ours=False)
        index, name = _by_name(route, interface) if interface != "auto" else _by_subnet_or_route(route, address)
        try:
            if address.version == 4:
                route.add_address(index, address, OURS)
            else:
                route.add_address(index, address, OURS, flags=_IFA_F_NODAD, lifetimes=(0, _FOREVER))
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise _translated(error, f"the address {address} cannot be put on {name}") from error
    return Placed(address, name, ours=True)


def withdraw(placed: Placed) -> None:
    """Take the address away, if it was we who brought it; already gone is no error."""
    if not placed.ours:
        return
    with routes() as route:
        try:
            index, _ = _by_name(route, placed.interface, must_be_up=False)
            route.delete_address(index, placed.address)
        except NotFound:
            return  # the interface is gone, and every address with it
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise _translated(error, f"{placed.address} cannot be taken from {placed.interface}") from error


@contextmanager
def routes() -> Iterator[Routes]:
    """The host's. Whatever is refused and not spoken of by whoever asked is `Denied` or `Unavailable`."""
    try:
        with Routes() as route:
            yield route
    except OSError as error:  # an interface that went just now, a list that changed while it was read
        raise _translated(error, "the addresses of this host cannot be dealt with") from error


def announce(
    placed: Iterable[Placed], *, times: int = 3, pause_seconds: float = 0.2, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Tell the neighbours that these addresses are here, several times, since nobody confirms it.

    Addresses on loopback, or on a link without Ethernet addresses, have no neighbours to tell. Raises `Denied` without
    CAP_NET_RAW, `Unavailable` when the link refuses.
    """
    there = [one for one in placed if one.interface]
    for turn in range(times):
        if turn:
            sleep(pause_seconds)
        for one in there:
            _announce_once(one)


def _announce_once(placed: Placed) -> None:
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as link:
            link.bind((placed.interface, 0))
            _, _, _, kind, mac = link.getsockname()
            if kind != _ARPHRD_ETHER:
                return
            if isinstance(placed.address, IPv4Address):
                for operation in (1, 2):
                    link.send(arp_announcement(placed.address, mac, operation))
            else:
                router = _forwards(placed.interface)
                link.send(neighbour_advertisement(placed.address.packed, mac, router=router))
    except PermissionError as error:
        raise Denied("announcing an address needs CAP_NET_RAW: run as root or give casarray the capability") from error
    except OSError as error:
        raise Unavailable(f"{placed.address} cannot be announced on {placed.interface}: {error}") from error


def _forwards(interface: str) -> bool:
    """Whether the kernel itself would call this host a router in its advertisements."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{interface}/forwarding").read_text().strip() != "0"
    except OSError:
        return False


def _present(route: Routes, address: Address) -> Placed | None:
    for held in route.addresses():
        if held.address == address:
            names = {link.index: link.name for link in route.links()}
            return Placed(address, names.get(held.index, ""), ours=held.protocol == OURS)
    return None


def ours(route: Routes) -> list[Placed]:
    """Every address that casarray placed on this host, in this run or an earlier one."""
    names = {link.index: link.name for link in route.links()}
    return [
        Placed(held.address, names[held.index], ours=True)
        for held in route.addresses()
        if held.protocol == OURS and held.index in names
    ]


def _by_name(route: Routes, name: str, *, must_be_up: bool = True) -> tuple[int, str]:
    links = {link.name: link for link in route.links()}
    if name not in links:
        raise NotFound(f"there is no interface {name}; gateway.interface can be one of: {', '.join(sorted(links))}")
    if must_be_up and not links[name].flags & _IFF_UP:
        raise Unavailable(f"the interface {name} is down: bring it up with `ip link set {name} up`")
    return links[name].index, name


def _by_subnet_or_route(route: Routes, address: Address) -> tuple[int, str]:
    usable = {
        link.index: link.name for link in route.links() if link.flags & _IFF_UP and not link.flags & _IFF_LOOPBACK
    }
    holding = []
    for held in route.addresses():
        network = ip_interface(f"{held.address}/{held.prefix}").network
        if held.index in usable and network.prefixlen < network.max_prefixlen and address in network:
            holding.append((network.prefixlen, held.index))
    if holding:
        index = max(holding)[1]
        return index, usable[index]
    with suppress(OSError):  # unreachable, prohibited, no route: each means that no interface leads there
        if (way := route.way_to(address)) in usable:
            return way, usable[way]
    raise NotFound(
        f"no interface has a subnet or a route for {address}: set gateway.interface to the one that faces the clients, "
        'or to "none" if somebody else brings the address'
    )


def _translated(error: OSError, what: str) -> CasarrayError:
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Denied(f"{what}: that needs CAP_NET_ADMIN: run as root or give casarray the capability")
    return Unavailable(f"{what}: {error.strerror or error}")
