"""What holds for every message of RFR, NSPI and EMSMDB alike: round trip, cuts, rubbish."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.dcerpc.interfaces.address_book import RECORDED

from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces.emsmdb import (
    EcDoAsyncConnectEx,
    EcDoConnectEx,
    EcDoConnectExReply,
    EcDoDisconnect,
    EcDummyRpc,
    EcDummyRpcReply,
    EcHandleReply,
)
from casarray.core.dcerpc.interfaces.nspi import NspiBind, NspiBindReply, NspiUnbind, NspiUnbindReply, Stat
from casarray.core.dcerpc.interfaces.rfr import (
    RfrGetFqdnFromServerDn,
    RfrGetFqdnFromServerDnReply,
    RfrGetNewDsa,
    RfrGetNewDsaReply,
)
from casarray.core.dcerpc.ndr import ContextHandle
from casarray.core.errors import WireError

HANDLE = ContextHandle(UUID("11223344-5566-7788-99aa-bbccddeeff00"), 7)
GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")
DN = "/o=Org/ou=EAG/cn=Recipients/cn=jd"

MESSAGES: list[Any] = [
    RfrGetNewDsa(DN),
    RfrGetNewDsa(DN, flags=1, unused="", server="any"),
    RfrGetNewDsaReply("cas1.lab.example"),
    RfrGetNewDsaReply(None, result=0x80040111, unused="x"),
    RfrGetFqdnFromServerDn("/o=Org/ou=EAG/cn=Configuration/cn=Servers/cn=CAS1"),
    RfrGetFqdnFromServerDnReply("cas1.lab.example"),
    RfrGetFqdnFromServerDnReply(None, result=0x80040111),
    NspiBind(),
    NspiBind(flags=2, stat=Stat(delta=-5, current_record=0x80000001), server_guid=None),
    NspiBindReply(GUID, HANDLE),
    NspiBindReply(None, result=0x80040111),
    NspiUnbind(HANDLE),
    NspiUnbindReply(),
    EcDoConnectEx(DN),
    EcDoConnectEx(DN, flags=1, connection_hash=0xDEADBEEF, aux_in=bytes(range(12)), aux_out_max=0),
    EcDoConnectExReply(HANDLE, display_name="cas1", aux_out=b"12345678"),
    EcDoConnectExReply(result=0x3EB, dn_prefix=None, display_name=None),
    EcDoDisconnect(HANDLE),
    EcDoAsyncConnectEx(HANDLE),
    EcHandleReply(HANDLE, 5),
    EcDummyRpcReply(3),
    *RECORDED.values(),
]

in_every_dialect = pytest.mark.parametrize(
    ("order", "ndr64"), [("little", False), ("big", False), ("little", True), ("big", True)]
)
with_every_message = pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)


@in_every_dialect
@with_every_message
def test_a_message_comes_back_as_it_went(message: Any, order: Order, ndr64: bool) -> None:
    assert type(message).decode(message.encode(order, ndr64), order, ndr64) == message


@in_every_dialect
@with_every_message
def test_a_message_cut_anywhere_is_a_wire_error(message: Any, order: Order, ndr64: bool) -> None:
    whole = message.encode(order, ndr64)
    for cut in range(len(whole)):
        with pytest.raises(WireError):
            type(message).decode(whole[:cut], order, ndr64)


@with_every_message
def test_what_follows_a_message_is_not_its_business(message: Any) -> None:
    trailer = bytes.fromhex("8ae3137102f43671 0140 0400 00000000")  # a verification trailer
    assert type(message).decode(message.encode() + trailer) == message


@given(octets=st.binary(max_size=300), order=st.sampled_from(["little", "big"]), ndr64=st.booleans())
@pytest.mark.parametrize("decode", [cls.decode for cls in dict.fromkeys(type(m) for m in MESSAGES)])
def test_rubbish_ends_in_a_value_or_a_wire_error(
    decode: Callable[[bytes, str, bool], object], octets: bytes, order: str, ndr64: bool
) -> None:
    try:
        decode(octets, order, ndr64)
    except WireError:
        return


@given(data=st.data())
@with_every_message
def test_a_message_with_octets_turned_ends_in_a_value_or_a_wire_error(message: Any, data: st.DataObject) -> None:
    octets = bytearray(message.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        type(message).decode(bytes(octets))
    except WireError:
        return


names = st.text(st.characters(codec="latin-1", exclude_characters="\0"), max_size=200)


@given(dn=names, server=st.none() | names, flags=st.integers(0, 0xFFFFFFFF), ndr64=st.booleans())
def test_any_names_survive(dn: str, server: str | None, flags: int, ndr64: bool) -> None:
    asked = RfrGetNewDsa(dn, flags, server=server)
    assert RfrGetNewDsa.decode(asked.encode("big", ndr64), "big", ndr64) == asked
    answered = EcDoConnectExReply(HANDLE, dn_prefix=server, display_name=dn)
    assert EcDoConnectExReply.decode(answered.encode("little", ndr64), "little", ndr64) == answered


def test_a_dummy_call_is_empty_and_takes_anything() -> None:
    assert EcDummyRpc().encode() == b""
    assert EcDummyRpc.decode(b"whatever") == EcDummyRpc()


@pytest.mark.parametrize("message", [RfrGetNewDsaReply("€"), EcDoConnectEx("€"), RfrGetNewDsa("x", flags=1 << 32)])
def test_a_value_that_no_stub_can_carry_is_a_wire_error(message: Any) -> None:
    with pytest.raises(WireError):
        message.encode()
