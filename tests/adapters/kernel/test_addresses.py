"""The addresses of an array on a host that fails half-way."""

import asyncio
import errno
import threading
import time
from ipaddress import ip_address

import pytest

from casarray.adapters.kernel import addresses, vip
from casarray.adapters.kernel.addresses import HostAddresses
from casarray.adapters.kernel.vip import Placed, place
from casarray.core.errors import Denied, Unavailable
from casarray.core.forwarding.table import Address

FIRST, SECOND = ip_address("10.91.0.100"), ip_address("10.91.0.101")


class Host:
    """Where addresses are placed, slowly."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: list[Address] = []
        self.placing = threading.Event()
        self.refuses: Exception | None = None
        monkeypatch.setattr(addresses, "_forwarding", lambda _versions: ())
        monkeypatch.setattr(addresses, "place", self._place)
        monkeypatch.setattr(addresses, "withdraw", self._withdraw)
        monkeypatch.setattr(addresses, "announce", lambda _placed: None)

    def _place(self, address: Address, _interface: str) -> Placed:
        self.placing.set()
        time.sleep(0.1)
        if self.refuses is not None and self.there:
            raise self.refuses
        self.there.append(address)
        return Placed(address, "eth0", ours=True)

    def _withdraw(self, placed: Placed) -> None:
        self.there.remove(placed.address)


async def test_whoever_is_stopped_while_placing_addresses_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    host, held = Host(monkeypatch), HostAddresses("auto")
    bringing = asyncio.create_task(held.bring([FIRST, SECOND]))
    while not host.placing.is_set():
        await asyncio.sleep(0.01)
    bringing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bringing
    await held.close(keep=False)
    await asyncio.sleep(0.3)
    assert host.there == []


@pytest.mark.parametrize("refuses", [Unavailable("the link is down"), RuntimeError("nobody thought of it")])
async def test_addresses_are_placed_all_or_none(monkeypatch: pytest.MonkeyPatch, refuses: Exception) -> None:
    host, held = Host(monkeypatch), HostAddresses("auto")
    host.refuses = refuses
    with pytest.raises(type(refuses)):
        await held.bring([FIRST, SECOND])
    assert host.there == []
    host.refuses = None
    await held.bring([FIRST, SECOND])
    assert host.there == [FIRST, SECOND]
    await held.keep_only([SECOND])
    assert host.there == [SECOND]
    await held.close(keep=True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EMFILE, "Too many open files"), Unavailable),
        (OSError(errno.EINTR, "Interrupted system call"), Unavailable),
        (OSError(errno.EPERM, "Operation not permitted"), Denied),
    ],
)
def test_what_the_system_refuses_becomes_a_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    def refused() -> None:
        raise error

    monkeypatch.setattr(vip, "Routes", refused)
    with pytest.raises(kind, match="addresses of this host"):
        place(FIRST)
