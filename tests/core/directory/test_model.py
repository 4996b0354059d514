"""The directory as a value."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
from tests.core.directory.example import ORGANISATION, broken, mailbox_server, subnet

from casarray.core.directory.changes import applied, difference, same
from casarray.core.directory.model import (
    CLASSES,
    CLIENT_ACCESS,
    MAILBOX,
    Directory,
    Kind,
    Organization,
    Server,
    Site,
    Thing,
    key,
)


def test_the_example_keeps_every_rule() -> None:
    assert broken(ORGANISATION) == []


def test_a_thing_is_found_whatever_the_capital_letters() -> None:
    assert ORGANISATION.get(Kind.SITE, "pADERBORN") is ORGANISATION.sites["paderborn"]
    assert ORGANISATION.get(Kind.SITE, "Paderbor") is None


def test_an_eszett_is_found_by_two_s() -> None:
    assert Directory().put(Site("Straße")).get(Kind.SITE, "STRASSE") == Site("Straße")


def test_a_subnet_is_found_by_its_text() -> None:
    found = ORGANISATION.get(Kind.SUBNET, "FD00:20::/32")
    assert found == subnet("fd00:20::/32", "Berlin")
    assert found is not None
    assert found.name == "fd00:20::/32"


def test_putting_leaves_the_old_directory_as_it_was() -> None:
    after = ORGANISATION.put(Site("Bonn"), Site("paderborn", "changed"))
    assert ORGANISATION.get(Kind.SITE, "Bonn") is None
    assert ORGANISATION.sites["paderborn"].description == ""
    assert after.sites["paderborn"] == Site("paderborn", "changed")
    assert len(after.sites) == len(ORGANISATION.sites) + 1


MAPPED = [kind for kind in Kind if kind is not Kind.ORGANIZATION]  # of which there is one


def test_putting_copies_only_the_kinds_it_touches() -> None:
    after = ORGANISATION.put(Site("Bonn"))
    assert [kind for kind in MAPPED if after.of(kind) is not ORGANISATION.of(kind)] == [Kind.SITE]


def test_taking_away_what_is_not_there_takes_nothing_away() -> None:
    after = ORGANISATION.without(Site("Bonn"))
    assert after.sites == ORGANISATION.sites


def test_everything_comes_in_an_order_in_which_it_can_be_made() -> None:
    made = Directory()
    for thing in ORGANISATION:
        made = made.put(thing)
        assert [line for line in broken(made) if "not there" in line and "names" not in line] == []
    assert list(made) == list(ORGANISATION)


def test_there_is_one_organisation_always() -> None:
    named = ORGANISATION.put(Organization("Fabrikam", "First"))
    assert (named.organization, named.admin_group) == ("Fabrikam", "First")
    assert named.get(Kind.ORGANIZATION, "microsoft exchange") == Organization("Fabrikam", "First")
    assert same(named.without(Organization()), named)
    (change,) = difference(ORGANISATION, named)
    assert str(change).startswith("~ organization Microsoft Exchange: title: Contoso -> Fabrikam, admin_group: ")
    assert same(applied(ORGANISATION, [change]), named)


@pytest.mark.parametrize("kind", MAPPED)
def test_a_kind_has_a_class_and_a_mapping(kind: Kind) -> None:
    assert CLASSES[kind].KIND is kind
    assert f"{kind}s" in {field.name for field in fields(Directory)}


@pytest.mark.parametrize("thing", list(ORGANISATION), ids=lambda thing: f"{thing.KIND}-{thing.name}")
def test_a_thing_cannot_be_changed_in_place(thing: Thing) -> None:
    with pytest.raises(FrozenInstanceError):
        thing.guid = "another"  # type: ignore[misc]  # that is what is tried


def test_the_identity_that_a_store_gives_makes_no_difference() -> None:
    assert replace(ORGANISATION.sites["berlin"], guid="1234") == ORGANISATION.sites["berlin"]


@pytest.mark.parametrize(
    ("server", "member"),
    [
        (Server("s", "s.d.tld", "Ulm"), True),
        (Server("s", "s.d.tld", "Ulm", (CLIENT_ACCESS, MAILBOX)), True),
        (Server("s", "s.d.tld", "Ulm", rpc_client_access=None), False),
        (Server("s", "s.d.tld", "Ulm", (MAILBOX,)), False),
        (mailbox_server("s", "Ulm"), False),
    ],
)
def test_a_member_has_the_role_and_rpc_client_access(server: Server, member: bool) -> None:
    assert server.is_member is member


def test_two_directories_are_each_equal_to_themselves_alone() -> None:
    assert Directory() != Directory()
    assert key("CAS") == key("cas")
