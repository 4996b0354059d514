"""Elements as bytes and back; the netlink transport against a real kernel is tried in tests/contract."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.adapters.kernel import elements
from casarray.adapters.kernel.nfnetlink import Kind, Refused, attribute, attributes, nest, string, text, translated
from casarray.core.errors import Denied, Unavailable

# As `strace nft add element inet t m { 10.1.2.4 . 1024-65535 timeout 10m : 0:2 }` shows it, in nft's order of fields.
RANGE_BY_NFT = b"".join(
    bytes.fromhex(line)
    for line in (
        "3c00 0180",  # one element, nested
        "0c00 0400 00000000000927c0",  # time-out: 600,000 ms, big-endian
        "1000 0180 0c000100 0a010204 04000000",  # key: 10.1.2.4, port 1024 padded to 4 bytes
        "1000 0a80 0c000100 0a010204 ffff0000",  # end of the key: port 65535
        "0c00 0280 08000100 02000000",  # data: classid 0:2 in the host's order
    )
)


def answer(*listed: bytes) -> bytes:
    """What the kernel says to a dump."""
    return text(1, "casarray_cas") + text(2, "pin4_rpc") + nest(3, *listed)


def held(key: bytes, value: int, left_ms: int) -> bytes:
    """An element as the kernel lists it: with what is left of it, and without the bit for nested."""
    return attribute(
        1,
        attribute(1, attribute(1, key))
        + attribute(2, attribute(1, struct.pack("=I", value)))
        + attribute(4, struct.pack("!Q", 10_800_000))
        + attribute(5, struct.pack("!Q", left_ms)),
    )


def test_an_element_has_the_fields_that_nft_writes() -> None:
    ours = elements.element(
        elements.port_key(bytes([10, 1, 2, 4]), 1024),
        2,
        key_end=elements.port_key(bytes([10, 1, 2, 4]), 65535),
        seconds=600,
    )

    def fields(data: bytes) -> list[tuple[int, bytes]]:
        return sorted(attributes(next(attributes(data))[1]))

    assert fields(ours) == fields(RANGE_BY_NFT)


def test_a_verdict_names_its_chain() -> None:
    data = elements.element(elements.classid_key(1), chain="node4_rpc_1")
    (_, inside), *_ = attributes(data)
    verdict = dict(attributes(dict(attributes(dict(attributes(inside))[2]))[2]))
    assert verdict == {1: b"\xff\xff\xff\xfc", 2: b"node4_rpc_1\0"}  # -4 is goto


def test_a_comment_comes_back() -> None:
    data = elements.element(elements.classid_key(7), comment="{'array':'CAS'}")
    (found,) = elements.decoded(answer(data))
    assert (found.key, found.comment, found.value) == (struct.pack("=I", 7), "{'array':'CAS'}", None)


@pytest.mark.parametrize("size", [4, 16])
@given(data=st.data())
def test_columns_are_what_one_by_one_would_give(size: int, data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(
            st.tuples(st.binary(min_size=size, max_size=size), st.integers(0, 0xFFFFFFFF), st.integers(0, 2**40)),
            max_size=50,
        )
    )
    said = answer(*(held(*row) for row in rows))
    found = elements.columns(said, size)
    one_by_one = [(e.key, e.value, e.expires_ms) for e in elements.decoded(said)]
    assert one_by_one == rows
    assert [k.tobytes() for k in found.keys] == [row[0] for row in rows]
    assert list(zip(found.values.tolist(), found.expires_ms.tolist(), strict=True)) == [row[1:] for row in rows]
    assert elements.count(said) == len(rows)


def test_columns_of_elements_of_different_forms_leave_none_out() -> None:
    odd = nest(1, nest(1, attribute(1, b"\x0a\0\0\2")), nest(2, attribute(1, struct.pack("=I", 9))))
    said = answer(held(b"\x0a\0\0\1", 5, 1000), odd, held(b"\x0a\0\0\3", 6, 2000))
    found = elements.columns(said, 4)
    assert found.values.tolist() == [5, 9, 6]
    assert found.expires_ms.tolist() == [1000, 0, 2000]
    assert elements.count(said) == 3


@pytest.mark.parametrize(("valued", "timed"), [(True, True), (True, False), (False, False)])
@given(number=st.integers(0, 40), size=st.sampled_from([4, 16]))
def test_elements_by_columns_are_the_same_bytes_as_elements_one_by_one(
    valued: bool, timed: bool, number: int, size: int
) -> None:
    random = np.random.default_rng(number)
    keys = random.integers(0, 256, (number, size), np.uint8)
    members = random.integers(1, 4096, number).astype(np.uint32)
    seconds = random.integers(1, 100_000, number).astype(np.uint32)
    expected = b"".join(
        elements.element(k.tobytes(), int(m) if valued else None, seconds=int(s) if timed else None)
        for k, m, s in zip(keys, members, seconds, strict=True)
    )
    assert elements.rows(keys, members if valued else None, seconds if timed else None) == expected


@given(st.binary(max_size=200))
def test_bytes_that_make_no_sense_make_no_elements_and_no_noise(data: bytes) -> None:
    list(attributes(data))
    elements.decoded(data)
    elements.decoded(nest(3, data))
    elements.columns(nest(3, data), 4)
    elements.count(nest(3, data))


def test_messages_that_change_elements_say_which_map() -> None:
    for message, kind in (
        (elements.add("t", "m", []), Kind.NEWSETELEM),
        (elements.delete("t", "m", []), Kind.DELSETELEM),
        (elements.ask("t", "m", b"1234"), Kind.GETSETELEM),
        (elements.every("t", "m"), Kind.GETSETELEM),
    ):
        assert message.kind is kind
        assert [string(v) for k, v in attributes(message.body) if k in {1, 2}] == ["t", "m"]


def test_what_the_kernel_refuses_becomes_a_sentence() -> None:
    denied = translated(PermissionError(1, "Operation not permitted"))
    assert isinstance(denied, Denied)
    assert "CAP_NET_ADMIN" in str(denied)
    missing = translated(OSError(93, "Protocol not supported"))
    assert isinstance(missing, Unavailable)
    assert 'mode = "userspace"' in str(missing)
    assert str(Refused(28, "Set is full")) == "the kernel refused a change of its table: Set is full"
    assert "No such file" in str(Refused(2))
