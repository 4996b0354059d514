"""Who still comes to a retired server."""

from casarray.core.referral.visits import OldName, Visit, Visits, by_name


def test_who_comes_again_stays_one_line_with_the_first_and_the_last_time() -> None:
    visits = Visits()
    visits.note("alice", "10.1.1.1", "old1", 100.0)
    visits.note("ALICE", "10.1.1.1", "old1", 300.0, "Kerberos")
    visits.note("alice", "10.1.1.1", "old1", 400.0)
    assert visits.lines() == (Visit("alice", "10.1.1.1", "old1", 100.0, 400.0, 3, "Kerberos"),)


def test_another_address_or_another_name_is_another_line_and_the_last_one_stands_first() -> None:
    visits = Visits()
    visits.note("alice", "10.1.1.1", "old1", 100.0)
    visits.note("alice", "10.1.1.2", "old1", 200.0)
    visits.note("alice", "10.1.1.1", "old2", 300.0)
    assert [(visit.client, visit.name) for visit in visits.lines()] == [
        ("10.1.1.1", "old2"),
        ("10.1.1.2", "old1"),
        ("10.1.1.1", "old1"),
    ]


def test_when_there_are_too_many_the_one_that_came_longest_ago_makes_room() -> None:
    visits = Visits(most=2)
    visits.note("a", "10.1.1.1", "old1", 1.0)
    visits.note("b", "10.1.1.1", "old1", 2.0)
    visits.note("a", "10.1.1.1", "old1", 3.0)
    visits.note("c", "10.1.1.1", "old1", 4.0)
    assert [visit.user for visit in visits.lines()] == ["c", "a"]
    assert visits.dropped == 1


def test_what_was_kept_goes_on_being_counted() -> None:
    visits = Visits([Visit("alice", "10.1.1.1", "old1", 1.0, 2.0, 5)])
    changed = [visits.changed]
    visits.note("alice", "10.1.1.1", "old1", 9.0)
    assert [*changed, visits.changed] == [False, True]
    assert [(visit.first, visit.last, visit.count) for visit in visits.lines()] == [(1.0, 9.0, 6)]


def test_a_summary_counts_users_and_clients_once_and_strangers_not_as_users() -> None:
    visits = Visits()
    for user, client in (("alice", "10.1.1.1"), ("Alice", "10.1.1.2"), ("", "10.1.1.3"), ("bob", "10.1.1.1")):
        visits.note(user, client, "old1", 5.0)
    visits.note("carol", "10.1.1.9", "old2", 7.0)
    assert by_name(visits.lines()) == (OldName("old1", 2, 3, 4, 5.0), OldName("old2", 1, 1, 1, 7.0))
