"""Protocol towers: how an endpoint mapper says where to find an interface. [C706] appendix L, [MS-RPCE] 3.1.3.5.3.

A tower is never aligned, and counts in little-endian whatever the sender's byte order; only the port and the address
in it travel in network order. Floors that nobody here knows are kept as they are. A tower knows where in its octets
the host's address and the port lie, so that a gateway changes four octets in place instead of writing it anew.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from struct import Struct
from typing import Final

from casarray.core.dcerpc.cursor import uuid_from_octets, uuid_to_octets
from casarray.core.dcerpc.syntax import NDR, Syntax
from casarray.core.errors import WireError

MAX_TOWER: Final = 2000  # octets. [MS-RPCE] 2.2.1.2.2
MAX_FLOORS: Final = 6  # [MS-RPCE] 3.1.3.5.3

# Protocol identifiers. [C706] appendix I, [MS-RPCE] 2.1.1.
UUID_FLOOR: Final = 0x0D
DATAGRAM: Final = 0x0A
CONNECTION: Final = 0x0B
LOCAL: Final = 0x0C
TCP: Final = 0x07
UDP: Final = 0x08
IP: Final = 0x09
SMB: Final = 0x0F  # \\server\pipe\name
PIPE: Final = 0x10
NETBIOS: Final = 0x11
HTTP: Final = 0x1F

_PORTS: Final = frozenset({TCP, UDP, HTTP})
_ANY: Final = IPv4Address(0)
_U16: Final = Struct("<H")


@dataclass(frozen=True, slots=True)
class Floor:
    """One floor: a protocol identifier (with ``name`` behind it) on the left, what that protocol needs on the right."""

    protocol: int
    name: bytes = b""
    rhs: bytes = b""

    @property
    def syntax(self) -> Syntax | None:
        """The interface or transfer syntax that a UUID floor names."""
        if self.protocol != UUID_FLOOR or len(self.name) != 18 or len(self.rhs) != 2:
            return None
        return Syntax(
            uuid_from_octets(self.name[:16], "little"),
            int.from_bytes(self.name[16:], "little"),
            int.from_bytes(self.rhs, "little"),
        )


def syntax_floor(syntax: Syntax) -> Floor:
    """The floor that names an interface or a transfer syntax."""
    return Floor(
        UUID_FLOOR,
        uuid_to_octets(syntax.uuid, "little") + syntax.major.to_bytes(2, "little"),
        syntax.minor.to_bytes(2, "little"),
    )


@dataclass(frozen=True, slots=True)
class Tower:
    """A tower of at most six floors."""

    floors: tuple[Floor, ...]

    @classmethod
    def tcp(cls, interface: Syntax, port: int = 0, address: IPv4Address = _ANY, transfer: Syntax = NDR) -> "Tower":
        """Where to find ``interface`` over TCP. Port 0 and 0.0.0.0 ask; 0.0.0.0 in an answer means "here"."""
        return cls._over(TCP, interface, transfer, port.to_bytes(2, "big"), Floor(IP, b"", address.packed))

    @classmethod
    def http(cls, interface: Syntax, port: int = 0, address: IPv4Address = _ANY, transfer: Syntax = NDR) -> "Tower":
        """Where to find ``interface`` over HTTP."""
        return cls._over(HTTP, interface, transfer, port.to_bytes(2, "big"), Floor(IP, b"", address.packed))

    @classmethod
    def udp(cls, interface: Syntax, port: int = 0, address: IPv4Address = _ANY, transfer: Syntax = NDR) -> "Tower":
        """Where to find ``interface`` over UDP."""
        host = Floor(IP, b"", address.packed)
        return cls(
            (
                syntax_floor(interface),
                syntax_floor(transfer),
                Floor(DATAGRAM, b"", bytes(2)),
                Floor(UDP, b"", port.to_bytes(2, "big")),
                host,
            )
        )

    @classmethod
    def pipe(cls, interface: Syntax, pipe: str, host: str = "", transfer: Syntax = NDR) -> "Tower":
        r"""Where to find ``interface`` over SMB: ``\pipe\name`` on a NetBIOS name."""
        return cls._over(SMB, interface, transfer, _asciiz(pipe), Floor(NETBIOS, b"", _asciiz(host)))

    @classmethod
    def _over(cls, transport: int, interface: Syntax, transfer: Syntax, rhs: bytes, host: Floor) -> "Tower":
        return cls(
            (
                syntax_floor(interface),
                syntax_floor(transfer),
                Floor(CONNECTION, b"", bytes(2)),
                Floor(transport, b"", rhs),
                host,
            )
        )

    @property
    def interface(self) -> Syntax | None:
        """What is to be found."""
        return self.floors[0].syntax if self.floors else None

    @property
    def transfer(self) -> Syntax | None:
        """The transfer syntax it is spoken in."""
        return self.floors[1].syntax if len(self.floors) > 1 else None

    @property
    def rpc_protocol(self) -> int | None:
        """Connection-oriented, datagram or local (floor 3)."""
        return self.floors[2].protocol if len(self.floors) > 2 else None

    @property
    def transport(self) -> int | None:
        """The protocol of floor 4: `TCP`, `UDP`, `HTTP`, `SMB`, `PIPE` or one unknown here."""
        return self.floors[3].protocol if len(self.floors) > 3 else None

    @property
    def port(self) -> int | None:
        """The TCP, UDP or HTTP port."""
        floor = self.floors[3] if len(self.floors) > 3 else None
        if floor is None or floor.protocol not in _PORTS or len(floor.rhs) != 2:
            return None
        return int.from_bytes(floor.rhs, "big")

    @property
    def pipe_name(self) -> str | None:
        """The named pipe."""
        floor = self.floors[3] if len(self.floors) > 3 else None
        if floor is None or floor.protocol not in (SMB, PIPE):
            return None
        return floor.rhs.partition(b"\0")[0].decode("latin-1")

    @property
    def address(self) -> IPv4Address | None:
        """The host's address (floor 5)."""
        floor = self._host_floor
        return None if floor is None else IPv4Address(floor.rhs)

    @property
    def port_at(self) -> int | None:
        """Where the two octets of the port lie in the tower's octets."""
        return None if self.port is None else self._rhs_at(3)

    @property
    def host_at(self) -> int | None:
        """Where the four octets of the host's address lie in the tower's octets."""
        return None if self._host_floor is None else self._rhs_at(4)

    @property
    def _host_floor(self) -> Floor | None:
        floor = self.floors[4] if len(self.floors) > 4 else None
        return floor if floor is not None and floor.protocol == IP and len(floor.rhs) == 4 else None

    def _rhs_at(self, index: int) -> int:
        before = sum(5 + len(floor.name) + len(floor.rhs) for floor in self.floors[:index])
        return 2 + before + 5 + len(self.floors[index].name)

    def moved_to(self, *, port: int | None = None, address: IPv4Address | None = None) -> "Tower":
        """The same tower with another port or address where it has one."""
        floors = list(self.floors)
        if port is not None and self.port is not None:
            floors[3] = Floor(floors[3].protocol, floors[3].name, port.to_bytes(2, "big"))
        if address is not None and self._host_floor is not None:
            floors[4] = Floor(floors[4].protocol, floors[4].name, address.packed)
        return Tower(tuple(floors))

    def encode(self) -> bytes:
        """Its octets."""
        pieces = [_U16.pack(len(self.floors))]
        for floor in self.floors:
            pieces += (
                _U16.pack(1 + len(floor.name)),
                bytes((floor.protocol,)),
                floor.name,
                _U16.pack(len(floor.rhs)),
                floor.rhs,
            )
        return b"".join(pieces)

    @staticmethod
    def decode(octets: bytes) -> "Tower":
        """Read a tower from end to end. Kinds of `WireError`: ``tower`` (too many floors, too long), ``truncated``."""
        return _decode(octets)


@lru_cache(maxsize=256)  # at most 2000 octets each; a site has few towers, and each is asked for all day
def _decode(octets: bytes) -> Tower:
    size = len(octets)
    if size > MAX_TOWER:
        raise WireError("tower", f"a tower of {size} octets")
    if size < 2:
        raise WireError("truncated", f"a tower of {size} octets")
    (count,) = _U16.unpack_from(octets)
    if count > MAX_FLOORS:
        raise WireError("tower", f"a tower of {count} floors")
    floors = []
    at = 2
    for number in range(1, count + 1):
        lhs, at = _part(octets, at, number)
        rhs, at = _part(octets, at, number)
        if not lhs:
            raise WireError("tower", f"floor {number} names no protocol")
        floors.append(Floor(lhs[0], lhs[1:], rhs))
    if at != size:
        raise WireError("tower", f"{size - at} octets after the last floor")
    return Tower(tuple(floors))


def _part(octets: bytes, at: int, number: int) -> tuple[bytes, int]:
    """One side of a floor and where the next begins."""
    start = at + 2
    if start > len(octets):
        raise WireError("truncated", f"tower: floor {number}")
    end = start + _U16.unpack_from(octets, at)[0]
    if end > len(octets):
        raise WireError("truncated", f"tower: floor {number}")
    return octets[start:end], end


def _asciiz(text: str) -> bytes:
    try:
        return text.encode("latin-1") + b"\0"
    except UnicodeEncodeError:
        raise WireError("text", "a name that one octet a character cannot carry") from None
