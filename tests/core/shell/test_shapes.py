"""How objects are chosen, ordered and laid out. The output is a golden file, reviewed like code.

CASARRAY_UPDATE_GOLDEN=1 writes it anew.
"""

import json
import os
from pathlib import Path

import pytest
from tests.core.shell.toys import ARRAYS, Toy

from casarray.core.shell.cmdlet import Record
from casarray.core.shell.columns import named
from casarray.core.shell.complete import complete
from casarray.core.shell.layout import as_list, as_table

GOLDEN = Path(__file__).parent.parent.parent / "golden"
SHOWN = """
Get-Array
Get-Database
Get-Array | fl
Get-Array | fl Name,Fqdn,Site,Members
Get-Array | Format-List N*,@{n='Where'; e={$_.Site.ToUpper()}}
Get-Array | ft Name,@{label='How many'; expression={$_.Members.Count}} -AutoSize
Get-Array | select Name,Site
Get-Array | Select-Object -First 1 *
Get-Array | select -ExpandProperty Members
Get-Database | sort Size -Descending | select -First 2 -Skip 1 Name,Size
Get-Database | Where-Object { $_.Size -ge 20 -and $_.Mounted } | ft Name,Mounted
Get-Database | where Mounted
Get-Database | ? Name -like 'db[12]' | % Name
Get-Database | group Mounted
Get-Database | group Server -NoElement
Get-Database | measure
Get-Database | measure Size -Sum -Average -Maximum -Minimum
Get-Database | ConvertTo-Csv -NoTypeInformation
Get-Array | ConvertTo-Json
Get-Array | ConvertTo-Json -Compress -Depth 0
1,'two',$null,$true,1.5
@{Name='CAS'; Members='a','b'}
(1,2),(3,(4,5))
3,1,2,3 | sort -Unique
'b','A','a' | select -Unique
Get-Array | gm
gcm *array*
Get-Help New-Array
New-Array -?
Get-Help
Get-Array | ft | Out-String
""".strip().split("\n")


def test_what_is_shown_looks_as_reviewed() -> None:
    parts = []
    for line in SHOWN:
        toy = Toy()
        parts.append(f"PS> {line}\n{toy(line)}\n")
        assert toy.place.err == []
    text = "\n".join(parts)
    file = GOLDEN / "shell-shapes.txt"
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("1..5 | select -First 2; 1..5 | select -Last 2; 1..5 | select -Skip 4; 1..5 | select -Index 0,4",
         "1\n2\n4\n5\n5\n1\n5"),
        ("1..5 | select -First 2 -Last 2; 1..3 | select -First 9; 1..3 | select -First 0", "1\n2\n4\n5\n1\n2\n3"),
        ("10,9,'8' | sort; $null,2 | sort -Descending", "9\n10\n8\n2"),
        ("@{a=1;b=2},@{a=1;b=3},@{a=2;b=1} | sort @{e='a';Descending=$true},b | % { \"$($_.a)$($_.b)\" }",
         "21\n12\n13"),
        ("@() | Get-Array; @() | Remove-Array", ""),
        ("1,2 | foreach { $_ + 1 } -Begin { 'start' } -End { 'end' }", "start\n2\n3\nend"),
        ("Get-Database | where { $_.Name -eq 'db1' } | % Name; Get-Database | where Mounted -Not | % Name", "DB1\nDB2"),
        ("@() | measure | % Count; @() | fl; @() | ConvertTo-Json; @() | sort; @() | select Name | ft", "0"),
        ("echo a b | Out-Null; 1 | Out-Default", "1"),
        ("$x = 5; (Get-Variable x).Value; (gv X*).Name", "5\nx"),
        ("'a','b' | Out-String -Stream", "a\nb"),
        ("'5' | ConvertTo-Json; 5 | ConvertTo-Json; ,@(1) | ConvertTo-Json -Compress -AsArray", '"5"\n5\n[[1]]'),
    ],
)  # fmt: skip
def test_objects_are_chosen_as_powershell_does(text: str, out: str) -> None:
    assert Toy()(text) == out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Get-Array | fl Nmae", 'WARNING: Array has no property "Nmae"; did you mean Name?'),
        ("Get-Array | select Name,Foo", 'WARNING: Array has no property "Foo"'),
        ("Get-Array | where Sitee -eq x", 'WARNING: Array has no property "Sitee"; did you mean Site?'),
    ],
)
def test_a_property_that_is_not_there_is_warned_of(text: str, said: str) -> None:
    toy = Toy()
    toy(text)
    assert toy.place.err == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 | where", "line 1, column 5: Where-Object: say which: Where-Object { $_.Site -eq 'Paderborn' }, or "
         "Where-Object Site -eq Paderborn"),
        ("Get-Array | where Site Bonn", "line 1, column 13: Where-Object: a comparison is missing between Site and its "
         "value, like -eq"),
        ("Get-Array | measure Name -Sum", 'line 1, column 13: Measure-Object: "CAS" is not a number; name a property '
         "with numbers: -Property"),
        ("1 | select @{n='x'}", "line 1, column 5: Select-Object: a calculated property wants an expression: "
         "@{n='Name'; e={ $_.Name }}"),
        ("1 | ConvertTo-Json -Depth 99", "line 1, column 5: ConvertTo-Json: -Depth is a number from 0 to 20"),
        ("Get-Help New-Aray", 'line 1, column 1: Get-Help: there is no cmdlet "New-Aray"; did you mean New-Array, '
         "Get-Array or Remove-Array?"),
        ("Get-Variable nope", "line 1, column 1: Get-Variable: there is no variable $nope; Get-Variable lists all "
         "there are"),
        ("1 | % { Test-Refusal }", "line 1, column 9: Test-Refusal: it is against the rules; change the rules"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    assert Toy().error(text) == said


def test_a_narrow_terminal_cuts_tables_and_wraps_lists() -> None:
    columns = [named("Name"), named("Fqdn"), named("Members")]
    assert as_table(ARRAYS, columns, 24).split("\n") == [
        "Name Fqdn      Members",
        "---- ----      -------",
        "CAS  cas.do... {cas1,...",
        "CAS2 cas.bo... {}",
    ]
    assert as_table(ARRAYS[:1], columns, 24, wrap=True).split("\n") == [
        "Name Fqdn      Members",
        "---- ----      -------",
        "CAS  cas.domai {cas1, ca",
        "     n.tld     s2}",
    ]
    assert as_list(ARRAYS[:1], [named("Fqdn")], 18) == "Fqdn : cas.domain.\n       tld"


def test_a_value_of_several_lines_stands_below_itself() -> None:
    record = Record("X", {"Name": "cas1", "Accounts": "Latest: a\nPrevious: b"})
    assert as_list([record], None) == "Name     : cas1\nAccounts : Latest: a\n           Previous: b"


def test_a_name_cannot_command_the_terminal() -> None:
    assert Toy()('"a`eb`0c"; @{n="x`e[2J"} | fl') == "a?b?c\n\nn : x?[2J"


def test_json_of_many_objects_is_one_array() -> None:
    assert [array["Name"] for array in json.loads(Toy()("Get-Array | ConvertTo-Json"))] == ["CAS", "CAS2"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("Get-Arr", ["Get-Array"]), ("get\u2013arr", ["Get-Array"]), ("Get-Array | new-a", ["New-Array"]),
        ("$x = Get-Arr", ["Get-Array"]), ("1 | % { Get-Arr", ["Get-Array"]), ("New-Array -Fq", ["-Fqdn"]),
        ("New-Array\n  -Fq", ["-Fqdn"]), ("New-Array -Name -x -Na", []),
        ("New-Array -Site ", ["Bonn", "'Bad Oeynhausen'"]),
        ("New-Array -Site 'ba", ["'Bad Oeynhausen'"]), ("New-Array -Mode un", ["Unattended"]),
        ("New-Array -Enabled ", ["$true", "$false"]), ("Remove-Array ", ["CAS", "CAS2"]),
        ("Remove-Array CAS ", []), ("Remove-Array CAS,", ["CAS,CAS", "CAS,CAS2"]), ("echo $tr", ["$true"]),
        ("Get-Help New-A", ["New-Array"]), ("Unknown -", []), ("", None), ("Get-Array -ErrorA", ["-ErrorAction"]),
        ("Get-Array -ErrorAction S", ["Stop", "SilentlyContinue"]), ("# Get-Arr", None), ("'Get-Arr", []),
    ],
)  # fmt: skip
def test_what_is_offered_fits(typed: str, offered: list[str] | None) -> None:
    toy = Toy()
    registry = toy.session.registry

    def names(kind: str) -> list[str]:
        own = {"cmdlet": [cmdlet.name for cmdlet in registry.all()], "variable": ["true", "x"]}
        return own.get(kind) or list(toy.registry().names(kind))

    found = [completion.text for completion in complete(typed, registry, names)]
    assert (len(found) > 20) if offered is None else found == offered
