"""The measurements of the directory behind `script/figures`: cmdlets, the store, the gateway that follows it."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.cmdlets import exchange_cmdlets
from casarray.app.directory import DirectoryService
from casarray.app.shell import Session
from casarray.core.directory import edits
from casarray.core.directory.model import CLIENT_ACCESS, MAILBOX, Copy, Database, Directory, Server, Site
from casarray.core.errors import CasarrayError, Unavailable
from casarray.core.shell.registry import Registry
from casarray.lab import directory_load, samba_ad
from casarray.lab.faults import Faults
from casarray.lab.figure import Figure, share, spread
from casarray.lab.netns import Lab, here
from casarray.lab.samba_ad import DomainController
from casarray.lab.site import NetworkSite

PROGRAM = str(Path(sys.executable).with_name("casarray"))
MANY = 10_000
FOLLOWING = '[directory]\nstore = "embedded"\n\n[[site]]'
NOUNS = ("ClientAccessArray", "ClientAccessServer", "MailboxServer", "MailboxDatabase", "ADSite")


class Quiet:
    """A terminal at which nobody sits; what is written is counted as shown."""

    interactive = False
    width = None

    def write(self, text: str) -> None:
        """Shown."""

    def tell(self, text: str) -> None:
        """Shown."""

    def ask(self, question: str) -> str:
        """Nobody answers."""
        raise EOFError(question)

    ask_password = ask

    def progress(self, text: str) -> None:
        """Shown."""

    def clear(self) -> None:
        """Nothing to clear."""


def small() -> Directory:
    """A site as most are: an array, four servers, twenty databases."""
    directory = Directory().put(Site("Paderborn"))
    for number in range(1, 5):
        roles = (CLIENT_ACCESS, MAILBOX)
        directory = edits.new_server(directory, f"cas{number}", f"cas{number}.domain.tld", "Paderborn", roles)
    directory = edits.new_array(directory, "CAS", "cas.domain.tld", "Paderborn")
    for number in range(1, 21):
        directory = edits.new_database(directory, f"DB{number}", f"cas{1 + number % 4}")
    return directory


def large(count: int) -> Directory:
    """So many servers and as many databases."""
    servers = [Server(f"s{n}", f"s{n}.domain.tld", "Paderborn", (CLIENT_ACCESS, MAILBOX)) for n in range(count)]
    databases = [Database(f"d{n}", f"s{n}", (Copy(f"s{n}"),), "cas.domain.tld") for n in range(count)]
    return small().put(*servers, *databases)


def _session(folder: Path, directory: Directory) -> Session:
    service = DirectoryService(SqliteDirectory(str(folder)), "figures")
    service.change(lambda _: directory, "fill")
    return Session(Registry(exchange_cmdlets(service)), Quiet())


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _timed(session: Session, line: str) -> float:
    began = time.perf_counter()
    if session.run(line).failed:
        raise CasarrayError(f"{line} failed")
    return (time.perf_counter() - began) * 1000


async def cmdlets(folder: Path, runs: int) -> list[Figure]:
    """Round trips in a running shell on SQLite, and a shell from its start to its end."""
    session = _session(folder / "small", small())
    lines = [f"Get-{noun} | fl" for noun in NOUNS]
    lines += [f"Set-MailboxDatabase DB{n} -RpcClientAccessServer cas{1 + n % 2}.domain.tld" for n in range(1, 21)]
    times = [_timed(session, line) for line in lines for _ in range(max(1, runs // 4))]
    many = _session(folder / "large", large(MANY))
    listing = {noun: _timed(many, f"Get-{noun}") for noun in NOUNS}
    slowest = max(listing, key=lambda noun: listing[noun])
    starts = []
    for _ in range(runs):
        command = [PROGRAM, "shell", "--store", f"sqlite:{folder / 'small'}"]
        began = time.perf_counter()
        _call(*command, "-c", "Get-ClientAccessArray | fl")
        starts.append((time.perf_counter() - began) * 1000)
    middle = share(times, 0.5)
    return [
        Figure("cmdlet in a running shell, SQLite", "p50 20 ms", spread(times), middle <= 20, tuple(times)),
        Figure("casarray shell -c, start to end", "400 ms", spread(starts), share(starts, 0.5) <= 400, tuple(starts)),
        Figure(
            f"the slowest Get- over {MANY:,} servers and as many databases",
            "1 s",
            f"{listing[slowest]:.0f} ms (Get-{slowest})",
            listing[slowest] <= 1000,
            tuple(listing.values()),
        ),
    ]


async def following(folder: Path, runs: int) -> list[Figure]:
    """From a change in SQLite to the kernel's table of a gateway that follows."""
    gone, come = [], []
    async with NetworkSite(folder, servers=("cas1", "cas2"), health={"rise": "1"}) as site:
        text = site.config_path.read_text()
        store = f"sqlite:{folder}/state"
        _call(PROGRAM, "apply", "-f", str(site.config_path), "--store", store, "--yes")
        site.config_path.write_text(text.replace("[[site]]", FOLLOWING, 1))
        await site.start_gateway()
        service = DirectoryService(SqliteDirectory(f"{folder}/state"), "figures")
        for run in range(max(4, runs)):
            await Faults(site).until_state("cas2", True)
            await asyncio.sleep(1.0 + run % 4 * 0.0125)  # the last change is done; anywhere between two looks
            gone.append(await _followed(site, service, out=True))
            await asyncio.sleep(1.0 + run % 3 * 0.0125)
            come.append(await _followed(site, service, out=False))
    return [
        Figure("a server out in SQLite: the kernel leads nobody there", "500 ms", spread(gone), max(gone) <= 500),
        Figure("a server in, in SQLite: the kernel has its rules", "500 ms", spread(come), max(come) <= 500),
    ]


async def _followed(site: NetworkSite, service: DirectoryService, *, out: bool) -> float:
    """Take cas2 out of the array, or put it back: the milliseconds until the kernel's table says so."""
    edit = edits.remove_rpc_client_access if out else edits.new_rpc_client_access
    began = time.monotonic()
    service.change(lambda directory: edit(directory, "cas2"), "figures")
    while not (_left_kernel(site) if out else _in_kernel(site, "cas2")):
        if time.monotonic() - began > 20:
            raise Unavailable("the gateway does not follow its directory")
        await asyncio.sleep(0.005)
    return (time.monotonic() - began) * 1000


def _left_kernel(site: NetworkSite) -> bool:
    """Whether one member alone may be used, by the map that every new connection is led by."""
    nodes = site.host("gateway").run("nft", "list", "map", "inet", "casarray_cas", "nodes4_rpc", check=False).stdout
    return nodes.count("goto node4_rpc_") == 1


def _in_kernel(site: NetworkSite, server: str) -> bool:
    """Whether the kernel's table has rules that lead to this server."""
    table = site.host("gateway").run("nft", "--terse", "list", "table", "inet", "casarray_cas", check=False).stdout
    return f"dnat ip to {site.addresses(server)[0]}" in table


async def active_directory(folder: Path, _runs: int) -> list[Figure]:
    """An organisation of 10,000 objects in a real domain controller, read whole."""
    if reason := samba_ad.missing():
        return [Figure("read from Active Directory", "5 s", f"not measured: {reason}", None)]
    half = MANY // 2
    with Lab() as lab, DomainController(lab, folder) as controller:
        controller.extend_schema()
        ldif = directory_load.organisation(controller.base, "Default-First-Site-Name", half)
        await asyncio.to_thread(controller.add, ldif, 3600)
        code = (
            "import json, sys; from casarray.lab import directory_load; "
            "print(json.dumps(directory_load.measure(*sys.argv[1:])))"
        )
        cache = controller.ticket(samba_ad.ADMINISTRATOR, controller.password)
        env = controller.environment() | {"PYTHONPATH": str(here())}
        command = (sys.executable, "-c", code, controller.fqdn, controller.address, cache)
        done = await asyncio.to_thread(controller.host.run, *command, env=env, timeout=300)
    found = json.loads(done.stdout)
    seconds = found["first_read"]
    text = (
        f"{spread(seconds, 's')}; unchanged: {found['look_unchanged'] * 1000:.0f} ms; after one change: "
        f"{found['read_one_change'] * 1000:.0f} ms; {found['memory_first']} MiB after the first, "
        f"{found['memory_last']} after the last"
    )
    things = found["things"]["server"] + found["things"]["database"]
    met = max(seconds) <= 5
    return [Figure(f"{things:,} objects read from Active Directory", "5 s", text, met, tuple(seconds), "s")]
