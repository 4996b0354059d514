"""Runs the text files of this folder, on the in-memory forwarder and on the kernel. The README tells their form."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.adapters.memory_forwarder import MemoryForwarder
from casarray.core.affinity.ring import fill
from casarray.core.forwarding.diff import Admit, Change, Expel, FillSlots, Structure, diff
from casarray.core.forwarding.table import Address, Group, Member, OpenRange, Pinhole, Table
from casarray.lab.netns import missing

from ..contract.forwarder_sites import Link, MemorySite, RealSite, gateway, in_namespaces

FILES = sorted(Path(__file__).parent.glob("*.txt"))
SEED = 0xCA5A88A7
SLOTS = 251
_WRITE = "CASARRAY_WRITE_SCENARIOS" in os.environ
_WHY = missing()
SITES = [
    "memory",
    pytest.param("kernel", marks=[pytest.mark.root, pytest.mark.skipif(_WHY is not None, reason=str(_WHY))]),
]


@pytest.fixture(params=SITES)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[MemorySite | RealSite]:
    if request.param == "memory":
        yield MemorySite()
        return
    with ExitStack() as stack:
        lab, plan = stack.enter_context(gateway())
        async with in_namespaces(lab, plan, KernelForwarder("scenario")) as real:
            yield real  # type: ignore[misc]  # in_namespaces promises a Site and gives a RealSite


@dataclass
class Scenario:
    """A site and what has been said of it so far."""

    site: MemorySite | RealSite
    groups: dict[str, Group] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    states: dict[tuple[str, str], str] = field(default_factory=dict)  # (group, member) -> up, drain or out
    links: dict[Address, list[tuple[int, Link]]] = field(default_factory=dict)

    def configure(self, line: str) -> None:
        """A line of the head."""
        word, *rest = line.split() or [""]
        if word == "members":
            self.members = tuple(m for m in self.site.members if m.name in rest)
        if word == "group":
            name = rest.pop(0)
            number = self.groups[name].id if name in self.groups else len(self.groups) + 1
            made = Group(number, name, (), frozenset(), (0,), (0,), 600)
            while rest:
                match rest:
                    case ["dynamic", *rest]:
                        made = replace(made, dynamic=True)
                    case ["affinity", seconds, *rest]:
                        made = replace(made, affinity_seconds=int(seconds))
                    case ["prefix", four, six, *rest]:
                        made = replace(made, prefix4=int(four), prefix6=int(six))
                    case [port, *rest]:
                        made = replace(made, ports=(*made.ports, int(port)))
            self.groups[name] = made

    def wanted(self) -> Table:
        """The table that all this means."""
        groups = []
        weights = {m.id: 100.0 for m in self.members}
        for group in self.groups.values():
            state = {m.id: self.states.get((group.name, m.name), "up") for m in self.members}
            shares = fill(SEED, weights, {i: 100.0 for i, s in state.items() if s == "up"}, SLOTS)
            nodes = frozenset(i for i, s in state.items() if s != "out")
            groups.append(replace(group, nodes=nodes, slots=shares.first, backup=shares.second))
        return Table("scenario", self.site.addresses, SEED, self.members, tuple(groups))

    async def converge(self) -> list[str]:
        """Plan, apply, and tell the plan."""
        changes = diff(self.wanted(), await self.site.forwarder.observe())
        await self.site.forwarder.apply(changes)
        assert await self.site.forwarder.observe() == self.wanted()
        return [self.told(change) for change in changes]

    def told(self, change: Change) -> str:
        names = {m.id: m.name for m in self.site.members}
        match change:
            case Expel(group, member):
                return f"expel {names[member]} from {group}"
            case Admit(group, member):
                return f"admit {names[member]} to {group}"
            case FillSlots(group, slots, backup):
                return f"fill {len(slots)} slots and {len(backup)} second choices of {group}"
            case Structure():
                return "rules"
        raise AssertionError(change)

    async def happen(self, event: str) -> list[str]:
        """What comes of an event, line by line."""
        lines: Iterable[str]
        match event.split():
            case [("up" | "drain" | "out") as state, member, *groups]:
                self.states |= {(g, member): state for g in groups or self.groups}
                lines = await self.converge()
            case ["configure", *_]:
                self.configure(event.partition(" ")[2])
                lines = await self.converge()
            case ["connect", client, port, *times]:
                lines = [await self.connect(ip_address(client), int(port)) for _ in range(int((times or ["1"])[0]))]
            case ["alive", client]:
                links = self.links.get(ip_address(client), [])
                lines = [f"{port} {link.member} {'alive' if await link.lives() else 'ended'}" for port, link in links]
            case ["wait", seconds]:
                await self.site.wait(float(seconds))
                lines = []
            case ["restart"]:
                lines = await self.restart()
            case ["table"]:
                lines = await self.table()
            case [word, *rest]:
                lines = await self.command(word, rest)
            case _:
                raise AssertionError(f"what is {event!r}?")
        return list(lines)

    async def command(self, word: str, rest: list[str]) -> list[str]:
        """What goes straight to the forwarder."""
        forwarder, group = self.site.forwarder, rest[0]
        ids = {m.name: m.id for m in self.site.members}
        match word, rest[1:]:
            case "pin", [client, member]:
                self.links.setdefault(ip_address(client), [])
                forwarder.pin(group, ip_address(client), ids[member])
            case "unpin", [client]:
                forwarder.unpin(group, ip_address(client))
            case "pinhole", [client, port, member, seconds]:
                forwarder.open_pinholes([Pinhole(group, ip_address(client), int(port), ids[member], int(seconds))])
            case "range", [client, ports, member, seconds]:
                first, last = map(int, ports.split("-"))
                forwarder.open_pinholes([OpenRange(group, ip_address(client), ids[member], first, last, int(seconds))])
            case "reset", [member]:
                return [str(await forwarder.reset(group, ids[member]))]
            case "renew", [seconds]:
                return [str(await forwarder.refresh_pins(int(seconds)))]
            case _:
                raise AssertionError(f"what is {word} {rest}?")
        return []

    async def connect(self, client: Address, port: int) -> str:
        link = await self.site.connect(client, port)
        self.links.setdefault(client, [])
        if link is None:
            return "refused"
        self.links[client].append((port, link))
        return link.member

    async def restart(self) -> list[str]:
        if isinstance(self.site, RealSite):
            await self.site.forwarder.close(keep=True)
            self.site.forwarder = KernelForwarder("scenario")
            self.site.stack.push_async_callback(self.site.forwarder.close, keep=False)
        return [self.told(change) for change in diff(self.wanted(), await self.site.forwarder.observe())] or ["adopted"]

    async def table(self) -> list[str]:
        found = await self.site.forwarder.observe()
        assert found is not None
        names = {0: "nobody"} | {m.id: m.name for m in self.site.members}
        lines = []
        for group in found.groups:
            usable = [names[i] for i in sorted(group.nodes)] or ["nobody"]
            lines.append(f"{group.name} {' '.join(map(str, group.ports))}: {' '.join(usable)}")
            shares = sorted((names[i], n) for i, n in Counter(group.slots).items())
            lines.append(f"  slots: {', '.join(f'{name} {n}' for name, n in shares)}")
            for client in sorted(self.links, key=lambda c: (c.version, c)):
                if (member := self.site.forwarder.pinned(group.name, client)) is not None:
                    lines.append(f"  {client} -> {names[member]}{'' if member in group.nodes else ' (void)'}")
        return lines


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 8


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_it_comes_as_the_file_says(site: MemorySite | RealSite, file: Path) -> None:
    head, events = _read(file)
    scenario = Scenario(site)
    for line in head.splitlines():
        scenario.configure(line)
    assert "rules" in await scenario.converge()
    said = head + "\n"
    for event, expected in events:
        outcome = await scenario.happen(event)
        said += "\n".join([f"$ {event}", *outcome, ""])
        if not _WRITE:
            assert outcome == expected, f"{file.name}: {event}"
    if _WRITE and isinstance(site.forwarder, MemoryForwarder):
        _write(file, said)


def _read(file: Path) -> tuple[str, list[tuple[str, list[str]]]]:
    """The head, and each event with what it should give."""
    head, *events = file.read_text().split("\n$ ")
    parted = (event.partition("\n") for event in events)
    return head, [(what, expected.splitlines()) for what, _, expected in parted]


def _write(file: Path, text: str) -> None:
    file.write_text(text)
