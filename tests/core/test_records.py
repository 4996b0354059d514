"""Frozen values as JSON, and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.config import Network
from casarray.core.errors import WireError
from casarray.core.forwarding.table import Address
from casarray.core.records import from_json, to_json


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Leaf:
    """Inside."""

    name: str
    size: int = 1


@dataclass(frozen=True, slots=True)
class Tree:
    """One field of every sort."""

    name: str
    height: float = 1.0
    alive: bool = True
    colour: Colour = Colour.RED
    address: Address | None = None
    networks: tuple[Network, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    first: Leaf | None = Leaf("first")
    counts: Mapping[str, int] = field(default_factory=dict)
    by_name: Mapping[str, Leaf] = field(default_factory=dict)
    anything: Mapping[str, object] = field(default_factory=dict)


leaves = st.builds(Leaf, st.text(), st.integers())
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
trees = st.builds(
    Tree,
    st.text(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.sampled_from(Colour),
    st.none() | addresses,
    st.lists(addresses.map(ip_network), max_size=3).map(tuple),
    st.lists(leaves, max_size=3).map(tuple),
    st.none() | leaves,
    st.dictionaries(st.text(), st.integers(), max_size=3),
    st.dictionaries(st.text(), leaves, max_size=3),
    st.dictionaries(st.text(), plain, max_size=3),
)


@given(trees)
def test_a_value_is_itself_again(tree: Tree) -> None:
    assert from_json(Tree, json.loads(json.dumps(to_json(tree)))) == tree


def refusal(kind: type[Leaf] | type[Tree], data: object) -> str:
    """Why it cannot be read; empty if it can."""
    try:
        value = from_json(kind, data)
    except WireError as error:
        return str(error)
    assert isinstance(value, kind)
    return ""


@given(plain)
def test_any_json_is_a_value_or_a_wire_error(data: object) -> None:
    for kind in (Tree, Leaf):
        text = refusal(kind, data)
        assert not text or text.startswith(f"json: {kind.__name__}")


@given(st.dictionaries(st.sampled_from(sorted(Tree.__dataclass_fields__)), plain))
def test_any_json_in_known_fields_is_a_value_or_a_wire_error(data: dict[str, object]) -> None:
    text = refusal(Tree, {"name": "t"} | data)
    assert not text or text.startswith("json: Tree.")


def test_values_are_written_under_the_same_names_in_plain_words() -> None:
    tree = Tree("oak", 2.5, False, Colour.BLUE, ip_address("fd00::1"), (ip_network("10.0.0.0/8"),), (Leaf("a"),), None)
    assert to_json(tree) == {
        "name": "oak",
        "height": 2.5,
        "alive": False,
        "colour": "blue",
        "address": "fd00::1",
        "networks": ["10.0.0.0/8"],
        "leaves": [{"name": "a", "size": 1}],
        "first": None,
        "counts": {},
        "by_name": {},
        "anything": {},
    }


def test_an_enum_is_written_as_a_plain_string() -> None:
    assert type(to_json(Colour.RED)) is str


def test_what_is_left_out_has_its_default() -> None:
    assert from_json(Tree, {"name": "oak"}) == Tree("oak")


def test_unknown_names_are_passed_over() -> None:
    assert from_json(Leaf, {"name": "a", "veins": 7}) == Leaf("a")


def test_a_whole_number_may_stand_for_a_fraction() -> None:
    height = from_json(Tree, {"name": "oak", "height": 2}).height
    assert (height, type(height)) == (2.0, float)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("oak", "json: Tree: dict expected"),
        ({}, "json: Tree.name is missing"),
        ({"name": None}, "json: Tree.name: str expected"),
        ({"name": "oak", "height": "2"}, "json: Tree.height: float expected"),
        ({"name": "oak", "height": True}, "json: Tree.height: float expected"),
        ({"name": "oak", "height": 10**400}, "json: Tree.height: a smaller number expected"),
        ({"name": "oak", "alive": 1}, "json: Tree.alive: bool expected"),
        ({"name": "oak", "colour": "green"}, "json: Tree.colour: 'green' is none of red, blue"),
        ({"name": "oak", "address": "10.0.0"}, "json: Tree.address: '10.0.0' does not appear to be"),
        ({"name": "oak", "address": 167772161}, "json: Tree.address: str expected"),
        ({"name": "oak", "networks": "10.0.0.0/8"}, "json: Tree.networks: list expected"),
        ({"name": "oak", "networks": ["10.0.0.1/8"]}, "json: Tree.networks: 10.0.0.1/8 has host bits set"),
        ({"name": "oak", "leaves": [{"name": "a"}, {"size": 2}]}, "json: Tree.leaves.name is missing"),
        ({"name": "oak", "first": {"name": "a", "size": True}}, "json: Tree.first.size: int expected"),
        ({"name": "oak", "counts": {"a": 1.0}}, "json: Tree.counts: int expected"),
        ({"name": "oak", "by_name": {"a": {"name": 1}}}, "json: Tree.by_name.name: str expected"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: object, text: str) -> None:
    with pytest.raises(WireError) as caught:
        from_json(Tree, data)
    assert str(caught.value).startswith(text)
