"""The slot of a client's address, computed exactly as the kernel's rules compute it.

nftables' ``jhash ip saddr [and MASK] mod N seed S`` is Bob Jenkins' lookup3 (public domain, 2006) over the address in
network order, read as words of a little-endian host, started at 0xdeadbeef + length + seed; the 32-bit result is
scaled to N by its upper bits (hash * N >> 32), not by a remainder. Gateways are little-endian machines, so they agree.
"""

from ipaddress import IPv4Address
from struct import unpack

from casarray.core.forwarding.table import Address

_WORD = 0xFFFFFFFF
_START = 0xDEADBEEF


def _rol(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c & _WORD) ^ _rol(c, 4)
    c = c + b & _WORD
    b = (b - a & _WORD) ^ _rol(a, 6)
    a = a + c & _WORD
    c = (c - b & _WORD) ^ _rol(b, 8)
    b = b + a & _WORD
    a = (a - c & _WORD) ^ _rol(c, 16)
    c = c + b & _WORD
    b = (b - a & _WORD) ^ _rol(a, 19)
    a = a + c & _WORD
    c = (c - b & _WORD) ^ _rol(b, 4)
    b = b + a & _WORD
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = (c ^ b) - _rol(b, 14) & _WORD
    a = (a ^ c) - _rol(c, 11) & _WORD
    b = (b ^ a) - _rol(a, 25) & _WORD
    c = (c ^ b) - _rol(b, 16) & _WORD
    a = (a ^ c) - _rol(c, 4) & _WORD
    b = (b ^ a) - _rol(a, 14) & _WORD
    return (c ^ b) - _rol(b, 24) & _WORD


def jhash(key: bytes, seed: int) -> int:
    """The 32-bit hash of an address of 4 or 16 bytes; any other length is a `ValueError`."""
    a = b = c = _START + len(key) + seed & _WORD
    if len(key) == 4:
        (word,) = unpack("<I", key)
        return _final(a + word & _WORD, b, c)
    if len(key) == 16:
        first, second, third, fourth = unpack("<4I", key)
        a, b, c = _mix(a + first & _WORD, b + second & _WORD, c + third & _WORD)
        return _final(a + fourth & _WORD, b, c)
    raise ValueError(f"an address has 4 or 16 bytes, not {len(key)}")


def same_client(client: Address, prefix4: int, prefix6: int) -> Address:
    """The address that stands for all those that count as one client: all bits behind the prefix are zero."""
    spare = (32 - prefix4) if isinstance(client, IPv4Address) else (128 - prefix6)
    return type(client)(int(client) >> spare << spare) if spare else client


def slot_of(client: Address, seed: int, slots: int, prefix4: int = 32, prefix6: int = 128) -> int:
    """The client's slot, 0 to slots - 1."""
    return jhash(same_client(client, prefix4, prefix6).packed, seed) * slots >> 32
