"""`casarray run` with its API on TCP: from an empty directory to an array that is served, and new files on SIGHUP.

Userspace mode on loopback addresses, so it needs no privileges.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.api_files import TOKEN, write_half_a_pair, write_pair, write_token
from tests.gateway.gateways import PROGRAM

from casarray.adapters.control_client import ControlClient
from casarray.adapters.stores.opening import open_store
from casarray.app.directory import DirectoryService

HEALTH = {"profile": "mail", "health": {"interval": "100ms", "timeout": "100ms"}}


@dataclass(slots=True)
class Running:
    """A gateway whose API is on TCP."""

    folder: Path
    port: int
    process: "subprocess.Popen[str]"

    def ask(self, method: str, target: str, body: object = None, token: str = TOKEN) -> tuple[int, Any]:
        """One request, trusting the certificate that is in its place now."""
        trusted = ssl.create_default_context(cafile=str(self.folder / "api.pem"))
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=10, context=trusted)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        return answer.status, json.loads(told) if told else None

    def make(self, kind: str, **fields: object) -> None:
        """Make one thing."""
        status, told = self.ask("POST", f"/v1/{kind}s", fields)
        assert status == 201, told

    @property
    def control(self) -> ControlClient:
        """Its control socket."""
        return ControlClient(str(self.folder / "s"))

    def log(self) -> str:
        """What it has said on stderr."""
        return (self.folder / "log").read_text()

    def hears(self, word: str) -> None:
        """Wait until this is in its log."""
        end = time.monotonic() + 10
        while word not in self.log():
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)


def write_config(folder: Path, port: int, store: str) -> Path:
    files = "\n".join(f'{key} = "{folder}/api.{end}"' for key, end in (("certificate", "pem"), ("key", "key")))
    path = folder / "c.toml"
    path.write_text(
        f'[gateway]\nname = "gw1"\nmode = "userspace"\nstate = "{folder}/state"\ncontrol = "{folder}/s"\nmetrics = ""\n'
        f'[directory]\nstore = "{store}"\n'
        f'[api]\nlisten = "127.0.0.1:{port}"\n{files}\ntoken_file = "{folder}/api.token"\n'
    )
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def start(folder: Path, store: str) -> Iterator[Running]:
    write_pair(folder)
    write_token(folder)
    port = free_port()
    with (folder / "log").open("w") as log:
        command = [PROGRAM, "run", "-c", str(write_config(folder, port, store))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n", (folder / "log").read_text()
        yield Running(folder, port, process)
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    yield from start(tmp_path, "embedded")


@pytest.fixture
def with_file(tmp_path: Path) -> Iterator[Running]:
    yield from start(tmp_path, "file")


def test_an_array_that_is_made_by_the_api_is_served(running: Running) -> None:
    running.make("site", name="Paderborn")
    running.make("server", name="cas1", fqdn="cas1.domain.tld", site="Paderborn", addresses=["127.0.0.21"])
    began = time.monotonic()
    running.make("array", fqdn="cas.domain.tld", site="Paderborn", addresses=["127.77.0.100"], settings=HEALTH)
    while not running.control.status().arrays:
        assert time.monotonic() - began < 5
        time.sleep(0.01)
    (array,) = running.control.status().arrays
    assert array.addresses == ("127.77.0.100",)
    assert [member.name for member in array.groups[0].members] == ["cas1"]
    status, told = running.ask("GET", "/v1/arrays/cas")
    assert (status, told["computed"]["members"]) == (200, ["cas1"])
    directory = running.control.status().directory
    assert directory is not None
    assert directory.revision == running.ask("GET", "/v1/directory")[1]["revision"]


def test_a_gateway_that_serves_its_file_keeps_the_embedded_directory_for_those_who_ask(with_file: Running) -> None:
    assert not (with_file.folder / "state" / "directory.db").exists()  # nobody has asked yet
    with_file.make("site", name="Paderborn")
    store = open_store("embedded", state=str(with_file.folder / "state"))  # as the command line opens it
    assert set(DirectoryService(store, "somebody").directory().sites) == {"paderborn"}
    assert [entry.note.who for entry in store.history()] == ["token"]
    store.close()


def test_a_new_certificate_and_token_count_after_a_hangup(running: Running) -> None:
    write_pair(running.folder, "gw2")
    write_token(running.folder, "another")
    running.process.send_signal(signal.SIGHUP)
    running.hears("configuration reloaded")
    assert running.ask("GET", "/v1/status")[0] == 401
    assert running.ask("GET", "/v1/status", token="another")[0] == 200


def test_new_files_that_will_not_do_are_said_and_the_old_ones_kept(running: Running) -> None:
    right = (running.folder / "api.pem").read_bytes()
    write_half_a_pair(running.folder)
    os.kill(running.process.pid, signal.SIGHUP)
    running.hears("the API keeps its certificate and token: api.certificate and api.key do not go together")
    running.hears("configuration reloaded")
    (running.folder / "api.pem").write_bytes(right)
    assert running.ask("GET", "/v1/status")[0] == 200


def test_a_token_that_others_can_read_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    write_pair(tmp_path)
    write_token(tmp_path, mode=0o644)
    command = [PROGRAM, "run", "-c", str(write_config(tmp_path, free_port(), "file"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"api.token_file: {tmp_path}/api.token has the mode 0644" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()
