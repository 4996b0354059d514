"""RTS PDUs: how the parties of RPC over HTTP talk about their channels. [MS-RPCH] 2.2.

An RTS PDU is flags and a list of commands; which commands, in which order, makes it the message that it is.
`decode_rts` reads any of them; each `Message` of messages.py is one by name.

All numbers are little-endian, whatever the RPC between the parties uses ([MS-RPCH] 2.2.3.6).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, cast
from uuid import UUID

from casarray.core.dcerpc.cursor import Reader, Writer
from casarray.core.dcerpc.header import WHOLE, PduType, whole_size
from casarray.core.dcerpc.pdu import Rts, decode_pdu
from casarray.core.errors import WireError

# Flags. [MS-RPCH] 2.2.3.6.1
NONE: Final = 0x00
PING: Final = 0x01
OTHER: Final = 0x02
RECYCLE: Final = 0x04
IN_CHANNEL: Final = 0x08
OUT_CHANNEL: Final = 0x10
EOF: Final = 0x20
ECHO: Final = 0x40

VERSION: Final = 1
#: More commands than any message of the specification has.
MOST_COMMANDS: Final = 16
#: The longest message there is (CONN/B2) has 148 octets; padding may be sent with any of them.
MOST_OCTETS: Final = 1024
#: A fragment of RPC may have any size that its header can say; a proxy was not there when it was agreed on.
MOST_RPC_OCTETS: Final = 65535


class Kind(IntEnum):
    """What a command is about. [MS-RPCH] 2.2.3.5"""

    RECEIVE_WINDOW_SIZE = 0x0
    FLOW_CONTROL_ACK = 0x1
    CONNECTION_TIMEOUT = 0x2
    COOKIE = 0x3
    CHANNEL_LIFETIME = 0x4
    CLIENT_KEEPALIVE = 0x5
    VERSION = 0x6
    EMPTY = 0x7
    PADDING = 0x8
    NEGATIVE_ANCE = 0x9
    ANCE = 0xA
    CLIENT_ADDRESS = 0xB
    ASSOCIATION_GROUP_ID = 0xC
    DESTINATION = 0xD
    PING_TRAFFIC_SENT_NOTIFY = 0xE


class Party(IntEnum):
    """Whom a command is for. [MS-RPCH] 2.2.3.3"""

    CLIENT = 0
    IN_PROXY = 1
    SERVER = 2
    OUT_PROXY = 3


@dataclass(frozen=True, slots=True)
class Ack:
    """So much has arrived, and so much more may be sent. [MS-RPCH] 2.2.3.4"""

    received: int  # octets of RPC PDUs since the channel began
    available: int  # octets
    channel: UUID


Value = int | UUID | Ack | IPv4Address | IPv6Address | bytes | None

_NUMBERS: Final = frozenset(
    {
        Kind.RECEIVE_WINDOW_SIZE,
        Kind.CONNECTION_TIMEOUT,
        Kind.CHANNEL_LIFETIME,
        Kind.CLIENT_KEEPALIVE,
        Kind.VERSION,
        Kind.DESTINATION,
        Kind.PING_TRAFFIC_SENT_NOTIFY,
    }
)
#: What the specification allows: lowest and highest. Octets and milliseconds.
_BOUNDS: Final[Mapping[Kind, tuple[int, int]]] = {
    Kind.RECEIVE_WINDOW_SIZE: (8 * 1024, 256 * 1024),
    Kind.CONNECTION_TIMEOUT: (120_000, 14_400_000),
    Kind.CHANNEL_LIFETIME: (128 * 1024, 2 * 1024**3),
    Kind.DESTINATION: (0, 3),
}
_IPV4, _IPV6 = 0, 1
_ADDRESS_PAD: Final = 12


@dataclass(frozen=True, slots=True)
class Command:
    """One command: octets in windows and lifetimes, milliseconds in times."""

    kind: Kind
    value: Value = None


@dataclass(frozen=True, slots=True)
class RtsPdu:
    """Any RTS PDU."""

    flags: int
    commands: tuple[Command, ...] = ()

    def encode(self) -> bytes:
        """The whole PDU, with its header."""
        writer = Writer("little")
        writer.u16(self.flags)
        writer.u16(len(self.commands))
        for command in self.commands:
            writer.u32(command.kind)
            _write(writer, command)
        return Rts(call_id=0, body=bytes(writer)).encode()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of its commands."""
        return tuple(command.kind for command in self.commands)

    @property
    def destination(self) -> Party | None:
        """Whom it is for, where it says so: it then goes on to that party."""
        if self.commands and self.commands[0].kind is Kind.DESTINATION:
            return Party(cast(int, self.commands[0].value))  # `decode_rts` has seen to its range
        return None


def decode_rts(raw: bytes) -> RtsPdu:
    """Read an RTS PDU that fills ``raw`` from end to end; anything wrong is a `WireError`."""
    if len(raw) > MOST_OCTETS:
        raise WireError("oversize", f"an RTS PDU of {len(raw)} octets")
    pdu = decode_pdu(raw)
    if not isinstance(pdu, Rts):
        raise WireError("type", f"{pdu.type.name} where an RTS PDU was due")
    if pdu.order != "little" or pdu.flags != WHOLE or pdu.auth is not None:
        raise WireError("rts", "an RTS PDU in fragments, big-endian or with an auth trailer")
    reader = Reader(pdu.body, "little")
    flags, count = reader.u16("flags"), reader.u16("number of commands")
    if count > MOST_COMMANDS:
        raise WireError("oversize", f"{count} commands in an RTS PDU")
    commands = tuple(_read(reader) for _ in range(count))
    if reader.left:
        raise WireError("trailing", f"{reader.left} octets after the commands")
    return RtsPdu(flags, tuple(command for command in commands if command.kind is not Kind.PADDING))


def _read(reader: Reader) -> Command:
    number = reader.u32("command")
    try:
        kind = Kind(number)
    except ValueError:
        raise WireError("rts", f"command {number}") from None
    return Command(kind, _read_value(reader, kind))


def _read_value(reader: Reader, kind: Kind) -> Value:
    match kind:
        case Kind.COOKIE | Kind.ASSOCIATION_GROUP_ID:
            return reader.uuid("cookie")
        case Kind.FLOW_CONTROL_ACK:
            return Ack(reader.u32("received"), reader.u32("available"), reader.uuid("channel cookie"))
        case Kind.CLIENT_ADDRESS:
            return _read_address(reader)
        case Kind.PADDING:
            return reader.take(reader.u32("padding"), "padding")
        case Kind.EMPTY | Kind.ANCE | Kind.NEGATIVE_ANCE:
            return None
        case _:
            value = reader.u32(kind.name)
            low, high = _BOUNDS.get(kind, (0, 0xFFFFFFFF))
            if not low <= value <= high:
                raise WireError("range", f"{kind.name} of {value}, {low} to {high} allowed")
            return value


def _read_address(reader: Reader) -> IPv4Address | IPv6Address:
    family = reader.u32("address type")
    if family not in (_IPV4, _IPV6):
        raise WireError("rts", f"address type {family}")
    packed = reader.take(4 if family == _IPV4 else 16, "address")
    reader.take(_ADDRESS_PAD, "padding")
    return IPv4Address(packed) if family == _IPV4 else IPv6Address(packed)


def _write(writer: Writer, command: Command) -> None:
    match command.value:
        case None:
            pass
        case UUID() as uuid:
            writer.uuid(uuid)
        case Ack(received, available, channel):
            writer.u32(received)
            writer.u32(available)
            writer.uuid(channel)
        case IPv4Address() | IPv6Address() as address:
            writer.u32(_IPV4 if address.version == 4 else _IPV6)
            writer.octets(address.packed + bytes(_ADDRESS_PAD))
        case bytes() as padding:
            writer.u32(len(padding))
            writer.octets(padding)
        case number:
            writer.u32(number)


def take_raw(buffer: bytearray) -> bytes | None:
    """Remove one whole PDU from the front, or nothing while it is not all there: octets, RTS or RPC (`is_rts`).

    A PDU that cannot be right is a `WireError`, and stays where it is.
    """
    limit = MOST_OCTETS if len(buffer) > 2 and buffer[2] == PduType.RTS else MOST_RPC_OCTETS
    size = whole_size(buffer, limit)
    if size is None:
        return None
    raw = bytes(buffer[:size])
    del buffer[:size]
    return raw


def take_all(buffer: bytearray) -> Iterator[bytes]:
    """Every whole PDU at the front, one after the other."""
    while (raw := take_raw(buffer)) is not None:
        yield raw


def is_rts(raw: bytes) -> bool:
    """Whether this PDU is about channels, and not RPC itself."""
    return raw[2] == PduType.RTS
