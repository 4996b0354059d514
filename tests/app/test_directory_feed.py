"""What a gateway knows of its directory, while the store is there, away, wrong and back again."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from casarray.adapters.clock import SystemClock
from casarray.adapters.stores.last_known import LastKnownFile
from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.directory_feed import DirectoryFeed
from casarray.app.stores import DirectoryStore, Snapshot
from casarray.core.config import DirectorySettings, Gateway
from casarray.core.directory import edits
from casarray.core.directory.model import Directory, Kind, Server, Site
from casarray.core.directory.serving import Resolved
from casarray.core.errors import Unavailable

GATEWAY = Gateway("gw1")
REMOTE = DirectorySettings(store=("ldap://dc1.lab.example",), interval=0.02)
DNS = {"cas.lab.example": ("10.0.0.100",), "cas1.lab.example": ("10.0.0.1",), "cas2.lab.example": ("10.0.0.2",)}


class Remote(MemoryDirectory):
    """A store that can be out of reach."""

    away = False
    reads = 0

    def revision(self) -> str:
        if self.away:
            raise Unavailable("dc1.lab.example does not answer")
        return super().revision()

    def read(self) -> Snapshot:
        self.reads += 1
        return replace(super().read(), missing=self.missing)

    missing: tuple[str, ...] = ()


def filled() -> Directory:
    directory = Directory().put(Site("Paderborn"))
    directory = edits.new_server(directory, "cas1", "cas1.lab.example", "Paderborn")
    return edits.new_array(directory, "CAS", "cas.lab.example", "Paderborn")


class Scene:
    """A feed over a remote store and a resolver, both of which can be changed."""

    def __init__(self, folder: Path, directory: Directory) -> None:
        self.store = Remote(directory)
        self.dns = dict(DNS)
        self.asked: list[frozenset[str]] = []
        self.opened = 0
        self.feed = DirectoryFeed(self.open, REMOTE, self.resolve, SystemClock(), LastKnownFile(str(folder)))
        self.service = DirectoryService(self.store, "test")

    def open(self) -> DirectoryStore:
        self.opened += 1
        self.store.revision()
        return self.store

    def resolve(self, names: Collection[str]) -> Resolved:
        self.asked.append(frozenset(names))
        return {name: tuple(map(ip_address, self.dns[name])) for name in names if name in self.dns}

    def members(self) -> set[str]:
        return {server.name for server in self.feed.config(GATEWAY).servers}

    async def no_change(self) -> None:
        """Wait a while in which the feed must tell nothing."""
        waiting = asyncio.create_task(self.change())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    async def change(self) -> None:
        """Wait for what the feed tells next."""
        async with asyncio.timeout(5):
            async for _ in self.feed.changes():
                return


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, filled())
    await made.feed.start()
    yield made
    await made.feed.close()


async def test_addresses_that_the_directory_lacks_come_from_dns(scene: Scene) -> None:
    config = scene.feed.config(GATEWAY)
    assert [str(a) for a in config.arrays[0].addresses] == ["10.0.0.100"]
    assert config.arrays[0].profile == "exchange-2010"
    assert [(s.name, [str(a) for a in s.addresses]) for s in config.servers] == [("cas1", ["10.0.0.1"])]
    assert scene.feed.warnings() == ()


async def test_a_change_is_told_once_and_read_once(scene: Scene) -> None:
    before = scene.store.reads
    scene.service.change(lambda d: edits.new_server(d, "cas2", "cas2.lab.example", "Paderborn"), "test")
    reads = scene.store.reads
    await scene.change()
    assert scene.members() == {"cas1", "cas2"}
    assert scene.store.reads == reads + 1 > before
    await scene.no_change()


async def test_a_store_out_of_reach_changes_nothing_and_is_said(scene: Scene) -> None:
    scene.store.away = True
    await scene.no_change()
    assert scene.members() == {"cas1"}
    (warning,) = scene.feed.warnings()
    assert "dc1.lab.example does not answer" in warning
    assert not scene.feed.status().reachable


async def test_what_changed_while_the_store_was_away_is_served_when_it_is_back(scene: Scene) -> None:
    scene.store.away = True
    waiting = asyncio.create_task(scene.change())
    await asyncio.sleep(0.1)
    scene.store.away = False
    scene.service.change(lambda d: edits.new_server(d, "cas2", "cas2.lab.example", "Paderborn"), "test")
    await waiting
    assert scene.members() == {"cas1", "cas2"}
    assert scene.feed.warnings() == ()
    assert scene.opened > 1  # the broken connection was given up


async def test_a_start_without_the_store_serves_what_was_known_last(tmp_path: Path) -> None:
    await Scene(tmp_path, filled()).feed.start()
    later = Scene(tmp_path, Directory())
    later.store.away = True
    await later.feed.start()
    assert later.members() == {"cas1"}
    assert "going on with what it held last" in later.feed.warnings()[0]
    later.store.away = False
    later.service.change(lambda _: edits.new_server(filled(), "cas2", "cas2.lab.example", "Paderborn"), "test")
    await later.change()
    assert later.members() == {"cas1", "cas2"}


async def test_a_start_that_knows_nothing_is_refused_with_the_stores_reason(tmp_path: Path) -> None:
    scene = Scene(tmp_path, filled())
    scene.store.away = True
    with pytest.raises(Unavailable, match="dc1.lab.example does not answer"):
        await scene.feed.start()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"site": [{"nam": 1}]}', b"\xff\xfe"])
async def test_what_was_known_last_may_be_damaged(tmp_path: Path, damage: bytes) -> None:
    scene = Scene(tmp_path, filled())
    await scene.feed.start()
    (tmp_path / "last-known.json").write_bytes(damage)
    later = Scene(tmp_path, filled())
    later.store.away = True
    with pytest.raises(Unavailable):
        await later.feed.start()


async def test_a_server_without_an_address_is_left_out_and_named(scene: Scene) -> None:
    scene.service.change(lambda d: edits.new_server(d, "cas9", "cas9.lab.example", "Paderborn"), "test")
    await scene.change()
    assert scene.members() == {"cas1"}
    (warning,) = scene.feed.warnings()
    assert "cas9 is left out" in warning
    assert "cas9.lab.example" in warning


async def test_a_name_that_dns_forgets_for_a_moment_keeps_its_address(scene: Scene) -> None:
    scene.dns.clear()
    scene.service.change(lambda d: edits.change(d, Kind.SERVER, "cas1", weight=5), "test")
    await scene.change()
    assert scene.members() == {"cas1"}


async def test_what_the_store_could_not_read_is_told(scene: Scene) -> None:
    scene.store.missing = ("the object CN=X is of an unknown class",)
    scene.service.change(lambda d: edits.change(d, Kind.SERVER, "cas1", weight=5), "test")
    await scene.change()
    assert scene.feed.warnings() == ("directory: the object CN=X is of an unknown class",)


async def test_only_names_of_what_may_be_served_are_asked_of_dns(scene: Scene) -> None:
    def more(directory: Directory) -> Directory:
        mailbox = Server("mbx1", "mbx1.lab.example", "Paderborn", ("mailbox",), None)
        far = Server("cas7", "cas7.lab.example", "Berlin")
        return directory.put(Site("Berlin"), mailbox, far)

    scene.service.change(more, "test")
    await scene.change()
    assert scene.asked[-1] == {"cas.lab.example", "cas1.lab.example"}


async def test_what_is_known_grows_old_only_while_the_store_is_away(scene: Scene) -> None:
    following = asyncio.create_task(scene.change())
    await asyncio.sleep(0.3)
    assert scene.feed.status().reachable
    assert scene.feed.status().age_seconds < 0.2  # nothing has changed, which was seen again and again
    scene.store.away = True
    await asyncio.sleep(0.3)
    assert not scene.feed.status().reachable
    assert scene.feed.status().age_seconds > 0.2
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
