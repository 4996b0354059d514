"""What lines come to: variables, operators, properties, script blocks; and what is too much."""

import pytest
from tests.core.shell.toys import ARRAYS, Toy

from casarray.core.shell.cmdlet import Record, Value
from casarray.core.shell.evaluate import Interpreter
from casarray.core.shell.parser import parse
from casarray.core.shell.registry import Registry
from casarray.core.shell.trouble import Limits, ShellError
from casarray.core.shell.values import wildcard


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("'Paderborn' -eq 'PADERBORN'; 'a' -ceq 'A'; 1 -eq '1'; '1' -eq 1.0; $null -eq ''",
         "True\nFalse\nTrue\nTrue\nFalse"),
        ("'cas1' -like 'CAS*'; 'cas1' -notlike '*2'; 'cas1' -clike 'CAS*'", "True\nTrue\nFalse"),
        ("'cas12' -match '^CAS\\d+$'; 'x' -notmatch 'y'", "True\nTrue"),
        ("1,2 -contains 2; 'A' -in 'a','b'; 3 -notin 1,2; 1,2 -notcontains 2", "True\nTrue\nTrue\nFalse"),
        ("2 -gt 1; 10 -gt '9'; '10' -gt '9'; 'a' -lt 'B'; 1 -ge 1; 1 -le 0", "True\nTrue\nFalse\nTrue\nTrue\nFalse"),
        ("1,2,3,2 -eq 2; 1,2,3 -gt 1", "2\n2\n2\n3"),
        ("$true -and $false -or $true; $true -xor $true; -not (1 -eq 1) -or 1", "True\nFalse\nTrue"),
        ("$false -and (Test-Refusal); $true -or (Test-Refusal)", "False\nTrue"),
        ("1..4 -join ','; -join ('a','b'); 'a,b' -split ','; 'abc' -replace '(b)', '[$1]'", "1,2,3,4\nab\na\nb\na[b]c"),
        ("'{0}: {1,4}|{2,-3}|{{}}' -f 'a', 1, 'b'", "a:    1|b  |{}"),
        ("3..1; 'ab' * 2; (1,2) + 3; ,1 + 2; 7 / 2; 6 / 2; -7 % 3; 1.5 + 1",
         "3\n2\n1\nabab\n1\n2\n3\n1\n2\n3.5\n3\n-1\n2.5"),
        ("$x = 1; $X += 2; $x; ${x}; $y = $z = 4; $y + $z", "3\n3\n8"),
        ("$a = Get-Array; $a.Count; $a[0].Name; $a[-1].Site; $a.Members; $a[5]; $a[0,1].Name",
         "2\nCAS\nBonn\ncas1\ncas2\nCAS\nCAS2"),
        ("(Get-Array).Fqdn; (Get-Array | where Site -eq bonn).Name; @(Get-Array).Count; @().Count; @(1).Count",
         "cas.domain.tld\ncas.bonn.tld\nCAS2\n2\n0\n1"),
        ("$e = @(); $e.Count; $e += 1; $e.Count; $n = $null; $n.Count", "0\n1\n0"),
        ("$h = @{Add='x'; 'two words'=2; n=@{m=5}}; $h.add; $h['ADD']; $h.n.m; $h.'two words'; $h.Count",
         "x\nx\n5\n2\n3"),
        ("'aBc'.ToUpper(); 'abc'.Length; 'abc'.StartsWith('a'); (' x ').Trim()", "ABC\n3\nTrue\nx"),
        ("$b = { $_ * 2 }; 1,2 | % $b", "2\n4"),
        ("$s = 0; 1..4 | % { $s += $_ }; $s", "10"),
        ("1..2 | % { $o = $_; 3..4 | % { \"$o$_\" } }", "13\n14\n23\n24"),
        ("Get-Array | % { \"$($PSItem.Name):$($_.Members.Count)\" }", "CAS:2\nCAS2:0"),
        ("Get-Array -OutVariable kept | Out-Null; $kept.Count", "2"),
    ],
)  # fmt: skip
def test_it_comes_to_what_powershell_makes_of_it(text: str, out: str) -> None:
    assert Toy()(text) == out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$nmae = 1; $name", "line 1, column 12: there is no variable $name; did you mean $nmae?"),
        ("Get-Array -x $typo", "line 1, column 14: there is no variable $typo; assign it first: $typo = ..."),
        ("$_", "line 1, column 1: $_ is there only inside a script block: | ForEach-Object { $_ }"),
        ("$true = 1", "line 1, column 1: $true cannot be assigned; take another name"),
        ("1 / 0", "line 1, column 3: a division by zero"),
        ("1 % 0", "line 1, column 3: a division by zero"),
        ("'a' - 1", 'line 1, column 5: "a" is not a number, which "-" wants'),
        ("'a' -match '('", 'line 1, column 5: "(" is no regular expression: missing ), unterminated subpattern at '
         "position 0; -like takes * and ?"),
        ("'a' -match '(a+)+$'", 'line 1, column 5: "(a+)+$" is no regular expression: a repetition of something that '
         "repeats itself takes too long; -like takes * and ?"),
        ("'{5}' -f 1", "line 1, column 7: {5} has no value; -f was given 1"),
        ("1,(1,2) -gt 1", 'line 1, column 9: "1 2" and "1" cannot be put in order'),
        ("@{a=1;A=2}", 'line 1, column 7: the key "A" stands in this hashtable twice'),
        ("'a'.Foo()", 'line 1, column 5: there is no method "Foo" here; there are ToString(), ToLower(), ToUpper(), '
         "Trim(), StartsWith(), EndsWith(), Contains(), Split()"),
        ("(1,2)['x']", 'line 1, column 6: "x" is no place in an array; the first is [0]'),
        ("1\n Get-Aray",
        'line 2, column 2: there is no cmdlet "Get-Aray"; did you mean Get-Array, New-Array or Get-Variable?'),
        (".\\Mine.ps1 -x", 'line 1, column 1: there is no script ".\\Mine.ps1" here; those of your own are run '
         "by casarray shell -f FILE"),
        ("Xyzzy", 'line 1, column 1: there is no cmdlet "Xyzzy"; Get-Command lists all there are'),
        ("echo 1 | Test-Refusal", "line 1, column 10: Test-Refusal takes nothing from the pipeline"),
        ("\n  Test-Refusal", "line 2, column 3: Test-Refusal: it is against the rules; change the rules"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_place(text: str, said: str) -> None:
    assert Toy().error(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "1..10000000",
        "'x' * 10000000", "(1,2) * 10000000", "$a = 'x' * 4000000; $a + $a", '$a = "x" * 4000000; "$a$a"',
        "$b = { 1 | % $b }; 1 | % $b",
        "$b = {1}; $b = { & $b }; & $b", "1..1000 | % { 1..1000 | % { 1..1000 | % { 1 } } }",
        "1e300 * 1e300 -gt 'x'",
        "$a = 1..1000; " + "$a += $a; " * 20,
        "'a' * 200000 -match 'b'", "'aaa' -match '" + "a*" * 30 + "b'", "$x = 'y' * 3000; 'a' -match $x",
        "9" * 100, "0x" + "f" * 30, "1e99999", "('x' * 4000) -replace 'x', ('y' * 4000)",
        "$a = @(1); " + "$a = @{x=$a;y=$a}; " * 40 + "$a | ConvertTo-Json -Depth 20 | Out-Null",
        "$a = 'x' * 4000000; 1..1000 | % { $a } | Out-String | Out-Null",
        "$a = 'x' * 4000000; 1..1000 | % { @{v=$a} } | ConvertTo-Json | Out-Null",
        "$a = 'x' * 4000000; 1..1000 | select @{n='v';e={$a}} | fl | Out-Null",
        "$a = 'x' * 4000000; 1..1000 | select @{n='v';e={$a}} | ft | Out-Null",
    ],
)  # fmt: skip
def test_too_much_ends_with_an_error(text: str) -> None:
    small = Limits(steps=200_000)
    toy = Toy()
    toy.session._interpreter._limits = small
    assert toy.run(text).failed
    assert all(len(line) < 500 for line in toy.place.err)


def test_integers_beyond_64_bits_become_floating_point_numbers() -> None:
    squares = "$a = 9; " + "$a = $a * $a; " * 6
    assert Toy()(f"{squares} $a; 9223372036854775807 + 1") == "1.1790184577738583e+61\n9.223372036854776e+18"


def test_a_property_that_no_object_has_is_warned_of_once() -> None:
    shell = Toy()
    assert shell("Get-Array | ? { $_.Sitee -eq 'x' }") == ""
    assert shell.place.err == ['WARNING: Array has no property "Sitee"; did you mean Site?']


def test_a_credential_shows_no_password() -> None:
    toy = Toy(interactive=True, answers=["DOM\\admin", "geheim"])
    assert toy('$c = Get-Credential; "$c"; $c.UserName; $c.Password; $c; $c | ConvertTo-Json -Compress; $c | fl') == (
        'DOM\\admin\nDOM\\admin\nSystem.Security.SecureString\n\nDOM\\admin\n\n{"UserName":"DOM\\\\admin"}\n\n'
        "UserName : DOM\\admin\nPassword : System.Security.SecureString"
    )
    assert "geheim" not in "".join(toy.place.out + toy.place.err)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*cas*", "xCASy", True), ("cas?", "cas1", True), ("cas?", "cas", False), ("cas[1-3]*.tld", "cas2.x.tld", True),
        ("cas[1-3]", "cas4", False), ("a*a", "a", False), ("a*a", "aba", True), ("*", "", True), ("*", "abc", True),
        ("**x", "abx", True), ("", "x", False), ("a`*b", "a*b", True), ("a`*b", "axb", False), ("[", "[", True),
        ("*]*", "a]b", True), ("a.c", "abc", False), ("*.tld", "cas.tldx", False), ("[a-]", "-", True),
    ],
)  # fmt: skip
def test_wildcards(pattern: str, text: str, matches: bool) -> None:
    assert wildcard(pattern)(text) == matches


def test_no_wildcard_takes_long() -> None:
    assert not wildcard("*a" * 200 + "b")("a" * 100_000)


def test_the_interpreter_forgets_the_current_object_after_an_error() -> None:
    toy = Toy()
    toy.error("1 | % { Test-Refusal }")
    assert toy.error("$_").endswith("{ $_ }")


def test_an_interpreter_alone_knows_no_cmdlets() -> None:
    class Nobody:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(name)

    alone = Interpreter(Registry(), Nobody())  # type: ignore[arg-type]  # it must not be asked for anything
    assert alone.run(parse("1 + 1")[0]) == (2,)
    with pytest.raises(ShellError, match="there is no cmdlet"):
        alone.run(parse("Get-Array")[0])


def test_objects_are_what_the_cmdlets_gave() -> None:
    toy = Toy(keep=True)
    toy("Get-Array | where Site -eq Bonn")
    found: list[Value] = toy.kept
    assert found == [ARRAYS[1]]
    assert isinstance(found[0], Record)
