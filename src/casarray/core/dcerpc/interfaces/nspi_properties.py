"""What an address book is made of: property tags, values and rows. [MS-OXNSPI] 2.2.2, [MS-OXCDATA] 2.11.

A tag is 32 bits: the property's number above, the type of its value below. `PropertyTag` names those that a name check
and an Outlook profile need; any other number is as good a tag. How they are laid out in a stub: `nspi_values`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self
from uuid import UUID


class PropertyType(IntEnum):
    """The lower half of a tag. [MS-OXCDATA] 2.11.1. A `MULTIPLE` one holds any number of the single one's values."""

    UNSPECIFIED = 0x0000
    NULL = 0x0001
    SHORT = 0x0002
    LONG = 0x0003
    ERROR = 0x000A
    BOOLEAN = 0x000B
    TABLE = 0x000D
    STRING8 = 0x001E
    UNICODE = 0x001F
    TIME = 0x0040
    GUID = 0x0048
    BINARY = 0x0102
    MULTIPLE = 0x1000
    MULTIPLE_SHORT = 0x1002
    MULTIPLE_LONG = 0x1003
    MULTIPLE_STRING8 = 0x101E
    MULTIPLE_UNICODE = 0x101F
    MULTIPLE_TIME = 0x1040
    MULTIPLE_GUID = 0x1048
    MULTIPLE_BINARY = 0x1102


class PropertyTag(IntEnum):
    """Properties of address book entries. [MS-OXPROPS], [MS-OXOABK] 2.2. ``_W`` are those with strings of UTF-16."""

    PR_ENTRYID = 0x0FFF0102
    PR_OBJECT_TYPE = 0x0FFE0003
    PR_MAPPING_SIGNATURE = 0x0FF80102
    PR_RECORD_KEY = 0x0FF90102
    PR_INSTANCE_KEY = 0x0FF60102
    PR_ROWID = 0x30000003
    PR_DISPLAY_NAME = 0x3001001E
    PR_DISPLAY_NAME_W = 0x3001001F
    PR_ADDRTYPE = 0x3002001E
    PR_ADDRTYPE_W = 0x3002001F
    PR_EMAIL_ADDRESS = 0x3003001E
    PR_EMAIL_ADDRESS_W = 0x3003001F
    PR_DEPTH = 0x30050003
    PR_SEARCH_KEY = 0x300B0102
    PR_ANR = 0x360C001E
    PR_ANR_W = 0x360C001F
    PR_CONTAINER_FLAGS = 0x36000003
    PR_DISPLAY_TYPE = 0x39000003
    PR_DISPLAY_TYPE_EX = 0x39050003
    PR_SMTP_ADDRESS = 0x39FE001E
    PR_SMTP_ADDRESS_W = 0x39FE001F
    PR_7BIT_DISPLAY_NAME = 0x39FF001E
    PR_7BIT_DISPLAY_NAME_W = 0x39FF001F
    PR_TRANSMITTABLE_DISPLAY_NAME = 0x3A20001E
    PR_TRANSMITTABLE_DISPLAY_NAME_W = 0x3A20001F
    PR_ACCOUNT = 0x3A00001E
    PR_ACCOUNT_W = 0x3A00001F
    PR_GIVEN_NAME = 0x3A06001E
    PR_GIVEN_NAME_W = 0x3A06001F
    PR_SURNAME = 0x3A11001E
    PR_SURNAME_W = 0x3A11001F
    PR_TITLE_W = 0x3A17001F
    PR_DEPARTMENT_NAME_W = 0x3A18001F
    PR_OFFICE_LOCATION_W = 0x3A19001F
    PR_BUSINESS_TELEPHONE_NUMBER_W = 0x3A08001F
    PR_SEND_RICH_INFO = 0x3A40000B
    PR_CREATION_TIME = 0x30070040
    PR_LAST_MODIFICATION_TIME = 0x30080040
    PR_EMS_AB_HOME_MDB = 0x8006001E
    PR_EMS_AB_HOME_MDB_W = 0x8006001F
    PR_EMS_AB_PROXY_ADDRESSES = 0x800F101E
    PR_EMS_AB_PROXY_ADDRESSES_W = 0x800F101F
    PR_EMS_AB_OBJECT_GUID = 0x8C6D0102
    PR_EMS_AB_CONTAINERID = 0xFFFD0003
    PR_EMS_AB_PARENT_ENTRYID = 0xFFFC0102
    PR_EMS_AB_IS_MASTER = 0xFFFB000B


Value = int | bool | str | bytes | UUID | tuple[int | str | bytes | UUID, ...] | None

PropertyTagArray = tuple[int, ...]

#: What a property that is not there has for a value, in a row: "not found". [MS-OXCDATA] 2.4.2.
ERROR_NOT_FOUND = 0x8004010F


def type_of(tag: int) -> int:
    """The type in a tag."""
    return tag & 0xFFFF


def with_type(tag: int, kind: int) -> int:
    """The same property with values of another type."""
    return tag & 0xFFFF0000 | kind


def in_unicode(tag: int) -> int:
    """The tag of the same property with strings of UTF-16; a tag of anything else is itself."""
    return tag | 1 if type_of(tag) in (PropertyType.STRING8, PropertyType.MULTIPLE_STRING8) else tag


def in_string8(tag: int) -> int:
    """The tag of the same property with strings of one octet a character; a tag of anything else is itself."""
    return tag & ~1 if type_of(tag) in (PropertyType.UNICODE, PropertyType.MULTIPLE_UNICODE) else tag


@dataclass(frozen=True, slots=True)
class PropertyValue:
    """One property. [MS-OXNSPI] 2.2.2.12, ``PropertyValue_r``.

    What ``value`` is, by the type of the tag: short and long: int (signed), error: int, boolean: bool, string8 and
    unicode: str, binary: bytes, guid: UUID, time: int (100 ns since 1601), null: None; of a multiple type a tuple of
    these. A string, a GUID or a tuple may be None as well: its pointer is null.

    A string8 is one octet a character, read as Latin-1 whatever the code page, and written with "?" for what Latin-1
    does not have: as Exchange does when a code page cannot carry a name.
    """

    tag: int
    value: Value

    @classmethod
    def missing(cls, tag: int, error: int = ERROR_NOT_FOUND) -> Self:
        """What stands in a row for a property that is not there. [MS-OXNSPI] 3.1.4.1.7."""
        return cls(with_type(tag, PropertyType.ERROR), error)


@dataclass(frozen=True, slots=True)
class PropertyRow:
    """The properties of one entry, in the order they were asked for. [MS-OXNSPI] 2.2.3, ``PropertyRow_r``."""

    values: tuple[PropertyValue, ...] = ()

    def get(self, tag: int) -> Value:
        """The value of a property, whatever its type there; None if it is missing."""
        for value in self.values:
            if value.tag >> 16 == tag >> 16 and type_of(value.tag) != PropertyType.ERROR:
                return value.value
        return None


PropertyRowSet = tuple[PropertyRow, ...]
