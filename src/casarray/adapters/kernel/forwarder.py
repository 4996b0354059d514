"""The kernel forwarder: nftables carries the connections of one array, and keeps them when this process does not.

Rules go through the nft program, elements through netlink messages of our own. The kernel's table is the truth:
nothing is remembered here but the structure that was last seen or put there, for the names and sizes of its maps.

Calls that are not coroutines, and `Expel`, use one socket and belong to the thread of the event loop: tens of
microseconds each, however many pins there are. Everything bigger runs in a thread with a socket of its own, in pieces,
since the kernel lets one change in at a time.
"""

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import groupby

from casarray.adapters.kernel import elements, nft_program, pins, readback, slots
from casarray.adapters.kernel.conntrack import Conntrack
from casarray.adapters.kernel.fast_path import FastPath
from casarray.adapters.kernel.nfnetlink import Channel, Kind, Message, Refused, Watch, text
from casarray.adapters.kernel.resets import Resets
from casarray.adapters.kernel.shield import Shield
from casarray.adapters.kernel.threads import to_its_end
from casarray.app.ports import Traffic
from casarray.core.affinity.jhash import same_client
from casarray.core.errors import CasarrayError, Conflict, NotFound, Unavailable
from casarray.core.forwarding import nft
from casarray.core.forwarding.diff import Admit, Change, Expel, FillSlots, Remove, Structure, after, structure
from casarray.core.forwarding.table import (
    MARK_MASK,
    MAX_GROUP_ID,
    Address,
    Group,
    OpenRange,
    Pinhole,
    Table,
    connection_mark,
)

_FULL = {errno.ENFILE, errno.ENOSPC}
_RESETS_AT_ONCE = 32
_GROUP_MASK = connection_mark(MAX_GROUP_ID, 0)


class KernelForwarder:
    """`casarray.app.ports.Forwarder` by nftables, in the network namespace of the thread that makes and uses it."""

    def __init__(
        self,
        array: str,
        *,
        conntrack: Conntrack | None = None,
        resets: Resets | None = None,
        program: str = "nft",
        pin_capacity: int = nft.PIN_CAPACITY,
    ) -> None:
        """`Denied` or `Unavailable` if the kernel is not to be had at all. ``pin_capacity``: by group and family."""
        self.spare_pins: dict[str, bytes] = {}  # by group, as `dump_pins` gives them: for a group that is made anew
        self._array = array
        self._name = nft.table_name(array)
        self._conntrack = conntrack or Conntrack()
        self.fast_path = FastPath(array)  # whoever wants it keeps it
        self._resets = resets or Resets(self._conntrack, around=self.fast_path.paused)
        self._program = program
        self._pin_capacity = pin_capacity
        self._structure: Table | None = None
        self._one_at_a_time = asyncio.Lock()
        self._restructuring = False
        self._closed = False
        self._shield = Shield(self._name, program)
        self._expelled_meanwhile: list[Expel] = []
        self._bare: set[str] = set()  # groups that were made anew and have not got their pins back
        self._watches: list[Watch] = []
        self._hot = Channel()
        self._ours = {self._hot.port_id}
        # A reset holds a thread for a second, and a rack that fails is a hundred of them: nothing else may wait behind.
        self._resetting = ThreadPoolExecutor(_RESETS_AT_ONCE, thread_name_prefix="casarray-reset")
        try:
            # The first word with the kernel: it tells who may not speak to it at all.
            self._structure = self._described(self._hot)
        except BaseException:
            self._hot.close()
            raise

    async def observe(self) -> Table | None:
        """What is in force. Without `addresses` if the rules are not as we put them: nobody knows what they do."""
        async with self._one_at_a_time:
            found = await to_its_end(self._observed)
            if found is not None and found.addresses:
                await to_its_end(self._shield.put_up, found)
            return found

    async def apply(self, changes: Sequence[Change]) -> None:
        """Perform the changes. An `Expel` at the beginning waits for nobody."""
        rest = list(changes)
        while rest and isinstance(first := rest[0], Expel):
            self._expel(first)
            del rest[0]
        if not rest:
            return
        async with self._one_at_a_time:
            for kind, alike in groupby(rest, type):
                if kind is FillSlots:
                    await to_its_end(self._fill_slots, [c for c in alike if isinstance(c, FillSlots)])
                    continue
                for change in alike:
                    await self._apply_one(change)

    def pinned(self, group: str, client: Address) -> int | None:
        """One lookup by key, about 20 us. `Unavailable` while pins that were lost are being put back."""
        found = self._pin_of(self._pinning(group), client)
        return None if found is None else found.value

    def pin_seconds_left(self, group: str, client: Address) -> int | None:
        """Whole seconds."""
        found = self._pin_of(self._group(group), client)
        return None if found is None or found.expires_ms is None else found.expires_ms // 1000

    def pin(self, group: str, client: Address, member_id: int) -> None:
        """Pin or renew. A full map pins nobody new, here as in the rules: what goes by the slots goes on."""
        at = self._pinning(group)
        map_, key = nft.pin_map(group, client.version), _same(at, client)
        try:
            elements.put(self._hot, self._name, [elements.Wanted(map_, key, member_id, at.affinity_seconds)])
        except Refused as refusal:
            if refusal.number not in _FULL:
                raise

    def unpin(self, group: str, client: Address) -> None:
        """One delete."""
        at = self._group(group)
        elements.discard(self._hot, self._name, nft.pin_map(group, client.version), elements.element(_same(at, client)))

    def open_pinholes(self, holes: Sequence[Pinhole | OpenRange]) -> None:
        """One transaction for all of them. `NotFound` for a group without dynamic ports."""
        wanted = []
        for hole in holes:
            if not self._group(hole.group).dynamic:
                raise NotFound(f"group {hole.group} of array {self._array} has no dynamic ports")
            address, version = hole.client.packed, hole.client.version
            if isinstance(hole, Pinhole):
                map_ = nft.holes_map(hole.group, version)
                key, end = elements.port_key(address, hole.port), None
            else:
                map_ = nft.wide_map(hole.group, version)
                key, end = elements.port_key(address, hole.first), elements.port_key(address, hole.last)
            wanted.append(elements.Wanted(map_, key, hole.member_id, hole.seconds, end))
        if not wanted:
            return
        try:
            elements.put(self._hot, self._name, wanted)
        except Refused as refusal:
            if refusal.number not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
            # A range overlaps one of the same client that was another when the configuration was another.
            for one in wanted:
                if one.key_end is not None:
                    elements.discard_ranges(self._hot, self._name, one.map_, one.key[:-4])
            elements.put(self._hot, self._name, wanted)

    async def reset(self, group: str, member_id: int) -> int:
        """See `Resets.reset`; takes up to a second, for those that lost the first round."""
        mark = connection_mark(self._group(group).id, member_id)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._resetting, self._resets.reset, mark, MARK_MASK)

    async def refresh_pins(self, before_seconds: int) -> int:
        """Walks the connection table once for each group."""
        return await asyncio.to_thread(self._refreshed, self._in_force(), before_seconds)

    async def connections(self) -> Mapping[tuple[str, int], int]:
        """One walk through the connection table, in a thread."""
        names = {g.id: g.name for g in self._in_force().groups}
        marks = await asyncio.to_thread(self._conntrack.count_by_mark, MARK_MASK)
        return {
            (names[mark >> 28], mark >> 16 & 0xFFF): number for mark, number in marks.items() if mark >> 28 in names
        }

    async def traffic(self) -> Mapping[tuple[str, int], Traffic]:
        """New connections, from counters in the rules. Bytes are always 0: counting them would cost every packet."""
        return await asyncio.to_thread(self._traffic, self._in_force())

    async def pins(self) -> Mapping[str, int]:
        """By the kernel's own count; a group is left out where an old kernel would have to walk too many."""
        groups = [g.name for g in self._in_force().groups]
        return await asyncio.to_thread(self._counted, groups)

    async def dump_pins(self, group: str) -> bytes:
        """All pins of a group, in the form of `casarray.adapters.kernel.pins`."""
        return await asyncio.to_thread(self._saved, self._group(group).name)

    async def load_pins(self, group: str, data: bytes) -> int:
        """Put dumped pins back, and how many; a client pinned by now keeps that pin."""
        return await asyncio.to_thread(self._restored, self._group(group).name, data)

    async def foreign_changes(self) -> AsyncIterator[None]:
        """Yields whenever somebody else has touched the table, within a millisecond or so. Endless."""
        watch = Watch(sorted(self._ours))
        self._watches.append(watch)
        loop, touched = asyncio.get_running_loop(), asyncio.Event()
        broken: list[Unavailable] = []

        def read() -> None:
            # At once, also while what was told last is still being dealt with: unread news would ring without end.
            try:
                if watch.news(self._name):
                    touched.set()
            except CasarrayError as error:
                loop.remove_reader(watch.fileno())
                broken.append(Unavailable(f"changes by others go unnoticed: {error}"))
                touched.set()

        loop.add_reader(watch.fileno(), read)
        try:
            while True:
                await touched.wait()
                touched.clear()
                if broken:
                    raise broken[0]
                yield
        finally:
            loop.remove_reader(watch.fileno())
            self._watches.remove(watch)
            watch.close()

    async def close(self, *, keep: bool) -> None:
        """With ``keep`` the kernel goes on with everything; else the table goes, its pins with it. Twice is once."""
        async with self._one_at_a_time:
            if self._closed:
                return
            self._closed = True
            try:
                if not keep:
                    self._remove()
                await to_its_end(self._shield.take_down)
                await to_its_end(partial(self.fast_path.close, keep=keep))
            finally:
                self._resetting.shutdown(wait=False)
                self._hot.close()

    # From here on: what runs in threads, or is shared.

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        with Channel() as channel, self._own(channel.port_id):
            yield channel

    @contextmanager
    def _own(self, port_id: int) -> Iterator[None]:
        """While inside, changes under this port id are ours."""
        self._ours.add(port_id)
        self._ignore_ours()
        try:
            yield
        finally:
            self._ours.discard(port_id)
            self._ignore_ours()

    def _ignore_ours(self) -> None:
        for watch in list(self._watches):
            with suppress(OSError):  # closed by now: it ignores everything
                watch.ignore(sorted(self._ours))

    def _described(self, channel: Channel) -> Table | None:
        about = readback.about(channel, self._name)
        return about.structure if about and about.structure.array == self._array else None

    def _in_force(self) -> Table:
        if self._structure is None:
            self._structure = self._described(self._hot)
        if self._structure is None:
            raise Unavailable(f"there is no forwarding table of array {self._array} in the kernel")
        return self._structure

    def _group(self, name: str) -> Group:
        group = self._in_force().group(name)
        if group is None:
            raise NotFound(f"array {self._array} has no affinity group {name}")
        return group

    def _pinning(self, name: str) -> Group:
        """The group, if what it says of pins can be relied on."""
        group = self._group(name)
        if name in self._bare:
            raise Unavailable(f"the pins of group {name} are being put back")
        return group

    def _observed(self) -> Table | None:
        with self._channel() as channel:
            about = readback.about(channel, self._name)
            if about is None or about.structure.array != self._array:
                self._structure = None
                return None
            self._structure = seen = about.structure
            sound = about.noted == self._fingerprint(seen, readback.inventory(channel, self._name, {}))
            groups = []
            for group in seen.groups:
                nodes, agreed = readback.nodes(channel, self._name, group, seen)
                sound &= agreed
                first, second = (
                    slots.row(channel, self._name, map_, len(group.slots))
                    for map_ in (nft.slots_map(group.name), nft.backup_map(group.name))
                )
                groups.append(replace(group, nodes=nodes, slots=first, backup=second))
        return replace(seen, groups=tuple(groups), addresses=seen.addresses if sound else ())

    def _fingerprint(self, seen: Table, found: readback.Inventory | None) -> str:
        """What this version would have put there, and what the kernel says is there."""
        text_ = nft.transaction(structure(seen), pin_capacity=self._pin_capacity)
        return f"{hashlib.sha256(text_.encode()).hexdigest()[:32]} {found.digest if found else 'nothing'}"

    async def _apply_one(self, change: Change) -> None:
        match change:
            case Expel():
                self._expel(change)
            case Admit():
                self._admit(change)
            case Structure():
                await self._restructure(change)
            case Remove():
                self._remove()
                await to_its_end(self._shield.take_down)

    async def _restructure(self, change: Structure) -> None:
        if nft.table_name(change.table.array) != self._name:
            raise Conflict(f"the forwarder of array {self._array} was given the table of array {change.table.array}")
        self._restructuring = True
        try:
            await to_its_end(self._restructured, change)
        finally:
            self._restructuring = False
            expelled, self._expelled_meanwhile = self._expelled_meanwhile, []
            for change_ in expelled:  # again, should it have failed half-way
                self._take_out(self._hot, change_)

    def _restructured(self, change: Structure) -> None:
        before = self._observed()
        table = after(before, change)
        assert table is not None
        sizes = {g.name: len(g.slots) for g in before.groups} if before else {}
        with self._channel() as channel:
            filler = slots.Filler(channel, self._name)
            fresh = [g for g in table.groups if g.name not in sizes]
            resized = [g for g in table.groups if sizes.get(g.name, len(g.slots)) != len(g.slots)]
            for group in resized:  # first, so that the rules with the new number find all slots filled
                filler.fill(group.name, enumerate(group.slots), enumerate(group.backup))
            found = readback.inventory(channel, self._name, nft.maps(table, pin_capacity=self._pin_capacity))
            present = found.present if found else nft.Present()
            saved = self._of_misfits(channel, table, present)
            text_ = nft.transaction(table, present, pin_capacity=self._pin_capacity)
            self._bare |= {group.name for group in fresh}
            nft_program.run(text_, program=self._program, announced=self._own)
            self._structure = structure(table)
            # The new rules came with the nodes of a moment ago; what follows may take its time.
            for expelled in tuple(self._expelled_meanwhile):
                self._take_out(channel, expelled)
            for group in (g for g in table.groups if g.name in self._bare):
                # Before its slots, which would lead a client elsewhere whose pin is not yet back.
                pins.of_connections(channel, self._name, group, self._living(table, group))
                pins.restored(channel, self._name, group.name, self.spare_pins.get(group.name, b""))
            self._bare.clear()
            for group in fresh:
                filler.fill(group.name, enumerate(group.slots), enumerate(group.backup))
            for group in (*fresh, *resized):
                filler.cut(group.name, len(group.slots))
            for name, data in saved.items():
                pins.restored(channel, self._name, name, data)
            self._note_fingerprint(channel, table)
        self._shield.put_up(table)

    def _of_misfits(self, channel: Channel, table: Table, present: nft.Present) -> dict[str, bytes]:
        """The pins in maps that must be made anew."""
        return {
            group.name: pins.saved(channel, self._name, group.name)
            for group in table.groups
            if present.misfits & {nft.pin_map(group.name, version) for version in (4, 6)}
        }

    def _note_fingerprint(self, channel: Channel, table: Table) -> None:
        found = readback.inventory(channel, self._name, {})
        wanted = {name: len(rules) for name, rules in nft.chains(table).items() if rules}
        if found is None or found.rules != wanted:
            return  # somebody was faster; the missing fingerprint tells whoever looks next
        noted = self._fingerprint(table, found)
        key = elements.classid_key(nft.FINGERPRINT_KEY)
        channel.commit(elements.add(self._name, nft.ABOUT, [elements.element(key, comment=noted)]))

    def _expel(self, change: Expel) -> None:
        if self._restructuring:
            self._expelled_meanwhile.append(change)
        self._take_out(self._hot, change)

    def _take_out(self, channel: Channel, change: Expel) -> None:
        number = elements.classid_key(change.member_id)
        key = elements.element(number)
        maps = [nft.nodes_map(change.group, version) for version in (4, 6)]
        # Looked up first: a refused transaction waits for a grace period of the kernel, some 30 ms, and we with it.
        maps = [map_ for map_ in maps if elements.look_up(channel, self._name, map_, number) is not None]
        if not maps:
            return
        try:
            channel.commit(*(elements.delete(self._name, map_, [key]) for map_ in maps))
        except Refused as refusal:
            if refusal.number != errno.ENOENT:
                raise
            for map_ in maps:  # somebody else was faster
                elements.discard(channel, self._name, map_, key)

    def _admit(self, change: Admit) -> None:
        member = self._in_force().member(change.member_id)
        if member is None:
            raise NotFound(f"array {self._array} has no member {change.member_id} to admit to {change.group}")
        key = elements.classid_key(member.id)
        group = self._group(change.group).name
        self._hot.commit(
            *(
                elements.add(
                    self._name,
                    nft.nodes_map(group, a.version),
                    [elements.element(key, chain=nft.node_chain(group, member.id, a.version))],
                )
                for a in member.addresses
            )
        )

    def _remove(self) -> None:
        try:
            self._hot.commit(Message(Kind.DELTABLE, text(1, self._name)))
        except Refused as refusal:
            if refusal.number != errno.ENOENT:
                raise
        self._structure = None

    def _fill_slots(self, changes: Sequence[FillSlots]) -> None:
        with self._channel() as channel:
            filler = slots.Filler(channel, self._name)
            in_force = self._structure or self._described(channel)
            for change in changes:
                group = in_force.group(change.group) if in_force else None
                size = len(group.slots) if group else 0
                for number, _ in (*change.slots, *change.backup):
                    if not 0 <= number < size:
                        raise NotFound(f"no slot {number} in group {change.group}: there are {size}")
                filler.fill(change.group, change.slots, change.backup)

    def _pin_of(self, group: Group, client: Address) -> elements.Element | None:
        map_ = nft.pin_map(group.name, client.version)
        return elements.look_up(self._hot, self._name, map_, _same(group, client))

    def _traffic(self, in_force: Table) -> dict[tuple[str, int], Traffic]:
        names = {nft.counter(g.name, m.id): (g.name, m.id) for g in in_force.groups for m in in_force.members}
        with self._channel() as channel:
            found = readback.counters(channel, self._name)
        return {names[name]: Traffic(packets, 0) for name, packets in found if name in names}

    def _living(self, in_force: Table, group: Group) -> dict[int, set[Address]]:
        """Member -> clients (or prefixes) that have a connection to it through one of the array's addresses."""
        vips = {a.packed for a in in_force.addresses}
        owners = {a.packed: member.id for member in in_force.members for a in member.addresses}
        found: dict[int, set[Address]] = {}
        # One walk for all members: each looks at every connection there is, and there may be a million.
        for half, back in self._conntrack.halves(connection_mark(group.id, 0), _GROUP_MASK):
            size = (len(half) - 4) // 2
            # The mark alone may be somebody else's.
            if half[size : 2 * size] in vips and (member := owners.get(back[:size])) is not None:
                client = same_client(ip_address(half[:size]), group.prefix4, group.prefix6)
                found.setdefault(member, set()).add(client)
        return found

    def _refreshed(self, in_force: Table, before_seconds: int) -> int:
        with self._channel() as channel:
            return sum(
                pins.renewed(channel, self._name, group, self._living(in_force, group), before_seconds)
                for group in in_force.groups
            )

    def _counted(self, groups: Sequence[str]) -> dict[str, int]:
        with self._channel() as channel:
            return pins.counted(channel, self._name, groups)

    def _saved(self, group: str) -> bytes:
        with self._channel() as channel:
            return pins.saved(channel, self._name, group)

    def _restored(self, group: str, data: bytes) -> int:
        with self._channel() as channel:
            return pins.restored(channel, self._name, group, data)


def _same(group: Group, client: Address) -> bytes:
    return same_client(client, group.prefix4, group.prefix6).packed
