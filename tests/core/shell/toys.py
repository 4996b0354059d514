"""A shell over a handful of cmdlets made of nothing, for tests of the language."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from casarray.app.shell import Ran, Session
from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Record, Value
from casarray.core.shell.registry import Registry

ARRAYS = (
    Record("Array", {"Name": "CAS", "Fqdn": "cas.domain.tld", "Site": "Paderborn", "Members": ("cas1", "cas2")}),
    Record("Array", {"Name": "CAS2", "Fqdn": "cas.bonn.tld", "Site": "Bonn", "Members": ()}),
)
DATABASES = tuple(
    Record(
        "Database",
        {"Name": f"DB{n}", "Server": "mbx1", "Size": n * 10, "Rpc": "cas.domain.tld", "Mounted": n != 2},
        ("Name", "Server", "Size"),
    )
    for n in (1, 2, 3)
)


@dataclass
class Place:
    """A terminal that remembers what was said, and answers what it was told to."""

    interactive: bool = False
    width: int | None = None
    answers: list[str] = field(default_factory=list)
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    cleared: int = 0

    def write(self, text: str) -> None:
        self.out.append(text)

    def tell(self, text: str) -> None:
        self.err.append(text)

    def ask(self, question: str) -> str:
        self.asked.append(question)
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)

    def ask_password(self, question: str) -> str:
        return self.ask(question)

    def progress(self, text: str) -> None:
        self.err.append(f"progress {text}")

    def clear(self) -> None:
        self.cleared += 1


class Toy:
    """A session over toys; remembers each call of a cmdlet that changes something."""

    def __init__(self, *, interactive: bool = False, answers: Sequence[str] = (), keep: bool = False) -> None:
        self.calls: list[tuple[str, list[dict[str, Value]]]] = []
        self.batches: list[int] = []
        self.place = Place(interactive, None, list(answers))
        self.kept: list[Value] = []
        self.session = Session(self.registry(), self.place, keep=self.kept if keep else None)

    def __call__(self, text: str) -> str:
        """Run it; the output. An error is a failure of the test."""
        ran = self.run(text)
        assert not ran.failed, self.place.err
        out = "\n".join(self.place.out)
        self.place.out.clear()
        return out

    def run(self, text: str) -> Ran:
        """Run it, whatever comes of it."""
        return self.session.run(text)

    def error(self, text: str) -> str:
        """Run what has to fail; the error."""
        self.place.err.clear()
        assert self.run(text).failed
        return self.place.err[-1]

    def registry(self) -> Registry:
        """The toys."""
        strings, switch, boolean = ParameterKind.STRINGS, ParameterKind.SWITCH, ParameterKind.BOOLEAN
        identity = Parameter(
            "Identity", mandatory=True, position=0, from_pipeline=("Identity", "Name", ""), completes="array"
        )
        name = Parameter("Name", mandatory=True, position=0)
        return Registry(
            (
                Cmdlet("Get-Array", self.given(ARRAYS), synopsis="Lists arrays."),
                Cmdlet("Get-Database", self.given(DATABASES), (Parameter("Identity", position=0),), aliases=("gdb",)),
                Cmdlet(
                    "New-Array",
                    self.changing("New-Array"),
                    (
                        name,
                        Parameter("Fqdn", mandatory=True),
                        Parameter("Site", completes="site"),
                        Parameter("Members", strings),
                        Parameter("Mode", choices=("Attended", "Unattended")),
                        Parameter("Weight", ParameterKind.INTEGER),
                        Parameter("Enabled", boolean),
                        Parameter("Force", switch),
                        Parameter("Credential", ParameterKind.CREDENTIAL),
                        Parameter("Anything", ParameterKind.ANY),
                    ),
                    Impact.LOW,
                    "Makes an array.",
                    ("New-Array CAS -Fqdn cas.domain.tld",),
                ),
                Cmdlet("Set-Database", self.changing("Set-Database"), (identity, Parameter("Rpc")), Impact.LOW),
                Cmdlet("Remove-Array", self.changing("Remove-Array"), (identity,), Impact.HIGH),
                Cmdlet("Test-Refusal", _refuse, (Parameter("Name", position=0),)),
                Cmdlet(".\\Roll.ps1", self.changing("Roll"), (Parameter("ToArrayMembers", strings), name)),
                Cmdlet(
                    "Setspn",
                    self.changing("Setspn"),
                    (Parameter("S", switch), Parameter("Spn", position=0), Parameter("Account", position=1)),
                ),
            ),
            lambda kind: {"array": ["CAS", "CAS2"], "site": ["Bonn", "Bad Oeynhausen"]}.get(kind, []),
        )

    def given(self, records: Sequence[Record]) -> Callable[[Sequence[Bound], Host], Iterable[Value]]:
        """A cmdlet that gives these."""

        def run(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
            host.verbose("looking")
            if not bounds:
                return ()
            return [
                r for r in records if not bounds[0].given("Identity") or r.get("Name") == bounds[0].text("Identity")
            ]

        return run

    def changing(self, name: str) -> Callable[[Sequence[Bound], Host], Iterable[Value]]:
        """A cmdlet that would change something."""

        def run(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
            self.batches.append(len(bounds))
            done = []
            for bound in bounds:
                target = bound.text("Identity") or bound.text("Name")
                if host.what_if:
                    host.say_what_if(name, target)
                elif host.may(name, target):
                    done.append(dict(bound.values))
            if done:
                self.calls.append((name, done))
            return ()

        return run


def _refuse(_bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    raise Conflict("it is against the rules; change the rules")
