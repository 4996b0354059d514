"""The RTS PDUs by name, as they are sent between client, inbound proxy, outbound proxy and server. [MS-RPCH] 2.2.4.

When an OUT channel has carried nearly all it may, or an IN channel has, another takes its place ("recycling"): messages
named R2 are for a proxy that has both the predecessor and the successor, which is the one kind that is built here.
"""

from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address
from typing import Any, ClassVar, Final, Self
from uuid import UUID

from casarray.core.errors import WireError
from casarray.core.rpc_http.rts import (
    ECHO,
    EOF,
    IN_CHANNEL,
    NONE,
    OTHER,
    OUT_CHANNEL,
    PING,
    RECYCLE,
    Ack,
    Command,
    Kind,
    Party,
    RtsPdu,
)


@dataclass(frozen=True, slots=True)
class Message:
    """An RTS PDU of a known form; its fields are the values of its commands, in their order."""

    FLAGS: ClassVar[int]
    KINDS: ClassVar[tuple[Kind, ...]]

    def encode(self) -> bytes:
        """The whole PDU."""
        values = (getattr(self, field.name) for field in fields(self))
        given = [kind for kind in self.KINDS if kind not in _SILENT]
        filled = dict(zip(range(len(given)), values, strict=True))
        commands, at = [], 0
        for kind in self.KINDS:
            if kind in _SILENT:
                commands.append(Command(kind))
            else:
                commands.append(Command(kind, filled[at]))
                at += 1
        return RtsPdu(self.FLAGS, tuple(commands)).encode()

    @classmethod
    def matches(cls, rts: RtsPdu) -> bool:
        """Whether that PDU has this form."""
        return rts.flags == cls.FLAGS and rts.kinds == cls.KINDS

    @classmethod
    def read(cls, rts: RtsPdu) -> Self:
        """The message in that PDU; any other is a `WireError`."""
        if not cls.matches(rts):
            raise WireError(
                "rts", f"{cls.__name__} was due, flags {rts.flags:#x} and {len(rts.commands)} commands came"
            )
        values: list[Any] = [command.value for command in rts.commands if command.kind not in _SILENT]
        return cls(*values)


_SILENT: Final = frozenset({Kind.EMPTY, Kind.ANCE, Kind.NEGATIVE_ANCE})
_RWS, _TIMEOUT, _COOKIE, _LIFE = Kind.RECEIVE_WINDOW_SIZE, Kind.CONNECTION_TIMEOUT, Kind.COOKIE, Kind.CHANNEL_LIFETIME
_VERSION, _TO = Kind.VERSION, Kind.DESTINATION


@dataclass(frozen=True, slots=True)
class ConnA1(Message):
    """Client to outbound proxy: the first words of an OUT channel. [MS-RPCH] 2.2.4.2"""

    FLAGS = NONE
    KINDS = (_VERSION, _COOKIE, _COOKIE, _RWS)
    version: int
    connection: UUID
    channel: UUID
    window: int


@dataclass(frozen=True, slots=True)
class ConnA2(Message):
    """Outbound proxy to server. [MS-RPCH] 2.2.4.3"""

    FLAGS = OUT_CHANNEL
    KINDS = (_VERSION, _COOKIE, _COOKIE, _LIFE, _RWS)
    version: int
    connection: UUID
    channel: UUID
    lifetime: int
    window: int


@dataclass(frozen=True, slots=True)
class ConnA3(Message):
    """Outbound proxy to client. [MS-RPCH] 2.2.4.4"""

    FLAGS = NONE
    KINDS = (_TIMEOUT,)
    timeout: int


@dataclass(frozen=True, slots=True)
class ConnB1(Message):
    """Client to inbound proxy: the first words of an IN channel. [MS-RPCH] 2.2.4.5"""

    FLAGS = NONE
    KINDS = (_VERSION, _COOKIE, _COOKIE, _LIFE, Kind.CLIENT_KEEPALIVE, Kind.ASSOCIATION_GROUP_ID)
    version: int
    connection: UUID
    channel: UUID
    lifetime: int
    keepalive: int
    group: UUID


@dataclass(frozen=True, slots=True)
class ConnB2(Message):
    """Inbound proxy to server. [MS-RPCH] 2.2.4.6"""

    FLAGS = IN_CHANNEL
    KINDS = (_VERSION, _COOKIE, _COOKIE, _RWS, _TIMEOUT, Kind.ASSOCIATION_GROUP_ID, Kind.CLIENT_ADDRESS)
    version: int
    connection: UUID
    channel: UUID
    window: int
    timeout: int
    group: UUID
    client: IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class ConnB3(Message):
    """Server to inbound proxy. [MS-RPCH] 2.2.4.7"""

    FLAGS = NONE
    KINDS = (_RWS, _VERSION)
    window: int
    version: int


@dataclass(frozen=True, slots=True)
class ConnC(Message):
    """C1, server to outbound proxy, and C2, on to the client: the virtual connection is open. [MS-RPCH] 2.2.4.8, 9

    Window and timeout are the inbound proxy's: the client learns what it may send.
    """

    FLAGS = NONE
    KINDS = (_VERSION, _RWS, _TIMEOUT)
    version: int
    window: int
    timeout: int


@dataclass(frozen=True, slots=True)
class InR1A1(Message):
    """Client to inbound proxy: the first words of an IN channel that follows another one. [MS-RPCH] 2.2.4.10, 18"""

    FLAGS = RECYCLE
    KINDS = (_VERSION, _COOKIE, _COOKIE, _COOKIE)
    version: int
    connection: UUID
    predecessor: UUID
    successor: UUID


@dataclass(frozen=True, slots=True)
class ChannelCookie(Message):
    """IN_R2/A2 (proxy to server) and A5 (client to proxy), OUT_R2/A4 (proxy to server): the successor's cookie.

    [MS-RPCH] 2.2.4.19, 22, 37
    """

    FLAGS = NONE
    KINDS = (_COOKIE,)
    successor: UUID


@dataclass(frozen=True, slots=True)
class InR2A4(Message):
    """IN_R2/A3 and A4, server to outbound proxy and on to the client: go on. [MS-RPCH] 2.2.4.20, 21"""

    FLAGS = NONE
    KINDS = (_TO,)
    to: int = Party.CLIENT


@dataclass(frozen=True, slots=True)
class OutR2A2(Message):
    """OUT_R2/A1 and A2, server to outbound proxy and on: open another OUT channel. [MS-RPCH] 2.2.4.34, 35"""

    FLAGS = RECYCLE
    KINDS = (_TO,)
    to: int = Party.CLIENT


@dataclass(frozen=True, slots=True)
class OutR2A3(Message):
    """Client to outbound proxy: the first words of an OUT channel that follows another one. [MS-RPCH] 2.2.4.36"""

    FLAGS = RECYCLE
    KINDS = (_VERSION, _COOKIE, _COOKIE, _COOKIE, _RWS)
    version: int
    connection: UUID
    predecessor: UUID
    successor: UUID
    window: int


@dataclass(frozen=True, slots=True)
class OutR2A6(Message):
    """OUT_R2/A5 and A6, server to outbound proxy and on: the successor is known. [MS-RPCH] 2.2.4.38, 39"""

    FLAGS = NONE
    KINDS = (_TO, Kind.ANCE)
    to: int = Party.CLIENT


@dataclass(frozen=True, slots=True)
class OutR2A7(Message):
    """Client to inbound proxy and on to the server: this is the successor. [MS-RPCH] 2.2.4.40"""

    FLAGS = NONE
    KINDS = (_TO, _COOKIE, _VERSION)
    to: int
    successor: UUID
    version: int


@dataclass(frozen=True, slots=True)
class OutR2A8(Message):
    """Inbound proxy to server: as A7 said. [MS-RPCH] 2.2.4.41"""

    FLAGS = OUT_CHANNEL
    KINDS = (_TO, _COOKIE)
    to: int
    successor: UUID


@dataclass(frozen=True, slots=True)
class OutR2B1(Message):
    """Server to outbound proxy: switch. [MS-RPCH] 2.2.4.42"""

    FLAGS = NONE
    KINDS = (Kind.ANCE,)


@dataclass(frozen=True, slots=True)
class OutR2B3(Message):
    """Outbound proxy to client: nothing more comes on this OUT channel. [MS-RPCH] 2.2.4.44"""

    FLAGS = EOF
    KINDS = (Kind.ANCE,)


@dataclass(frozen=True, slots=True)
class OutR2C1(Message):
    """Client to outbound proxy, on the successor: the end of its request. [MS-RPCH] 2.2.4.45"""

    FLAGS = PING
    KINDS = (Kind.EMPTY,)


@dataclass(frozen=True, slots=True)
class KeepAlive(Message):
    """Client to inbound proxy and on to the outbound one: send pings this often, in milliseconds. [MS-RPCH] 2.2.4.46"""

    FLAGS = OTHER
    KINDS = (Kind.CLIENT_KEEPALIVE,)
    keepalive: int


@dataclass(frozen=True, slots=True)
class PingTrafficSent(Message):
    """Outbound proxy to server: so many octets of pings went out on the OUT channel. [MS-RPCH] 2.2.4.47"""

    FLAGS = OTHER
    KINDS = (Kind.PING_TRAFFIC_SENT_NOTIFY,)
    octets: int


@dataclass(frozen=True, slots=True)
class Echo(Message):
    """The answer of a proxy to a short request. [MS-RPCH] 2.2.4.48"""

    FLAGS = ECHO
    KINDS = ()


@dataclass(frozen=True, slots=True)
class Ping(Message):
    """The sender is still there. [MS-RPCH] 2.2.4.49"""

    FLAGS = PING
    KINDS = ()


@dataclass(frozen=True, slots=True)
class FlowControlAck(Message):
    """To the party at the other end of this connection. [MS-RPCH] 2.2.4.50"""

    FLAGS = OTHER
    KINDS = (Kind.FLOW_CONTROL_ACK,)
    ack: Ack


@dataclass(frozen=True, slots=True)
class FlowControlAckTo(Message):
    """To a party that is reached by way of others. [MS-RPCH] 2.2.4.51"""

    FLAGS = OTHER
    KINDS = (_TO, Kind.FLOW_CONTROL_ACK)
    to: int
    ack: Ack
