"""Works out what was read: variables, operators, pipelines. What a cmdlet may see of the outside, others bring.

Departures from PowerShell, each for safety: a variable that was never set is an error and not $null (a mistyped
``-Identity $nmae`` must not mean all objects); all objects of a pipeline reach a cmdlet together; a property that no
object has is $null as there, but is warned of.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from casarray.core.errors import CasarrayError, Denied
from casarray.core.shell.binding import Asking, Call, Word
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Record, ScriptBlock, Value
from casarray.core.shell.methods import METHODS
from casarray.core.shell.operators import binary, bounded, joined
from casarray.core.shell.registry import Registry, did_you_mean, or_list
from casarray.core.shell.syntax import (
    Access,
    Assignment,
    Block,
    Chain,
    Command,
    Expandable,
    Expression,
    Group,
    HashLiteral,
    Index,
    ListOf,
    Literal,
    Member,
    Named,
    Pipeline,
    Positional,
    Splat,
    Statement,
    Unary,
    Variable,
)
from casarray.core.shell.syntax import Word as Typed
from casarray.core.shell.trouble import LIMITS, Limits, Place, ShellError
from casarray.core.shell.values import collapse, is_array, items, number, part, property_names, text_of, truth
from casarray.core.shell.variables import Variables

_LONGEST_LINE = 2000  # of what is told to the audit trail


class Surroundings(Protocol):
    """What the language needs of the shell around it."""

    def host(self, call: Call, line: str) -> Host:
        """Whom a cmdlet talks to during this call."""

    def asking(self, cmdlet: Cmdlet) -> Asking:
        """How to get what was not typed behind it."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    def report(self, error: ShellError) -> None:
        """Show an error after which the script goes on."""


class Interpreter:
    """Runs statements, one after another, over one set of variables."""

    def __init__(self, registry: Registry, around: Surroundings, limits: Limits = LIMITS) -> None:
        """Nothing is shared between two of them."""
        self.registry = registry
        self.variables = Variables()
        self._around = around
        self._limits = limits
        self._steps = 0
        self._calls = 0
        self._line = ""
        self._warned: set[str] = set()

    def run(self, statement: Statement) -> Sequence[Value]:
        """What a statement gives. Raises `ShellError`, for whatever reason."""
        self._steps, self._calls, self._line = 0, 0, statement.text[:_LONGEST_LINE]
        self._warned.clear()
        self.variables.forget_current()
        try:
            return self._statement(statement)
        except RecursionError:
            raise ShellError("this is nested too deeply; keep a part of it in a variable", statement.place) from None

    def _statement(self, statement: Statement) -> Sequence[Value]:
        if isinstance(statement, Pipeline):
            return self._pipeline(statement)
        value = self._assigned(statement)
        if statement.operator == "+=":
            before = self.variables.get(statement.name, statement.place)
            value = value if before is None else binary("+", before, value, statement.place, self._limits)
        self.variables.set(statement.name, value, statement.place)
        return ()

    def _assigned(self, statement: Assignment) -> Value:
        if isinstance(statement.value, Assignment):
            self._statement(statement.value)
            return self.variables.get(statement.value.name, statement.place)
        return self._whole((statement.value,))

    def _statements(self, statements: Sequence[Statement]) -> Sequence[Value]:
        found: list[Value] = []
        for statement in statements:
            found.extend(self._statement(statement))
            self._count(len(found), statement.place)
        return found

    def _whole(self, statements: Sequence[Statement]) -> Value:
        """Their outcome as one value; that of a lone expression is left as it is."""
        if len(statements) == 1:
            only = statements[0]
            if isinstance(only, Pipeline) and len(only.elements) == 1 and not isinstance(only.elements[0], Command):
                return self.value(only.elements[0])
        return collapse(self._statements(statements))

    def _count(self, number_of_items: int, place: Place) -> None:
        if number_of_items > self._limits.items:
            raise ShellError(f"this gives more than {self._limits.items:,} objects; ask for fewer", place)

    def _tick(self, place: Place, steps: int = 1) -> None:
        self._steps += steps
        if self._steps > self._limits.steps:
            raise ShellError(f"this takes more than {self._limits.steps:,} steps; do it in parts", place)

    # Pipelines and commands

    def _pipeline(self, pipeline: Pipeline) -> Sequence[Value]:
        found: Sequence[Value] | None = None
        for element in pipeline.elements:
            found = self._command(element, found) if isinstance(element, Command) else items(self.value(element))
            self._count(len(found), pipeline.place)
        return found or ()

    def _command(self, command: Command, inputs: Sequence[Value] | None) -> Sequence[Value]:
        name = self.value(command.name)
        if isinstance(name, ScriptBlock):
            return [found for item in (inputs or (None,)) for found in name.call(item)]
        cmdlet = self.registry.find(text_of(name))
        if cmdlet is None:
            raise ShellError(self._unknown(text_of(name)), command.place)
        words = [word for argument in command.arguments for word in self._words(argument)]
        self._tick(command.place, 10 + len(inputs or ()))
        try:
            call = Call.of(cmdlet, words, command.place, self._around.asking(cmdlet))
            bounds = [] if call.wants_help else call.bounds(inputs)
        except Denied as error:  # there is nobody to ask
            raise ShellError(f"{cmdlet.name}: {error}", command.place) from error
        if call.wants_help:
            return self._help(call)
        found = self._called(call, bounds)
        if name := call.common.out_variable:
            self.variables.set(name.removeprefix("+"), tuple(found), command.place)
        return found

    def _called(self, call: Call, bounds: Sequence[Bound]) -> Sequence[Value]:
        found: list[Value] = []
        try:
            for value in call.cmdlet.run(bounds, self._around.host(call, self._line)):
                found.append(value)
                if len(found) > self._limits.items:
                    self._count(len(found), call.place)
        except CasarrayError as error:
            trouble = error if isinstance(error, ShellError) else self._blamed(call, error)
            if name := call.common.error_variable:
                self.variables.set(name, trouble.text, call.place)
            action = call.common.error_action or text_of(self.variables.peek("ErrorActionPreference"))
            if action.casefold() in ("silentlycontinue", "ignore"):
                return ()
            if action.casefold() == "continue":
                self._around.report(trouble)
                return ()
            raise trouble from (None if trouble is error else error)
        return found

    def _blamed(self, call: Call, error: CasarrayError) -> ShellError:
        return ShellError(f"{call.cmdlet.name}: {error}", call.place)

    def _help(self, call: Call) -> Sequence[Value]:
        helper = self.registry.find("Get-Help")
        if helper is None:
            return ()
        return tuple(helper.run([Bound({"Name": call.cmdlet.name})], self._around.host(call, self._line)))

    def _unknown(self, name: str) -> str:
        if name.casefold().endswith(".ps1"):
            return f'there is no script "{name[:80]}" here; those of your own are run by casarray shell -f FILE'
        near = self.registry.near(name)
        offer = f"did you mean {or_list(near)}?" if near else "Get-Command lists all there are"
        return f'there is no cmdlet "{name[:80]}"; {offer}'

    def _words(self, argument: Named | Positional | Splat) -> list[Word]:
        if isinstance(argument, Splat):
            value = self.variables.get(argument.name, argument.place)
            if isinstance(value, Mapping):
                return [Word(argument.place, str(name), held, True) for name, held in value.items()]
            return [Word(argument.place, None, item, True) for item in items(value)]
        if isinstance(argument, Named):
            value = None if argument.value is None else self.value(argument.value)
            return [Word(argument.place, argument.name, value, argument.value is not None)]
        return [Word(argument.place, None, self.value(argument.value), True)]

    # Values

    def value(self, node: Expression) -> Value:
        """What an expression is worth."""
        self._tick(node.place)
        return _WAYS[type(node)](self, node)

    def _literal(self, node: Literal) -> Value:
        return node.value

    def _expandable(self, node: Expandable) -> Value:
        texts = [part if isinstance(part, str) else text_of(self.value(part)) for part in node.parts]
        whole = bounded(joined(texts, "", node.place, self._limits), node.place, self._limits)
        self._tick(node.place, len(whole) >> 8)
        return Typed(whole) if node.bare else whole

    def _variable(self, node: Variable) -> Value:
        return self.variables.get(node.name, node.place)

    def _list(self, node: ListOf) -> Value:
        return tuple(self.value(item) for item in node.items)

    def _group(self, node: Group) -> Value:
        value = self._whole(node.statements)
        if node.array:
            return tuple(items(value))
        return value

    def _hashtable(self, node: HashLiteral) -> Value:
        found: dict[str, Value] = {}
        known: set[str] = set()
        for key, statements in node.pairs:
            name = text_of(self.value(key))
            if name.casefold() in known:
                raise ShellError(f'the key "{name[:60]}" stands in this hashtable twice', key.place)
            known.add(name.casefold())
            found[name] = self._whole(statements)
        return found

    def _block(self, node: Block) -> Value:
        return ScriptBlock(node.text, self._caller(node))

    def _caller(self, node: Block) -> Callable[[Value], Sequence[Value]]:
        def call(current: Value) -> Sequence[Value]:
            self._calls += 1
            self._tick(node.place)
            if self._calls > self._limits.calls:
                raise ShellError(f"script blocks call each other more than {self._limits.calls} deep", node.place)
            try:
                with self.variables.current(current):
                    return self._statements(node.statements)
            finally:
                self._calls -= 1

        return call

    def _chain(self, node: Chain) -> Value:
        value = self.value(node.first)
        for operator, operand, place in node.rest:
            if operator in ("and", "or") and truth(value) == (operator == "or"):
                value = operator == "or"  # what stands on the right is not looked at
                continue
            self._tick(place, 1 + (len(value) if is_array(value) else 0))
            value = binary(operator, value, self.value(operand), place, self._limits)
            self._tick(place, len(value) >> 8 if isinstance(value, str) else 0)
        return value

    def _unary(self, node: Unary) -> Value:
        value = self.value(node.operand)
        for operator in reversed(node.operators):
            if operator == "not":
                value = not truth(value)
            elif operator == "join":
                value = joined(value, "", node.place, self._limits)
            elif operator == "split":
                value = tuple(text_of(value).split())
            else:
                value = binary(operator, 0, value, node.place, self._limits)
        return value

    def _access(self, node: Access) -> Value:
        value = self.value(node.base)
        for step in node.steps:
            if isinstance(step, Index):
                value = self._indexed(value, self.value(step.index), step.place)
            else:
                name = step.name if isinstance(step.name, str) else text_of(self.value(step.name))
                value = self._member(value, name, step)
        return value

    def _member(self, value: Value, name: str, step: Member) -> Value:
        if step.arguments is not None:
            return self._method(value, name, step)
        there, found = part(value, name)
        if there or not is_array(value):
            if not there and isinstance(value, Record):
                self.missing(value, name)
            return found
        each: list[Value] = []
        self._tick(step.place, len(value))
        for item in value:
            there, found = part(item, name)
            if there and found is not None:
                each.extend(items(found))
            elif not there and isinstance(item, Record):
                self.missing(item, name)
        self._count(len(each), step.place)
        return collapse(each)

    def missing(self, value: Record, name: str) -> None:
        """Warn, once for a statement, of a property that is not there."""
        known = property_names(value)
        if name not in self._warned:
            self._warned.add(name)
            self._around.warn(f'{value.type_name} has no property "{name[:60]}"{did_you_mean(name, known)}')

    def _method(self, value: Value, name: str, step: Member) -> Value:
        method = METHODS.get(name.casefold())
        if method is None:
            raise ShellError(f'there is no method "{name[:60]}" here; there are {", ".join(_SHOWN)}', step.place)
        arguments = [text_of(self.value(argument)) for argument in step.arguments or ()]
        if len(arguments) != method.arguments:
            raise ShellError(f"{method.name}() takes {method.arguments or 'no'} values", step.place)
        if is_array(value):
            return tuple(method.run(text_of(item), arguments) for item in value)
        return method.run(text_of(value), arguments)

    def _indexed(self, value: Value, index: Value, place: Place) -> Value:
        if is_array(index):
            return tuple(self._indexed(value, item, place) for item in index)
        if isinstance(value, Mapping | Record):
            return part(value, text_of(index))[1]
        at = number(index)
        if at is None or not abs(at) < 1 << 62:
            raise ShellError(f'"{text_of(index)[:60]}" is no place in an array; the first is [0]', place)
        if value is None:
            raise ShellError("$null has no items", place)
        held: Any = value if isinstance(value, str) or is_array(value) else (value,)
        found: Value = held[int(at)] if -len(held) <= int(at) < len(held) else None
        return found


_SHOWN = [f"{method.name}()" for method in METHODS.values()]
_WAYS: Mapping[type, Callable[[Interpreter, Any], Value]] = {
    Literal: Interpreter._literal,
    Expandable: Interpreter._expandable,
    Variable: Interpreter._variable,
    ListOf: Interpreter._list,
    Group: Interpreter._group,
    HashLiteral: Interpreter._hashtable,
    Block: Interpreter._block,
    Access: Interpreter._access,
    Unary: Interpreter._unary,
    Chain: Interpreter._chain,
}
