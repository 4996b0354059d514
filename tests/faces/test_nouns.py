"""`array`, `database`, `dag`, `site` and the servers of the directory on the command line.

CASARRAY_UPDATE_GOLDEN=1 writes what they print anew.
"""

import json
import os
import re
from pathlib import Path
from typing import NoReturn

import pytest
from tests.core.directory.example import ORGANISATION
from typer.testing import CliRunner

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.stores import DirectoryStore
from casarray.core.directory.changes import same
from casarray.core.directory.model import MAILBOX, Directory
from casarray.core.errors import Unavailable
from casarray.faces.cli import directory_options
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World

GOLDEN = Path(__file__).parent.parent / "golden"


def nobody(*_: object) -> NoReturn:
    raise AssertionError("only the directory is asked")


class Place:
    """A shell at a directory from memory."""

    def __init__(self, directory: Directory = ORGANISATION) -> None:
        self.store = MemoryDirectory(directory)
        self.opened: list[str | None] = []

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run one command: exit code, stdout, stderr."""
        around = World(connect=nobody, run=nobody, remove=nobody, survey=nobody, environment={}, open_store=self._open)
        environment = {"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"}
        result = CliRunner().invoke(
            cli, list(arguments), input=stdin, obj=around, env=environment, prog_name="casarray"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    def _open(self, name: str | None) -> DirectoryStore:
        self.opened.append(name)
        if name == "ldap://nowhere":
            raise Unavailable("ldap://nowhere does not answer")
        return self.store

    @property
    def directory(self) -> Directory:
        return self.store.read().directory

    def is_as_before(self) -> bool:
        return same(self.directory, ORGANISATION) and not self.store.history()


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.mark.parametrize(
    "command",
    [
        "array list", "array list --json", "array show CAS", "array show CAS --json", "database list",
        "database show DB1", "database show DB1 --json", "dag list", "dag show DAG1 --json", "site list",
        "site show Paderborn", "server list --directory", "server show ber1", "server show ber1 --json",
        "array new ULM --fqdn ulm.domain.tld --site ulm --dry-run", "server new cas9.domain.tld --site Ulm --json",
        "database set * --rpc-client-access-server BER",
    ],
)  # fmt: skip
def test_what_a_command_prints_was_reviewed(place: Place, command: str) -> None:
    code, out, err = place(*command.split())
    assert (code, err) == (0, "")
    words = [word.lstrip("-").replace("*", "all") for word in command.split()]
    file = GOLDEN / f"cmdlet-cli-{'-'.join(words)}.txt"
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        file.write_text(out)
    assert out == file.read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("array new X --fqdn x.domain.tld --site Paderborn", "the site Paderborn has the array CAS"),
        ("array new X --fqdn x_!.domain.tld --site Ulm", "is not a host name"),
        ("array new X --fqdn x.domain.tld --site Bonn", 'there is no site "Bonn"'),
        ("array set CAS --fqdn x.domain.tld", "or force it"),
        ("array remove CAS --yes", "or force it"),
        ("array show CAZ", 'there is no client access array "CAZ"; did you mean "CAS"'),
        ("array show *", '"*" means 2 of them'),
        ("array show X*", 'nothing matches "X*"'),
        ("array remove X* --yes", 'nothing matches "X*"'),
        ("database list DB1 --server mbx1", "not both"),
        ("database set DB1 --rpc-client-access-server mbx1", "has no client-access role"),
        ("database set DB1 DB2 --name DB3", "name one"),
        ("database move", "name databases to move"),
        ("database move DB1 --to mbx2", "has no copy on mbx2"),
        ("database remove DB1 --yes", "the mailbox of alice is in it"),
        ("database remove DB2 --json", "say --dry-run or --yes"),
        ("database remove-copy DB1 --server mbx1 --yes", "is the active one"),
        ("dag remove DAG1 --yes", "has servers"),
        ("dag add-server DAG1 cas1", "no mailbox role"),
        ("site add-subnet Ulm 10.20.1.0/24", "overlaps 10.20.0.0/16"),
        ("site add-subnet Ulm 10.300.1.0/24", "is not a subnet"),
        ("site remove Ulm --yes", "is still needed"),
        ("site new ulm", "there is a site Ulm already"),
        ("server new cas9", "give its full name with -Fqdn"),
        ("server set cas1 cas2 --fqdn x.domain.tld", "belong to one server"),
        ("server remove mbx1 --yes", "the database DB1 has a copy on it"),
        ("server take-out mbx1", "no RPC client access"),
        ("server put-back cas1", "has RPC client access already"),
        ("array list --store ldap://nowhere", "ldap://nowhere does not answer"),
    ],
)
def test_what_is_refused_is_one_sentence_and_changes_nothing(place: Place, command: str, said: str) -> None:
    code, out, err = place(*command.split())
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert place.is_as_before()


def test_a_name_with_spaces_is_no_name_of_an_array_here_either(place: Place) -> None:
    code, _, err = place("array", "show", "China CAS Array")
    assert code == 1
    assert "named by its FQDN" in err


@pytest.mark.parametrize(
    "command",
    [
        "array set CAS --fqdn new.domain.tld --force",
        "database move DB1",
        "dag set DAG1 --allow-cross-site",
        "site set Ulm --name Neu-Ulm",
        "server take-out cas*",
        "server remove cas1 --yes",
    ],
)
def test_a_dry_run_shows_what_would_be_done_and_does_nothing(place: Place, command: str) -> None:
    code, planned, _ = place(*command.split(), "--dry-run")
    assert code == 0
    assert place.is_as_before()
    code, done, _ = place(*command.split())
    assert code == 0
    assert done.replace(" made", " would be made") == planned
    assert not place.is_as_before()


def test_whoever_destroys_is_asked(place: Place) -> None:
    code, out, err = place("server", "remove", "cas1", stdin="n\n")
    assert (code, err) == (1, "casarray: nothing was changed\n")
    assert out.startswith("- server cas1\nMake 1 change?")
    assert place.is_as_before()
    assert place("server", "remove", "cas1", stdin="y\n")[0] == 0
    assert "cas1" not in place.directory.servers


def test_nobody_there_to_ask_is_no_yes(place: Place) -> None:
    assert place("server", "remove", "cas1")[0] == 1
    assert place.is_as_before()


def test_several_names_and_wildcards_are_one_change(place: Place) -> None:
    code, out, _ = place("server", "take-out", "cas*", "ber1")
    assert code == 0
    assert out.splitlines()[-1] == "memory:: 3 changes made"
    assert place.store.revision() == "1"


def test_what_is_so_already_is_said(place: Place) -> None:
    code, out, _ = place("database", "set", "*", "--rpc-client-access-server", "CAS")
    assert (code, out.splitlines()[0]) == (0, "memory: holds it so already; nothing to change")


def test_the_trail_has_the_command_as_typed(place: Place) -> None:
    place("array", "new", "ULM 1", "--fqdn", "ulm.domain.tld", "--site", "Ulm", "--address", "10.1.0.1")
    assert [entry.note.what for entry in place.store.history()] == [
        "casarray array new 'ULM 1' --fqdn ulm.domain.tld --site Ulm --address 10.1.0.1"
    ]


def test_the_store_is_the_one_that_was_named_or_the_usual_one(place: Place) -> None:
    place("array", "list")
    place("array", "list", "--store", "sqlite:/x")
    assert place.opened == [None, "sqlite:/x"]


def test_a_whole_organisation_can_be_typed() -> None:
    place = Place(Directory())
    for command in (
        "site new Paderborn --subnet 10.11.0.0/24 --subnet 10.12.0.0/24",
        "site add-subnet Paderborn 10.13.0.0/24",
        "site new Bonn",
        "site move-subnet Bonn 10.13.0.0/24",
        "server new cas1.domain.tld --address 10.12.0.21",
        "server new mbx1.domain.tld --site Paderborn --role mailbox --public-folders",
        "server new mbx2.domain.tld --site Paderborn --role mailbox --role client-access",
        "array new --fqdn cas.domain.tld --site Paderborn --address 10.11.0.100",
        "dag new DAG1 --server mbx1",
        "dag add-server DAG1 mbx2",
        "database new DB1 --server mbx1",
        "database add-copy DB1 --server mbx2",
        "database set-copy DB1 --server mbx2 --preference 1",
        "database move --from mbx1",
        "database remove-copy DB1 --server mbx1 --yes",
        "dag remove-server DAG1 mbx1 --yes",
        "server set mbx2 --weight 50 --no-encryption-required --blocked-client-versions 0.0.0-5.9.9",
        "server remove mbx2 --role client-access --yes",
        "site remove-subnet 10.13.0.0/24 --yes",
        "site remove Bonn --yes",
    ):
        code, out, err = place(*command.split())
        assert (code, err) == (0, ""), command
        assert "warning" not in out, command
    database = json.loads(place("database", "show", "DB1", "--json")[1])
    assert (database["server"], database["told_to_clients"]) == ("mbx2", "cas.domain.tld")
    assert place.directory.servers["mbx2"].roles == (MAILBOX,)
    assert json.loads(place("array", "list", "--json")[1])["arrays"][0]["members"] == ["cas1"]


def test_settings_of_rpc_client_access_and_of_the_server_are_one_change(place: Place) -> None:
    code, out, _ = place("server", "set", "cas1", "--weight", "7", "--maximum-connections", "10", "--name", "cas7")
    assert code == 0
    assert "warning: MaximumConnections is kept, but as in Exchange 2010 nothing enforces it" in out
    server = place.directory.servers["cas7"]
    assert server.rpc_client_access is not None
    assert (server.weight, server.rpc_client_access.maximum_connections) == (7, 10)
    assert server.rpc_client_access.name == "RpcClientAccess"
    assert place.store.revision() == "1"


def test_an_array_gets_its_shared_account_and_the_names_it_is_published_under(place: Place) -> None:
    before = dict(place.directory.arrays["cas"].settings)
    names = ("--published", "mail.domain.tld", "--published", "autodiscover.domain.tld")
    assert place("array", "set", "CAS", "--service-account", "asa$", *names)[0] == 0
    settings = {"service_account": "asa$", "published": ["mail.domain.tld", "autodiscover.domain.tld"]}
    assert dict(place.directory.arrays["cas"].settings) == {**before, **settings}
    assert place("array", "set", "CAS", "--service-account", "", "--published", "")[0] == 0
    assert dict(place.directory.arrays["cas"].settings) == before


def test_long_lists_of_members_are_cut_for_people_and_whole_for_programs() -> None:
    place = Place()
    for number in range(6):
        place("server", "new", f"more{number}.domain.tld", "--site", "Paderborn")
    assert re.search(r"cas1, cas2, more0, more1, more2 and 3 more$", place("array", "list")[1], re.MULTILINE)
    assert len(json.loads(place("array", "list", "--json")[1])["arrays"][0]["members"]) == 8


def test_a_very_long_table_looks_like_a_short_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = place("server", "list", "--directory")[1]
    monkeypatch.setattr(directory_options, "MOST_FITTED", 0)
    assert place("server", "list", "--directory")[1] == fitted


def test_what_others_wrote_cannot_command_the_terminal(place: Place) -> None:
    place("site", "set", "Ulm", "--description", "\x1b[2J\x07red\nline")
    for command in ("site show Ulm", "site set Ulm --description x --dry-run"):
        out = place(*command.split())[1]
        assert "?[2J?red?line" in out
        assert "\x1b" not in out
        assert "\x07" not in out


def test_names_are_completed_from_the_directory() -> None:
    place = Place()
    environment = {
        "_CASARRAY_COMPLETE": "complete_bash",
        "COMP_WORDS": "casarray array show C",
        "COMP_CWORD": "3",
    }
    around = World(
        connect=nobody, run=nobody, remove=nobody, survey=nobody, environment={}, open_store=lambda _name: place.store
    )
    result = CliRunner().invoke(cli, [], obj=around, env=environment, prog_name="casarray")
    assert result.stdout.split() == ["CAS"]
