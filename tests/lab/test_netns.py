"""Namespaces come, work, and go without a trace, whatever happens in between."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from casarray.core.errors import CasarrayError
from casarray.lab.netns import Lab, Plan, build, missing, sweep

_WHY = missing()
pytestmark = [pytest.mark.root, pytest.mark.skipif(_WHY is not None, reason=str(_WHY))]


def _names() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_client_reaches_a_server_through_the_gateway_with_its_own_address(lab: Lab, family: int) -> None:
    plan = build(lab)
    four = family == socket.AF_INET
    server, client = (plan.server(2), plan.client(700)) if four else (plan.server6(2), plan.client6(700))
    with lab["cas3"].inside():
        listener = socket.create_server((server, 5000), family=family)
    with listener:
        with lab["clients"].inside():
            connection = socket.create_connection((server, 5000), timeout=5, source_address=(client, 0))
        with connection:
            accepted, peer = listener.accept()
            accepted.close()
    assert peer[0] == client


def test_the_thread_is_back_home_after_inside(lab: Lab) -> None:
    build(lab, Plan(server_names=("one",)))
    before = os.readlink("/proc/thread-self/ns/net")
    with lab["one"].inside():
        assert os.readlink("/proc/thread-self/ns/net") != before
    assert os.readlink("/proc/thread-self/ns/net") == before


def test_a_cut_cable_is_silent_and_a_joined_one_works_again(lab: Lab) -> None:
    plan = build(lab)
    with lab["cas1"].inside():
        listener = socket.create_server((plan.server(0), 5000))
    with listener, lab["clients"].inside():
        lab.cut(lab["cas1"])
        with pytest.raises(TimeoutError):
            socket.create_connection((plan.server(0), 5000), timeout=0.3)
        lab.join(lab["cas1"])
        socket.create_connection((plan.server(0), 5000), timeout=5).close()


def test_the_recorded_pid_is_the_commands_own(lab: Lab) -> None:
    host = lab.namespace("host")
    process = host.spawn("sh", "-c", "echo $$", stdout=subprocess.PIPE)
    printed, _ = process.communicate(timeout=5)
    assert int(printed) == process.pid


def _raise_in_a_lab(lab: Lab, error: type[BaseException]) -> None:
    with lab:
        host = lab.namespace("host")
        host.spawn("sleep", "60")
        # A grandchild that nobody recorded keeps the namespace alive unless it is found.
        host.run("sh", "-c", "sleep 60 >/dev/null 2>&1 & sleep 60 >/dev/null 2>&1 &")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_an_exception(error: type[BaseException]) -> None:
    lab = Lab()
    with pytest.raises(error):
        _raise_in_a_lab(lab, error)
    assert lab.prefix not in _names()


def test_a_frozen_process_is_ended_too() -> None:
    with Lab() as lab:
        process = lab.namespace("host").spawn("sleep", "60")
        os.kill(process.pid, 19)
    assert process.poll() is not None


def test_what_a_killed_owner_left_is_swept() -> None:
    code = (
        "import os\nfrom casarray.lab.netns import Lab\nlab=Lab()\nlab.namespace('x')\n"
        "print(lab.prefix, flush=True)\nos._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    prefix = done.stdout.strip()
    assert prefix + "x" in _names()
    assert prefix + "x" in sweep()
    assert prefix not in _names()


def test_a_refused_command_names_itself_and_the_reason(lab: Lab) -> None:
    with pytest.raises(CasarrayError, match=r"ip -n .*-host -batch -: .*nothere"):
        lab.namespace("host").ip("link set nothere up")
