"""The fast path's two programs on a bench: the kernel runs them on packets that a test makes (BPF_PROG_TEST_RUN).

The kernel gives a program's context no class index and no VLAN tag, and makes no packet that is too short for an IPv4
header. A third program, which goes before, sees to these as the packet's mark, priority and control words ask, and
jumps into the program that is tested.
"""

import ctypes
import os
import platform
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from casarray.adapters.kernel import bpf
from casarray.core.forwarding import fast_path
from casarray.core.forwarding.bpf import Program, Register
from casarray.core.forwarding.fast_path import FLOWS, LINKS, NOTES, STATE, MapShape

T = TypeVar("T")
PASS, OK, REDIRECT = -1, 0, 7  # TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_REDIRECT
COMPLETE = 4  # BPF_F_TEST_SKB_CHECKSUM_COMPLETE: the kernel compares its own sum of the packet afterwards
NOTE_PLACES = 256
#: The interfaces' own hardware addresses: what is for another is not for the gateway.
MAC_IN, MAC_OUT = bytes.fromhex("02aa00000001"), bytes.fromhex("02bb00000002")

_CALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361}  # __NR_bpf
_TEST_RUN = 10
_PROGRAMS = MapShape(kind=3, key=4, value=4, entries=2)  # BPF_MAP_TYPE_PROG_ARRAY
_MARK, _PRIORITY, _TC_INDEX, _CB = 8, 32, 44, 48  # struct __sk_buff
_TAIL_CALL, _VLAN_PUSH, _CHANGE_TAIL = 12, 18, 38  # enum bpf_func_id
_ALWAYS_MADE = 54  # octets
_LOST = 99  # what the first program returns if the jump fails
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
R1, R2, R3, R6 = Register.R1, Register.R2, Register.R3, Register.R6


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program returned, and the packet as it was then."""

    result: int
    frame: bytes


def _before() -> Program:
    """Mark: class index, priority: VLAN tag, the second control word: length; the first: which program is next."""
    p = Program()
    p.do(R6, "=", R1)
    p.load(4, R2, R6, _MARK)
    p.store(4, R6, _TC_INDEX, R2)
    p.load(4, R3, R6, _PRIORITY)
    p.when(R3, "==", 0, "untagged")
    p.do(R2, "=", 0x0081)  # 802.1Q in network order
    p.call(_VLAN_PUSH)
    p.label("untagged")
    p.load(4, R2, R6, _CB + 4)
    p.when(R2, "==", 0, "whole")
    p.do(R1, "=", R6)
    p.do(R3, "=", 0)
    p.call(_CHANGE_TAIL)
    p.label("whole")
    p.do(R1, "=", R6)
    p.map(R2, "programs")
    p.load(4, R3, R6, _CB)
    p.call(_TAIL_CALL)
    p.exit(_LOST)
    return p


class Bench:
    """Both programs of an IP version with maps of their own, in a network namespace that ends with it."""

    def __init__(self, stack: ExitStack, version: fast_path.Version) -> None:
        # The kernel keeps namespace and processor per thread; notes are a processor's own.
        self._thread = stack.enter_context(ThreadPoolExecutor(1, initializer=self._enter))
        self.way_in, self.way_out, self.other = self.call(
            lambda: [_link("way-in", MAC_IN), _link("way-out", MAC_OUT), _link("other", MAC_IN)]
        )
        self.maps: dict[str, int] = {}
        self._known: set[bytes] = set()
        self._version = version
        self._shapes = fast_path.maps(1024, version)
        for name, shape in (*self._shapes.items(), ("programs", _PROGRAMS)):
            self.maps[name] = bpf.create_map(name, shape)
            stack.callback(os.close, self.maps[name])
        for number, made in enumerate((fast_path.arriving(version), fast_path.leaving(version))):
            program = self._load(stack, made)
            bpf.put(self.maps["programs"], _four(number), _four(program))
        self._first = self._load(stack, _before())

    @staticmethod
    def _enter() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")

    def _load(self, stack: ExitStack, program: Program) -> int:
        descriptor = bpf.load("test", program.assembled(self.maps))
        stack.callback(os.close, descriptor)
        return descriptor

    def call(self, what: Callable[[], T]) -> T:
        """Run it in the bench's thread."""
        return self._thread.submit(what).result()

    def arrive(
        self, frame: bytes, *, at: int | None = None, gso: int = 0, vlan: int = 0, times: int = 1, flags: int = 0
    ) -> Ran:
        """A packet comes in, ``at`` an interface, ``way_in`` if none is told."""
        context = _context(program=0, at=self.way_in if at is None else at, gso=gso, vlan=vlan)
        return self.call(lambda: self._run(frame, context, times, flags))

    def leave(self, frame: bytes, place: int, *, at: int | None = None, vlan: int = 0) -> Ran:
        """A packet goes out, by ``way_out`` if no interface is told, with a note's place as its class index."""
        context = _context(program=1, at=self.way_out if at is None else at, mark=place, vlan=vlan)
        return self.call(lambda: self._run(frame, context, 1, 0))

    def _run(self, frame: bytes, context: bytes, times: int, flags: int) -> Ran:
        if len(frame) < _ALWAYS_MADE:
            context = context[: _CB + 4] + _four(len(frame)) + context[_CB + 8 :]
            frame = frame.ljust(_ALWAYS_MADE, b"\xee")
        given, told = ctypes.create_string_buffer(frame, len(frame)), ctypes.create_string_buffer(len(frame) + 64)
        around = ctypes.create_string_buffer(context, len(context))
        attributes = ctypes.create_string_buffer(
            struct.pack(
                "=IIIIQQIIIIQQIIIxxxx", self._first, 0, len(frame), len(told), ctypes.addressof(given),
                ctypes.addressof(told), times, 0, len(context), 0, ctypes.addressof(around), 0, flags, 0, 0,
            ),
            80,
        )  # fmt: skip
        if _libc.syscall(_CALLS[platform.machine()], _TEST_RUN, attributes, len(attributes)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        result, _, size = struct.unpack_from("=iII", attributes, 4)
        assert result != _LOST
        return Ran(result, told.raw[:size])

    def knows(self, key: bytes) -> bytes | None:
        """What becomes of a flow's packets; None if it is not known."""
        try:
            return bpf.get(self.maps[FLOWS], key, self._shapes[FLOWS].value)
        except FileNotFoundError:
            return None

    def know(self, key: bytes, value: bytes) -> None:
        bpf.put(self.maps[FLOWS], key, value)
        self._known.add(key)

    def forget(self, *keys: bytes) -> None:
        """These flows, or if none is told all that were ever made known here."""
        for key in keys or self._known:
            bpf.discard(self.maps[FLOWS], key)

    def set_epoch(self, epoch: int) -> None:
        bpf.put(self.maps[STATE], bytes(4), fast_path.epoch_value(epoch))

    def set_mtu(self, interface: int, mtu: int | None) -> None:
        """Packets may leave by it; with None they may not."""
        if mtu is None:
            bpf.discard(self.maps[LINKS], _four(interface))
        else:
            bpf.put(self.maps[LINKS], _four(interface), _four(mtu))

    def repeated(self) -> int:
        return fast_path.repeated(self._own(0, every=True), self._version)

    def last_place(self) -> int:
        """Of the last note taken."""
        return int.from_bytes(self._own(0)[:4], "little")

    def note(self, place: int) -> bytes:
        return self._own(place)

    def write_note(self, place: int, note: bytes) -> None:
        """For every processor."""
        size = self._shapes[NOTES].value
        possible = len(self._own(place, every=True)) // size
        bpf.put(self.maps[NOTES], _four(place), note.ljust(size, b"\0") * possible)

    def _own(self, place: int, *, every: bool = False) -> bytes:
        """A note of the bench's processor, or of every one that there is place for."""
        size = self._shapes[NOTES].value
        octets = bpf.get(self.maps[NOTES], _four(place), size * 1024)
        first = self.call(lambda: min(os.sched_getaffinity(0))) * size
        return octets if every else octets[first : first + size]


@contextmanager
def bench(version: fast_path.Version = fast_path.IPV4) -> Iterator[Bench]:
    """A bench, and nothing of it afterwards."""
    with ExitStack() as stack:
        yield Bench(stack, version)


def _link(name: str, mac: bytes) -> int:
    subprocess.run(
        ["ip", "link", "add", name, "address", mac.hex(":"), "type", "veth", "peer", "name", f"{name}-peer"], check=True
    )
    shown = subprocess.run(["ip", "-o", "link", "show", name], check=True, capture_output=True, text=True)
    return int(shown.stdout.split(":")[0])


def _four(value: int) -> bytes:
    return struct.pack("=I", value)


def _context(*, program: int, at: int, mark: int = 0, gso: int = 0, vlan: int = 0) -> bytes:
    context = bytearray(180)  # to the end of gso_size
    for offset, value in ((_MARK, mark), (_PRIORITY, vlan), (40, at), (_CB, program), (176, gso)):
        struct.pack_into("=I", context, offset, value)
    return bytes(context)
