"""Running gateways to try things at: how tests start, ask, command and overhear `casarray run`."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from casarray.core.dcerpc.interfaces import epm
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.lab.channel import Channel
from casarray.lab.netns import missing
from casarray.lab.outlook import Outlook
from casarray.lab.site import Site

WHY_NOT = missing()
PROGRAM = str(Path(sys.executable).with_name("casarray"))

#: Health that finds out soon, so that tests need not wait.
#: Probes often, and waits longer for an answer than a busy machine takes.
QUICK = {"interval": '"200ms"', "timeout": '"900ms"', "rise": "1", "slow_start": '"0s"'}


@contextmanager
def running(site: Site, *changes: tuple[str, str], without: str = "") -> Iterator[Site]:
    """The site with its gateway, for as long as a fixture of any scope lasts; its configuration changed by `edit`."""

    async def start() -> None:
        await site.__aenter__()
        edit(site, *changes, without=without)
        await site.start_gateway()

    try:
        asyncio.run(start())
        yield site
    finally:
        site.close()


#: A configuration with one array whose services are to be put in.
MAIL_ARRAY = """
[gateway]
name = "gw1"
mode = "{mode}"
state = "{folder}/state"
control = "{folder}/casarray.sock"
metrics = ""

[[site]]
name = "Lab"

[[array]]
name = "MAIL"
fqdn = "mail.lab.example"
site = "Lab"
addresses = ["{vip}"]

[array.health]
interval = "150ms"
timeout = "400ms"
rise = 1
slow_start = "0s"
hold = "0s"
{services}
"""
SERVER = '\n[[server]]\nname = "{name}"\nsite = "Lab"\naddress = "{address}"\n'


def cli(site: Site, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the command line against the site's gateway, to its end."""
    command = [PROGRAM, *words, "--control", str(site.folder / "casarray.sock")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def start_in_vain(site: Site, *before: str, env: Mapping[str, str] | None = None) -> str:
    """Start a gateway that must refuse to: exit code 1 and nothing but a reason. What it said on stderr."""
    command = [*before, PROGRAM, "run", "-c", str(site.config_path)]
    done = site.host("gateway").run(*command, check=False, timeout=20, **({"env": dict(env)} if env else {}))
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "ready" not in done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    said: str = done.stderr
    return said


def get(site: Site, path: str, port: int) -> tuple[int, str]:
    """What the gateway answers on its metrics address."""
    with site.host("gateway").inside():
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.connect()
    connection.request("GET", path)
    answer = connection.getresponse()
    told = answer.status, answer.read().decode()
    connection.close()
    return told


def mapper_counts(site: Site) -> Mapping[str, int]:
    """What the gateway counts at its endpoint mapper."""
    return site.control.status().arrays[0].mapper


def members(site: Site, group: str = "rpc", array: int = 0) -> dict[str, Any]:
    """The members of a group by name, as `casarray status` tells of them."""
    found = next(g for g in site.control.status().arrays[array].groups if g.name == group)
    return {member.name: member for member in found.members}


async def soon(condition: Callable[[], object], patience: float = 10.0) -> Any:
    """Wait until it is so; what it then is."""
    end = asyncio.get_running_loop().time() + patience
    while not (found := await asyncio.to_thread(condition)):
        assert asyncio.get_running_loop().time() < end, f"not so after {patience} s"
        await asyncio.sleep(0.06)
    return found


def source(site: Site, number: int) -> str:
    """The address of the ``number``-th client."""
    net = str(site.sources).rpartition(".")[0].rpartition(".")[0]
    third = int(str(site.sources).split(".")[2]) + number // 200
    return f"{net}.{third}.{number % 200 + 1}"


def outlook(site: Site, number: int, **options: Any) -> Outlook:
    """A client of the site that stands on its own address. Use it inside the clients' host."""
    usual: dict[str, Any] = {"vip": site.vip, "source": source(site, number), "epm_port": site.ports.epm}
    return Outlook(number, **(usual | {"patience": 3.0} | options))


async def ask_mapper(channel: Channel, interface: Syntax = NSPI) -> list[int]:
    """Map an interface on an open connection to the mapper; the ports that were told."""
    answer = await channel.call(EPM, epm.EPT_MAP, epm.EptMap(Tower.tcp(interface)).encode())
    reply = epm.EptMapReply.decode(answer.stub, answer.order, answer.ndr64)
    return [tower.port for tower in reply.towers if tower.port]


async def mapper(site: Site, number: int, vip: str = "") -> Channel:
    """A connection to the array's mapper, bound, from the ``number``-th client."""
    channel = await Channel.open(vip or site.vip, site.ports.epm, source(site, number), 3.0)
    try:
        await channel.bind(EPM)
    except BaseException:
        channel.close(hard=True)
        raise
    return channel


async def eventually(attempt: Callable[[], Awaitable[object]], patience: float = 10.0) -> Any:
    """Do it until it succeeds; what it gives."""
    end = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await attempt()
        except Exception:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.05)


def edit(site: Site, *changes: tuple[str, str], without: str = "") -> None:
    """Change the site's configuration by text; ``without`` names a server to leave out. Each change must bite."""
    text = site.config_path.read_text()
    if without:
        text, count = re.subn(rf'\[\[server\]\]\nname = "{without}"\n(?:.+\n)*', "", text)
        assert count == 1, text
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    fresh = site.config_path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(site.config_path)  # in one piece, as a gateway may read at any moment


def tables(site: Site) -> list[str]:
    """The names of the nftables tables of the gateway."""
    told: str = site.host("gateway").run("nft", "list", "tables").stdout
    return [line.split()[2] for line in told.splitlines()]


def has_address(site: Site, address: str) -> bool:
    """Whether some interface of the gateway has this address."""
    told = json.loads(site.host("gateway").run("ip", "-j", "addr").stdout)
    return any(info["local"] == address for link in told for info in link["addr_info"])


@asynccontextmanager
async def people(site: Site, count: int = 12, first: int = 1) -> AsyncIterator[list[Outlook]]:
    """Clients with their mailboxes open, on every member some; all are closed in the end."""
    with site.host("clients").inside():
        clients = [outlook(site, number) for number in range(first, first + count)]
        try:
            await asyncio.gather(*(client.open() for client in clients))
            yield clients
        finally:
            for client in clients:
                client.close()
            await asyncio.sleep(0)


async def unhurt(clients: Iterable[Outlook]) -> None:
    """Every one of them is connected and answered, and lands where it was before."""
    for client in clients:
        assert client.connected(), (client.name, client.member, [c.ending for c in client.channels])
    await asyncio.gather(*(client.talk() for client in clients))
    assert {client.name: await client.knock() for client in clients} == {client.name: 2 for client in clients}
