"""Reads expressions: what stands in brackets, after ``=``, and wherever a line does not begin with a command's name."""

import re

from casarray.core.shell.reader import DASH, DOUBLE, SINGLE, SPACE
from casarray.core.shell.strings import StringReader
from casarray.core.shell.syntax import (
    Access,
    Chain,
    Expression,
    HashLiteral,
    Index,
    ListOf,
    Literal,
    Member,
    Statement,
    Unary,
)
from casarray.core.shell.trouble import Place

_COMPARISONS = (
    "eq", "ne", "gt", "ge", "lt", "le", "like", "notlike", "match", "notmatch", "contains", "notcontains", "in",
    "notin", "replace", "join", "split",
)  # fmt: skip
# Each level binds tighter than the one before it.
LEVELS: tuple[frozenset[str], ...] = (
    frozenset(("and", "or", "xor")),
    frozenset((*_COMPARISONS, *(f"{case}{name}" for case in "ic" for name in _COMPARISONS if name != "join"))),
    frozenset("+-"),
    frozenset("*/%"),
    frozenset(("f",)),
    frozenset(("..",)),
)
_UNARY = ("not", "join", "split")
_WORD_OPERATOR = re.compile(rf"{DASH}([A-Za-z]+)(?![\w-])")
_SYMBOL = re.compile(rf"\.\.|[*/%+]|{DASH}(?![A-Za-z])")
_NUMBER = re.compile(
    r"(0x[0-9a-f]{1,16}|(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})(?:e[+-]?\d{1,4})?)(kb|mb|gb|tb)?"
    rf"(?=[{SPACE}\n;|&(){{}}\[\],=*/%+<>]|\.\.|\.[A-Za-z]|{DASH}|\Z)",
    re.IGNORECASE,
)
_UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_MEMBER = re.compile(r"\.(?=[A-Za-z_$'\"(])")
_MEMBER_NAME = re.compile(r"[A-Za-z_]\w*")
_KEY = re.compile(r"[\w-]+")


def number_of(text: str) -> int | float | None:
    """The number that a word is: ``12``, ``0x1F``, ``1.5``, ``10MB``; None when it is none."""
    found = _NUMBER.match(text.removeprefix("-"))
    if found is None or found.end() < len(text.removeprefix("-")):
        return None
    value = _value(found)
    return -value if text.startswith("-") else value


def _value(found: re.Match[str]) -> int | float:
    digits = found[1].lower()
    unit = _UNITS[found[2].lower()] if found[2] else 1
    if digits.startswith("0x"):
        return int(digits, 16) * unit
    return int(digits) * unit if digits.isdigit() else float(digits) * unit


class ExpressionReader(StringReader):
    """The part of the parser that reads expressions."""

    def expression(self, level: int = 0) -> Expression:
        """Operands and operators of this level and all that bind tighter."""
        if level == len(LEVELS):
            return self._unary()
        start = self.at
        first = self.expression(level + 1)
        rest: list[tuple[str, Expression, Place]] = []
        while True:
            self.blanks()
            place = self.place()
            operator = self._operator(LEVELS[level])
            if operator is None:
                return Chain(first, tuple(rest), self.place(start)) if rest else first
            self.lines()
            rest.append((operator, self.expression(level + 1), place))

    def _operator(self, wanted: frozenset[str]) -> str | None:
        """One of these operators, if it comes next."""
        start = self.at
        if found := self.match(_WORD_OPERATOR):
            name = found[1].lower()
            if name in wanted:
                return name
            if not any(name in level for level in LEVELS):
                self.fail(f'there is no operator "-{found[1]}"{_offer(name)}', start)
        elif found := self.match(_SYMBOL):
            symbol = found[0] if found[0] in ("..", *"*/%+") else "-"
            if symbol in wanted:
                return symbol
        self.at = start
        return None

    def _unary(self) -> Expression:
        """Operators before an operand."""
        start = self.at
        operators: list[str] = []
        while True:
            self.blanks()
            found = self.match(_WORD_OPERATOR)
            if found and found[1].lower() in _UNARY:
                operators.append(found[1].lower())
            elif found:
                self.at = found.start()
                break
            elif self.take("!"):
                operators.append("not")
            elif found := self.match(re.compile(rf"[+]|{DASH}(?![A-Za-z])")):
                operators.append("+" if found[0] == "+" else "-")
            else:
                break
            self.lines()
        operand = self._list()
        return Unary(tuple(operators), operand, self.place(start)) if operators else operand

    def _list(self) -> Expression:
        """``a, b, c``; a comma before the first makes a list of one."""
        start = self.at
        alone = self.take(",")
        if alone:
            self.lines()
        items = [self.postfix(self._primary())]
        while True:
            self.blanks()
            if not self.take(","):
                break
            self.lines()
            items.append(self.postfix(self._primary()))
        return ListOf(tuple(items), self.place(start)) if alone or len(items) > 1 else items[0]

    def _primary(self) -> Expression:
        """One operand."""
        start = self.at
        if found := self.match(_NUMBER):
            return Literal(_value(found), self.place(start))
        if value := self.opened():
            return value
        here = self.peek()
        if not here or here in ";|)}\n":
            self.fail("a value is missing here; write a number, a quoted string, a $variable or ( ... )", start,
                      unfinished=not here)  # fmt: skip
        if here == "[":
            self.fail("types like [string] are not known here; write the value without it", start)
        word = re.compile(rf"[^{SPACE}\n;|&(){{}},]{{1,60}}").match(self.text, start)
        shown = word[0] if word else here
        return self.fail(f'"{shown}" is not a value; put text in quotes, and a command in ( )', start)

    def opened(self) -> Expression | None:
        """What begins with a quote, a dollar sign, an at sign or a bracket; None if none of these stands here."""
        start, here, two = self.at, self.peek(), self.peek(2)
        value: Expression | None = None
        if here and here in SINGLE:
            value = Literal(self.single_quoted(), self.place(start))
        elif here and here in DOUBLE:
            value = self.double_quoted()
        elif two == "$(":
            value = self.group("$(")
        elif here == "$":
            value = self.variable()
            if value is None:
                self.fail('a name is missing after "$"; write $name, or put the text into single quotes')
        elif here == "(":
            value = self.group("(")
        elif here == "{":
            value = self.block()
        elif two == "@(":
            value = self.group("@(", array=True)
        elif two == "@{":
            value = self._hashtable()
        elif len(two) == 2 and two[0] == "@" and two[1] in SINGLE + DOUBLE:
            value = self.here_string()
        return value

    def postfix(self, base: Expression) -> Expression:
        """The members and indices right behind a value."""
        steps: list[Member | Index] = []
        while True:
            start = self.at
            if self.match(_MEMBER):
                steps.append(self._member(start))
            elif self.peek() == "[":
                self.at += 1
                with self.nested():
                    self.lines()
                    index = self.expression()
                    self.close("]", start)
                steps.append(Index(index, self.place(start)))
            elif self.peek(2) == "::":
                self.fail('types and "::" are not known here')
            else:
                return Access(base, tuple(steps), base.place) if steps else base

    def _member(self, start: int) -> Member:
        name: str | Expression
        name = found[0] if (found := self.match(_MEMBER_NAME)) else self._primary()
        arguments = None
        if self.peek() == "(":
            opened = self.at
            self.at += 1
            with self.nested():
                arguments = self._arguments()
                self.close(")", opened)
        return Member(name, arguments, self.place(start + 1))

    def _arguments(self) -> tuple[Expression, ...]:
        """What stands in the brackets of a method."""
        self.lines()
        if self.peek() == ")":
            return ()
        found = self.expression()
        return found.items if isinstance(found, ListOf) else (found,)

    def _hashtable(self) -> HashLiteral:
        """``@{ Key = value; Other = value }``, with semicolons or line ends between the pairs."""
        start = self.at
        self.at += 2
        pairs: list[tuple[Expression, tuple[Statement, ...]]] = []
        with self.nested():
            while True:
                self._separators()
                if self.at >= len(self.text) or self.peek() == "}":
                    break
                key = self._key()
                self.blanks()
                if not self.take("="):
                    self.fail("a hashtable wants Key = value here", unfinished=self.at >= len(self.text))
                self.lines()
                pairs.append((key, (self.statement(),)))
                self.blanks()
                if self.peek() not in ("", ";", "\n", "}"):
                    self.fail('after a value of a hashtable comes ";", a new line, or "}"')
            self.close("}", start)
        return HashLiteral(tuple(pairs), self.place(start))

    def _key(self) -> Expression:
        start = self.at
        if found := self.match(_KEY):
            return Literal(found[0], self.place(start))
        return self.postfix(self._primary())

    def _separators(self) -> None:
        self.lines()
        while self.take(";"):
            self.lines()

    def statement(self) -> Statement:
        """Read one statement."""
        raise NotImplementedError


def _offer(name: str) -> str:
    from casarray.core.shell.registry import did_you_mean  # noqa: PLC0415 - only who mistypes waits for it

    known = [f"-{operator}" for level in LEVELS for operator in level if operator.isalpha()]
    return did_you_mean(f"-{name}", known)
