"""`autodiscover` on the command line."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

import pytest
from tests.core.directory.example import ORGANISATION
from typer.testing import CliRunner

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.core.autodiscover.publication import Pointer, read_pointer
from casarray.core.autodiscover.request import Request
from casarray.core.autodiscover.response import Settings, User, read_response
from casarray.core.autodiscover.walk import Came, Hop, Problem, Visit, Walked
from casarray.core.config import AutodiscoverSettings
from casarray.core.directory.active_directory import Partitions
from casarray.core.directory.ad_steps import Add, Delete, Modify, Step
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import Asking, World

URL = "https://autodiscover.domain.tld/autodiscover/autodiscover.xml"
CONFIGURATION = "CN=Configuration,DC=d,DC=tld"


def nobody(*_: object) -> NoReturn:
    raise AssertionError("only the directory is asked")


class Forest:
    """`Publications` in a dictionary."""

    partitions = Partitions("DC=d,DC=tld", CONFIGURATION, f"CN=Schema,{CONFIGURATION}", "DC=d,DC=tld")

    def __init__(self) -> None:
        self.there: dict[str, Pointer] = {}

    def pointers(self) -> Sequence[Pointer]:
        return list(self.there.values())

    def perform(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Add) and (pointer := read_pointer(step.dn, step.values)) is not None:
                self.there[step.dn] = pointer
            elif isinstance(step, Modify):
                self.there[step.dn] = replace(self.there[step.dn], urls=step.edits[0].come)
            elif isinstance(step, Delete):
                self.there.pop(step.dn, None)


class Place:
    def __init__(self) -> None:
        self.forest = Forest()
        self.asked: list[tuple[Request, Sequence[str], Asking]] = []
        cas = ORGANISATION.arrays["cas"]
        told = replace(cas, settings={**cas.settings, "published": ["mail.domain.tld"]})
        self.store = MemoryDirectory(ORGANISATION.put(told))
        self.settings = AutodiscoverSettings(url=URL, redirects=("old@domain.tld = alice@domain.tld",))

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        around = World(
            connect=nobody,
            run=nobody,
            remove=nobody,
            survey=nobody,
            environment={},
            open_store=lambda _: self.store,
            autodiscover=lambda: self.settings,
            discover=self._discover,
            publications=self._publications,
            run_autodiscover=lambda path, as_json: 7 if (path, as_json) == ("x.toml", True) else 1,
        )
        environment = {"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"}
        result = CliRunner().invoke(
            cli, ["autodiscover", *arguments], input=stdin, obj=around, env=environment, prog_name="casarray"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    @contextmanager
    def _publications(self) -> Iterator[Forest]:
        yield self.forest

    def _discover(self, request: Request, urls: Sequence[str], asking: Asking) -> Walked:
        self.asked.append((request, urls, asking))
        came = Came(problem=Problem.CONNECT, detail="cannot be reached: refused", seconds=0.002)
        hop = Hop(Visit("POST", URL), came, came.detail, ok=False)
        asking.tell(hop)
        if request.address == "nobody@domain.tld":
            return Walked(None, (hop,))
        return Walked(Settings(User("Alice", "/o=O", "alice@domain.tld")), (hop,), URL, request.address)


@pytest.fixture
def place() -> Place:
    return Place()


def test_show_says_what_a_user_is_told_and_what_is_wrong_with_it(place: Place) -> None:
    code, out, _ = place("show", "alice@domain.tld")
    assert code == 0
    assert "  Server             cas.domain.tld\n" in out
    assert "  Server             mail.domain.tld\n" in out
    place.store = MemoryDirectory(ORGANISATION)
    assert "note: clients of the array CAS are not told of RPC over HTTP" in place("show", "alice@domain.tld")[1]


def test_show_xml_is_what_travels(place: Place) -> None:
    _, out, _ = place("show", "alice@domain.tld", "--xml")
    found = read_response(out.encode())
    assert isinstance(found, Settings)
    assert found.user.address == "alice@domain.tld"


def test_show_json_names_the_kind(place: Place) -> None:
    _, out, _ = place("show", "old@domain.tld", "--json")
    assert json.loads(out)["answer"] == {"kind": "redirect-address", "address": "alice@domain.tld"}


def test_show_of_nobody_ends_with_1(place: Place) -> None:
    code, out, _ = place("show", "nobody@domain.tld")
    assert (code, out) == (1, "error 500: The email address can't be found.\n")


def test_publish_shows_its_plan_and_check_is_content_afterwards(place: Place) -> None:
    code, out, _ = place("check")
    assert code == 1
    assert "no service connection point of the site Paderborn" in out
    code, out, _ = place("publish", "--dry-run", "--array", "CAS")
    assert (code, place.forest.there) == (0, {})
    assert "+ CAS: " in out
    assert "nothing was changed" in out
    assert place("publish", "--array", "CAS")[1].endswith("done\n")
    assert place("check", "--array", "CAS") == (0, "every service connection point says the published URL\n", "")
    assert place("publish", "--array", "CAS")[1] == "nothing to do\n"
    place("unpublish")
    assert place.forest.there == {}


def test_without_a_url_it_says_where_to_write_it(place: Place) -> None:
    place.settings = AutodiscoverSettings()
    code, _, err = place("publish")
    assert code == 1
    assert "set url under [autodiscover], or give --url" in err
    assert place("publish", "--url", URL)[0] == 0


def test_ask_shows_each_stop_and_takes_the_password_from_standard_input(place: Place) -> None:
    code, out, _ = place("ask", "alice@domain.tld", "--user", "alice", stdin="secret\n")
    assert code == 0
    assert f"no  POST {URL}: cannot be reached: refused (2 ms)\n" in out
    assert "Alice <alice@domain.tld>" in out
    assert "secret" not in out
    assert [asking.password for _, _, asking in place.asked] == ["secret"]


def test_ask_in_vain_ends_with_1(place: Place) -> None:
    code, _, err = place("ask", "nobody@domain.tld", "--json")
    assert code == 1
    assert "nobody tells clients of nobody@domain.tld their settings" in err


def test_run_hands_over_the_configuration(place: Place) -> None:
    assert place("run", "-c", "x.toml", "--json")[0] == 7
