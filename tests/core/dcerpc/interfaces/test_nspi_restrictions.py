"""Restrictions: each kind, nested, against impacket, and how deep and how many."""

from typing import Any

import pytest
from impacket.dcerpc.v5 import nspi as impacket_nspi
from impacket.dcerpc.v5.ndr import NDRCALL

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.nspi_properties import PropertyTag, PropertyValue
from casarray.core.dcerpc.interfaces.nspi_restrictions import (
    DEPTH_MAX,
    RESTRICTIONS_MAX,
    AndRestriction,
    BitMaskRestriction,
    CompareRestriction,
    ContentRestriction,
    ExistRestriction,
    Fuzzy,
    NotRestriction,
    OrRestriction,
    PropertyRestriction,
    Relation,
    Restriction,
    SizeRestriction,
    SubRestriction,
    read_restriction_pointer,
    write_restriction_pointer,
)
from casarray.core.dcerpc.ndr import NdrReader, NdrWriter
from casarray.core.errors import WireError

ANR = PropertyTag.PR_ANR_W
NAME_CHECK = PropertyRestriction(Relation.EQUAL, ANR, PropertyValue(ANR, "ada"))
BEGINS = ContentRestriction(
    Fuzzy.PREFIX | Fuzzy.IGNORE_CASE, PropertyTag.PR_ACCOUNT, PropertyValue(PropertyTag.PR_ACCOUNT, "a")
)
EXISTS = ExistRestriction(PropertyTag.PR_ACCOUNT)

RESTRICTIONS: list[Restriction] = [
    NAME_CHECK,
    BEGINS,
    EXISTS,
    ContentRestriction(0, ANR, None),
    CompareRestriction(Relation.LESS, PropertyTag.PR_ACCOUNT, PropertyTag.PR_SURNAME),
    BitMaskRestriction(1, PropertyTag.PR_OBJECT_TYPE, 0x40),
    SizeRestriction(Relation.GREATER, PropertyTag.PR_ENTRYID, 28),
    NotRestriction(EXISTS),
    SubRestriction(5, NAME_CHECK),
    AndRestriction(()),
    AndRestriction((NAME_CHECK, OrRestriction((BEGINS, NotRestriction(EXISTS))), EXISTS)),
]


class Filter(NDRCALL):  # type: ignore[misc]  # impacket has no types
    """impacket has the structures of a restriction, but no call that carries one."""

    structure = (("Filter", impacket_nspi.PRestriction_r),)


def written(restriction: Restriction | None, order: Order = "little", ndr64: bool = False) -> bytes:
    stub = NdrWriter(order, ndr64)
    write_restriction_pointer(stub, restriction)
    return bytes(stub)


def read(octets: bytes, order: Order = "little", ndr64: bool = False) -> Restriction | None:
    reader = NdrReader(octets, order, ndr64)
    found = read_restriction_pointer(reader, "restriction")
    assert reader.left == 0
    return found


@pytest.mark.parametrize(("order", "ndr64"), [("little", False), ("big", False), ("little", True), ("big", True)])
@pytest.mark.parametrize("restriction", [None, *RESTRICTIONS], ids=lambda one: type(one).__name__)
def test_a_restriction_comes_back_as_it_went(restriction: Restriction | None, order: Order, ndr64: bool) -> None:
    assert read(written(restriction, order, ndr64), order, ndr64) == restriction


@pytest.mark.parametrize("ndr64", [False, True])
def test_impacket_reads_a_restriction_of_restrictions(ndr64: bool) -> None:
    theirs = Filter(isNDR64=ndr64)
    theirs.fromString(written(RESTRICTIONS[-1], ndr64=ndr64))
    check, either, exists = theirs["Filter"]["res"]["resAnd"]["lpRes"]
    assert check["res"]["resProperty"]["lpProp"]["Value"]["lpszW"] == "ada\0"
    assert check["res"]["resProperty"]["relop"] == Relation.EQUAL
    begins, not_there = either["res"]["resOr"]["lpRes"]
    assert begins["res"]["resContent"]["ulFuzzyLevel"] == 0x10002
    assert begins["res"]["resContent"]["lpProp"]["Value"]["lpszA"] == "a\0"
    assert not_there["res"]["resNot"]["lpRes"]["res"]["resExist"]["ulPropTag"] == PropertyTag.PR_ACCOUNT
    assert exists["rt"] == 8


def test_what_impacket_writes_is_read() -> None:
    theirs = Filter()
    theirs["Filter"]["rt"] = 4
    theirs["Filter"]["res"]["tag"] = 4
    check: Any = theirs["Filter"]["res"]["resProperty"]
    check["relop"], check["ulPropTag"] = 4, int(ANR)
    check["lpProp"]["ulPropTag"] = int(ANR)
    check["lpProp"]["Value"]["tag"] = 0x1F
    check["lpProp"]["Value"]["lpszW"] = "ada\0"
    assert read(theirs.getData()) == NAME_CHECK


def nested(depth: int) -> Restriction:
    found: Restriction = EXISTS
    for _ in range(depth - 1):
        found = NotRestriction(found)
    return found


def test_restrictions_may_be_so_deep_and_no_deeper() -> None:
    assert read(written(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    with pytest.raises(WireError, match="deep"):
        read(written(nested(DEPTH_MAX + 1)))


def test_restrictions_may_be_so_many_and_no_more() -> None:
    parts = RESTRICTIONS_MAX - 1
    assert read(written(AndRestriction((EXISTS,) * parts))) == AndRestriction((EXISTS,) * parts)
    with pytest.raises(WireError, match="more than"):
        read(written(OrRestriction((EXISTS,) * (parts + 1))))


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        ("01000000 0a000000 0a000000", "type"),  # a kind beyond the last one
        ("01000000 08000000 07000000 00000000 00000000 00000000", "type"),  # the union is of another kind
        ("01000000 02000000 02000000 00000000", "null"),  # not nothing
        ("01000000 00000000 00000000 01000000 00000000", "null"),  # all of one, which is nowhere
        ("01000000 00000000 00000000 02000000 01000000 01000000", "range"),  # two announced, one there
    ],
)
def test_a_restriction_that_contradicts_itself_is_a_wire_error(octets: str, kind: str) -> None:
    with pytest.raises(WireError, match=f"^{kind}"):
        read(bytes.fromhex(octets))
