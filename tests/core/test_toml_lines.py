"""The line of every key, held against what `tomllib` reads."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.toml_lines import Path, key_lines, line_of

SITE = '''\
# a comment with [brackets] and = signs
[gateway]
name = "gw]1" # "more"
nested.key = 1979-05-27 07:32:00

[[array]]
addresses = [ # a list over lines
  "10.0.0.1", """
two
lines]""", 'x#',
  { inside = [1, 2] },
]
[array.health]
interval = """a\\"""b"""
[[array.service]]
name = 'one'
[[array.service]]
"quoted key" = true
[[array]]
fqdn = "b"
[[array.service]]
name = """"quoted""""
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("gateway",), 2),
        (("gateway", "name"), 3),
        (("gateway", "nested", "key"), 4),
        (("array", 0), 6),
        (("array", 0, "addresses"), 7),
        (("array", 0, "addresses", 0), 8),
        (("array", 0, "addresses", 1), 8),
        (("array", 0, "addresses", 2), 10),
        (("array", 0, "addresses", 3, "inside", 1), 11),
        (("array", 0, "health", "interval"), 14),
        (("array", 0, "service", 0, "name"), 16),
        (("array", 0, "service", 1), 17),
        (("array", 0, "service", 1, "quoted key"), 18),
        (("array", 1), 19),
        (("array", 1, "service", 0, "name"), 22),
    ],
)
def test_each_key_is_found_on_its_line(path: Path, line: int) -> None:
    assert key_lines(SITE)[path] == line


def test_what_has_no_line_has_its_parents() -> None:
    lines = key_lines(SITE)
    assert line_of(lines, ("array", 1, "site")) == 19
    assert line_of(lines, ("nothing",)) == 0


def paths(value: Any, path: Path = ()) -> set[Path]:
    """Every path of a parsed document."""
    found = {path} if path else set()
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, element in inner:
        found |= paths(element, (*path, key))
    return found


def test_every_path_that_the_parser_sees_has_a_line() -> None:
    assert paths(tomllib.loads(SITE)) == set(key_lines(SITE))


KEYS = st.text(st.characters(codec="ascii"), max_size=6)
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-9, 9), st.text(st.characters(exclude_categories=["C"]), max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


def quoted(text: str) -> str:
    """A TOML string."""
    return '"' + "".join(f"\\u{ord(c):04x}" if c in '"\\' or not c.isprintable() else c for c in text) + '"'


def toml(value: Any) -> str:
    """A TOML value, lists over several lines."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[\n" + "".join(f"{toml(element)}, # ]\n" for element in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(element)}" for key, element in value.items()) + "}"
    return str(value)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_no_document_is_read_otherwise_than_by_the_parser(document: dict[str, Any]) -> None:
    text = "".join(f"{quoted(key)} = {toml(value)}\n" for key, value in document.items())
    assert paths(tomllib.loads(text)) == set(key_lines(text))


@given(st.text(st.sampled_from("[]{}=,.\"'#\n ab1\\"), max_size=60))
def test_no_text_makes_the_scanner_raise_or_hang(text: str) -> None:
    assert isinstance(key_lines(text), dict)


def test_absurd_nesting_costs_only_the_lines_behind_it() -> None:
    text = f"first = 1\ndeep = {'[' * 40}{']' * 40}\n"
    lines = key_lines(text)
    assert lines["first",] == 1
    assert line_of(lines, ("deep", 0, 0)) == 2
