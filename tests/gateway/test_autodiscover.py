"""A gateway that tells clients of its arrays, too: by the directory as it has just become."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.adapters.api_files import write_pair
from tests.peers.test_autodiscover_clients import DIRECTORY, free_port

from casarray.adapters.autodiscover_client import AutodiscoverClient
from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.stores import Note
from casarray.core.autodiscover.request import Request
from casarray.core.autodiscover.response import EXCH
from casarray.core.directory.changes import difference
from casarray.core.directory.edits import move_active_database
from casarray.core.directory.model import Directory

PROGRAM = str(Path(sys.executable).with_name("casarray"))
NAME = "autodiscover.domain.tld"


@dataclass
class Gateway:
    folder: Path
    port: int
    store: SqliteDirectory
    process: asyncio.subprocess.Process

    def change(self, wanted: Directory) -> None:
        seen = self.store.read()
        self.store.change(seen, difference(seen.directory, wanted), Note("test", "a test"))

    async def told(self) -> str:
        """The server that alice's client is told over TCP."""
        client = AutodiscoverClient(
            ca=str(self.folder / "api.pem"), connect_to=lambda _host, _port: ("127.0.0.1", self.port)
        )
        url = f"https://{NAME}/autodiscover/autodiscover.xml"
        walked = await client.walk(Request("alice@domain.tld"), [url], only=True)
        assert walked.settings is not None, walked.hops
        exch = walked.settings.protocol(EXCH)
        assert exch is not None
        return exch.server


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """In userspace mode; the addresses of the arrays are not this host's, so nobody is forwarded."""
    write_pair(tmp_path, hosts=[NAME])
    port = free_port()
    (tmp_path / "casarray.toml").write_text(f"""
[gateway]
name = "gw1"
mode = "userspace"
interface = "none"
state = "{tmp_path}"
control = "{tmp_path}/control.sock"
metrics = ""

[directory]
store = "embedded"

[autodiscover]
listen = "127.0.0.1:{port}"
certificate = "{tmp_path}/api.pem"
key = "{tmp_path}/api.key"
authentication = "none"
""")
    store = SqliteDirectory(str(tmp_path))
    command = (PROGRAM, "run", "-c", str(tmp_path / "casarray.toml"))
    with (tmp_path / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=log)
    made = Gateway(tmp_path, port, store, process)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line == b"ready\n", (tmp_path / "log").read_text()
        yield made
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0
        store.close()


async def until(gateway: Gateway, wanted: str) -> None:
    """Look again until clients are told that."""
    for _ in range(300):
        try:
            if await gateway.told() == wanted:
                return
        except AssertionError:  # it does not know alice yet
            pass
        await asyncio.sleep(0.05)
    assert await gateway.told() == wanted


async def test_its_clients_are_told_what_the_directory_has_become(gateway: Gateway) -> None:
    gateway.change(DIRECTORY)
    await until(gateway, "cas.domain.tld")
    gateway.change(move_active_database(DIRECTORY, "DB1", "ber1"))
    await until(gateway, "outlook.berlin.domain.tld")


async def test_a_renewed_certificate_is_shown_after_a_reload(gateway: Gateway) -> None:
    async def shown() -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return found

    before = await shown()
    write_pair(gateway.folder, hosts=[NAME])
    gateway.process.send_signal(1)
    for _ in range(300):
        if await shown() != before:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the old certificate is shown for ever")
