"""Restrictions: which entries of an address book are wanted. [MS-OXNSPI] 2.2.5, ``Restriction_r``.

A restriction may hold others, so a reader bounds how deep and how many: a name check of Outlook is two deep.
"""

from dataclasses import dataclass
from enum import IntEnum

from casarray.core.dcerpc.interfaces.nspi_properties import PropertyValue
from casarray.core.dcerpc.interfaces.nspi_values import VALUES_MAX, read_arm, read_rest, write_arm, write_rest
from casarray.core.dcerpc.ndr import NdrReader, NdrWriter
from casarray.core.errors import WireError

DEPTH_MAX = 16
RESTRICTIONS_MAX = 1000


class Relation(IntEnum):
    """How a property compares with a value. [MS-OXCDATA] 2.12.5."""

    LESS = 0
    AT_MOST = 1
    GREATER = 2
    AT_LEAST = 3
    EQUAL = 4
    NOT_EQUAL = 5
    REGULAR_EXPRESSION = 6


class Fuzzy(IntEnum):
    """How a string matches, in the lower half of `ContentRestriction.fuzzy`. [MS-OXCDATA] 2.12.4.

    The upper half: 1 ignores case, 2 ignores marks, 4 both and width.
    """

    FULL = 0
    SUBSTRING = 1
    PREFIX = 2
    IGNORE_CASE = 0x10000
    IGNORE_MARKS = 0x20000
    LOOSE = 0x40000


@dataclass(frozen=True, slots=True)
class AndRestriction:
    """All of these."""

    parts: tuple["Restriction", ...]


@dataclass(frozen=True, slots=True)
class OrRestriction:
    """Any of these."""

    parts: tuple["Restriction", ...]


@dataclass(frozen=True, slots=True)
class NotRestriction:
    """Not this one."""

    part: "Restriction"


@dataclass(frozen=True, slots=True)
class ContentRestriction:
    """A string property that holds, or begins with, this string."""

    fuzzy: int
    tag: int
    value: PropertyValue | None


@dataclass(frozen=True, slots=True)
class PropertyRestriction:
    """A property in this relation to a value. With PR_ANR and `Relation.EQUAL` it is a name check."""

    relation: int
    tag: int
    value: PropertyValue | None


@dataclass(frozen=True, slots=True)
class CompareRestriction:
    """A property in this relation to another one."""

    relation: int
    tag: int
    other_tag: int


@dataclass(frozen=True, slots=True)
class BitMaskRestriction:
    """A number of which these bits are all zero (relation 0) or not (1)."""

    relation: int
    tag: int
    mask: int


@dataclass(frozen=True, slots=True)
class SizeRestriction:
    """A property whose value is of such a size, in octets."""

    relation: int
    tag: int
    size: int


@dataclass(frozen=True, slots=True)
class ExistRestriction:
    """A property that is there."""

    tag: int


@dataclass(frozen=True, slots=True)
class SubRestriction:
    """This one, of a part of the entry."""

    sub_object: int
    part: "Restriction"


Restriction = (
    AndRestriction
    | OrRestriction
    | NotRestriction
    | ContentRestriction
    | PropertyRestriction
    | CompareRestriction
    | BitMaskRestriction
    | SizeRestriction
    | ExistRestriction
    | SubRestriction
)

_AND, _OR, _NOT, _CONTENT, _PROPERTY, _COMPARE, _MASK, _SIZE, _EXIST, _SUB = range(10)


def write_restriction_pointer(stub: NdrWriter, restriction: Restriction | None) -> None:
    """A unique pointer to a restriction, which follows at once, as in an argument."""
    stub.pointer(restriction is not None)
    if restriction is not None:
        _write_head(stub, restriction)
        _write_rest(stub, restriction)


def read_restriction_pointer(stub: NdrReader, what: str) -> Restriction | None:
    """What `write_restriction_pointer` wrote; deeper or more than the bounds above is `WireError`."""
    if not stub.pointer(what):
        return None
    reading = _Reading(stub, what)
    return reading.rest(reading.head(), 1)


def _write_head(stub: NdrWriter, restriction: Restriction) -> None:
    """The kind, the kind again, and the arm of the union."""
    stub.align_structure()
    kind, numbers, pointed = _arm(restriction)
    stub.u32(kind)
    stub.align_structure()
    stub.u32(kind)
    stub.align_structure()
    for number in numbers:
        stub.u32(number)
    if pointed is not None:
        stub.pointer(pointed)


def _arm(restriction: Restriction) -> tuple[int, tuple[int, ...], bool | None]:
    """Kind, numbers, and whether the pointer after them is one; None where the arm has none."""
    found: tuple[int, tuple[int, ...], bool | None]
    match restriction:
        case AndRestriction(parts):
            found = _AND, (len(parts),), True
        case OrRestriction(parts):
            found = _OR, (len(parts),), True
        case NotRestriction():
            found = _NOT, (), True
        case ContentRestriction(fuzzy, tag, value):
            found = _CONTENT, (fuzzy, tag), value is not None
        case PropertyRestriction(relation, tag, value):
            found = _PROPERTY, (relation, tag), value is not None
        case CompareRestriction(relation, tag, other):
            found = _COMPARE, (relation, tag, other), None
        case BitMaskRestriction(relation, tag, mask):
            found = _MASK, (relation, tag, mask), None
        case SizeRestriction(relation, tag, size):
            found = _SIZE, (relation, tag, size), None
        case ExistRestriction(tag):
            found = _EXIST, (0, tag, 0), None
        case SubRestriction(sub_object, _):
            found = _SUB, (sub_object,), True
    return found


def _write_rest(stub: NdrWriter, restriction: Restriction) -> None:
    """What the arm points to."""
    match restriction:
        case AndRestriction(parts) | OrRestriction(parts):
            stub.count(len(parts))
            for part in parts:
                _write_head(stub, part)
            for part in parts:
                _write_rest(stub, part)
        case NotRestriction(part) | SubRestriction(_, part):
            _write_head(stub, part)
            _write_rest(stub, part)
        case ContentRestriction(_, _, value) | PropertyRestriction(_, _, value) if value is not None:
            write_arm(stub, value)
            write_rest(stub, value)
        case _:
            pass


@dataclass(frozen=True, slots=True)
class _Head:
    """The first part of a restriction that was read."""

    kind: int
    numbers: tuple[int, ...]
    present: bool


#: How many numbers the arm has, and whether a pointer follows them.
_ARMS = {
    **dict.fromkeys((_AND, _OR, _SUB), (1, True)),
    _NOT: (0, True),
    **dict.fromkeys((_CONTENT, _PROPERTY), (2, True)),
    **dict.fromkeys((_COMPARE, _MASK, _SIZE, _EXIST), (3, False)),
}


_Numbered = CompareRestriction | BitMaskRestriction | SizeRestriction
_NUMBERED: dict[int, type[_Numbered]] = {
    _COMPARE: CompareRestriction,
    _MASK: BitMaskRestriction,
    _SIZE: SizeRestriction,
}


class _Reading:
    """One restriction on its way out of a stub, and how many parts of it there were so far."""

    def __init__(self, stub: NdrReader, what: str) -> None:
        self.stub = stub
        self.what = what
        self.left = RESTRICTIONS_MAX

    def head(self) -> _Head:
        self.left -= 1
        if self.left < 0:
            raise WireError("range", f"{self.what}: more than {RESTRICTIONS_MAX} restrictions in one")
        self.stub.align_structure(self.what)
        kind = self.stub.u32(f"{self.what}: kind")
        self.stub.align_structure(self.what)
        if self.stub.u32(f"{self.what}: kind") != kind or kind not in _ARMS:
            raise WireError("type", f"{self.what}: a restriction of no known kind, {kind:#x}")
        self.stub.align_structure(self.what)
        count, pointed = _ARMS[kind]
        numbers = tuple([self.stub.u32(self.what) for _ in range(count)])
        return _Head(kind, numbers, pointed and bool(self.stub.pointer(self.what)))

    def rest(self, head: _Head, depth: int) -> Restriction:
        if depth > DEPTH_MAX:
            raise WireError("range", f"{self.what}: restrictions more than {DEPTH_MAX} deep")
        match head.kind, head.numbers:
            case (0 | 1) as kind, _:
                parts = self.parts(head, depth)
                return AndRestriction(parts) if kind == _AND else OrRestriction(parts)
            case (3 | 4) as kind, (how, tag):
                value = self.value(head)
                return (ContentRestriction if kind == _CONTENT else PropertyRestriction)(how, tag, value)
            case kind, (first, second, third):
                return ExistRestriction(second) if kind == _EXIST else _NUMBERED[kind](first, second, third)
        part = self.part(head, depth)
        return NotRestriction(part) if head.kind == _NOT else SubRestriction(head.numbers[0], part)

    def parts(self, head: _Head, depth: int) -> tuple[Restriction, ...]:
        announced = head.numbers[0]
        if not head.present:
            if announced:
                raise WireError("null", f"{self.what}: {announced} restrictions announced, none there")
            return ()
        if self.stub.count(f"{self.what}: parts", VALUES_MAX) != announced:
            raise WireError("range", f"{self.what}: {announced} restrictions announced, another number there")
        heads = [self.head() for _ in range(announced)]
        return tuple([self.rest(part, depth + 1) for part in heads])

    def part(self, head: _Head, depth: int) -> Restriction:
        if not head.present:
            raise WireError("null", f"{self.what}: a restriction of nothing")
        return self.rest(self.head(), depth + 1)

    def value(self, head: _Head) -> PropertyValue | None:
        if not head.present:
            return None
        return read_rest(self.stub, read_arm(self.stub, self.what), self.what)
