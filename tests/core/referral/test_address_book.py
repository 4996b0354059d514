"""The address book: who is in it, in which order, and whom a name means."""

from dataclasses import replace
from typing import Any

import pytest
from tests.core.referral.talk import ALICE, PEOPLE, SERVERS, Fault, Talk, access, numbered, signpost

from casarray.core.dcerpc.association import AssociationGroups
from casarray.core.dcerpc.interfaces import nspi
from casarray.core.dcerpc.interfaces.nspi import NSPI, NspiResult, Opnum, Stat
from casarray.core.dcerpc.interfaces.nspi_calls import (
    ADDRESS_CREATION_TEMPLATES,
    EPHEMERAL_IDS,
    NspiCompareMids,
    NspiGetMatches,
    NspiGetSpecialTable,
    NspiGetSpecialTableReply,
    NspiQueryRows,
    NspiUpdateStat,
)
from casarray.core.dcerpc.interfaces.nspi_entry_ids import (
    EphemeralEntryId,
    PermanentEntryId,
    Place,
    Resolved,
    read_entry_id,
)
from casarray.core.dcerpc.interfaces.nspi_names import (
    NspiDnToMid,
    NspiGetPropList,
    NspiGetProps,
    NspiQueryColumns,
    NspiResolveNames,
    NspiResolveNamesW,
    NspiResolveNamesWReply,
)
from casarray.core.dcerpc.interfaces.nspi_properties import PropertyTag, PropertyValue
from casarray.core.dcerpc.interfaces.nspi_restrictions import (
    AndRestriction,
    CompareRestriction,
    ContentRestriction,
    ExistRestriction,
    Fuzzy,
    NotRestriction,
    OrRestriction,
    PropertyRestriction,
    Relation,
    Restriction,
)
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.directory.model import Account
from casarray.core.referral import address_book
from casarray.core.referral.address_book import AddressBook, server_guid

TAG = PropertyTag
ORDER = ["Alice", "Bob Smith", "Bobby Jones", "Smithers, Carol", "Zoë Ångström"]
NAME = (TAG.PR_DISPLAY_NAME_W,)
BOOK = ContextHandle(numbered()())


def book(directory: Any = PEOPLE, name: str = "cas1") -> AddressBook:
    """An open one."""
    opened = AddressBook(signpost(name, directory), numbered())
    opened._list.show(signpost(name, directory).people())
    return opened


def names(rows: Any) -> list[Any]:
    return [row.get(TAG.PR_DISPLAY_NAME_W) for row in rows]


def typed(*asked: str | None, directory: Any = PEOPLE) -> tuple[tuple[int, ...] | None, list[Any]]:
    reply = book(directory).resolve(NspiResolveNamesW(BOOK, asked, tags=NAME))
    return reply.minimal_ids, names(reply.rows)


def matching(restriction: Restriction | None, **more: Any) -> list[Any]:
    reply = book().get_matches(NspiGetMatches(BOOK, Stat(), restriction, NAME, **more))
    assert reply.result == 0
    return names(reply.rows)


def anr(text: str) -> PropertyRestriction:
    return PropertyRestriction(Relation.EQUAL, TAG.PR_ANR_W, PropertyValue(TAG.PR_ANR_W, text))


@pytest.mark.parametrize("ndr64", [False, True], ids=["NDR", "NDR64"])
def test_a_book_is_opened_looked_into_and_closed(ndr64: bool) -> None:
    talk = Talk(access(), ndr64=ndr64)
    bound = talk.ask(NSPI, Opnum.BIND, nspi.NspiBind(), nspi.NspiBindReply.decode)
    assert (bound.result, bound.server_guid) == (0, server_guid("cas1.domain.tld"))
    asked = NspiResolveNamesW(bound.handle, ("alice", "nobody"), tags=NAME)
    found = talk.ask(NSPI, Opnum.RESOLVE_NAMES_W, asked, NspiResolveNamesWReply.decode)
    assert (found.minimal_ids, names(found.rows)) == ((Resolved.TO_ONE, Resolved.NOT_AT_ALL), ["Alice"])
    table = talk.ask(NSPI, Opnum.GET_SPECIAL_TABLE, NspiGetSpecialTable(bound.handle), NspiGetSpecialTableReply.decode)
    assert names(table.rows) == ["Global Address List"]
    closed = talk.ask(NSPI, Opnum.UNBIND, nspi.NspiUnbind(bound.handle), nspi.NspiUnbindReply.decode)
    assert (closed.handle, closed.result) == (NIL_HANDLE, 1)
    with pytest.raises(Fault, match="1c00001a"):
        talk.ask(NSPI, Opnum.RESOLVE_NAMES_W, asked, NspiResolveNamesWReply.decode)


def test_a_book_is_not_open_on_another_server_or_in_another_group() -> None:
    server, groups = access(), AssociationGroups()
    talk = Talk(server, groups=groups)
    bound = talk.ask(NSPI, Opnum.BIND, nspi.NspiBind(), nspi.NspiBindReply.decode)
    asked = NspiResolveNamesW(bound.handle, ("alice",))
    for stranger in (Talk(server, groups=groups), Talk(access("cas2"))):
        with pytest.raises(Fault, match="1c00001a"):
            stranger.ask(NSPI, Opnum.RESOLVE_NAMES_W, asked, NspiResolveNamesWReply.decode)


def test_a_book_is_not_opened_in_unicode() -> None:
    asked = nspi.NspiBind(stat=Stat(code_page=nspi.CODE_PAGE_UNICODE))
    bound = Talk(access()).ask(NSPI, Opnum.BIND, asked, nspi.NspiBindReply.decode)
    assert (bound.handle, bound.result) == (NIL_HANDLE, NspiResult.INVALID_CODE_PAGE)


def test_two_servers_have_different_guids() -> None:
    assert server_guid("cas1.domain.tld") != server_guid("cas2.domain.tld")
    assert server_guid("CAS1.domain.tld") == server_guid("cas1.domain.tld")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("alice", "Alice"),
        ("ALI", "Alice"),
        ("alice@domain.tld", "Alice"),
        ("SMTP:Alice@Domain.TLD", "Alice"),
        ("robert@domain.tld", "Bob Smith"),  # a further address
        ("bob", "Bob Smith"),  # who is called just so goes before others that only begin so
        ("bobby", "Bobby Jones"),
        ("smi bo", "Bob Smith"),  # parts of the name, in any order
        ("Smithers, C", "Smithers, Carol"),
        ("zoë", "Zoë Ångström"),
        (ALICE, "Alice"),
        ("=alice", "Alice"),
    ],
)
def test_a_name_means_one(name: str, meant: str) -> None:
    assert typed(name) == ((Resolved.TO_ONE,), [meant])


@pytest.mark.parametrize("name", ["bo", "smi", "b"])
def test_a_name_may_mean_several(name: str) -> None:
    assert typed(name) == ((Resolved.TO_MORE_THAN_ONE,), [])


@pytest.mark.parametrize("name", ["", "=", " ", None, "nobody", "=ali", "dave", "SMTP:ali", "lice"])
def test_a_name_may_mean_nobody(name: str | None) -> None:
    assert typed(name) == ((Resolved.NOT_AT_ALL,), [])


def test_each_name_of_a_list_is_answered_in_its_place() -> None:
    how, found = typed("nobody", "bobby", "b", "alice")
    assert how == (Resolved.NOT_AT_ALL, Resolved.TO_ONE, Resolved.TO_MORE_THAN_ONE, Resolved.TO_ONE)
    assert found == ["Bobby Jones", "Alice"]


def test_too_many_names_at_once_are_refused() -> None:
    reply = book().resolve(NspiResolveNames(BOOK, ("b",) * 101))
    assert (reply.minimal_ids, reply.result) == (None, NspiResult.OUT_OF_RESOURCES)


def test_the_table_is_read_page_by_page_in_the_order_of_names() -> None:
    opened, stat, seen = book(), Stat(), []
    while True:
        reply = opened.query_rows(NspiQueryRows(BOOK, stat, 2, NAME))
        if not reply.rows:
            break
        seen.append(names(reply.rows))
        stat = reply.stat
    assert seen == [ORDER[:2], ORDER[2:4], ORDER[4:]]
    assert (stat.current_record, stat.position, stat.total_records) == (Place.END, 5, 5)


def test_rows_of_chosen_entries_come_in_the_order_of_the_choice_and_of_nobody_with_errors() -> None:
    opened = book()
    numbers = opened.dn_to_mid(NspiDnToMid(BOOK, (ALICE, f"{ALICE}x", None))).tags
    assert numbers is not None
    assert numbers[1:] == (0, 0)
    reply = opened.query_rows(NspiQueryRows(BOOK, Stat(), 9, NAME, (4711, numbers[0])))
    assert names(reply.rows) == [None, "Alice"]


def test_a_client_moves_relative_to_an_entry_and_not_beyond_the_ends() -> None:
    opened = book()
    stat = opened.update_stat(NspiUpdateStat(BOOK, Stat(delta=2), 0)).stat
    assert stat.position == 2
    for delta, moved, place in ((1, 1, 3), (-9, -2, 0), (9, 3, 5)):
        reply = opened.update_stat(NspiUpdateStat(BOOK, replace(stat, delta=delta), 0))
        assert (reply.delta, reply.stat.position, reply.stat.delta) == (moved, place, 0)


def test_a_client_may_point_into_the_middle_of_its_own_idea_of_the_table() -> None:
    reply = book().update_stat(NspiUpdateStat(BOOK, Stat(current_record=Place.CURRENT, position=50, total_records=100)))
    assert (reply.stat.position, reply.stat.total_records, reply.delta) == (2, 5, None)


def test_who_stands_at_nobodys_entry_stands_nowhere() -> None:
    for stat, result in ((Stat(current_record=999), NspiResult.NOT_FOUND), (Stat(container_id=7), 0x80040405)):
        assert book().update_stat(NspiUpdateStat(BOOK, stat)).result == result
        assert book().query_rows(NspiQueryRows(BOOK, stat)).result == result
        assert book().get_props(NspiGetProps(BOOK, stat)).result == result


def test_an_entry_tells_its_properties_and_which_it_has_not() -> None:
    opened = book()
    (number,) = opened.dn_to_mid(NspiDnToMid(BOOK, (ALICE,))).tags or ()
    tags = (
        TAG.PR_ACCOUNT,
        TAG.PR_SMTP_ADDRESS_W,
        TAG.PR_EMS_AB_HOME_MDB,
        TAG.PR_EMS_AB_PROXY_ADDRESSES_W,
        TAG.PR_TITLE_W,
    )
    reply = opened.get_props(NspiGetProps(BOOK, Stat(current_record=number), tags))
    assert reply.result == NspiResult.ERRORS_RETURNED
    assert reply.row is not None
    assert [value.value for value in reply.row.values] == [
        "alice",
        "alice@domain.tld",
        f"{SERVERS}cas.domain.tld/cn=Microsoft Private MDB",
        ("SMTP:alice@domain.tld",),
        0x8004010F,
    ]


def test_all_properties_of_an_entry_are_those_of_its_list() -> None:
    opened = book()
    (number,) = opened.dn_to_mid(NspiDnToMid(BOOK, (ALICE,))).tags or ()
    listed = opened.prop_list(NspiGetPropList(BOOK, number)).tags
    row = opened.get_props(NspiGetProps(BOOK, Stat(current_record=number))).row
    assert row is not None
    assert listed == tuple(value.tag for value in row.values)
    assert set(listed) <= set(opened.columns(NspiQueryColumns(BOOK, 0)).tags or ())
    assert opened.prop_list(NspiGetPropList(BOOK, 4711)).result == NspiResult.NOT_FOUND


def test_an_entry_id_is_good_for_ever_or_for_this_server_as_it_is_wanted() -> None:
    opened = book()
    for flags in (0, EPHEMERAL_IDS):
        (row,) = opened.query_rows(NspiQueryRows(BOOK, Stat(), 1, (TAG.PR_ENTRYID,), flags=flags)).rows or ()
        octets = row.get(TAG.PR_ENTRYID)
        assert isinstance(octets, bytes)
        (number,) = opened.dn_to_mid(NspiDnToMid(BOOK, (ALICE,))).tags or ()
        wanted = EphemeralEntryId(server_guid("cas1.domain.tld"), number) if flags else PermanentEntryId(ALICE)
        assert read_entry_id(octets) == wanted


def test_a_number_stays_a_persons_while_others_come_and_go() -> None:
    opened = book()
    before = opened.dn_to_mid(NspiDnToMid(BOOK, (ALICE,))).tags
    later = PEOPLE.without(PEOPLE.accounts["bob"]).put(Account("aaron", "DB1", "aaron@domain.tld", "Aaron"))
    opened._list.show(signpost("cas1", later).people())
    assert names(opened.query_rows(NspiQueryRows(BOOK, Stat(), 1, NAME)).rows) == ["Aaron"]
    assert opened.dn_to_mid(NspiDnToMid(BOOK, (ALICE,))).tags == before


@pytest.mark.parametrize(
    ("restriction", "wanted"),
    [
        (anr("bo"), ORDER[1:3]),
        (AndRestriction((anr("bo"),)), ORDER[1:3]),
        (OrRestriction((anr("ali"), anr("zo"))), [ORDER[0], ORDER[4]]),
        (AndRestriction((anr("b"), NotRestriction(anr("bobby")))), ORDER[1:2]),
        (
            ContentRestriction(Fuzzy.SUBSTRING, TAG.PR_DISPLAY_NAME, PropertyValue(TAG.PR_DISPLAY_NAME, "SMITH")),
            [ORDER[1], ORDER[3]],
        ),
        (
            ContentRestriction(Fuzzy.PREFIX, TAG.PR_DISPLAY_NAME_W, PropertyValue(TAG.PR_DISPLAY_NAME_W, "bob")),
            ORDER[1:3],
        ),
        (
            PropertyRestriction(
                Relation.EQUAL,
                TAG.PR_EMS_AB_PROXY_ADDRESSES_W,
                PropertyValue(TAG.PR_SMTP_ADDRESS_W, "smtp:robert@domain.tld"),
            ),
            ORDER[1:2],
        ),
        (PropertyRestriction(Relation.AT_LEAST, TAG.PR_ACCOUNT, PropertyValue(TAG.PR_ACCOUNT, "carol")), ORDER[3:]),
        (ExistRestriction(TAG.PR_DISPLAY_NAME), ORDER),
        (ExistRestriction(TAG.PR_TITLE_W), []),
        (None, ORDER[:1]),
    ],
)
def test_a_restriction_finds_whom_it_describes(restriction: Restriction | None, wanted: list[str]) -> None:
    assert matching(restriction) == wanted


def test_more_matches_than_were_asked_for_are_too_many() -> None:
    reply = book().get_matches(NspiGetMatches(BOOK, Stat(), anr("b"), None, requested=1))
    assert (reply.minimal_ids, reply.result) == (None, NspiResult.TABLE_TOO_BIG)


def test_a_restriction_that_cannot_be_looked_for_is_too_complex(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = CompareRestriction(Relation.EQUAL, TAG.PR_ACCOUNT, TAG.PR_DISPLAY_NAME)
    assert book().get_matches(NspiGetMatches(BOOK, Stat(), odd)).result == NspiResult.TOO_COMPLEX
    monkeypatch.setattr(address_book, "MOST_SEARCHED", 3)
    wide = ExistRestriction(TAG.PR_DISPLAY_NAME)
    assert book().get_matches(NspiGetMatches(BOOK, Stat(), wide)).result == NspiResult.TOO_COMPLEX


def test_two_entries_are_compared_by_their_places() -> None:
    opened = book()
    first, second = opened.get_matches(NspiGetMatches(BOOK, Stat(), anr("bo"))).minimal_ids or ()
    for one, other, wanted in ((first, second, -1), (second, first, 1), (first, first, 0)):
        assert opened.compare(NspiCompareMids(BOOK, Stat(), one, other)).comparison == wanted
    assert opened.compare(NspiCompareMids(BOOK, Stat(), first, 4711)).result == NspiResult.GENERAL_FAILURE


def test_there_are_no_templates_and_a_list_that_the_client_has_is_not_told_again() -> None:
    opened = book()
    assert opened.special_table(NspiGetSpecialTable(BOOK, flags=ADDRESS_CREATION_TEMPLATES)).rows == ()
    version = opened.special_table(NspiGetSpecialTable(BOOK)).version
    assert opened.special_table(NspiGetSpecialTable(BOOK, version=version)).rows is None
