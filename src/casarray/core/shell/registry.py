"""The cmdlets that a shell knows, found as PowerShell finds them; whoever mistypes is offered what is near."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from casarray.core.shell.cmdlet import Cmdlet

DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"  # ASCII first; web pages and word processors make the others
_PLAIN_DASHES = str.maketrans(dict.fromkeys(DASHES, "-"))


def plain(name: str) -> str:
    """A name as it is compared: without capital letters, every dash the ASCII one."""
    return name.translate(_PLAIN_DASHES).casefold()


def no_names(_kind: str) -> Sequence[str]:
    """For a shell that knows no objects to offer."""
    return ()


def _nothing() -> None:
    """There is nothing to let go of."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Cmdlets by name and alias. A later one takes the name of an earlier one."""

    cmdlets: tuple[Cmdlet, ...] = ()
    names: Callable[[str], Sequence[str]] = no_names  # a kind of thing ("array", "site", ...) -> names to complete
    place: str = ""  # where the objects live, for the greeting: "sqlite:/var/lib/casarray"
    close: Callable[[], None] = _nothing  # when the shell ends
    _by_name: Mapping[str, Cmdlet] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make the index."""
        known = {plain(alias): cmdlet for cmdlet in self.cmdlets for alias in cmdlet.aliases}
        known |= {plain(cmdlet.name): cmdlet for cmdlet in self.cmdlets}
        object.__setattr__(self, "_by_name", known)

    def with_more(self, cmdlets: Iterable[Cmdlet]) -> "Registry":
        """With these before ours: ours win."""
        return Registry((*cmdlets, *self.cmdlets), self.names, self.place, self.close)

    def find(self, name: str) -> Cmdlet | None:
        """By name or alias, whatever its capital letters and dashes; ``X`` is ``Get-X``, as in PowerShell.

        A script that is one of ours is found in whatever folder it is typed: ``.\\Name.ps1``.
        """
        wanted = plain(name)
        if wanted.endswith(".ps1") and wanted not in self._by_name:
            wanted = wanted.replace("\\", "/").rpartition("/")[2]
        return self._by_name.get(wanted) or self._by_name.get(f"get-{wanted}")

    def all(self) -> tuple[Cmdlet, ...]:
        """Each that can be called, by name."""
        shown = {plain(cmdlet.name): cmdlet for cmdlet in self.cmdlets}
        return tuple(shown[name] for name in sorted(shown))

    def near(self, name: str) -> list[str]:
        """The names of cmdlets that are nearest to this."""
        return nearest(name, [cmdlet.name for cmdlet in self.all()])


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The likeliest of the known names; empty when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only who mistypes waits for it

    by_plain = {plain(k): k for k in known}
    wanted = plain(name)[:200]  # the comparison takes the square of its time
    found = get_close_matches(wanted, by_plain, n=most, cutoff=0.6)
    if not found and len(wanted) > 2:
        found = [k for k in by_plain if k.startswith(wanted) or k.partition("-")[2] == wanted.partition("-")[2] != ""]
    return [by_plain[k] for k in found[:most]]


def or_list(names: Sequence[str]) -> str:
    """``A, B or C``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean A or B?``, or nothing."""
    near = nearest(name, known)
    return f"; did you mean {or_list(near)}?" if near else ""
