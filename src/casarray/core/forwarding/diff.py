"""Wanted table and actual table -> changes, in an order that is safe at every step.

The order is the point. A member that may not be used any more goes first and alone, by one delete, so that no later
failure keeps clients on it. Rules come before the members that need them, and members before the slots that lead to
them. Slots come in pieces, because whoever writes a piece holds up everybody who waits for the kernel's table.

Every plan may stop anywhere: planning again from what is then there arrives at the same table. `after` says in plain
values what each change does; forwarders are compared with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from casarray.core.errors import NotFound
from casarray.core.forwarding.table import Group, Table

#: Slots in one change: as many as the kernel takes in about 2 ms, during which a waiting client waits too.
SLOTS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Expel:
    """The member may not be used in this group any more, from this moment."""

    group: str
    member_id: int


@dataclass(frozen=True, slots=True)
class Structure:
    """Addresses, ports, members, rules: everything but the elements of nodes and slots. One transaction.

    Nodes and slots stay as they are, but for two cases in which they would mean nothing: nodes lose the members that
    are not in the table any more, and a group that is new, or has another number of slots, comes with the slots and
    backup of ``table`` (so there is no moment without any). A new group has no nodes yet.
    """

    table: Table


@dataclass(frozen=True, slots=True)
class Admit:
    """The member may be used in this group."""

    group: str
    member_id: int


@dataclass(frozen=True, slots=True)
class FillSlots:
    """These slots (number -> member id, 0 = nobody) get these members."""

    group: str
    slots: tuple[tuple[int, int], ...]
    backup: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """The whole table of the array goes, its pins with it."""

    array: str


Change = Expel | Structure | Admit | FillSlots | Remove


def structure(table: Table) -> Table:
    """The table without its elements: two tables of equal structure need the same rules."""
    return replace(
        table, groups=tuple(replace(g, nodes=frozenset(), slots=(0,) * len(g.slots), backup=()) for g in table.groups)
    )


def diff(wanted: Table, actual: Table | None) -> list[Change]:
    """The changes that lead from actual to wanted."""
    changes: list[Change] = []
    if actual is not None:
        changes += _expelled(wanted, actual)
    if actual is None or structure(wanted) != structure(actual):
        changes.append(Structure(wanted))
        actual = _restructured(wanted, actual)
    before = {g.name: g for g in actual.groups}
    for group in wanted.groups:
        changes += [Admit(group.name, member) for member in sorted(group.nodes - before[group.name].nodes)]
    for group in wanted.groups:
        changes += _slot_changes(group, before[group.name])
    return changes


def after(table: Table | None, change: Change) -> Table | None:
    """What a table is after this change. `NotFound` for a group, member or slot that is not in it."""
    match change:
        case Remove():
            return None
        case Structure(wanted):
            return _restructured(wanted, table)
        case Expel(name, member):
            # Whoever is to go and is not there has gone.
            return table and _with(table, name, lambda group: replace(group, nodes=group.nodes - {member}))
        case Admit(name, member):
            if table is None or table.group(name) is None or table.member(member) is None:
                raise NotFound(f"no member {member} to admit to group {name}")
            return _with(table, name, lambda group: replace(group, nodes=group.nodes | {member}))
        case FillSlots(name, slots, backup):
            if table is None or table.group(name) is None:
                raise NotFound(f"no group {name} whose slots to fill")
            return _with(
                table,
                name,
                lambda group: replace(group, slots=_filled(group.slots, slots), backup=_filled(group.backup, backup)),
            )


def _expelled(wanted: Table, actual: Table) -> Iterator[Expel]:
    """Who must go. The nodes of a group that is itself unwanted go with the group, in one transaction."""
    for group in actual.groups:
        if (target := wanted.group(group.name)) is not None:
            yield from (Expel(group.name, member) for member in sorted(group.nodes - target.nodes))


def _slot_changes(wanted: Group, actual: Group) -> Iterator[FillSlots]:
    """Only the slots that differ, a piece at a time."""
    slots, backup = _differing(wanted.slots, actual.slots), _differing(wanted.backup, actual.backup)
    for start in range(0, max(len(slots), len(backup)), SLOTS_AT_ONCE):
        piece = slice(start, start + SLOTS_AT_ONCE)
        yield FillSlots(wanted.name, slots[piece], backup[piece])


def _differing(wanted: tuple[int, ...], actual: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    if wanted == actual:  # most often, and a hundred times faster than to look for what differs
        return ()
    return tuple((i, new) for i, (new, old) in enumerate(zip(wanted, actual, strict=True)) if new != old)


def _restructured(wanted: Table, actual: Table | None) -> Table:
    """``wanted`` with the elements that were there."""
    before = {g.name: g for g in actual.groups} if actual else {}
    members = {m.id for m in wanted.members}
    groups = []
    for group in wanted.groups:
        old = before.get(group.name)
        if old is None:
            groups.append(replace(group, nodes=frozenset()))
        elif len(old.slots) != len(group.slots):
            groups.append(replace(group, nodes=old.nodes & members))
        else:
            groups.append(replace(group, nodes=old.nodes & members, slots=old.slots, backup=old.backup))
    return replace(wanted, groups=tuple(groups))


def _with(table: Table, name: str, change: Callable[[Group], Group]) -> Table:
    return replace(table, groups=tuple(change(g) if g.name == name else g for g in table.groups))


def _filled(slots: tuple[int, ...], new: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    filled = list(slots)
    for number, member in new:
        if not 0 <= number < len(filled):
            raise NotFound(f"no slot {number}: there are {len(filled)}")
        filled[number] = member
    return tuple(filled)
