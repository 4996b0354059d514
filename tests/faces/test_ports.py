"""`casarray ports` from the command line, against lab servers on loopback; what it prints are golden files.

CASARRAY_UPDATE_GOLDEN=1 writes them anew.
"""

import asyncio
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.core.fixed_ports.examples import directory
from typer.testing import CliRunner

from casarray.adapters.port_asker import ask_ports
from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.directory import DirectoryService
from casarray.app.stores import DirectoryStore
from casarray.core.directory.model import Directory
from casarray.core.errors import Unavailable
from casarray.core.fixed_ports.ports import RpcService
from casarray.core.fixed_ports.registry_file import registry_file
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World
from casarray.lab.server import Behaviour, LabServer

GOLDEN = Path(__file__).parent.parent / "golden"
MAPPER = 10135
RIGHT, WRONG, NOWHERE = "127.64.0.1", "127.64.0.2", "127.64.0.3"
CONFIG = f"""\
[gateway]
name = "gw1"
[[site]]
name = "Paderborn"
[[array]]
name = "CAS"
fqdn = "cas.domain.tld"
site = "Paderborn"
addresses = ["10.11.0.100"]
profile = "exchange-2010"
[[array.service]]
name = "epm"
port = {MAPPER}

# The servers.
[[server]]
name = "cas1"
site = "Paderborn"
address = "{RIGHT}"
"""
CAS2 = f'[[server]]\nname = "cas2"\nsite = "Paderborn"\naddress = "{WRONG}"\n'
CAS3 = f'[[server]]\nname = "cas3"\nsite = "Paderborn"\naddress = "{NOWHERE}"\n'
NETSH = b"\r\nProtokoll tcp Dynamischer Portbereich\r\n---\r\nStartport : 6005\r\nAnzahl von Ports : 59530\r\n"
XML = b'<configuration><appSettings>\r\n<add key="A" value="1"/>\r\n</appSettings></configuration>'


class Lab:
    """Lab servers on a loop of their own, in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.servers: list[LabServer] = []
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def server(self, address: str, rpc: int = 5001, ab: int = 5000) -> LabServer:
        """Another one."""
        server = LabServer("cas", [address], {"epm": MAPPER, "rpc": rpc, "ab": ab})
        self.servers.append(server)
        self.run(server.start())
        return server

    def close(self) -> None:
        for server in self.servers:
            self.run(server.close())
        self.run(asyncio.sleep(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


class Desk:
    """Where an administrator types."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "casarray.toml"
        self.config.write_text(CONFIG)

    def open_store(self, name: str | None) -> DirectoryStore:
        if name is None:
            raise Unavailable("there is no directory")
        return SqliteDirectory(name.removeprefix("sqlite:"))

    def file(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run one command of `ports`: exit code, stdout, stderr."""

        def nothing(*_: object) -> Any:
            raise AssertionError("that is none of the business of ports")

        around = World(
            nothing,
            nothing,
            nothing,
            nothing,
            {},
            open_store=self.open_store,
            default_config=str(self.config),
            ask_ports=ask_ports,
        )
        environment = {"COLUMNS": "140", "TERM": "dumb", "NO_COLOR": "1"}
        result = CliRunner().invoke(cli, ["ports", *arguments], obj=around, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with a configuration file."""
    return Desk(tmp_path)


@contextmanager
def _lab() -> Iterator[Lab]:
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Somewhere to start servers."""
    with _lab() as found:
        yield found


def golden(name: str, text: str) -> None:
    """The text is what was reviewed."""
    file = GOLDEN / name
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        file.write_text(text)
    assert text == file.read_text()


def filled(desk: Desk, held: Directory | None = None) -> str:
    """The name of a directory on the disk that holds the example."""
    name = f"sqlite:{desk.folder / 'state'}"
    store = SqliteDirectory(name.removeprefix("sqlite:"))
    DirectoryService(store, "root").change(lambda _: held or directory(), "fill it")
    store.close()
    return name


# check.


def test_where_everything_is_right_check_says_so(desk: Desk, lab: Lab) -> None:
    lab.server(RIGHT)
    code, out, err = desk("check")
    assert (code, err) == (0, "")
    golden("ports-check-right.txt", out)


def test_a_member_that_differs_and_one_that_does_not_answer_are_named(desk: Desk, lab: Lab) -> None:
    desk.config.write_text(CONFIG + CAS2 + CAS3)
    lab.server(RIGHT)
    lab.server(WRONG, rpc=6123)
    code, out, err = desk("check")
    assert (code, err) == (1, "")
    golden("ports-check-differs.txt", out)


def test_what_the_registry_says_stands_beside_what_the_mapper_says(desk: Desk, lab: Lab) -> None:
    desk.config.write_text(CONFIG + CAS2)
    lab.server(RIGHT)
    lab.server(WRONG, rpc=6123)
    export = desk.file("cas2.reg", registry_file(RpcService.RPC, 5001))
    netsh = desk.file("cas2.txt", NETSH)
    code, out, _ = desk("check", "CAS", "--export", f"cas2={export}", "--netsh", f"CAS2={netsh}")
    assert code == 1
    golden("ports-check-export.txt", out)


def test_the_answers_can_be_had_as_json(desk: Desk, lab: Lab) -> None:
    desk.config.write_text(CONFIG + CAS2)
    lab.server(RIGHT)
    lab.server(WRONG, rpc=6123)
    code, out, _ = desk("check", "--json")
    assert code == 1
    golden("ports-check.json", out)
    assert json.loads(out)["differs"] is True


def test_a_server_that_hangs_is_given_up_and_named_and_told_of_meanwhile(desk: Desk, lab: Lab) -> None:
    server = lab.server(RIGHT)
    lab.run(server.behave(server.services["epm"], Behaviour.HANG_ACCEPT))
    code, out, err = desk("check", "--timeout", "2.3s")
    assert code == 1
    assert "cas1: accepts connections on 10135 but does not answer the bind to the endpoint mapper" in out
    assert err == "casarray: 0 of 1 servers have answered, waiting for cas1\n"


def test_a_service_that_does_not_run_is_found(desk: Desk, lab: Lab) -> None:
    server = lab.server(RIGHT)
    server.exchange.ports = {**server.exchange.ports, "ab": 0}  # its mapper forgets it
    code, out, _ = desk("check")
    assert code == 1
    assert "its endpoint mapper does not know NSPI: MSExchangeAB does not run" in " ".join(out.split())


# show.


def test_show_asks_nobody_and_shows_what_files_say(desk: Desk) -> None:
    rpc = desk.file("rpc.reg", registry_file(RpcService.RPC, 5001))
    ab = desk.file("ab.config", XML.replace(b"A", b"RpcTcpPort").replace(b'"1"', b'"5000"'))
    code, out, err = desk("show", "--export", f"cas1={rpc}", "--export", f"cas1={ab}")
    assert (code, err) == (0, "")
    golden("ports-show.txt", out)


def test_of_a_directory_the_mailbox_servers_are_shown_too(desk: Desk) -> None:
    code, out, _ = desk("show", "--store", filled(desk))
    assert code == 0
    golden("ports-show-directory.txt", out)


def test_an_export_of_the_wrong_type_is_an_error_that_show_only_shows(desk: Desk) -> None:
    key = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\services\MSExchangeAB\Parameters"
    wrong = desk.file("x.reg", f'REGEDIT4\n[{key}]\n"RpcTcpPort"=dword:00001388\n'.encode())
    code, out, _ = desk("show", "--export", f"cas1={wrong}")
    assert code == 0
    assert "without effect" in out
    assert "MSExchangeAB reads REG_SZ alone and ignores it" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["show", "--export", "cas1"], 2, "is not SERVER=FILE"),
        (["show", "--netsh", "=x"], 2, "is not SERVER=FILE"),
        (["show", "--export", "cas9=x"], 1, 'there is no server with fixed ports "cas9"'),
        (["show", "--export", "cas1=/nonexistent"], 1, "/nonexistent cannot be read"),
        (["show", "--netsh", "cas1=/dev/null"], 1, "netsh int ipv4 show dynamicport tcp"),
        (["show", "--export", "cas1=/dev/zero"], 1, "bytes are too many"),
        (["show", "CASS"], 1, 'did you mean "CAS"'),
        (["show", "-c", "/nonexistent"], 1, "there is no /nonexistent"),
        (["check", "--timeout", "soon"], 2, "is not a duration"),
        (["set", "--rpc", "many"], 2, "Invalid value"),
        (["set", "--rpc", "80"], 1, "80 cannot be the port of MSExchangeRPC"),
        (["set", "--rpc", "5000"], 1, "both services cannot have port 5000"),
        (["export", "--existing", "x"], 2, "--existing goes with --before-sp1"),
        (["export", "-o", "/proc/nowhere"], 1, "name another folder with -o"),
        (["export", "--encoding", "ebcdic"], 2, "Invalid value"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(desk: Desk, arguments: list[str], code: int, what: str) -> None:
    ended, _, err = desk(*arguments)
    assert ended == code
    assert what in " ".join(err.replace("│", " ").split())


# set.


def test_set_changes_the_file_and_keeps_its_mode(desk: Desk) -> None:
    desk.config.chmod(0o640)
    code, out, err = desk("set", "CAS", "--rpc", "5005")
    assert (code, err) == (0, "")
    golden("ports-set.txt", out)
    added = '\n[[array.service]]\nname = "rpc"\nport = 5005\n'
    assert desk.config.read_text() == CONFIG.replace("\n\n# The", f"\n{added}\n# The")
    assert stat.S_IMODE(desk.config.stat().st_mode) == 0o640
    assert [file.name for file in desk.folder.iterdir()] == ["casarray.toml"]


def test_set_keeps_the_line_ends_of_windows(desk: Desk) -> None:
    desk.config.write_bytes(CONFIG.replace("\n", "\r\n").encode())
    assert desk("set", "--rpc", "5005")[0] == 0
    data = desk.config.read_bytes()
    assert b"port = 5005\r\n" in data
    assert data.count(b"\n") == data.count(b"\r\n")


def test_a_link_to_the_file_stays_a_link(desk: Desk) -> None:
    link = desk.folder / "link.toml"
    link.symlink_to(desk.config)
    assert desk("set", "--rpc", "5005", "-c", str(link))[0] == 0
    assert link.is_symlink()
    assert "5005" in desk.config.read_text()


def test_set_again_changes_nothing(desk: Desk) -> None:
    desk("set", "--rpc", "5005")
    before = desk.config.read_text()
    assert desk("set", "--rpc", "5005")[1] == "CAS has these ports already: rpc 5005, ab 5000; nothing to change\n"
    assert desk.config.read_text() == before


def test_set_warns_of_the_ports_of_microsofts_script(desk: Desk) -> None:
    code, out, _ = desk("set", "--rpc", "59531", "--ab", "59532", "--dry-run")
    assert (code, desk.config.read_text()) == (0, CONFIG)
    golden("ports-set-microsoft.txt", out)


def test_set_tells_a_program_what_it_did(desk: Desk) -> None:
    found = json.loads(desk("set", "--ab", "5005", "--json")[1])
    assert (found["done"], found["before"]) == (True, {"rpc": 5001, "ab": 5000})
    assert found["after"] == {"rpc": 5001, "ab": 5005}


def test_set_in_a_directory_is_seen_by_show(desk: Desk) -> None:
    store = filled(desk)
    assert desk("set", "CAS", "--rpc", "5005", "--store", store)[0] == 0
    found = json.loads(desk("show", "--store", store, "--json")[1])
    assert found["arrays"][0]["ports"] == {"rpc": 5005, "ab": 5000}


def test_a_configuration_that_names_a_directory_leads_there(desk: Desk) -> None:
    store = filled(desk)
    desk.config.write_text(f'[directory]\nstore = "{store}"\n')
    assert desk("set", "--rpc", "5005", "-c", str(desk.config))[0] == 0
    assert desk.config.read_text() == f'[directory]\nstore = "{store}"\n'
    assert json.loads(desk("show", "--store", store, "--json")[1])["arrays"][0]["ports"]["rpc"] == 5005


# export.


def test_export_writes_both_files_and_says_what_to_do_with_them(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    code, out, err = desk("export", "--store", filled(desk), "-o", "out")
    assert (code, err) == (0, "")
    golden("ports-export.txt", out)
    assert (desk.folder / "out" / "CAS-MSExchangeRPC.reg").read_bytes() == registry_file(RpcService.RPC, 5001)
    assert (desk.folder / "out" / "CAS-MSExchangeAB.reg").read_bytes() == registry_file(RpcService.AB, 5000)


def test_export_before_sp1_carries_the_existing_file_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    existing = desk.file("old.config", XML)
    code, out, _ = desk("export", "--before-sp1", "--existing", existing, "-o", "-")
    assert code == 0
    golden("ports-export-before-sp1.txt", out)
    assert sorted(file.name for file in desk.folder.iterdir()) == ["casarray.toml", "old.config"]


def test_export_does_not_overwrite_another_file_unless_forced(desk: Desk) -> None:
    folder = str(desk.folder)
    assert desk("export", "-o", folder)[0] == 0
    assert desk("export", "-o", folder)[0] == 0  # the same again
    code, _, err = desk("export", "-o", folder, "--encoding", "utf-8")
    assert (code, "is there already and different" in err) == (1, True)
    assert desk("export", "-o", folder, "--encoding", "utf-8", "--force")[0] == 0
    assert (desk.folder / "CAS-MSExchangeAB.reg").read_bytes().startswith(b"Windows Registry Editor")


def test_export_tells_a_program_the_files_and_the_commands(desk: Desk) -> None:
    found = json.loads(desk("export", "-o", "-", "--json")[1])
    assert [(f["service"], f["port"], f["path"]) for f in found["files"]] == [("rpc", 5001, None), ("ab", 5000, None)]
    assert found["files"][0]["commands"] == ['reg import "CAS-MSExchangeRPC.reg"', "Restart-Service MSExchangeRPC"]
