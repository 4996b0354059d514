"""Which member a new connection goes to: the pin if it is good, else the slot's first choice, else its second.

The kernel's rules ask in exactly this order; whoever has to know beforehand (the endpoint mapper), to explain
afterwards (`casarray explain`) or to forward without a kernel asks here.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from casarray.core.affinity.jhash import slot_of
from casarray.core.forwarding.table import Address, Group, Table


class Reason(StrEnum):
    """Why it is this member."""

    PINNED = "pinned"
    FIRST_CHOICE = "first choice"
    SECOND_CHOICE = "second choice"  # the slot's first choice may not be used
    NOBODY = "nobody"  # neither of the slot's members may be used, or the slot is empty


@dataclass(frozen=True, slots=True)
class Choice:
    """The member, or nobody; and why."""

    member_id: int | None
    reason: Reason
    void_pin: int | None = None  # the member of a pin that counts for nothing, as it may not be used


def choose(group: Group, seed: int, client: Address, pinned: int | None) -> Choice:
    """The member that this client's next connection in this group goes to."""
    if pinned is not None and pinned in group.nodes:
        return Choice(pinned, Reason.PINNED)
    if group.slots:
        slot = slot_of(client, seed, len(group.slots), group.prefix4, group.prefix6)
        if group.slots[slot] in group.nodes:
            return Choice(group.slots[slot], Reason.FIRST_CHOICE, pinned)
        if slot < len(group.backup) and group.backup[slot] in group.nodes:
            return Choice(group.backup[slot], Reason.SECOND_CHOICE, pinned)
    return Choice(None, Reason.NOBODY, pinned)


def of_family(table: Table, group: Group, version: int) -> Group:
    """The group as clients of IP version 4 or 6 meet it: a member without such an address is none for them."""
    there = {member.id for member in table.members if member.address(version)}
    return group if group.nodes <= there else replace(group, nodes=group.nodes & there)
