"""The kernel's `bpf` call: maps made, programs checked and loaded, values put. Source: bpf(2), `linux/bpf.h`."""

import ctypes
import errno
import os
import platform
import struct
from contextlib import suppress

from casarray.core.errors import Denied, Unavailable
from casarray.core.forwarding.fast_path import MapShape

_CALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361}  # __NR_bpf
_MAP_CREATE, _MAP_LOOK_UP, _MAP_UPDATE, _MAP_DELETE, _PROGRAM_LOAD = 0, 1, 2, 3, 5
_SCHED_CLS = 3  # BPF_PROG_TYPE_SCHED_CLS
_LICENCE = b"Apache-2.0\0"  # no helper that asks for another is used
_LOG_OCTETS = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


def create_map(name: str, shape: MapShape) -> int:
    """A file descriptor. `Denied` without CAP_BPF, `Unavailable` where the kernel has no such map."""
    attributes = struct.pack("=IIIIIII16s", shape.kind, shape.key, shape.value, shape.entries, 0, 0, 0, _name(name))
    return _descriptor(_MAP_CREATE, attributes, f"no map for {name}")


def load(name: str, code: bytes) -> int:
    """A program for packets that come in or go out; a file descriptor. Errors as `create_map`."""
    octets, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(_LICENCE)

    def attributes(log: int, size: int) -> bytes:
        return struct.pack(
            "=IIQQIIQII16s", _SCHED_CLS, len(code) // 8, ctypes.addressof(octets), ctypes.addressof(licence),
            1 if size else 0, size, log, 0, 0, _name(name),
        )  # fmt: skip

    try:
        return _descriptor(_PROGRAM_LOAD, attributes(0, 0), f"the kernel refuses program {name}")
    except Unavailable as refusal:
        log = ctypes.create_string_buffer(_LOG_OCTETS)
        with suppress(Unavailable):
            os.close(_descriptor(_PROGRAM_LOAD, attributes(ctypes.addressof(log), _LOG_OCTETS), ""))
        said = log.value.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"{refusal}: {' / '.join(said[-3:])}") from None


def _name(name: str) -> bytes:
    """What bpftool shows: letters, digits, dots and underscores, at most 15."""
    return name.encode()[:15]


def put(descriptor: int, key: bytes, value: bytes) -> None:
    """One entry of a map. `Unavailable` when it is full."""
    try:
        _entry(_MAP_UPDATE, descriptor, key, ctypes.create_string_buffer(value, len(value)))
    except OSError as error:
        raise Unavailable(f"a map of the kernel's takes no more ({error.strerror})") from error


def get(descriptor: int, key: bytes, size: int) -> bytes:
    """A value, of ``size`` octets at most, the rest zeros. `OSError` if there is none."""
    value = ctypes.create_string_buffer(size)
    _entry(_MAP_LOOK_UP, descriptor, key, value)
    return value.raw


def discard(descriptor: int, key: bytes) -> None:
    """Take an entry away; none there is no error."""
    with suppress(FileNotFoundError):
        _entry(_MAP_DELETE, descriptor, key, None)


def _entry(command: int, descriptor: int, key: bytes, value: "ctypes.Array[ctypes.c_char] | None") -> None:
    octets = ctypes.create_string_buffer(key, len(key))
    at = ctypes.addressof(value) if value is not None else 0
    _call(command, struct.pack("=IIQQQ", descriptor, 0, ctypes.addressof(octets), at, 0))


def _descriptor(command: int, attributes: bytes, otherwise: str) -> int:
    try:
        return _call(command, attributes)
    except OSError as error:
        if error.errno == errno.EPERM:  # EACCES, of the same class, is what the verifier says to most wrong programs
            raise Denied(f"{otherwise}: CAP_BPF and CAP_NET_ADMIN are needed") from error
        raise Unavailable(f"{otherwise} ({error.strerror})") from error


def _call(command: int, attributes: bytes) -> int:
    number = _CALLS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"unknown on {platform.machine()}")
    octets = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _libc.syscall(number, command, octets, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
