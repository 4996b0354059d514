"""The variables of a shell, by names without regard to capital letters."""

from collections.abc import Iterator
from contextlib import contextmanager

from casarray.core.shell.cmdlet import Value
from casarray.core.shell.registry import did_you_mean
from casarray.core.shell.trouble import Place, ShellError

_FIXED: dict[str, Value] = {"true": True, "false": False, "null": None}
_CURRENT = ("_", "psitem")
_MOST = 10_000


class Variables:
    """Names and values, those that are always there, and the object that is ``$_`` just now."""

    def __init__(self) -> None:
        """None but the fixed ones."""
        self._held: dict[str, tuple[str, Value]] = {}
        self._current: list[Value] = []

    def get(self, name: str, place: Place) -> Value:
        """A variable that is there. Raises `ShellError` for any other."""
        wanted = name.casefold()
        if wanted in _FIXED:
            return _FIXED[wanted]
        if wanted in _CURRENT:
            if not self._current:
                raise ShellError(f"${name} is there only inside a script block: | ForEach-Object {{ $_ }}", place)
            return self._current[-1]
        if wanted not in self._held:
            offer = did_you_mean(name, self.names()).replace("mean ", "mean $").replace(" or ", " or $")
            raise ShellError(f"there is no variable ${name}{offer or '; assign it first: $' + name + ' = ...'}", place)
        return self._held[wanted][1]

    def peek(self, name: str) -> Value:
        """A variable, or $null."""
        return self._held.get(name.casefold(), ("", None))[1]

    def set(self, name: str, value: Value, place: Place) -> None:
        """Assign one. Raises `ShellError` for those that are fixed."""
        wanted = name.casefold()
        if wanted in _FIXED or wanted in _CURRENT:
            raise ShellError(f"${name} cannot be assigned; take another name", place)
        if wanted not in self._held and len(self._held) >= _MOST:
            raise ShellError(f"there are {_MOST:,} variables already", place)
        self._held[wanted] = (name, value)

    def names(self) -> list[str]:
        """The names of those that were assigned, in order."""
        return sorted((name for name, _ in self._held.values()), key=str.casefold)

    def forget_current(self) -> None:
        """Nothing is ``$_`` any more, whatever was interrupted."""
        self._current.clear()

    @contextmanager
    def current(self, value: Value) -> Iterator[None]:
        """Let ``$_`` be this for a while."""
        self._current.append(value)
        try:
            yield
        finally:
            if self._current:
                self._current.pop()
