"""A session at the shell: questions, -WhatIf, errors that end it or not, leaving."""

import pytest
from tests.core.shell.toys import Toy

from casarray.app.shell import Ran

ASK = '[Y] Yes  [A] Yes to All  [N] No  [L] No to All  (default is "Y"): '


def removed(toy: Toy) -> list[object]:
    """What was removed."""
    return [values["Identity"] for name, done in toy.calls for values in done if name == "Remove-Array"]


def test_what_if_says_what_would_be_done_and_does_nothing() -> None:
    toy = Toy()
    assert toy("Get-Array | Remove-Array -WhatIf") == (
        'What if: Performing operation "Remove-Array" on Target "CAS".\n'
        'What if: Performing operation "Remove-Array" on Target "CAS2".'
    )
    assert removed(toy) == []


@pytest.mark.parametrize("text", ["$WhatIfPreference = $true; Remove-Array CAS", "Remove-Array CAS -wi"])
def test_what_if_may_be_a_preference_and_abbreviated(text: str) -> None:
    toy = Toy()
    assert toy(text).startswith("What if: ")
    assert removed(toy) == []


def test_what_if_can_be_switched_off_again() -> None:
    toy = Toy()
    toy("$WhatIfPreference = $true; Remove-Array CAS -WhatIf:$false -Confirm:$false")
    assert removed(toy) == ["CAS"]


def test_without_a_person_what_wants_to_be_confirmed_is_refused_with_the_way_out() -> None:
    toy = Toy()
    assert toy.error("Remove-Array CAS") == (
        'line 1, column 1: Remove-Array: "Remove-Array" on "CAS" wants to be confirmed, and nobody is here to answer; '
        "add -Confirm:$false"
    )
    assert removed(toy) == []


@pytest.mark.parametrize(
    ("answers", "gone"),
    [
        (["y", "n"], ["CAS"]), (["", "Yes"], ["CAS", "CAS2"]), (["a"], ["CAS", "CAS2"]), (["N", "y"], ["CAS2"]),
        (["L"], []), (["what?", "y", "no"], ["CAS"]), ([], []),
    ],
)  # fmt: skip
def test_a_person_is_asked_for_each_object(answers: list[str], gone: list[str]) -> None:
    toy = Toy(interactive=True, answers=answers)
    toy("Get-Array | Remove-Array")
    assert removed(toy) == gone
    assert set(toy.place.asked) == {ASK}


def test_yes_to_all_counts_for_one_statement_only() -> None:
    toy = Toy(interactive=True, answers=["a", "n"])
    toy("Get-Array | % { Remove-Array $_ }; Remove-Array CAS")
    assert removed(toy) == ["CAS", "CAS2"]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Set-Database DB1", False), ("Set-Database DB1 -Confirm", True), ("Remove-Array CAS -Confirm:$false", False),
        ("$ConfirmPreference = 'None'; Remove-Array CAS", False),
        ("$ConfirmPreference = 'Low'; Set-Database DB1", True),
    ],
)  # fmt: skip
def test_who_is_asked_depends_on_the_impact_and_on_what_was_said(text: str, asks: bool) -> None:
    toy = Toy(interactive=True, answers=["y"])
    toy(text)
    assert bool(toy.place.asked) == asks
    assert len(toy.calls) == 1


def test_what_is_missing_is_asked_for() -> None:
    toy = Toy(interactive=True, answers=["CAS", "cas.domain.tld"])
    toy("New-Array -Site Bonn")
    assert toy.place.err == ["New-Array: supply values for the following parameters:"]
    assert toy.place.asked == ["Name: ", "Fqdn: "]
    assert toy.calls == [("New-Array", [{"Site": "Bonn", "Name": "CAS", "Fqdn": "cas.domain.tld"}])]


def test_a_parameter_list_broken_over_lines_may_be_typed_line_by_line() -> None:
    toy = Toy(interactive=True, answers=["  -Name CAS", "  \u2013Site Bonn", "  -Fqdn cas.domain.tld"])
    toy("New-Array")
    assert toy.calls == [("New-Array", [{"Name": "CAS", "Fqdn": "cas.domain.tld", "Site": "Bonn"}])]


def test_what_may_have_done_something_already_is_not_begun_again() -> None:
    toy = Toy(interactive=True, answers=["-Name CAS"])
    told = toy.error("1 | % { Set-Database DB1; New-Array }")
    assert told == "line 1, column 1: type this again, with all its parameters in one go"
    assert [name for name, _ in toy.calls] == ["Set-Database"]


def test_no_answer_to_what_is_missing_is_an_error() -> None:
    assert Toy(interactive=True).error("New-Array") == "line 1, column 1: New-Array needs -Name and -Fqdn"


def test_an_error_ends_an_input() -> None:
    toy = Toy()
    assert toy.run("echo 1; Test-Refusal; echo 2") == Ran(failed=True)
    assert toy.place.out == ["1"]


@pytest.mark.parametrize(
    ("text", "failed", "told"),
    [
        ("Test-Refusal -ErrorAction SilentlyContinue; echo 2", False, 0),
        ("Test-Refusal -ea Ignore; echo 2", False, 0),
        ("$ErrorActionPreference = 'SilentlyContinue'; Test-Refusal; echo 2", False, 0),
        ("Test-Refusal -ErrorAction Continue; echo 2", True, 1),
    ],
)
def test_an_error_action_lets_it_go_on(text: str, failed: bool, told: int) -> None:
    toy = Toy()
    assert toy.run(text).failed == failed
    assert toy.place.out == ["2"]
    assert len(toy.place.err) == told


def test_an_error_can_be_kept_in_a_variable() -> None:
    assert Toy()("Test-Refusal -ea Ignore -ev why; $why; $?").startswith("Test-Refusal: it is against the rules")


def test_a_session_remembers_variables_and_whether_the_last_statement_went_well() -> None:
    toy = Toy()
    toy("$x = 5")
    toy.error("Test-Refusal")
    assert toy("$?; $x; $?") == "False\n5\nTrue"


@pytest.mark.parametrize(
    ("text", "code"), [("exit", 0), ("exit 3", 3), ("quit; echo no", 0), ("1 | % { exit 4 }", 4), ("exit 256", 0)]
)
def test_exit_leaves_with_its_code(text: str, code: int) -> None:
    toy = Toy()
    assert toy.run(text).leaving == code
    assert toy.place.out == []


def test_verbose_and_warnings_are_told_where_they_are_wanted() -> None:
    toy = Toy()
    toy("Get-Array -Verbose | Out-Null; Get-Array | fl Foo | Out-Null")
    assert toy.place.err == ["VERBOSE: looking", 'WARNING: Array has no property "Foo"']
    toy.place.err.clear()
    toy("Get-Array | fl Foo -WarningAction SilentlyContinue; $WarningPreference = 'SilentlyContinue'; (Get-Array).Foo")
    assert toy.place.err == []


def test_the_screen_can_be_emptied() -> None:
    toy = Toy()
    toy("clear; cls")
    assert toy.place.cleared == 2


def test_objects_are_kept_for_a_program_even_after_a_format() -> None:
    toy = Toy(keep=True)
    toy("Get-Array | fl Name; echo 1")
    assert [getattr(value, "properties", value) for value in toy.kept] == [{"Name": "CAS"}, {"Name": "CAS2"}, 1]
    assert toy.place.out == []


def test_text_and_blocks_are_set_apart() -> None:
    assert Toy()("echo 1; echo 2; Get-Array | ft Name; echo 3") == "1\n2\n\nName\n----\nCAS\nCAS2\n\n3"
