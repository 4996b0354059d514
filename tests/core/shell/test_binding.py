"""How what was typed, and what the pipeline brings, comes to a cmdlet's parameters."""

import pytest
from tests.core.shell.toys import Toy

NEW = "New-Array CAS -Fqdn x"


def bound(text: str, **toy: object) -> dict[str, object]:
    """What the one call got, without what every call here has."""
    shell = Toy(**toy)  # type: ignore[arg-type]  # passed on
    shell(text)
    ((_, (values,)),) = shell.calls
    return {name: value for name, value in values.items() if name not in ("Name", "Fqdn")}


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("-SITE Bonn", {"Site": "Bonn"}),
        ("-si Bonn", {"Site": "Bonn"}),
        ("-Members a,b", {"Members": ("a", "b")}),
        ("-Members a", {"Members": ("a",)}),
        ("-Members (Get-Array)", {"Members": ("CAS", "CAS2")}),
        ("-Mode unattended", {"Mode": "Unattended"}),
        ("-Weight 50", {"Weight": 50}),
        ("-Weight '50'", {"Weight": 50}),
        ("-Enabled $false", {"Enabled": False}),
        ("-Enabled 1", {"Enabled": True}),
        ("-Enabled:$true", {"Enabled": True}),
        ("-Force", {"Force": True}),
        ("-Force:$false", {"Force": False}),
        ("-Force -Site 007", {"Force": True, "Site": "007"}),
        ("-Site $null", {"Site": None}),
        ("-Anything 5", {"Anything": 5}),
        ("-Anything '5'", {"Anything": "5"}),
        ("-Anything @{Add='x'}", {"Anything": {"Add": "x"}}),
        ("-Anything a,5", {"Anything": ("a", 5)}),
        ("-Verbose -ErrorAction Stop -wa Stop -Debug", {}),
        ("-Site -5", {"Site": "-5"}),
        ("-Site @('Bonn')", {"Site": "Bonn"}),
    ],
)
def test_a_value_arrives_as_the_parameter_wants_it(typed: str, values: dict[str, object]) -> None:
    assert bound(f"{NEW} {typed}") == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("New-Array", "line 1, column 1: New-Array needs -Name and -Fqdn"),
        ("New-Array -Name '' -Fqdn x", "line 1, column 1: -Name of New-Array may not be empty"),
        (f"{NEW} -Foce 1", "line 1, column 23: New-Array has no parameter -Foce; did you mean -Force?"),
        (f"{NEW} -Naem 1", "line 1, column 23: New-Array has no parameter -Naem; did you mean -Name?"),
        (f"{NEW} -M x", "line 1, column 23: -M of New-Array could be -Members or -Mode; write more of it"),
        (f"{NEW} -Site", "line 1, column 23: a value is missing after -Site; it takes <string>"),
        (f"{NEW} -Site -Force", "line 1, column 23: a value is missing after -Site; it takes <string>"),
        (f"{NEW} -Mode", "line 1, column 23: a value is missing after -Mode; it takes Attended or Unattended"),
        (f"{NEW} -Mode x", 'line 1, column 23: "x" is nothing for -Mode; write Attended or Unattended'),
        (f"{NEW} -Weight x", 'line 1, column 23: "x" is no whole number, which -Weight takes'),
        (f"{NEW} -Weight 1.5", 'line 1, column 23: "1.5" is no whole number, which -Weight takes'),
        (f"{NEW} -Enabled yes", 'line 1, column 23: "yes" is neither $true nor $false, which -Enabled takes'),
        (f"{NEW} -Site a,b", "line 1, column 23: -Site takes one value, not 2"),
        (f"{NEW} -Site @{{a=1}}", "line 1, column 23: -Site takes text, not a hashtable"),
        (f"{NEW} -Site a -Site b", "line 1, column 31: -Site was given more than once"),
        (f"{NEW} extra", 'line 1, column 23: New-Array does not know what to do with "extra"; it has -Name, -Fqdn, '
         "-Site, -Members, -Mode, -Weight, -Enabled, -Force, -Credential, -Anything"),
        ("Remove-Array CAS -Confirm $false", 'line 1, column 27: Remove-Array does not know what to do with "False"; '
         "a switch takes its value behind a colon, as in -Confirm:$false"),
        ("Get-Array -WhatIf", "line 1, column 11: Get-Array has no parameter -WhatIf; it takes none"),
        ("1,2 | Remove-Array -Identity x", 'line 1, column 7: Remove-Array can take nothing from "1", which came '
         "through the pipeline; it wants something for what was not typed already"),
        ("@{Foo=1} | Set-Database x", 'line 1, column 12: Set-Database can take nothing from '
         '"System.Collections.Hashtable", which came through the pipeline; it wants something for what was not typed '
         "already"),
        (f"{NEW} -ErrorAction Never", 'line 1, column 23: "Never" is nothing for -ErrorAction; write Stop, Continue, '
         "SilentlyContinue, Ignore or Inquire"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_called(text: str, said: str) -> None:
    shell = Toy()
    assert shell.error(text) == said
    assert shell.calls == []


def test_all_objects_of_a_pipeline_reach_a_cmdlet_as_one_batch() -> None:
    shell = Toy()
    shell("Get-Database | Set-Database -Rpc cas.domain.tld")
    assert shell.batches == [3]
    assert shell.calls[0][1] == [{"Rpc": "cas.domain.tld", "Identity": f"DB{n}"} for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "text",
    [
        "'DB1' | Set-Database -Rpc x",
        "Get-Database DB1 | Set-Database -Rpc x",
        "Get-Database | where Name -eq DB1 | select Name | Set-Database -Rpc x",
        "@{Identity='DB1'} | Set-Database -Rpc x",
        "Get-Database DB1 | % { Set-Database $_ -Rpc x }",
        "Get-Database DB1 | % { Set-Database -Identity $_.Name -Rpc x }",
        "Set-Database (Get-Database DB1).Name -Rpc x",
    ],
)
def test_an_identity_comes_by_property_by_value_or_by_hand(text: str) -> None:
    shell = Toy()
    shell(text)
    assert shell.calls == [("Set-Database", [{"Identity": "DB1", "Rpc": "x"}])]


def test_an_empty_pipeline_changes_nothing_and_is_no_error() -> None:
    shell = Toy()
    shell("Get-Database | where Name -eq nobody | Set-Database -Rpc x")
    assert shell.calls == []


def test_what_is_wrong_with_the_parameters_is_said_even_if_the_pipeline_is_empty() -> None:
    assert "no parameter -Foo" in Toy().error("$null | Set-Database -Foo x")


def test_the_user_name_of_a_credential_asks_for_its_password() -> None:
    shell = Toy(interactive=True, answers=["geheim"])
    shell(f"{NEW} -Credential DOM\\admin")
    assert shell.place.asked == ["Password for user DOM\\admin: "]
    assert "geheim" not in repr(shell.calls)
    assert Toy().error(f"{NEW} -Credential DOM\\admin").endswith("run the shell at a terminal")
