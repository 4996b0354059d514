"""A gateway without a network: answers from memory, notes what it was asked; served on a real control socket."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from casarray.adapters.control import ControlServer
from casarray.app.operations import (
    Alternative,
    ArrayExplanation,
    ArrayStatus,
    DirectoryStatus,
    Explanation,
    FastPathStatus,
    GatewayStatus,
    GroupExplanation,
    GroupStatus,
    MemberService,
    MemberStatus,
    ReloadReport,
    RpcHttpStatus,
    ServerChange,
    ServiceStatus,
    Status,
)
from casarray.core.config import Wish
from casarray.core.errors import CasarrayError, Conflict, NotFound

CAS1 = MemberStatus(
    name="cas1",
    state=Wish.ACTIVE,
    eligible=True,
    since_seconds=7260,
    weight=100,
    share=0.5003,
    connections=1234,
    new_connections=56789,
    bytes_carried=1 << 30,
    addresses=("10.12.0.21",),
    services=(MemberService("epm", True, 0.41, "cas1 answers"), MemberService("rpc", True, 1.25, "cas1 answers")),
)
CAS2 = MemberStatus(
    name="cas2",
    state=Wish.DRAIN,
    eligible=True,
    since_seconds=65,
    weight=100,
    share=0.0,
    connections=617,
    new_connections=50000,
    reason="is being drained",
    deadline_seconds=599.6,
    addresses=("10.12.0.22",),
    services=(MemberService("epm", True, 0.39, "cas2 answers"), MemberService("rpc", True, 1.5, "cas2 answers")),
)
CAS3 = MemberStatus(
    name="cas3",
    state=Wish.ACTIVE,
    eligible=False,
    since_seconds=3.2,
    weight=100,
    share=0.0,
    connections=0,
    new_connections=40000,
    addresses=("10.12.0.23", "2001:db8:12::23"),
    services=(
        MemberService("epm", True, 0.5, "cas3 answers"),
        MemberService("rpc", False, None, "cas3 refuses connections on 5001"),
    ),
)
STATUS = Status(
    gateway=GatewayStatus("gw1", "kernel", "routed", "0.1.0", 93784.2, 4711, 61_000_000, "/etc/casarray/casarray.toml"),
    arrays=(
        ArrayStatus(
            name="CAS",
            fqdn="cas.domain.tld",
            site="Paderborn",
            addresses=("10.11.0.100",),
            ready=True,
            services=(
                ServiceStatus("epm", 135, "rpc", "rpc", mapper=True),
                ServiceStatus("rpc", 5001, "rpc", "rpc"),
            ),
            groups=(GroupStatus("rpc", (5000, 5001), True, 2048, (CAS1, CAS2, CAS3)),),
            mapper={"connections": 4100, "ept_map": 8200, "wire_error:truncated": 2, "timeout:slow": 0},
            fast_path=FastPathStatus(("eth0", "eth1"), 7_345_678),
        ),
    ),
    warnings=("cas3 has been down three times within a minute",),
    directory=DirectoryStatus("ldap://dc1.domain.tld ldap://dc2.domain.tld", True, "", "4711", 3.4),
    autodiscover={"settings": 310, "error-500": 2},
    rpc_http=RpcHttpStatus("10.11.0.5:443", 120, {"connections": 4200, "refused:target": 3}),
)


class FakeGateway:
    """`Operations` from memory."""

    def __init__(self, status: Status = STATUS) -> None:
        self.answer = status
        self.asked: list[tuple[object, ...]] = []
        self.refusal: CasarrayError | None = None
        self.ready = (True, "")
        self.report = ReloadReport(("server cas4 was added to the array CAS",), (), 0.012)

    def status(self) -> Status:
        """The prepared one."""
        if self.refusal:
            raise self.refusal
        return self.answer

    def explain(self, client: str, array: str | None = None) -> Explanation:
        """Always pinned to cas1."""
        self.asked.append(("explain", client, array))
        if array not in (None, "CAS"):
            raise NotFound(f'there is no array "{array}"; there is: CAS')
        group = GroupExplanation(
            "rpc",
            "cas1",
            "it is pinned to cas1, which is eligible",
            pinned_seconds=10200,
            slot=4242,
            alternatives=(Alternative("cas2", "draining"), Alternative("cas3", "down")),
        )
        web = GroupExplanation("web", None, "no server is eligible")
        return Explanation(client, (ArrayExplanation("CAS", "cas.domain.tld", (group, web)),))

    async def set_server(self, name: str, wish: Wish, deadline_seconds: float | None = None) -> ServerChange:
        """Note it."""
        self.asked.append(("set_server", name, wish, deadline_seconds))
        if self.refusal:
            raise self.refusal
        if name not in ("cas1", "cas2", "cas3", "Server ä 1"):
            raise NotFound(f'there is no server "{name}"; there are: cas1, cas2, cas3')
        warnings = ("no active server is left",) if wish is Wish.OUT else ()
        return ServerChange(name, Wish.ACTIVE, wish, deadline_seconds, 617, warnings)

    async def reload(self) -> ReloadReport:
        """The prepared report."""
        self.asked.append(("reload",))
        if self.refusal:
            raise self.refusal
        return self.report

    async def freshen(self) -> None:
        """Nothing grows stale here."""

    def readiness(self) -> tuple[bool, str]:
        """The prepared answer."""
        return self.ready


class SlowGateway(FakeGateway):
    """Takes its time to reload."""

    async def reload(self) -> ReloadReport:
        """Longer than anybody waits."""
        await asyncio.sleep(60)
        raise Conflict("not reached")


@contextmanager
def serving(operations: FakeGateway, socket: Path) -> Iterator[ControlServer]:
    """A control server in a thread of its own, as it would be in a process of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = ControlServer(operations, str(socket))
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
