"""`casarray test outlook` from a client's host, through a real gateway whose kernel forwards."""

import asyncio
import json
import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from casarray.adapters.stores.opening import open_store
from casarray.app.directory import DirectoryService
from casarray.core.directory.model import ROLES, Account, Array, Copy, Database, Directory, Server
from casarray.core.directory.model import Site as AdSite
from casarray.lab.site import NetworkSite

from .gateways import PROGRAM, QUICK, WHY_NOT, members, running

pytestmark = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

NAME = "cas.lab.example"
PUBLISHED = "autodiscover.lab.example mail.lab.example"
GATEWAY = "10.11.0.1"
USER, PASSWORD = "alice@lab.example", "a word that nobody sees"


class DirectorySite(NetworkSite):
    """Servers that answer by a directory: RFR names the array, and mailboxes are at home."""

    @property
    def store(self) -> str:
        """Where it lies."""
        return f"sqlite:{self.folder}/directory"

    @property
    def users(self) -> Path:
        """Who may log on by NTLM."""
        return self.folder / "users"

    def fill(self) -> None:
        """The site as its administrators know it."""
        self.users.touch(0o600)
        self.users.write_text(f"alice:{PASSWORD}\nadministrator:{PASSWORD}\n")
        servers = [
            Server(name, f"{name}.lab.example", "Lab", ROLES, addresses=tuple(map(ip_address, self.addresses(name))))
            for name in self.names
        ]

        def everything(directory: Directory) -> Directory:
            return directory.put(
                AdSite("Lab"),
                *servers,
                Array("CAS", NAME, "Lab", tuple(map(ip_address, self.vips())), {"published": ["mail.lab.example"]}),
                Database("DB1", "cas1", (Copy("cas1"),), NAME),
                Account("alice", "DB1", USER, "Alice"),
                Account("administrator", "DB1", "administrator@lab.example"),
            )

        store = open_store(self.store)
        DirectoryService(store, "test").change(everything, "test", force=True)
        store.close()

    async def start_servers(self) -> None:
        self.fill()
        await super().start_servers()

    async def start_autodiscover(self) -> None:
        """Under the published names, at an address of the gateway's own."""
        names = "subjectAltName=DNS:mail.lab.example,DNS:autodiscover.lab.example"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem"
        options = ["-out", "ca.pem", "-subj", "/CN=mail.lab.example", "-addext", names]
        made = await asyncio.create_subprocess_exec(
            *command.split(), *options, cwd=self.folder, stderr=subprocess.DEVNULL
        )
        assert await made.wait() == 0
        (self.folder / "autodiscover.toml").write_text(f"""
[gateway]
name = "autodiscover"
state = "{self.folder}/autodiscover"
control = "{self.folder}/autodiscover.sock"
metrics = ""

[directory]
store = "{self.store}"
profile = "exchange-2010"

[autodiscover]
listen = "{GATEWAY}:443"
certificate = "{self.folder}/ca.pem"
key = "{self.folder}/key.pem"
url = "https://autodiscover.lab.example/autodiscover/autodiscover.xml"
authentication = "none"
""")
        run = [PROGRAM, "autodiscover", "run", "-c", str(self.folder / "autodiscover.toml")]
        await self._start("gateway", "autodiscover", run)

    async def _start(self, host: str, what: str, command: list[str]) -> "subprocess.Popen[Any]":
        more = ["--directory", self.store, "--ntlm-users", str(self.users)] if what in self.names else []
        return await super()._start(host, what, [*command, *more])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectorySite]:
    built = DirectorySite(tmp_path_factory.mktemp("walk"), servers=("cas1", "cas2"), health=QUICK)
    with running(built):
        overlay = Path("/etc/netns") / built.host("clients").name
        overlay.mkdir(parents=True, exist_ok=True)
        (overlay / "hosts").write_text(f"127.0.0.1 localhost\n{built.vip} {NAME}\n{GATEWAY} {PUBLISHED}\n")
        asyncio.run(built.start_autodiscover())
        (overlay / "resolv.conf").write_text("# nobody to ask\n")
        try:
            yield built
        finally:
            shutil.rmtree(overlay)


def walk(site: DirectorySite, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command on the clients' host: exit code and steps."""
    command = [PROGRAM, "test", "outlook", *words, "--no-autodiscover", "--store", site.store, "--json"]
    done = site.host("clients").run(*command, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["steps"]


def short(steps: list[dict[str, Any]], server: str = "CAS") -> list[tuple[str, str]]:
    return [(step["scenario"], step["trouble"] or step["result"]) for step in steps if step["server"] == server]


MEMBER = [(name, "Success") for name in ("Endpoint mapper", "RFR", "NSPI", "EMSMDB connect", "EMSMDB logon")]


def test_through_the_array_and_at_each_member_the_whole_way_is_open(site: DirectorySite) -> None:
    code, steps = walk(site, USER, "--auth", "none", "--each-member")
    assert code == 0, steps
    before = [("Directory", "Success"), ("Name resolution (inside)", "Success")]
    assert short(steps) == [*before, *MEMBER, ("Affinity", "Success")]
    assert short(steps, "cas1") == short(steps, "cas2") == MEMBER
    assert next(s["text"] for s in steps if s["scenario"] == "NSPI") == "opens the address book and finds alice (Alice)"


def test_a_member_that_is_half_dead_is_named_while_the_array_goes_on_without_it(site: DirectorySite) -> None:
    site.tell("cas2", "rpc refuse")
    try:
        for _ in range(150):
            if not members(site)["cas2"].eligible:
                break
            site.host("clients").run("sleep", "0.1")
        code, steps = walk(site, USER, "--auth", "none", "--each-member")
    finally:
        site.tell("cas2", "rpc normal")
    assert code == 1
    assert short(steps)[-1] == ("Affinity", "Success")
    assert short(steps, "cas1") == MEMBER
    assert short(steps, "cas2")[3:] == [("EMSMDB connect", "half-dead"), ("Comparison", "differs")]


def test_a_person_reads_a_line_for_each_step(site: DirectorySite) -> None:
    command = [PROGRAM, "test", "outlook", "--array", "CAS", "--store", site.store]
    done = site.host("clients").run(*command)
    lines = done.stdout.splitlines()
    assert lines[1].split()[:5] == ["Success", "CAS", f"{site.vip}:135", "Endpoint", "mapper"]
    assert lines[-1] == "6 steps; nothing failed"


def test_a_password_from_a_file_logs_on_by_ntlm_and_says_so(site: DirectorySite, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    code, steps = walk(site, USER, "--auth", "ntlm", "--password-file", str(file))
    assert code == 0, steps
    assert {s["scenario"]: s["mechanism"] for s in steps if s["mechanism"]} == dict.fromkeys(LOGONS, "NTLM")
    assert not [s for s in steps if s["trouble"]]
    file.write_text("another word")
    code, steps = walk(site, USER, "--auth", "ntlm", "--password-file", str(file))
    assert (code, steps[-1]["scenario"], steps[-1]["trouble"]) == (1, "RFR", "logon-denied")


LOGONS = ("RFR", "NSPI", "EMSMDB connect")


_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A program at a terminal, and somebody who reads and types there."""

    def __init__(self, site: DirectorySite, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        env = os.environ | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "dumb", "COLUMNS": "160"}
        env |= {
            "SSL_CERT_FILE": str(site.folder / "ca.pem"),
            "XDG_STATE_HOME": str(site.folder),
            "KRB5CCNAME": f"FILE:{site.folder}/nobody",
        }
        inside = site.host("clients").command(*command)
        self._process = subprocess.Popen(
            inside, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        self.seen = ""

    def until(self, text: str, patience: float = 15.0) -> str:
        """Read until this has come; all since the last time."""
        began, end = len(self.seen), time.monotonic() + patience
        while text not in self.seen[began:]:
            assert time.monotonic() < end, self.seen
            if select.select([self._ours], [], [], 0.1)[0]:
                self.seen += _CONTROL.sub("", os.read(self._ours, 65536).decode("utf-8", "replace"))
        return self.seen[began:]

    def type(self, line: str) -> None:
        """A line and Enter."""
        os.write(self._ours, f"{line}\r".encode())

    def close(self) -> None:
        """Leave."""
        self._process.terminate()
        self._process.wait(10)
        os.close(self._ours)


def test_the_two_lines_of_an_exchange_administrator_walk_all_the_way_at_a_terminal(site: DirectorySite) -> None:
    terminal = Terminal(site, PROGRAM, "shell", "--store", site.store)
    try:
        terminal.until("PS>")
        terminal.type("$c = Get-Credential")
        terminal.until("User:")
        terminal.type("administrator")
        terminal.until("Password for user administrator:")
        terminal.type(PASSWORD)
        terminal.until("PS>")
        terminal.type("Test-OutlookConnectivity -Identity administrator -MailboxCredential $c -Protocol tcp")
        told = terminal.until(" Affinity ")
    finally:
        terminal.close()
    assert "ClientAccessServer ServiceEndpoint" in told
    for scenario in ("Autodiscover", "Certificate", "Endpoint mapper", *LOGONS, "EMSMDB logon"):
        assert scenario in told, told
    assert "Failure" not in told
    assert "the logon was taken by NTLM, not by Kerberos" in terminal.seen
    assert PASSWORD not in terminal.seen


def test_who_has_no_ticket_is_asked_for_the_password_which_is_not_shown(site: DirectorySite) -> None:
    terminal = Terminal(site, PROGRAM, "test", "outlook", USER, "--no-autodiscover", "--store", site.store)
    try:
        terminal.until(f"Password of {USER}: ")  # the blank comes when nothing is shown any more
        terminal.type(PASSWORD)
        terminal.until("nothing failed")
    finally:
        terminal.close()
    assert "logged on by NTLM; nothing failed" in terminal.seen
    assert PASSWORD not in terminal.seen
