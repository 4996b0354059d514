"""What the benchmark reads of the kernel, and how it fills a table with pins."""

import resource
import struct
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from casarray.adapters.kernel import elements, pins
from casarray.adapters.kernel.nfnetlink import Channel, Kind, Message, text
from casarray.core.forwarding.nft import pin_map, table_name
from casarray.lab.netns import Namespace

ARRAY = "BENCH"
GROUP = "web"
_TICKS = 100  # of a second; fixed in the kernel's interface


#: The caches that a connection has objects in, at either end or on the way. Others are processes' and file systems'.
_OF_CONNECTIONS = (
    "TCP",
    "request_sock_",
    "sock_inode_cache",
    "dentry",
    "filp",
    "eventpoll_",
    "ep_head",
    "lsm_",
    "nf_conntrack",
    "skbuff_",
    "kmalloc-",
)


def slab_bytes() -> int:
    """Memory of the objects in use in the kernel's slab caches that connections have objects in."""
    total = 0
    for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, used, _, size, *_ = line.split()
        if name.startswith(_OF_CONNECTIONS):
            total += int(used) * int(size)
    return total


def settled_slab_bytes(patience: float = 8.0) -> int:
    """As `slab_bytes`, once what others have left is freed: when it stays within 100 kB for half a second."""
    until = time.monotonic() + patience
    before = slab_bytes()
    while True:
        time.sleep(0.5)
        now = slab_bytes()
        if abs(now - before) < 100_000 or time.monotonic() > until:
            return now
        before = now


def kernel_bytes() -> int:
    """Slabs and what is allocated beside them: the kernel's own account of its memory, for big changes."""
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) * 1024
    return fields["Slab"] + fields["VmallocUsed"] + fields["Percpu"]


def process_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes, shared pages counted in parts (PSS)."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def busy_share(seconds: float) -> float:
    """Waits so long: the share of all processors' time that was used meanwhile, by others since we did nothing."""
    worked, there = _worked()
    time.sleep(seconds)
    worked_then, there_then = _worked()
    return (worked_then - worked) / max(1, there_then - there)


class Others:
    """What part of the processors is used by others than the processes in these namespaces, from now on."""

    def __init__(self, namespaces: Sequence[Namespace]) -> None:
        self._namespaces = namespaces
        self._began = _worked()
        self._ours = self._used()

    def share(self) -> float:
        """So far. What the kernel does for everybody in threads of its own counts as others'."""
        worked, there = _worked()
        ours = (self._used() - self._ours) * _TICKS
        return max(0.0, worked - self._began[0] - ours) / max(1, there - self._began[1])

    def _used(self) -> float:
        """By what runs in there, by what ran there and ended, and by us."""
        ended, us = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
        total = ended.ru_utime + ended.ru_stime + us.ru_utime + us.ru_stime
        for namespace in self._namespaces:
            said = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=False)
            for pid in said.stdout.split():
                with suppress(OSError):
                    total += cpu_seconds(int(pid))
        return total


def _worked() -> tuple[int, int]:
    words = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(words) - words[3] - words[4], sum(words)


def pins_of(count: int, members: int) -> bytes:
    """So many pins of clients 100.64.0.0 and on, in the form that `KernelForwarder.load_pins` takes."""
    addresses = (np.arange(count, dtype=np.uint32) + np.uint32(0x64400000)).astype(">u4")
    ids = (np.arange(count, dtype=np.uint32) % members + 1).astype("<u2")
    seconds = np.full(count, 10_000, "<u4")
    return (
        b"CAP1"
        + struct.pack("<I", count)
        + addresses.tobytes()
        + ids.tobytes()
        + seconds.tobytes()
        + struct.pack("<I", 0)
    )


def load_pins(gateway: Namespace, data: bytes, group: str = GROUP) -> float:
    """Put pins into the table in this gateway; how many seconds that took."""
    with gateway.inside(), Channel() as channel:
        began = time.monotonic()
        pins.restored(channel, table_name(ARRAY), group, data)
        return time.monotonic() - began


def pin_count(gateway: Namespace, group: str = GROUP) -> int:
    """How many pins there are."""
    with gateway.inside(), Channel() as channel:
        return pins.counted(channel, table_name(ARRAY), [group]).get(group, -1)


def flush_pins(gateway: Namespace, group: str = GROUP) -> None:
    """Forget all pins."""
    with gateway.inside(), Channel() as channel:
        channel.commit(Message(Kind.DELSETELEM, text(1, table_name(ARRAY)) + text(2, pin_map(group, 4))))


def lookup_micros(gateway: Namespace, group: str = GROUP, times: int = 500) -> float:
    """How long one pin takes to be looked up by its key, on average."""
    with gateway.inside(), Channel() as channel:
        began = time.perf_counter()
        for number in range(times):
            elements.look_up(channel, table_name(ARRAY), pin_map(group, 4), struct.pack("!I", 0x64400000 + number))
        return (time.perf_counter() - began) / times * 1e6


def write_micros(gateway: Namespace, group: str = GROUP, times: int = 500) -> float:
    """How long one pin takes to be written, on average, what was there before looked up and replaced."""
    with gateway.inside(), Channel() as channel:
        began = time.perf_counter()
        for number in range(times):
            wanted = elements.Wanted(pin_map(group, 4), struct.pack("!I", 0x64400000 + number), 1, 10_000)
            elements.put(channel, table_name(ARRAY), [wanted])
        return (time.perf_counter() - began) / times * 1e6
