"""A desk to type cmdlets at: binds as the shell does, and remembers what was said."""

from collections.abc import Iterable, Mapping, Sequence

from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.cmdlets import exchange_cmdlets
from casarray.app.directory import DirectoryService
from casarray.core.directory.changes import same
from casarray.core.directory.model import MAILBOX, Copy, Database, Directory, Server, Site
from casarray.core.shell.cmdlet import Bound, Cmdlet, Credential, Record, Value

PLAIN = Directory().put(
    Site("Paderborn"),
    Server("cas1", "cas1.domain.tld", "Paderborn"),
    Server("mbx1", "mbx1.domain.tld", "Paderborn", (MAILBOX,), None),
    Database("DB1", "mbx1", (Copy("mbx1"),), "cas1.domain.tld"),
    Database("DB2", "mbx1", (Copy("mbx1"),), "cas1.domain.tld"),
)  # an organisation before it had an array


class Voice:
    """`casarray.core.shell.cmdlet.Host`, which keeps what it hears and answers as it was told."""

    def __init__(self, line: str, *, what_if: bool = False, agree: Iterable[bool] = ()) -> None:
        self.line = line
        self.what_if = what_if
        self.heard: list[str] = []
        self.warnings: list[str] = []
        self.asked: list[str] = []
        self._answers = iter(agree)

    def say_what_if(self, action: str, target: str) -> None:
        self.heard.append(f'What if: Performing operation "{action}" on Target "{target}".')

    def may(self, action: str, target: str) -> bool:
        self.asked.append(f"{action} {target}")
        return next(self._answers, True)

    def agree(self, question: str) -> bool:
        self.asked.append(question)
        return next(self._answers, False)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def verbose(self, text: str) -> None:
        self.heard.append(f"VERBOSE: {text}")

    def progress(self, activity: str, done: int, of: int) -> None:
        """Nobody looks."""

    def ask_credential(self, message: str) -> Credential:
        raise AssertionError(message)


class Desk:
    """An administrator at a directory from memory."""

    def __init__(self, directory: Directory = ORGANISATION, store: MemoryDirectory | None = None) -> None:
        self.store = store or MemoryDirectory(directory)
        self.service = DirectoryService(self.store, "admin")
        self.cmdlets: Mapping[str, Cmdlet] = {cmdlet.name: cmdlet for cmdlet in exchange_cmdlets(self.service)}
        self.voice = Voice("")

    def __call__(self, name: str, identity: str | None = None, **values: Value) -> list[Record]:
        """Call a cmdlet; ``identity`` is its first word."""
        given = values if identity is None else {self._first(name): identity, **values}
        return self.run(name, [Bound(given)])

    def pipe(self, objects: Iterable[Value], name: str, **values: Value) -> list[Record]:
        """Call a cmdlet at the end of a pipeline."""
        return self.run(name, [self._bind(name, thing, values) for thing in objects])

    def run(
        self, name: str, bounds: Sequence[Bound], *, what_if: bool = False, agree: Iterable[bool] = ()
    ) -> list[Record]:
        """Call a cmdlet with what is bound."""
        cmdlet = self.cmdlets[name]
        known = {parameter.name for parameter in cmdlet.parameters}
        assert all(set(bound.values) <= known for bound in bounds), f"{name} knows {known}"
        self.voice = Voice(f"{name} ...", what_if=what_if, agree=agree)
        found = list(cmdlet.run(bounds, self.voice))
        assert all(isinstance(record, Record) for record in found)
        return [record for record in found if isinstance(record, Record)]

    @property
    def directory(self) -> Directory:
        """What the store holds now."""
        return self.store.read().directory

    def is_as_before(self, before: Directory = ORGANISATION) -> bool:
        """Nothing was changed, and the trail knows of nothing."""
        return same(self.directory, before) and not self.store.history()

    def _first(self, name: str) -> str:
        return next(parameter.name for parameter in self.cmdlets[name].parameters if parameter.position == 0)

    def _bind(self, name: str, thing: Value, values: Mapping[str, Value]) -> Bound:
        bound = dict(values)
        for parameter in self.cmdlets[name].parameters:
            for source in parameter.from_pipeline:
                if parameter.name in bound:
                    break
                if source == "":
                    bound[parameter.name] = thing
                elif isinstance(thing, Record) and thing.get(source) is not None:
                    bound[parameter.name] = thing.get(source)
        return Bound(bound, thing)


def format_list(records: Iterable[Record]) -> str:
    """As Format-List shows them."""
    blocks = []
    for record in records:
        width = max(map(len, record.properties))
        blocks.append("\n".join(f"{name:<{width}} : {_word(value)}" for name, value in record.properties.items()))
    return "\n\n".join(blocks) + "\n"


def _word(value: Value) -> str:
    return f"{{{', '.join(map(str, value))}}}" if isinstance(value, tuple) else str(value)
