"""Entry ids: what an address book entry is called, in a value of binary. [MS-OXNSPI] 2.2.9.

A permanent one holds the entry's DN and is good everywhere and for ever. An ephemeral one holds the number under which
one server knows the entry, and that server's GUID: another server must refuse it, which is one more reason why a client
has to stay on its server. Both are little-endian whatever the sender's order, and neither is aligned.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self
from uuid import UUID

from casarray.core.dcerpc.cursor import Reader, Writer
from casarray.core.errors import WireError

#: The provider of every permanent entry id. [MS-OXNSPI] 2.2.1.7.
NSPI_PROVIDER = UUID("c840a7dc-42c0-1a10-b4b9-08002b2fe182")

_PERMANENT, _EPHEMERAL = 0x00, 0x87
_VERSION = 1  # R4


class DisplayType(IntEnum):
    """What an entry is, for whoever draws it. [MS-OXNSPI] 2.2.1.3; the values of PR_DISPLAY_TYPE."""

    MAIL_USER = 0x000
    DISTRIBUTION_LIST = 0x001
    FORUM = 0x002
    AGENT = 0x003
    ORGANIZATION = 0x004
    PRIVATE_DISTRIBUTION_LIST = 0x005
    REMOTE_MAIL_USER = 0x006
    CONTAINER = 0x100
    TEMPLATE = 0x101
    ADDRESS_TEMPLATE = 0x102
    SEARCH = 0x200


class Place(IntEnum):
    """Minimal entry ids that are a place in a table, in `Stat.current_record`. [MS-OXNSPI] 2.2.1.8."""

    BEGINNING = 0
    CURRENT = 1
    END = 2


class Resolved(IntEnum):
    """Minimal entry ids that say how a name was resolved. [MS-OXNSPI] 2.2.1.9."""

    NOT_AT_ALL = 0
    TO_MORE_THAN_ONE = 1
    TO_ONE = 2


#: The lowest minimal entry id that may be an entry's; those below are reserved. [MS-OXNSPI] 2.2.9.1.
FIRST_MINIMAL_ID = 0x10


@dataclass(frozen=True, slots=True)
class PermanentEntryId:
    """An entry by its DN: ``PermanentEntryID``, [MS-OXNSPI] 2.2.9.3."""

    dn: str
    display_type: int = DisplayType.MAIL_USER

    def to_octets(self) -> bytes:
        """As it stands in a value; a DN that one octet a character cannot carry is `WireError`."""
        octets = _head(_PERMANENT, NSPI_PROVIDER, self.display_type)
        try:
            octets.octets(self.dn.encode("latin-1") + b"\0")
        except UnicodeEncodeError:
            raise WireError("text", "a DN that one octet a character cannot carry") from None
        return bytes(octets)

    @classmethod
    def from_octets(cls, octets: bytes) -> Self:
        """The entry id in a value, or `WireError`."""
        reader = Reader(octets)
        provider, display_type = _read_head(reader, _PERMANENT)
        if provider != NSPI_PROVIDER:
            raise WireError("entry-id", f"an entry id of another provider, {provider}")
        dn, end, _ = reader.rest().partition(b"\0")
        if not end:
            raise WireError("truncated", "an entry id whose DN does not end")
        return cls(dn.decode("latin-1"), display_type)


@dataclass(frozen=True, slots=True)
class EphemeralEntryId:
    """An entry by its number on one server: ``EphemeralEntryID``, [MS-OXNSPI] 2.2.9.2."""

    server: UUID  # the GUID that the server told in its answer to NspiBind
    minimal_id: int
    display_type: int = DisplayType.MAIL_USER

    def to_octets(self) -> bytes:
        """As it stands in a value."""
        octets = _head(_EPHEMERAL, self.server, self.display_type)
        octets.u32(self.minimal_id)
        return bytes(octets)

    @classmethod
    def from_octets(cls, octets: bytes) -> Self:
        """The entry id in a value, or `WireError`. Whether the server is the right one is for the server to say."""
        reader = Reader(octets)
        server, display_type = _read_head(reader, _EPHEMERAL)
        return cls(server, reader.u32("entry id: number"), display_type)


EntryId = PermanentEntryId | EphemeralEntryId


def read_entry_id(octets: bytes) -> EntryId:
    """Either kind, told by its first octet; anything else is `WireError`."""
    if octets[:1] == bytes([_EPHEMERAL]):
        return EphemeralEntryId.from_octets(octets)
    return PermanentEntryId.from_octets(octets)


def _head(kind: int, provider: UUID, display_type: int) -> Writer:
    octets = Writer()
    octets.u32(kind)
    octets.uuid(provider)
    octets.u32(_VERSION)
    octets.u32(display_type)
    return octets


def _read_head(octets: Reader, kind: int) -> tuple[UUID, int]:
    if octets.u32("entry id: kind") != kind:
        raise WireError("entry-id", "an entry id of another kind")
    provider = octets.uuid("entry id: provider")
    if octets.u32("entry id: version") != _VERSION:
        raise WireError("entry-id", "an entry id of another version")
    return provider, octets.u32("entry id: display type")
