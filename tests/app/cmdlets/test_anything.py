"""Whatever is typed: a cmdlet does it or says why not, and the directory keeps its rules."""

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.app.cmdlets.typed import Desk
from tests.core.directory.example import broken

from casarray.core.directory.changes import same
from casarray.core.errors import CasarrayError
from casarray.core.shell.cmdlet import Bound, Cmdlet, Parameter, ParameterKind, Value

TEXTS = (
    "CAS", "BER", "cas1", "cas2", "mbx1", "mbx2", "ber1", "ulm1", "ulm2", "DB1", "DB2", "DB3", "DAG1", "DAG2",
    "Paderborn", "Berlin", "Ulm", "Bonn", "cas.domain.tld", "new.domain.tld", "cas1.domain.tld", "10.0.0.0/8",
    "10.20.0.0/16", "10.20.1.0/24", "fd00::/16", "172.16.0.0/12", "10.12.0.21", "10.1.2.3", "DB1\\mbx1", "DB1\\ber1",
    "", " ", "*", "a b", "=", "CN=", "CN=CAS,CN=Arrays", "/o=", "\\", "[", "{}", "0.0.0-5.9.9", "\x00",
)  # fmt: skip
DESK = Desk()
CHANGING = [cmdlet for cmdlet in DESK.cmdlets.values() if not cmdlet.name.startswith("Get-")]


SENSIBLE = {
    "array": ("CAS", "BER", "cas.domain.tld"),
    "server": ("cas1", "cas2", "mbx1", "mbx2", "ber1", "leer1", "ulm1", "ulm2.domain.tld"),
    "database": ("DB1", "DB2", "DB3"),
    "group": ("DAG1", "DAG2"),
    "site": ("Paderborn", "Berlin", "Ulm", "Leer", "Bonn"),
    "subnet": ("10.20.0.0/16", "fd00:20::/32", "172.16.0.0/12"),
    "Name": ("DB3", "DB4", "DAG2", "Bonn", "new1", "cas1", "172.16.0.0/12", "192.0.2.0/24"),
    "Fqdn": ("new1.domain.tld", "new2.domain.tld"),
    "Address": ("10.20.0.9", "10.1.2.3"),
    "Subnet": ("172.16.0.0/12", "192.0.2.0/24"),
    "BlockedClientVersions": ("0.0.0-5.9.9",),
    "Identity": ("DB1\\ber1", "DB2\\mbx2", "DB1\\mbx1"),  # of a copy
}


def _text(parameter: Parameter) -> st.SearchStrategy[str]:
    """Mostly what makes sense there."""
    sensible = SENSIBLE.get(parameter.completes) or SENSIBLE.get(parameter.name, TEXTS)
    return st.one_of(*[st.sampled_from(sensible)] * 9, st.sampled_from(TEXTS))


def _value(parameter: Parameter) -> st.SearchStrategy[Value]:
    match parameter.kind:
        case ParameterKind.STRINGS:
            return st.lists(_text(parameter), max_size=2).map(tuple)
        case ParameterKind.INTEGER:
            return st.integers(1, 3) | st.integers(-1, 70_000)
        case ParameterKind.BOOLEAN | ParameterKind.SWITCH:
            return st.booleans()
    return _text(parameter)


def _values(cmdlet: Cmdlet, forced: bool) -> st.SearchStrategy[dict[str, Value]]:
    known = [p for p in cmdlet.parameters if (forced or p.name != "Force") and not p.help.startswith("Taken")]
    must = {p.name: _value(p) for p in known if p.mandatory}
    may = {p.name: _value(p) for p in known if not p.mandatory}
    return st.fixed_dictionaries(must, optional=may)


def calls(*, forced: bool) -> st.SearchStrategy[tuple[str, list[dict[str, Value]]]]:
    """A cmdlet, and what one or a few objects bring it."""
    return st.sampled_from(CHANGING).flatmap(
        lambda cmdlet: st.tuples(st.just(cmdlet.name), st.lists(_values(cmdlet, forced), min_size=1, max_size=2))
    )


def refusal(desk: Desk, name: str, values: Sequence[Mapping[str, Value]], *, what_if: bool = False) -> str | None:
    """Why a call is refused; None when it is not. Anything but a sentence for people goes through."""
    try:
        desk.run(name, [Bound(one) for one in values], what_if=what_if)
    except CasarrayError as error:
        return str(error)
    return None


@settings(max_examples=150, deadline=None)
@given(st.lists(calls(forced=False), min_size=1, max_size=12))
def test_the_rules_hold_after_any_calls(typed: list[tuple[str, list[dict[str, Value]]]]) -> None:
    desk = Desk()
    for name, values in typed:
        before = desk.directory
        refused = refusal(desk, name, values)
        assert refused != ""
        assert refused is None or same(before, desk.directory)
        assert broken(desk.directory) == []


@settings(max_examples=100, deadline=None)
@given(calls(forced=True))
def test_a_plan_is_what_is_done(typed: tuple[str, list[dict[str, Value]]]) -> None:
    name, values = typed
    planned, done = Desk(), Desk()
    assert refusal(planned, name, values, what_if=True) == refusal(done, name, values)
    assert planned.is_as_before()
    told = [line.partition(' on Target "')[2].removesuffix('".') for line in planned.voice.heard if "What if" in line]
    assert told == [str(entry.change) for entry in reversed(done.store.history())]
    assert planned.voice.warnings == done.voice.warnings


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([name for name in DESK.cmdlets if name.startswith("Get-")]), st.sampled_from(TEXTS), st.text())
def test_looking_for_anything_finds_it_or_says_why_not(name: str, typed: str, anything: str) -> None:
    parameter = "Server" if name == "Get-RpcClientAccess" else "Identity"
    for text in (typed, anything):
        assert refusal(DESK, name, [{parameter: text}]) != ""
