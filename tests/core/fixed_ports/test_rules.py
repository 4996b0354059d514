"""What is wrong with fixed ports, as findings."""

import pytest
from tests.core.fixed_ports.examples import AB, CAS1, CAS2, MBX1, RPC, codes, says, subject

from casarray.core.fixed_ports.asking import Answers
from casarray.core.fixed_ports.ports import EXCHANGE_RANGE, WINDOWS_RANGE, DynamicRange
from casarray.core.fixed_ports.registry_file import Setting
from casarray.core.fixed_ports.rules import Finding, Known, Severity, differs, judge
from casarray.core.fixed_ports.subject import Subject
from casarray.core.fixed_ports.taken import TAKEN

SET = {RPC: Setting(5001), AB: Setting(5000)}
ALL_RIGHT = {
    "cas1": Known(answers=says("cas1")),
    "cas2": Known(answers=says("cas2")),
    "mbx1": Known(answers=says("mbx1")),
}


def only(findings: tuple[Finding, ...]) -> Finding:
    """The one finding there is."""
    (found,) = findings
    return found


def test_nothing_is_found_where_everything_is_as_wanted() -> None:
    assert judge(subject(), ALL_RIGHT) == ()


def test_nothing_is_found_of_servers_of_which_nothing_is_known() -> None:
    assert judge(subject(), {}) == ()


# Ports.


@pytest.mark.parametrize("port", [135, 389, 443, 1433, 3268, 3269, 5060, 5061, 5985, 6001, 6002, 6004])
def test_a_port_of_another_service_is_named_with_that_service(port: int) -> None:
    found = only(judge(subject(rpc=port), {}))
    assert (found.code, found.severity) == ("port-of-another", Severity.WARNING)
    assert TAKEN[port] in found.text
    assert "5001" in found.do


@pytest.mark.parametrize("port", [6005, 30000, 59533, 65534])
def test_without_the_output_of_netsh_the_range_of_exchange_is_assumed(port: int) -> None:
    found = only(judge(subject(ab=port), {}))
    assert (found.code, found.severity, found.subject) == ("in-dynamic-range", Severity.WARNING, "CAS")
    assert "6005 to 65534" in found.text
    assert "MSExchangeAB" in found.text


def test_the_last_port_is_in_the_range_of_windows() -> None:
    assert "49152 to 65535" in only(judge(subject(ab=65535), {})).text


@pytest.mark.parametrize("port", [5000, 5999, 6000])
def test_a_port_below_the_range_of_exchange_is_not_warned_of(port: int) -> None:
    assert judge(subject(ab=port, rpc=5002), {}) == ()


@pytest.mark.parametrize("port", [59531, 59532, 59533, 60554])
def test_the_ports_of_microsofts_script_come_with_the_mistake_that_led_to_them(port: int) -> None:
    text = only(judge(subject(rpc=port), {})).text
    assert "Set-StaticPorts.ps1" in text
    assert "59530" in text
    assert "65534" in text


def test_other_dynamic_ports_come_without_that_story() -> None:
    assert "Set-StaticPorts" not in only(judge(subject(rpc=50000), {})).text


def test_what_netsh_said_of_a_server_counts_for_that_server() -> None:
    wide = DynamicRange(1025, 64511)
    known = {"cas1": Known(dynamic=WINDOWS_RANGE), "cas2": Known(dynamic=wide), "mbx1": Known(dynamic=WINDOWS_RANGE)}
    found = judge(subject(), known)
    assert codes(found) == [("CAS", "in-dynamic-range"), ("CAS", "in-dynamic-range")]
    assert all("the dynamic range of cas2, 1025 to 65535" in f.text for f in found)


def test_where_netsh_was_asked_everywhere_nothing_is_assumed() -> None:
    known = {name: Known(dynamic=WINDOWS_RANGE) for name in ("cas1", "cas2", "mbx1")}
    assert judge(subject(rpc=6100), known) == ()
    known["cas2"] = Known(dynamic=EXCHANGE_RANGE)
    assert "cas2" in only(judge(subject(rpc=6100), known)).text


def test_servers_without_output_of_netsh_are_assumed_about() -> None:
    known = {"cas1": Known(dynamic=WINDOWS_RANGE)}
    assert "Exchange's setup" in only(judge(subject(rpc=6100), known)).text


# The endpoint mapper.


def test_a_mapper_that_says_another_port_differs() -> None:
    found = judge(subject(), ALL_RIGHT | {"cas2": Known(answers=says("cas2", emsmdb=49731))})
    assert codes(found) == [("cas2", "mapper-differs"), ("CAS", "members-differ")]
    assert "EMSMDB is on 49731, and 5001 is wanted" in found[0].text
    assert "Restart-Service MSExchangeRPC" in found[0].do
    assert "cas1 on 5001; cas2 on 49731" in found[1].text
    assert differs(found)


def test_both_interfaces_of_the_address_book_are_looked_at() -> None:
    found = judge(subject(), ALL_RIGHT | {"cas1": Known(answers=says("cas1", rfr=6123))})
    assert codes(found) == [("cas1", "mapper-differs"), ("CAS", "members-differ")]
    assert "RFR" in found[0].text


def test_a_registry_that_is_right_means_that_the_service_was_not_restarted() -> None:
    cas1 = Known(SET, exported=True, answers=says("cas1", emsmdb=49731))
    assert ("cas1", "not-restarted") in codes(judge(subject(), ALL_RIGHT | {"cas1": cas1}))


def test_a_service_that_is_not_registered_does_not_run() -> None:
    found = judge(subject(), ALL_RIGHT | {"cas1": Known(answers=says("cas1", emsmdb=0))})
    assert codes(found) == [("cas1", "not-registered")]
    assert "Get-Service MSExchangeRPC" in found[0].do


def test_a_server_that_does_not_answer_is_named_with_the_reason() -> None:
    quiet = Answers("cas2", reason="cas2 refuses connections on 135")
    found = judge(subject(), ALL_RIGHT | {"cas2": Known(answers=quiet)})
    assert codes(found) == [("cas2", "no-answer")]
    assert str(found[0]).startswith("cas2: refuses connections on 135; ")
    assert differs(found)


def test_a_port_beside_the_wanted_one_is_noted() -> None:
    both = Answers("cas1", {"EMSMDB": (5001, 6123), "NSPI": (5000,), "RFR": (5000,)})
    found = judge(subject(targets=(CAS1,)), {"cas1": Known(answers=both)})
    assert (codes(found), differs(found)) == ([("cas1", "further-port")], False)


def test_dynamic_ports_that_are_wanted_may_differ() -> None:
    known = {"cas1": Known(answers=says("cas1", 6100, 6200)), "cas2": Known(answers=says("cas2", 6300, 6400))}
    assert judge(subject(None, None, (CAS1, CAS2)), known) == ()


# Public folders.


def test_a_mailbox_server_with_public_folders_on_a_dynamic_port_was_forgotten() -> None:
    found = judge(subject(), ALL_RIGHT | {"mbx1": Known(answers=says("mbx1", emsmdb=49731, nspi=0))})
    assert codes(found) == [("mbx1", "public-folders-forgotten")]
    assert "past the array" in found[0].text
    assert differs(found)


def test_a_mailbox_server_needs_no_port_for_the_address_book() -> None:
    assert judge(subject(targets=(MBX1,)), {"mbx1": Known(answers=says("mbx1", nspi=0))}) == ()


def test_an_export_that_is_missing_for_it_is_missed() -> None:
    known = {"cas1": Known(SET, exported=True), "cas2": Known(SET, exported=True)}
    found = judge(subject(), known)
    assert codes(found, Severity.WARNING) == [("mbx1", "public-folders-forgotten")]
    assert "--export mbx1=FILE" in found[0].do


def test_an_export_that_is_missing_for_a_member_is_missed_unless_its_mapper_answered() -> None:
    one = {"cas1": Known(SET, exported=True), "mbx1": Known({RPC: Setting(5001)}, exported=True)}
    assert codes(judge(subject(), one)) == [("cas2", "member-forgotten")]
    assert judge(subject(), ALL_RIGHT | one | {"cas2": Known(answers=says("cas2"))}) == ()


def test_mailbox_servers_that_nobody_marked_are_noted_together() -> None:
    array = subject()
    marked = Subject(
        array.array, array.fqdn, array.site, array.ports, array.names, array.targets, unmarked=("mbx2", "mbx3")
    )
    found = judge(marked, ALL_RIGHT)
    assert (codes(found, Severity.NOTE), differs(found)) == ([("CAS", "mailbox-server")], False)
    assert "mbx2, mbx3" in found[0].text


# The registry.


@pytest.mark.parametrize(
    ("port", "words"), [(5005, "gives MSExchangeRPC 5005"), (None, "gives MSExchangeRPC a dynamic")]
)
def test_a_registry_that_says_otherwise_differs_though_the_mapper_is_right(port: int | None, words: str) -> None:
    known = {"cas1": Known({RPC: Setting(port)}, exported=True, answers=says("cas1"))}
    found = judge(subject(targets=(CAS1,)), known)
    assert codes(found, Severity.ERROR) == [("cas1", "registry-differs")]
    assert words in found[0].text


def test_a_value_without_effect_is_told_with_what_to_do() -> None:
    known = {"cas1": Known({AB: Setting(None, "f.reg:4: it is REG_DWORD; import the right one")}, exported=True)}
    found = judge(subject(targets=(CAS1,)), known)[0]
    assert (found.code, found.text, found.do) == ("without-effect", "f.reg:4: it is REG_DWORD", "import the right one")


def test_registries_of_members_that_differ_are_compared() -> None:
    known = {
        "cas1": Known({RPC: Setting(5001)}, exported=True),
        "cas2": Known({RPC: Setting(5002)}, exported=True),
    }
    found = judge(subject(targets=(CAS1, CAS2)), known)
    assert codes(found) == [("cas2", "registry-differs"), ("CAS", "members-differ")]


def test_remarks_on_an_export_are_notes() -> None:
    known = {"cas1": Known(SET, remarks=("f.reg: twice",), exported=True)}
    found = judge(subject(targets=(CAS1,)), known)
    assert (codes(found, Severity.NOTE), differs(found)) == ([("cas1", "export-remark")], False)


def test_errors_come_before_warnings_and_warnings_before_notes() -> None:
    known = {"cas1": Known({RPC: Setting(1)}, remarks=("f.reg: twice",), exported=True)}
    order = [f.severity for f in judge(subject(rpc=1433, targets=(CAS1,)), known)]
    assert order == [Severity.ERROR, Severity.WARNING, Severity.NOTE]
