"""Services that are not RPC: groups of their own, each with its probe, each failing over by itself."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from casarray.core.config import Wish
from casarray.lab.site import LoopbackSite, NetworkSite, Site, free_port

from .gateways import MAIL_ARRAY, SERVER, WHY_NOT, members, soon, source

KINDS = [
    pytest.param(LoopbackSite, id="userspace"),
    pytest.param(
        NetworkSite,
        id="kernel",
        marks=[pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))],
    ),
]

SERVICE = '\n[[array.service]]\nname = "{name}"\nport = {port}\n'
NAMES = ("cas1", "cas2", "cas3")
PROTOCOLS = ("http", "imap", "pop3", "smtp")
Farm = tuple[Site, dict[str, int]]


@contextmanager
def built(site: Site) -> Iterator[Farm]:
    """Three machines with all four services, and a gateway before them."""
    free = [free_port(28000 + 50 * number) for number in range(4)]
    numbers = free if isinstance(site, LoopbackSite) else [80, 143, 110, 25]
    ports = dict(zip(PROTOCOLS, numbers, strict=True))
    services = "".join(SERVICE.format(name=name, port=port) for name, port in ports.items())
    text = MAIL_ARRAY.format(mode=site.mode, folder=site.folder, vip=site.vip, services=services)
    text += "".join(SERVER.format(name=name, address=site.addresses(name)[0]) for name in NAMES)

    async def start() -> None:
        site.build()
        for name in NAMES:
            await start_server(site, ports, name)
        site.config_path.write_text(text)
        await site.start_gateway()

    try:
        asyncio.run(start())
        yield site, ports
    finally:
        site.close()


@pytest.fixture(scope="module", params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with built(request.param(tmp_path_factory.mktemp("mail"), servers=NAMES)) as (site, ports):
        yield site, ports


@pytest.fixture(scope="module")
def loopback_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with built(LoopbackSite(tmp_path_factory.mktemp("mail"), servers=NAMES)) as (site, ports):
        yield site, ports


async def start_server(site: Site, ports: dict[str, int], name: str) -> None:
    """One machine with all the services."""
    script = str(Path(__file__).with_name("tiny_servers.py"))
    arguments = [name, site.addresses(name)[0], str(site.folder), *(f"{p}={port}" for p, port in ports.items())]
    site.servers[name] = await site._start(name, name, [sys.executable, script, *arguments])


def ask(farm: Farm, protocol: str, number: int) -> str:
    """The name that the server says to this client."""
    site, ports = farm
    with site.host("clients").inside(), socket.socket() as sock:
        sock.settimeout(3)
        sock.bind((source(site, number), 0))
        sock.connect((site.vip, ports[protocol]))
        if protocol == "http":
            sock.sendall(b"GET / HTTP/1.1\r\nHost: mail\r\n\r\n")
        said = sock.recv(4096).decode()
    return next((name for name in NAMES if name in said), said)


def group_of(protocol: str) -> str:
    return {"http": "web"}.get(protocol, protocol)


async def usable(farm: Farm, protocol: str, name: str, wanted: bool) -> None:
    await soon(lambda: members(farm[0], group_of(protocol))[name].eligible is wanted)


@pytest.fixture
def well(farm: Farm) -> Iterator[Farm]:
    """All is well again after the test."""
    yield farm
    for name in NAMES:
        farm[0].control.set_server(name, Wish.ACTIVE)
        for protocol in PROTOCOLS:
            asyncio.run(usable(farm, protocol, name, True))


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_each_client_stays_on_its_server_in_each_protocol(well: Farm, protocol: str) -> None:
    owners = {number: {ask(well, protocol, number) for _ in range(3)} for number in range(1, 31)}
    assert all(len(names) == 1 for names in owners.values())
    assert {name for names in owners.values() for name in names} == set(NAMES)


ILL = {
    "http": ["HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "", "220 this is no web\r\n"],
    "imap": ["* BYE too many\r\n", "", "+OK POP3\r\n"],
    "pop3": ["-ERR not now\r\n", "", "\xff\xfe\xfd"],
    "smtp": ["421 not now\r\n", "", "* OK IMAP4rev1\r\n"],
}


@pytest.mark.parametrize(("protocol", "illness"), [(p, n) for p in PROTOCOLS for n in range(3)])
async def test_an_ill_service_moves_its_own_clients_and_no_other_protocol(
    loopback_farm: Farm, protocol: str, illness: int
) -> None:
    site, _ = farm = loopback_farm
    other = PROTOCOLS[PROTOCOLS.index(protocol) - 1]
    before = {number: (ask(farm, protocol, number), ask(farm, other, number)) for number in range(40, 55)}
    victim = before[40][0]
    (site.folder / f"{victim}-{protocol}").write_text(ILL[protocol][illness], encoding="latin-1")
    await usable(farm, protocol, victim, False)
    assert members(site, group_of(protocol))[victim].reason
    for number, (name, elsewhere) in before.items():
        now = ask(farm, protocol, number)
        assert now != victim
        assert name in (now, victim)
        assert ask(farm, other, number) == elsewhere
    (site.folder / f"{victim}-{protocol}").unlink()
    await usable(farm, protocol, victim, True)


async def test_a_killed_machine_is_out_of_every_group_and_comes_back(well: Farm) -> None:
    site, ports = well
    site.servers["cas2"].kill()
    site.servers["cas2"].wait()
    for protocol in PROTOCOLS:
        await usable(well, protocol, "cas2", False)
        assert {ask(well, protocol, number) for number in range(60, 75)} == {"cas1", "cas3"}
    await start_server(site, ports, "cas2")
    for protocol in PROTOCOLS:
        await usable(well, protocol, "cas2", True)


async def test_an_operator_takes_a_machine_out_of_all_its_groups(well: Farm) -> None:
    site, _ = well
    await asyncio.to_thread(site.control.set_server, "cas3", Wish.OUT)
    for protocol in PROTOCOLS:
        assert {ask(well, protocol, number) for number in range(80, 95)} == {"cas1", "cas2"}


async def test_an_array_without_a_mapper_answers_nothing_on_135(well: Farm) -> None:
    site, _ = well
    with site.host("clients").inside(), socket.socket() as sock:
        sock.settimeout(3)
        with pytest.raises(ConnectionRefusedError):
            sock.connect((site.vip, 135))
