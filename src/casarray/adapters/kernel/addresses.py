"""The addresses of one array on this host: held against other gateways and, in kernel mode, put on an interface."""

import asyncio
import logging
from collections.abc import Iterable

from casarray.adapters.kernel.host import prepare_host
from casarray.adapters.kernel.lock import AddressLock
from casarray.adapters.kernel.threads import to_its_end
from casarray.adapters.kernel.vip import Placed, announce, place, withdraw
from casarray.core.errors import CasarrayError, Denied, Unavailable
from casarray.core.forwarding.table import Address

log = logging.getLogger(__name__)


class HostAddresses:
    """`casarray.app.ports.Addresses` in this network namespace.

    ``interface`` is that of the configuration; None: nothing is placed, for the userspace relay listens on what is
    there.
    """

    def __init__(self, interface: str | None) -> None:
        self._interface = interface
        self._locks: dict[Address, AddressLock] = {}
        self._placed: dict[Address, Placed] = {}
        self._announcing: set[asyncio.Task[None]] = set()

    def hold(self, addresses: Iterable[Address]) -> None:
        fresh: dict[Address, AddressLock] = {}
        try:
            for address in addresses:
                if address not in self._locks:
                    fresh[address] = AddressLock([address])
        except CasarrayError:
            for lock in fresh.values():
                lock.close()
            raise
        self._locks |= fresh

    async def bring(self, addresses: Iterable[Address]) -> None:
        fresh = [address for address in addresses if address not in self._placed]
        if self._interface is None or not fresh:
            return
        missing = await asyncio.to_thread(_forwarding, {address.version for address in fresh})
        if missing:
            raise Unavailable(" ".join(missing))
        placed: list[Placed] = []
        try:
            await to_its_end(_place, fresh, self._interface, placed)
        except BaseException:  # being told to stop meanwhile, too
            await to_its_end(_withdraw, placed)
            raise
        self._placed |= {one.address: one for one in placed}
        if ours := [one for one in placed if one.ours]:
            task = asyncio.create_task(_announce(ours))
            self._announcing.add(task)
            task.add_done_callback(self._announcing.discard)

    async def keep_only(self, addresses: Iterable[Address]) -> None:
        wanted = set(addresses)
        await to_its_end(_withdraw, [self._placed.pop(address) for address in self._placed.keys() - wanted])
        for address in self._locks.keys() - wanted:
            self._locks.pop(address).close()

    async def close(self, *, keep: bool) -> None:
        if not keep:
            await self.keep_only(())
        for task in self._announcing:
            task.cancel()
        for lock in self._locks.values():
            lock.close()
        self._locks.clear()


def _forwarding(versions: set[int]) -> tuple[str, ...]:
    return prepare_host(versions).missing


def _place(addresses: Iterable[Address], interface: str, placed: list[Placed]) -> None:
    """One after the other, so that ``placed`` tells how far it came."""
    for address in addresses:
        placed.append(place(address, interface))


def _withdraw(placed: Iterable[Placed]) -> None:
    for one in placed:
        try:
            withdraw(one)
        except CasarrayError as error:
            log.warning("%s", error)


async def _announce(placed: list[Placed]) -> None:
    try:
        await asyncio.to_thread(announce, placed)
    except (Denied, Unavailable) as error:
        log.warning("%s", error)
