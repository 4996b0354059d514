"""Has packets of connections that stand go past netfilter: see `casarray.core.forwarding.fast_path`.

The programs of each IP version hang as filters in each Ethernet interface's `clsact`, under names and a handle of the
array's own, and go on without us. Whoever comes next puts new programs in their place, which begin with nothing learnt.

Only what makes packets faster is done here: where it cannot be, a sentence says why, and all goes the usual way.
"""

import asyncio
import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
#: Directions of connections that are remembered, the least used forgotten first: 65,536 connections of each IP version
#: that the array has; 16 MiB for IPv4, 24 for IPv6.
FLOWS = 131_072

_ETHERNET, _UP = 1, 0x1
_PREFERENCES = {4: 0xCA5A, 6: 0xCA5B}  # the kernel wants one for each protocol
_PROTOCOLS = {4: 0x0800, 6: 0x86DD}  # ETH_P_IP, ETH_P_IPV6
_VERSIONS = {4: fast_path.IPV4, 6: fast_path.IPV6}
_PLACES = {EGRESS: "out", INGRESS: "in"}  # first where packets leave, so that no note is taken that nobody reads
_MOST_PROCESSORS = 1024
_CONNTRACK = "net/netfilter/nf_conntrack_tcp_"
# RFC 5382, 5: what translates addresses may not forget an idle connection within 2 h 4 min.
_UNACKNOWLEDGED_SECONDS = 7440
_NONE_YET = "no interface for it was found yet"


class _Programs:
    """Those of one IP version and their maps. Errors as `bpf.create_map` and `bpf.load`."""

    def __init__(self, version: int, flows: int) -> None:
        self._version = _VERSIONS[version]
        self._maps: dict[str, int] = {}
        self._loaded: dict[int, int] = {}  # where -> descriptor
        self._addresses: set[bytes] = set()
        try:
            for name, shape in fast_path.maps(flows, self._version).items():
                self._maps[name] = bpf.create_map(f"casarray_{name}", shape)
            for where, made in ((EGRESS, fast_path.leaving), (INGRESS, fast_path.arriving)):
                self._loaded[where] = bpf.load("casarray", made(self._version).assembled(self._maps))
        except BaseException:
            self.close()
            raise

    def descriptor(self, where: int) -> int:
        """The program for there."""
        return self._loaded[where]

    def serve(self, addresses: set[bytes]) -> None:
        """These are the array's."""
        for address in self._addresses - addresses:
            bpf.discard(self._maps[fast_path.ADDRESSES], address)
        for address in addresses - self._addresses:
            bpf.put(self._maps[fast_path.ADDRESSES], address, bytes(4))
        self._addresses = addresses

    def use(self, link: Link) -> None:
        """Packets may leave there."""
        bpf.put(self._maps[fast_path.LINKS], _number(link.index), _number(link.mtu))

    def leave(self, index: int) -> None:
        """Not there any more."""
        bpf.discard(self._maps[fast_path.LINKS], _number(index))

    def set_epoch(self, epoch: int) -> None:
        """0: nothing is repeated."""
        bpf.put(self._maps[fast_path.STATE], bytes(4), fast_path.epoch_value(epoch))

    def repeated(self) -> int:
        """Packets so far."""
        size = self._version.note * _MOST_PROCESSORS
        return fast_path.repeated(bpf.get(self._maps[fast_path.NOTES], bytes(4), size), self._version)

    def close(self) -> None:
        """What hangs on interfaces stays there."""
        for descriptor in (*self._maps.values(), *self._loaded.values()):
            os.close(descriptor)
        self._maps, self._loaded = {}, {}


class FastPath:
    """That of one array, in the network namespace of the thread that uses it. `renew` and `close` block."""

    def __init__(self, array: str, *, flows: int = FLOWS, proc: Path = Path("/proc")) -> None:
        """Nothing is asked of the kernel before `renew`."""
        self._prefix = f"casarray {array} "
        self._handle = zlib.crc32(array.encode()) & 0x7FFFFFFF | 1
        self._flows = flows
        self._proc = proc
        self._one_at_a_time = threading.Lock()
        self._pausing = threading.Lock()  # held for microseconds, so that a flush waits for no interface
        self._programs: dict[int, _Programs] = {}  # by IP version
        self._links: dict[int, Link] = {}
        self._epoch = 1
        self._pauses = 0
        self._impossible = ""
        self._cleared = False
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
            packets = sum(programs.repeated() for programs in self._programs.values())
            self._last = FastPathStatus(names, packets, self._impossible or ("" if names else _NONE_YET))
            return self._last
        finally:
            self._one_at_a_time.release()

    def renew(self, addresses: Collection[Address]) -> None:
        """Put it where it is missing, for these addresses. `Denied` or `Unavailable` when an interface refuses."""
        with self._one_at_a_time:
            if self._closed or self._impossible:
                return
            wanted: set[int] = {a.version for a in addresses}
            if not all(version in self._programs or self._load(version) for version in sorted(wanted)):
                return
            for version, programs in self._programs.items():
                programs.serve({a.packed for a in addresses if a.version == version})
            with routes() as route:
                links = {link.index: link for link in _ethernet(route)}
                for index in self._links.keys() - links.keys():
                    self._leave(index)
                for link in links.values():
                    self._attach(route, link)
            self._say("on " + ", ".join(link.name for link in self._links.values()) if self._links else "off")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Everything goes the usual way meanwhile, and what was learnt before is void afterwards."""
        if not self._programs:
            self._forget_earlier()
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
                    for programs in self._programs.values():
                        programs.close()
                    self._programs, self._links = {}, {}

    def _forget_earlier(self) -> None:
        """Programs of an earlier run, whose maps are not ours to pause."""
        with self._one_at_a_time, suppress(CasarrayError):
            if not (self._programs or self._cleared):
                self._take_away()
                self._cleared = True

    def _load(self, version: int) -> bool:
        try:
            programs = _Programs(version, self._flows)
            try:
                self._set_switches()
            except BaseException:
                programs.close()
                raise
        except CasarrayError as error:
            self._impossible = str(error)
            self._take_away()  # an earlier run's, which nobody would pause
            self._links = {}
            self._say(f"off: {error}")
            return False
        with self._pausing:
            self._programs[version] = programs
            programs.set_epoch(0 if self._pauses else self._epoch)
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

    def _attach(self, route: Routes, link: Link) -> None:
        found = {where: _filters(route, link.index, where) for where in _PLACES}
        if any(not one.name.startswith("casarray ") for there in found.values() for one in there):
            # What they decide of packets would not be asked for those that go past them.
            self._leave(link.index)
            self._detach(route, link.index, found)
            return
        for programs in self._programs.values():
            programs.use(link)
        ours = {one.name for there in found.values() for one in there if one.handle == self._handle}
        if link.index in self._links and ours >= {self._name(*spot) for spot in self._spots()}:
            self._links[link.index] = link
            return
        try:
            with suppress(OSError):  # it is there
                route.add_clsact(link.index)
            for version, where in self._spots():
                descriptor = self._programs[version].descriptor(where)
                route.put_program(self._spot(link.index, version, where), descriptor, self._name(version, where))
        except OSError as error:
            raise Unavailable(f"no program can be put on {link.name}: {error}") from error
        self._links[link.index] = link

    def _leave(self, index: int) -> None:
        if self._links.pop(index, None) is not None:
            for programs in self._programs.values():
                programs.leave(index)

    def _take_away(self) -> None:
        with routes() as route:
            for link in route.links():
                found = {where: _filters(route, link.index, where) for where in _PLACES}
                self._detach(route, link.index, found)
                if any(found.values()) and not any(_filters(route, link.index, where) for where in _PLACES):
                    with suppress(OSError):
                        route.delete_clsact(link.index)

    def _detach(self, route: Routes, index: int, found: Mapping[int, Sequence[Filter]]) -> None:
        there = {(where, one.name): one.handle for where, filters in found.items() for one in filters}
        for version in _VERSIONS:
            for where in _PLACES:
                handle = there.get((where, self._name(version, where)))
                if handle is not None:
                    with suppress(OSError):  # somebody was faster
                        route.delete_program(replace(self._spot(index, version, where), handle=handle))

    def _spots(self) -> list[tuple[int, int]]:
        return [(version, where) for version in self._programs for where in _PLACES]

    def _spot(self, index: int, version: int, where: int) -> Spot:
        return Spot(index, where, self._handle, _PREFERENCES[version], _PROTOCOLS[version])

    def _name(self, version: int, where: int) -> str:
        return f"{self._prefix}{_PLACES[where]}{version}"

    def _set_epoch(self, epoch: int) -> None:
        for programs in self._programs.values():
            programs.set_epoch(epoch)

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
