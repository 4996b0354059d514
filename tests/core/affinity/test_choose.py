"""Pin if it is good, else first choice, else second, else nobody."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from casarray.core.affinity.choose import Choice, Reason, choose, of_family
from casarray.core.affinity.jhash import slot_of
from casarray.core.forwarding.table import Address, Group, Member, Table

SEED = 0x1234
CLIENT = ip_address("192.0.2.7")

members = st.integers(0, 5)
groups = st.integers(1, 50).flatmap(
    lambda n: st.builds(
        Group,
        id=st.just(1),
        name=st.just("rpc"),
        ports=st.just((5000,)),
        nodes=st.frozensets(st.integers(1, 5)),
        slots=st.tuples(*[members] * n),
        backup=st.tuples(*[members] * n),
        affinity_seconds=st.just(10),
        prefix4=st.sampled_from([32, 24]),
    )
)


def group(**changed: Any) -> Group:
    plain = Group(1, "rpc", (5000,), frozenset({1, 2, 3}), (1,) * 7, (2,) * 7, 10)
    return replace(plain, **changed)


def test_a_pin_decides_while_its_member_may_be_used() -> None:
    assert choose(group(), SEED, CLIENT, 3) == Choice(3, Reason.PINNED)


def test_a_void_pin_is_named_and_the_slot_decides() -> None:
    assert choose(group(), SEED, CLIENT, 9) == Choice(1, Reason.FIRST_CHOICE, void_pin=9)


def test_the_second_choice_stands_in_for_the_first() -> None:
    assert choose(group(nodes=frozenset({2, 3})), SEED, CLIENT, None) == Choice(2, Reason.SECOND_CHOICE)


def test_nobody_is_left_when_both_choices_are_gone() -> None:
    assert choose(group(nodes=frozenset({3})), SEED, CLIENT, 1) == Choice(None, Reason.NOBODY, void_pin=1)


def test_a_group_without_slots_has_nobody_but_its_pins() -> None:
    empty = group(slots=(), backup=())
    assert choose(empty, SEED, CLIENT, None).reason is Reason.NOBODY
    assert choose(empty, SEED, CLIENT, 2).member_id == 2


@given(groups, st.ip_addresses(), st.none() | members)
def test_the_answer_is_usable_and_in_the_order_of_the_rules(some: Group, client: Address, pinned: int | None) -> None:
    choice = choose(some, SEED, client, pinned)
    slot = slot_of(client, SEED, len(some.slots), some.prefix4, some.prefix6)
    order = [pinned, some.slots[slot], some.backup[slot]]
    assert choice.member_id == next((m for m in order if m in some.nodes), None)
    assert (choice.reason is Reason.NOBODY) == (choice.member_id is None)
    assert (choice.reason is Reason.PINNED) == (pinned is not None and pinned in some.nodes)


def test_a_member_without_an_address_of_the_family_is_none_for_it() -> None:
    table = Table(
        "cas",
        (ip_address("192.0.2.1"),),
        SEED,
        (
            Member(1, "four", (ip_address("10.0.0.1"),)),
            Member(2, "both", (ip_address("10.0.0.2"), ip_address("2001:db8::2"))),
        ),
        (group(nodes=frozenset({1, 2})),),
    )
    assert of_family(table, table.groups[0], 4).nodes == {1, 2}
    assert of_family(table, table.groups[0], 6).nodes == {2}
