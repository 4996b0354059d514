"""`casarray test outlook` as people and programs see it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.app.cmdlets.test_outlook import FINE, PASSWORD, WRONG, FakeWalker, directory
from typer.testing import CliRunner

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.core.outlook.verdicts import Scenario, Step, Trouble, troubled
from casarray.core.outlook.wish import Depth
from casarray.faces.cli.app import cli
from casarray.faces.cli.outlook_test import sparkline
from casarray.faces.cli.world import World

USER = "administrator@domain.tld"
NTLM = troubled(FINE, Trouble.NTLM, detail="the KDC knows no exchangeMDB/cas.domain.tld")


def run(walker: FakeWalker, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    world = World(
        connect=lambda _: pytest.fail("nobody is asked"),
        run=lambda *_: 0,
        remove=lambda _: (),
        survey=lambda _: (),
        environment=environment or {},
        open_store=lambda _: MemoryDirectory(directory()),
        outlook_walker=lambda: walker,
    )
    result = CliRunner().invoke(cli, ["test", "outlook", *arguments], obj=world)
    return result.exit_code, result.output


def test_each_step_is_a_line_and_what_is_well_ends_well() -> None:
    code, out = run(FakeWalker(FINE))
    assert code == 0
    (line, last) = (line for line in out.splitlines() if line)
    assert " ".join(line.split()) == "Success CAS cas.domain.tld:135 Endpoint mapper 3.0 ms EMSMDB on 5001"
    assert last == "1 step; nothing failed"


def test_what_failed_is_summed_up_with_why_and_what_to_do() -> None:
    code, out = run(FakeWalker(FINE, WRONG))
    assert code == 1
    assert "rfr-name: CAS, RFR" in out
    assert "  users they open the address book at cas1.domain.tld" in out
    assert "  next  look at RpcClientAccessServer" in out
    assert out.rstrip().endswith("2 steps; 1 failed")


def test_a_warning_is_summed_up_and_no_failure() -> None:
    code, out = run(FakeWalker(NTLM))
    assert code == 0
    assert "ntlm: CAS, Endpoint mapper" in out
    assert "not by Kerberos (the KDC knows no exchangeMDB/cas.domain.tld)" in out


def test_json_is_one_document() -> None:
    code, out = run(FakeWalker(FINE, WRONG), "--json")
    said = json.loads(out)
    assert (code, said["ok"]) == (1, False)
    assert [step["trouble"] for step in said["steps"]] == [None, "rfr-name"]
    assert said["steps"][0]["scenario"] == Scenario.MAPPER
    assert said["steps"][1]["latency_ms"] == 4.5


def test_options_say_what_is_tested() -> None:
    walker = FakeWalker(FINE)
    code, _ = run(
        walker,
        *(USER, "--array", "CAS", "--protocol", "http", "--auth", "kerberos", "--test", "self", "--each-member"),
        *("--outside-dns", "192.0.2.53", "--proxy", "mail.domain.tld", "--no-autodiscover", "--timeout", "3"),
    )
    assert code == 0
    wish, means, _ = walker.asked[0]
    assert (wish.user, wish.array, wish.http, wish.logon, wish.depth) == (USER, "CAS", True, "kerberos", Depth.SELF)
    assert (wish.each_member, wish.outside, wish.proxy, wish.discover) == (True, True, "mail.domain.tld", False)
    assert (means.outside_dns, means.timeout_seconds) == ("192.0.2.53", 3.0)


@pytest.mark.parametrize("option", ["--protocol", "--auth", "--test", "--rpc-test", "--proxy-auth"])
def test_a_word_that_an_option_does_not_know_is_wrong_usage(option: str) -> None:
    code, out = run(FakeWalker(FINE), option, "sesame")
    assert code == 2
    assert "sesame" in out


def test_a_password_comes_from_a_file_or_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nsomething else\n")
    for arguments, environment in (
        (("--password-file", str(file)), {}),
        ((), {"CASARRAY_PASSWORD": PASSWORD}),
    ):
        walker = FakeWalker(FINE)
        code, out = run(walker, USER, *arguments, environment=environment)
        assert code == 0, out
        means = walker.asked[0][1]
        assert (means.log_on.user, means.log_on.password) == (USER, PASSWORD)
        assert PASSWORD not in out
        assert PASSWORD not in repr(means)


def test_without_a_password_tickets_are_to_do_and_for_ntlm_one_has_to_be_asked_for() -> None:
    walker = FakeWalker(FINE)
    assert run(walker, USER)[0] == 0
    assert walker.asked[0][1].log_on.password == ""
    walker = FakeWalker(FINE)
    result = run(walker, USER, "--auth", "ntlm")
    assert result[0] == 1
    assert walker.asked == []


def test_watching_draws_latency_and_failures_of_each_step() -> None:
    code, out = run(FakeWalker(FINE, WRONG), "--watch", "0.01", "--rounds", "3")
    assert code == 1
    assert "last 3 rounds" in out
    row = next(line for line in out.splitlines() if line.startswith("CAS     RFR"))
    assert "✗✗✗" in row
    assert row.split()[3:6] == ["-", "-", "3"]
    fine = next(line for line in out.splitlines() if line.startswith("CAS     Endpoint mapper"))
    assert "███" in fine


def test_watching_for_programs_is_a_document_each_round() -> None:
    code, out = run(FakeWalker(FINE), "--watch", "0.01", "--rounds", "2", "--json")
    assert code == 0
    said, end = json.JSONDecoder().raw_decode(out)
    again = json.loads(out[end:])
    assert (said["ok"], again["ok"]) == (True, True)
    assert said["at"]


def test_a_sparkline_is_as_high_as_the_latency_and_crossed_where_it_failed() -> None:
    assert str(sparkline([1.0, 8.0, "✗", 4.0])) == "▂█✗▅"
    assert str(sparkline(["✗", "·"])) == "✗·"
    assert str(sparkline([])) == ""
    assert str(sparkline([0.0])) == "▁"


def test_a_step_that_a_round_did_not_get_to_keeps_its_place() -> None:
    class Broken(FakeWalker):
        def test(self, *arguments: Any) -> tuple[Step, ...]:
            super().test(*arguments)
            return (WRONG,) if len(self.asked) == 1 else (FINE,) if len(self.asked) == 2 else (FINE, WRONG)

    _, out = run(Broken(), "--watch", "0.01", "--rounds", "3")
    assert "✗·✗" in next(line for line in out.splitlines() if line.startswith("CAS     RFR"))
    assert "·██" in next(line for line in out.splitlines() if line.startswith("CAS     Endpoint mapper"))
