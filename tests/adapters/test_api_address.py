"""The API on TCP: real sockets, TLS with a certificate of the moment, and everybody who should stay outside."""

import asyncio
import json
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import uvloop
from tests.adapters.api_files import TOKEN, write_half_a_pair, write_pair, write_token
from tests.faces.fake_gateway import FakeGateway

from casarray.adapters import api_address, http_server
from casarray.adapters.api_address import LONGEST_TOKEN, Credentials, read_token
from casarray.adapters.control import ControlServer
from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.core.config import ApiSettings
from casarray.core.errors import ConfigError, Unavailable
from casarray.faces.api.desk import Desk
from casarray.faces.api.routes import api_routes


@pytest.fixture
def api(tmp_path: Path) -> ApiSettings:
    write_pair(tmp_path)
    write_token(tmp_path)
    files = [str(tmp_path / name) for name in ("api.pem", "api.key", "api.token")]
    return ApiSettings("127.0.0.1:0", *files)


@dataclass(frozen=True, slots=True)
class Served:
    """A running gateway's control server, and where its API is."""

    server: ControlServer
    gateway: FakeGateway
    trusted: ssl.SSLContext

    @property
    def port(self) -> int:
        """Where the API listens."""
        assert self.server.api_port is not None
        return self.server.api_port

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        """A request over TLS, with the token unless ``authorization`` says otherwise; its status, and all that came."""
        given = {"host": "x", "connection": "close", "authorization": f"Bearer {TOKEN}"}
        if body:
            given |= {"content-type": "application/json", "content-length": str(len(body))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trusted)
        writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        answer = (await asyncio.wait_for(reader.read(), 10)).decode()
        writer.close()
        return int(answer.split()[1]), answer


@asynccontextmanager
async def serving(api: ApiSettings, control: Path) -> AsyncIterator[Served]:
    gateway, desk = FakeGateway(), Desk(MemoryDirectory)
    server = ControlServer(gateway, str(control), "", more=partial(api_routes, desk), api=api)
    await server.start()
    try:
        yield Served(server, gateway, ssl.create_default_context(cafile=api.certificate))
    finally:
        await server.stop()
        await desk.close()


@pytest.fixture
async def served(api: ApiSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(api_address, "REFUSAL_SECONDS", 0.01)
    async with serving(api, tmp_path / "s") as running:
        yield running


# Who is let in.


async def test_whoever_has_the_token_may_look_and_change_and_is_noted(served: Served) -> None:
    assert (await served.ask("GET", "/v1/status"))[0] == 200
    status, answer = await served.ask("POST", "/v1/sites", b'{"name": "Paderborn"}')
    assert status == 201, answer
    assert '"who":"token","what":"POST /v1/sites' in (await served.ask("GET", "/v1/directory/history"))[1]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}", "Bearer \xff"],
)
async def test_nobody_else_learns_anything(served: Served, authorization: str) -> None:
    refusals = set()
    for method, path in (("GET", "/v1/status"), ("GET", "/v1/nothing"), ("POST", "/v1/reload")):
        status, answer = await served.ask(method, path, authorization=authorization)
        assert status == 401
        refusals.add(answer.partition("\r\n\r\n")[2])
        assert "www-authenticate: Bearer" in answer
    assert refusals == {'{"error":{"kind":"Denied","message":"not authorized"}}'}
    assert served.gateway.asked == []


async def test_whoever_guesses_has_to_wait(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_address, "REFUSAL_SECONDS", 0.2)
    start = time.monotonic()
    await served.ask("GET", "/v1/status", authorization="Bearer guess")
    assert time.monotonic() - start >= 0.2


async def test_a_token_that_is_sent_twice_is_none(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=served.trusted)
    line = f"Authorization: Bearer {TOKEN}\r\n"
    writer.write(f"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}{line}\r\n".encode())
    assert b" 401 " in await reader.readline()
    writer.close()


async def test_there_is_nothing_but_the_api(served: Served) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/", "/v1"):
        assert (await served.ask("GET", path))[0] == 404, path
    assert (await served.ask("GET", "/v1/openapi.json"))[0] == 200


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_that_does_not_say_that_it_is_json_is_refused(served: Served, kind: str) -> None:
    status, answer = await served.ask("POST", "/v1/sites", b'{"name": "Paderborn"}', content_type=kind)
    assert status == 415
    assert "send the header Content-Type: application/json" in answer


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
async def test_json_by_any_of_its_names_is_taken(served: Served, kind: str) -> None:
    assert (await served.ask("POST", "/v1/sites", b'{"name": "Paderborn"}', content_type=kind))[0] == 201


async def test_a_request_without_a_body_needs_no_kind_of_it(served: Served) -> None:
    assert (await served.ask("POST", "/v1/reload"))[0] == 200


async def test_a_huge_body_is_cut_off(served: Served) -> None:
    await served.ask("GET", "/v1/sites")  # the first question waits for what answers it, and meanwhile nobody reads
    status, answer = await served.ask("POST", "/v1/sites", b'{"name": "' + b"x" * 1_000_000 + b'"}')
    assert status == 400
    assert "more than 65536 bytes" in answer


# What is not TLS, or not new enough.


@pytest.fixture
def quiet() -> Iterator[list[logging.LogRecord]]:
    """What is logged meanwhile, and what the loop complains about."""
    seen: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler = Keep(logging.INFO)
    logging.getLogger().addHandler(handler)
    yield seen
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    "noise", [b"GET /v1/status HTTP/1.1\r\n\r\n", b"\x00" * 3000, b"\x16\x03\x01\x02\x00\x01", b""]
)
async def test_what_is_no_tls_is_closed_without_a_word(
    served: Served, quiet: list[logging.LogRecord], noise: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(noise)
    writer.write_eof()
    with suppress(ConnectionError):
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert (await served.ask("GET", "/v1/status"))[0] == 200
    assert quiet == []


async def test_tls_before_1_2_is_refused(served: Served) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", served.port, ssl=old)


# Those who only hold the door.


@contextmanager
def impatient(monkeypatch: pytest.MonkeyPatch, most: int = 4) -> Iterator[None]:
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", most)
    monkeypatch.setattr(http_server, "HANDSHAKE_SECONDS", 0.3)
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(http_server, "ANSWER_SECONDS", 0.6)
    monkeypatch.setattr(http_server, "LOOK_SECONDS", 0.1)
    yield


async def test_those_who_only_connect_hold_up_others_for_a_moment_alone(
    api: ApiSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with impatient(monkeypatch):
        async with serving(api, tmp_path / "s") as served:
            crowd = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(8)]
            assert (await served.ask("GET", "/v1/status"))[0] == 200
            for _, writer in crowd:
                writer.close()


@pytest.mark.parametrize(
    "head",
    [
        "",
        "GET /v1/sta",
        f"POST /v1/sites HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        "Content-Length: 20\r\n\r\n{",
    ],
)
async def test_those_who_dawdle_are_cut_off(
    api: ApiSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    with impatient(monkeypatch):
        async with serving(api, tmp_path / "s") as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=served.trusted)
            writer.write(head.encode())
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()


async def test_room_is_made_by_whoever_leaves(
    api: ApiSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with impatient(monkeypatch, most=2):
        async with serving(api, tmp_path / "s") as served:
            for _ in range(10):
                assert (await served.ask("GET", "/v1/status"))[0] == 200
                _, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.close()


# Its files.


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_a_token_that_only_its_owner_and_group_can_read_is_taken(tmp_path: Path, mode: int) -> None:
    assert read_token(str(write_token(tmp_path, mode=mode))) == TOKEN.encode()


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o700, 0o604, 0o620])
def test_a_token_that_others_could_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=rf"has the mode {mode:04o}, so others could .*: chmod 0640"):
        read_token(str(write_token(tmp_path, mode=mode)))


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "is empty; write a token"),
        ("  ", "is empty; write a token"),
        ("two words", "must hold one line"),
        ("one\ntwo", "must hold one line"),
        ("grün", "must hold one line"),
        ("x" * (LONGEST_TOKEN + 1), "must hold one line"),
    ],
)
def test_what_can_be_no_token_is_refused(tmp_path: Path, token: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_token(str(write_token(tmp_path, token)))


def test_a_token_file_that_is_none_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_token(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="is no file"):
        read_token(str(tmp_path))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="is no file"):
        read_token(str(tmp_path / "pipe"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_token_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(write_token(tmp_path), 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        read_token(str(tmp_path / "api.token"))


def test_files_that_do_not_go_together_are_refused_with_the_reason(api: ApiSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"api\.key: .*nothing cannot be read: No such file"):
        Credentials(replace(api, key=str(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match=r"api\.certificate: .*nothing cannot be read"):
        Credentials(replace(api, certificate=str(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match="do not go together"):
        Credentials(replace(api, certificate=api.token_file))
    write_half_a_pair(tmp_path)
    with pytest.raises(ConfigError, match="do not go together"):
        Credentials(api)


def test_a_key_with_a_password_is_refused_instead_of_asking_for_it(api: ApiSettings, tmp_path: Path) -> None:
    write_pair(tmp_path, password=b"secret")
    with pytest.raises(ConfigError, match="the key without a password"):
        Credentials(api)


async def test_a_gateway_whose_api_cannot_be_starts_nothing_and_leaves_nothing(
    api: ApiSettings, tmp_path: Path
) -> None:
    write_token(tmp_path, mode=0o644)
    with pytest.raises(ConfigError, match="chmod 0640"):
        await ControlServer(FakeGateway(), str(tmp_path / "s"), api=api).start()
    assert not (tmp_path / "s").exists()
    write_token(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"cannot serve the API on {endpoint}: .*; set api.listen to another"):
            await ControlServer(FakeGateway(), str(tmp_path / "s"), api=replace(api, listen=endpoint)).start()
    assert not (tmp_path / "s").exists()


async def test_a_new_certificate_and_token_count_from_the_next_connection_on(
    api: ApiSettings, served: Served, tmp_path: Path
) -> None:
    write_pair(tmp_path, "gw2")
    write_token(tmp_path, "another")
    assert (await served.ask("GET", "/v1/status"))[0] == 200
    served.server.renew(api)
    with pytest.raises(ssl.SSLCertVerificationError):
        await served.ask("GET", "/v1/status")
    fresh = replace(served, trusted=ssl.create_default_context(cafile=api.certificate))
    assert (await fresh.ask("GET", "/v1/status"))[0] == 401
    assert (await fresh.ask("GET", "/v1/status", authorization="Bearer another"))[0] == 200


async def test_wrong_new_files_leave_the_old_ones_in_force(api: ApiSettings, served: Served, tmp_path: Path) -> None:
    write_half_a_pair(tmp_path)
    write_token(tmp_path, "another")
    with pytest.raises(ConfigError, match="do not go together"):
        served.server.renew(api)
    assert (await served.ask("GET", "/v1/status"))[0] == 200


def test_it_all_works_on_uvloop_and_stops_within_a_second(api: ApiSettings, tmp_path: Path) -> None:
    async def scenario() -> float:
        async with serving(api, tmp_path / "s") as served:
            assert (await served.ask("GET", "/v1/status"))[0] == 200
            status, answer = await served.ask("POST", "/v1/sites", b'{"name": "Paderborn"}')
            assert json.loads(answer.partition("\r\n\r\n")[2])["name"] == "Paderborn", status
            assert (await served.ask("GET", "/v1/status", authorization=""))[0] == 401
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), 5)
            idle = [
                await asyncio.open_connection("127.0.0.1", served.port),
                await asyncio.open_connection("127.0.0.1", served.port, ssl=served.trusted),
            ]
            start = time.monotonic()
            await served.server.stop()
            seconds = time.monotonic() - start
            for _, other in [*idle, (reader, writer)]:
                other.close()
            return seconds

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) < 1.0
