"""The shield when it cannot be put up."""

import logging
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from casarray.adapters.kernel import shield
from casarray.adapters.kernel.nfnetlink import Channel
from casarray.adapters.kernel.shield import Shield
from casarray.core.errors import Unavailable
from casarray.core.forwarding.table import Table
from casarray.lab.netns import Lab, missing

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

TABLE = Table("CAS", (ip_address("10.11.0.100"),), 1, (), ())


@pytest.fixture
def inside() -> Iterator[None]:
    if reason := missing():
        pytest.skip(reason)
    with Lab() as lab, lab.namespace("gateway").inside():
        yield


@pytest.mark.usefixtures("inside")
def test_a_shield_that_cannot_be_looked_at_is_said_and_leaves_no_program_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def noted(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **named))
        return started[-1]

    def no_descriptor() -> Channel:
        raise Unavailable("too many open files")

    monkeypatch.setattr(subprocess, "Popen", noted)
    monkeypatch.setattr(shield, "Channel", no_descriptor)
    made = Shield("casarray_cas")
    with caplog.at_level(logging.WARNING):
        made.put_up(TABLE)
    assert "too many open files" in caplog.text
    assert [owner.poll() is not None for owner in started] == [True]
    monkeypatch.setattr(shield, "Channel", Channel)
    made.put_up(TABLE)  # and the next time it works
    assert started[1].poll() is None
    made.take_down()
