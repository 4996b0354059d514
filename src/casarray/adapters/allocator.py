"""Tells the C library to return big blocks to the system as soon as they are freed.

Without this, glibc takes the first big block that is freed as a sign that more of that size will be wanted, keeps what
is freed from then on, and cuts small blocks from it: copying a million pins (10 MB) left 20 MB behind, and more each
time.
"""

import contextlib
import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
_BIG = 1 << 20
_ARENAS = 2


def return_big_blocks() -> None:
    """From now on, in this process. Nothing happens where the C library is not GNU's."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _BIG)
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
