"""Whatever is typed ends in objects or in one `ShellError`: no other exception, and within bounds."""

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.shell.toys import Toy

from casarray.core.shell.complete import complete
from casarray.core.shell.evaluate import Interpreter
from casarray.core.shell.parser import parse, unfinished
from casarray.core.shell.trouble import Limits, ShellError

PIECES = (
    "Get-Array", "New-Array", "Set-Database", "fl", "ft", "select", "where", "%", "sort", "group", "measure", "echo",
    "ConvertTo-Json", "ConvertTo-Csv", "gm", "Out-String", "Get-Help", "gcm", "Get-Variable", " ", " ", " ", " ", "\n",
    "|", "|", ";", ",", "(", ")", "{", "}", "[", "]", "@(", "@{", "$(", "$_", "$x", "$true", "$null", "=", "+=", "+",
    "-", "*", "/", "%", "..", "!", ".", "::", "-eq", "-like", "-match", "-in", "-and", "-not", "-f", "-join",
    "-replace", "-Name", "-Fqdn", "-Property", "-First", "-Last", "-Depth", "-Unique", "-Expand", "-WhatIf", "-?",
    "-Confirm:$false", "Name", "Site", "Members", "*", "CAS", "'", '"', "'a*'", '"$x"', '"$($_.Name)"', "`", "#", "<#",
    "#>", "@'\n", "\n'@", "1", "0", "-1", "1.5", "1e300", "9223372036854775807", "10kb", "0x7f", "\u2013", "\u201c",
    "\u2019", "\xa0", "\ufeff", "$x = ", "Name,Site", "@{n='x';e={$_.Name}}", "{ $_.Site -eq 'Bonn' }", ".Count",
    ".ToUpper()", "[0]", "[-1]", "&", ">", "if", "foreach", "exit", "cls", "Test-Refusal", "\0", "\ud800", "\u0130",
)  # fmt: skip
SMALL = Limits(source=100_000, items=2_000, text=20_000, steps=20_000)

scripts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=15).map(" ".join),
    st.text(max_size=60),
)
checked = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@checked
@given(scripts)
def test_whatever_is_typed_is_run_or_refused_with_its_place(text: str) -> None:
    toy = Toy()
    toy.session._interpreter._limits = SMALL
    ran = toy.run(text)
    if ran.failed:
        assert toy.place.err[-1].startswith("line ")
        assert len(toy.place.err[-1]) < 1500


@checked
@given(scripts, st.integers(0, 60))
def test_whatever_is_typed_can_be_completed(text: str, cut: int) -> None:
    toy = Toy()
    for offered in complete(text[:cut], toy.session.registry, lambda _kind: ["CAS", "Bad Oeynhausen"]):
        assert -len(text) <= offered.start <= 0


@checked
@given(scripts)
def test_what_a_prompt_takes_for_finished_does_not_end_in_the_middle(text: str) -> None:
    if not unfinished(text):
        with contextlib.suppress(ShellError):
            parse(text)


@pytest.mark.parametrize("operator", ["+", "-", "*", "/", "%", "..", "-f", "-eq", "-gt", "-like", "-match", "-join",
                                      "-split", "-replace", "-in", "-contains", "-and"])  # fmt: skip
def test_every_operator_takes_every_kind_of_value_or_refuses_it(operator: str) -> None:
    values: Sequence[str] = (
        "$null", "$true", "0", "-1", "1.5", "1e300", "9223372036854775807", "''", "'abc'", "'5'", "'('", "(1,2)", "@()",
        "@{a=1}", "(Get-Array)[0]", "(Get-Array)", "{ 1 }", "(,(1,2))", "(1e300 * 1e300)",
        "(1e300 * 1e300 - 1e300 * 1e300)",
    )  # fmt: skip
    for left in values:
        for right in values:
            toy = Toy()
            toy.session._interpreter._limits = SMALL
            toy.run(f"{left} {operator} {right}; $r = {left} {operator} {right}; $r[0]; -join $r; $r.Count; $r | sort")


def test_an_interpreter_is_small_where_it_is_told_to_be() -> None:
    toy = Toy()
    assert isinstance(toy.session._interpreter, Interpreter)
    toy.session._interpreter._limits = SMALL
    assert toy.error("1..2001").endswith("an array holds 2,000 items at most")
