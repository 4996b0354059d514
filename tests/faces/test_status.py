"""The line about the directory in `casarray status`."""

from dataclasses import replace

from tests.faces.fake_gateway import STATUS

from casarray.app.counters import METRICS
from casarray.app.operations import DirectoryStatus, Status
from casarray.faces.cli.status import directory_line

AWAY = DirectoryStatus("ldap://dc1.domain.tld", False, "dc1.domain.tld does not answer", "4711", 425)


def samples(status: Status) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    return {m.name: list(m.samples(status)) for m in METRICS if m.name.startswith("casarray_directory")}


def test_a_directory_in_reach_is_said_with_its_revision() -> None:
    told = directory_line(DirectoryStatus("embedded", True, "", "17", 0.08)).plain
    assert told == "directory embedded  in reach, seen 80ms ago, revision 17"


def test_a_directory_out_of_reach_is_said_with_the_reason_and_the_age_of_what_is_served() -> None:
    assert directory_line(AWAY).plain == (
        "directory ldap://dc1.domain.tld  OUT OF REACH, going on with what it held 7m5s ago: "
        "dc1.domain.tld does not answer"
    )


def test_the_metrics_say_the_same() -> None:
    label = ("ldap://dc1.domain.tld",)
    assert samples(replace(STATUS, directory=AWAY)) == {
        "casarray_directory_reachable": [(label, 0.0)],
        "casarray_directory_age_seconds": [(label, 425)],
    }


def test_a_gateway_that_serves_its_file_tells_of_no_directory() -> None:
    assert set(map(len, samples(replace(STATUS, directory=None)).values())) == {0}
