"""Reads quoted strings, here-strings and bare words, with the variables and subexpressions in them."""

import re
from abc import abstractmethod

from casarray.core.shell.reader import DOUBLE, SINGLE, SPACE, Reader
from casarray.core.shell.syntax import (
    Block,
    Expandable,
    Expression,
    Group,
    Literal,
    Statement,
    Variable,
    Word,
)

ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SINGLE_PART = re.compile(f"[^{SINGLE}]+")
_DOUBLE_PART = re.compile(rf"[^{DOUBLE}`$]+")
_HERE_START = re.compile(rf"[{SPACE}]*\n")
_NAME = re.compile(
    r"\$(?:\{([^}\n]{1,200})\}|((?:(?:global|script|local|private|env|variable):)?\w{1,200}|[?^$]))", re.I
)
_WORD_PART = re.compile(rf"[^{SPACE}\n`{SINGLE}{DOUBLE}$;|&(){{}},<>]+")
WORD_END = re.compile(rf"[{SPACE}\n;|&(){{}},<>]|\Z")


class StringReader(Reader):
    """The part of the parser that reads text."""

    @abstractmethod
    def statements(self, closing: str) -> tuple[Statement, ...]:
        """Read statements up to, and not with, the closing bracket."""

    def group(self, opening: str, *, array: bool = False) -> Group:
        """``( ... )`` and its relatives, from the opening bracket to the closing one."""
        start = self.at
        self.at += len(opening)
        with self.nested():
            inner = self.statements(")")
            self.close(")", start)
        return Group(inner, array, self.place(start))

    def block(self) -> Block:
        """``{ ... }``."""
        start = self.at
        self.at += 1
        with self.nested():
            inner = self.statements("}")
            self.close("}", start)
        return Block(inner, self.text[start : self.at], self.place(start))

    def variable(self) -> Variable | None:
        """``$name`` or ``${name}``, if one stands here; a dollar sign alone is a character."""
        start = self.at
        found = self.match(_NAME)
        if found is None:
            return None
        name = found[1] or found[2]
        scope, _, rest = name.rpartition(":")
        if scope.lower() in ("env", "variable"):
            self.fail(f'there is no "${scope}:" here; write the value itself, or assign it to a variable first', start)
        return Variable(rest if scope else name, self.place(start))

    def single_quoted(self) -> str:
        """``'...'``, in which a doubled quote is one and all else is itself."""
        start = self.at
        self.at += 1
        parts = []
        while True:
            if found := self.match(_SINGLE_PART):
                parts.append(found[0])
            if self.at >= len(self.text):
                self.fail("this quote is never closed; end the string with '", start, unfinished=True)
            if self.peek(2)[1:] in tuple(SINGLE):
                parts.append("'")
                self.at += 2
                continue
            self.at += 1
            return "".join(parts)

    def double_quoted(self) -> Expandable | Literal:
        """``"..."``, in which variables, subexpressions and backticks count."""
        start = self.at
        self.at += 1
        parts: list[str | Expression] = []
        while True:
            if found := self.match(_DOUBLE_PART):
                parts.append(found[0])
            mark = self.peek()
            if not mark:
                self.fail('this quote is never closed; end the string with "', start, unfinished=True)
            if mark in DOUBLE:
                if self.peek(2)[1:] not in tuple(DOUBLE):
                    self.at += 1
                    return self.expandable(parts, start, bare=False)
                parts.append('"')
                self.at += 2
            else:
                self.special(parts)

    def special(self, parts: list[str | Expression]) -> None:
        """A backtick or a dollar sign in a string or word."""
        if self.peek() == "`":
            following = self.peek(2)[1:]
            self.at += 1 + len(following)
            parts.append(ESCAPES.get(following, following))
        elif self.peek(2) == "$(":
            parts.append(self.group("$("))
        elif variable := self.variable():
            parts.append(variable)
        else:
            self.at += 1
            parts.append("$")

    def here_string(self) -> Expandable | Literal:
        """``@"`` or ``@'`` at the end of a line, up to its partner at the beginning of one."""
        start = self.at
        quotes = SINGLE if self.peek(2)[1] in SINGLE else DOUBLE
        self.at += 2
        if not self.match(_HERE_START):
            self.fail("a here-string begins on the line after its @ and quote", start)
        self.at -= 1  # an empty one is closed by the line end that opened it
        end = re.compile(rf"\n[{quotes}]@").search(self.text, self.at)
        if end is None:
            self.fail(f"this here-string is never closed; end it with {quotes[0]}@ on a line of its own", start,
                      unfinished=True)  # fmt: skip
        first, last = self.at + 1, end.start()
        if quotes is SINGLE:
            self.at = end.end()
            return Literal(self.text[first : max(first, last)], self.place(start))
        parts: list[str | Expression] = []
        self.at = min(first, last)
        while self.at < last:
            if found := re.compile(r"[^`$]+").match(self.text, self.at, last):
                parts.append(found[0])
                self.at = found.end()
            else:
                self.special(parts)
        self.at = end.end()
        return self.expandable(parts, start, bare=False)

    def bare_word(self, parts: list[str | Expression], start: int) -> Expandable | Literal:
        """A word without quotes around it, up to a blank or a character with a meaning."""
        while not self.sees(WORD_END):
            if found := self.match(_WORD_PART):
                parts.append(found[0])
            elif self.peek() in SINGLE:
                parts.append(self.single_quoted())
            elif self.peek() in DOUBLE:
                inner = self.double_quoted()
                parts.extend(inner.parts if isinstance(inner, Expandable) else (str(inner.value),))
            else:
                self.special(parts)
        return self.expandable(parts, start, bare=True)

    def expandable(self, parts: list[str | Expression], start: int, *, bare: bool) -> Expandable | Literal:
        """One node of these parts: a plain string if nothing in it is replaced."""
        place = self.place(start)
        if all(isinstance(part, str) for part in parts):
            text = "".join(str(part) for part in parts)
            return Literal(Word(text) if bare else text, place)
        return Expandable(tuple(parts), bare, place)
