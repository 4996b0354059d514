"""Clients that nobody here wrote ask Autodiscover: exchangelib, by the protocol that Outlook speaks, and curl.

The server is the program itself, in a process of its own, over the embedded directory.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.adapters.api_files import write_pair
from tests.core.directory.example import ORGANISATION

from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.stores import Note
from casarray.core.autodiscover.request import Request, write_request
from casarray.core.autodiscover.response import EXCH, Refusal, Settings, read_response
from casarray.core.directory.changes import difference
from casarray.core.directory.edits import move_active_database
from casarray.core.directory.model import Directory

PROGRAM = str(Path(sys.executable).with_name("casarray"))
CAS = ORGANISATION.arrays["cas"]
ALICE = replace(ORGANISATION.accounts["alice"], aliases=("info@domain.tld",))
DIRECTORY = ORGANISATION.put(replace(CAS, settings={**CAS.settings, "published": ["mail.domain.tld"]}), ALICE)

EXCHANGELIB = """
import json, sys
from exchangelib import Configuration, Credentials
from exchangelib.autodiscover import Autodiscovery, autodiscover_cache
from exchangelib.autodiscover.protocol import AutodiscoverProtocol
from exchangelib.transport import NOAUTH

url, *addresses = sys.argv[1:]
for address in addresses:
    way = Autodiscovery(email=address)
    # It only knows port 443: as after a first discovery, it is told where its domain's service is.
    config = Configuration(service_endpoint=url, auth_type=NOAUTH)
    autodiscover_cache[way._cache_key] = AutodiscoverProtocol(config=config)
    with autodiscover_cache:
        found = way._quick(protocol=autodiscover_cache[way._cache_key])
    print(json.dumps({
        "address": found.autodiscover_smtp_address,
        "ews": found.protocol.ews_url,
        "kinds": [one.type for one in found.account.protocols],
        "server": next(one.server for one in found.account.protocols if one.type == "EXCH"),
    }))
"""


@dataclass(frozen=True)
class Running:
    port: int
    folder: Path
    store: SqliteDirectory

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/Autodiscover/Autodiscover.xml"

    def change(self, wanted: Directory) -> None:
        seen = self.store.read()
        self.store.change(seen, difference(seen.directory, wanted), Note("test", "a test"))

    def curl(self, *words: str, given: bytes = b"") -> str:
        command = ["curl", "-sS", "-m", "15", "--cacert", str(self.folder / "api.pem"), *words]
        return subprocess.run(command, input=given, capture_output=True, check=True, timeout=30).stdout.decode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("autodiscover")
    write_pair(folder, hosts=("autodiscover.domain.tld",))
    config = folder / "casarray.toml"
    config.write_text(f"""
[gateway]
state = "{folder}"

[directory]
store = "embedded"

[autodiscover]
listen = "127.0.0.1:{(port := free_port())}"
certificate = "{folder}/api.pem"
key = "{folder}/api.key"
authentication = "none"
""")
    store = SqliteDirectory(str(folder))
    running = Running(port, folder, store)
    running.change(DIRECTORY)
    command = [PROGRAM, "autodiscover", "run", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(15) == 0
            finally:
                process.kill()
                store.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def exchangelib(served: Running, *addresses: str) -> list[dict[str, object]]:
    if find_spec("exchangelib") is None:
        pytest.skip("exchangelib is not installed")
    environment = {**os.environ, "REQUESTS_CA_BUNDLE": str(served.folder / "api.pem")}
    command = [sys.executable, "-c", EXCHANGELIB, served.url, *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_exchangelib_takes_the_settings_by_an_alias_too(served: Running) -> None:
    by_address, by_alias = exchangelib(served, "alice@domain.tld", "info@domain.tld")
    assert by_address == {
        "address": "alice@domain.tld",
        "ews": "https://mail.domain.tld/EWS/Exchange.asmx",
        "kinds": ["EXCH", "EXPR", "WEB"],
        "server": "cas.domain.tld",
    }
    assert by_alias == by_address


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_told_the_other_array_as_soon_as_the_database_has_moved(served: Running) -> None:
    def told() -> str:
        words = ("-H", "Content-Type: text/xml", "--data-binary", "@-", served.url)
        response = read_response(served.curl(*words, given=write_request(Request("alice@domain.tld"))).encode())
        assert isinstance(response, Settings)
        exch = response.protocol(EXCH)
        assert exch is not None
        return exch.server

    assert told() == "cas.domain.tld"
    served.change(move_active_database(DIRECTORY, "DB1", "ber1"))
    try:
        until = time.monotonic() + 15
        while (now := told()) == "cas.domain.tld" and time.monotonic() < until:
            time.sleep(0.05)
        assert now == "outlook.berlin.domain.tld"
    finally:
        served.change(DIRECTORY)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_s_get_is_answered_with_error_600_over_http_1_0_too(served: Running) -> None:
    for version in ("--http1.0", "--http1.1"):
        answer = read_response(served.curl(version, served.url).encode())
        assert isinstance(answer, Refusal)
        assert answer.code == 600
