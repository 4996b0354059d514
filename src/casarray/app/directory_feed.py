"""A gateway's view of its directory: what it last knew, kept fresh, and told apart from what it cannot know now.

The store is looked at by its revision, which is cheap; only a change is read. A store that cannot be reached costs
nothing but news: the gateway goes on with what it last knew, over a restart too, and says so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from casarray.app.operations import DirectoryStatus
from casarray.app.ports import Clock
from casarray.app.stores import DirectoryStore, Snapshot
from casarray.core.config import Config, DirectorySettings, Gateway
from casarray.core.directory.model import Directory
from casarray.core.directory.serving import Resolved, Served, serve, unresolved
from casarray.core.errors import CasarrayError, Unavailable

log = logging.getLogger(__name__)

EMBEDDED_SECONDS = 0.05  # between two looks at SQLite
REMOTE_SECONDS = 15.0  # between two looks at Active Directory
RESOLVE_SECONDS = 60.0  # DNS may change without the directory

Resolve = Callable[[Collection[str]], Resolved]


class LastKnown(Protocol):
    """Keeps the directory for a time without its store. Blocking."""

    def save(self, directory: Directory) -> None:
        """Keep this; raises nothing."""

    def load(self) -> Directory | None:
        """What was kept, if it can be read."""


@dataclass(slots=True)
class _View:
    """What is known at the moment."""

    directory: Directory = field(default_factory=Directory)
    revision: str = ""
    missing: tuple[str, ...] = ()
    resolved: Resolved = field(default_factory=dict)
    seen_at: float = 0.0  # when the store was last seen to hold just this
    resolved_at: float = 0.0


class DirectoryFeed:
    """Reads a store for one gateway. Everything blocking runs in threads."""

    def __init__(
        self,
        open_store: Callable[[], DirectoryStore],
        settings: DirectorySettings,
        resolve: Resolve,
        clock: Clock,
        keep: LastKnown | None = None,
    ) -> None:
        """``open_store`` is called again after it failed; with ``keep``, the last known survives a restart."""
        self._open_store = open_store
        self._settings = settings
        self._resolve = resolve
        self._clock = clock
        self._keep = keep
        self._store: DirectoryStore | None = None
        self._view = _View()
        self._fault = ""
        self._refused = ""
        self._left_out: tuple[str, ...] = ()

    async def start(self) -> None:
        """Read it once. Raises `CasarrayError` if the store cannot be read and nothing is known from before."""
        try:
            await self._read()
        except CasarrayError as error:
            known = await asyncio.to_thread(self._keep.load) if self._keep is not None else None
            if known is None:
                raise
            self._fault = str(error)
            self._view.directory = known
            self._view.resolved = await asyncio.to_thread(self._resolve, unresolved(known))
            self._view.seen_at = self._view.resolved_at = self._clock.monotonic()
            log.error("the directory cannot be read, starting with what it held last: %s", error)

    @property
    def directory(self) -> Directory:
        """The directory itself, as known now."""
        return self._view.directory

    def config(self, gateway: Gateway) -> Config:
        """What the gateway is to serve, as known now."""
        served: Served = serve(self._view.directory, gateway, self._settings, self._view.resolved)
        if served.left_out != self._left_out:
            for sentence in served.left_out:
                log.warning("directory: %s", sentence)
        self._left_out = served.left_out
        return served.config

    def warnings(self) -> tuple[str, ...]:
        """What an administrator should know of it, a sentence each."""
        told = [
            sentence
            for sentence, so in (
                (f"the directory cannot be reached, going on with what it held last: {self._fault}", self._fault),
                (f"the directory has changed, and that cannot be served: {self._refused}", self._refused),
            )
            if so
        ]
        return (*told, *(f"directory: {word}" for word in (*self._view.missing, *self._left_out)))

    def served(self, refusal: str = "") -> None:
        """What `changes` told of is served now, or why it cannot be."""
        self._refused = refusal

    def status(self) -> DirectoryStatus:
        """Its state, for whoever looks at the gateway."""
        return DirectoryStatus(
            store=" ".join(self._settings.store),
            reachable=not self._fault,
            reason=self._fault,
            revision=self._view.revision,
            age_seconds=self._clock.monotonic() - self._view.seen_at,
        )

    async def changes(self) -> AsyncIterator[None]:
        """Yields whenever what is known has become another. Endless."""
        remote = any(store.startswith("ldap") for store in self._settings.store)
        seconds = self._settings.interval or (REMOTE_SECONDS if remote else EMBEDDED_SECONDS)
        while True:
            await asyncio.sleep(seconds)
            before = self._view.directory, self._view.resolved
            try:
                await self._look()
            except CasarrayError as error:
                self._failed(error)
            else:
                self._recovered()
            if (self._view.directory, self._view.resolved) != before:
                yield

    async def _look(self) -> None:
        if self._store is None or await asyncio.to_thread(self._store.revision) != self._view.revision:
            await self._read()
        elif self._clock.monotonic() - self._view.resolved_at > RESOLVE_SECONDS:
            await self._ask_dns()

    async def _read(self) -> None:
        if self._store is None:
            self._store = await asyncio.to_thread(self._open_store)
        snapshot: Snapshot = await asyncio.to_thread(self._store.read)
        view = self._view
        view.directory, view.revision, view.missing = snapshot.directory, snapshot.revision, snapshot.missing
        view.seen_at = self._clock.monotonic()
        await self._ask_dns()
        if self._keep is not None:
            await asyncio.to_thread(self._keep.save, snapshot.directory)

    async def _ask_dns(self) -> None:
        """Names that DNS does not know at the moment keep the addresses they had."""
        wanted = unresolved(self._view.directory)
        found = await asyncio.to_thread(self._resolve, wanted) if wanted else {}
        kept = {name: a for name, a in self._view.resolved.items() if name in wanted}
        self._view.resolved = kept | dict(found)
        self._view.resolved_at = self._clock.monotonic()

    def _failed(self, error: CasarrayError) -> None:
        if not self._fault:
            log.error("the directory cannot be reached, going on with what it held last: %s", error)
        self._fault = str(error)
        if isinstance(error, Unavailable) and self._store is not None:
            self._store.close()
            self._store = None

    def _recovered(self) -> None:
        self._view.seen_at = self._clock.monotonic()
        if self._fault:
            log.warning("the directory can be reached again")
            self._fault = ""

    async def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            await asyncio.to_thread(self._store.close)
            self._store = None
