"""Where something stands in what was typed, and the one error that the shell's language raises."""

from dataclasses import dataclass

from casarray.core.errors import CasarrayError


@dataclass(frozen=True, slots=True)
class Place:
    """A place in what was typed; both numbers count from one."""

    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        """As errors say it."""
        return f"line {self.line}, column {self.column}"


class ShellError(CasarrayError):
    """What was typed cannot be right, or what it asked for was refused: says where, and what would be right."""

    def __init__(self, text: str, place: Place, *, unfinished: bool = False) -> None:
        """``unfinished``: more lines could still make it right, so that a prompt goes on asking."""
        super().__init__(f"{place}: {text}")
        self.text = text
        self.place = place
        self.unfinished = unfinished


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one input may ask for; beyond it ends with a `ShellError`."""

    source: int = 16_000_000  # characters of a script
    nesting: int = 32  # brackets in brackets
    calls: int = 24  # script blocks in script blocks while they run
    items: int = 1_000_000  # of one array
    text: int = 4_000_000  # characters of one string
    steps: int = 50_000_000  # what is worked out for one input


LIMITS = Limits()
