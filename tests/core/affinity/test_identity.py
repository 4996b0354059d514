"""Ids that stay, seeds that agree, weights that grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.affinity.identity import group_ids, member_ids, seed_of, slow_start_weight
from casarray.core.errors import Conflict

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.sets(names, max_size=60), st.sets(names, max_size=60))
def test_ids_once_given_stay_and_no_two_are_equal(first: set[str], later: set[str]) -> None:
    known = member_ids(first, {})
    ids = member_ids(later, known)
    assert ids.keys() == first | later
    assert {name: ids[name] for name in known} == known
    assert len(set(ids.values())) == len(ids)
    assert all(1 <= i <= 4095 for i in ids.values())


def test_two_gateways_give_the_same_ids() -> None:
    assert member_ids(["cas1", "cas2", "cas3"], {}) == member_ids(["cas3", "cas1", "cas2"], {})
    assert member_ids(["cas1"], {}) == {"cas1": member_ids(["cas1", "cas2"], {})["cas1"]}


def test_a_taken_id_goes_to_nobody_else() -> None:
    wanted = member_ids(["cas1"], {})["cas1"]
    assert member_ids(["cas1"], {"other": wanted})["cas1"] == wanted % 4095 + 1


def test_fifteen_groups_have_ids_and_the_sixteenth_is_refused() -> None:
    ids = group_ids((f"g{n}" for n in range(15)), {})
    assert sorted(ids.values()) == list(range(1, 16))
    with pytest.raises(Conflict, match="g99"):
        group_ids(["g99"], ids)


def test_all_4095_ids_can_be_given() -> None:
    ids = member_ids((f"s{n}" for n in range(4095)), {})
    assert sorted(ids.values()) == list(range(1, 4096))


def test_the_seed_is_the_name_s_however_it_is_written() -> None:
    assert seed_of("cas.domain.tld") == seed_of("CAS.Domain.TLD.") != seed_of("cas2.domain.tld")
    assert 0 < seed_of("cas.domain.tld") < 2**32
    assert seed_of("cas.domain.tld") == 0x22FBAB44


@given(st.floats(1, 1000), st.floats(-5, 1e6), st.floats(0, 1e5))
def test_a_young_member_s_weight_is_between_a_tenth_and_the_whole(weight: float, up: float, slow: float) -> None:
    assert weight / 10 <= slow_start_weight(weight, up, slow) <= weight
    assert slow_start_weight(weight, max(up, slow), slow) == weight


def test_it_grows_in_ten_steps() -> None:
    steps = [slow_start_weight(100.0, up / 10, 30.0) for up in range(400)]
    assert steps == sorted(steps)
    assert sorted(set(steps)) == [10.0 * n for n in range(1, 11)]
