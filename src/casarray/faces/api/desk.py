"""The directory's store behind the API: opened at the first question, asked by one thread of its own.

The gateway's loop never waits for it, its other threads are not held up by it, and one call at a time is what stores
want.
"""

import asyncio
import logging
import pwd
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from casarray.app.directory import DirectoryService
from casarray.app.seeding import broken_rules
from casarray.app.stores import DirectoryStore, Snapshot
from casarray.core.errors import Unavailable

log = logging.getLogger(__name__)

MOST_PEOPLE = 32  # whose view of the directory is kept

T = TypeVar("T")


class Desk:
    """Where requests about the directory are worked off, one after another."""

    def __init__(self, open_store: Callable[[], DirectoryStore]) -> None:
        """``open_store`` is called when it is needed first, and again after the store could not be reached."""
        self._open_store = open_store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="casarray-api")
        self._store: DirectoryStore | None = None
        self._services: OrderedDict[str, DirectoryService] = OrderedDict()
        self._broken: tuple[str, tuple[str, ...]] | None = None

    async def do(self, who: str | int, work: Callable[[DirectoryService], T]) -> T:
        """Do something in the name of an account, by name or number. Raises what the store and the work raise."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, who, work)

    def _do(self, who: str | int, work: Callable[[DirectoryService], T]) -> T:
        try:
            return work(self._service(_name(who)))
        except Unavailable:
            self._let_go()  # the next one may have more luck with a fresh one
            raise

    def _service(self, who: str) -> DirectoryService:
        if self._store is None:
            self._store = self._open_store()
        if who not in self._services:
            self._services[who] = DirectoryService(self._store, who)
            if len(self._services) > MOST_PEOPLE:
                self._services.popitem(last=False)
        self._services.move_to_end(who)
        return self._services[who]

    def broken(self, snapshot: Snapshot) -> tuple[str, ...]:
        """What in it breaks a rule; looked for once in each revision. For ``work`` alone."""
        if self._broken is None or self._broken[0] != snapshot.revision:
            self._broken = snapshot.revision, broken_rules(snapshot.directory)
        return self._broken[1]

    def _let_go(self) -> None:
        store, self._store = self._store, None
        self._services.clear()
        if store is not None:
            store.close()

    async def close(self) -> None:
        """Let go of the store, as soon as whoever is at it has finished."""
        self._thread.submit(self._let_go)
        self._thread.shutdown(wait=False)


def _name(who: str | int) -> str:
    if isinstance(who, str):
        return who
    try:
        return pwd.getpwuid(who).pw_name
    except KeyError:
        return str(who)
