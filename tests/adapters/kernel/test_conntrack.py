"""The connection table by mark: answers of the kernel made up, then the kernel itself."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

import pytest

from casarray.adapters.kernel import conntrack
from casarray.adapters.kernel.conntrack import Connection, Conntrack
from casarray.core.errors import Unavailable
from casarray.core.forwarding.table import MARK_MASK, connection_mark

if TYPE_CHECKING:
    from tests.adapters.kernel.conftest import Lab

DYING, LIVING = connection_mark(1, 7), connection_mark(1, 8)  # as the lab marks ports 5000 and 5001

DONE = struct.pack("=IHHII", 20, 3, 0, 1, 0) + bytes(4)
DONE_INTERRUPTED = struct.pack("=IHHII", 20, 3, 0x10, 1, 0) + bytes(4)
REFUSED = struct.pack("=IHHII", 36, 2, 0, 1, 0) + struct.pack("=i", -16) + bytes(16)  # EBUSY
ESTABLISHED = bytes.fromhex("""
    34000180  14000180 08000100 0a5b0002 08000200 0a5b0064  1c000280 05000100 06000000
        06000200 9c400000 06000300 13880000
    34000280  14000180 08000100 0a5c0002 08000200 0a5b0002  1c000280 05000100 06000000
        06000200 13880000 06000300 9c400000
    10000480  0c000180 05000100 03000000
    08000800  1007002a
""")  # original and reply tuple, TCP state 3, mark 0x1007002a
ENTRY = struct.pack("=IHHII", 20 + len(ESTABLISHED), 0x100, 2, 1, 0) + bytes(4) + ESTABLISHED


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[bytes]]]:
    """What the kernel answers, a list of datagrams for each question."""
    script: list[list[bytes]] = []
    ends: list[socket.socket] = []

    def answer() -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ends.append(theirs)
        for datagram in script.pop(0):
            theirs.send(datagram)
        return ours

    monkeypatch.setattr(conntrack, "_open", answer)
    yield script
    for end in ends:
        end.close()


CONNECTION = Connection(
    client=ip_address("10.91.0.2"),
    client_port=40000,
    array_address=ip_address("10.91.0.100"),
    array_port=5000,
    member_address=ip_address("10.92.0.2"),
    member_port=5000,
)


def test_an_entry_of_the_kernel_is_a_connection(kernel: list[list[bytes]]) -> None:
    kernel.append([ENTRY, DONE])
    assert list(Conntrack().connections(DYING, MARK_MASK)) == [CONNECTION]


def test_a_connection_in_time_wait_has_nothing_left_to_end(kernel: list[list[bytes]]) -> None:
    kernel.append([ENTRY.replace(bytes.fromhex("05000100 03"), bytes.fromhex("05000100 07")), DONE])
    assert list(Conntrack().connections(DYING, MARK_MASK)) == []


def test_an_interrupted_dump_is_taken_again(kernel: list[list[bytes]]) -> None:
    kernel += [[ENTRY, DONE_INTERRUPTED], [ENTRY, ENTRY, DONE]]
    assert Conntrack().count_by_mark(MARK_MASK) == Counter({DYING: 2})
    kernel += [[DONE_INTERRUPTED], [ENTRY, DONE]]
    assert list(Conntrack().connections(DYING, MARK_MASK)) == [CONNECTION]


def test_a_dump_that_is_always_interrupted_ends_in_unavailable(kernel: list[list[bytes]]) -> None:
    kernel += [[ENTRY, DONE_INTERRUPTED]] * 10
    with pytest.raises(Unavailable, match="changed its shape"):
        Conntrack().count_by_mark(MARK_MASK)
    with pytest.raises(Unavailable, match="changed its shape"):
        list(Conntrack().connections(DYING, MARK_MASK))


def test_the_kernels_refusal_is_unavailable_with_its_reason(kernel: list[list[bytes]]) -> None:
    kernel.append([REFUSED])
    with pytest.raises(Unavailable, match="busy"):
        Conntrack().flush(DYING, MARK_MASK)


@pytest.mark.parametrize("cut", range(20, len(ENTRY)))
def test_a_shortened_entry_is_left_out(kernel: list[list[bytes]], cut: int) -> None:
    kernel.append([struct.pack("=I", cut) + ENTRY[4:cut].ljust((cut + 3 & ~3) - 4, b"\0"), DONE])
    assert list(Conntrack().connections(DYING, MARK_MASK)) in ([], [CONNECTION])


@pytest.mark.parametrize(("mark", "mask"), [(0, MARK_MASK), (0, 0), (DYING, 0), (DYING | 1, MARK_MASK)])
def test_a_mark_that_would_hit_other_peoples_connections_is_refused(mark: int, mask: int) -> None:
    with pytest.raises(ValueError, match="within mask"):
        Conntrack().flush(mark, mask)
    with pytest.raises(ValueError, match="within mask"):
        list(Conntrack().connections(mark, mask))


# --- the real kernel -------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("version", [4, 6])
def test_the_kernels_own_entries_name_client_array_and_member(lab: "Lab", version: int) -> None:
    lab.serve()
    with lab.idle_clients(version, 3, 5000) as clients, lab.idle_clients(version, 2, 5001):
        found = lab.gateway.call(lambda: list(Conntrack().connections(DYING, MARK_MASK)))
        ports = sorted(end.getsockname()[1] for end in clients)
    net, host = ("10.{}.0.{}", "100") if version == 4 else ("fd{}::{}", "100")
    client, array, member = (ip_address(net.format(*end)) for end in ((91, 2), (91, host), (92, 2)))
    assert sorted(one.client_port for one in found) == ports
    assert {(one.client, one.array_address, one.array_port, one.member_address) for one in found} == {
        (client, array, 5000, member)
    }


@pytest.mark.root
def test_a_flush_takes_both_versions_and_every_zone_and_only_that_mark(lab: "Lab") -> None:
    lab.gateway.run("nft add table ip6 t", "nft add chain ip6 t c { type filter hook input priority 0; }")
    create = "conntrack -I -p tcp --state ESTABLISHED -t 600 --sport 1 --dport 2"
    for mark in (DYING | 0x2A, LIVING | 0x2A, 0x2A):
        lab.gateway.run(
            f"{create} -s 10.0.0.1 -d 10.0.0.2 -m {mark} --zone {mark >> 16 & 0xFF}",
            f"{create} -s 10.0.0.3 -d 10.0.0.4 --sport {mark >> 16 & 0xFFF} -m {mark}",
            f"{create} -s fd00::1 -d fd00::2 --sport {mark >> 16 & 0xFFF} -m {mark}",
        )
    count = lambda: Conntrack().count_by_mark(MARK_MASK)  # noqa: E731 - said twice, in another namespace
    assert lab.gateway.call(count) == Counter({DYING: 3, LIVING: 3})
    lab.gateway.call(lambda: Conntrack().flush(DYING, MARK_MASK))
    assert lab.gateway.call(count) == Counter({LIVING: 3})
    assert lab.gateway.run("conntrack -L -m 42").count("mark=42 ") == 3  # unmarked by us: untouched


@pytest.mark.root
def test_known_tells_which_connections_the_table_holds(lab: "Lab") -> None:
    lab.serve()
    for version in (4, 6):
        with lab.idle_clients(version, 100, 5000):
            there = lab.gateway.call(lambda: [client for client, _ in Conntrack().halves(DYING, MARK_MASK)])
            strangers = [one[:-1] + bytes([one[-1] ^ 1]) for one in there]
            asked = [one for pair in zip(there, strangers, strict=True) for one in pair]
            assert lab.gateway.call(partial(Conntrack().known, asked)) == [True, False] * 100
            lab.gateway.call(lambda: Conntrack().flush(DYING, MARK_MASK))


@pytest.mark.root
def test_a_count_of_two_hundred_thousand_does_not_hold_up_other_threads(lab: "Lab") -> None:
    lab.gateway.run("nft add table ip t", "nft add chain ip t c { type filter hook input priority 0; }")
    load(lab, 200_000)
    stop = threading.Event()
    late: list[float] = []

    def tick() -> None:
        while not stop.is_set():
            before = time.monotonic()
            time.sleep(0.001)
            late.append(time.monotonic() - before - 0.001)

    ticking = threading.Thread(target=tick)
    ticking.start()
    began = time.monotonic()
    counted = lab.gateway.call(lambda: Conntrack().count_by_mark(MARK_MASK))
    seconds = time.monotonic() - began
    stop.set()
    ticking.join()
    late.sort()
    print(f"200,000 counted in {seconds:.2f} s; another thread late by {late[len(late) // 2] * 1000:.1f} ms (median), ")
    print(f"{late[-1] * 1000:.1f} ms (worst)")
    assert counted == Counter({DYING: 200_000})
    assert late[-1] < 0.2
    began = time.monotonic()
    lab.gateway.call(lambda: Conntrack().flush(DYING, MARK_MASK))
    print(f"flushed in {(time.monotonic() - began) * 1000:.0f} ms")
    assert lab.gateway.call(lambda: Conntrack().count_by_mark(MARK_MASK)) == Counter()


def load(lab: "Lab", count: int) -> None:
    """Fill the table with made-up connections of the mark DYING."""
    flags = f"-I -p tcp --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 600 -m {DYING}"
    ports = "--sport 1000 --dport 5000 --reply-port-src 5000 --reply-port-dst 1000"
    clients = (str(IPv4Address(0x0A000000 + number)) for number in range(count))
    lines = (f"{flags} -s {client} -d 10.91.0.100 -r 10.92.0.2 -q {client} {ports}" for client in clients)
    lab.gateway.run("conntrack --load-file -", text="\n".join(lines) + "\n")
