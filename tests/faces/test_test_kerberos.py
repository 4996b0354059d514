"""`casarray test kerberos` as people and programs see it."""

import json

import pytest
from tests.app.kerberos.test_proving import IMAP, FakeKnocker, Place
from typer.testing import CliRunner

from casarray.core.kerberos.proof import NoTicket, Trouble
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World


@pytest.fixture
def place() -> Place:
    return Place()


def run(place: Place, *arguments: str) -> tuple[int, str]:
    world = World(
        connect=lambda _: pytest.fail("nobody is asked"),
        run=lambda *_: 0,
        remove=lambda _: (),
        survey=lambda _: (),
        environment={},
        open_store=lambda _: place.desk.directory.store,
        kerberos=lambda: place.settings,
        open_realm=lambda: place.realm,
        agents=lambda: place.agents,
        knocker=lambda: place.knocker,
    )
    result = CliRunner().invoke(cli, ["test", "kerberos", *arguments], obj=world)
    return result.exit_code, result.output


def test_what_is_well_is_said_in_a_line_each(place: Place) -> None:
    code, out = run(place, "--service", "imap")
    assert code == 0
    assert "cas2 imap on 143: takes imap/cas.lab.example by Kerberos and proves it (in)" in out
    assert out.rstrip().endswith("1 ticket, taken 2 times; nothing failed")


def test_what_fails_is_summed_up_with_what_to_do(place: Place) -> None:
    place.knocker.tickets[IMAP] = NoTicket(Trouble.MISSING_NAME, "not found")
    code, out = run(place)
    assert code == 1
    assert "missing-name: imap/cas.lab.example" in out
    assert "  next  casarray spn plan, then casarray spn apply" in out
    assert out.rstrip().endswith("1 ticket, taken 2 times; 1 failed")


def test_json_is_one_document(place: Place) -> None:
    place.knocker.tickets[IMAP] = NoTicket(Trouble.DUPLICATE_NAME, "two")
    code, out = run(place, "--json")
    said = json.loads(out)
    assert (code, said["ok"], said["as"]) == (1, False, FakeKnocker.owner)
    assert {step["trouble"] for step in said["steps"]} == {"duplicate-name", None}
