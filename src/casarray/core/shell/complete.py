"""What could be meant by what is typed so far: cmdlets, parameters, their choices, names of objects, variables.

A line that is being typed is seldom whole, so it is not parsed: the words of the command in which the cursor stands
are enough.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from casarray.core.shell.binding import common_parameters
from casarray.core.shell.cmdlet import Cmdlet, Parameter, ParameterKind
from casarray.core.shell.reader import DOUBLE, SINGLE, SPACE
from casarray.core.shell.registry import DASHES, Registry, plain

_TOKEN = re.compile(
    rf"'[^']*'?|\"(?:[^\"`]|`.)*\"?|#[^\n]*|[|;({{}})]|=|\n|[^{SPACE}\n|;({{}})='\"]+|[{SPACE}]+|.", re.DOTALL
)
_LONGEST = 20_000  # before the cursor; a longer line is completed by what stands at its end


@dataclass(frozen=True, slots=True)
class Completion:
    """One thing that could be meant."""

    text: str  # what stands there then
    start: int  # how many characters before the cursor it takes the place of, as a negative number
    meaning: str = ""


def complete(text: str, registry: Registry, names: Callable[[str], Sequence[str]]) -> list[Completion]:
    """What could stand at the end of this text. ``names`` gives the names of a kind of things."""
    words = _words(text[-_LONGEST:])
    typed = words.pop()
    if typed.startswith("$"):
        return _offers([f"${name}" for name in names("variable")], typed)
    if not words:
        return _cmdlets(registry, typed)
    cmdlet = registry.find(words[0])
    if cmdlet is None:
        return []
    if typed[:1] and typed[0] in DASHES:
        return _parameters(cmdlet, words, typed)
    return _values(cmdlet, words[1:], typed, names)


def _words(text: str) -> list[str]:
    """The words of the command at the end of the text; the last is what is being typed, perhaps nothing yet."""
    words: list[str] = []
    glued = False  # the next token goes on with the last word
    for token in _TOKEN.findall(text):
        if token in "|;({})=" or (token == "\n" and not _goes_on(text)):
            words, glued = [], False
        elif token == "\n" or token[0] in SPACE:
            glued = False
        elif token.startswith("#"):
            continue
        elif glued:
            words[-1] += token
        else:
            words.append(token)
            glued = True
    if not glued:
        words.append("")
    return words


def _goes_on(text: str) -> bool:
    """Whether the line being typed goes on with the command of the line before: it begins with a parameter."""
    last = text.rpartition("\n")[2].lstrip(SPACE)
    return bool(last[:1]) and last[0] in DASHES


def _offers(
    candidates: Iterable[str], typed: str, meanings: Callable[[str], str] = lambda _name: ""
) -> list[Completion]:
    wanted = plain(typed)
    return [Completion(name, -len(typed), meanings(name)) for name in candidates if plain(name).startswith(wanted)]


def _cmdlets(registry: Registry, typed: str) -> list[Completion]:
    meanings = {cmdlet.name: cmdlet.synopsis for cmdlet in registry.all()}
    return _offers(meanings, typed, lambda name: meanings[name])


def _parameters(cmdlet: Cmdlet, words: Sequence[str], typed: str) -> list[Completion]:
    given = {plain(word) for word in words[1:]}
    known = [p for p in (*cmdlet.parameters, *common_parameters(cmdlet)) if plain(f"-{p.name}") not in given]
    meanings = {f"-{parameter.name}": parameter.help for parameter in known}
    return _offers(meanings, typed, lambda name: meanings[name])


def _values(
    cmdlet: Cmdlet, words: Sequence[str], typed: str, names: Callable[[str], Sequence[str]]
) -> list[Completion]:
    parameter = _parameter_at(cmdlet, words)
    if parameter is None:
        return []
    quote = typed[0] if typed[:1] and typed[0] in SINGLE + DOUBLE else ""
    before, _, rest = typed[len(quote) :].rpartition(",")
    if parameter.choices:
        candidates: Sequence[str] = parameter.choices
    elif parameter.kind is ParameterKind.BOOLEAN:
        candidates = ("$true", "$false")
    else:
        candidates = names(parameter.completes) if parameter.completes else ()
    found = []
    for name in candidates:
        if plain(name).startswith(plain(rest)):
            whole = f"{before}," if before else ""
            found.append(Completion(whole + _quoted(name, quote), -len(typed)))
    return found


def _quoted(name: str, quote: str) -> str:
    if not quote and re.fullmatch(r"[\w.\\/:*@+-]+|\$true|\$false", name) and name[0] not in DASHES:
        return name
    return "'" + name.replace("'", "''") + "'"


def _parameter_at(cmdlet: Cmdlet, words: Sequence[str]) -> Parameter | None:
    """The parameter whose value is being typed: that of the name before, or the next one with a position."""
    known = (*cmdlet.parameters, *common_parameters(cmdlet))
    taken: set[str] = set()
    waiting: Parameter | None = None
    loose = 0
    for word in words:
        if word[0] in DASHES and len(word) > 1 and not word[1].isdigit():
            found = _named(known, word)
            taken.add(found.name if found else "")
            waiting = found if found is not None and found.kind is not ParameterKind.SWITCH else None
        elif waiting is not None:
            waiting = None
        else:
            loose += 1
    if waiting is not None:
        return waiting
    free = sorted(
        (p for p in cmdlet.parameters if p.position is not None and p.name not in taken), key=lambda p: p.position or 0
    )
    return free[loose] if loose < len(free) else None


def _named(known: Sequence[Parameter], word: str) -> Parameter | None:
    wanted = plain(word)[1:].partition(":")[0]
    exact = [p for p in known if wanted in (plain(p.name), *map(plain, p.aliases))]
    near = exact or [p for p in known if plain(p.name).startswith(wanted)]
    return near[0] if len(near) == 1 else None
