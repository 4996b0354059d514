"""Exchange's script, and the alternate service account of a server, typed into the shell as they always were."""

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.app.kerberos.rolled import DAY, MEMBERS, SPN, Forest
from tests.core.shell.toys import Place

from casarray.app.cmdlets import exchange_cmdlets
from casarray.app.cmdlets.kerberos import kerberos_cmdlets
from casarray.app.shell import Session
from casarray.core.errors import Denied
from casarray.core.kerberos.keys import Generation, Key
from casarray.core.shell.registry import Registry

ROLL = ".\\RollAlternateServiceAccountPassword.ps1"
MINE = '-GenerateNewPasswordFor "LAB\\ComputerAccount$"'
STATUS = "Get-ClientAccessServer cas1 -IncludeAlternateServiceAccountCredentialStatus"
ACCOUNT = "ComputerAccount$"


class Typed:
    """A shell in a forest from memory; with answers, somebody sits at it."""

    def __init__(self, *answers: str, **forest: Any) -> None:
        self.forest = Forest(account=ACCOUNT, now=time.time(), **forest)
        desk = self.forest.desk
        registry = Registry((*exchange_cmdlets(desk.directory), *kerberos_cmdlets(desk)))
        self.place = Place(bool(answers), None, list(answers))
        self.session = Session(registry, self.place)

    def __call__(self, text: str) -> str:
        """What it prints; an error fails the test."""
        self.place.err.clear()
        ran = self.session.run(text)
        assert not ran.failed, self.place.err
        out = "\n".join(self.place.out)
        self.place.out.clear()
        return out

    def refused(self, text: str) -> str:
        """The sentence with which it fails."""
        assert self.session.run(text).failed
        return self.place.err[-1]

    @property
    def warnings(self) -> list[str]:
        return [line.removeprefix("WARNING: ") for line in self.place.err if line.startswith("WARNING")]


@pytest.fixture
def typed() -> Typed:
    return Typed()


# The script.


def test_the_line_of_the_manual_rolls_and_tells_it_all(typed: Typed) -> None:
    out = typed(f'{ROLL} -ToEntireForest -GenerateNewPasswordFor "Contoso\\ComputerAccount$" -Verbose')
    shown = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", out)
    shown = re.sub(r"after \d+s", "after SECONDS", shown)
    asa = "LAB\\ComputerAccount$"
    assert [re.sub(r" {2,}", "  ", line) for line in shown.splitlines() if line] == [
        "Started: TIME",
        "Destination servers: ber1, cas1, cas2",
        "Keys of LAB\\ComputerAccount$, newest first: 4, 3",
        "StructuralObjectClass QualifiedUserName  LastPasswordUpdate  SPNs",
        "--------------------- -----------------  ------------------  ----",
        f"computer  LAB\\ComputerAccount$ TIME {{{SPN}}}",
        "Array Identity AlternateServiceAccountConfiguration",
        "----- -------- ------------------------------------",
        *(
            f"{array}  {name}  Latest: TIME, {asa} (key 4) Previous: TIME, {asa} (key 3)"
            for array, name in (("BER", "ber1"), ("CAS", "cas1"), ("CAS", "cas2"))
        ),
        "Finished: TIME, after SECONDS",
        f"The script has succeeded: {asa} has a new password, and every member that takes part has key 4.",
    ]
    assert typed.forest.is_right()
    told = [line.removeprefix("VERBOSE: ") for line in typed.place.err if line.startswith("VERBOSE")]
    assert "set the password in the directory" in told
    assert typed.warnings == [
        "Contoso\\ComputerAccount$ was typed; what is rolled is LAB\\ComputerAccount$, of LAB.EXAMPLE"
    ]
    assert typed.forest.log.numbers == [14001, 14003]


@pytest.mark.parametrize(
    "line",
    [
        ".\\rollALTERNATEserviceaccountpassword.PS1 -ToEntireForest " + MINE,
        ".\\RollAlternateserviceAccountCredential.ps1 -ToEntireForest " + MINE,
        "RollAlternateServiceAccountPassword.ps1 -toentireforest -gen LAB\\ComputerAccount$",
        '& "C:\\Program Files\\Microsoft\\Exchange Server\\V14\\Scripts\\RollAlternateServiceAccountPassword.ps1" '
        "-ToEntireForest " + MINE,
        f"{ROLL} -ToArrayMembers * {MINE}",
        f"{ROLL} -ToArrayMembers *A*,outlook.berlin.domain.tld {MINE} -Mode Unattended",
        f"{ROLL} -ToSpecificServers -Identity cas1,CAS2.domain.tld,ber* {MINE} -Confirm:$false",
        f"{ROLL} -ToSpecificServers cas* ber1 {MINE}",
    ],
)
def test_every_way_of_writing_it_is_understood(typed: Typed, line: str) -> None:
    typed(line)
    assert typed.forest.is_right()
    assert typed.warnings == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{ROLL} {MINE}", "say where to: -ToEntireForest, -ToArrayMembers NAME or -ToSpecificServers NAME"),
        (f"{ROLL} -ToEntireForest -ToArrayMembers CAS {MINE}", "say where to"),
        (f"{ROLL} -ToEntireForest", "say what to give"),
        (f"{ROLL} -ToEntireForest {MINE} -CopyFrom cas1", "say what to give"),
        (f"{ROLL} -ToEntireForest CAS {MINE}", "-Identity does not go with it"),
        (f"{ROLL} -ToArrayMembers {MINE}", "-ToArrayMembers wants names behind -Identity"),
        (f"{ROLL} -ToArrayMembers *mailbox* {MINE}", 'called "*mailbox*"; there are BER, CAS'),
        (f"{ROLL} -ToSpecificServers mbx1 {MINE}", 'called "mbx1"; there are ber1, cas1, cas2'),
        (f"{ROLL} -ToEntireForest -GenerateNewPasswordFor LAB\\other$", "no array uses the account LAB\\other$"),
        (f"{ROLL} -ToEntireForest {MINE} -Mode Later", 'is nothing for -Mode; write Attended or Unattended'),
        (f"{ROLL} -ToSpecificServers cas1 -CopyFrom mbx1", "mbx1 is no member of an array with a shared account"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_sentence(typed: Typed, line: str, said: str) -> None:
    assert said in typed.refused(line)
    assert typed.forest.is_as_before()


def test_an_unattended_roll_with_a_member_missing_changes_nothing() -> None:
    typed = Typed("y")  # somebody is there, and is not asked
    typed.forest.agents.silent.add("cas2.domain.tld")
    said = typed.refused(f"{ROLL} -ToEntireForest {MINE} -Mode Unattended")
    assert "nothing was changed: cas2 is missing" in said
    assert typed.forest.is_as_before()
    assert typed.place.asked == []


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("", False)])
def test_an_attended_roll_asks_about_a_missing_member(answer: str, goes: bool) -> None:
    typed = Typed(answer)
    typed.forest.agents.silent.add("cas2.domain.tld")
    if goes:
        typed(f"{ROLL} -ToEntireForest {MINE}")
        assert any("cas2 was left out" in text for text in typed.warnings)
    else:
        assert "nobody agreed to go on" in typed.refused(f"{ROLL} -ToEntireForest {MINE}")
        assert typed.forest.is_as_before()
    assert len(typed.place.asked) == 1


def test_members_that_were_not_named_are_not_locked_out_silently(typed: Typed) -> None:
    said = typed.refused(f"{ROLL} -ToSpecificServers cas1 {MINE} -Mode Unattended")
    assert "ber1 uses this account and is none of the targets; cas2 uses" in said
    typed(f"{ROLL} -ToSpecificServers cas1 {MINE} -Except ber1,cas2")
    assert typed.forest.is_right("cas1")


def test_what_if_says_what_would_be_done(typed: Typed) -> None:
    out = typed(f"{ROLL} -ToEntireForest {MINE} -WhatIf")
    assert 'What if: Performing operation "give ber1, cas1, cas2 new keys (number 4)" on Target' in out
    assert typed.forest.is_as_before()
    assert typed.forest.log.numbers == []


def test_confirm_asks_before_anything() -> None:
    typed = Typed("n")
    typed(f"{ROLL} -ToEntireForest {MINE} -Confirm")
    assert typed.forest.is_as_before()
    assert typed.forest.agents.reached == []


def test_a_member_is_given_what_another_holds(typed: Typed) -> None:
    typed.forest.member("cas2").drop(ACCOUNT)
    out = typed(f"{ROLL} -ToSpecificServers cas2 -CopyFrom cas1")
    assert "Destination servers: cas2\n" in out
    assert "copied from cas1" in out
    assert typed.forest.is_right()
    assert typed.forest.account.number == 3


def test_a_scheduled_task_is_a_timer(typed: Typed) -> None:
    out = typed(f'{ROLL} -ToArrayMembers * {MINE} -CreateScheduledTask "Exchange-RollAsa"')
    assert "Nothing was rolled now" in out
    service = typed.forest.clockwork.files["/etc/systemd/system/Exchange-RollAsa.service"]
    assert "account roll ComputerAccount$$ --array BER --array CAS --unattended --older-than 21d\n" in service
    assert typed.forest.is_as_before()


def test_an_unfinished_roll_is_an_error(typed: Typed) -> None:
    typed.forest.member("cas1").fail("confirm", Denied("not now"))
    assert "Run this again to finish it" in typed.refused(f"{ROLL} -ToEntireForest {MINE}")
    assert "was brought to its end" in typed(f"{ROLL} -ToEntireForest {MINE}")


def test_its_help_says_what_it_does(typed: Typed) -> None:
    assert "every member knows first" in typed(f"Get-Help {ROLL}")


# The server's keys.


def test_the_status_of_a_server_is_the_property_that_exchange_has(typed: Typed) -> None:
    out = typed(f"{STATUS} | fl Name,AlternateServiceAccountConfiguration")
    assert re.fullmatch(
        r"\s*Name                                 : cas1\n"
        r"AlternateServiceAccountConfiguration : Latest: \S+ \S+, LAB\\ComputerAccount\$ \(key 3\)\n"
        r"                                       Previous: <Not set>\s*",
        out,
    )
    assert typed.warnings == []


def test_without_the_switch_no_agent_is_asked_and_the_property_is_there(typed: Typed) -> None:
    out = typed("Get-ClientAccessServer cas1 | fl Name,AlternateServiceAccountConfiguration")
    assert "AlternateServiceAccountConfiguration :" in out
    assert typed.warnings == []
    assert typed.forest.agents.reached == []


def test_a_server_that_does_not_answer_is_shown_with_the_reason(typed: Typed) -> None:
    typed.forest.agents.silent.add("cas1.domain.tld")
    typed.forest.member("cas2").drop(ACCOUNT)
    out = typed("Get-ClientAccessServer -IncludeAlternateServiceAccountCredentialStatus | fl Alt*")
    assert "unknown: the agent of cas1.domain.tld does not answer" in out
    assert "Latest: <Not set>" in out


def test_a_password_is_never_shown_because_none_is_kept(typed: Typed) -> None:
    out = typed("Get-ClientAccessServer cas1 -IncludeAlternateServiceAccountCredentialPassword | fl Alt*")
    assert "(key 3)" in out
    assert "the first" not in out
    assert typed.warnings[0].startswith("passwords of shared accounts are kept nowhere")


GIVE = "Set-ClientAccessServer cas2 -AlternateServiceAccountCredential (Get-Credential)"


def test_the_password_that_the_directory_has_gives_a_server_its_keys() -> None:
    typed = Typed("LAB\\ComputerAccount$", "the first")
    typed.forest.member("cas2").drop(ACCOUNT)
    typed(GIVE)
    assert typed.forest.is_right()
    assert typed.warnings == []
    assert all("the first" not in line for line in (*typed.place.out, *typed.place.err))


def test_a_password_that_the_directory_does_not_have_is_pending() -> None:
    typed = Typed("LAB\\ComputerAccount$", "one to come")
    typed(GIVE)
    assert typed.forest.member("cas2").numbers(ACCOUNT) == (4, 3)
    assert "the directory has another password" in typed.warnings[0]
    typed.forest.realm.set_password(typed.forest.account, "one to come")
    assert typed.forest.reads("cas2")


def test_keys_of_a_roll_that_is_under_way_are_not_replaced() -> None:
    typed = Typed("LAB\\ComputerAccount$", "another")
    account = typed.forest.account
    pending = Generation(4, tuple(replace(k, version=4) for k in _other_keys(typed.forest)), 0.0, pending=True)
    typed.forest.member("cas2").hold(ACCOUNT, account.realm, (SPN,), pending)
    assert "is under way or was broken off" in typed.refused(GIVE)
    assert typed.forest.member("cas2").holding(ACCOUNT).of(4) == pending


def _other_keys(forest: Forest) -> tuple[Key, ...]:
    return tuple(replace(key, value=b"x" * len(key.value)) for key in forest.realm.kdc_keys(ACCOUNT))


def test_a_server_forgets_its_keys(typed: Typed) -> None:
    typed("Set-ClientAccessServer cas1 -RemoveAlternateServiceAccountCredentials -WhatIf")
    assert typed.forest.is_right()
    typed("Set-ClientAccessServer cas1 -RemoveAlternateServiceAccountCredentials")
    assert typed.forest.member("cas1").numbers(ACCOUNT) == ()
    assert "no longer reads tickets of ComputerAccount$" in typed.warnings[0]


def test_what_no_ticket_can_need_any_more_is_cleaned_up(typed: Typed) -> None:
    member = typed.forest.member("cas1")
    keys = _other_keys(typed.forest)
    now = time.time()
    holding = member.holding(ACCOUNT)
    live, gone = Generation(2, keys, 0.0, until=now + DAY), Generation(1, keys, 0.0, until=now - 1)
    stray = Generation(9, keys, 0.0, pending=True)
    member.put(replace(holding, generations=(stray, *holding.generations, live, gone)))
    typed("Set-ClientAccessServer cas1 -CleanUpInvalidAlternateServiceAccountCredentials -WhatIf -Verbose")
    assert "VERBOSE: cas1: ComputerAccount$ (key 9) is of no use any more" in typed.place.err
    assert member.numbers(ACCOUNT) == (9, 3, 2, 1)
    typed("Set-ClientAccessServer cas1 -CleanUpInvalidAlternateServiceAccountCredentials")
    assert member.numbers(ACCOUNT) == (3, 2)


def test_nothing_is_cleaned_up_where_no_key_is_the_directorys(typed: Typed) -> None:
    typed.forest.realm.set_password(typed.forest.account, "somebody else's")
    said = typed.refused("Set-ClientAccessServer cas1 -CleanUpInvalidAlternateServiceAccountCredentials")
    assert "cas1 does not hold the key that the directory has" in said
    assert typed.forest.member("cas1").numbers(ACCOUNT) == (3,)


def test_everything_else_about_servers_goes_on_as_before(typed: Typed) -> None:
    typed("Set-ClientAccessServer cas1 -Weight 50")
    assert "Weight : 50" in re.sub(" +", " ", typed("Get-ClientAccessServer cas1 | fl"))
    said = typed.refused("Set-ClientAccessServer cas1 -Weight 5 -RemoveAlternateServiceAccountCredentials")
    assert "-Weight does not go together with what changes keys" in said
    assert typed.forest.is_right()
    assert len(MEMBERS) == 3
