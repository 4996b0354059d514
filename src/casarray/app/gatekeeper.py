"""Keeps the forwarding table of one array true: observe, decide, apply.

What comes in (a verdict on a member, a word of the operator, a new configuration, somebody else's hand in the table)
only marks the table as due, so that two causes at once end in one plan. The work is done in two strokes. The first
takes out who must leave, with one kernel call each, and resets their connections. The second fills the slots anew,
which costs more and hurries less: until then a lost member's slots are answered by their second choice. A first stroke
does not wait for a second one that is under way.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from casarray.app.ports import Clock, Forwarder, ServerWish
from casarray.core.affinity.identity import slow_start_weight
from casarray.core.config import Array, Gateway, Server, Wish
from casarray.core.errors import CasarrayError
from casarray.core.forwarding.diff import Admit, Change, Expel, Remove, after, diff
from casarray.core.forwarding.table import Table
from casarray.core.forwarding.wanted import Condition, Nodes, group_services, nodes, wanted_table

log = logging.getLogger(__name__)

SLOW_START_STEPS = 10
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the array should be: the configuration's part of the truth."""

    array: Array
    gateway: Gateway
    servers: tuple[Server, ...]  # its members
    member_ids: Mapping[str, int]
    group_ids: Mapping[str, int]
    seed: int

    @property
    def members(self) -> dict[int, Server]:
        """The members by their number."""
        return {self.member_ids[s.name]: s for s in self.servers}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What health says of one member in one group."""

    healthy: bool
    up_since: float | None = None  # monotonic; None: was up when we came, so there is nothing to start slowly
    reason: str = ""


class Gatekeeper:
    """One array's control loop. Call `start`, then tell it what changes; `table` is what is in force."""

    def __init__(
        self,
        plan: Plan,
        forwarder: Forwarder,
        clock: Clock,
        on_expelled: Callable[[str, int], None] = lambda _group, _member: None,
    ) -> None:
        """``on_expelled(group, member_id)`` is told of each member whose connections must end, before they do."""
        self.plan = plan
        self.table: Table | None = None
        self.nodes: dict[str, Nodes] = {}
        self.fault: str = ""  # why the table in force is not the wanted one; empty when it is
        self.restored = 0  # how often somebody else's change was put right
        self.expelled_seconds = 0.0  # from the last verdict to the kernel
        self._forwarder = forwarder
        self._clock = clock
        self._on_expelled = on_expelled
        self._verdicts: dict[tuple[int, str], Verdict] = {}
        self._wishes: dict[str, ServerWish] = {}
        self._over: dict[str, ServerWish] = {}  # drains whose deadline has passed
        self._due = asyncio.Event()
        self._changed = asyncio.Event()
        self._expelled: list[Expel] = []  # since the second stroke under way began
        self._settled = asyncio.Event()  # an attempt that knew of everything has ended, well or badly
        self._closed = False
        self._distrust = False
        self._due_since: float | None = None
        self._decided_at = 0.0  # wall clock: when the nodes were last decided
        self._worked_out: tuple[Plan, Mapping[str, Nodes], Table] | None = None  # the last wanted table, and for what
        # After a panic: who was kept in it stays usable till then (monotonic), well or not.
        self._reprieved: dict[str, tuple[float, frozenset[int]]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._loops: list[asyncio.Task[None]] = []

    async def adopt(self) -> bool:
        """Take over what is in force. Whether anything was: then its members stay usable until health knows better."""
        self.table = await self._forwarder.observe()
        if self.table is None:
            return False
        for group in self.table.groups:
            self.nodes[group.name] = Nodes(group.nodes, dict.fromkeys(group.nodes, 1.0))
            for member_id in group.nodes:
                self._verdicts[member_id, group.name] = Verdict(True, reason="as the gateway before left it")
        return True

    async def foresee(self) -> None:
        """Work out the table of the most likely case, all members well, while nobody knows yet how they are."""
        conditions = {i: Condition(True, self.effective_wish(s.name).wish) for i, s in self.plan.members.items()}
        all_well = nodes(conditions, frozenset(), self.plan.array.panic)
        await self._work_out(self.plan, dict.fromkeys(group_services(self.plan.array), all_well))

    async def start(self) -> None:
        """Put the wanted table in force and keep it so. Raises what the forwarder raises when it cannot be done."""
        await self._converge()
        self._loops = [asyncio.create_task(self._keep_true()), asyncio.create_task(self._expel_at_once())]

    def judge(self, member_id: int, group: str, verdict: Verdict) -> None:
        """Health has a new verdict on a member in a group."""
        self._verdicts[member_id, group] = verdict
        self._mark_due()

    def wish(self, wishes: Mapping[str, ServerWish]) -> None:
        """The operator's word on every server; those not named are active."""
        self._wishes = dict(wishes)
        self._mark_due()

    def replan(self, plan: Plan) -> None:
        """A new configuration is in force."""
        self.plan = plan
        # Whoever leaves and is put in again later has to prove itself, whatever was known of it once.
        self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if key[0] in plan.members}
        self._mark_due()

    def distrust(self) -> None:
        """Somebody else touched the table: look at it anew and put it right."""
        self._distrust = True
        self._mark_due()

    async def put_right(self) -> None:
        """As `distrust`, and wait until the wanted table is in force again."""
        self.distrust()
        while not await self._attempted():
            if self._closed:
                return
        self.restored += 1

    async def settled(self) -> bool:
        """Wait until everything that was told so far is in force, or could not be put there; whether it is.

        `fault` says why not; it is tried again whether or not anybody waits. Closing ends the waiting, too.
        """
        self._due.set()
        return await self._attempted()

    async def _attempted(self) -> bool:
        if not self._closed:
            self._settled.clear()
            await self._settled.wait()
        return not self.fault and not self._closed

    async def close(self, *, keep: bool) -> None:
        """Stop; the table stays in force if told to keep it."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, *(self._tasks if self._loops else ()), return_exceptions=True)
        self._closed = True
        self._settled.set()
        try:
            if not keep:
                await self._end_all()
                await self._forwarder.apply([Remove(self.plan.array.name)])
                self.table = None
        finally:
            await self._forwarder.close(keep=keep)

    def effective_wish(self, server: str) -> ServerWish:
        """The operator's word as it counts now: a drain whose deadline has passed is over."""
        wish = self._wishes.get(server, ServerWish(Wish.ACTIVE))
        if wish.wish is not Wish.DRAIN or wish.deadline is None:
            return wish
        if wish.deadline <= self._clock.wall():
            self._over[server] = wish  # for good: the host's clock may be set back
        return ServerWish(Wish.OUT, wish.deadline) if self._over.get(server) == wish else wish

    def verdict(self, member_id: int, group: str) -> Verdict:
        """What is known of the member in the group."""
        return self._verdicts.get((member_id, group), Verdict(False, reason="not probed yet"))

    def _mark_due(self) -> None:
        if self._due_since is None:
            self._due_since = self._clock.monotonic()
        self._due.set()
        self._changed.set()

    async def _expel_at_once(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._first_stroke()
            except CasarrayError:
                pass  # the second stroke meets the same, tells it, and tries again
            except Exception:
                log.exception("array %s: taking members out at once failed", self.plan.array.name)

    async def _keep_true(self) -> None:
        while True:
            await self._wait_until_due(self._seconds_to_next_change())
            self._due.clear()
            try:
                await self._converge()
            except Exception as error:  # whatever it is: an array that nobody watches is worse
                self._note_fault(error)
            else:
                self.fault = ""
            if not self._due.is_set():
                self._settled.set()
            if self.fault:
                self._distrust = True
                # A new cause ends the wait: often it is the news of what made the change fail.
                await self._wait_until_due(RETRY_SECONDS)
                self._due.set()

    async def _wait_until_due(self, seconds: float | None) -> None:
        # Not `wait_for`: until Python 3.12 it swallows a cancellation that comes together with what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._due.wait()

    def _note_fault(self, error: Exception) -> None:
        """Say it once, however often it is tried again; where the fault is ours, with all that helps to find it."""
        ours = not isinstance(error, CasarrayError)
        said = f"{type(error).__name__}: {error}" if ours else str(error)
        if said != self.fault:
            name = self.plan.array.name
            trace = error if ours else None
            log.error("array %s: the table could not be changed, trying again: %s", name, said, exc_info=trace)
        self.fault = said

    def _seconds_to_next_change(self) -> float | None:
        """Until a deadline passes or a slow start takes its next step; nothing of the kind: for ever."""
        waits = []
        for server in self.plan.servers:
            wish = self._wishes.get(server.name)
            # A deadline that passed while the last decision was being performed has not been heeded yet.
            if wish and wish.wish is Wish.DRAIN and wish.deadline is not None and wish.deadline > self._decided_at:
                waits.append(wish.deadline - self._clock.wall())
        waits += [until - self._clock.monotonic() for until, _ in self._reprieved.values()]
        step = self.plan.array.health.slow_start / SLOW_START_STEPS
        if any(share < 1 for n in self.nodes.values() for share in n.shares.values()):
            waits.append(step)
        return max(0.05, min(waits)) if waits else None

    def _wanted_nodes(self) -> dict[str, Nodes]:
        now, self._decided_at = self._clock.monotonic(), self._clock.wall()
        wanted = {}
        for group in group_services(self.plan.array):
            conditions = {}
            for member_id, server in self.plan.members.items():
                verdict = self.verdict(member_id, group)
                up_seconds = inf if verdict.up_since is None else now - verdict.up_since
                share = slow_start_weight(1.0, up_seconds, self.plan.array.health.slow_start)
                conditions[member_id] = Condition(verdict.healthy, self.effective_wish(server.name).wish, share)
            before = self.nodes.get(group)
            wanted[group] = nodes(conditions, before.usable if before else frozenset(), self.plan.array.panic)
            if before and before.panic and not wanted[group].panic:
                self._reprieved[group] = now + self._reprieve_seconds(), before.usable
            until, kept = self._reprieved.get(group, (now, frozenset()))
            if wanted[group].panic or until <= now:
                self._reprieved.pop(group, None)
            else:
                kept &= {i for i, c in conditions.items() if c.wish is not Wish.OUT}
                wanted[group] = replace(wanted[group], usable=wanted[group].usable | kept)
            if wanted[group].panic and not (before and before.panic):
                log.critical(
                    "array %s: every member looks down in group %s; still steering to the last known good: %s",
                    self.plan.array.name,
                    group,
                    ", ".join(self.plan.members[i].name for i in sorted(wanted[group].usable)),
                )
        return wanted

    def _reprieve_seconds(self) -> float:
        """What ended a panic for one member often ends it for all: so long each has until its own probes say so.

        Else all clients were led to the first one that looks well again, and those of the others reset for it.
        """
        health = self.plan.array.health
        return health.rise * health.interval + health.timeout

    async def _first_stroke(self) -> dict[str, Nodes]:
        """Take out who must leave; who may be used now."""
        since, self._due_since = self._due_since, None
        wanted = self._wanted_nodes()
        if leaving := self._leaving(wanted):
            await self._apply(leaving)
            self._expelled += leaving
            if since is not None:
                self.expelled_seconds = self._clock.monotonic() - since
            self._end_connections(leaving)
        self.nodes = wanted
        return wanted

    async def _converge(self) -> None:
        if self._distrust:
            self._distrust = False
            self.table = await self._forwarder.observe()
        plan = self.plan  # a new one may come while we wait; it is for the next time
        wanted_nodes = await self._first_stroke()
        self._expelled.clear()
        # Before the slots are worked out: clients that are still pinned to them need not wait for that.
        await self._admit(self._joining(wanted_nodes))
        wanted = without(await self._work_out(plan, wanted_nodes), self._expelled)
        if wanted is not self.table:  # looking for what differs takes milliseconds
            await self._apply(diff(wanted, self.table))
            self.table = without(wanted, self._expelled)

    async def _work_out(self, plan: Plan, wanted: Mapping[str, Nodes]) -> Table:
        """The whole table for these nodes; at once if it is the last one's again, as when somebody flushed it."""
        if (known := self._worked_out) is not None and known[0] is plan and known[1] == wanted:
            return known[2]
        # The slots are arithmetic over some ten thousand numbers: not on the loop that answers clients.
        table = await asyncio.to_thread(
            wanted_table,
            plan.array,
            plan.gateway,
            plan.servers,
            member_ids=plan.member_ids,
            group_ids=plan.group_ids,
            nodes_by_group=wanted,
            seed=plan.seed,
        )
        self._worked_out = plan, wanted, table
        return table

    def _leaving(self, wanted: Mapping[str, Nodes]) -> list[Expel]:
        if self.table is None:
            return []
        return [
            Expel(group.name, member_id)
            for group in self.table.groups
            for member_id in sorted(group.nodes - (wanted[group.name].usable if group.name in wanted else frozenset()))
        ]

    def _joining(self, wanted: Mapping[str, Nodes]) -> list[Admit]:
        """Who may be used from now on, of those that the rules in force lead to the right place."""
        if self.table is None:
            return []
        known = {m.id for m in self.table.members if (s := self.plan.members.get(m.id)) and s.addresses == m.addresses}
        return [
            Admit(group.name, member_id)
            for group in self.table.groups
            if group.name in wanted
            for member_id in sorted((wanted[group.name].usable & known) - group.nodes)
        ]

    async def _apply(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        await self._forwarder.apply(changes)
        if self.table is not None:
            self.table = without(self.table, [c for c in changes if isinstance(c, Expel)])

    async def _admit(self, joining: Sequence[Admit]) -> None:
        await self._apply(joining)
        for admitted in joining:
            self.table = after(self.table, admitted)
        # Who had to leave meanwhile left before being let in.
        await self._apply([e for e in self._expelled if Admit(e.group, e.member_id) in joining])

    def _end_connections(self, leaving: Iterable[Expel]) -> None:
        for expelled in leaving:
            self._on_expelled(expelled.group, expelled.member_id)
            task: asyncio.Task[object] = asyncio.create_task(self._reset(expelled))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end_all(self) -> None:
        """Take every member out, and wait until its clients have been told: later there is nothing that tells them."""
        if everybody := self._leaving({}):
            await self._apply(everybody)
            await asyncio.gather(*(self._reset(expelled) for expelled in everybody))

    async def _reset(self, expelled: Expel) -> None:
        name = (
            self.plan.members[expelled.member_id].name
            if expelled.member_id in self.plan.members
            else "a removed server"
        )
        milliseconds = self.expelled_seconds * 1000
        try:
            count = await self._forwarder.reset(expelled.group, expelled.member_id)
        except CasarrayError as error:
            log.error("array %s: connections of %s could not be reset: %s", self.plan.array.name, name, error)
        else:
            log.warning(
                "array %s: %s is out of group %s, %.1f ms after the verdict; %d connections reset",
                self.plan.array.name,
                name,
                expelled.group,
                milliseconds,
                count,
            )


def without(table: Table, expelled: Sequence[Expel]) -> Table:
    """The table with these members taken out of their groups."""
    if not expelled:
        return table
    gone: dict[str, set[int]] = {}
    for e in expelled:
        gone.setdefault(e.group, set()).add(e.member_id)
    groups = tuple(replace(g, nodes=g.nodes - gone[g.name]) if g.name in gone else g for g in table.groups)
    return replace(table, groups=groups)
