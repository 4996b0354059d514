"""Sites to try forwarders at: an array of three members, and clients that connect to it and say whom they met.

`MemorySite` has no network. `RealSite` has real sockets, on loopback addresses or in network namespaces: every member's
servers say the member's name to whoever connects, and then repeat what they hear.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, Protocol

from casarray.adapters.memory_forwarder import Connection, MemoryForwarder
from casarray.app.ports import Forwarder
from casarray.core.affinity.ring import fill
from casarray.core.forwarding.table import Address, Group, Member, Table
from casarray.lab.netns import Lab, Plan, build

SEED = 0xCA5A88A7
WEIGHTS = {1: 100.0, 2: 100.0, 3: 100.0}
STATIC, SECOND, WEB, DYNAMIC = 5000, 5001, 8443, (6001, 6002, 6003)
SLOTS = fill(SEED, WEIGHTS, WEIGHTS, 251)


class Link(Protocol):
    """A client's connection to a member."""

    member: str

    async def lives(self) -> bool:
        """Whether a byte comes back."""

    async def was_reset(self) -> bool:
        """Whether it is reset within two seconds, though nothing is sent."""

    async def close(self) -> None:
        """The client ends it."""


class Site(Protocol):
    """An array to be, its clients, and the forwarder between."""

    addresses: tuple[Address, ...]
    members: tuple[Member, ...]

    @property
    def forwarder(self) -> Forwarder:
        """What is tried."""

    def client(self, number: int, version: int = 4) -> Address:
        """One client of many. 0 to 99 share a prefix of 24 bits, 100 to 199 another one."""

    async def connect(self, client: Address, port: int) -> Link | None:
        """The client connects to the array; None: it was refused, or reset before anybody answered."""

    async def wait(self, seconds: float) -> None:
        """Let time pass."""


def table(site: Site, **changed: Any) -> Table:
    """What the array wants, everybody up. Changes go to the group `rpc`."""
    rpc = Group(
        id=1,
        name="rpc",
        ports=(STATIC, SECOND),
        nodes=frozenset({1, 2, 3}),
        slots=SLOTS.first,
        backup=SLOTS.second,
        affinity_seconds=600,
        dynamic=True,
    )
    web = replace(rpc, id=2, name="web", ports=(WEB,), dynamic=False)
    return Table("contract", site.addresses, SEED, site.members, (replace(rpc, **changed), web), mapper_port=5135)


@dataclass
class MemoryLink:
    """A connection in a `MemoryForwarder`."""

    site: "MemorySite"
    connection: Connection
    member: str

    async def lives(self) -> bool:
        return self.connection in self.site.forwarder.living

    async def was_reset(self) -> bool:
        return self.connection in self.site.forwarder.lost

    async def close(self) -> None:
        self.site.forwarder.living.remove(self.connection)


@dataclass
class MemorySite:
    """Nothing but values."""

    forwarder: MemoryForwarder = field(default_factory=MemoryForwarder)
    addresses: tuple[Address, ...] = (ip_address("10.11.0.100"), ip_address("fd11::100"))
    members: tuple[Member, ...] = tuple(
        Member(n, f"cas{n}", (ip_address(f"10.12.0.{20 + n}"), ip_address(f"fd12::{n}"))) for n in (1, 2, 3)
    )

    def client(self, number: int, version: int = 4) -> Address:
        return ip_address(f"10.32.{number // 100}.{1 + number % 100}" if version == 4 else f"fd32::{number + 1:x}")

    async def connect(self, client: Address, port: int) -> Link | None:
        name = self.forwarder.connect(client, port)
        return None if name is None else MemoryLink(self, self.forwarder.living[-1], name)

    async def wait(self, seconds: float) -> None:
        self.forwarder.advance(seconds)


@dataclass
class RealLink:
    """A connection that a client made."""

    member: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def lives(self) -> bool:
        try:
            self.writer.write(b"x")
            return await asyncio.wait_for(self.reader.readexactly(1), 3) == b"x"
        except (OSError, asyncio.IncompleteReadError):
            return False

    async def was_reset(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), 2)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return False

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


Inside = Callable[[], AbstractContextManager[None]]


@dataclass
class RealSite:
    """Members and clients with sockets; ``inside`` says where to make those of a member or of the clients."""

    forwarder: Forwarder
    addresses: tuple[Address, ...]
    members: tuple[Member, ...]
    client_address: Callable[[int, int], str]
    inside: Mapping[str, Inside]
    stack: AsyncExitStack

    def client(self, number: int, version: int = 4) -> Address:
        return ip_address(self.client_address(number, version))

    async def connect(self, client: Address, port: int) -> Link | None:
        to = next(a for a in self.addresses if a.version == client.version)
        family = socket.AF_INET if client.version == 4 else socket.AF_INET6
        with self.inside["clients"]():
            side = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            side.bind((str(client), 0))
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(side, (str(to), port)), 5)
        except (ConnectionRefusedError, ConnectionResetError):
            side.close()
            return None
        reader, writer = await asyncio.open_connection(sock=side)
        try:
            name = await asyncio.wait_for(reader.readuntil(b"\n"), 5)
        except ConnectionResetError:  # and no end in peace: that would look like an answer
            writer.close()
            return None
        link = RealLink(name.decode().strip(), reader, writer)
        self.stack.push_async_callback(link.close)
        return link

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def serve(self, member: Member) -> None:
        """Start the member's servers, on all its addresses and ports."""
        for address in member.addresses:
            for port in (STATIC, SECOND, WEB, *DYNAMIC):
                family = socket.AF_INET if address.version == 4 else socket.AF_INET6
                with self.inside[member.name]():
                    listening = socket.create_server((str(address), port), family=family)
                server = await asyncio.start_server(lambda r, w: _repeat(member.name, r, w), sock=listening)
                self.stack.callback(server.close)


async def _repeat(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(f"{name}\n".encode())
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def on_loopback(forwarder: Forwarder) -> AsyncIterator[Site]:
    """On 127.0.0.0/8, in a corner that depends on the process, so that several can run at once. IPv4 only."""
    corner = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(forwarder.close, keep=False)
        site = RealSite(
            forwarder,
            (ip_address(f"{corner}.100"),),
            tuple(Member(n, f"cas{n}", (ip_address(f"{corner}.{n}"),)) for n in (1, 2, 3)),
            lambda number, _: f"127.{32 + number // 100}.0.{1 + number % 100}",
            dict.fromkeys(("clients", "cas1", "cas2", "cas3"), nullcontext),
            stack,
        )
        for member in site.members:
            await site.serve(member)
        yield site


@contextmanager
def gateway() -> Iterator[tuple[Lab, Plan]]:
    """The usual namespaces; the array's addresses are the gateway's, and the calling thread is inside it."""
    with Lab() as lab:
        plan = build(lab)
        lab["gateway"].ip(f"addr add {plan.vip}/32 dev eth0", f"addr add {plan.vip6}/128 dev eth0 nodad")
        with lab["gateway"].inside():
            yield lab, plan


@asynccontextmanager
async def in_namespaces(lab: Lab, plan: Plan, forwarder: Forwarder) -> AsyncIterator[Site]:
    """Within :func:`gateway`, by whose thread the forwarder was made."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(forwarder.close, keep=False)

        def address(number: int, version: int) -> str:
            within = 256 * (number // 100) + number % 100
            return plan.client(within) if version == 4 else plan.client6(within)

        site = RealSite(
            forwarder,
            (ip_address(plan.vip), ip_address(plan.vip6)),
            tuple(
                Member(n, f"cas{n}", (ip_address(plan.server(n - 1)), ip_address(plan.server6(n - 1))))
                for n in (1, 2, 3)
            ),
            address,
            {name: lab[name].inside for name in ("clients", "cas1", "cas2", "cas3")},
            stack,
        )
        for member in site.members:
            await site.serve(member)
        yield site
