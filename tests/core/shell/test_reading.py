"""How lines are read: quoting, comments, continued lines, what is pasted from web pages."""

import contextlib
import time

import pytest
from tests.core.shell.toys import Toy

from casarray.core.shell.parser import parse, unfinished
from casarray.core.shell.trouble import ShellError

ARRAY = [("New-Array", [{"Name": "CAS", "Fqdn": "cas.domain.tld", "Site": "Paderborn"}])]


@pytest.mark.parametrize(
    "text",
    [
        "New-Array\n  -Name CAS\n  -Fqdn cas.domain.tld\n  -Site Paderborn",
        "New-Array\r\n  -Name CAS\r\n\r\n  # what clients are told\r\n  -Fqdn cas.domain.tld\r\n  -Site Paderborn\r\n",
        "New-Array `\n -Name CAS `\n -Fqdn cas.domain.tld -Site Paderborn",
        "New-Array `  \n -Name CAS -Fqdn cas.domain.tld -Site Paderborn",
        "New\u2013Array \u2013Name CAS \u2014Fqdn \u201ccas.domain.tld\u201d \u2212Site\xa0\u2018Paderborn\u2019",
        "\ufeffnew-array cas -fqdn cas.domain.tld -site Paderborn".replace("cas ", "CAS "),
        "New-Array <# over\n two lines #> CAS -Fqdn:cas.domain.tld -Site: Paderborn # the end",
        "$p = @{Name='CAS'; Fqdn='cas.domain.tld'\n Site='Paderborn'}; New-Array @p",
        "New-Array -Site Paderborn -Fq cas.domain.tld CAS",
        "& 'New-Array' CAS -Fqdn cas.domain.tld -Site Paderborn",
    ],
)
def test_each_way_to_write_a_command_means_the_same(text: str) -> None:
    shell = Toy()
    shell(text)
    assert shell.calls == ARRAY


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("'it''s $x `n'", "it's $x `n"),
        ('$x = 1; "it""s $x `$x `"q`" $($x + 1)"', 'it"s 1 $x "q" 2'),
        ('$a = Get-Array; "$a.Name is $($a[0].Name), not ${a}"', "CAS CAS2.Name is CAS, not CAS CAS2"),
        ('"a`tb`nc"', "a b\nc"),
        ("\u201eDeutsch\u201c", "Deutsch"),
        ("@'\n$x 'y'\n  '@ no\n'@", "$x 'y'\n  '@ no"),
        ('$x = 1\n@"\n"$x" $($x + 1)\n"@', '"1" 2'),
        ("@'\n'@ + 'x'", "x"),
        ("echo a\"b c\"d 'e'", "ab cd\ne"),
        ("echo 5 007 '5' 1kb", "5\n7\n5\n1024"),
        ("$s = 'srv'; echo \\\\$s\\share $s.Length", "\\\\srv\\share\n3"),
        ("echo DOM\\acct$ 10.11.0.0/24 *mail* a=b", "DOM\\acct$\n10.11.0.0/24\n*mail*\na=b"),
        ("1; 2;; 3\n\n4", "1\n2\n3\n4"),
        ("1,2,\n3 |\n  measure |\n  select -exp Count", "3"),
        ("1,2\n| measure\n| select -exp Count", "2"),
        ("(1,\n2).Count", "2"),
        ("-5 + 3; - 2; -not 0; !1", "-2\n-2\nTrue\nFalse"),
        ("1 + 2 * 3 - 4 / 2; 7 % 3; (1 + 2) * 3; 10MB; 0xff; 1.5e1", "5\n1\n9\n10485760\n255\n15"),
    ],
)
def test_text_and_numbers_are_what_powershell_takes_them_for(text: str, out: str) -> None:
    assert Toy()(text) == out


def test_a_script_with_parameters_and_a_native_command_are_commands() -> None:
    shell = Toy()
    shell(".\\roll.ps1 -ToArrayMembers *mailbox*,x -Name CAS; setspn -S http/cas.domain.tld DOM\\acct$")
    assert shell.calls == [
        ("Roll", [{"ToArrayMembers": ("*mailbox*", "x"), "Name": "CAS"}]),
        ("Setspn", [{"S": True, "Spn": "http/cas.domain.tld", "Account": "DOM\\acct$"}]),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Get-Array |", "line 1, column 11: a command is missing after the last |"),
        ("echo 'abc", "line 1, column 6: this quote is never closed; end the string with '"),
        ('1\n  echo "abc', 'line 2, column 8: this quote is never closed; end the string with "'),
        ("@'\nabc", "line 1, column 1: this here-string is never closed; end it with '@ on a line of its own"),
        ("echo (1,2", 'line 1, column 6: the "(" has no ")"'),
        ("echo (1}", 'line 1, column 8: "}" cannot stand here; the "(" of line 1, column 6 wants its ")"'),
        ("echo @{a=1", 'line 1, column 6: the "@{" has no "}"'),
        ("@{a}", "line 1, column 4: a hashtable wants Key = value here"),
        ("}", 'line 1, column 1: this "}" closes nothing; take it away, or open it before'),
        ("<# abc", "line 1, column 1: this comment does not end; close it with #>"),
        ("-Name CAS", "line 1, column 1: a statement cannot begin with a parameter; write it behind its command, or "
         "end the line before with a backtick"),
        ("if (1) { 2 }", 'line 1, column 1: "if" is not known here: there is no programming in this shell but '
         "Where-Object { ... } and ForEach-Object { ... }"),
        ("foreach ($x in 1,2) { $x }", 'line 1, column 1: "foreach" is not known here: there is no programming in '
         "this shell but Where-Object { ... } and ForEach-Object { ... }"),
        ("Get-Array > x.txt", 'line 1, column 11: ">" is not known here; write the output of the whole shell into a '
         "file: casarray shell -c '...' > file"),
        ("Get-Array && x", 'line 1, column 11: "&&" is not known here; write ";", or each command on its own line'),
        ("$x -eqq 3", 'line 1, column 4: there is no operator "-eqq"; did you mean -eq, -ieq or -ceq?'),
        ("$x.Name = 3", "line 1, column 9: only variables can be assigned: $name = ...; an object is changed by its "
         "Set- cmdlet"),
        ("x = 3", "line 1, column 1: to assign, write $x = ..."),
        ("$env:PATH", 'line 1, column 1: there is no "$env:" here; write the value itself, or assign it to a variable '
         "first"),
        ("1 | $x", 'line 1, column 5: after "|" comes a command; put work with each object into ForEach-Object '
         "{ ... }"),
        ("[int]5", "line 1, column 1: types like [string] are not known here; write the value without it"),
        ("(abc def) + ghi", 'line 1, column 13: "ghi" is not a value; put text in quotes, and a command in ( )'),
        ("New-Array -Name:", "line 1, column 17: a value is missing after -Name:"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place_and_what_would_be_right(text: str, said: str) -> None:
    shell = Toy()
    assert shell.error(text) == said
    assert not shell.place.out


def test_nothing_of_an_input_is_run_when_its_end_cannot_be_read() -> None:
    shell = Toy()
    shell.error("New-Array CAS -Fqdn x\n'abc")
    assert shell.calls == []


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("Get-Array |", True), ("Get-Array `", True), ("'abc", True), ("@{", True), ("{ $_", True), ('@"\nabc', True),
        ("$x =", True), ("1,", True), ("1 +", True), ("<#", True), ("echo $(", True), ("Get-Array", False),
        ("", False), ("}", False), ("if", False), ("'abc' 'def", False), ("echo 'abc' 'def", True),
    ],
)  # fmt: skip
def test_a_prompt_asks_for_more_where_more_could_make_it_right(text: str, more: bool) -> None:
    assert unfinished(text) == more


@pytest.mark.parametrize("deep", ["(", "@(", "$(", "{", "@{a=", '"$(', "$a=", "$x[", "!(", "echo (", "%{"])
def test_deep_nesting_is_refused(deep: str) -> None:
    with pytest.raises(ShellError):
        parse(deep * 5000)


def test_what_is_long_but_flat_is_read_in_a_moment() -> None:
    started = time.monotonic()
    long = [
        "+".join("1" * 20_000), ",".join("1" * 20_000), "$x" + ".a" * 20_000, "!" * 20_000 + "1",
        "echo " + "a" * 1_000_000,
        "'" + "a" * 1_000_000 + "'", "\n" * 1_000_000, "# " + "x" * 1_000_000, "Get-Array\n" * 10_000, "`\n" * 100_000,
        "<#" + "#" * 1_000_000, "-" * 100_000, "$" * 1_000_000, "\u2013" * 100_000, "1.." * 100_000, "|" * 100_000,
    ]  # fmt: skip
    for text in long:
        with contextlib.suppress(ShellError):
            parse(text)
    assert time.monotonic() - started < 10


def test_a_script_that_is_too_long_is_refused() -> None:
    with pytest.raises(ShellError, match="longer than 16,000,000 characters"):
        parse(" " * 16_000_001)
