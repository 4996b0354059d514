"""Puts right what somebody else did to the table, pins included.

`nft flush ruleset`, or a firewall's reload that does it, takes the table away with every pin. The rules come back from
the plan within a fraction of a second; the pins come back with them, before anybody is led by the slots: those of
clients with connections from the connection table, all others from a copy in memory, taken every second while there are
few; of very many, none is taken. Lost is only what was pinned since the last copy *and* elsewhere than its slot says
(which happens while a member is missing), by a client that has no connection at that moment.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic

from casarray.adapters.kernel import pins
from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.core.errors import CasarrayError

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
#: More pins of a group than these are not copied. The kernel lists a map in time that grows with its square (a second
#: for 100,000, a minute for a million), and changes of the table, a verdict's among them, wait for its longer steps.
MOST_COPIED = 50_000
#: So long a copy waits for news that the table was touched while it was taken: then it is worth nothing.
DOUBT_SECONDS = 0.1
#: Copying may take one part in so many of the time: it takes milliseconds for thousands of pins, 40 s for a million.
SPARE = 20
#: When watching itself fails (no descriptor is left, say), it begins again after so long.
AGAIN_SECONDS = 1.0


class TableGuard:
    """Watches one array's table for as long as `watch` runs."""

    def __init__(
        self,
        forwarder: KernelForwarder,
        groups: Callable[[], Iterable[str]],
        restore: Callable[[], Awaitable[None]],
    ) -> None:
        """``groups`` names the affinity groups; ``restore`` returns when the wanted table is in force again."""
        self.copied = 0.0  # monotonic
        self._forwarder = forwarder
        self._groups = groups
        self._restore = restore
        self._disturbed = 0  # how often somebody touched the table
        self._mending = False
        self._too_many: set[str] = set()  # groups whose pins are not copied
        self._unseen = False  # there was a time in which changes were not watched for

    async def watch(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again_and_again(self._keep_copies))
            tasks.create_task(self._again_and_again(self._put_right))

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever ends the work: a table that nobody watches is worse."""
        while True:
            try:
                await work()
            except CasarrayError as error:
                log.error("the forwarding table is not watched, trying again: %s", error)
            except Exception:
                log.exception("the forwarding table is not watched, trying again")
            await asyncio.sleep(AGAIN_SECONDS)

    async def _keep_copies(self) -> None:
        while True:
            seconds = await self._copy()
            await asyncio.sleep(max(EVERY_SECONDS, seconds * SPARE))

    async def _copy(self) -> float:
        """Copy the pins of every group; how many seconds that took."""
        seconds = 0.0
        groups = list(self._groups())
        for group in self._forwarder.spare_pins.keys() - set(groups):
            del self._forwarder.spare_pins[group]  # it is not wanted any more, and will have aged should it come again
        for group in groups:
            before, began = self._disturbed, monotonic()
            try:
                there = await self._count(group)
                if there is None:
                    continue
                copy = await self._forwarder.dump_pins(group)
            except CasarrayError as error:
                log.debug("pins of group %s could not be copied: %s", group, error)
                continue
            seconds += monotonic() - began
            # A table that is taken away ends the copying of its pins half-way, and the new one begins with none.
            await asyncio.sleep(DOUBT_SECONDS)
            # So does a change before the place where the kernel is in its list: it counts its way there anew. A copy
            # is whole if it has what was counted before, but for the few that run out meanwhile.
            whole = there - pins.held(copy) <= there // 1000
            sound = whole and self._disturbed == before and not self._mending
            if sound and (copy or group not in self._forwarder.spare_pins):
                self._forwarder.spare_pins[group] = copy
        self.copied = monotonic()
        return seconds

    async def _count(self, group: str) -> int | None:
        """How many pins the group has; None if they are more than are copied: then an older copy is given up."""
        there = (await self._forwarder.pins()).get(group, MOST_COPIED + 1)
        if there <= MOST_COPIED:
            self._too_many.discard(group)
            return there
        if group not in self._too_many:
            log.info("group %s has more than %d pins: they are not copied any more", group, MOST_COPIED)
            self._too_many.add(group)
            self._forwarder.spare_pins.pop(group, None)
        return None

    async def _put_right(self) -> None:
        if self._unseen:
            await self._mend()
        self._unseen = True  # whatever happens between an end of this and its next beginning
        async for _ in self._forwarder.foreign_changes():
            log.warning("somebody else changed the forwarding table, putting it right")
            await self._mend()

    async def _mend(self) -> None:
        self._disturbed += 1
        self._mending = True
        try:
            await self._restore()
            for group in list(self._groups()):
                if restored := await self._forwarder.load_pins(group, self._forwarder.spare_pins.get(group, b"")):
                    log.warning("group %s: %d pins are there again", group, restored)
        except CasarrayError as error:
            log.error("the forwarding table could not be put right yet: %s", error)
        finally:
            self._disturbed += 1  # a copy that was begun meanwhile has not seen everything
            self._mending = False
