"""One array at work: its table, its members' health, and the decisions of its endpoint mapper."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace

from casarray.app.gatekeeper import Gatekeeper, Plan, Verdict
from casarray.app.health import HealthWatch
from casarray.app.operations import FastPathStatus
from casarray.app.ports import Addresses, Clock, Forwarder, Mapper, Prober, ServerWish, Traffic
from casarray.core.affinity.choose import choose, of_family
from casarray.core.config import Array, HealthPolicy, ProbeKind, UnreadableMapper
from casarray.core.forwarding.table import Address, Group, OpenRange, Pinhole
from casarray.core.forwarding.wanted import group_services, mapper_service
from casarray.core.gateway.pinholes import PinholeBook
from casarray.core.health.probes import Target
from casarray.core.health.verdict import HealthState, ServiceHealth, standing

log = logging.getLogger(__name__)

#: Beyond the time-out of one probe, so long may the first look at all members take before the array starts without it.
FIRST_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What was last counted in the forwarder."""

    connections: Mapping[tuple[str, int], int]
    traffic: Mapping[tuple[str, int], Traffic]
    pins: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a client of the endpoint mapper is led."""

    member_id: int
    address: Address
    port: int


def targets(plan: Plan) -> list[Target]:
    """Everything to be probed, at those addresses of the members that the array's clients can be led to."""
    mapper = mapper_service(plan.array)
    families = {address.version for address in plan.array.addresses}
    return [
        Target(server.name, addresses, service, mapper.port if mapper else None, plan.array.fqdn)
        for server in plan.servers
        if (addresses := tuple(a for a in server.addresses if a.version in families))
        for service in plan.array.services
    ]


class ArrayService:
    """Serves one array until it is closed. Everything here happens on one event loop."""

    def __init__(
        self, plan: Plan, forwarder: Forwarder, clock: Clock, prober: Prober, addresses: Addresses | None = None
    ) -> None:
        """Without ``addresses``, whoever calls sees to it that the array's are here and nobody else's."""
        self.forwarder = forwarder
        self.adopted = False  # something was in force when we came
        self.began = False  # the table is ours to make, and to take away if the start fails
        self.sample = Sample({}, {}, {})
        self.mapper: Mapper | None = None
        self.fast_path: Callable[[], FastPathStatus] | None = None
        self.ready = False
        self.gatekeeper = Gatekeeper(plan, forwarder, clock, self._end_member)
        self.health = HealthWatch(prober, self._policy, clock, self._on_health)
        self._clock = clock
        self._addresses = addresses
        self._since: dict[tuple[int, str], tuple[bool, float]] = {}
        self._holes = book_of(plan.array)
        self._companions: set[asyncio.Task[None]] = set()

    @property
    def plan(self) -> Plan:
        """The configuration in force."""
        return self.gatekeeper.plan

    @property
    def array(self) -> Array:
        """The array as configured."""
        return self.plan.array

    async def start(self, wishes: Mapping[str, ServerWish], make_mapper: Callable[["ArrayService"], Mapper]) -> None:
        """Adopt or make the table, look at the members once, and forward.

        Raises what the forwarder and the addresses raise; what was made until then is for `close` to take away.
        """
        if self._addresses is not None:
            self._addresses.hold(self.array.addresses)
        self.gatekeeper.wish(wishes)
        await asyncio.gather(self._look_first(), self.gatekeeper.foresee())
        self._judge_all()
        await self.gatekeeper.start()
        self.mapper = make_mapper(self)
        await self.mapper.start()
        if self._addresses is not None:
            await self._addresses.bring(self.array.addresses)
        self.ready = True
        self._judge_all()  # what the probes said meanwhile

    async def _look_first(self) -> None:
        """Learn what is in force and, if nothing is, how the members are."""
        self.adopted = await self.gatekeeper.adopt()
        self.began = not self.adopted
        self.health.watch(targets(self.plan))
        if self.adopted:
            # What the gateway before us left is as good as our first look, and clients are already using it.
            log.info("array %s: the table in the kernel is adopted", self.array.name)
        else:
            await self.health.wait_first(self.array.health.timeout + FIRST_LOOK_SECONDS)

    async def prepare(self, plan: Plan) -> None:
        """Do of a new plan what can be refused. Raises why, and then nothing has changed; `revert` takes it back."""
        try:
            if self._addresses is not None:
                self._addresses.hold(plan.array.addresses)
            if self.mapper is not None:
                self.mapper.replan(plan.array)
            if self._addresses is not None:
                await self._addresses.bring(plan.array.addresses)
        except BaseException:
            await self.revert()
            raise

    async def revert(self) -> None:
        """Forget a plan that was prepared and does not come into force."""
        if self.mapper is not None:
            self.mapper.replan(self.array)
        if self._addresses is not None:
            await self._addresses.keep_only(self.array.addresses)

    async def replan(self, plan: Plan) -> bool:
        """A new configuration, which has been prepared, counts from now on; whether the forwarder does it already."""
        self._holes = book_of(plan.array)
        self.gatekeeper.replan(plan)
        self.health.watch(targets(plan))
        self._judge_all()
        in_force = await self.gatekeeper.settled()
        if self._addresses is not None:
            await self._addresses.keep_only(plan.array.addresses)
        return in_force

    def accompany(self, work: Coroutine[None, None, None]) -> None:
        """Do this beside, until it ends or the array is closed."""
        task = asyncio.create_task(work)
        self._companions.add(task)
        task.add_done_callback(self._companion_ended)

    def _companion_ended(self, task: "asyncio.Task[None]") -> None:
        self._companions.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("array %s: a task of it failed", self.array.name, exc_info=error)

    async def close(self, *, keep: bool) -> None:
        """Stop; with ``keep``, traffic goes on without us as far as the forwarder can."""
        self.ready = False
        for task in list(self._companions):
            task.cancel()
        await asyncio.gather(*self._companions, return_exceptions=True)
        await self.health.close()
        if self.mapper is not None:
            await self.mapper.close()
        try:
            await self.gatekeeper.close(keep=keep)
        finally:
            if self._addresses is not None:
                await self._addresses.close(keep=keep)

    def group(self, name: str, version: int | None = None) -> Group | None:
        """The group as it is in force; as clients of IP version 4 or 6 meet it, if that is given."""
        table = self.gatekeeper.table
        group = table.group(name) if table else None
        return of_family(table, group, version) if table and group and version else group

    # The endpoint mapper's questions.

    def route(self, client: Address, avoid: int | None = None) -> Route | None:
        """Whom a client of the endpoint mapper is to be led to; it is pinned there at once.

        ``avoid`` is a member that just could not be reached, though health does not know it yet.
        """
        mapper = mapper_service(self.array)
        group = self.group(mapper.group, client.version) if mapper else None
        if mapper is None or mapper.port is None or group is None:
            return None
        pinned = self.forwarder.pinned(group.name, client)
        if avoid is not None:
            group = avoiding(group, avoid)
        choice = choose(group, self.plan.seed, client, pinned)
        member = self.gatekeeper.table.member(choice.member_id) if self.gatekeeper.table and choice.member_id else None
        address = member.address(client.version) if member else None
        if member is None or address is None:
            return None
        if pinned != member.id:
            self.forwarder.pin(group.name, client, member.id)
        return Route(member.id, address, mapper.port)

    def open_pinholes(self, client: Address, member_id: int, ports: Sequence[int]) -> None:
        """The client was told these ports of that member."""
        self._open(self._holes.wanted(client, member_id, ports, self._clock.monotonic()))

    def open_range(self, client: Address, member_id: int) -> None:
        """The client was told something that could not be read."""
        if self.array.unreadable_mapper is UnreadableMapper.DYNAMIC_RANGE:
            self._open(self._holes.wanted_range(client, member_id, self._clock.monotonic()))

    def _open(self, holes: Sequence[Pinhole | OpenRange]) -> None:
        if holes:
            self.forwarder.open_pinholes(holes)
            self._holes.opened(holes, self._clock.monotonic())

    def unreachable(self, member_id: int) -> None:
        """A member's mapper could not be dialled."""
        if mapper := mapper_service(self.array):
            self.suspect(mapper.group, member_id)

    def suspect(self, group: str, member_id: int) -> None:
        """A member could not be connected to in this group: look at it now."""
        if server := self.plan.members.get(member_id):
            for service in group_services(self.array).get(group, ()):
                self.health.suspect(server.name, service.name)

    async def put_right(self) -> None:
        """Somebody else touched the forwarder's table: have it as it should be when this returns."""
        self._holes.forget()
        await self.gatekeeper.put_right()

    # Looking at it.

    async def look(self) -> None:
        """Count what is going on, for `sample`."""
        self.sample = Sample(
            await self.forwarder.connections(), await self.forwarder.traffic(), await self.forwarder.pins()
        )

    def since(self, member_id: int, group: str) -> float:
        """How long ago, in seconds, the member became what it is in the group."""
        return self._clock.monotonic() - self._since.get((member_id, group), (False, self._clock.monotonic()))[1]

    # Health's verdicts.

    def _policy(self, _target: Target) -> HealthPolicy:
        return self.array.health

    def _on_health(self, target: Target, _health: ServiceHealth) -> None:
        if self.ready:
            self._judge(target.server, target.service.group)

    def _judge_all(self) -> None:
        for server in self.plan.servers:
            for group in group_services(self.array):
                self._judge(server.name, group)

    def _judge(self, server: str, group: str) -> None:
        member_id = self.plan.member_ids.get(server)
        services = group_services(self.array).get(group)
        if member_id is None or services is None:
            return
        seen = {service: health for (name, service), health in self.health.seen().items() if name == server}
        stands = standing(services, seen)
        if stands.state is HealthState.UNKNOWN and not any(s.probe is ProbeKind.NONE for s in services):
            before = self.gatekeeper.verdict(member_id, group)
            if before.healthy:
                return  # adopted, or just reconfigured: as good as it was, until its probes have spoken
        verdict = Verdict(stands.state is HealthState.UP, stands.up_since, stands.reason)
        if self._since.get((member_id, group), (None, 0.0))[0] is not verdict.healthy:
            self._since[member_id, group] = (verdict.healthy, self._clock.monotonic())
        self.gatekeeper.judge(member_id, group, verdict)

    def _end_member(self, group: str, member_id: int) -> None:
        mapper = mapper_service(self.array)
        if self.mapper is not None and mapper is not None and mapper.group == group:
            self._holes.forget(member_id)
            self.mapper.end_member(member_id)


def book_of(array: Array) -> PinholeBook:
    """An empty book of the pinholes in the mapper's group."""
    mapper = mapper_service(array)
    return PinholeBook(mapper.group if mapper else "", array.pinhole_timeout, array.dynamic_ports)


def avoiding(group: Group, member_id: int) -> Group:
    """The group as if this member could not be used."""
    return replace(group, nodes=group.nodes - {member_id})
