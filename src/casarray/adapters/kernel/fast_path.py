"""Has packets of connections that stand go past netfilter: see `casarray.core.forwarding.fast_path`.

The two programs hang as filters in each Ethernet interface's `clsact`, under a name and handle of the array's own, and
go on without us. Whoever comes next puts new programs in their place, which begin with nothing learnt.

Only what makes packets faster is done here: where it cannot be, a sentence says why, and all goes the usual way.
"""

import asyncio
import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from casarray.adapters.kernel import bpf
from casarray.adapters.kernel.host import Need, set_switch
from casarray.adapters.kernel.rtnetlink import EGRESS, INGRESS, Filter, Link, Routes, Spot
from casarray.adapters.kernel.vip import routes
from casarray.app.operations import FastPathStatus
from casarray.core.errors import CasarrayError, Unavailable
from casarray.core.forwarding import fast_path
from casarray.core.forwarding.table import Address

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
#: Directions of connections that are remembered, the least used forgotten first: 65,536 connections, 16 MiB.
FLOWS = 131_072

_ETHERNET, _UP = 1, 0x1
_PREFERENCE = 0xCA5A
_MOST_PROCESSORS = 1024
_CONNTRACK = "net/netfilter/nf_conntrack_tcp_"
# RFC 5382, 5: what translates addresses may not forget an idle connection within 2 h 4 min.
_UNACKNOWLEDGED_SECONDS = 7440
_NONE_YET = "no interface for it was found yet"


class FastPath:
    """That of one array, in the network namespace of the thread that uses it. `renew` and `close` block."""

    def __init__(self, array: str, *, flows: int = FLOWS, proc: Path = Path("/proc")) -> None:
        """Nothing is asked of the kernel before `renew`."""
        self._names = {INGRESS: f"casarray {array} in", EGRESS: f"casarray {array} out"}
        self._handle = zlib.crc32(array.encode()) & 0x7FFFFFFF | 1
        self._flows = flows
        self._proc = proc
        self._one_at_a_time = threading.Lock()
        self._pausing = threading.Lock()  # held for microseconds, so that a flush waits for no interface
        self._maps: dict[str, int] = {}
        self._programs: dict[int, int] = {}  # where -> descriptor
        self._links: dict[int, Link] = {}
        self._addresses: set[bytes] = set()
        self._epoch = 0
        self._pauses = 0
        self._impossible = ""
        self._closed = False
        self._said = ""
        self._last = FastPathStatus(reason=_NONE_YET)

    async def keep(self, addresses: Callable[[], Collection[Address]]) -> None:
        """Have it on every interface there is, for the array's addresses, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.renew, addresses())
            except CasarrayError as error:
                self._say(f"off: {error}")
            except Exception:  # packets go the usual way, and the next time may be better
                log.exception("the fast path could not be looked after")
            await asyncio.sleep(EVERY_SECONDS)

    def status(self) -> FastPathStatus:
        """Where it is, or why not, and how many packets went that way since these programs were put there."""
        if not self._one_at_a_time.acquire(blocking=False):
            return self._last  # the interfaces are being looked at, and whoever asks is the event loop
        try:
            names = tuple(link.name for link in self._links.values())
            packets = 0
            if self._maps:
                size = fast_path.NOTE_SIZE * _MOST_PROCESSORS
                with suppress(OSError):
                    packets = fast_path.repeated(bpf.get(self._maps[fast_path.NOTES], bytes(4), size))
            self._last = FastPathStatus(names, packets, self._impossible or ("" if names else _NONE_YET))
            return self._last
        finally:
            self._one_at_a_time.release()

    def renew(self, addresses: Collection[Address]) -> None:
        """Put it where it is missing, for these addresses. `Denied` or `Unavailable` when an interface refuses."""
        with self._one_at_a_time:
            if self._closed or self._impossible:
                return
            if not self._maps and not self._load():
                return
            self._serve({a.packed for a in addresses if a.version == 4})
            with routes() as route:
                links = {link.index: link for link in _ethernet(route)}
                for index in self._links.keys() - links.keys():
                    bpf.discard(self._maps[fast_path.LINKS], _number(index))
                    del self._links[index]
                for link in links.values():
                    self._attach(route, link)
            self._say("on " + ", ".join(link.name for link in self._links.values()) if self._links else "off")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Everything goes the usual way meanwhile, and what was learnt before is void afterwards."""
        with self._pausing:
            self._pauses += 1
            self._set_epoch(0)
        try:
            yield
        finally:
            with self._pausing:
                self._pauses -= 1
                if not self._pauses:
                    self._epoch += 1
                    self._set_epoch(self._epoch)

    def close(self, *, keep: bool) -> None:
        """With ``keep`` the programs stay and go on; else they go, whoever put them there. Twice is once."""
        with self._one_at_a_time:
            self._closed = True
            try:
                if not keep:
                    self._take_away()
            finally:
                with self._pausing:
                    for descriptor in (*self._maps.values(), *self._programs.values()):
                        os.close(descriptor)
                    self._maps, self._programs, self._links = {}, {}, {}

    def _load(self) -> bool:
        maps: dict[str, int] = {}
        programs: dict[int, int] = {}
        try:
            for name, shape in fast_path.maps(self._flows).items():
                maps[name] = bpf.create_map(f"casarray_{name}", shape)
            for where, made in ((EGRESS, fast_path.leaving()), (INGRESS, fast_path.arriving())):
                programs[where] = bpf.load("casarray", made.assembled(maps))
            self._set_switches()
        except CasarrayError as error:
            for descriptor in (*maps.values(), *programs.values()):
                os.close(descriptor)
            self._impossible = str(error)
            self._take_away()  # an earlier run's, which nobody would pause
            self._say(f"off: {error}")
            return False
        with self._pausing:
            self._maps, self._programs = maps, programs
            self._epoch += 1
            self._set_epoch(0 if self._pauses else self._epoch)
        return True

    def _set_switches(self) -> None:
        """The connection table sees few of a connection's packets, so it must not hold its windows against them."""
        root = self._proc / "sys"
        liberal = set_switch(root, f"{_CONNTRACK}be_liberal", Need.REQUIRED, "its windows would be wrong")
        if not liberal.good:
            raise Unavailable(liberal.sentence)
        set_switch(root, f"{_CONNTRACK}ignore_invalid_rst", Need.ADVISED, "a late reset may be lost")
        waits = root / f"{_CONNTRACK}timeout_unacknowledged"
        with suppress(OSError, ValueError):
            if int(waits.read_text()) < _UNACKNOWLEDGED_SECONDS:
                waits.write_text(str(_UNACKNOWLEDGED_SECONDS))

    def _serve(self, addresses: set[bytes]) -> None:
        for address in self._addresses - addresses:
            bpf.discard(self._maps[fast_path.ADDRESSES], address)
        for address in addresses - self._addresses:
            bpf.put(self._maps[fast_path.ADDRESSES], address, bytes(4))
        self._addresses = addresses

    def _attach(self, route: Routes, link: Link) -> None:
        filters = {where: _filters(route, link.index, where) for where in self._names}
        strangers = [one for found in filters.values() for one in found if not one.name.startswith("casarray ")]
        if strangers:
            # What they decide of packets would not be asked for those that go past them.
            if self._links.pop(link.index, None):
                bpf.discard(self._maps[fast_path.LINKS], _number(link.index))
            for where in self._names:
                self._detach(route, link.index, where, filters[where])
            return
        bpf.put(self._maps[fast_path.LINKS], _number(link.index), _number(link.mtu))
        ours = all(any(one.handle == self._handle for one in filters[where]) for where in self._names)
        if link.index in self._links and ours:
            self._links[link.index] = link
            return
        try:
            with suppress(OSError):  # it is there
                route.add_clsact(link.index)
            # First where packets leave, so that no note is taken that nobody reads.
            for where in (EGRESS, INGRESS):
                route.put_program(self._spot(link.index, where), self._programs[where], self._names[where])
        except OSError as error:
            raise Unavailable(f"no program can be put on {link.name}: {error}") from error
        self._links[link.index] = link

    def _take_away(self) -> None:
        with routes() as route:
            for link in route.links():
                found = {where: _filters(route, link.index, where) for where in self._names}
                for where in self._names:
                    self._detach(route, link.index, where, found[where])
                if any(found.values()) and not any(_filters(route, link.index, where) for where in self._names):
                    with suppress(OSError):
                        route.delete_clsact(link.index)

    def _detach(self, route: Routes, index: int, where: int, found: list[Filter]) -> None:
        for one in found:
            if one.name == self._names[where]:
                with suppress(OSError):  # somebody was faster
                    route.delete_program(replace(self._spot(index, where), handle=one.handle))

    def _spot(self, index: int, where: int) -> Spot:
        return Spot(index, where, self._handle, _PREFERENCE)

    def _set_epoch(self, epoch: int) -> None:
        if self._maps:
            bpf.put(self._maps[fast_path.STATE], bytes(4), fast_path.epoch_value(epoch))

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.info("fast path: %s", what)


def _ethernet(route: Routes) -> Iterator[Link]:
    """Interfaces with Ethernet frames that are up, and not part of a bridge or bond, which sees the packets itself."""
    return (link for link in route.links() if link.kind == _ETHERNET and link.flags & _UP and not link.master)


def _filters(route: Routes, index: int, where: int) -> list[Filter]:
    with suppress(OSError):
        return route.filters(index, where)
    return []  # no clsact


def _number(value: int) -> bytes:
    return struct.pack("=I", value)
