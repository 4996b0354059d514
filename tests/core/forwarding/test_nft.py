"""The nft text: golden files to be read in review, and the description that comes back as the table."""

import subprocess
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import WireError
from casarray.core.forwarding import nft
from casarray.core.forwarding.diff import structure
from casarray.core.forwarding.table import Group, Member, Table

GOLDEN = Path(__file__).parents[2] / "golden"

RPC = Group(
    id=1,
    name="rpc",
    ports=(5000, 5001),
    nodes=frozenset({1, 2}),
    slots=(1, 2, 1, 2, 1),
    backup=(2, 1, 2, 1, 2),
    affinity_seconds=10800,
    dynamic=True,
)
WEB = replace(RPC, id=2, name="web", ports=(443,), nodes=frozenset({2}), dynamic=False, prefix4=24, prefix6=64)
TABLE = Table(
    array="CAS",
    addresses=(ip_address("10.11.0.100"), ip_address("fd11::100")),
    seed=0xCA5A88A7,
    members=(
        Member(1, "cas1", (ip_address("10.12.0.21"), ip_address("fd12::21"))),
        Member(2, "cas2", (ip_address("10.12.0.22"),)),
    ),
    groups=(RPC, WEB),
)
CASES = {
    "routed": (TABLE, nft.Present()),
    "masquerade": (
        replace(
            TABLE,
            addresses=tuple(map(ip_address, ("10.11.0.100", "10.11.0.101"))),
            masquerade=True,
            source_addresses=tuple(map(ip_address, ("10.12.0.201", "10.12.0.202"))),
            groups=(WEB,),
            mapper_port=None,
        ),
        nft.Present(),
    ),
    "on-top": (
        replace(TABLE, members=TABLE.members[:1], groups=(replace(WEB, nodes=frozenset({1})),)),
        nft.Present(
            chains=frozenset({"prerouting", "steer4_rpc", "node4_web_1", "node4_web_2"}),
            maps=frozenset({"pin4_web", "nodes4_web", "nodes4_rpc", "pin4_rpc", "slots_web"}),
            sets=frozenset({"about", "strange"}),
            counters=frozenset({"new_web_1", "new_web_2"}),
            misfits=frozenset({"slots_web"}),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_what_was_read_in_review(name: str) -> None:
    """After a wanted change: delete the golden file, run this, and read the difference."""
    table, present = CASES[name]
    text = nft.transaction(table, present)
    golden = GOLDEN / f"{name}.nft"
    if not golden.exists():
        golden.write_text(text)
        pytest.fail(f"{golden} was not there and has been written: read it")
    assert text == golden.read_text()


def test_the_shield_is_what_was_read_in_review() -> None:
    for name in ("routed", "masquerade"):
        text = nft.shield(CASES[name][0], "casarray_cas_shield")
        golden = GOLDEN / f"shield-{name}.nft"
        if not golden.exists():
            golden.write_text(text)
            pytest.fail(f"{golden} was not there and has been written: read it")
        assert text == golden.read_text()


@pytest.mark.root
@pytest.mark.parametrize("name", ["routed", "masquerade"])
def test_the_nft_program_takes_the_text(name: str) -> None:
    done = subprocess.run(
        ["unshare", "--net", "nft", "--check", "-f", "-"],
        input=nft.transaction(CASES[name][0]),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_seed_is_always_given() -> None:
    """Without one, each load of the rules draws a new one, and every client moves."""
    for seed in (0, 1, 0xFFFFFFFF):
        hashes = [line for line in nft.transaction(replace(TABLE, seed=seed)).splitlines() if "jhash" in line]
        assert len(hashes) == 8
        assert all(f"seed {seed:#x} " in line for line in hashes)


def test_nothing_that_holds_state_is_flushed_or_deleted() -> None:
    names = nft.maps(TABLE)
    present = nft.Present(
        chains=frozenset(nft.chains(TABLE)),
        maps=frozenset(names),
        sets=frozenset({nft.ABOUT}),
        counters=frozenset(nft.counters(TABLE)),
    )
    removing = [line for line in nft.transaction(TABLE, present).splitlines() if line.startswith(("flush", "delete"))]
    flushed = {line.split()[-1] for line in removing}
    assert flushed == {"casarray_cas", "about", "nodes4_rpc", "nodes6_rpc", "nodes4_web", "nodes6_web"}


@pytest.mark.parametrize(
    ("array", "name"),
    [
        ("CAS", "casarray_cas"),
        ("Cas-1.Pb", "casarray_cas_1_pb"),
        ("Köln", "casarray_k_ln"),
        ("resets", "casarray_resets_"),
    ],
)
def test_an_arrays_table_has_a_name_that_nft_takes(array: str, name: str) -> None:
    assert nft.table_name(array) == name


@given(
    st.text(max_size=300),
    st.lists(st.text(max_size=60), max_size=20),
    st.none() | st.integers(1, 65535),
)
def test_a_description_comes_back_as_the_same_structure(array: str, names: list[str], mapper: int | None) -> None:
    members = tuple(Member(n + 1, name, (ip_address(n + 1),)) for n, name in enumerate(names))
    table = replace(TABLE, array=array, members=members, mapper_port=mapper)
    pieces = nft.described(table)
    assert all(len(piece) <= 120 and '"' not in piece and "*" not in piece and piece.isascii() for piece in pieces)
    assert all(piece.isprintable() for piece in pieces)
    assert structure(nft.understood(pieces)) == structure(table)


@given(st.text(max_size=200))
def test_a_foreign_description_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        nft.understood([text])


@pytest.mark.parametrize("cut", range(len(nft.described(TABLE))))
def test_a_description_with_a_piece_missing_is_a_wire_error(cut: int) -> None:
    pieces = nft.described(TABLE)
    with pytest.raises(WireError):
        nft.understood(pieces[:cut] + pieces[cut + 1 :])


def test_an_array_called_resets_shares_its_tables_with_no_other() -> None:
    assert nft.names_taken("resets") & nft.names_taken("resets_")  # so a configuration with both is refused
    assert "casarray_resets" not in nft.names_taken("resets") | nft.names_taken("resets_")
    assert not nft.names_taken("cas") & nft.names_taken("cas2")
