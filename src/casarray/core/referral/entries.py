"""An entry of the address book: a person's properties, and whether they are who somebody typed or asked for.

[MS-OXOABK] 2.2.3 says which properties there are, [MS-OXNSPI] 3.1.4.7 what a name check compares.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

from casarray.core.dcerpc.interfaces.nspi_entry_ids import DisplayType, EphemeralEntryId, PermanentEntryId
from casarray.core.dcerpc.interfaces.nspi_properties import (
    PropertyRow,
    PropertyTag,
    PropertyType,
    PropertyValue,
    Value,
    in_string8,
    in_unicode,
    type_of,
)
from casarray.core.dcerpc.interfaces.nspi_restrictions import (
    AndRestriction,
    BitMaskRestriction,
    ContentRestriction,
    ExistRestriction,
    Fuzzy,
    NotRestriction,
    OrRestriction,
    PropertyRestriction,
    Relation,
    Restriction,
)
from casarray.core.directory.model import key
from casarray.core.referral.guide import Person

MAIL_USER_OBJECT = 6  # PR_OBJECT_TYPE of a mail user
DISPLAY_TYPE_EX = 0x40000000  # a mailbox of this organisation that rights may be given to
TAG = PropertyTag

#: What a row has when nobody says what it should have. [MS-OXNSPI] 3.1.4.1.8, 3.1.4.1.16.
USUAL_TAGS = (
    TAG.PR_EMS_AB_CONTAINERID,
    TAG.PR_OBJECT_TYPE,
    TAG.PR_DISPLAY_TYPE,
    TAG.PR_DISPLAY_NAME,
    TAG.PR_BUSINESS_TELEPHONE_NUMBER_W & ~1,
    TAG.PR_DEPARTMENT_NAME_W & ~1,
    TAG.PR_OFFICE_LOCATION_W & ~1,
)

_COMPARISONS = frozenset(Relation) - {Relation.REGULAR_EXPRESSION}

Properties = Mapping[int, Value]  # by tags whose strings are UTF-16


def properties(person: Person, minimal_id: int, server: UUID, *, ephemeral: bool = False) -> Properties:
    """All that is known of somebody. ``server`` is the GUID of the server that gave the minimal id."""
    dn = person.legacy_dn.encode("latin-1", "replace").decode("latin-1")  # an entry id has room for no more
    permanent = PermanentEntryId(dn).to_octets()
    number = EphemeralEntryId(server, minimal_id).to_octets()
    addresses = ([f"SMTP:{person.address}"] if person.address else []) + [f"smtp:{one}" for one in person.aliases]
    known: dict[int, Value] = {
        TAG.PR_ENTRYID: number if ephemeral else permanent,
        TAG.PR_RECORD_KEY: permanent,
        TAG.PR_INSTANCE_KEY: minimal_id.to_bytes(4, "little"),
        TAG.PR_SEARCH_KEY: f"EX:{person.legacy_dn.upper()}\0".encode("latin-1", "replace"),
        TAG.PR_MAPPING_SIGNATURE: server.bytes_le,
        TAG.PR_OBJECT_TYPE: MAIL_USER_OBJECT,
        TAG.PR_DISPLAY_TYPE: int(DisplayType.MAIL_USER),
        TAG.PR_DISPLAY_TYPE_EX: DISPLAY_TYPE_EX,
        TAG.PR_EMS_AB_CONTAINERID: 0,
        TAG.PR_ADDRTYPE_W: "EX",
        TAG.PR_EMAIL_ADDRESS_W: person.legacy_dn,
        TAG.PR_DISPLAY_NAME_W: person.display_name,
        TAG.PR_7BIT_DISPLAY_NAME_W: person.display_name.encode("ascii", "replace").decode(),
        TAG.PR_TRANSMITTABLE_DISPLAY_NAME_W: person.display_name,
        TAG.PR_ACCOUNT_W: person.name,
        TAG.PR_SMTP_ADDRESS_W: person.address,
        TAG.PR_EMS_AB_PROXY_ADDRESSES_W: tuple(addresses),
        TAG.PR_EMS_AB_HOME_MDB_W: person.home_mdb,
        TAG.PR_SEND_RICH_INFO: True,
    }
    return {tag: value for tag, value in known.items() if value not in ("", ())}


#: The tags of everything above, in the order of the table.
COLUMNS = tuple(properties(Person("a", "/o=a", "a", "a", ("a",), "a"), 16, UUID(int=1)))


def row_of(known: Properties, tags: tuple[int, ...] | None, *, unicode: bool = True) -> PropertyRow:
    """The properties that were asked for, in that order, with an error for each that is not there.

    Without ``tags`` all that there are, with strings of UTF-16 or of one octet a character.
    """
    if tags is None:
        return PropertyRow(tuple(PropertyValue(tag if unicode else in_string8(tag), known[tag]) for tag in known))
    return PropertyRow(tuple(_value(known, tag, unicode) for tag in tags))


def missing_row(tags: tuple[int, ...]) -> PropertyRow:
    """The row of an entry that is gone: nothing but errors."""
    return PropertyRow(tuple(PropertyValue.missing(tag) for tag in tags))


def _value(known: Properties, tag: int, unicode: bool) -> PropertyValue:
    wanted = in_unicode(tag)
    if type_of(tag) == PropertyType.UNSPECIFIED:  # whatever type it has
        wanted = next((one for one in known if one >> 16 == tag >> 16), tag)
        tag = wanted if unicode else in_string8(wanted)
    return PropertyValue(tag, known[wanted]) if wanted in known else PropertyValue.missing(tag)


def exact_names(person: Person) -> Iterator[str]:
    """What means this person and hardly anybody else, folded: the account, the DN, every address."""
    for name in (person.name, person.legacy_dn, person.address, *person.aliases):
        if name:
            yield key(name)


def search_text(person: Person) -> str:
    """All that a name check compares, folded, each name and each word of the display name behind a line's end."""
    display = key(person.display_name)
    return "".join(f"\n{name}" for name in (*exact_names(person), display, *display.replace(",", " ").split()))


def begin(texts: Sequence[str], typed: str) -> Iterator[int]:
    """Which of these people have a name that begins as somebody typed, who may have typed several parts: ``al smi``.

    ``texts`` are their `search_text`: to look through one costs little, so that a list may be long.
    """
    whole = f"\n{typed}"
    parts = [f"\n{part}" for part in typed.replace(",", " ").split()]
    if len(parts) < 2:
        return (row for row, text in enumerate(texts) if whole in text)
    return (row for row, text in enumerate(texts) if whole in text or all(part in text for part in parts))


def bare_name(typed: str) -> tuple[str, bool]:
    """What somebody typed, folded, without ``=`` and ``SMTP:``; whether it has to be matched exactly."""
    text = key(typed.strip())
    exact = text.startswith("=")
    text = text.removeprefix("=")
    for kind in ("smtp:", "ex:"):
        if text.startswith(kind):
            return text[len(kind) :], True
    return text, exact


def checked_name(restriction: Restriction) -> str | None:
    """The name, if a name check is all that the restriction is."""
    match restriction:
        case AndRestriction((part,)) | OrRestriction((part,)):
            return checked_name(part)
        case PropertyRestriction(_, tag, value) if in_unicode(tag) == TAG.PR_ANR_W and value is not None:
            return value.value if isinstance(value.value, str) else None
        case _:
            return None


def can_be_searched(restriction: Restriction) -> bool:
    """Whether it is of kinds that an address book is asked with; whoever asks otherwise is told so."""
    match restriction:
        case AndRestriction(parts) | OrRestriction(parts):
            return all(map(can_be_searched, parts))
        case NotRestriction(part):
            return can_be_searched(part)
        case ExistRestriction() | BitMaskRestriction():
            return True
        case ContentRestriction(_, _, value):
            return value is not None
        case PropertyRestriction(relation, _, value):
            return value is not None and relation in _COMPARISONS
        case _:
            return False


def satisfies(known: Properties, restriction: Restriction, is_named: Callable[[str], bool]) -> bool:
    """Whether an entry is one of those wanted, by what `can_be_searched`. ``is_named`` checks a name."""
    match restriction:
        case AndRestriction(parts):
            return all(satisfies(known, part, is_named) for part in parts)
        case OrRestriction(parts):
            return any(satisfies(known, part, is_named) for part in parts)
        case NotRestriction(part):
            return not satisfies(known, part, is_named)
        case _:
            return _has(known, restriction, is_named)


def _has(known: Properties, restriction: Restriction, is_named: Callable[[str], bool]) -> bool:
    """Of one property."""
    match restriction:
        case ExistRestriction(tag):
            return in_unicode(tag) in known
        case BitMaskRestriction(relation, tag, mask):
            number = known.get(tag)
            return isinstance(number, int) and ((number & mask) != 0) == bool(relation)
        case ContentRestriction(fuzzy, tag, value) if value is not None:
            return any(_contains(text, value.value, fuzzy) for text in _texts(known, tag))
        case PropertyRestriction(relation, tag, value) if value is not None:
            if in_unicode(tag) == TAG.PR_ANR_W:
                return isinstance(value.value, str) and is_named(value.value)
            return any(_compares(one, value.value, relation) for one in _each(known.get(in_unicode(tag))))
        case _:
            return False


def _each(value: Value) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _texts(known: Properties, tag: int) -> list[str]:
    return [one for one in _each(known.get(in_unicode(tag))) if isinstance(one, str)]


def _contains(text: str, wanted: Value, fuzzy: int) -> bool:
    if not isinstance(wanted, str):
        return False
    has, wants = key(text), key(wanted)  # address books know no capital letters, whatever the flags say
    match fuzzy & 0xFFFF:
        case Fuzzy.FULL:
            return has == wants
        case Fuzzy.SUBSTRING:
            return wants in has
        case _:
            return has.startswith(wants)


def _compares(has: object, wants: Value, relation: int) -> bool:
    if isinstance(has, str) and isinstance(wants, str):
        return _ordered(key(has), key(wants), relation)
    if isinstance(has, int) and isinstance(wants, int):
        return _ordered(has, wants, relation)
    if isinstance(has, bytes) and isinstance(wants, bytes):
        return _ordered(has, wants, relation)
    return False


def _ordered(has: str | int | bytes, wants: str | int | bytes, relation: int) -> bool:
    if relation in (Relation.EQUAL, Relation.NOT_EQUAL):
        return (has == wants) == (relation == Relation.EQUAL)
    less = has < wants  # type: ignore[operator]  # the caller has made sure that both are of one type
    match relation:
        case Relation.LESS:
            return less
        case Relation.AT_MOST:
            return less or has == wants
        case Relation.GREATER:
            return not less and has != wants
        case _:  # at least
            return not less
