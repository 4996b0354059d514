"""The few methods of text that people use in script blocks: none of them makes a text longer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from casarray.core.shell.cmdlet import Value


@dataclass(frozen=True, slots=True)
class Method:
    """A method: how it is called, with how many values, and what it gives."""

    name: str
    arguments: int
    run: Callable[[str, Sequence[str]], Value]


_ALL = (
    Method("ToString", 0, lambda text, _: text),
    Method("ToLower", 0, lambda text, _: text.lower()),
    Method("ToUpper", 0, lambda text, _: text.upper()),
    Method("Trim", 0, lambda text, _: text.strip()),
    Method("StartsWith", 1, lambda text, given: text.startswith(given[0])),
    Method("EndsWith", 1, lambda text, given: text.endswith(given[0])),
    Method("Contains", 1, lambda text, given: given[0] in text),
    Method("Split", 1, lambda text, given: tuple(text.split(given[0])) if given[0] else (text,)),
)
METHODS: Mapping[str, Method] = {method.name.casefold(): method for method in _ALL}
