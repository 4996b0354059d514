"""Association groups: connections of one client that share its context handles. [MS-RPCE] 3.3.1.5.7."""


class AssociationGroups:
    """The association groups of one server process; all its connections share one of these. [MS-RPCE] 3.3.1.5.7."""

    def __init__(self, first_id: int = 1) -> None:
        self._next = first_id
        self._members: dict[int, int] = {}

    def join(self, group_id: int) -> int | None:
        """The group's id: a new one for 0, None for one that does not exist (any more)."""
        if group_id == 0:
            group_id, self._next = self._next, self._next % 0xFFFFFFFF + 1
        elif group_id not in self._members:
            return None
        self._members[group_id] = self._members.get(group_id, 0) + 1
        return group_id

    def leave(self, group_id: int) -> bool:
        """One connection less; whether it was the last one, so that the group's context handles are run down."""
        left = self._members.get(group_id, 0) - 1
        if left > 0:
            self._members[group_id] = left
            return False
        return self._members.pop(group_id, None) is not None
