"""What people may ask of this gateway, fulfilled: `casarray.app.operations.Operations` over all its arrays."""

import asyncio
import difflib
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from casarray.app.arrays import ArrayService
from casarray.app.gatekeeper import Plan
from casarray.app.operations import (
    Explanation,
    GatewayStatus,
    ReloadReport,
    RpcHttpStatus,
    ServerChange,
    Status,
)
from casarray.app.ports import Addresses, Clock, ServerWish, State
from casarray.app.telling import array_status, explain_array, plan_changes
from casarray.core.affinity.identity import group_ids, member_ids, seed_of
from casarray.core.config import Array, Config, Wish
from casarray.core.errors import CasarrayError, ConfigError, Conflict, NotFound
from casarray.core.forwarding.table import Address
from casarray.core.forwarding.wanted import group_services

if TYPE_CHECKING:
    from casarray.app.directory_feed import DirectoryFeed

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # what was counted less than this ago is counted as now
FRESH_SHARE = 10  # nor is it counted again before ten times as long as the counting took


def plan_for(config: Config, array: Array, state: State) -> Plan:
    """The plan of one array; new servers and groups get their numbers, which are kept for ever."""
    members = member_ids([s.name for s in config.members(array)], state.ids("member"))
    groups = group_ids(group_services(array), state.ids("group"))
    state.keep_ids("member", members)
    state.keep_ids("group", groups)
    remember(state, "array", [array.name])
    remember(state, "address", [str(a) for a in (*array.addresses, *config.gateway.source_addresses)])
    seed = array.seed if array.seed is not None else seed_of(array.fqdn)
    return Plan(array, config.gateway, config.members(array), members, groups, seed)


def remember(state: State, kind: str, names: Iterable[str]) -> None:
    """Keep in mind that this gateway had something of that name, for whoever tidies up after it."""
    known = state.ids(kind)
    state.keep_ids(kind, {n: number for number, n in enumerate(sorted(set(names) - known.keys()), len(known) + 1)})


class GatewayService:
    """One gateway with its arrays.

    ``load`` brings the configuration as it is now; ``open_array`` makes and starts an array.
    """

    def __init__(
        self,
        config: Config,
        state: State,
        clock: Clock,
        *,
        about: GatewayStatus,
        load: Callable[[], Awaitable[Config]],
        open_array: Callable[[Plan, Mapping[str, ServerWish]], Awaitable[ArrayService]],
        resident_bytes: Callable[[], int] = lambda: 0,
        pool: Addresses | None = None,
        feed: "DirectoryFeed | None" = None,
    ) -> None:
        """``pool`` brings the source addresses that clients are hidden behind; without it, somebody else does.

        ``feed`` is where arrays and servers come from when that is not the file, to be told of in `status`.
        """
        self.config = config
        self.arrays: dict[str, ArrayService] = {}
        self.warnings: list[str] = []
        self._state = state
        self._clock = clock
        self._about = about
        self._load = load
        self._open_array = open_array
        self._resident_bytes = resident_bytes
        self._pool = pool
        self._feed = feed
        self.answers: Callable[[], Mapping[str, int]] = dict  # of Autodiscover, where it is served beside
        self._one_reload = asyncio.Lock()
        self.rpc_http: Callable[[], RpcHttpStatus | None] = lambda: None  # how the RPC proxy is, if there is one
        self._started = clock.monotonic()
        self._fresh_until = clock.monotonic()

    async def start(self) -> None:
        """Start every array. Raises what the first one that fails raises; what was not there before us is gone then."""
        async with self._one_reload:
            try:
                for array in self.config.arrays:
                    plan = plan_for(self.config, array, self._state)
                    self.arrays[array.name] = await self._open_array(plan, self._state.wishes())
                await self._bring_pool(self.config)
            except BaseException:
                await self._close_all(lambda array: not array.began)
                raise

    async def close(self, *, keep: bool) -> None:
        """Stop every array; with ``keep``, traffic goes on."""
        await self._close_all(lambda _array: keep)
        if self._pool is not None:
            await self._pool.close(keep=keep)
        self._state.close()

    async def _bring_pool(self, config: Config) -> None:
        if self._pool is not None:
            self._pool.hold(config.gateway.source_addresses)
            await self._pool.bring(config.gateway.source_addresses)

    async def _close_all(self, keep: Callable[[ArrayService], bool]) -> None:
        """Close every array, also when one of them cannot be closed in order."""
        while self.arrays:
            _, array = self.arrays.popitem()
            await self._close_one(array, keep=keep(array))

    @staticmethod
    async def _close_one(array: ArrayService, *, keep: bool) -> list[str]:
        """Close it; what went wrong, in sentences, for that must not keep others from what they have to do."""
        try:
            await array.close(keep=keep)
        except CasarrayError as error:
            sentence = f"array {array.array.name}: could not be closed in order: {error}"
            log.error("%s", sentence)
            return [sentence]
        return []

    async def freshen(self) -> None:
        began = self._clock.monotonic()
        if began < self._fresh_until:
            return
        self._fresh_until = began + FRESH_SECONDS
        for array in self.arrays.values():
            try:
                await array.look()
            except CasarrayError as error:
                log.warning("array %s: cannot be counted: %s", array.array.name, error)
        now = self._clock.monotonic()
        self._fresh_until = now + max(FRESH_SECONDS, (now - began) * FRESH_SHARE)

    def status(self) -> Status:
        about = replace(
            self._about,
            return_path=self.config.gateway.return_path.value,
            uptime_seconds=self._clock.monotonic() - self._started,
            pid=os.getpid(),
            rss_bytes=self._resident_bytes(),
        )
        arrays = tuple(array_status(a, self._clock.wall()) for a in self.arrays.values())
        faults = [
            f"array {a.array.name}: the table in force is not the wanted one: {a.gatekeeper.fault}"
            for a in self.arrays.values()
            if a.gatekeeper.fault
        ]
        empty = [
            f"array {a.name}: no member may be used in group {g.name}; its clients are refused"
            for a in arrays
            for g in a.groups
            if not any(m.eligible for m in g.members)
        ]
        panic = [
            f"array {a.name}: every member looks down in a group; the last known good ones are kept in use"
            for a in arrays
            if a.panic
        ]
        told = self._feed.warnings() if self._feed else ()
        directory = self._feed.status() if self._feed else None
        warnings = (*self.warnings, *told, *faults, *panic, *empty)
        return Status(about, arrays, warnings, directory, self.answers(), self.rpc_http())

    def explain(self, client: str, array: str | None = None) -> Explanation:
        address = client_address(client)
        if array is not None and array not in self.arrays:
            raise NotFound(f"there is no array {array!r}; there is {_names(self.arrays)}")
        chosen = [a for name, a in self.arrays.items() if array in (None, name)]
        return Explanation(str(address), tuple(explain_array(a, address) for a in chosen))

    async def set_server(self, name: str, wish: Wish, deadline_seconds: float | None = None) -> ServerChange:
        known = [s.name for s in self.config.servers]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise NotFound(f"there is no server {name!r}; " + (f"did you mean {near[0]}?" if near else _names(known)))
        if deadline_seconds is not None and wish is not Wish.DRAIN:
            raise Conflict(f"a deadline goes with drain, not with {wish}")
        before = self._state.wishes().get(name, ServerWish(Wish.ACTIVE)).wish
        deadline = None if deadline_seconds is None else self._clock.wall() + deadline_seconds
        self._state.keep_wish(name, ServerWish(wish, deadline))
        log.info("server %s: %s (was %s)", name, wish, before)
        touched = [a for a in self.arrays.values() if name in {s.name for s in a.plan.servers}]
        warnings, connections = [], 0
        for array in touched:
            array.gatekeeper.wish(self._state.wishes())
            if not await array.gatekeeper.settled():
                warnings.append(_not_yet(array))
        for array in touched:
            try:
                await array.look()
            except CasarrayError as error:  # it is done all the same
                warnings.append(f"array {array.array.name}: its connections cannot be counted: {error}")
            member_id = array.plan.member_ids[name]
            connections += sum(n for (_, member), n in array.sample.connections.items() if member == member_id)
            warnings += [
                f"array {array.array.name}: nobody takes new clients in group {group} now"
                for group, nodes in array.gatekeeper.nodes.items()
                if not nodes.shares
            ]
        return ServerChange(name, before, wish, deadline_seconds, connections, tuple(warnings))

    async def reload(self) -> ReloadReport:
        async with self._one_reload:  # each reads the file anew: what was read last counts in the end
            return await self._reload()

    async def _reload(self) -> ReloadReport:
        began = self._clock.monotonic()
        new = await self._load()  # a ConfigError ends it here, with nothing changed
        changes, warnings = plan_changes(self.config, new)
        if self.arrays and not new.arrays:
            # More often a file that is just being written than somebody's wish.
            where = "directory" if self._feed else "configuration"
            raise ConfigError(
                f"the new {where} has no array, so nothing would be served any more; if that is wanted, stop the "
                "gateway and use `casarray remove`"
            )
        self._check_moves(new)
        plans = {array.name: plan_for(new, array, self._state) for array in new.arrays}
        fresh = await self._prepare(new, plans)
        self.config = new
        kept = [self.arrays[name] for name in self.arrays.keys() & plans.keys()]
        gone = [self.arrays.pop(name) for name in self.arrays.keys() - plans.keys()]
        self.arrays |= fresh
        for array in kept:
            if not await array.replan(plans[array.array.name]):
                warnings.append(_not_yet(array))
        for array in gone:
            warnings += await self._close_one(array, keep=False)
        if self._pool is not None:
            await self._pool.keep_only(new.gateway.source_addresses)
        log.info("configuration reloaded: %s", "; ".join(changes) or "nothing changed")
        return ReloadReport(tuple(changes), tuple(warnings), self._clock.monotonic() - began)

    def _check_moves(self, new: Config) -> None:
        """An address cannot go from one array to another in one step: it would be nobody's, or both's, for a while."""
        owners = {address: name for name, array in self.arrays.items() for address in array.array.addresses}
        for array in new.arrays:
            for address in array.addresses:
                if (owner := owners.get(address, array.name)) != array.name:
                    raise Conflict(
                        f"{address} belongs to the array {owner}: take it away there, reload, and then give it to the "
                        f"array {array.name}"
                    )

    async def _prepare(self, new: Config, plans: Mapping[str, Plan]) -> dict[str, ArrayService]:
        """Do everything that can be refused; the arrays that are new. Raises why, and then nothing has changed."""
        prepared: list[ArrayService] = []
        fresh: dict[str, ArrayService] = {}
        try:
            await self._bring_pool(new)
            for name, plan in plans.items():
                if name in self.arrays:
                    await self.arrays[name].prepare(plan)
                    prepared.append(self.arrays[name])
            for name, plan in plans.items():
                if name not in self.arrays:
                    fresh[name] = await self._open_array(plan, self._state.wishes())
        except BaseException:
            for array in fresh.values():
                await self._close_one(array, keep=False)
            for array in prepared:
                await array.revert()
            if self._pool is not None:
                await self._pool.keep_only(self.config.gateway.source_addresses)
            raise
        return fresh

    def readiness(self) -> tuple[bool, str]:
        if not self.arrays:
            return False, "no array is configured"
        for array in self.arrays.values():
            if not array.ready:
                return False, f"array {array.array.name} is starting"
            if array.gatekeeper.fault:
                return False, f"array {array.array.name}: {array.gatekeeper.fault}"
            if not any(nodes.usable for nodes in array.gatekeeper.nodes.values()):
                return False, f"array {array.array.name} has no member that may be used"
        return True, "every array forwards"


def client_address(text: str) -> Address:
    """The client's address. `Conflict` when it is none."""
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        raise Conflict(f"{text!r} is no IP address; write one such as 10.11.0.31 or 2001:db8::31") from None


def _not_yet(array: ArrayService) -> str:
    return f"array {array.array.name}: not in force yet, it is being tried again: {array.gatekeeper.fault}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
