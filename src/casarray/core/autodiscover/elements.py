"""XML as far as Autodiscover needs it: elements, attributes and texts, read within bounds and without DTDs.

A document type declaration is refused as soon as it begins, so there are no entities to expand and none to fetch.
Texts are taken without the white space around them; elements that hold others have no text of their own here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Self
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from casarray.core.errors import WireError

MOST_DEPTH = 16
MOST_ELEMENTS = 2000  # an answer with every section has about a hundred
LONGEST_NAME = 512  # characters of a namespace and a name: each element holds them again, in what is read
ENCODINGS = frozenset({"utf-8", "utf-16", "us-ascii", "iso-8859-1"})

_SEPARATOR = "\n"  # stands in no namespace and in no name
_CARRIAGE_RETURN = {"\r": "&#13;"}  # written as it is, a reader would take it for a line feed


@dataclass(frozen=True, slots=True)
class Element:
    """An element: its namespace and name, attributes without a namespace, and either children or a text."""

    namespace: str
    name: str
    children: tuple["Element", ...] = ()
    text: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> Iterator[Self]:
        """The children of that name in this element's own namespace."""
        for child in self.children:
            if child.name == name and child.namespace == self.namespace:
                yield child  # type: ignore[misc]  # nobody derives from it

    def child(self, name: str) -> Self | None:
        """The first child of that name in this element's own namespace."""
        return next(self.all(name), None)

    def text_of(self, name: str) -> str:
        """The text of the first such child; empty if there is none."""
        found = self.child(name)
        return found.text if found else ""

    def attribute(self, name: str) -> str:
        """The attribute's value; empty if there is none."""
        return next((value for known, value in self.attributes if known == name), "")


def read_xml(data: bytes, limit: int) -> Element:
    """The root element. `WireError` of what is longer than ``limit`` octets, no XML, too deep, or has a DTD."""
    if len(data) > limit:
        raise WireError("oversize", f"an XML document of {len(data)} octets, and {limit} are read at most")
    return _Reading().read(data)


def write_xml(root: Element) -> bytes:
    """As UTF-8, with its declaration. What XML cannot hold (most control characters) becomes U+FFFD."""
    return ('<?xml version="1.0" encoding="utf-8"?>\n' + "".join(_written(root, "", ""))).encode()


@dataclass(slots=True)
class _Open:
    """An element whose end has not come yet."""

    namespace: str
    name: str
    attributes: tuple[tuple[str, str], ...]
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def closed(self) -> Element:
        text = "" if self.children else "".join(self.texts).strip(" \t\r\n")
        return Element(self.namespace, self.name, tuple(self.children), text, self.attributes)


class _Reading:
    """One document on its way through expat."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._root: Element | None = None
        self._elements = 0

    def read(self, data: bytes) -> Element:
        parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, ValueError, LookupError) as error:  # the latter: an encoding nobody knows
            raise WireError("malformed", f"this is no XML: {error}") from None
        if self._root is None:
            raise WireError("malformed", "this is no XML: there is no element")
        return self._root

    @staticmethod
    def _declaration(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ENCODINGS:
            raise WireError("malformed", f"XML in the encoding {encoding[:40]!r}; write UTF-8")

    @staticmethod
    def _doctype(*_what: object) -> NoReturn:
        raise WireError("forbidden", "XML with a document type declaration is not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MOST_ELEMENTS or len(self._open) >= MOST_DEPTH:
            raise WireError("oversize", f"XML of more than {MOST_ELEMENTS} elements, or {MOST_DEPTH} inside each other")
        if len(name) > LONGEST_NAME:
            raise WireError(
                "oversize", f"XML with an element whose name and namespace exceed {LONGEST_NAME} characters"
            )
        namespace, _, local = name.rpartition(_SEPARATOR)
        own = tuple((known, value) for known, value in attributes.items() if _SEPARATOR not in known)
        self._open.append(_Open(namespace, local, own))

    def _end(self, _name: str) -> None:
        element = self._open.pop().closed()
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element

    def _text(self, text: str) -> None:
        self._open[-1].texts.append(text)


def _written(element: Element, around: str, indent: str) -> Iterator[str]:
    """Each element on a line of its own; a namespace is declared where it differs from the one around."""
    yield f"{indent}<{element.name}"
    if element.namespace != around:
        yield f" xmlns={quoteattr(element.namespace)}"
    for name, value in element.attributes:
        yield f" {name}={quoteattr(_legal(value))}"
    if element.children:
        yield ">\n"
        for child in element.children:
            yield from _written(child, element.namespace, indent + "  ")
        yield f"{indent}</{element.name}>\n"
    elif element.text:
        yield f">{escape(_legal(element.text), _CARRIAGE_RETURN)}</{element.name}>\n"
    else:
        yield " />\n"


def _legal(text: str) -> str:
    """[XML] 2.2: the characters that a document may hold."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(letter if _is_legal(ord(letter)) else "\ufffd" for letter in text)


def _is_legal(code: int) -> bool:
    return code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
