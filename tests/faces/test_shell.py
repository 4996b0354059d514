"""`casarray shell` over a directory of its own; the Exchange administrator's lines as they are typed.

CASARRAY_UPDATE_GOLDEN=1 writes the golden files anew.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from tests.core.shell.toys import Toy
from typer.testing import CliRunner

from casarray.adapters.stores.opening import open_store
from casarray.core.errors import Conflict
from casarray.core.shell.layout import LARGEST
from casarray.core.shell.parser import parse
from casarray.core.shell.trouble import LIMITS
from casarray.faces.cli.app import cli
from casarray.faces.cli.prompt import CarefulHistory, CmdletCompleter, at_prompt, keeps, open_history
from casarray.faces.cli.shell import decoded
from casarray.faces.cli.world import World

GOLDEN = Path(__file__).parent.parent / "golden"
SITE = """\
New-ADSite Paderborn
New-ADSite Bonn
New-ADSubnet 10.12.0.0/24 -Site Paderborn
New-ClientAccessServer cas1 -Fqdn cas1.domain.tld -Site Paderborn
New-ClientAccessServer cas2 -Fqdn cas2.domain.tld -Site Paderborn
New-MailboxServer mbx1 -Fqdn mbx1.domain.tld -Site Paderborn
"""
ISSUE = """\
New-ClientAccessArray
  -Name CAS
  -Fqdn cas.domain.tld
  -Site Paderborn
New-MailboxDatabase DB1 -Server mbx1
New-MailboxDatabase -Name DB2 -Server mbx1
Get-MailboxDatabase | Set-MailboxDatabase -RpcClientAccessServer cas.domain.tld
Get-ClientAccessArray | fl Name,Fqdn,Site,Members
Get-MailboxDatabase | ft Name,Server,RpcClientAccessServer
Get-MailboxDatabase | Where-Object {$_.Server -eq 'mbx1'} | Select Name | ConvertTo-Json
Remove-ADSite Bonn -WhatIf
Remove-RpcClientAccess -Server cas2 -Confirm:$false
(Get-ClientAccessArray).Members
"""


class Shell:
    """The command, over one directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = f"sqlite:{folder}"

    def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """Run it: exit code, stdout, stderr."""

        def never(*_: object) -> object:
            raise AssertionError

        unasked: Any = never  # no gateway takes part
        world = World(unasked, unasked, unasked, unasked, {}, open_store=lambda name: open_store(name or self.store))
        command = ["shell", *arguments]
        result = CliRunner().invoke(cli, command, obj=world, input=stdin, env={"TERM": "dumb"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """An empty directory."""
    return Shell(tmp_path)


@pytest.fixture
def paderborn(shell: Shell) -> Shell:
    """Two sites and three servers."""
    assert shell("-c", SITE)[0] == 0
    return shell


def golden(name: str, text: str) -> None:
    """The text is what was reviewed."""
    file = GOLDEN / name
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        file.write_text(text)
    assert text == file.read_text()


def test_the_lines_of_an_administrator_do_what_they_say(paderborn: Shell) -> None:
    code, out, err = paderborn("-c", ISSUE)
    assert code == 0
    golden("shell-issue.txt", out + "--- stderr\n" + err)


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-marked"])
def test_a_script_may_come_from_windows(paderborn: Shell, mark: str) -> None:
    text = "# Standorte für Köln\r\nGet-ADSite |\r\n  sort Name |\r\n  select -ExpandProperty Name\r\n"
    encoded = b"\xfe\xff" + text.encode("utf-16-be") if mark == "utf-16-be-marked" else text.encode(mark)
    script = paderborn.folder / "sites.ps1"
    script.write_bytes(encoded)
    assert paderborn("-f", str(script)) == (0, "Bonn\nPaderborn\n", "")


def test_what_comes_through_a_pipe_is_a_script(paderborn: Shell) -> None:
    assert paderborn(stdin=b"Get-ADSite |\n sort Name | % Name\n") == (0, "Bonn\nPaderborn\n", "")
    assert paderborn("-f", "-", stdin=b"1 + 1") == (0, "2\n", "")
    assert paderborn(stdin=b"") == (0, "", "")


def test_a_script_ends_at_its_first_error_which_names_file_line_and_column(paderborn: Shell) -> None:
    script = paderborn.folder / "wrong.ps1"
    script.write_text("echo one\n  Get-ClientAccesArray\necho two\n")
    code, out, err = paderborn("-f", str(script))
    assert (code, out) == (1, "one\n")
    assert err.startswith(f'{script}: line 2, column 3: there is no cmdlet "Get-ClientAccesArray"; did you mean Get-')


def test_what_is_refused_is_told_with_its_place_and_changes_nothing(paderborn: Shell) -> None:
    paderborn("-c", "New-ClientAccessArray CAS -Fqdn cas.domain.tld -Site Paderborn")
    code, out, err = paderborn("-c", "New-ClientAccessArray Two -Fqdn two.domain.tld -Site Paderborn")
    assert (code, out) == (1, "")
    assert err.startswith("line 1, column 1: New-ClientAccessArray: ")
    assert paderborn("-c", "(Get-ClientAccessArray).Name")[1] == "CAS\n"


def test_nobody_is_asked_where_nobody_can_answer(paderborn: Shell) -> None:
    code, _, err = paderborn("-c", "Remove-ADSite Bonn", stdin=b"y\n")
    assert code == 1
    assert err.endswith("add -Confirm:$false\n")
    assert paderborn("-c", "Remove-ADSite Bonn -Confirm:$false; (Get-ADSite).Name") == (0, "Paderborn\n", "")


def test_json_is_one_array_of_the_objects(paderborn: Shell) -> None:
    code, out, _ = paderborn("--json", "-c", "Get-ADSite | sort Name | fl Name; 1 + 1")
    assert (code, json.loads(out)) == (0, [{"Name": "Bonn"}, {"Name": "Paderborn"}, 2])
    code, out, err = paderborn("--json", "-c", "1; Get-Nothing")
    assert (code, json.loads(out)) == (1, [1])
    assert "Get-Nothing" in err
    assert json.loads(paderborn("--json", "-c", "Get-ClientAccessArray")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-c", "1", "-f", "x"], 2, "-c and -f do not go together"),
        (["--foo"], 2, "No such option"),
        (["extra"], 2, "unexpected extra argument"),
        (["-f", "/nonexistent/x.ps1"], 1, "there is no script /nonexistent/x.ps1; what should be run itself goes"),
        (["-f", "/"], 1, "/ cannot be read: Is a directory"),
        (["-f", "/dev/zero"], 1, "/dev/zero is larger than 64,000,000 bytes; split it into several"),
        (["-c", "exit 7"], 7, ""),
        (["-c", ""], 0, ""),
        (["-c", "echo 'abc"], 1, "line 1, column 6: this quote is never closed"),
        (["--store", "nowhere:", "-c", "1"], 1, "is no place for a directory"),
    ],
)
def test_exit_codes_and_what_is_said(shell: Shell, arguments: list[str], code: int, said: str) -> None:
    got, _, err = shell(*arguments)
    assert got == code
    assert said in re.sub(r"[\s│]+", " ", err)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\n\xff\xff", "x: line 2 is neither UTF-8 nor UTF-16; save the script as UTF-8"),
        (b"\xff\xfea", "x: line 1 is neither UTF-8 nor UTF-16; save the script as UTF-8"),
        (b"a\0b\0", "x is UTF-16 without its mark, or no text at all; save the script as UTF-8"),
    ],
)
def test_a_script_that_is_no_text_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(Conflict) as refused:
        decoded(content, "x")
    assert str(refused.value) == said


def test_a_terminal_that_knows_only_ascii_gets_what_it_can_show(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "casarray.main", "shell", "--store", f"sqlite:{tmp_path}", "-c", "'Köln'; Get-ä"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (1, b"K?ln\n")
    assert b"there is no cmdlet" in ran.stderr


def test_a_closed_stdin_is_an_empty_script(tmp_path: Path) -> None:
    command = f"{sys.executable} -m casarray.main shell --store sqlite:{tmp_path} <&-"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_an_interrupted_script_ends_at_once_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    endless = "echo started; 1..1000 | % { 1..1000 | % { 1..1000 | % { $_ } | Out-Null } }"
    command = [sys.executable, "-m", "casarray.main", "shell", "--store", f"sqlite:{tmp_path}", "-c", endless]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"started\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert b"Traceback" not in err


def test_a_line_of_a_megabyte_and_a_script_of_ten_thousand_lines(shell: Shell) -> None:
    script = shell.folder / "long.ps1"
    script.write_text("$x = 0\n" + "$x += 1 # one more\n" * 10_000 + "$x\necho " + "a" * 1_000_000 + " | % Length\n")
    started = time.monotonic()
    assert shell("-f", str(script)) == (0, "10000\n1000000\n", "")
    assert time.monotonic() - started < 30


def test_one_line_loads_nothing_that_only_a_prompt_needs(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['casarray', 'shell', '--store', 'sqlite:' + sys.argv[1], '-c', 'Get-ClientAccessArray | fl']\n"
        "from casarray.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('prompt_toolkit', 'numpy', 'asyncio') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True, timeout=60)
    assert ran.stdout == b"[]\n"


class Typing:
    """A person at the prompt."""

    def __init__(self) -> None:
        self.toy = Toy()
        self.history = InMemoryHistory()

    def __call__(self, text: str, *, as_json: bool = False) -> int:
        """Type this; the exit code."""
        with create_pipe_input() as keys:
            keys.send_text(text)
            return at_prompt(
                self.toy.registry(), as_json=as_json, stdin=keys, stdout=DummyOutput(), history=self.history
            )


@pytest.fixture
def typing() -> Typing:
    """Somebody types."""
    return Typing()


ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
PASTE = "\x1b[200~{}\x1b[201~"


@pytest.mark.parametrize(
    ("typed", "code", "out"),
    [
        (["1 + 1", ENTER, CTRL_D], 0, "2\n"),
        (["exit 5", ENTER], 5, ""),
        (["echo 'half", CTRL_C, "2", ENTER, CTRL_D], 0, "2\n"),
        (["Get-Array |", ENTER, "select -First 1 |", ENTER, "% Name", ENTER, CTRL_D], 0, "CAS\n"),
        (["$x = 3", ENTER, "$x", ENTER, CTRL_D], 0, "3\n"),
        ([ENTER, ENTER, CTRL_D], 0, ""),
        ([PASTE.format("echo one\necho two"), ENTER, CTRL_D], 0, "one\ntwo\n"),
    ],
)
def test_a_prompt_runs_what_is_typed(
    typing: Typing, capsys: pytest.CaptureFixture[str], typed: Sequence[str], code: int, out: str
) -> None:
    assert typing("".join(typed)) == code
    assert capsys.readouterr().out == out


def test_a_list_of_parameters_may_be_pasted_or_typed_line_by_line(typing: Typing) -> None:
    lines = ["New-Array", "  -Name CAS", "  -Fqdn cas.domain.tld", "  -Site Paderborn"]
    typing(PASTE.format("\n".join(lines)) + ENTER + CTRL_D)
    typing("New-Array -Site Paderborn" + ENTER + "-Name CAS" + ENTER + "-Fqdn cas.domain.tld" + ENTER + CTRL_D)
    done = {"Name": "CAS", "Fqdn": "cas.domain.tld", "Site": "Paderborn"}
    assert typing.toy.calls == [("New-Array", [done]), ("New-Array", [done])]


def test_the_prompt_offers_what_the_language_says() -> None:
    toy = Toy()
    completer = CmdletCompleter(toy.session, toy.registry())
    offered = completer.get_completions(Document("Get-Arr"), CompleteEvent())
    assert [(found.text, found.start_position) for found in offered] == [("Get-Array", -7)]
    named = completer.get_completions(Document("Get-Help New-A"), CompleteEvent())
    assert [found.text for found in named] == ["New-Array"]


def test_an_error_at_the_prompt_does_not_end_it(typing: Typing, capsys: pytest.CaptureFixture[str]) -> None:
    assert typing("Get-Foo" + ENTER + "'abc" + ENTER + ENTER + "echo on" + ENTER + CTRL_D) == 0
    told = capsys.readouterr()
    assert told.out == "on\n"
    assert "there is no cmdlet" in told.err
    assert "this quote is never closed" in told.err


def test_a_person_is_asked_before_something_is_destroyed(typing: Typing) -> None:
    typing("Remove-Array CAS" + ENTER + "n" + ENTER + "Remove-Array CAS2" + ENTER + "y" + ENTER + CTRL_D)
    assert typing.toy.calls == [("Remove-Array", [{"Identity": "CAS2"}])]


def test_ctrl_c_at_a_question_leaves_everything_as_it_is(typing: Typing, capsys: pytest.CaptureFixture[str]) -> None:
    typing("Remove-Array CAS" + ENTER + CTRL_C + "echo on" + ENTER + CTRL_D)
    assert typing.toy.calls == []
    told = capsys.readouterr()
    assert told.out == "on\n"
    assert "interrupted" in told.err


def test_a_password_is_in_no_history(typing: Typing, capsys: pytest.CaptureFixture[str]) -> None:
    typing("$c = Get-Credential" + ENTER + "admin" + ENTER + "geheim" + ENTER + "$c.UserName" + ENTER + CTRL_D)
    told = capsys.readouterr()
    assert told.out == "admin\n"
    assert "geheim" not in "".join((*typing.history.get_strings(), told.out, told.err))


def test_json_at_the_prompt_is_an_array_for_each_input(typing: Typing, capsys: pytest.CaptureFixture[str]) -> None:
    typing("1" + ENTER + "echo a b" + ENTER + CTRL_D, as_json=True)
    assert capsys.readouterr().out == '[\n  1\n]\n[\n  "a",\n  "b"\n]\n'


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Get-ClientAccessArray", True),
        ("$c = Get-Credential", True),
        ("Set-X -Credential $c", True),
        ("Set-X -Password geheim", False),
        ("ConvertTo-SecureString 'geheim' -AsPlainText", False),
        ("New-Object PSCredential 'a', 'geheim'", False),
        ("Set-X -Credential 'a:geheim'", False),
        ("echo " + "x" * 20_000, False),
    ],
)
def test_a_line_that_could_hold_a_secret_is_not_kept(line: str, kept: bool) -> None:
    assert keeps(line) == kept


def test_the_history_is_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    file = tmp_path / "state" / "shell-history"
    history = open_history(file)
    assert isinstance(history, CarefulHistory)
    history.append_string("Get-ClientAccessArray")
    history.append_string("Set-X -Password geheim")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Get-ClientAccessArray" in file.read_text()
    assert "geheim" not in file.read_text()


def test_without_a_place_for_it_the_history_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, no folder")
    assert isinstance(open_history(tmp_path / "state" / "shell-history"), InMemoryHistory)


PAGES = Path(__file__).parent.parent.parent / "docs" / "operate"


@pytest.mark.parametrize("page", sorted(page.name for page in PAGES.glob("*.md")))
def test_what_the_manual_shows_can_be_read(page: str) -> None:
    for example in re.findall(r"```powershell\n(.*?)```", (PAGES / page).read_text(), re.DOTALL):
        assert parse(example)


def test_the_limits_in_the_manual_are_those_of_the_code() -> None:
    text = (PAGES / "shell.md").read_text()
    for number in (LIMITS.source, LIMITS.text, LIMITS.items, LIMITS.steps, LARGEST):
        assert f"{number:,} " in text
    assert f"brackets {LIMITS.nesting} deep" in text
    assert f"other {LIMITS.calls} deep" in text


def test_the_lines_of_the_manual_run(paderborn: Shell) -> None:
    paderborn("-c", ISSUE)
    examples = re.findall(r"```powershell\n(.*?)```", (PAGES / "shell.md").read_text(), re.DOTALL)
    for example in examples:
        text = re.sub(r"New-ClientAccessArray\n.*?Paderborn\n", "", example, flags=re.DOTALL)
        code, out, err = paderborn("-c", text)
        assert code == 0, err
        assert out
