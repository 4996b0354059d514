"""Context handles: what a server issued to which association group, and what each stands for.

A handle counts within the group it was issued to, on every connection of that group, and nowhere else; with the last
connection of a group everything issued to it is run down. [MS-RPCE] 3.3.1.5.7, [C706] 5.1.6.
"""

from collections.abc import Callable
from typing import Generic, TypeVar
from uuid import UUID

from casarray.core.dcerpc.ndr import ContextHandle

MAX_HANDLES = 100_000

V = TypeVar("V")


class Handles(Generic[V]):
    """All handles of one kind that a server has issued. ``new_uuid`` makes them: random ones cannot be guessed."""

    def __init__(self, new_uuid: Callable[[], UUID], most: int = MAX_HANDLES) -> None:
        self._new_uuid = new_uuid
        self._most = most
        self._issued: dict[UUID, tuple[int, V]] = {}  # handle -> group, what it stands for
        self._groups: dict[int, set[UUID]] = {}

    def __len__(self) -> int:
        """How many are valid now."""
        return len(self._issued)

    def issue(self, group: int, value: V) -> ContextHandle | None:
        """A new handle; None when there are too many already."""
        if len(self._issued) >= self._most:
            return None
        handle = ContextHandle(self._new_uuid())
        self._issued[handle.uuid] = (group, value)
        self._groups.setdefault(group, set()).add(handle.uuid)
        return handle

    def value(self, handle: ContextHandle, group: int) -> V | None:
        """What it stands for; None if it was not issued here, or to another group."""
        found = self._issued.get(handle.uuid)
        return found[1] if found is not None and found[0] == group else None

    def take_back(self, handle: ContextHandle, group: int) -> V | None:
        """What it stood for, now that it does no more; None as for `value`, and then nothing has changed."""
        value = self.value(handle, group)
        if value is not None:
            del self._issued[handle.uuid]
            left = self._groups[group]
            left.discard(handle.uuid)
            if not left:
                del self._groups[group]
        return value

    def forget_group(self, group: int) -> None:
        """The group's last connection is gone."""
        for uuid in self._groups.pop(group, ()):
            self._issued.pop(uuid, None)
