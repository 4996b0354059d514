"""The lines of the manual as they are typed, through the shell's own language to the directory."""

import pytest
from tests.app.cmdlets.typed import PLAIN, Desk, Voice

from casarray.core.directory.model import Directory, Site, Subnet
from casarray.core.errors import CasarrayError
from casarray.core.shell.binding import Asking, Call
from casarray.core.shell.cmdlet import Cmdlet, Credential, Host, Parameter, Record, Value
from casarray.core.shell.evaluate import Interpreter
from casarray.core.shell.parser import parse
from casarray.core.shell.registry import Registry
from casarray.core.shell.trouble import ShellError


class Around:
    """What the language needs of a shell: somebody to talk to, and nobody to ask."""

    def __init__(self) -> None:
        self.voice = Voice("")

    def host(self, call: Call, line: str) -> Host:
        self.voice = Voice(line, what_if=bool(call.common.what_if))
        return self.voice

    def asking(self, cmdlet: Cmdlet) -> Asking:
        def parameter(wanted: Parameter) -> str:
            raise CasarrayError(f"{cmdlet.name} needs -{wanted.name}")

        def credential(user: str) -> Credential:
            raise CasarrayError(user)

        return Asking(parameter, credential)

    def warn(self, text: str) -> None:
        self.voice.warn(text)

    def report(self, error: ShellError) -> None:
        raise error


class Prompt:
    """A shell at a directory from memory."""

    def __init__(self, directory: Directory) -> None:
        self.desk = Desk(directory)
        self.around = Around()
        self._interpreter = Interpreter(Registry(tuple(self.desk.cmdlets.values())), self.around)

    def __call__(self, text: str) -> list[Value]:
        return [value for statement in parse(text) for value in self._interpreter.run(statement)]


@pytest.fixture
def prompt() -> Prompt:
    return Prompt(PLAIN)


def test_every_example_is_right_and_its_parameters_are_known(prompt: Prompt) -> None:
    for cmdlet in prompt.desk.cmdlets.values():
        for example in cmdlet.examples:
            assert parse(example)
            for part in example.split("|"):
                name, *words = part.split()
                if name in prompt.desk.cmdlets:
                    known = {f"-{parameter.name}" for parameter in prompt.desk.cmdlets[name].parameters}
                    typed = {word for word in words if word.startswith("-")}
                    assert typed <= known | {"-WhatIf"}, example


MANUAL = """
New-ClientAccessArray
  -Name CAS
  -Fqdn cas.domain.tld
  -Site Paderborn
Get-MailboxDatabase | Set-MailboxDatabase -RpcClientAccessServer cas.domain.tld
"""


def test_the_lines_of_the_manual_work_verbatim(prompt: Prompt) -> None:
    (array,) = prompt(MANUAL)
    assert isinstance(array, Record)
    assert array.get("Members") == ("cas1",)
    assert {d.rpc_client_access_server for d in prompt.desk.directory.databases.values()} == {"cas.domain.tld"}
    assert prompt.desk.store.history()[0].note.what == (
        "Get-MailboxDatabase | Set-MailboxDatabase -RpcClientAccessServer cas.domain.tld"
    )


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Get-MailboxDatabase DB1", ["DB1"]),
        ("Get-MailboxDatabase -Server mbx1", ["DB1", "DB2"]),
        ("Get-MailboxServer | Get-MailboxDatabase", ["DB1", "DB2"]),
        ("'DB2', 'DB1' | Get-MailboxDatabase", ["DB2", "DB1"]),
        ("Get-ClientAccessServer -Id cas1", ["cas1"]),
        ("Get-ClientAccessServer | Get-RpcClientAccess", ["cas1\\RpcClientAccess"]),
        ("Get-ADSite -DomainController dc1.domain.tld", ["Paderborn"]),
        ("(Get-MailboxDatabase DB1).ActivationPreference[0].Key", ["mbx1"]),
    ],
)
def test_what_is_typed_is_found(prompt: Prompt, line: str, names: list[str]) -> None:
    assert list(map(str, prompt(line))) == names


@pytest.mark.parametrize(
    "line",
    [
        "New-ClientAccessServer cas2.domain.tld -Site Paderborn -Address 10.0.0.1,10.0.0.2 -Weight 50",
        "New-MailboxServer mbx2 -Fqdn mbx2.domain.tld -Site Paderborn -PublicFolders $true",
        "Get-MailboxServer | New-MailboxDatabase DB3",
        "New-DatabaseAvailabilityGroup DAG1; Get-MailboxServer | Add-DatabaseAvailabilityGroupServer DAG1",
        "Remove-RpcClientAccess -Server cas1 -Confirm:$false",
        "Set-RpcClientAccess cas1 -EncryptionRequired $false -MaximumConnections 100",
        "New-ADSubnet 10.11.0.0/24 -Site Paderborn",
        "Set-ADSite Paderborn -Name 'Paderborn, Westfalen'; Get-ADSite | Set-ADSite -Description x",
        "Get-MailboxDatabase DB2 | Remove-MailboxDatabase -Confirm:$false",
        "Get-MailboxDatabase | Remove-MailboxDatabase; Remove-MailboxServer mbx1",
        "Remove-ClientAccessServer cas1 -Force",
    ],
)
def test_each_way_to_change_something_can_be_typed(prompt: Prompt, line: str) -> None:
    prompt(line)
    assert prompt.desk.store.revision() != "0"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Get-ClientAccessArray -Identity $null", "-Identity is empty"),
        ("Remove-MailboxDatabase DB9", 'there is no mailbox database "DB9"'),
        ("Get-MailboxServer | Set-MailboxDatabase -Name X", "takes a MailboxDatabase"),
        ("New-ClientAccessArray -Fqdn cas.domain.tld -Site Bonn", 'there is no site "Bonn"'),
        ("Set-ClientAccessArray 'China CAS Array' -Name China", "named by its FQDN"),
        ("Set-MailboxDatabase DB1 -RpcClientAccessServer cas.domain.tl", "did you mean"),
    ],
)
def test_what_is_refused_is_said_and_nothing_changes(prompt: Prompt, line: str, said: str) -> None:
    with pytest.raises(ShellError, match=said):
        prompt(line)
    assert prompt.desk.is_as_before(PLAIN)


def test_what_if_in_a_pipeline_tells_and_does_nothing(prompt: Prompt) -> None:
    prompt("Get-MailboxDatabase | Remove-MailboxDatabase -WhatIf")
    assert prompt.around.voice.heard == [
        f'What if: Performing operation "Remove-MailboxDatabase" on Target "- database {name}".'
        for name in ("DB2", "DB1")
    ]
    assert prompt.desk.is_as_before(PLAIN)


def test_objects_with_spaces_go_through_the_pipeline() -> None:
    prompt = Prompt(Directory().put(Site("Redmond")))
    prompt("New-ClientAccessArray -Fqdn casarrayap.contoso.com -Site Redmond -Name 'China CAS Array'")
    prompt("Get-ClientAccessArray | Set-ClientAccessArray -Address 10.0.0.1")
    prompt("Get-ClientAccessArray casarrayap.contoso.com | Remove-ClientAccessArray -Confirm:$false")
    assert prompt.desk.directory.arrays == {}
    assert not any(isinstance(thing, Subnet) for thing in prompt.desk.directory)
