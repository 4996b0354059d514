"""A lab client that goes the way Outlook goes, and many of them in one process.

It resolves nothing. It asks the endpoint mapper at the address it was given (135), then RFR and NSPI, then opens its
mailbox, and keeps several connections: the address book, the mailbox, and a second mailbox connection of the same
association group on which it shows the handle of the first. One that logs on keeps its referral connection as well,
four in all, and opens its mailbox's store in the session. Every server on the way learns the client's name, and every
answer that names a server is noted in the journal. A connection that is lost makes the client start over.

    python -m casarray.lab.outlook --vip 10.11.0.100 --clients 100 --sources 10.32.0.0/16 --seconds 10
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop

from casarray.core.dcerpc.association import CONTEXT_MISMATCH, Reply
from casarray.core.dcerpc.interfaces import emsmdb, epm, nspi, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonSuccess,
    RopLogon,
    read_replies,
    request_octets,
)
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.errors import CasarrayError, OutOfTurn, Unavailable, WireError
from casarray.lab.channel import Channel, RpcFault
from casarray.lab.exchange import server_guid
from casarray.lab.journal import Journal, user, user_dn, user_uuid

OWN = "closed"  # the ending of a connection that the client itself gave up
FIRST_RETRY = 0.02  # seconds until a client tries again; each time half as long again, up to half a second
Trouble = (Unavailable, RpcFault, WireError, OutOfTurn)


@dataclass(frozen=True, slots=True)
class Return:
    """A client lost its connections and came back. Times are of the monotonic clock."""

    client: str
    lost_at: float
    steered_at: float  # the first answer after that
    back_at: float  # everything stands again
    ending: str  # reset, end, timeout: how the first of its connections was lost
    left: str  # the member it had
    reached: str  # the member it has
    idle: bool


@dataclass(frozen=True, slots=True)
class Loss:
    """A client lost a connection it wanted to keep."""

    client: str
    at: float
    ending: str
    member: str  # where it had been
    idle: bool


@dataclass(slots=True)
class Outlook:
    """One client. ``number`` is its identity, ``source`` the address it comes from."""

    number: int
    vip: str
    source: str | None = None
    journal: Journal = field(default_factory=lambda: Journal(None, "client"))
    epm_port: int = 135
    patience: float = 5.0  # seconds for a connection, and for each answer
    idle: bool = False  # says nothing after it has opened its connections
    logs_on: bool = False  # opens the mailbox's store, and keeps the referral connection
    members: dict[str, str] = field(default_factory=dict)  # service -> the member that answered there
    ports: dict[str, int] = field(default_factory=dict)  # service -> the port the mapper named
    losses: list[Loss] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    calls: int = 0  # answered, while living
    failures: Counter[str] = field(default_factory=Counter)  # what went wrong while opening
    mismatches: int = 0  # faults that say: this handle comes from another server
    channels: list[Channel] = field(default_factory=list)
    opened: bool = False
    _session: ContextHandle = NIL_HANDLE
    _answered_at: float = 0.0  # the first answer of this attempt
    _names: dict[UUID, str] = field(default_factory=dict)  # an address book's GUID -> the member's name

    @property
    def name(self) -> str:
        """``user00042``."""
        return user(self.number)

    def connected(self) -> bool:
        """Whether all its connections stand."""
        return self.opened and all(channel.lost_at is None for channel in self.channels)

    @property
    def member(self) -> str:
        """The one member that answered on every port; empty if none did, ``cas1+cas2`` if it was led astray."""
        return "+".join(sorted(set(self.members.values())))

    async def open(self) -> None:
        """Go the whole way. What fails raises one of `Trouble`, with everything closed again."""
        members: dict[str, str] = {}
        self.members = members
        try:
            await self._ask_mapper()
            await self._ask_referral()
            await self._open_book()
            await self._open_mailbox()
        except BaseException:
            self.close()
            raise
        self.opened = True

    async def _ask_mapper(self) -> None:
        channel = await self._channel(self.epm_port, EPM)
        try:
            me = user_uuid(self.number)
            listing = await self._call(channel, EPM, epm.EPT_LOOKUP, epm.EptLookup(object=me, max_entries=1).encode())
            entries = epm.EptLookupReply.decode(listing.stub, listing.order, listing.ndr64)
            if not entries.handle.is_nil:
                free = epm.EptLookupHandleFree(entries.handle).encode()
                await self._call(channel, EPM, epm.EPT_LOOKUP_HANDLE_FREE, free)
            if entries.entries:
                self._answered("epm", entries.entries[0].annotation.partition(":")[0], "ept_lookup")
            for service, interface in (("rpc", EMSMDB), ("rfr", RFR), ("ab", NSPI)):
                asked = epm.EptMap(Tower.tcp(interface), object=me)
                answer = await self._call(channel, EPM, epm.EPT_MAP, asked.encode())
                reply = epm.EptMapReply.decode(answer.stub, answer.order, answer.ndr64)
                port = next((tower.port for tower in reply.towers if tower.port), None)
                if port is None:
                    raise Unavailable(f"the endpoint mapper does not know {service} (status 0x{reply.status:08X})")
                self.ports[service] = port
        finally:
            channel.close(hard=True)

    async def _ask_referral(self) -> None:
        channel = await self._channel(self.ports["rfr"], RFR, keep=self.logs_on)
        try:
            asked = rfr.RfrGetNewDsa(user_dn(self.name)).encode()
            answer = await self._call(channel, RFR, rfr.Opnum.GET_NEW_DSA, asked)
            fqdn = rfr.RfrGetNewDsaReply.decode(answer.stub, answer.order, answer.ndr64).server or ""
            member = fqdn.partition(".")[0]
            self._names[server_guid(fqdn)] = member
            self._answered("rfr", member, "RfrGetNewDSA")
        finally:
            if not self.logs_on:
                channel.close(hard=True)

    async def _open_book(self) -> None:
        channel = await self._channel(self.ports["ab"], NSPI, keep=True)
        self._answered("ab", await self._book_of(channel), "NspiBind")

    async def _open_mailbox(self) -> None:
        channel = await self._channel(self.ports["rpc"], EMSMDB, keep=True)
        asked = emsmdb.EcDoConnectEx(user_dn(self.name)).encode()
        answer = await self._call(channel, EMSMDB, emsmdb.Opnum.CONNECT, asked)
        reply = emsmdb.EcDoConnectExReply.decode(answer.stub, answer.order, answer.ndr64)
        if reply.result:
            raise Unavailable(f"the mailbox refused (0x{reply.result:08X})")
        self._session = reply.session
        self._answered("rpc", reply.display_name or "", "EcDoConnectEx")
        second = await self._channel(self.ports["rpc"], EMSMDB, group_id=channel.rpc.group_id, keep=True)
        await self._show_handle(second)
        if self.logs_on:
            await self._log_on(channel)

    async def _log_on(self, channel: Channel) -> None:
        """Open the mailbox's store within the session."""
        rops = request_octets((RopLogon(user_dn(self.name)),))
        answer = await self._call(channel, EMSMDB, emsmdb.Opnum.RPC_EXT, EcDoRpcExt2(self._session, rops).encode())
        reply = EcDoRpcExt2Reply.decode(answer.stub, answer.order, answer.ndr64)
        opened, _ = read_replies(reply.rops)
        if not (opened and isinstance(opened[0], LogonSuccess)):
            raise Unavailable(f"the mailbox is not here: {opened or hex(reply.result)}")

    async def _show_handle(self, channel: Channel) -> None:
        """Show the mailbox session's handle: only the server that issued it takes it."""
        shown = emsmdb.EcDoAsyncConnectEx(self._session).encode()
        await self._call(channel, EMSMDB, emsmdb.Opnum.ASYNC_CONNECT, shown)

    async def talk(self) -> None:
        """Say something on every mailbox connection, and show the handle again."""
        for channel in self.channels:
            if channel.rpc.accepts(EMSMDB):
                answer = await self._call(channel, EMSMDB, emsmdb.Opnum.DUMMY, emsmdb.EcDummyRpc().encode())
                emsmdb.EcDummyRpcReply.decode(answer.stub, answer.order, answer.ndr64)
                await self._show_handle(channel)
                self.calls += 2

    async def knock(self) -> int:
        """Open two more connections on the known ports; how many of them reached this client's server.

        The mailbox is shown the handle of the session, which only the server that issued it takes; the book tells its
        name.
        """
        right = 0
        mailbox = next(channel for channel in self.channels if channel.rpc.accepts(EMSMDB))
        more = await self._channel(self.ports["rpc"], EMSMDB, group_id=mailbox.rpc.group_id)
        try:
            await self._show_handle(more)
            right += 1
        finally:
            more.close(hard=True)
        book = await self._channel(self.ports["ab"], NSPI)
        try:
            right += await self._book_of(book) == self.member
        finally:
            book.close(hard=True)
        return right

    async def _book_of(self, channel: Channel) -> str:
        """Open the address book; the name of the server that has it."""
        asked = nspi.NspiBind(server_guid=user_uuid(self.number)).encode()
        answer = await self._call(channel, NSPI, nspi.Opnum.BIND, asked)
        reply = nspi.NspiBindReply.decode(answer.stub, answer.order, answer.ndr64)
        if reply.result or reply.server_guid is None:
            raise Unavailable(f"the address book refused (0x{reply.result:08X})")
        return self._names.get(reply.server_guid, str(reply.server_guid))

    async def _channel(self, port: int, interface: Syntax, *, group_id: int = 0, keep: bool = False) -> Channel:
        channel = await Channel.open(self.vip, port, self.source, self.patience)
        if keep:
            self.channels.append(channel)
        try:
            await channel.bind(interface, group_id=group_id)
        except BaseException:
            channel.close(hard=True)
            raise
        return channel

    async def _call(self, channel: Channel, interface: Syntax, opnum: int, stub: bytes) -> Reply:
        try:
            return await channel.call(interface, opnum, stub)
        except RpcFault as fault:
            self.mismatches += fault.status == CONTEXT_MISMATCH
            self.journal("fault", id=self.name, client=self.source or "", status=fault.status, member=self.member)
            raise

    def _answered(self, service: str, member: str, call: str) -> None:
        if not self.members:
            self._answered_at = time.monotonic()
        self.members[service] = member
        self.journal("answered", id=self.name, client=self.source or "", service=service, member=member, call=call)

    def close(self) -> None:
        """End all connections at once."""
        self.opened = False
        for channel in self.channels:
            channel.close(hard=True)
        self.channels = []

    def start_over(self) -> None:
        """Drop all connections of one's own accord, as a user who restarts the program; `live` opens them again."""
        for channel in self.channels:
            channel.close(hard=True)

    async def live(self, interval: float = 1.0) -> None:
        """Stay connected until cancelled: talk every ``interval`` seconds unless idle; start over when one is lost."""
        left, lost_at, ending, retry = "", 0.0, "", FIRST_RETRY
        try:
            while True:
                try:
                    await self.open()
                except Trouble as trouble:
                    self.failures[str(trouble)] += 1
                    self.journal("failure", id=self.name, client=self.source or "", why=str(trouble))
                    await asyncio.sleep(retry)
                    retry = min(retry * 1.5, 0.5)
                    continue
                if ending not in ("", OWN):
                    back = Return(
                        self.name, lost_at, self._answered_at, time.monotonic(), ending, left, self.member, self.idle
                    )
                    self.returns.append(back)
                left, retry = self.member, FIRST_RETRY
                lost_at, ending = await self._until_lost(interval)
                if ending != OWN:
                    self.losses.append(Loss(self.name, lost_at, ending, left, self.idle))
                    self.journal(
                        "lost", id=self.name, client=self.source or "", member=left, why=ending, idle=self.idle
                    )
                self.close()
        finally:
            self.close()

    async def _until_lost(self, interval: float) -> tuple[float, str]:
        """Live on until a connection is lost; when and how."""
        while True:
            await asyncio.wait(
                [channel.lost for channel in self.channels],
                timeout=None if self.idle else interval,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not self.connected():
                break
            try:
                await self.talk()
            except Trouble as trouble:
                if self.connected():
                    return time.monotonic(), f"failed: {trouble}"
                break
        first = min((c for c in self.channels if c.lost_at is not None), key=lambda c: c.lost_at or 0.0)
        return first.lost_at or time.monotonic(), first.ending


class Crowd:
    """Many clients, each with a source address of its own."""

    def __init__(self, clients: list[Outlook]) -> None:
        self.clients = clients
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, interval: float = 1.0) -> None:
        """Let them live."""
        self._tasks += [asyncio.create_task(client.live(interval)) for client in self.clients]

    async def stop(self) -> None:
        """End them all; what one of them broke on is raised here."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def all_connected(self, patience: float = 10.0) -> bool:
        """Wait until every client stands; whether they all do."""
        return await until(lambda: all(client.connected() for client in self.clients), patience)

    @property
    def spread(self) -> Mapping[str, int]:
        """Member -> how many clients are connected to it."""
        return dict(sorted(Counter(client.member for client in self.clients if client.connected()).items()))


async def until(condition: Callable[[], bool], patience: float) -> bool:
    """Wait until something is so, at most ``patience`` seconds; whether it is."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True


def crowd(
    vip: str, count: int, sources: str | None, *, journal: Journal, first: int = 1, idle: int = 0, **options: Any
) -> Crowd:
    """``count`` clients from successive addresses of ``sources``; ``idle`` of them, evenly spread, say nothing."""
    net = ip_network(sources) if sources else None
    return Crowd(
        [
            Outlook(
                number,
                vip,
                str(net[number]) if net is not None else None,
                journal,
                idle=(number - first + 1) * idle // count > (number - first) * idle // count,
                **options,
            )
            for number in range(first, first + count)
        ]
    )


async def _run(arguments: argparse.Namespace) -> int:
    journal = Journal(arguments.journal, "client")
    people = crowd(
        arguments.vip,
        arguments.clients,
        arguments.sources,
        journal=journal,
        first=arguments.first,
        idle=arguments.idle,
        epm_port=arguments.port,
        patience=arguments.timeout,
        logs_on=arguments.log_on,
    )
    began, over = time.monotonic(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    people.start(arguments.interval)
    took = None
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        async with asyncio.timeout(arguments.seconds):
            if await people.all_connected(arguments.seconds):
                took = time.monotonic() - began
                print(f"all {arguments.clients} connected after {took:.2f} s", file=sys.stderr, flush=True)
            await over.wait()
    returns = [back for client in people.clients for back in client.returns]
    report = {
        "clients": len(people.clients),
        "connected": sum(client.connected() for client in people.clients),
        "spread": people.spread,
        "astray": [client.name for client in people.clients if "+" in client.member],
        "connected_after": took,
        "returns": len(returns),
        "slowest_return": max((back.back_at - back.lost_at for back in returns), default=None),
        "last_back_at": max((back.back_at for back in returns), default=None),
        "failures": dict(sum((client.failures for client in people.clients), Counter())),
        "mismatches": sum(client.mismatches for client in people.clients),
    }
    if arguments.verbose:
        report["members"] = {client.name: client.members for client in people.clients}
    await people.stop()
    journal.close()
    print(json.dumps(report, indent=2))
    return 0 if report["connected"] == report["clients"] and not report["astray"] else 1


def main() -> int:
    """The command line: exit code 0 if every client stood at the end, on one member each."""
    parser = argparse.ArgumentParser(
        prog="casarray.lab.outlook", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vip", required=True, help="the array's address")
    parser.add_argument("--port", type=int, default=135, help="of the endpoint mapper")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--idle", type=int, default=0, help="how many of them say nothing once connected")
    parser.add_argument("--log-on", action="store_true", help="open the mailbox's store; four connections each")
    parser.add_argument("--sources", help="a net of addresses this host has, one for each client")
    parser.add_argument("--first", type=int, default=1, help="the first client's number, which also picks its address")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long they live; SIGTERM ends it before")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two calls")
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--verbose", action="store_true", help="tell which member answered each client on each port")
    try:
        return uvloop.run(_run(parser.parse_args()))
    except (CasarrayError, KeyboardInterrupt) as error:
        print(f"casarray.lab.outlook: {error or 'interrupted'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
