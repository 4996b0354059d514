"""A gateway whose arrays come from a directory: what changes there is served, and nothing else is touched."""

import asyncio
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.directory import DirectoryService
from casarray.app.stores import Note
from casarray.core.directory import edits
from casarray.core.directory.changes import difference
from casarray.core.directory.model import Array, Kind, Site
from casarray.lab.site import NetworkSite

from .gateways import PROGRAM, QUICK, WHY_NOT, members, outlook, people, running, soon, tables, unhurt

pytestmark = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

SERVERS = ("cas1", "cas2", "cas3")
FROM_DIRECTORY = ("[[site]]", '[directory]\nstore = "embedded"\n\n[[site]]')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkSite]:
    """A gateway that began with an empty directory, seeded with two of three servers."""
    made = NetworkSite(tmp_path_factory.mktemp("directory"), servers=SERVERS, health=QUICK)
    with running(made, FROM_DIRECTORY, without="cas3"):
        assert made.control.status().arrays == ()
        done = at_directory(made, "apply", "-f", str(made.config_path), "--yes")
        assert done.returncode == 0, done.stderr
        yield made


def at_directory(site: NetworkSite, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command of the command line, at the site's directory."""
    command = [PROGRAM, *words, "--store", f"sqlite:{site.folder}/state"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.fixture
def directory(site: NetworkSite) -> Iterator[DirectoryService]:
    """An administrator in another process, so to speak."""
    store = SqliteDirectory(str(site.folder / "state"))
    yield DirectoryService(store, "test")
    store.close()


async def test_what_is_applied_to_an_empty_directory_is_served_at_once(site: NetworkSite) -> None:
    await soon(lambda: site.control.status().arrays and members(site)["cas1"].eligible)
    async with people(site, 8) as clients:
        assert {client.member for client in clients} <= {"cas1", "cas2"}
    told = site.control.status().directory
    assert told is not None
    assert (told.store, told.reachable) == ("embedded", True)


async def test_a_new_server_of_the_site_joins_and_nobody_moves(site: NetworkSite, directory: DirectoryService) -> None:
    await soon(lambda: site.control.status().arrays and members(site)["cas2"].eligible)
    async with people(site, 8) as clients:
        addresses = tuple(map(ip_address, site.addresses("cas3")))
        (home,) = [place.name for place in directory.directory().sites.values()]
        directory.change(lambda d: edits.new_server(d, "cas3", "cas3.lab.example", home, addresses=addresses), "test")
        await soon(lambda: "cas3" in members(site), 2.0)
        await soon(lambda: members(site)["cas3"].eligible)
        await unhurt(clients)


async def test_a_server_that_is_taken_out_of_the_array_leaves_and_comes_back(
    site: NetworkSite, directory: DirectoryService
) -> None:
    directory.change(lambda d: edits.remove_rpc_client_access(d, "cas2"), "test")
    await soon(lambda: "cas2" not in members(site), 2.0)
    with site.host("clients").inside():
        client = outlook(site, 70)
        await client.open()
        assert client.member != "cas2"
        client.close()
    directory.change(lambda d: edits.new_rpc_client_access(d, "cas2"), "test")
    await soon(lambda: "cas2" in members(site) and members(site)["cas2"].eligible)


async def test_a_directory_without_its_array_is_not_followed_and_said_so(
    site: NetworkSite, directory: DirectoryService
) -> None:
    before = directory.directory()
    array = next(iter(before.arrays.values()))
    directory.change(lambda d: edits.remove(d, Kind.ARRAY, array.name), "test")
    (warning,) = await soon(lambda: [w for w in site.control.status().warnings if "cannot be served" in w])
    assert "has no array" in warning
    async with people(site, 4) as clients:
        await unhurt(clients)
    directory.change(lambda d: d.put(array), "test")
    await soon(lambda: not [w for w in site.control.status().warnings if "cannot be served" in w])


async def test_an_array_that_cannot_be_served_is_named_and_the_others_are(
    site: NetworkSite, directory: DirectoryService
) -> None:
    # Our rules would refuse it; other tools do not know them.
    snapshot = directory.snapshot()
    strange = snapshot.directory.put(Site("Berlin"), Array("B", "b.lab.example", "Berlin", (), {"profile": "none"}))
    directory.store.change(snapshot, difference(snapshot.directory, strange), Note("somebody", "something"))
    warnings = await soon(lambda: [w for w in site.control.status().warnings if "array B is left out" in w])
    assert any("there is no profile" in warning for warning in warnings)
    assert len(site.control.status().arrays) == 1
    directory.change(lambda d: edits.remove(edits.remove(d, Kind.ARRAY, "B"), Kind.SITE, "Berlin"), "test")
    await soon(lambda: not [w for w in site.control.status().warnings if "array B" in w])


async def test_what_changed_while_nobody_ran_is_served_by_the_next_gateway_and_connections_live(
    site: NetworkSite, directory: DirectoryService
) -> None:
    async with people(site, 6) as clients:
        site.kill_gateway()
        directory.change(lambda d: edits.change(d, Kind.SERVER, "cas1", weight=7), "test")
        await site.start_gateway()
        assert members(site)["cas1"].weight == 7
        await asyncio.sleep(0.5)
        await unhurt(clients)
    assert tables(site)
