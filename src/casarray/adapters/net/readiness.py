"""Tells when sockets are ready: for many that live but a moment.

An event loop does the same, but what it does for each socket is meant to last: uvloop makes ten system calls and a
handle for one that is dialled, read once and closed. Here it is three, and the loop watches one descriptor for all.
"""

import asyncio
import select
from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
#: What comes unasked: the connection failed, or is over. Who reads or writes then learns how.
BROKEN = select.EPOLLERR | select.EPOLLHUP
#: How many are called before the loop has its turn again.
AT_ONCE = 64

Ready = Callable[[int], None]


class Readiness:
    """The sockets that are waited for on one loop. Each is called with what it is ready for until it is forgotten."""

    __slots__ = ("_epoll", "_loop", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Ready] = {}
        loop.add_reader(self._epoll.fileno(), self._call)

    def watch(self, descriptor: int, what: int, ready: Ready) -> None:
        """Wait for ``what``: `READ`, `WRITE` or both."""
        self._epoll.register(descriptor, what)
        self._watched[descriptor] = ready

    def change(self, descriptor: int, what: int) -> None:
        """Wait for something else with it."""
        self._epoll.modify(descriptor, what)

    def forget(self, descriptor: int) -> None:
        """Wait no more, if at all. To be said before the socket is closed: its number soon is another's."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Forget all of them. Twice is once."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._watched.clear()

    def _call(self) -> None:
        for descriptor, what in self._epoll.poll(0, AT_ONCE):
            if (ready := self._watched.get(descriptor)) is not None:  # one called before it may have seen to it
                ready(what)
