"""The command line against a gateway from memory; what it prints are golden files, reviewed like code.

CASARRAY_UPDATE_GOLDEN=1 writes them anew.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.faces.fake_gateway import CAS1, STATUS, FakeGateway, serving
from typer.testing import CliRunner

from casarray.adapters.control_client import ControlClient
from casarray.app.operations import ReloadReport, Status
from casarray.core.config import Wish
from casarray.core.config_file import load_config
from casarray.core.errors import ConfigError
from casarray.core.forwarding.table import Address
from casarray.core.profiles import EMSMDB, NSPI
from casarray.core.records import from_json
from casarray.core.survey import Found, Interface, Offer
from casarray.faces.cli.app import cli
from casarray.faces.cli.top import rates
from casarray.faces.cli.world import World, control_path

GOLDEN = Path(__file__).parent.parent / "golden"
CONFIG = """\
[gateway]
name = "gw1"
[[site]]
name = "Paderborn"
subnets = ["10.11.0.0/24", "10.12.0.0/24"]
[[array]]
name = "CAS"
fqdn = "cas.domain.tld"
site = "Paderborn"
addresses = ["10.11.0.100"]
profile = "exchange-2010"
affinity_prefix4 = 24
[[server]]
name = "cas1"
site = "Paderborn"
address = "10.12.0.21"
[[server]]
name = "cas2"
site = "Paderborn"
address = "10.12.0.22"
weight = 200
"""
COMMANDS = (
    "run", "remove", "check", "reload", "status", "explain", "top", "server list", "server drain", "server standby",
    "server out", "server activate", "server show", "server new", "server set", "server remove", "server take-out",
    "server put-back", "array list", "array show", "array new", "array set", "array remove",
    "database list", "database show", "database new", "database set", "database remove", "database move",
    "database add-copy", "database set-copy", "database remove-copy",
    "dag list", "dag show", "dag new", "dag set", "dag remove", "dag add-server", "dag remove-server",
    "site list", "site show", "site new", "site set", "site remove", "site add-subnet", "site move-subnet",
    "site remove-subnet", "apply", "directory show", "directory copy", "directory history", "shell",
    "ports show", "ports set", "ports export", "ports check", "init", "completion", "version",
    "spn plan", "spn apply", "spn audit", "spn list", "spn find",
    "account list", "account show", "account create", "account adopt", "account encryption", "account remove",
    "account roll", "agent run", "agent check", "agent state", "agent init", "test kerberos", "rpc-proxy run",
    "autodiscover run", "autodiscover show", "autodiscover ask", "autodiscover publish", "autodiscover unpublish",
    "autodiscover check", "referral run", "referral report",
)  # fmt: skip


class Site:
    """A place to run commands in: a gateway, a configuration, servers that offer something."""

    def __init__(self, folder: Path, gateway: FakeGateway) -> None:
        self.folder = folder
        self.gateway = gateway
        self.socket = folder / "control"
        self.config = folder / "casarray.toml"
        self.config.write_text(f'[gateway]\ncontrol = "{self.socket}"\n')
        self.ran: list[str] = []
        self.offers: tuple[Offer, ...] = ()
        self.left: tuple[str, ...] = ()  # what a stopped gateway left behind
        self.environment: dict[str, str] = {}

    def world(self) -> World:
        """The world of the command line."""

        def run(path: str, _as_json: bool) -> int:
            self.ran.append(path)
            return 0

        def remove(path: str) -> Sequence[str]:
            self.ran.append(f"remove {path}")
            return self.left

        def survey(_servers: Mapping[str, Address]) -> Sequence[Offer]:
            return self.offers

        return World(ControlClient, run, remove, survey, self.environment, str(self.config), "/nonexistent/socket")

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run one command: exit code, stdout, stderr."""
        environment = {"COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1"}
        result = CliRunner().invoke(cli, list(arguments), input=stdin, obj=self.world(), env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A gateway that answers."""
    gateway = FakeGateway()
    place = Site(tmp_path, gateway)
    with serving(gateway, place.socket):
        yield place


@pytest.fixture
def silent(tmp_path: Path) -> Site:
    """Nobody answers."""
    return Site(tmp_path, FakeGateway())


def golden(name: str, text: str) -> None:
    """The text is what was reviewed."""
    file = GOLDEN / name
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("status.txt", ["status"]),
        ("status.json", ["status", "--json"]),
        ("explain.txt", ["explain", "10.11.0.7"]),
        ("explain.json", ["explain", "10.11.0.7", "--json"]),
        ("server-list.txt", ["server", "list"]),
        ("server-list.json", ["server", "list", "--json"]),
        ("server-drain.txt", ["server", "drain", "cas1", "--deadline", "10m"]),
        ("server-drain.json", ["server", "drain", "cas1", "--deadline", "10m", "--json"]),
        ("server-out.txt", ["server", "out", "cas1"]),
        ("reload.txt", ["reload"]),
        ("reload.json", ["reload", "--json"]),
        ("top.txt", ["top", "--once", "--interval", "100ms"]),
    ],
)
def test_answers_of_a_gateway_look_as_reviewed(site: Site, name: str, arguments: list[str]) -> None:
    code, out, err = site(*arguments)
    assert (code, err) == (0, "")
    golden(name, out)


@pytest.mark.parametrize(("name", "extra"), [("check.txt", []), ("check.json", ["--json"])])
def test_a_right_configuration_is_shown_with_what_it_does(silent: Site, name: str, extra: list[str]) -> None:
    silent.config.write_text(CONFIG)
    code, out, err = silent("check", "-c", str(silent.config), *extra)
    assert (code, err) == (0, "")
    golden(name, out.replace(str(silent.folder), "/etc"))


def test_a_wrong_configuration_is_refused_with_all_its_problems(silent: Site) -> None:
    silent.config.write_text(CONFIG.replace("fqdn", "fqnd").replace("10.12.0.22", "10.12.0.21"))
    code, out, err = silent("check")
    assert (code, out) == (1, "")
    golden("check-refused.txt", err.replace(str(silent.folder), "/etc"))


def test_a_wrong_configuration_as_json_names_file_line_and_key(silent: Site) -> None:
    silent.config.write_text('[gateway]\nmode = "fast"\n')
    code, out, _ = silent("check", "--json")
    told = json.loads(out)
    assert (code, told["ok"]) == (1, False)
    assert told["problems"] == [
        {
            "file": str(silent.config),
            "line": 2,
            "key": "gateway.mode",
            "what": '"fast" is not known here',
            "right": 'write one of "kernel", "userspace", "auto"',
        }
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no {0}; write one with casarray init, or name yours with -c"),
        (b"[gateway]\nname = '\xff'", "{0}:2: this is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_said(silent: Site, content: bytes | None, said: str) -> None:
    silent.config.unlink()
    if content is not None:
        silent.config.write_bytes(content)
    assert silent("check") == (1, "", f"casarray: {said.format(silent.config)}\n")


def test_a_folder_is_no_configuration(silent: Site) -> None:
    code, _, err = silent("check", "-c", str(silent.folder))
    assert (code, err) == (1, f"casarray: {silent.folder}: Is a directory; name the configuration with -c\n")


def test_the_environment_counts_in_check(silent: Site) -> None:
    silent.environment["CASARRAY_GATEWAY_MODE"] = "fast"
    code, _, err = silent("check")
    assert code == 1
    assert 'CASARRAY_GATEWAY_MODE: gateway.mode: "fast" is not known here' in err


def test_run_takes_the_given_configuration_or_the_usual_one(silent: Site) -> None:
    assert silent("run")[0] == 0
    assert silent("run", "-c", "/other.toml")[0] == 0
    assert silent.ran == [str(silent.config), "/other.toml"]


def test_remove_says_what_it_took_away(silent: Site) -> None:
    assert silent("remove")[:2] == (0, "nothing was there\n")
    silent.left = ("array CAS: its forwarding table is gone",)
    assert silent("remove", "-c", "/other.toml")[1] == "array CAS: its forwarding table is gone\n"
    assert json.loads(silent("remove", "--json")[1]) == ["array CAS: its forwarding table is gone"]
    assert silent.ran[1] == "remove /other.toml"


@pytest.mark.parametrize(
    ("verb", "wish"),
    [("drain", Wish.DRAIN), ("standby", Wish.STANDBY), ("out", Wish.OUT), ("activate", Wish.ACTIVE)],
)
def test_each_verb_sets_its_state(site: Site, verb: str, wish: Wish) -> None:
    assert site("server", verb, "cas2")[0] == 0
    assert site.gateway.asked == [("set_server", "cas2", wish, None)]


def test_the_control_socket_is_found_in_the_order_of_the_manual(silent: Site) -> None:
    world = silent.world()
    other = silent.folder / "other.toml"
    other.write_text('[gateway]\ncontrol = "/other"\n[[array]]\nbroken = true\n')
    assert control_path(world, "/some/socket") == "/some/socket"
    assert control_path(world, str(other)) == "/other"
    assert control_path(world, None) == str(silent.socket)
    silent.environment["CASARRAY_GATEWAY_CONTROL"] = "/by/variable"
    assert control_path(world, None) == "/by/variable"
    silent.environment.clear()
    silent.config.unlink()
    assert control_path(world, None) == "/nonexistent/socket"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"], ["explain", "10.0.0.1"], ["reload"], ["top"], ["server", "list"], ["server", "drain", "cas1"],
    ],
)  # fmt: skip
def test_without_a_gateway_every_command_says_so_and_what_to_do(silent: Site, arguments: list[str]) -> None:
    code, out, err = silent(*arguments)
    assert (code, out) == (1, "")
    assert err == (
        f"casarray: no gateway runs here: there is no {silent.socket}; "
        'start one with "casarray run -c FILE", or name its socket with --control\n'
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["server", "out", "cas9"], 'there is no server "cas9"; there are: cas1, cas2, cas3'),
        (["explain", "cas.domain.tld"], 'client: "cas.domain.tld" is not an IP address'),
        (["explain", "10.0.0.1", "--array", "X"], 'there is no array "X"; there is: CAS'),
    ],
)
def test_what_the_gateway_refuses_is_one_sentence_and_exit_code_1(site: Site, arguments: list[str], said: str) -> None:
    assert site(*arguments) == (1, "", f"casarray: {said}\n")


def test_a_refused_reload_names_every_problem(site: Site) -> None:
    site.gateway.refusal = ConfigError("f.toml:1: a\nf.toml:2: b")
    assert site("reload") == (1, "", "casarray: f.toml:1: a\nf.toml:2: b\n")


def test_a_reload_that_changes_nothing_says_so(site: Site) -> None:
    site.gateway.report = ReloadReport()
    assert site("reload") == (0, "reloaded; nothing has changed\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["server"], ["server", "drain"], ["server", "drain", "cas1", "--deadline", "10"], ["explain"],
        ["top", "--interval", "soon"], ["completion", "tcsh"], ["status", "--nonsense"],
        ["init", "--server", "cas1", "--name", "C", "--fqdn", "c.d", "--address", "10.0.0.1"],
        ["init", "--name", "C", "--fqdn", "c.d", "--server", "a=10.0.0.1", "--address", "x"],
        ["init", "--name", "C", "--fqdn", "c.d", "--address", "10.0.0.1"],
        ["init", "--profile", "exchange-2007"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(silent: Site, arguments: list[str]) -> None:
    code, _, err = silent(*arguments)
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(silent: Site, command: str) -> None:
    code, out, _ = silent(*command.split(), "--help")
    assert code == 0
    assert f"Example:  casarray {command}" in " ".join(out.split()).replace("Example: ", "Example:  ")
    if command not in ("run", "agent run", "agent init"):
        assert "--json" in out


def test_the_list_of_commands_here_is_whole(silent: Site) -> None:
    _, out, _ = silent("--help")
    assert set(re.findall(r"^│ (\w[\w-]*) ", out, re.MULTILINE)) == {command.split()[0] for command in COMMANDS}


def test_status_json_is_the_status(site: Site) -> None:
    assert from_json(Status, json.loads(site("status", "--json")[1])) == STATUS


def test_top_as_json_is_one_document_a_line(site: Site) -> None:
    _, out, _ = site("top", "--once", "--json")
    assert len(out.splitlines()) == 1
    assert from_json(Status, json.loads(out)) == STATUS


def test_rates_are_differences_by_time_and_a_restart_is_no_rate() -> None:
    def later(new: int, pid: int) -> Status:
        told = json.loads(json.dumps({"pid": pid}))
        from dataclasses import replace  # noqa: PLC0415 - local to this helper

        array = STATUS.arrays[0]
        member = replace(CAS1, new_connections=CAS1.new_connections + new)
        group = replace(array.groups[0], members=(member,))
        return replace(STATUS, gateway=replace(STATUS.gateway, **told), arrays=(replace(array, groups=(group,)),))

    assert rates(STATUS, later(500, STATUS.gateway.pid), 2.0) == {("CAS", "rpc", "cas1"): 250.0}
    assert rates(STATUS, later(-500, STATUS.gateway.pid), 2.0) == {("CAS", "rpc", "cas1"): 0.0}
    assert rates(STATUS, later(500, 1), 2.0) == {}


def test_text_of_servers_cannot_colour_or_command_the_terminal(site: Site) -> None:
    from dataclasses import replace  # noqa: PLC0415 - local to this test

    array = STATUS.arrays[0]
    member = replace(CAS1, reason="[bold red]no[/] \x1b[2J\x07", eligible=False)
    group = replace(array.groups[0], members=(member,))
    site.gateway.answer = replace(STATUS, arrays=(replace(array, groups=(group,)),), warnings=("\x1b]0;x\x07",))
    _, out, _ = site("status")
    assert "[bold red]no[/]" in out
    assert "\x1b" not in out
    assert "\x07" not in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(silent: Site, shell: str) -> None:
    code, out, _ = silent("completion", shell)
    assert code == 0
    assert "_CASARRAY_COMPLETE" in out


OPTIONS = (
    "--name", "CAS", "--fqdn", "cas.domain.tld", "--address", "10.11.0.100", "--site", "Paderborn",
    "--server", "cas1=10.12.0.21", "--server", "cas2=10.12.0.22,2001:db8::22",
)  # fmt: skip
UP = ("epm", "https", "imaps")


def offers(rpc: int = 5001, rpc2: int = 5001, up: tuple[str, ...] = UP) -> tuple[Offer, ...]:
    """Two Exchange servers."""
    names = ("epm", "http", "https", "imap", "imaps", "healthcheck")
    found = tuple(Found(name, name in up, "") for name in names)
    return tuple(
        Offer(name, address, found, (Interface(EMSMDB, port), Interface(NSPI, 5000)) if "epm" in up else ())
        for name, address, port in (("cas1", A1, rpc), ("cas2", A2, rpc2))
    )


A1, A2 = load_config(CONFIG).servers[0].addresses[0], load_config(CONFIG).servers[1].addresses[0]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("init-exchange-2010.toml", offers()),
        ("init-other-ports.toml", offers(59531, 59531, ("epm",))),
        ("init-mail.toml", offers(up=("imap", "imaps"))),
        ("init-nothing.toml", offers(up=())),
    ],
)
def test_init_writes_a_commented_configuration_that_is_right(silent: Site, name: str, seen: tuple[Offer, ...]) -> None:
    silent.offers = seen
    target = silent.folder / "new.toml"
    code, out, _ = silent("init", *OPTIONS, "-o", str(target))
    assert code == 0
    assert f"next: casarray check -c {target}" in out
    assert silent("check", "-c", str(target))[0] == 0
    golden(name, re.sub(r"(?m)^(\[gateway\]\nname = ).*$", r'\1"gw1"', target.read_text()))


def test_init_never_overwrites_without_being_forced(silent: Site) -> None:
    target = silent.folder / "new.toml"
    target.write_text("precious")
    code, _, err = silent("init", *OPTIONS, "-o", str(target))
    assert (code, target.read_text()) == (1, "precious")
    assert err == (f"casarray: {target} is there already; write another file with -o, or overwrite it with --force\n")
    assert silent("init", *OPTIONS, "-o", str(target), "--force")[0] == 0
    assert load_config(target.read_text()).arrays[0].name == "CAS"
    assert sorted(p.name for p in silent.folder.iterdir()) == ["casarray.toml", "new.toml"]


def test_init_as_json_tells_what_was_seen_and_what_follows(silent: Site) -> None:
    silent.offers = offers()
    code, out, err = silent("init", *OPTIONS, "-o", "-", "--json")
    told = json.loads(out)
    assert (code, err, told["file"]) == (0, "", None)
    assert told["conclusion"]["profile"] == "exchange-2010"
    assert told["offers"][0]["interfaces"][0] == {"interface": EMSMDB, "port": 5001, "annotation": ""}
    assert load_config(told["text"]).arrays[0].profile == "exchange-2010"


def test_init_to_stdout_prints_only_the_configuration_there(silent: Site) -> None:
    silent.offers = offers()
    _, out, err = silent("init", *OPTIONS, "-o", "-")
    assert load_config(out).arrays[0].name == "CAS"
    assert "cas1 (10.12.0.21): epm, https, imaps, 2 RPC interfaces on TCP" in err


def test_init_does_not_write_what_is_no_configuration(silent: Site) -> None:
    target = silent.folder / "new.toml"
    code, _, err = silent("init", *OPTIONS, "--server", "cas3=10.11.0.100", "--no-look", "-o", str(target))
    assert code == 1
    assert "10.11.0.100 belongs to the array" in err
    assert not target.exists()


def program(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The real program."""
    environment = {**os.environ, "CASARRAY_GATEWAY_CONTROL": "/nonexistent/socket", **more}
    command = [sys.executable, "-m", "casarray.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


def test_the_program_ends_a_failure_without_a_traceback() -> None:
    result = program("status")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("casarray: no gateway runs here")


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["server", "list"]])
def test_client_commands_load_nothing_of_the_gateway(arguments: list[str]) -> None:
    result = program(*arguments, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if "|" in line}
    assert "casarray.core.errors" in loaded
    heavy = {"numpy", "uvloop", "starlette", "uvicorn", "asyncio", "sqlite3", "prometheus_client"}
    assert loaded & heavy == set()


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    command = f"{sys.executable} -m casarray.main check -c {tmp_path}/c.toml --json | head -c 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=20, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
