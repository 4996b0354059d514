"""The event log: a line with Exchange's number at the socket of syslog, and never an error."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from casarray.adapters.kerberos.event_log import LONGEST, SystemLog
from casarray.app.kerberos.telling import Event


@pytest.fixture
def device(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "log"))
        listening.settimeout(5)
        yield listening


@pytest.mark.parametrize(
    ("event", "priority"),
    [(Event.STARTED, 30), (Event.SUCCEEDED, 30), (Event.SUCCEEDED_WITH_WARNINGS, 28), (Event.FAILED, 27)],
)
def test_an_event_is_one_line_with_its_number(
    device: socket.socket, tmp_path: Path, event: Event, priority: int
) -> None:
    SystemLog(str(tmp_path / "log")).write(event, "cas2 is\nmissing")
    line = device.recv(4096).decode()
    assert line.startswith(f"<{priority}>casarray[")
    assert line.endswith(f"]: event={event.value} cas2 is missing")


def test_a_long_event_is_cut(device: socket.socket, tmp_path: Path) -> None:
    SystemLog(str(tmp_path / "log")).write(Event.FAILED, "ä" * 5000)
    assert len(device.recv(9000)) == LONGEST


@pytest.mark.usefixtures("device")
def test_a_log_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    log = SystemLog(str(tmp_path / "log"))
    for _ in range(2000):  # far more than the socket holds
        log.write(Event.STARTED, "x" * 500)


def test_without_syslog_pythons_log_is_written_if_anybody_listens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "casarray"):
        SystemLog(str(tmp_path / "none")).write(Event.SUCCEEDED, "done")
    assert caplog.messages == ["event=14002 done"]
    assert capfd.readouterr() == ("", "")
