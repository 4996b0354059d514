"""The book of pinholes: no hole is asked for twice, and none runs out under a client that goes on asking."""

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from casarray.core.forwarding.table import OpenRange, Pinhole
from casarray.core.gateway.pinholes import PinholeBook

ANNA, BERT = IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2")


def asked(book: PinholeBook, client: IPv4Address, member: int, ports: list[int], now: float) -> list[int]:
    """Ask, have the forwarder open them, and say which ports it was."""
    holes = book.wanted(client, member, ports, now)
    book.opened(holes, now)
    return [hole.port for hole in holes]


def test_the_first_time_every_port_is_wanted() -> None:
    book = PinholeBook("rpc", 600)
    assert book.wanted(ANNA, 1, [50001, 50002], 0) == [
        Pinhole("rpc", ANNA, 50001, 1, 600),
        Pinhole("rpc", ANNA, 50002, 1, 600),
    ]


def test_a_port_that_is_open_for_long_enough_needs_no_call() -> None:
    book = PinholeBook("rpc", 600)
    assert asked(book, ANNA, 1, [50001], 0) == [50001]
    assert asked(book, ANNA, 1, [50001, 50002], 300) == [50002]


def test_a_port_in_its_second_half_is_renewed() -> None:
    book = PinholeBook("rpc", 600)
    asked(book, ANNA, 1, [50001], 0)
    assert asked(book, ANNA, 1, [50001], 301) == [50001]
    assert asked(book, ANNA, 1, [50001], 600) == []


def test_another_member_or_another_client_is_another_hole() -> None:
    book = PinholeBook("rpc", 600)
    asked(book, ANNA, 1, [50001], 0)
    assert asked(book, BERT, 1, [50001], 1) == [50001]
    assert asked(book, ANNA, 2, [50001], 1) == [50001]
    assert asked(book, ANNA, 1, [50001], 2) == [50001]


def test_what_could_not_be_opened_is_wanted_again() -> None:
    book = PinholeBook("rpc", 600)
    assert book.wanted(ANNA, 1, [50001], 0)
    assert book.wanted(ANNA, 1, [50001], 1)


def test_a_range_is_one_hole() -> None:
    book = PinholeBook("rpc", 600, dynamic=(49152, 65535))
    [hole] = book.wanted_range(ANNA, 1, 0)
    assert hole == OpenRange("rpc", ANNA, 1, 49152, 65535, 600)
    book.opened([hole], 0)
    assert book.wanted_range(ANNA, 1, 10) == []
    assert book.wanted_range(ANNA, 1, 400) == [hole]
    assert book.due(599) == []  # ranges are not renewed by themselves


def test_what_a_dead_member_had_is_forgotten() -> None:
    book = PinholeBook("rpc", 600)
    asked(book, ANNA, 1, [50001], 0)
    asked(book, BERT, 2, [50001], 0)
    book.forget(1)
    assert asked(book, ANNA, 1, [50001], 1) == [50001]
    assert asked(book, BERT, 2, [50001], 1) == []
    book.forget()
    assert len(book) == 0


def test_those_about_to_run_out_are_due() -> None:
    book = PinholeBook("rpc", 600)
    asked(book, ANNA, 1, [50001], 0)
    asked(book, BERT, 1, [50001], 200)
    assert book.due(449) == []
    assert book.due(451) == [Pinhole("rpc", ANNA, 50001, 1, 600)]
    assert book.due(650) == [Pinhole("rpc", BERT, 50001, 1, 600)]


def test_a_renewed_hole_does_not_hide_one_that_runs_out_before_it() -> None:
    book = PinholeBook("rpc", 600)
    asked(book, ANNA, 1, [50001], 0)
    asked(book, BERT, 1, [50001], 200)
    asked(book, ANNA, 1, [50001], 301)
    assert book.due(700) == [Pinhole("rpc", BERT, 50001, 1, 600)]


def test_expired_holes_take_no_room() -> None:
    book = PinholeBook("rpc", 600)
    asked(book, ANNA, 1, list(range(50000, 50100)), 0)
    asked(book, BERT, 1, [50001], 601)
    assert len(book) == 1


def test_a_full_book_forgets_the_oldest_which_costs_one_more_call() -> None:
    book = PinholeBook("rpc", 600, capacity=2)
    asked(book, ANNA, 1, [50001, 50002, 50003], 0)
    assert len(book) == 2
    assert asked(book, ANNA, 1, [50003, 50001], 1) == [50001]


@given(st.lists(st.tuples(st.floats(0, 400), st.integers(1, 3), st.integers(50000, 50003)), max_size=60))
def test_whoever_was_told_a_port_may_reach_it_for_half_a_life_at_least(steps: list[tuple[float, int, int]]) -> None:
    book, now = PinholeBook("rpc", 600, capacity=3), 0.0
    kernel: dict[int, tuple[int, float]] = {}  # port -> member, until
    for pause, member, port in steps:
        now += pause
        for hole in book.wanted(ANNA, member, [port], now):
            kernel[hole.port] = hole.member_id, now + hole.seconds
            book.opened([hole], now)
        assert kernel[port][0] == member
        assert kernel[port][1] - now >= 300
