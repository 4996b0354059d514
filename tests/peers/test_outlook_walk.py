"""The walk of `casarray test outlook` over sockets: the lab's servers, a balancer that keeps no affinity, name servers.

All of it stands on the loopback, and names are told to the walk; what answers is real.
"""

import asyncio
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import cast

import pytest

from casarray.adapters.net.rpc_http_proxy import RpcHttpProxy, Verdict
from casarray.adapters.outlook_network import OutlookNetwork
from casarray.adapters.rpc_logon import Logon
from casarray.app.connectivity import perform
from casarray.app.rpc_proxy import Place
from casarray.core.autodiscover.response import EXCH, EXPR, Protocol, Response, Settings, User, write_response
from casarray.core.dcerpc.auth import AuthLevel, AuthType, Security
from casarray.core.directory.model import ROLES, Account, Array, Copy, Database, Directory, Server, Site
from casarray.core.errors import Denied, NotFound
from casarray.core.ntlm.context import NtlmClient, NtlmServer
from casarray.core.outlook.asking import Resolved, Way, Went
from casarray.core.outlook.planning import plan_of
from casarray.core.outlook.verdicts import Result, Step, Trouble
from casarray.core.outlook.wish import Depth, LogOn, Means, Wish
from casarray.core.rpc_http.http import Target
from casarray.lab.server import Behaviour, LabServer

NAME = "cas.lab.example"
VIP = "127.66.0.100"
MEMBERS = {"cas1": "127.66.0.21", "cas2": "127.66.0.22"}
USER = "user00007"
WEB = "127.66.0.40"
EPM, AB, RPC = 10135, 15000, 15001  # static, as members behind a plain balancer have to have them


class Named(OutlookNetwork):
    """The network with names of its own."""

    def __init__(self, means: Means, names: Mapping[str, str], web_port: int = 0) -> None:
        super().__init__(means)
        self.names = names
        self.web_port = web_port

    def where(self, host: str, port: int) -> tuple[str, int]:
        """Web servers are one."""
        return (WEB, self.web_port) if port == 443 else (host, port)

    async def resolve(self, name: str, *, outside: bool) -> Resolved | Went:
        """From the table; the outside as ever."""
        if outside:
            return await super().resolve(name, outside=True)
        found = self.names.get(name)
        return Resolved((ip_address(found),)) if found else Went(Way.UNKNOWN, "there is no such name")


def directory(rpc_server: str = NAME, vip: str = VIP) -> Directory:
    servers = [
        Server(name, f"{name}.lab.example", "Lab", ROLES, addresses=(ip_address(address),))
        for name, address in MEMBERS.items()
    ]
    return Directory(organization="Lab").put(
        Site("Lab"),
        *servers,
        Array("CAS", NAME, "Lab", (ip_address(vip),)),
        Database("DB1", "cas1", (Copy("cas1"),), rpc_server),
        Account(USER, "DB1", f"{USER}@lab.example"),
    )


@asynccontextmanager
async def members(*names: str, rpc_server: str = NAME, tower: str = "") -> AsyncIterator[list[LabServer]]:
    """Lab servers on their addresses, which answer by the directory."""
    known, servers = directory(rpc_server), []
    for name in names or MEMBERS:
        server = LabServer(name, [MEMBERS[name]], {"epm": EPM, "ab": AB, "rpc": RPC}, directory=lambda: known)
        server.exchange.address = IPv4Address(tower or MEMBERS[name])
        await server.start()
        servers.append(server)
    try:
        yield servers
    finally:
        for server in servers:
            await server.close()


async def walk(
    wish: Wish,
    known: Directory | None = None,
    *,
    vip: str = VIP,
    means: Means | None = None,
    web_port: int = 0,
    discover: bool = True,
) -> list[Step]:
    """Walk; the steps. Autodiscover is asked if there is a web server."""
    wish = replace(wish, logon="none", mapper_port=EPM, discover=bool(web_port) and discover)
    network = Named(means or Means(timeout_seconds=2.0), {NAME: vip}, web_port)
    heard: list[Step] = []
    try:
        plan = plan_of(known or directory(vip=vip), wish)
        steps = await perform(plan, network, heard.append, time.monotonic)
    finally:
        await network.close()
    assert list(steps) == heard
    return heard


def short(steps: Sequence[Step]) -> list[tuple[str, str, str]]:
    return [(step.server, str(step.scenario), str(step.trouble or step.result)) for step in steps]


async def test_the_whole_way_to_a_mailbox_is_walked_at_a_member_that_stands_for_the_array() -> None:
    async with members("cas1"):
        steps = await walk(Wish(user=USER), vip=MEMBERS["cas1"])
    assert short(steps) == [
        ("CAS", "Directory", "Success"),
        ("CAS", "Name resolution (inside)", "Success"),
        ("CAS", "Endpoint mapper", "Success"),
        ("CAS", "RFR", "Success"),
        ("CAS", "NSPI", "Success"),
        ("CAS", "EMSMDB connect", "Success"),
        ("CAS", "EMSMDB logon", "Success"),
        ("CAS", "Affinity", "Success"),
    ]
    assert all(step.latency_ms > 0 for step in steps[2:])


async def test_a_self_test_logs_nobody_on_and_leaves_nothing_open() -> None:
    async with members("cas1") as (server,):
        steps = await walk(Wish(depth=Depth.SELF), vip=MEMBERS["cas1"])
        assert not [step for step in steps if step.result is not Result.SUCCESS]
        assert server.exchange.open_handles == 0
        for _ in range(300):  # until it has seen our connections end
            if not any(service.connections for service in server.services.values()):
                break
            await asyncio.sleep(0.05)
        assert not any(service.connections for service in server.services.values())


async def test_rfr_that_tells_the_member_itself_stops_the_walk_there() -> None:
    async with members("cas1", rpc_server="cas1.lab.example"):
        steps = await walk(Wish(user=USER), vip=MEMBERS["cas1"])
    assert (steps[-1].scenario, steps[-1].trouble) == ("RFR", Trouble.RFR_NAME)
    assert "RFR names cas1.lab.example" in steps[-1].text


async def test_a_database_that_names_a_server_which_is_gone_stops_before_anybody_is_asked() -> None:
    steps = await walk(Wish(user=USER), directory("old.lab.example"))
    assert short(steps) == [("CAS", "Directory", "database-names-dead-server")]
    assert "DB1 are told old.lab.example" in steps[0].text


async def test_a_tower_with_an_address_that_is_not_the_arrays_is_warned_of() -> None:
    async with members("cas1", tower="10.99.99.99"):
        steps = await walk(Wish(user=USER), vip=MEMBERS["cas1"])
    found = next(step for step in steps if step.trouble is Trouble.TOWER_ADDRESS)
    assert "answers with the address 10.99.99.99" in found.text
    assert steps[-1].scenario == "Affinity"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (Behaviour.REFUSE, "refuses connections"),
        (Behaviour.RESET, "resets the connection"),
        (Behaviour.HANG_ACCEPT, "does not answer"),
        (Behaviour.GARBAGE, "no RPC"),
    ],
)
async def test_a_half_dead_member_is_named_among_the_others_and_where_it_stops(
    behaviour: Behaviour, words: str
) -> None:
    async with members() as servers:
        await servers[1].behave(servers[1].services["rpc"], behaviour)
        wish = Wish(user=USER, each_member=True)
        steps = await walk(wish, vip=MEMBERS["cas1"], means=Means(timeout_seconds=0.7))
    stopped = next(step for step in steps if step.trouble is Trouble.HALF_DEAD)
    assert (stopped.server, stopped.scenario, stopped.endpoint) == ("cas2", "EMSMDB connect", f"127.66.0.22:{RPC}")
    assert words in stopped.text
    assert [step.server for step in steps if step.trouble is Trouble.DIFFERS] == ["cas2"]


# A balancer without affinity.

HAPROXY = """
defaults
  mode tcp
  timeout connect 2s
  timeout client 10s
  timeout server 10s
"""


@contextmanager
def haproxy(folder: Path, ports: Sequence[int]) -> Iterator[None]:
    """Every port by itself, and every connection to the next member."""
    text = HAPROXY
    for port in ports:
        text += f"listen p{port}\n  bind {VIP}:{port}\n  balance roundrobin\n"
        text += "".join(f"  server {name} {address}:{port}\n" for name, address in MEMBERS.items())
    config = folder / "haproxy.cfg"
    config.write_text(text)
    process = subprocess.Popen(
        ["haproxy", "-db", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


async def listening(address: str, port: int) -> None:
    for _ in range(150):
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise AssertionError(f"{address}:{port} does not listen")


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
async def test_a_real_balancer_without_affinity_is_found_out(tmp_path: Path) -> None:
    async with members(tower="0.0.0.0"):
        with haproxy(tmp_path, (EPM, AB, RPC)):
            await listening(VIP, RPC)
            steps = await walk(Wish(user=USER))
    assert steps[-1].trouble is Trouble.AFFINITY, short(steps)
    assert "connections of one client reached different servers" in steps[-1].text
    assert "per-port balancing does not" in steps[-1].next


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
async def test_a_balancer_without_affinity_on_135_shows_by_the_addresses_in_towers(tmp_path: Path) -> None:
    async with members():
        with haproxy(tmp_path, (EPM, AB, RPC)):
            await listening(VIP, RPC)
            steps = await walk(Wish(depth=Depth.SELF))
    assert Trouble.TOWER_ADDRESS in {step.trouble for step in steps}
    assert steps[-1].trouble is Trouble.AFFINITY, short(steps)
    assert "135 was answered by cas1 (127.66.0.21), then by cas2 (127.66.0.22)" in steps[-1].text


# Autodiscover and certificates.


async def certified(folder: Path) -> ssl.SSLContext:
    """A certificate for both published names, in `ca.pem`, which vouches for itself."""
    names = "subjectAltName=DNS:mail.lab.example,DNS:autodiscover.lab.example,DNS:lab.example"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out ca.pem"
    options = ["-subj", "/CN=mail.lab.example", "-addext", names]
    made = await asyncio.create_subprocess_exec(*command.split(), *options, cwd=folder, stderr=subprocess.DEVNULL)
    assert await made.wait() == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def web(folder: Path, answer: Response | None = None) -> AsyncIterator[int]:
    """An HTTPS server for both published names; it answers POSTs with these settings. Its port; `ca.pem` vouches."""
    context = await certified(folder)
    body = write_response(answer) if answer is not None else b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, WEB, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def told(server: str = NAME, principal: str = "msstd:mail.lab.example") -> Settings:
    ways = (Protocol(EXCH, server=server), Protocol(EXPR, server="mail.lab.example", cert_principal_name=principal))
    return Settings(User("User", address=f"{USER}@lab.example"), ways)


async def test_the_names_of_a_certificate_are_read_whoever_vouches_for_it(tmp_path: Path) -> None:
    network = OutlookNetwork(Means(timeout_seconds=5.0))
    async with web(tmp_path) as port:
        found = await network.certificate(WEB, port)
    assert not isinstance(found, Went)
    assert found.subject == "mail.lab.example"
    assert found.names == ("mail.lab.example", "autodiscover.lab.example", "lab.example")
    gone = await network.certificate(WEB, port)
    assert gone == Went(Way.REFUSED, "refuses connections")


async def discovering(folder: Path, answer: Response, *, trusted: bool = True) -> list[Step]:
    """Walk from Autodiscover on."""
    async with web(folder, answer) as port, members("cas1"):
        means = Means(timeout_seconds=3.0, authorities=str(folder / "ca.pem") if trusted else "")
        return await walk(Wish(user=USER), vip=MEMBERS["cas1"], means=means, web_port=port)


async def test_autodiscover_is_asked_over_https_and_its_certificate_looked_at(tmp_path: Path) -> None:
    steps = await discovering(tmp_path, told())
    assert [step.trouble for step in steps] == [None] * 10, short(steps)
    assert (steps[2].scenario, steps[2].text) == ("Autodiscover", f"tells EXCH {NAME}, EXPR mail.lab.example")
    assert steps[2].endpoint == "https://lab.example/autodiscover/autodiscover.xml"
    assert (steps[3].scenario, steps[3].text) == ("Certificate", "it is for mail.lab.example, as clients expect")


async def test_a_certificate_principal_that_is_the_arrays_name_is_told(tmp_path: Path) -> None:
    steps = await discovering(tmp_path, told(principal=f"msstd:{NAME}"))
    assert steps[3].trouble is Trouble.CERTIFICATE_PRINCIPAL
    assert f"expect a certificate for {NAME}, and mail.lab.example:443 shows one for mail.lab.example" in steps[3].text


async def test_autodiscover_that_tells_a_server_which_is_gone_stops_there(tmp_path: Path) -> None:
    steps = await discovering(tmp_path, told("old.lab.example"))
    assert (steps[-1].scenario, steps[-1].trouble) == ("Autodiscover", Trouble.DEAD_SERVER)


async def test_autodiscover_behind_a_certificate_that_nobody_vouches_for_says_so(tmp_path: Path) -> None:
    steps = await discovering(tmp_path, told(), trusted=False)
    assert (steps[2].scenario, steps[2].trouble) == ("Autodiscover", Trouble.NO_AUTODISCOVER)
    assert "certificate" in steps[2].text
    assert steps[-1].scenario == "Affinity"


# Clocks.


class Stale(NtlmServer):
    """Any ticket is refused, without a word of why."""

    def step(self, token: bytes) -> bytes:  # noqa: ARG002 - as every server
        raise Denied("the ticket is not right")


class WithTicket(Named):
    """A client that has a ticket, of which it is told nothing more."""

    def _log_on(self, target: str) -> Logon:
        ticket = NtlmClient("alice", "LAB", "any", target, random=os.urandom, clock=time.time)
        return Logon(AuthType.KERBEROS, ticket, AuthLevel.PRIVACY)


@pytest.mark.parametrize(
    ("ahead", "trouble", "words"),
    [
        (1800.0, Trouble.CLOCK, "is 30 minutes ahead of this machine's, and it does not take our ticket"),
        (-1800.0, Trouble.CLOCK, "is 30 minutes behind this machine's"),
        (0.0, Trouble.NO_KERBEROS, "does not take our proof"),
    ],
)
async def test_a_member_that_refuses_tickets_is_asked_what_time_it_has(
    ahead: float, trouble: Trouble, words: str
) -> None:
    def acceptor(kind: int) -> Security:
        server = NtlmServer if kind == AuthType.NTLM else Stale
        return server("cas1", "LAB", lambda *_: None, random=os.urandom, clock=lambda: time.time() + ahead)

    ports = {"epm": EPM, "ab": AB, "rpc": RPC}
    server = LabServer("cas1", [MEMBERS["cas1"]], ports, directory=directory, security=acceptor)
    server.exchange.address = IPv4Address(MEMBERS["cas1"])
    await server.start()
    network = WithTicket(Means(LogOn("kerberos"), timeout_seconds=3.0), {NAME: MEMBERS["cas1"]})
    wish = Wish(user=USER, logon="kerberos", mapper_port=EPM, discover=False)
    steps = await perform(plan_of(directory(vip=MEMBERS["cas1"]), wish), network, lambda _: None, time.monotonic)
    await network.close()
    await server.close()
    assert (steps[-1].scenario, steps[-1].trouble) == ("RFR", trouble), steps[-1].text
    assert words in steps[-1].text


# RPC over HTTP.


class ToMember:
    """The proxy leads to the first member, whichever of the array's names is asked for."""

    def check(self, target: Target) -> None:
        if target.server != NAME:
            raise NotFound(f"there is no {target}")

    async def find(self, target: Target, client: object) -> Place:  # noqa: ARG002 - as all finders
        return Place(IPv4Address(MEMBERS["cas1"]), {6001: RPC, 6002: AB, 6004: AB}[target.port])

    def usable(self, place: object) -> bool:  # noqa: ARG002 - it is up
        return True

    def unreachable(self, place: object) -> None:
        raise AssertionError(place)


class Alice:
    """Lets her in, and nobody else."""

    def judge(self, credentials: tuple[str, bytes] | None) -> Verdict:
        right = credentials == ("basic", b"alice:secret")
        return Verdict("alice") if right else Verdict(offers=('Basic realm="lab"',))


@asynccontextmanager
async def proxy(folder: Path) -> AsyncIterator[int]:
    """The RPC proxy under the published name, with TLS."""
    found = RpcHttpProxy(ToMember(), admission=Alice, tls=await certified(folder))
    try:
        yield await found.start(ip_address(WEB), 0)
    finally:
        for _ in range(300):  # until it has seen our connections end
            if not found.connections:
                break
            await asyncio.sleep(0.05)
        await found.close()


async def by_http(folder: Path, password: str, *, trusted: bool = True) -> list[Step]:
    async with members("cas1"), proxy(folder) as port:
        means = Means(
            LogOn(user="alice", password=password),
            timeout_seconds=5.0,
            proxy_authentication="basic",
            authorities=str(folder / "ca.pem") if trusted else "",
        )
        wish = Wish(user=USER, http=True, proxy="mail.lab.example")
        return await walk(wish, vip=MEMBERS["cas1"], means=means, web_port=port, discover=False)


async def test_the_whole_way_over_http_leads_through_the_proxy(tmp_path: Path) -> None:
    steps = await by_http(tmp_path, "secret")
    assert [(step.scenario, step.trouble) for step in steps[2:]] == [
        ("RFR", None),
        ("NSPI", None),
        ("EMSMDB connect", None),
        ("EMSMDB logon", None),
        ("Affinity", None),
    ]
    assert steps[2].endpoint == f"{NAME}:6002"


async def test_a_proxy_that_does_not_let_us_in_stops_the_walk_with_its_words(tmp_path: Path) -> None:
    step = (await by_http(tmp_path, "wrong"))[-1]
    assert (step.scenario, step.trouble) == ("RFR", Trouble.LOGON_DENIED)
    assert "does not let us in" in step.text


async def test_a_proxy_that_nobody_vouches_for_is_not_told_the_password(tmp_path: Path) -> None:
    step = (await by_http(tmp_path, "secret", trusted=False))[-1]
    assert (step.scenario, step.trouble) == ("RFR", Trouble.PROXY_DOWN)
    assert "certificate is not accepted" in step.text


# Names of the outside.


class NameServer(asyncio.DatagramProtocol):
    """Knows the array's name, as the public DNS should not."""

    def __init__(self, address: str) -> None:
        self.address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        from dns import flags, message, rcode, rdatatype, rrset  # noqa: PLC0415 - an extra

        asked = message.from_wire(data)
        answer = message.make_response(asked)
        answer.flags |= flags.AA
        (question,) = asked.question
        if str(question.name) != f"{NAME}.":
            answer.set_rcode(rcode.NXDOMAIN)
        elif question.rdtype == rdatatype.A:
            answer.answer.append(rrset.from_text(question.name, 60, "IN", "A", self.address))
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def public_dns(address: str) -> AsyncIterator[str]:
    pytest.importorskip("dns", reason="dnspython is not installed")
    where = "127.66.0.53"
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: NameServer(address), (where, 53))
    except PermissionError:
        pytest.skip("port 53 is root's")
    try:
        yield where
    finally:
        transport.close()


async def test_an_arrays_name_that_is_known_outside_and_unreachable_there_is_told() -> None:
    async with public_dns("127.66.0.99") as server, members("cas1"):
        means = Means(timeout_seconds=2.0, outside_dns=server)
        steps = await walk(Wish(user=USER, outside=True), vip=MEMBERS["cas1"], means=means)
        network = OutlookNetwork(means)
        nobody = await network.resolve("nobody.lab.example", outside=True)
    found = next(step for step in steps if step.scenario == "Name resolution (outside)")
    assert found.trouble is Trouble.PUBLIC_UNREACHABLE
    assert "can be resolved outside (127.66.0.99) and does not answer there: refuses connections" in found.text
    assert steps[-1].scenario == "Affinity"  # inside, all is well
    assert isinstance(nobody, Went)
    assert nobody.way is Way.UNKNOWN


async def test_a_name_server_that_does_not_answer_says_nothing_about_the_name() -> None:
    network = OutlookNetwork(Means(timeout_seconds=0.3, outside_dns="127.66.0.54"))
    found = await network.resolve(NAME, outside=True)
    assert isinstance(found, Went)
    assert found.way is Way.SILENT
