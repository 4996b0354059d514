"""State that lives as long as the process: for tests, and for a gateway that was told to keep nothing."""

from collections.abc import Mapping

from casarray.app.ports import ServerWish


class MemoryState:
    """`casarray.app.ports.State` in two dictionaries."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, int]] = {}
        self._wishes: dict[str, ServerWish] = {}

    def ids(self, kind: str) -> Mapping[str, int]:
        return dict(self._ids.get(kind, {}))

    def keep_ids(self, kind: str, ids: Mapping[str, int]) -> None:
        self._ids.setdefault(kind, {}).update(ids)

    def wishes(self) -> Mapping[str, ServerWish]:
        return dict(self._wishes)

    def keep_wish(self, server: str, wish: ServerWish) -> None:
        self._wishes[server] = wish

    def close(self) -> None:
        pass
