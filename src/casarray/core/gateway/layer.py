"""The words of a relayed connection: what may happen to it (events), and what is to be done about it (commands).

A layer stands in the middle of one connection, is told events in their order and answers each with the commands to
perform, in their order. It performs none of them itself, so its test is a comparison of two lists.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FromClient:
    """The client sent these bytes, cut anywhere."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FromServer:
    """The server sent these bytes, cut anywhere."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """The client will send nothing more; it may still be reading."""


@dataclass(frozen=True, slots=True)
class ServerClosed:
    """The server will send nothing more."""


Event = FromClient | FromServer | ClientClosed | ServerClosed


@dataclass(frozen=True, slots=True)
class SendToServer:
    """Pass these bytes on to the server."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SendToClient:
    """Pass these bytes on to the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndToServer:
    """Tell the server that nothing more will come, and go on listening to it."""


@dataclass(frozen=True, slots=True)
class OpenPinholes:
    """Let the client through to these TCP ports of its server, before any later command is performed."""

    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpenRange:
    """Let the client through to all dynamic ports of its server, before any later command is performed."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An endpoint-mapper call has been answered; for the counters."""

    call: str  # "ept_map" or "ept_lookup"
    rewritten: int  # towers whose host was changed
    authenticated: bool = False  # so nothing was read and nothing changed


@dataclass(frozen=True, slots=True)
class Close:
    """End both sides once everything before has been sent. An empty kind is an orderly end; others are counted."""

    kind: str = ""


Command = SendToServer | SendToClient | EndToServer | OpenPinholes | OpenRange | Answered | Close


class Layer(Protocol):
    """Something that stands in the middle of a connection."""

    def on(self, event: Event) -> list[Command]:
        """What is to be done about the event. Never raises; after a `Close` always nothing."""
