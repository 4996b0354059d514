"""`casarray agent` in a real MIT realm: who is let in, what it keeps, and what it says of itself."""

import os
import secrets
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from casarray.core.config import KerberosSettings
from casarray.core.errors import Denied, Unavailable
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key
from casarray.core.kerberos.keytab import read_keytab
from casarray.lab.mit_kdc import MitKdc

pytest.importorskip("krb5", reason="pykrb5 is not installed")
pytest.importorskip("gssapi", reason="python-gssapi is not installed")

from casarray.adapters.kerberos.agent_client import MemberAgents
from casarray.adapters.kerberos.own_tickets import OwnTickets
from casarray.lab.agents import LabAgents, Place, program, settings_of, written

pytestmark = [pytest.mark.root]

NAME = "http/cas.mit.example"
HOST = "localhost.localdomain"


def generation(number: int, pending: bool = False, value: bytes = b"") -> Generation:
    key = Key(Enctype.AES256, number, value or secrets.token_bytes(32))
    return Generation(number, (key,), time.time(), pending)


def real_generation(kdc: MitKdc) -> Generation:
    """The keys that the realm has for the array's name now."""
    entries = read_keytab(kdc.keytab(NAME).read_bytes())
    newest = max(one.version for one in entries)
    keys = tuple(Key(Enctype(one.enctype), newest, one.key) for one in entries if one.version == newest)
    return Generation(newest, keys, time.time())


class Site:
    """One member, and those who want something of it."""

    def __init__(self, kdc: MitKdc, folder: Path) -> None:
        self.kdc = kdc
        keytab = kdc.keytab(f"host/{HOST}")
        self.administrator = self.user("roller")
        self.settings = settings_of(
            Place(HOST, "127.0.0.1", keytab, folder / "cas1"),
            [f"roller@{kdc.realm}"],
            members=[f"cas2@{kdc.realm}"],
            check_interval=1.0,
        )

    def user(self, name: str) -> MemberAgents:
        """Somebody with a ticket."""
        return MemberAgents(KerberosSettings(ccache=self.kdc.ticket(name, self.kdc.add_user(name))))


@pytest.fixture
def site(kdc: MitKdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("KRB5RCACHETYPE", "none")
    # The one name that every host has for itself, as the lab has no DNS.
    monkeypatch.setattr("socket.create_connection", _to_loopback(socket.create_connection))
    return Site(kdc, tmp_path)


def _to_loopback(real: Callable[..., object]) -> Callable[..., object]:
    def connect(address: tuple[str, int], *rest: object, **more: object) -> object:
        host = "127.0.0.1" if address[0] == HOST else address[0]
        return real((host, address[1]), *rest, **more)

    return connect


def health() -> tuple[int, str]:
    try:
        with urllib.request.urlopen("http://127.0.0.1:7136/health", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def soon(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_administrator_gives_keys_a_member_gets_them_and_nobody_else_either(site: Site) -> None:
    mallory, member = site.user("mallory"), site.user("cas2")
    with LabAgents([site.settings]):
        agent = site.administrator.reach(HOST)
        state = agent.hold("asa", site.kdc.realm, (NAME,), generation(3))
        assert [one.number for one in state.held[0].generations] == [3]
        for who in (mallory, member):
            with pytest.raises(Denied, match="may not ask this agent to hold"), closing(who.reach(HOST)) as asked:
                asked.hold("asa", site.kdc.realm, (NAME,), generation(4))
        with pytest.raises(Denied, match="may not ask this agent to give"), closing(mallory.reach(HOST)) as asked:
            asked.give("asa")
        with closing(member.reach(HOST)) as asked:
            assert asked.give("asa").generations[0].number == 3
        agent.close()


def test_a_member_is_stale_when_the_realm_has_a_newer_key_and_well_when_it_has_got_it(site: Site) -> None:
    with LabAgents([site.settings]) as agents:
        agent = site.administrator.reach(HOST)
        agent.hold("asa", site.kdc.realm, (NAME,), real_generation(site.kdc))
        member = agents.running[HOST].member
        assert member.check().stale == ()
        assert health()[0] == 200
        site.kdc.local(f"cpw -randkey {NAME}")
        assert "missed a roll" in member.check().stale[0], "the ticket of the check before is not asked again"
        assert health()[0] == 503
        site.kdc.stop("krb5kdc")
        try:
            member.check()
            assert health()[0] == 503, "a realm that cannot be asked makes nothing better"
        finally:
            site.kdc.start("krb5kdc")
        state = agent.hold("asa", site.kdc.realm, (NAME,), real_generation(site.kdc))
        assert state.stale == (), "at once: the roll looks at it"
        assert health()[0] == 200
        member.check()
        assert health() == (200, "ok\n")
        agent.close()


def test_a_new_member_and_one_that_missed_a_roll_get_the_keys_from_another(site: Site, tmp_path: Path) -> None:
    site.kdc.add_service("host/127.0.0.2")
    machine = site.kdc.keytab("host/127.0.0.2")
    giver = replace(site.settings, members=(f"host/127.0.0.2@{site.kdc.realm}",))
    place = Place("127.0.0.2", "127.0.0.2", machine, tmp_path / "cas2")
    taker = replace(settings_of(place, giver.administrators, peers=[HOST]), accounts=("asa",), check_interval=3600.0)
    with LabAgents([giver, taker]) as agents, closing(site.administrator.reach(HOST)) as agent:
        member = agents.running["127.0.0.2"].member
        assert "holds no keys of asa" in member.check().stale[0]
        for _ in range(2):
            agent.hold("asa", site.kdc.realm, (NAME,), real_generation(site.kdc))
            assert member.check().stale == ()
            assert read_keytab(Path(taker.keytabs[0].path).read_bytes()) == read_keytab(
                Path(giver.keytabs[0].path).read_bytes()
            )
            site.kdc.local(f"cpw -randkey {NAME}")


def test_a_clock_that_is_wrong_is_measured_though_the_library_puts_up_with_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = OwnTickets(site.settings.keytab)
    holding = Holding("asa", site.kdc.realm, (NAME,), (real_generation(site.kdc),))
    with site.kdc.clock(1000) as krb5_conf:
        monkeypatch.setenv("KRB5_CONFIG", str(krb5_conf))
        tickets.seen(holding)
        assert tickets.skew() is not None
        assert abs(tickets.skew() or 0) > 300
    monkeypatch.setenv("KRB5_CONFIG", str(site.kdc.krb5_conf))
    assert tickets.seen(holding).version is not None
    assert abs(tickets.skew() or 0) < 60


@pytest.fixture
def running(site: Site, tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    config = written(site.settings, tmp_path / "agent.toml")
    process = program(config, os.environ | {"KRB5RCACHETYPE": "none"})
    yield config, process
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def test_the_program_says_no_key_keeps_its_configuration_and_ends_well(
    site: Site, running: tuple[Path, "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    config, process = running
    key = secrets.token_bytes(32)
    agent = site.administrator.reach(HOST)
    state = agent.hold("asa", site.kdc.realm, (NAME,), generation(3, value=key))
    shown = repr(state).encode() + (tmp_path / "agent.log").read_bytes()
    shown += (tmp_path / "cas1/state/keys.vault").read_bytes() + Path(f"/proc/{process.pid}/cmdline").read_bytes()
    for form in (key, key.hex().encode(), b64encode(key)):
        assert form not in shown
    assert key in (tmp_path / "cas1/array.keytab").read_bytes()
    config.write_text("[agent]\nadministrators = []\n")
    process.send_signal(signal.SIGHUP)
    soon(lambda: b"the old one stays" in (tmp_path / "agent.log").read_bytes())
    assert agent.state().held[0].generations[0].number == 3
    agent.close()
    process.terminate()
    assert process.wait(10) == 0


def test_a_program_killed_while_it_takes_keys_starts_again_with_what_it_said_it_had(site: Site, tmp_path: Path) -> None:
    config = written(site.settings, tmp_path / "agent.toml")
    confirmed = 0
    for round_ in range(4):
        process = program(config, os.environ | {"KRB5RCACHETYPE": "none"})
        killer = threading.Timer(0.05 * (round_ + 1), process.kill)
        try:
            with closing(site.administrator.reach(HOST)) as agent:
                found = agent.state()
                newest = found.held[0].generations[0].number if found.held else 0
                assert newest >= confirmed, "what it has answered is on the disk"
                killer.start()
                with suppress(Unavailable):
                    for number in range(newest + 1, newest + 10_000):
                        agent.hold("asa", site.kdc.realm, (NAME,), generation(number))
                        confirmed = number
            assert process.wait(10) == -signal.SIGKILL
        finally:
            killer.cancel()
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    with LabAgents([site.settings]) as agents:
        agents.running[HOST].member.check()
        entries = read_keytab((tmp_path / "cas1/array.keytab").read_bytes())
        assert max(one.version for one in entries) >= confirmed > 0
        assert list((tmp_path / "cas1").glob(".array.keytab.*")) == []


def test_garbage_and_slow_callers_from_one_address_hurt_nobody_else(site: Site) -> None:
    with LabAgents([site.settings]) as agents, ExitStack() as open_:

        def call() -> socket.socket:
            return open_.enter_context(
                socket.create_connection(("127.0.0.1", 7135), 5, source_address=("127.0.0.9", 0))
            )

        for said in (b"GET / HTTP/1.1\r\n\r\n", bytes(4), b"\xff" * 4, b"\0\0\0\x03abc", secrets.token_bytes(99)):
            caller = call()
            caller.sendall(said)
            caller.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert caller.recv(1) == b"", "it is sent away"
        for _ in range(100):
            call()  # and says nothing
        with closing(site.administrator.reach(HOST)) as agent:
            agent.hold("asa", site.kdc.realm, (NAME,), generation(3))
        started = time.monotonic()
        agents.close()
        assert time.monotonic() - started < 8, "nobody has to run out of time first"


def test_slow_readers_of_the_health_page_keep_no_probe_from_it(site: Site) -> None:
    with LabAgents([site.settings]), ExitStack() as open_:
        for _ in range(100):
            open_.enter_context(socket.create_connection(("127.0.0.1", 7136), 5, source_address=("127.0.0.9", 0)))
        soon(lambda: health()[0] == 200)
