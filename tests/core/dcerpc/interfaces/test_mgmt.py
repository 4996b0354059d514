from contextlib import suppress
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.mgmt import MGMT, InqIfIdsReply, IsServerListeningReply
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import WireError

FORMS: list[tuple[Order, bool]] = list(product(("little", "big"), (False, True)))
MESSAGES = [
    InqIfIdsReply((EPM, MGMT, Syntax(UUID(int=7), 0, 81))),
    InqIfIdsReply(()),
    InqIfIdsReply(None, 0x16C9A0D6),
    IsServerListeningReply(True),
    IsServerListeningReply(False, 5),
]


@pytest.mark.parametrize(("order", "ndr64"), FORMS)
@pytest.mark.parametrize("message", MESSAGES)
def test_an_answer_survives_the_round_trip(
    message: InqIfIdsReply | IsServerListeningReply, order: Order, ndr64: bool
) -> None:
    stub = message.encode(order, ndr64)
    assert type(message).decode(stub, order, ndr64) == message
    for cut in range(len(stub)):
        with pytest.raises(WireError):
            type(message).decode(stub[:cut], order, ndr64)


def test_the_status_comes_before_the_result() -> None:
    assert IsServerListeningReply(True, 5).encode().hex() == "0500000001000000"


def test_a_vector_whose_two_counts_differ_is_refused() -> None:
    stub = bytearray(InqIfIdsReply((EPM, MGMT, EPM)).encode())
    stub[8] = 2
    with pytest.raises(WireError) as caught:
        InqIfIdsReply.decode(bytes(stub))
    assert caught.value.kind == "range"


def test_a_vector_of_a_million_interfaces_is_refused_before_it_is_read() -> None:
    stub = bytes.fromhex("00000200") + (1_000_000).to_bytes(4, "little") * 2
    with pytest.raises(WireError) as caught:
        InqIfIdsReply.decode(stub)
    assert caught.value.kind == "range"


@given(stub=st.binary(max_size=120), form=st.sampled_from(FORMS))
def test_any_octets_are_an_answer_or_a_wire_error(stub: bytes, form: tuple[Order, bool]) -> None:
    for kind in (InqIfIdsReply, IsServerListeningReply):
        with suppress(WireError):
            kind.decode(stub, *form)
