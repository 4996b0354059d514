"""The REST API over the stores that need no server: what it tells, changes and refuses."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faces.asking import SERVER, SITE, SUBNET, WHOLE, Client, app_of, desk_of
from tests.faces.fake_gateway import FakeGateway

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.adapters.stores.opening import open_store
from casarray.app.directory import DirectoryService
from casarray.app.stores import DirectoryStore, Note
from casarray.core.directory.changes import difference
from casarray.core.directory.model import Site
from casarray.core.errors import Denied, Unavailable
from casarray.faces.api.bodies import LONGEST_BODY
from casarray.faces.api.desk import Desk


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DirectoryStore:
    return MemoryDirectory() if request.param == "memory" else open_store(f"sqlite:{tmp_path}")


@pytest.fixture
def client(store: DirectoryStore) -> Iterator[Client]:
    with desk_of(store) as desk:
        yield Client(app_of(desk))


@pytest.fixture
async def ask(client: Client) -> Client:
    """A client of a directory with one thing of each kind at least."""
    for path, body in WHOLE:
        answer = await client("POST", path, body)
        assert answer.status == 201, answer.body
    return client


# Every route.


async def test_what_is_made_is_told_with_its_place_and_what_follows_from_it(client: Client) -> None:
    await client("POST", *SITE)
    await client("POST", *SERVER)
    answer = await client("POST", "/v1/arrays", {"fqdn": "cas.domain.tld", "site": "PADERBORN"})
    assert answer.status == 201
    assert answer.headers["location"] == "/v1/arrays/cas"
    assert answer.etag == '"3"'
    told = answer.json
    assert (told["name"], told["site"], told["addresses"]) == ("cas", "Paderborn", [])
    assert told["computed"]["members"] == ["cas1"]
    assert told["computed"]["legacy_exchange_dn"].endswith("/cn=Configuration/cn=Servers/cn=cas.domain.tld")


@pytest.mark.parametrize(("path", "body"), WHOLE)
async def test_each_kind_can_be_listed_and_shown(ask: Client, path: str, body: dict[str, Any]) -> None:
    page = (await ask("GET", path)).json
    assert page["total"] == len(page["items"])
    assert page["next"] is None
    name = body.get("name", "10.11.0.0%2F24")
    shown = await ask("GET", f"{path}/{name}")
    assert shown.status == 200
    assert shown.json in page["items"]
    for field, value in body.items():
        if field != "copies":
            assert shown.json[field] == value


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/sites/paderborn", {"description": "the first one"}),
        ("/v1/subnets/10.11.0.0/24", {"network": "10.11.0.0/16"}),
        ("/v1/servers/CAS1", {"weight": 200, "public_folders": True}),
        ("/v1/arrays/cas", {"addresses": ["10.11.0.101", "2001:db8::1"], "settings": {"profile": "web"}}),
        ("/v1/groups/dag1", {"allow_cross_site_rpc_client_access": True}),
        ("/v1/databases/db1", {"rpc_client_access_server": "cas1.domain.tld"}),
        ("/v1/accounts/anna", {"display_name": "Anna"}),
    ],
)
async def test_each_kind_can_be_changed_whatever_its_capital_letters(
    ask: Client, path: str, change: dict[str, Any]
) -> None:
    answer = await ask("PATCH", path, change)
    assert answer.status == 200, answer.body
    assert {name: answer.json[name] for name in change} == change


async def test_each_kind_can_be_removed_once_nothing_stands_on_it(ask: Client) -> None:
    for path in ("accounts/anna", "databases/DB1", "groups/DAG1", "servers/mbx2", "servers/cas1", "arrays/CAS"):
        answer = await ask("DELETE", f"/v1/{path}")
        assert (answer.status, answer.body) == (204, b""), path
    assert (await ask("DELETE", "/v1/subnets/10.11.0.0%2F24")).status == 204
    assert (await ask("DELETE", "/v1/sites/Paderborn")).status == 204
    about = (await ask("GET", "/v1/directory")).json
    assert set(about["counts"].values()) == {0}


async def test_what_others_stand_on_stays(ask: Client) -> None:
    answer = await ask("DELETE", "/v1/sites/Paderborn?force=true")
    assert answer.status == 409
    assert "the site Paderborn is still needed: the array CAS is in it" in answer.message


async def test_a_database_moves_and_takes_the_array_of_its_site_by_itself(ask: Client) -> None:
    assert (await ask("GET", "/v1/databases/DB1")).json["rpc_client_access_server"] == "cas.domain.tld"
    answer = await ask("POST", "/v1/databases/DB1/move", {"server": "MBX2"})
    assert answer.status == 200
    assert (answer.json["active_server"], answer.json["computed"]["told"]) == ("mbx2", "cas.domain.tld")
    assert (await ask("POST", "/v1/databases/DB1/move", {"server": "mbx2"})).status == 409


async def test_the_directory_as_a_whole_says_what_is_wrong_with_it(store: DirectoryStore, ask: Client) -> None:
    about = (await ask("GET", "/v1/directory")).json
    assert about["store"] == store.name
    assert about["counts"]["servers"] == 2
    assert about["broken"] == []
    service = DirectoryService(store, "somebody")
    snapshot = service.snapshot()
    broken = snapshot.directory.without(snapshot.directory.sites["paderborn"])
    store.change(snapshot, difference(snapshot.directory, broken), Note("somebody", "something"))
    assert "there is no site" in (await ask("GET", "/v1/directory")).json["broken"][0]


async def test_history_says_who_changed_what_by_what(ask: Client) -> None:
    bob = Client(ask.app, {"who": "token"})
    await bob("PATCH", "/v1/servers/cas1", {"weight": 50})
    (entry,) = (await ask("GET", "/v1/directory/history?limit=1")).json["items"]
    assert (entry["who"], entry["kind"], entry["name"]) == ("token", "server", "cas1")
    assert entry["what"] == 'PATCH /v1/servers/cas1 {"weight": 50}'
    assert (entry["before"]["weight"], entry["after"]["weight"]) == (100, 50)


async def test_whoever_comes_by_the_socket_stands_in_the_history_with_his_account(client: Client) -> None:
    await Client(client.app, {"uid": 0})("POST", *SITE)
    await Client(client.app, {"uid": 4_000_000})("POST", "/v1/sites", {"name": "Berlin"})
    items = (await client("GET", "/v1/directory/history")).json["items"]
    assert [entry["who"] for entry in items] == ["4000000", "root"]


async def test_a_renamed_thing_is_found_under_its_new_name_by_all_that_refer_to_it(ask: Client) -> None:
    answer = await ask("PATCH", "/v1/servers/cas1", {"name": "cas9"})
    assert answer.json["name"] == "cas9"
    assert (await ask("GET", "/v1/servers/cas1")).status == 404
    assert (await ask("GET", "/v1/databases/DB1")).json["active_server"] == "cas9"


async def test_rpc_client_access_is_merged_taken_away_and_given_back(ask: Client) -> None:
    await ask("PATCH", "/v1/servers/cas1", {"rpc_client_access": {"maximum_connections": 500}})
    answer = await ask("PATCH", "/v1/servers/cas1", {"rpc_client_access": {"encryption_required": False}})
    assert answer.json["rpc_client_access"]["maximum_connections"] == 500
    answer = await ask("PATCH", "/v1/servers/cas1", {"rpc_client_access": None})
    assert answer.json["computed"]["array"] is None
    assert (await ask("GET", "/v1/arrays/CAS")).json["computed"]["members"] == []
    answer = await ask("PATCH", "/v1/servers/cas1", {"rpc_client_access": {}})
    assert answer.json["computed"]["array"] == "CAS"
    assert answer.json["rpc_client_access"]["maximum_connections"] == 65536


async def test_a_server_that_gets_client_access_is_a_member_and_without_it_none(ask: Client) -> None:
    answer = await ask("PATCH", "/v1/servers/mbx2", {"roles": ["mailbox", "client-access"]})
    assert answer.json["computed"]["array"] == "CAS"
    answer = await ask("PATCH", "/v1/servers/mbx2", {"roles": ["mailbox"]})
    assert (answer.json["rpc_client_access"], answer.json["computed"]["array"]) == (None, None)


async def test_one_key_of_an_arrays_settings_is_taken_away_by_null(ask: Client) -> None:
    await ask("PATCH", "/v1/arrays/CAS", {"settings": {"profile": "web", "slots": 1021}})
    answer = await ask("PATCH", "/v1/arrays/CAS", {"settings": {"slots": None}})
    assert answer.json["settings"] == {"profile": "web"}


async def test_lists_come_in_pages(client: Client) -> None:
    for name in ("delta", "Alpha", "charlie", "bravo"):
        await client("POST", "/v1/sites", {"name": name})
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = (await client("GET", f"/v1/sites?limit=3&after={after}")).json
        assert page["total"] == 4
        seen += [site["name"] for site in page["items"]]
        after = page["next"]
    assert seen == ["Alpha", "bravo", "charlie", "delta"]


# Plans, force, and revisions.


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        ("POST", "/v1/sites", {"name": "Berlin"}, "+ site Berlin"),
        ("PATCH", "/v1/servers/cas1", {"weight": 7}, "~ server cas1: weight: 100 -> 7"),
        ("DELETE", "/v1/accounts/anna", None, "- account anna"),
        ("POST", "/v1/databases/DB1/move", {"server": "mbx2"}, "~ database DB1: active_server: cas1 -> mbx2"),
    ],
)
async def test_a_dry_run_tells_the_plan_and_changes_nothing(
    ask: Client, method: str, path: str, body: object, text: str
) -> None:
    before = (await ask("GET", "/v1/directory")).etag
    answer = await ask(method, f"{path}?dry_run=true", body)
    assert answer.status == 200
    assert [change["text"] for change in answer.json["changes"]] == [text]
    assert answer.etag == before == (await ask("GET", "/v1/directory")).etag


async def test_a_misspelt_dry_run_is_no_change(ask: Client) -> None:
    answer = await ask("DELETE", "/v1/accounts/anna?dryrun=true")
    assert answer.status == 400
    assert answer.message == 'query: dryrun: unknown parameter; did you mean "dry_run"?'
    assert (await ask("GET", "/v1/accounts/anna")).status == 200


async def test_a_name_that_databases_tell_goes_only_by_force(ask: Client) -> None:
    answer = await ask("PATCH", "/v1/arrays/CAS", {"fqdn": "new.domain.tld"})
    assert answer.status == 409
    assert "clients of 1 database would be told a name that is gone (cas.domain.tld): DB1" in answer.message
    assert (await ask("PATCH", "/v1/arrays/CAS?force=true", {"fqdn": "new.domain.tld"})).status == 200


async def test_of_two_that_saw_the_same_revision_one_changes_it(ask: Client) -> None:
    seen = (await ask("GET", "/v1/servers/cas1")).etag
    answers = await asyncio.gather(
        *(ask("PATCH", "/v1/servers/cas1", {"weight": weight}, if_match=seen) for weight in (10, 20))
    )
    assert sorted(answer.status for answer in answers) == [200, 412]
    (winner,) = (answer for answer in answers if answer.status == 200)
    (loser,) = (answer for answer in answers if answer.status == 412)
    assert loser.json["error"]["kind"] == "MovedOn"
    assert f"is at {winner.etag} now: look at it again" in loser.message
    assert (await ask("GET", "/v1/servers/cas1")).json["weight"] == winner.json["weight"]


async def test_a_counter_that_two_clients_count_up_loses_nothing(ask: Client) -> None:
    async def count(times: int) -> None:
        while times:
            seen = await ask("GET", "/v1/servers/cas1")
            change = {"weight": seen.json["weight"] + 1}
            times -= (await ask("PATCH", "/v1/servers/cas1", change, if_match=seen.etag)).status == 200

    await asyncio.gather(count(8), count(8))
    assert (await ask("GET", "/v1/servers/cas1")).json["weight"] == 116


async def test_somebody_who_is_faster_between_look_and_change_is_noticed() -> None:
    class Overtaken(MemoryDirectory):
        """Somebody else changes it right before each change of ours, once armed."""

        armed = False

        def change(self, snapshot: Any, changes: Any, note: Any) -> None:
            if self.armed:
                self.armed = False
                now = self.read()
                super().change(now, difference(now.directory, now.directory.put(Site("Berlin"))), note)
            super().change(snapshot, changes, note)

    store = Overtaken()
    with desk_of(store) as desk:
        ask = Client(app_of(desk))
        seen = (await ask("POST", *SITE)).etag
        store.armed = True
        assert (await ask("DELETE", "/v1/sites/Paderborn", if_match=seen)).status == 412
        store.armed = True
        assert (await ask("DELETE", "/v1/sites/Berlin?dry_run=1")).status == 200
        assert (await ask("PATCH", "/v1/sites/Paderborn", {"description": "x"})).status == 200  # without, it goes on


@pytest.mark.parametrize("tag", ['W/"8"', '"7"', "8", '"", "nonsense"'])
async def test_any_other_tag_is_another_revision(ask: Client, tag: str) -> None:
    assert (await ask("GET", "/v1/directory")).etag == '"8"'
    assert (await ask("DELETE", "/v1/accounts/anna", if_match=tag)).status == 412


@pytest.mark.parametrize("tag", ['"8"', '"7", "8"', "*"])
async def test_one_of_several_tags_will_do(ask: Client, tag: str) -> None:
    assert (await ask("DELETE", "/v1/accounts/anna", if_match=tag)).status == 204


async def test_nothing_new_is_not_told_again(ask: Client) -> None:
    seen = (await ask("GET", "/v1/servers")).etag
    answer = await ask("GET", "/v1/servers", if_none_match=seen)
    assert (answer.status, answer.body, answer.etag) == (304, b"", seen)
    await ask("DELETE", "/v1/accounts/anna")
    assert (await ask("GET", "/v1/servers", if_none_match=seen)).status == 200


# What is refused.


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/arrays", b"", "body: this is not JSON"),
        ("/v1/arrays", b'{"name": "CAS"', "body: this is not JSON"),
        ("/v1/arrays", b"[" * 30_000, "body: this is not JSON"),
        ("/v1/arrays", b"\xff\xfe{}", "body: this is not JSON"),
        ("/v1/servers", b'{"weight": NaN}', "body: this is not JSON"),
        ("/v1/arrays", [], "body: send one JSON object"),
        ("/v1/arrays", {"settings": json.loads("[" * 20 + "]" * 20)}, "body: settings"),
        ("/v1/sites", b" " * (LONGEST_BODY + 1), f"body: more than {LONGEST_BODY} bytes"),
        ("/v1/arrays", {"fqnd": "x"}, 'body: fqnd: unknown field; did you mean "fqdn"?'),
        ("/v1/sites", {"colour": "x"}, "body: colour: unknown field; known here: description, name"),
        (
            "/v1/databases",
            {"copies": [{"sever": "x"}]},
            'body: copies[0].sever: unknown field; did you mean "server"?',
        ),
        (
            "/v1/servers",
            {"rpc_client_access": {"encryption": True}},
            'body: rpc_client_access.encryption: unknown field; did you mean "encryption_required"?',
        ),
        ("/v1/sites", {"guid": "x"}, "body: guid: is given by the store; leave it out"),
        ("/v1/sites", {"computed": {}}, "body: computed: is worked out from the rest; leave it out"),
        ("/v1/sites", {}, "json: Site.name is missing"),
        ("/v1/sites", {"name": 5}, "json: Site.name: str expected"),
        ("/v1/sites", {"name": "a\nb"}, "body: name: write at most 1024 printable characters"),
        ("/v1/sites", b'{"name": "\\ud800"}', "body: name: write at most 1024 printable characters"),
        ("/v1/subnets", {"network": "10.11.0.1/24", "site": "x"}, "json: Subnet.network: 10.11.0.1/24 has host bits"),
        ("/v1/servers", SERVER[1] | {"weight": 0}, "body: weight: write a number from 1 to 10000"),
        ("/v1/servers", SERVER[1] | {"roles": ["hub"]}, 'body: roles: "hub" is not known here; write client-access or'),
        ("/v1/servers", SERVER[1] | {"addresses": ["fe80::1%eth0"]}, "body: addresses: an address with an interface"),
    ],
)
async def test_a_wrong_body_is_refused_with_what_would_be_right(
    client: Client, path: str, body: object, message: str
) -> None:
    answer = await client("POST", path, body)
    assert answer.status == 400
    assert answer.message.startswith(message)
    assert (await client("GET", "/v1/directory")).etag == '"0"'


@pytest.mark.parametrize(
    ("method", "path", "body", "refusal"),
    [
        (
            "POST",
            "/v1/arrays",
            {"fqdn": "b.domain.tld", "site": "Paderborn"},
            (409, "the site Paderborn has the array"),
        ),
        ("POST", "/v1/arrays", {"fqdn": "b.domain.tld", "site": "Paderbron"}, (404, 'did you mean "Paderborn"?')),
        ("POST", "/v1/arrays", {"fqdn": "not a name", "site": "Paderborn"}, (409, "is not a host name")),
        ("POST", "/v1/servers", SERVER[1], (409, "there is a server cas1 already")),
        ("POST", "/v1/subnets", SUBNET[1], (409, "the subnet 10.11.0.0/24 is there already")),
        ("PATCH", "/v1/servers/cas7", {"weight": 1}, (404, 'there is no server "cas7"; did you mean "cas1"?')),
        ("GET", "/v1/subnets/10.9.0.0/24", None, (404, "there is no subnet")),
        ("DELETE", "/v1/databases/DB9", None, (404, 'did you mean "DB1"?')),
        ("PATCH", "/v1/servers/mbx2", {"rpc_client_access": {}}, (409, "has no client-access role")),
        (
            "PATCH",
            "/v1/arrays/CAS",
            {"settings": {"slotz": 1}},
            (409, 'settings.slotz: unknown key; did you mean "slots"'),
        ),
        ("PATCH", "/v1/arrays/CAS", {"name": None}, (400, "json: Array.name: str expected")),
        ("POST", "/v1/databases/DB1/move", {"sever": "x"}, (400, 'body: sever: unknown field; did you mean "server"?')),
        ("GET", "/v1/servers?limit=0", None, (400, "query: limit: write a number from 1 to 1000")),
        ("GET", "/v1/servers?limit=1e3", None, (400, "query: limit: write a number from 1 to 1000")),
        ("DELETE", "/v1/accounts/anna?force=yes", None, (400, "query: force: write true or false")),
    ],
)
async def test_what_breaks_a_rule_is_refused_and_changes_nothing(
    ask: Client, method: str, path: str, body: object, refusal: tuple[int, str]
) -> None:
    before = (await ask("GET", "/v1/directory")).etag
    answer = await ask(method, path, body)
    assert answer.status == refusal[0]
    assert refusal[1] in answer.message
    assert (await ask("GET", "/v1/directory")).etag == before


async def test_a_store_that_cannot_be_reached_is_said_and_tried_again_with_the_next_request() -> None:
    attempts: list[int] = []

    def open_it() -> DirectoryStore:
        attempts.append(1)
        if len(attempts) == 1:
            raise Unavailable("no domain controller answers")
        if len(attempts) == 2:
            raise Denied("no right to read it")
        return MemoryDirectory()

    desk = Desk(open_it)
    ask = Client(app_of(desk))
    assert attempts == []
    answers = [await ask("GET", "/v1/sites") for _ in range(4)]
    assert [answer.status for answer in answers] == [503, 403, 200, 200]
    assert answers[0].message == "no domain controller answers"
    assert len(attempts) == 3
    await desk.close()


async def test_a_store_that_fails_later_is_let_go_and_opened_anew() -> None:
    class Failing(MemoryDirectory):
        closed = False

        def revision(self) -> str:
            raise Unavailable("gone")

        def close(self) -> None:
            self.closed = True

    failing = Failing()
    stores: list[DirectoryStore] = [failing, MemoryDirectory()]
    desk = Desk(lambda: stores.pop(0))
    ask = Client(app_of(desk))
    assert (await ask("GET", "/v1/sites")).status == 503
    assert failing.closed
    assert (await ask("GET", "/v1/sites")).status == 200
    await desk.close()


async def test_the_routes_of_the_gateway_stay_what_they_were_beside_those_of_the_directory(
    store: DirectoryStore,
) -> None:
    gateway = FakeGateway()
    with desk_of(store) as desk:
        ask = Client(app_of(desk, gateway))
        await ask("POST", *SITE)
        for name in ("cas1", "state"):
            assert (
                await ask("POST", "/v1/servers", {**SERVER[1], "name": name, "fqdn": f"{name}.b.tld"})
            ).status == 201
        assert (await ask("POST", "/v1/servers/cas1/state", {"state": "drain"})).json["server"] == "cas1"
        assert (await ask("GET", "/v1/servers/state")).json["name"] == "state"
        assert (await ask("GET", "/v1/servers/cas1/state")).status == 405
        refused = await ask("PUT", "/v1/servers/cas1", {})
        assert (refused.status, refused.headers["allow"]) == (405, "DELETE, GET, HEAD, PATCH")
        assert (await ask("GET", "/v1/status")).json["gateway"]["name"] == "gw1"
    assert [asked[:2] for asked in gateway.asked] == [("set_server", "cas1")]
