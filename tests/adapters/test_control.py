"""The control socket and its client: real sockets, a gateway from memory."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.faces.fake_gateway import STATUS, FakeGateway, SlowGateway, serving

from casarray.adapters.control import LONGEST_BODY, ControlServer, listen_unix
from casarray.adapters.control_client import ControlClient
from casarray.app.operations import Status
from casarray.core.config import Wish
from casarray.core.errors import ConfigError, Conflict, Denied, MovedOn, NotFound, Unavailable, WireError
from casarray.core.records import from_json, to_json


@asynccontextmanager
async def server(operations: FakeGateway, path: Path, metrics: str = "") -> AsyncIterator[ControlServer]:
    running = ControlServer(operations, str(path), metrics)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def ask(path: Path, request: bytes) -> bytes:
    """One raw request, everything that comes back."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def http(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_the_status_arrives_as_it_was_told(tmp_path: Path) -> None:
    async with server(FakeGateway(), tmp_path / "s"):
        assert await asyncio.to_thread(ControlClient(str(tmp_path / "s")).status) == STATUS


async def test_wishes_reach_the_gateway_with_their_deadline(tmp_path: Path) -> None:
    gateway = FakeGateway()
    async with server(gateway, tmp_path / "s"):
        client = ControlClient(str(tmp_path / "s"))
        change = await asyncio.to_thread(client.set_server, "Server ä 1", Wish.DRAIN, 600)
        await asyncio.to_thread(client.set_server, "cas2", Wish.OUT)
    assert (change.state, change.deadline_seconds, change.connections) == (Wish.DRAIN, 600.0, 617)
    assert gateway.asked == [
        ("set_server", "Server ä 1", Wish.DRAIN, 600.0),
        ("set_server", "cas2", Wish.OUT, None),
    ]


async def test_an_address_is_explained_in_its_shortest_form(tmp_path: Path) -> None:
    gateway = FakeGateway()
    async with server(gateway, tmp_path / "s"):
        explanation = await asyncio.to_thread(ControlClient(str(tmp_path / "s")).explain, "2001:DB8:0::7", "CAS")
    assert explanation.client == "2001:db8::7"
    assert gateway.asked == [("explain", "2001:db8::7", "CAS")]


@pytest.mark.parametrize("kind", [NotFound, Conflict, Denied, ConfigError, Unavailable])
async def test_a_refusal_arrives_as_what_it_is(tmp_path: Path, kind: type[Exception]) -> None:
    gateway = FakeGateway()
    gateway.refusal = kind("for this reason;\nand that")  # type: ignore[assignment]  # each is a CasarrayError
    async with server(gateway, tmp_path / "s"):
        with pytest.raises(kind, match="for this reason;\nand that"):
            await asyncio.to_thread(ControlClient(str(tmp_path / "s")).reload)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: not JSON"),
        (b"[" * 4000, "body: not JSON"),
        (b"[]", "body: send"),
        (b'{"state": "gone"}', "state: write one of active, drain, standby, out"),
        (b'{"state": 5}', "state: write one of"),
        (b'{"state": "out", "deadline_seconds": 5}', "deadline_seconds: has no meaning with state out"),
        (b'{"state": "drain", "deadline_seconds": -1}', "deadline_seconds: write a number"),
        (b'{"state": "drain", "deadline_seconds": NaN}', "deadline_seconds: write a number"),
        (b'{"state": "drain", "deadline_seconds": true}', "deadline_seconds: write a number"),
        (b'{"state": "drain", "deadline": 5}', "body: send"),
        (b" " * (LONGEST_BODY + 1), "body: more than 4096 bytes"),
    ],
)
async def test_a_wrong_wish_is_refused_and_does_nothing(tmp_path: Path, body: bytes, message: str) -> None:
    gateway = FakeGateway()
    async with server(gateway, tmp_path / "s"):
        answer = await ask(tmp_path / "s", http("POST", "/v1/servers/cas1/state", body))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(content)["error"]["message"].startswith(message)
    assert gateway.asked == []


async def test_broken_http_touches_nobody_else(tmp_path: Path) -> None:
    async with server(FakeGateway(), tmp_path / "s"):
        for noise in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"A" * 200_000):
            with contextlib.suppress(ConnectionError):
                await ask(tmp_path / "s", noise)
        assert await asyncio.to_thread(ControlClient(str(tmp_path / "s")).status) == STATUS


async def test_health_is_told_and_readiness_with_its_reason(tmp_path: Path) -> None:
    gateway = FakeGateway()
    async with server(gateway, tmp_path / "s"):
        assert (await ask(tmp_path / "s", http("GET", "/healthz"))).endswith(b"\r\n\r\nok\n")
        assert b" 200 " in await ask(tmp_path / "s", http("GET", "/readyz"))
        gateway.ready = (False, "the array CAS has no server")
        answer = await ask(tmp_path / "s", http("GET", "/readyz"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"the array CAS has no server\n")


async def test_the_metrics_address_serves_metrics_and_nothing_that_operates(tmp_path: Path) -> None:
    gateway = FakeGateway()
    async with server(gateway, tmp_path / "s", "127.0.0.1:0") as running:
        answers = []
        for request in (http("GET", "/metrics"), http("GET", "/v1/status"), http("POST", "/v1/reload")):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.metrics_port)
            writer.write(request)
            answers.append(await reader.read())
            writer.close()
    assert b'casarray_member_connections{array="CAS",group="rpc",member="cas1"} 1234.0' in answers[0]
    assert b'casarray_mapper_events_total{array="CAS",event="wire_error",kind="truncated"} 2.0' in answers[0]
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200", b"404", b"404"]
    assert gateway.asked == []


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_account_at_the_other_end_is_told_to_whoever_answers(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def who(request: Request) -> Response:
        return JSONResponse(getattr(request.state, "uid", None))

    async def scenario() -> bytes:
        running = ControlServer(FakeGateway(), str(tmp_path / "s"), more=lambda: [Route("/v1/who", who)])
        await running.start()
        try:
            return await ask(tmp_path / "s", http("GET", "/v1/who"))
        finally:
            await running.stop()

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(scenario()).endswith(f"\r\n\r\n{os.getuid()}".encode())


async def test_what_is_refused_by_a_route_that_was_handed_over_is_answered_like_anything_else(tmp_path: Path) -> None:
    async def refuse(_request: Request) -> Response:
        raise MovedOn("look at it again")

    running = ControlServer(FakeGateway(), str(tmp_path / "s"), "127.0.0.1:0", more=lambda: [Route("/v1/more", refuse)])
    await running.start()
    answer = await ask(tmp_path / "s", http("GET", "/v1/more"))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.metrics_port)
    writer.write(http("GET", "/v1/more"))
    assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
    writer.close()
    await running.stop()
    assert answer.startswith(b"HTTP/1.1 412 ")
    assert answer.endswith(b'{"error":{"kind":"MovedOn","message":"look at it again"}}')


async def test_what_is_not_there_is_said_in_the_same_way(tmp_path: Path) -> None:
    async with server(FakeGateway(), tmp_path / "s"):
        nothing = await ask(tmp_path / "s", http("GET", "/v1/nothing"))
        wrong = await ask(tmp_path / "s", http("PUT", "/v1/status"))
    assert nothing.startswith(b"HTTP/1.1 404 ")
    assert nothing.endswith(
        b'{"error":{"kind":"NotFound","message":"there is nothing at /v1/nothing; is it another version?"}}'
    )
    assert wrong.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: GET, HEAD\r\n" in wrong
    assert json.loads(wrong.partition(b"\r\n\r\n")[2])["error"]["message"].startswith("PUT is not known at /v1/status")


async def test_whoever_leaves_in_the_middle_of_a_request_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = FakeGateway()
    async with server(gateway, tmp_path / "s"):
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(http("POST", "/v1/servers/cas1/state", b'{"state": "out"}')[:-3])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.1)
        assert await asyncio.to_thread(ControlClient(str(tmp_path / "s")).status) == STATUS
    assert gateway.asked == []
    assert caplog.text == ""


async def test_what_should_not_happen_is_answered_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gateway = FakeGateway()
    gateway.refusal = KeyError("x")  # type: ignore[assignment]  # what nobody foresaw
    async with server(gateway, tmp_path / "s"):
        answer = await ask(tmp_path / "s", http("POST", "/v1/reload"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"this should not happen: KeyError; the gateway's log says more" in answer
    assert "Exception in ASGI application" in caplog.text


async def test_the_socket_is_for_its_owner_and_group(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with server(FakeGateway(), tmp_path / "s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    finally:
        os.umask(before)
    assert not (tmp_path / "s").exists()


async def test_the_socket_of_a_killed_gateway_is_replaced(tmp_path: Path) -> None:
    dead = listen_unix(tmp_path / "s")
    dead.close()
    assert (tmp_path / "s").exists()
    async with server(FakeGateway(), tmp_path / "s"):
        assert await asyncio.to_thread(ControlClient(str(tmp_path / "s")).status) == STATUS


async def test_a_living_gateway_is_not_pushed_aside(tmp_path: Path) -> None:
    async with server(FakeGateway(), tmp_path / "s"):
        with pytest.raises(Conflict, match=f"another gateway answers at {tmp_path}/s; stop it"):
            await ControlServer(FakeGateway(), str(tmp_path / "s")).start()
        assert await asyncio.to_thread(ControlClient(str(tmp_path / "s")).status) == STATUS


async def test_a_gateway_that_hangs_is_still_alive(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as waiting:
        hung.bind(str(tmp_path / "s"))
        hung.listen(0)
        waiting.connect(str(tmp_path / "s"))
        with pytest.raises(Conflict, match="another gateway answers"):
            listen_unix(tmp_path / "s")


async def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(Conflict, match="is there and is no socket; remove it"):
        await ControlServer(FakeGateway(), str(tmp_path / "s")).start()
    assert (tmp_path / "s").read_text() == "precious"


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file or directory"):
        await ControlServer(FakeGateway(), str(tmp_path / "no" / "s")).start()


async def test_a_taken_metrics_address_is_refused_and_leaves_no_socket_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"cannot serve metrics on {endpoint}: Address already in use"):
            await ControlServer(FakeGateway(), str(tmp_path / "s"), endpoint).start()
    assert not (tmp_path / "s").exists()


async def test_a_successors_socket_is_not_taken_away(tmp_path: Path) -> None:
    async with server(FakeGateway(), tmp_path / "s"):
        (tmp_path / "s").unlink()
        successor = listen_unix(tmp_path / "s")
    assert (tmp_path / "s").exists()
    successor.close()


async def stop_with_company(path: Path) -> float:
    """How long stopping takes while clients idle, dawdle and wait for a long reload."""
    running = ControlServer(SlowGateway(), str(path), "127.0.0.1:0")
    await running.start()
    writers = []
    for request in (
        b"",
        b"GET /v1/sta",
        http("POST", "/v1/reload", b"{}"),
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(request)
        await writer.drain()
        writers.append(writer)
    await asyncio.sleep(0.05)
    start = time.monotonic()
    await running.stop()
    seconds = time.monotonic() - start
    for writer in writers:
        writer.close()
    return seconds


def test_stopping_takes_less_than_a_second_whoever_is_connected(tmp_path: Path) -> None:
    assert asyncio.run(stop_with_company(tmp_path / "s")) < 1.0
    assert not (tmp_path / "s").exists()


def test_it_all_works_on_uvloop(tmp_path: Path) -> None:
    async def scenario() -> float:
        async with server(FakeGateway(), tmp_path / "s", "127.0.0.1:0"):
            assert await asyncio.to_thread(ControlClient(str(tmp_path / "s")).status) == STATUS
        return await stop_with_company(tmp_path / "s")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) < 1.0


async def test_signals_and_logging_stay_as_they_were(tmp_path: Path) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    root = (logging.getLogger().level, list(logging.getLogger().handlers))
    async with server(FakeGateway(), tmp_path / "s"):
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert (logging.getLogger().level, list(logging.getLogger().handlers)) == root


def test_nobody_there_is_said_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r'no gateway runs here: there is no .*; start one with "casarray run'):
        ControlClient(str(tmp_path / "s")).status()
    listen_unix(tmp_path / "s").close()
    with pytest.raises(Unavailable, match="the one that made .* is gone"):
        ControlClient(str(tmp_path / "s")).status()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n\r\nno json", b"nonsense\r\n\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"],
)
def test_whoever_else_listens_there_is_no_gateway(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(tmp_path / "s"))
        stranger.listen()

        def talk() -> None:
            taken, _ = stranger.accept()
            taken.recv(4096)
            taken.sendall(answer)
            taken.close()

        loop = asyncio.new_event_loop()
        try:
            talking = loop.run_in_executor(None, talk)
            with pytest.raises(Unavailable, match="broke off|is no casarray gateway"):
                ControlClient(str(tmp_path / "s")).status()
            loop.run_until_complete(talking)
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


def test_a_gateway_in_another_thread_answers(tmp_path: Path) -> None:
    with serving(FakeGateway(), tmp_path / "s"):
        assert ControlClient(str(tmp_path / "s")).reload().changes == ("server cas4 was added to the array CAS",)


def test_a_status_survives_the_journey_and_newer_names_are_passed_over() -> None:
    told = json.loads(json.dumps(to_json(STATUS)))
    told["gateway"]["moon_phase"] = "full"
    assert from_json(Status, told) == STATUS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gateway": None}, "json: Status.gateway: dict expected"),
        ({"arrays": {}}, "json: Status.arrays: list expected"),
        ({"warnings": [1]}, "json: Status.warnings: str expected"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_a_wire_error(change: dict[str, object], said: str) -> None:
    with pytest.raises(WireError, match=said):
        from_json(Status, to_json(STATUS) | change)


def test_a_missing_field_is_named() -> None:
    told = to_json(STATUS)
    del told["gateway"]["pid"]
    with pytest.raises(WireError, match=r"json: Status\.gateway\.pid is missing"):
        from_json(Status, told)


async def test_what_else_the_api_has_is_made_when_it_is_asked_for_and_once(tmp_path: Path) -> None:
    made: list[int] = []

    def more() -> list[Route]:
        made.append(len(made))
        return [Route("/v1/more", lambda _request: Response("here"), methods=["GET"])]

    running = ControlServer(FakeGateway(), str(tmp_path / "s"), more=more)
    await running.start()
    try:
        for path in ("/v1/status", "/metrics", "/readyz"):
            assert b" 200 OK\r\n" in await ask(tmp_path / "s", http("GET", path))
        assert made == []
        answers = await asyncio.gather(*(ask(tmp_path / "s", http("GET", "/v1/more")) for _ in range(4)))
        assert all(answer.endswith(b"here") for answer in answers)
        refused = await ask(tmp_path / "s", http("PUT", "/v1/more"))
        assert b" 405 " in refused
        assert b"but GET, HEAD" in refused
        assert b" 200 OK\r\n" in await ask(tmp_path / "s", http("GET", "/v1/status"))
    finally:
        await running.stop()
    assert made == [0]


async def test_a_path_that_is_nowhere_and_a_word_that_is_not_known_there_are_told_from_each_other(
    tmp_path: Path,
) -> None:
    running = ControlServer(FakeGateway(), str(tmp_path / "s"))
    await running.start()
    try:
        assert b"there is nothing at /v1/nowhere" in await ask(tmp_path / "s", http("GET", "/v1/nowhere"))
        assert b"PUT is not known at /v1/status" in await ask(tmp_path / "s", http("PUT", "/v1/status"))
    finally:
        await running.stop()
