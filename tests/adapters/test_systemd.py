"""What systemd hears: datagrams on a path and on an abstract name."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from casarray.adapters.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@casarray-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0") if request.param == "abstract" else name)
        listening.settimeout(1)
        yield listening, name


def test_every_state_of_the_service_is_told(systemd: tuple[socket.socket, str]) -> None:
    listening, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.ready("2 arrays,\n  5 members")
    assert notifier.status("draining")
    assert notifier.watchdog()
    assert notifier.stopping()
    assert [listening.recv(999) for _ in range(4)] == [
        b"READY=1\nSTATUS=2 arrays, 5 members",  # a line break in the text would have been another assignment
        b"STATUS=draining",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_a_reload_carries_the_time_it_began(systemd: tuple[socket.socket, str]) -> None:
    listening, name = systemd
    before = time.monotonic_ns() // 1000
    assert Notifier({"NOTIFY_SOCKET": name}).reloading()
    first, second = listening.recv(999).decode().split("\n")
    assert first == "RELOADING=1"
    key, value = second.split("=")
    assert key == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize("where", ["", "/nonexistent/socket", "vsock:2:1234", "relative"])
def test_without_a_listener_nothing_happens(where: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": where}).ready()
    assert not Notifier({}).watchdog()


def test_a_supervisor_that_does_not_read_is_not_waited_for(systemd: tuple[socket.socket, str]) -> None:
    _, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    began = time.monotonic()
    told = [notifier.watchdog() for _ in range(5000)]
    assert not told[-1]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdogs_patience_is_read_in_seconds(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_seconds == seconds
