"""Plans from one table to another: they arrive, from wherever they were broken off, and harm nobody on the way."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import NotFound
from casarray.core.forwarding.diff import (
    SLOTS_AT_ONCE,
    Admit,
    Change,
    Expel,
    FillSlots,
    Remove,
    Structure,
    after,
    diff,
)
from casarray.core.forwarding.table import Group, Member, Table

IDS = (1, 2, 3, 4)


@st.composite
def groups(draw: st.DrawFn, name: str, members: tuple[int, ...]) -> Group:
    size = draw(st.sampled_from((1, 3, 7)))
    slot = st.sampled_from((0, *IDS))  # a slot may still name a member that has left
    return Group(
        id=1 + "abc".index(name),
        name=name,
        ports=tuple(sorted(draw(st.sets(st.integers(1, 5), max_size=3)))),
        nodes=frozenset(draw(st.sets(st.sampled_from(members)))) if members else frozenset(),
        slots=tuple(draw(st.lists(slot, min_size=size, max_size=size))),
        backup=tuple(draw(st.lists(slot, min_size=size, max_size=size))),
        affinity_seconds=draw(st.sampled_from((60, 120))),
    )


@st.composite
def tables(draw: st.DrawFn) -> Table:
    members = tuple(sorted(draw(st.sets(st.sampled_from(IDS)))))
    names = sorted(draw(st.sets(st.sampled_from("abc"))))
    return Table(
        array="CAS",
        addresses=(ip_address("10.0.0.100"),),
        seed=draw(st.sampled_from((1, 2))),
        members=tuple(Member(i, f"cas{i}", (ip_address(f"10.0.0.{i}"),)) for i in members),
        groups=tuple(draw(groups(name, members)) for name in names),
        masquerade=draw(st.booleans()),
    )


def run(table: Table | None, changes: list[Change]) -> Table | None:
    for change in changes:
        table = after(table, change)
    return table


def usable(table: Table | None) -> dict[str, frozenset[int]]:
    return {group.name: group.nodes for group in table.groups} if table else {}


@given(tables(), st.none() | tables())
def test_a_plan_arrives_and_then_there_is_nothing_to_do(wanted: Table, actual: Table | None) -> None:
    assert run(actual, diff(wanted, actual)) == wanted
    assert diff(wanted, wanted) == []


@given(tables(), st.none() | tables(), st.integers(0, 20))
def test_a_plan_that_was_broken_off_arrives_when_planned_again(wanted: Table, actual: Table | None, cut: int) -> None:
    half = run(actual, diff(wanted, actual)[:cut])
    assert run(half, diff(wanted, half)) == wanted


@given(tables(), tables())
def test_nobody_who_must_go_is_there_once_anything_else_has_been_done(wanted: Table, actual: Table) -> None:
    """Nor does he come back on the way: nodes shrink first, and then only grow."""
    leaving = {name: nodes - usable(wanted).get(name, frozenset()) for name, nodes in usable(actual).items()}
    table: Table | None = actual
    changes = diff(wanted, actual)
    kinds = [type(change) for change in changes]
    assert kinds == sorted(kinds, key=[Expel, Structure, Admit, FillSlots].index)
    for change in changes:
        table = after(table, change)
        if isinstance(change, Expel):
            continue
        for name, nodes in usable(table).items():
            assert not nodes & leaving.get(name, frozenset())


@given(tables(), tables())
def test_a_member_that_stays_is_usable_all_the_time(wanted: Table, actual: Table) -> None:
    staying = {name: nodes & usable(wanted).get(name, frozenset()) for name, nodes in usable(actual).items()}
    table: Table | None = actual
    for change in diff(wanted, actual):
        table = after(table, change)
        for name, nodes in usable(table).items():
            assert nodes >= staying.get(name, frozenset())


def simple(slots: int = 3) -> Table:
    group = Group(1, "rpc", (5000,), frozenset({1, 2}), (1, 2, 1) * (slots // 3), (2, 1, 2) * (slots // 3), 60)
    members = tuple(Member(i, f"cas{i}", (ip_address(f"10.0.0.{i}"),)) for i in (1, 2))
    return Table("CAS", (ip_address("10.0.0.100"),), 1, members, (group,))


def changed(**fields: Any) -> Table:
    """The simple table with its group changed."""
    table = simple()
    return replace(table, groups=(replace(table.groups[0], **fields),))


def test_taking_a_member_out_is_one_change_and_the_rules_are_left_alone() -> None:
    assert diff(changed(nodes=frozenset({1})), simple()) == [Expel("rpc", 2)]


def test_only_slots_that_differ_are_written() -> None:
    assert diff(changed(slots=(1, 1, 1), backup=(2, 1, 1)), simple()) == [FillSlots("rpc", ((1, 1),), ((2, 1),))]


def test_many_slots_are_written_in_pieces() -> None:
    many = 3 * SLOTS_AT_ONCE
    before, wanted = simple(many), simple(many)
    wanted = replace(wanted, groups=(replace(wanted.groups[0], slots=(2,) * many, backup=(1,) * many),))
    changes = diff(wanted, before)
    assert len(changes) == 2  # two slots of three change
    assert all(isinstance(c, FillSlots) and len(c.slots) <= SLOTS_AT_ONCE for c in changes)
    assert run(before, changes) == wanted


def test_another_number_of_slots_comes_with_the_rules() -> None:
    assert diff(simple(6), simple(3)) == [Structure(simple(6))]


def test_a_removed_table_is_nothing_and_can_be_made_again() -> None:
    assert after(simple(), Remove("CAS")) is None
    assert diff(simple(), None) == [Structure(simple()), Admit("rpc", 1), Admit("rpc", 2)]


def test_what_is_not_in_the_table_cannot_be_changed() -> None:
    for change in (
        Admit("rpc", 9), Admit("mail", 1), FillSlots("mail", (), ()), FillSlots("rpc", ((3, 1),), ()),
        FillSlots("rpc", (), ((-1, 1),)),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            after(simple(), change)
    with pytest.raises(NotFound):
        after(None, Admit("rpc", 1))
    assert after(simple(), Expel("rpc", 9)) == simple()
    assert after(None, Expel("rpc", 1)) is None
