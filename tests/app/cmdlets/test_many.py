"""Ten thousand servers and ten thousand databases: quick to list, one change to change, and no heap of objects."""

import time
import tracemalloc
from collections.abc import Iterator

import pytest
from tests.app.cmdlets.typed import Desk

from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Server,
    Site,
)
from casarray.core.shell.cmdlet import Bound

MANY = 10_000
SITES = 100
LONG = 15.0  # seconds: far above what any of it takes, far below what a search for each of ten thousand would


def large() -> Directory:
    """A hundred sites of a hundred servers, each with the array, and a database on each server."""
    sites = [Site(f"site{n}") for n in range(SITES)]
    arrays = [Array(f"cas{n}", f"cas{n}.domain.tld", f"site{n}") for n in range(SITES)]
    servers = [
        Server(f"srv{n}", f"srv{n}.domain.tld", f"site{n % SITES}", (CLIENT_ACCESS, MAILBOX)) for n in range(MANY)
    ]
    groups = [AvailabilityGroup(f"dag{n}", tuple(f"srv{m}" for m in range(n, MANY, SITES))) for n in range(SITES)]
    databases = [
        Database(f"db{n}", f"srv{n}", (Copy(f"srv{n}", 1), Copy(f"srv{(n + SITES) % MANY}", 2)), f"srv{n}.domain.tld")
        for n in range(MANY)
    ]
    return Directory().put(*sites, *arrays, *servers, *groups, *databases)


@pytest.fixture(scope="module")
def organisation() -> Directory:
    return large()


@pytest.fixture
def desk(organisation: Directory) -> Desk:
    return Desk(organisation)


@pytest.fixture
def quick() -> Iterator[None]:
    begun = time.perf_counter()
    yield
    assert time.perf_counter() - begun < LONG


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("noun", "number"),
    [
        ("ClientAccessArray", SITES), ("ExchangeServer", MANY), ("ClientAccessServer", MANY), ("MailboxServer", MANY),
        ("MailboxDatabase", MANY), ("DatabaseAvailabilityGroup", SITES), ("RpcClientAccess", MANY), ("ADSite", SITES),
    ],
)  # fmt: skip
def test_a_list_of_all_is_quick(desk: Desk, noun: str, number: int) -> None:
    assert len(desk(f"Get-{noun}")) == number


@pytest.mark.usefixtures("quick")
def test_ten_thousand_identities_in_a_pipeline_are_quick(desk: Desk) -> None:
    names = [f"srv{n}.domain.tld" for n in range(MANY)]
    assert len(desk.pipe(names, "Get-ClientAccessServer")) == MANY


@pytest.mark.usefixtures("quick")
def test_ten_thousand_databases_are_led_to_their_array_by_one_change(desk: Desk) -> None:
    desk.pipe(desk("Get-MailboxDatabase"), "Set-MailboxDatabase", RpcClientAccessServer="cas7.domain.tld")
    assert desk.store.revision() == "1"
    assert {d.rpc_client_access_server for d in desk.directory.databases.values()} == {"cas7.domain.tld"}
    (warning,) = desk.voice.warnings
    assert warning.endswith("and 9890 more")


@pytest.mark.usefixtures("quick")
def test_ten_thousand_databases_move_and_go_by_one_change_each(desk: Desk) -> None:
    desk.pipe(desk("Get-MailboxDatabase"), "Move-ActiveMailboxDatabase")
    desk.pipe(desk("Get-MailboxDatabase"), "Remove-MailboxDatabase")
    assert (desk.store.revision(), len(desk.directory.databases)) == ("2", 0)


@pytest.mark.usefixtures("quick")
def test_ten_thousand_servers_leave_their_arrays_come_back_and_go(desk: Desk) -> None:
    desk.pipe(desk("Get-ClientAccessServer"), "Remove-RpcClientAccess")
    assert desk("Get-ClientAccessArray", "cas1")[0].get("Members") == ()
    desk.pipe(desk("Get-ClientAccessServer"), "New-RpcClientAccess")
    desk.pipe(desk("Get-ClientAccessServer"), "Remove-ClientAccessServer", Force=True)
    assert {server.roles for server in desk.directory.servers.values()} == {(MAILBOX,)}


@pytest.mark.usefixtures("quick")
def test_ten_thousand_databases_are_made_by_one_change(desk: Desk) -> None:
    bounds = [Bound({"Name": f"new{n}", "Server": f"srv{n}"}) for n in range(MANY)]
    made = desk.run("New-MailboxDatabase", bounds)
    assert (len(made), desk.store.revision()) == (MANY, "1")
    assert made[MANY - 1].get("RpcClientAccessServer") == "cas99.domain.tld"


def test_a_list_holds_one_object_at_a_time(desk: Desk) -> None:
    find = desk.cmdlets["Get-MailboxDatabase"].run
    assert sum(1 for _ in find([Bound({})], desk.voice)) == MANY  # what is looked up is made once, before
    tracemalloc.start()
    try:
        assert sum(1 for _ in find([Bound({})], desk.voice)) == MANY
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000  # octets: thirty for each object would already be more
