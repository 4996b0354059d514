"""The oracle is the judge of everything else, so it is tried with cases of known guilt."""

import json
from pathlib import Path

import pytest

from casarray.lab.journal import Journal, name_of_dn, name_of_uuid, user, user_dn, user_uuid
from casarray.lab.oracle import Absence, Journals, Sighting, judge, read


def _way(*members: str, by: str = "client") -> tuple[Sighting, ...]:
    return tuple(Sighting(float(10 * at), "user00001", member, by=by) for at, member in enumerate(members))


def test_a_client_that_stays_is_no_story() -> None:
    verdict = judge(Journals(_way("cas1", "cas1", "cas1")))
    assert verdict.held
    assert verdict.home == {"user00001": "cas1"}
    assert not verdict.moves


def test_a_client_that_moves_for_nothing_is_a_violation_with_its_story() -> None:
    verdict = judge(Journals(_way("cas1", "cas1", "cas2")))
    assert not verdict.held
    assert [v.client for v in verdict.violations] == ["user00001"]
    assert "though cas1 was there all the time" in verdict.violations[0].story[-1]


def test_nothing_seen_is_not_a_success() -> None:
    assert not judge(Journals()).held


@pytest.mark.parametrize(
    ("since", "until", "excused"),
    [
        (12.0, 15.0, True),  # between the last sighting on cas1 (10) and the first on cas2 (20)
        (12.0, None, True),
        (0.0, 8.0, True),  # over before the last sighting, yet the gateway did not trust it again so soon
        (0.0, 4.0, False),  # over, and settled, before the client was seen there once more
        (20.5, None, False),  # it went down only after the client had left
    ],
)
def test_only_an_absence_in_between_excuses_a_move(since: float, until: float | None, excused: bool) -> None:
    absences = (Absence("cas1", since, until),)
    verdict = judge(Journals(_way("cas1", "cas1", "cas2"), absences), settle=5)
    assert verdict.held == excused
    assert verdict.moves == ({"user00001": 1} if excused else {})


def test_the_absence_of_another_member_excuses_nothing() -> None:
    assert not judge(Journals(_way("cas1", "cas2"), (Absence("cas2", 0, None), Absence("cas3", 0, None)))).held


def test_coming_back_needs_a_reason_as_well() -> None:
    absences = (Absence("cas1", 5, 8),)
    verdict = judge(Journals(_way("cas1", "cas2", "cas2", "cas1"), absences), settle=1)
    assert [v.at for v in verdict.violations] == [30.0]


def test_what_a_thawed_server_reads_late_is_an_echo() -> None:
    absences = (Absence("cas1", 5, 18),)
    late = Sighting(19.0, "user00001", "cas1", by="server")
    assert judge(Journals((*_way("cas1", "cas2"), late), absences)).held


def test_what_a_client_was_answered_by_a_member_that_is_out_counts() -> None:
    absences = (Absence("cas1", 5, 18),)
    late = Sighting(19.0, "user00001", "cas1", by="client")
    assert not judge(Journals((*_way("cas1", "cas2"), late), absences)).held


def test_a_foreign_handle_is_a_violation_by_itself() -> None:
    assert not judge(Journals(_way("cas1"), mismatches=_way("cas1"))).held


def test_journals_of_all_three_kinds_are_read_together(tmp_path: Path) -> None:
    client, server, fault = (Journal(tmp_path / by, by) for by in ("client", "server", "fault"))
    server("open", member="cas1", client="10.0.0.1")
    server("call", member="cas1", id="user00001", service="rpc", call="EcDoConnectEx", first=True)
    server("call", member="cas1", service="epm", call="inq_if_ids")  # a probe: nobody's sighting
    client("answered", member="cas1", id="user00001", service="rpc")
    client("fault", member="cas1", id="user00001", status=0x1C00001A)
    fault("out", member="cas1", why="killed")
    fault("out", member="cas2", why="drained")
    fault("in", member="cas1", why="killed")
    for journal in (client, server, fault):
        journal.close()
    with (tmp_path / "server").open("a") as cut:
        cut.write('{"at": 1, "by": "ser')
    journals = read(tmp_path.iterdir())
    assert len(journals.sightings) == 2
    assert len(journals.mismatches) == 1
    assert journals.connections == 1
    assert {(a.member, a.until is None) for a in journals.absences} == {("cas1", False), ("cas2", True)}


def test_a_journal_line_is_on_disk_before_the_writer_can_be_killed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "server", member="cas1")
    journal("open", client="10.0.0.1")
    assert json.loads((tmp_path / "j").read_text())["member"] == "cas1"
    journal.close()


def test_a_client_is_known_by_its_dn_and_by_its_uuid() -> None:
    assert name_of_dn(user_dn(user(42))) == name_of_uuid(user_uuid(42)) == "user00042"
    assert not name_of_uuid(None)
