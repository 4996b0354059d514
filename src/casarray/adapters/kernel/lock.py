"""One gateway per address and network namespace.

The lock is a listening abstract unix socket `\\0casarray/ADDRESS`: abstract names belong to the network namespace, as
the addresses do, no file is left over, and the kernel lets go when the process ends, however it ends.
"""

import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from casarray.core.errors import Conflict, Unavailable
from casarray.core.forwarding.table import Address


class AddressLock:
    """Holds these addresses against every other gateway on this host, until closed."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        """All of them or none. Raises `Conflict`, naming the process, when another holds one."""
        with ExitStack() as taken:
            for address in addresses:
                taken.enter_context(_take(address))
            self._held = taken.pop_all()

    def close(self) -> None:
        """Let others have them."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _take(address: Address) -> socket.socket:
    name = f"\0casarray/{address}"
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(name)
        lock.listen(16)  # whoever finds it taken connects to learn by whom; nobody accepts
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise Unavailable(f"the lock for {address} cannot be made: {error}") from error
        raise Conflict(
            f"another gateway on this host{_holder(name)} already serves {address}: stop that one, or give this array "
            "another address"
        ) from error
    return lock


def _holder(name: str) -> str:
    """The process that listens there, in words, as far as the kernel tells."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.setblocking(False)
        try:
            asking.connect(name)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return ""
    pid = struct.unpack("3i", credentials)[0]
    return f" (process {pid})" if pid else ""
