"""Reads whole scripts: statements, pipelines, commands and their parameters. Nothing is worked out here."""

import re

from casarray.core.shell.expressions import ExpressionReader, number_of
from casarray.core.shell.reader import DASH, DOUBLE, SINGLE, SPACE
from casarray.core.shell.registry import DASHES
from casarray.core.shell.strings import WORD_END
from casarray.core.shell.syntax import (
    Argument,
    Assignment,
    Command,
    Expression,
    ListOf,
    Literal,
    Named,
    Pipeline,
    Positional,
    Splat,
    Statement,
)
from casarray.core.shell.trouble import LIMITS, Limits, Place, ShellError

_KEYWORDS = frozenset((
    "if", "else", "elseif", "while", "do", "for", "foreach", "switch", "function", "filter", "param", "try", "catch",
    "finally", "trap", "return", "break", "continue", "throw", "begin", "process", "end", "class", "using", "data",
))  # fmt: skip
_ASSIGNMENT = re.compile(rf"\$\w+(?::\w+)?[{SPACE}]*(\+|{DASH}|\*|/)?=(?!=)")
_PARAMETER = re.compile(rf"{DASH}([A-Za-z_?][^{SPACE}\n{SINGLE}{DOUBLE}`$<>{{}}();,|&.\[:]*)(:?)")
_SPLAT = re.compile(r"@(\w+)")
_LEADING_WORD = re.compile(rf"[^{SPACE}\n`{SINGLE}{DOUBLE}$;|&(){{}},<>=]+")
_UNARY_WORD = re.compile(rf"{DASH}(?:not|join|split)\b|{DASH}(?![A-Za-z_?])", re.IGNORECASE)
_REDIRECTION = re.compile(r"[0-9*]?>{1,2}(?:&[0-9])?|<")


def parse(text: str, limits: Limits = LIMITS) -> tuple[Statement, ...]:
    """The statements of a script. Raises `ShellError` for whatever is none."""
    try:
        return Parser(text, limits).script()
    except RecursionError:  # whoever calls us was deep down already
        raise ShellError("brackets are nested too deeply; put a part of it into a variable first", Place()) from None


def unfinished(text: str) -> bool:
    """Whether a prompt should ask for another line: a bracket or quote is open, or a bar or backtick is the end."""
    if text.rstrip(" \t").endswith("`"):
        return True
    try:
        parse(text)
    except ShellError as error:
        return error.unfinished
    return False


class Parser(ExpressionReader):
    """The whole of it."""

    def script(self) -> tuple[Statement, ...]:
        """All statements up to the end."""
        found = self.statements("")
        if self.at < len(self.text):
            self.fail(f'this "{self.peek()}" closes nothing; take it away, or open it before')
        return found

    def statements(self, closing: str) -> tuple[Statement, ...]:
        """Statements up to, and not with, the closing bracket; at the end without one."""
        found: list[Statement] = []
        while True:
            self._separators()
            here = self.peek()
            if not here or here in ")}":
                return tuple(found)
            found.append(self.statement())
            self.blanks()
            here = self.peek()
            if here and here not in f";\n{closing}" and here not in ")}":
                self._unexpected(here)

    def _unexpected(self, here: str) -> None:
        if self.peek(2) in ("&&", "||"):
            self.fail(f'"{self.peek(2)}" is not known here; write ";", or each command on its own line')
        if here == "&":
            self.fail('"&" is not known here; put it into quotes if it belongs to a value')
        if found := self.match(_REDIRECTION):
            self.fail(
                f'"{found[0]}" is not known here; write the output of the whole shell into a file: casarray shell -c '
                "'...' > file", found.start())  # fmt: skip
        if here == "=":
            self.fail("only variables can be assigned: $name = ...; an object is changed by its Set- cmdlet")
        self.fail(f'"{here}" cannot stand here; begin a new statement with ";" or a new line')

    def statement(self) -> Statement:
        """An assignment or a pipeline."""
        start = self.at
        found = self.match(_ASSIGNMENT)
        self.at = start
        variable = self.variable() if found else None
        if found is None or variable is None:
            return self._pipeline()
        self.at = found.end()
        if found[1] not in (None, "+"):
            self.fail(f'"{found[1]}=" is not known here; write ${variable.name} = ${variable.name} {found[1]} ...')
        self.lines()
        with self.nested():
            value = self.statement()
        operator = f"{found[1] or ''}="
        return Assignment(variable.name, operator, value, self.text[start : self.at], self.place(start))

    def _pipeline(self) -> Pipeline:
        start = self.at
        elements: list[Command | Expression] = []
        while True:
            element = self._element(first=not elements)
            elements.append(element)
            self.blanks()
            while self.peek() == "\n" and self.continued():
                if self.peek() != "|":
                    self.fail("a statement cannot begin with a parameter; write it behind its command")
            if self.peek() != "|" or self.peek(2) == "||":
                break
            self.at += 1
            self.lines()
            if not self.peek():
                self.fail("a command is missing after the last |", self.at - 1, unfinished=True)
        return Pipeline(tuple(elements), self.text[start : self.at].rstrip(), self.place(start))

    def _element(self, *, first: bool) -> Command | Expression:
        here = self.peek()
        if here == "&" and self.peek(2) != "&&":
            self.at += 1
            self.blanks()
            return self._command()
        if here == "." and self.text[self.at + 1 : self.at + 2] in tuple(SPACE):  # dot-sourcing
            self.at += 1
            self.blanks()
            return self._command()
        if self._starts_value(here):
            if not first:
                self.fail('after "|" comes a command; put work with each object into ForEach-Object { ... }')
            return self.expression()
        return self._command()

    def _starts_value(self, here: str) -> bool:
        """Whether a statement begins with a value instead of a command's name."""
        if here and here in f"$({{![{SINGLE}{DOUBLE},":
            return True
        if here in {"@", "+"}:
            return True
        if here and here in DASHES:
            if not self.sees(_UNARY_WORD):
                self.fail(
                    "a statement cannot begin with a parameter; write it behind its command, or end the line before "
                    "with a backtick")  # fmt: skip
            return True
        word = _LEADING_WORD.match(self.text, self.at)
        return word is not None and (number_of(word[0]) is not None or bool(re.match(r"\d+\.\.|\d+[*/+]\d", word[0])))

    def _command(self) -> Command:
        start = self.at
        name = self._command_name()
        arguments: list[Argument] = []
        while True:
            self.blanks()
            here = self.peek()
            if here == "\n":
                mark = self.at
                if self.continued() and self.peek() != "|":
                    continue
                self.at = mark
                break
            if not here or here in ";|)}":
                break
            arguments.append(self._argument())
        return Command(name, tuple(arguments), self.place(start))

    def _command_name(self) -> Expression:
        start = self.at
        here = self.peek()
        if not here or here in ";|)}\n&<>,":
            found = "here" if not here or here == "\n" else f'before "{here}"'
            self.fail(f"a command is missing {found}", unfinished=not here)
        if here in f"$({SINGLE}{DOUBLE}{{":
            value = self.opened()
            assert value is not None
            return value
        name = self.bare_word([], start)
        text = str(name.value).casefold() if isinstance(name, Literal) else ""
        if text in _KEYWORDS and (text != "foreach" or not self._is_alias()):
            self.fail(
                f'"{text}" is not known here: there is no programming in this shell but Where-Object {{ ... }} and '
                "ForEach-Object { ... }", start)  # fmt: skip
        if self.sees(re.compile(rf"[{SPACE}]*=(?!=)")):
            self.fail(f"to assign, write ${text or 'name'} = ...", start)
        return name

    def _is_alias(self) -> bool:
        """`foreach` with a block or a name is ForEach-Object, with a bracket the loop of the language."""
        return not self.sees(re.compile(rf"[{SPACE}]*\("))

    def _argument(self) -> Argument:
        start, place = self.at, self.place()
        found = self.match(_PARAMETER)
        if found:
            value = None
            if found[2]:
                self.blanks()
                if self.sees(WORD_END) and self.peek() not in tuple("({"):
                    self.fail(f"a value is missing after -{found[1]}:", unfinished=self.at >= len(self.text))
                value = self._values()
            return Named(found[1], value, place)
        if self.peek() == "@" and (splat := self.match(_SPLAT)):
            return Splat(splat[1], place)
        if self.peek() in tuple("<>&"):
            self._unexpected(self.peek())
        if self.peek(2) in (">>", "2>", "1>", "*>"):
            self.at = start
            self._unexpected(self.peek())
        return Positional(self._values(), place)

    def _values(self) -> Expression:
        """A value, or several with commas between them."""
        start = self.at
        items = [self._value()]
        while True:
            mark = self.at
            self.blanks()
            if not self.take(","):
                self.at = mark
                break
            self.lines()
            items.append(self._value())
        return ListOf(tuple(items), self.place(start)) if len(items) > 1 else items[0]

    def _value(self) -> Expression:
        """One word behind a command."""
        start, here = self.at, self.peek()
        if not here or here in ";|)}&<>,\n":
            self.fail("a value is missing here", unfinished=not here)
        value = self.opened() if here != "$" or self.peek(2) == "$(" else self.variable()
        if value is None:
            return self.bare_word([], start)
        quoted = here in SINGLE + DOUBLE
        value = self.postfix(value)
        if quoted or here in "({@" or self.sees(WORD_END):
            return value
        return self.bare_word([value], start)  # $server\share
