"""`casarray agent`: what its commands print, and their exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.app.kerberos.fake_agents import FakeAgents
from tests.app.kerberos.rolled import Forest
from tests.faces.test_account import nobody
from typer.testing import CliRunner

from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World

HOLDING = Holding(
    "asa$", "LAB.EXAMPLE", ("http/cas.lab",), (Generation(4, (Key(Enctype.AES256, 4, b"0123456789abcdef"),), 1.0),)
)


@pytest.fixture
def agents() -> FakeAgents:
    found = FakeAgents()
    found.add("cas1.lab.example", HOLDING)
    found.add("cas2.lab.example")
    return found


def run(line: str, agents: FakeAgents | None = None) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    forest = Forest()
    around = World(
        connect=nobody,
        run=nobody,
        remove=nobody,
        survey=nobody,
        environment={},
        run_agent=lambda path, as_json: 7 if (path, as_json) == ("x.toml", True) else 1,
        open_store=lambda _: forest.desk.directory.store,
        kerberos=lambda: forest.desk.settings,
        agents=lambda: agents or FakeAgents(),
    )
    environment = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    result = CliRunner().invoke(cli, ["agent", *line.split()], obj=around, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_run_ends_with_the_agent_s_own_code() -> None:
    assert run("run -c x.toml --json")[0] == 7


def test_what_init_prints_is_right_by_itself_on_a_host_with_a_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "cas1.lab.example")
    code, out, _ = run("init")
    assert code == 0
    assert "casarray-admin@LAB.EXAMPLE" in out
    file = tmp_path / "agent.toml"
    file.write_text(out)
    code, out, _ = run(f"check -c {file}")
    assert code == 0
    assert "cas1.lab.example listens on 0.0.0.0:7135" in out
    assert json.loads(run(f"check --json -c {file}")[1])["fqdn"] == "cas1.lab.example"


def test_on_a_host_without_a_domain_init_says_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "cas1")
    _, out, _ = run("init")
    assert "write its full name" in out
    file = tmp_path / "agent.toml"
    file.write_text(out)
    code, _, err = run(f"check -c {file}")
    assert code == 1
    assert "this host has no domain" in err
    file.write_text(out.replace("# fqdn =", "fqdn ="))
    assert run(f"check -c {file}")[0] == 0


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, _, err = run(f"check -c {tmp_path}/none.toml")
    assert code == 1
    assert "casarray agent init" in err


def test_state_shows_each_member_and_ends_with_1_if_one_is_ill(agents: FakeAgents) -> None:
    code, out, _ = run("state cas1.lab.example cas2.lab.example", agents)
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["cas1.lab.example", "asa$", "4"]
    agents.members["cas2.lab.example"].stale = ("it missed a roll",)
    code, out, _ = run("state cas1.lab.example cas2.lab.example", agents)
    assert code == 1
    assert "it missed a roll" in out
    code, out, _ = run("state cas3.lab.example --json", agents)
    assert code == 1
    assert "does not answer" in json.loads(out)[0]["error"]
    assert "0123456789abcdef" not in run("state cas1.lab.example --json", agents)[1]


@pytest.mark.parametrize("command", [["agent", "run", "-c", "/nonexistent"], ["agent", "state", "cas1.lab.example"]])
def test_a_library_that_is_missing_is_named_with_how_to_get_it(command: list[str]) -> None:
    code = "import sys; sys.modules['gssapi'] = None; from casarray.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("casarray: the library gssapi is missing: pip install")
    assert "Traceback" not in done.stderr
