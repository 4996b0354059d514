"""The verification trailer: what a client without header signing appends to a stub, so that it is protected with it.

It repeats what stands in the unprotected header. [MS-RPCE] 2.2.2.13. It begins at a multiple of four octets with a
signature; commands follow, the last one marked as such.
"""

from dataclasses import dataclass, replace
from typing import Final

from casarray.core.dcerpc.cursor import Reader, Writer
from casarray.core.dcerpc.pdu import PduType, Request
from casarray.core.errors import Denied, WireError

SIGNATURE: Final = bytes.fromhex("8ae3137102f43671")
BITMASK_1: Final = 1  # what the client can do
PRESENTATION_CONTEXT: Final = 2  # interface and transfer syntax of the call
HEADER2: Final = 3  # packet type, data representation, call, context, opnum

_COMMAND: Final = 0x3FFF
_END: Final = 0x4000
_MUST_PROCESS: Final = 0x8000


@dataclass(frozen=True, slots=True)
class Command:
    """One statement of the trailer, its value as octets."""

    number: int
    value: bytes
    must_process: bool = False


def encode_verification(stub: bytes, commands: tuple[Command, ...]) -> bytes:
    """The stub with a trailer of these commands behind it."""
    writer = Writer("little")
    writer.octets(stub)
    writer.align(4)
    writer.octets(SIGNATURE)
    for at, command in enumerate(commands, 1):
        last = _END if at == len(commands) else 0
        writer.u16(command.number | last | (_MUST_PROCESS if command.must_process else 0))
        writer.u16(len(command.value))
        writer.octets(command.value)
    return bytes(writer)


def split_verification(stub: bytes) -> tuple[bytes, tuple[Command, ...]]:
    """The stub without its trailer, padding before that included, and the trailer's commands; none: there is none.

    Where the stub ends is known to its interface only, so the signature is looked for from the back, and what follows
    it has to be a trailer to the last octet.
    """
    at = stub.rfind(SIGNATURE)
    while at >= 0:
        if at % 4 == 0 and (commands := _commands(stub, at + len(SIGNATURE))):
            return stub[:at], commands
        at = stub.rfind(SIGNATURE, 0, at + len(SIGNATURE) - 1)
    return stub, ()


def header2(request: Request) -> Command:
    """What the header of that call says. [MS-RPCE] 2.2.2.13.4."""
    writer = Writer("little")
    writer.u8(PduType.REQUEST)
    writer.octets(bytes(3))
    writer.octets(b"\x10\0\0\0" if request.order == "little" else bytes(4))
    writer.u32(request.call_id)
    writer.u16(request.context_id)
    writer.u16(request.opnum)
    return Command(HEADER2, bytes(writer))


def without_verification(request: Request) -> Request:
    """The call without its trailer. `Denied` if that contradicts the header, or demands what is not known here."""
    stub, commands = split_verification(request.stub)
    for command in commands:
        if command.number == HEADER2 and command.value != header2(request).value:
            raise Denied("the header of a call is not what its verification trailer says: somebody changed it")
        if command.must_process and command.number not in (BITMASK_1, PRESENTATION_CONTEXT, HEADER2):
            raise Denied(f"a verification trailer demands command {command.number}, which is not known")
    return replace(request, stub=stub) if commands else request


def _commands(data: bytes, start: int) -> tuple[Command, ...]:
    reader, found = Reader(data, "little", start), []
    try:
        while True:
            number = reader.u16("verification: command")
            value = reader.take(reader.u16("verification: length"), "verification: value")
            found.append(Command(number & _COMMAND, value, bool(number & _MUST_PROCESS)))
            if number & _END:
                return () if reader.left else tuple(found)
    except WireError:
        return ()
