"""Service principal names in a real MIT realm, where each is a principal of its own."""

import json
from typing import Any

import pytest
from tests.app.kerberos.fake_agents import FakeAgents
from tests.faces.test_nouns import nobody
from typer.testing import CliRunner

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.core.config import KerberosSettings
from casarray.core.directory.model import Array, Directory, Server, Site
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World
from casarray.lab.mit_kdc import ADMINISTRATOR, MitKdc

pytest.importorskip("krb5", reason="pykrb5 is not installed")
from casarray.adapters.kerberos.mit_realm import MitRealm

pytestmark = pytest.mark.root

DIRECTORY = Directory().put(
    Site("Paderborn"),
    Server("cas1", "cas1.mit.example", "Paderborn"),
    Array("CAS", "cas.mit.example", "Paderborn", settings={"profile": "mail"}),
)
WANTED = [f"{service}/cas.mit.example" for service in ("imap", "pop", "smtp")]


class Place:
    """The command line over the realm; its one member answers nobody."""

    def __init__(self, kdc: MitKdc) -> None:
        settings = KerberosSettings(account="asa", principal=ADMINISTRATOR, keytab=str(kdc.administrator))
        self.realm = MitRealm(kdc.realm, settings)
        self.world = World(
            connect=nobody,
            run=nobody,
            remove=nobody,
            survey=nobody,
            environment={},
            open_store=lambda _: MemoryDirectory(DIRECTORY),
            kerberos=lambda: settings,
            open_realm=lambda: MitRealm(kdc.realm, settings),
            agents=FakeAgents,
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run one command: what it printed."""
        environment = {"COLUMNS": "240", "TERM": "dumb", "NO_COLOR": "1"}
        result = CliRunner().invoke(cli, list(arguments), obj=self.world, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    def json(self, *arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(cli, [*arguments, "--json"], obj=self.world)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def place(kdc: MitKdc) -> Place:
    return Place(kdc)


def test_names_are_set_audited_and_withdrawn(place: Place) -> None:
    assert [one["kind"] for one in place.json("spn", "audit", code=1)["findings"]] == ["account"]
    place.realm.create("asa", AccountKind.COMPUTER, AES)
    assert [one["kind"] for one in place.json("spn", "audit", code=1)["findings"]] == ["missing"] * 3
    assert "3 changes would be made" in place("spn", "plan", "--without-agents")
    said = place("spn", "apply", "--yes", "--without-agents")
    assert "3 changes made, and read back" in said
    assert "roll the password right afterwards" in said
    assert sorted(place.realm.account("asa").names) == WANTED
    assert place.json("spn", "audit")["visible"] == 0
    assert [one["account"] for one in place.json("spn", "find", "cas.mit.example")["owners"]] == ["asa"] * 3
    place("spn", "apply", "--withdraw", "--yes")
    assert place.realm.account("asa").names == ()


def test_a_principal_made_by_hand_is_taken_over(place: Place, kdc: MitKdc) -> None:
    place.realm.create("asa", AccountKind.COMPUTER, AES)
    kdc.add_service("imap/cas.mit.example")
    assert "other-owner" in {one["kind"] for one in place.json("spn", "audit", code=1)["findings"]}
    assert "Say --move" in place("spn", "apply", "--yes", code=1)
    place("spn", "apply", "--yes", "--move", "--now")
    assert sorted(place.realm.account("asa").names) == WANTED
    (row,) = json.loads(place("shell", "--json", "-c", "setspn -Q imap/*"))
    assert (row["Name"], row["Account"]) == ("imap/cas.mit.example", "asa")
