"""Remote operations: a logon and its answers, several in one call, and what is refused. The octets are in captures."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from tests.core.dcerpc.interfaces.address_book import ADAS_DN, ARRAY_DN, HANDLE, MAILBOX, RECORDED

from casarray.core.dcerpc.interfaces.emsmdb import AUX_MAX, EcResult
from casarray.core.dcerpc.interfaces.emsmdb_frames import frame
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    BUFFER_MAX,
    NO_HANDLE,
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonFlag,
    LogonRedirect,
    LogonSuccess,
    OpenFlag,
    PublicLogonSuccess,
    RopFailure,
    RopLogon,
    RopRelease,
    RopReply,
    UnknownRop,
    read_replies,
    read_requests,
    reply_octets,
    request_octets,
)
from casarray.core.errors import WireError

LOGON = RopLogon(ADAS_DN, logon_id=3, handle_index=1)
NOON = datetime(2026, 11, 29, 12, 0, 59, tzinfo=UTC)  # a Sunday
REPLIES: list[RopReply] = [
    LogonSuccess(MAILBOX, NOON, folder_ids=tuple(range(13)), replica_guid=UUID(int=1), gwart_time=1 << 60),
    PublicLogonSuccess(folder_ids=tuple(range(13)), per_user_guid=UUID(int=2), handle_index=1),
    LogonRedirect(ARRAY_DN, LogonFlag.PRIVATE | LogonFlag.GHOSTED, handle_index=2),
    RopFailure(EcResult.UNKNOWN_USER),
    RopFailure(EcResult.NOT_SUPPORTED, rop_id=0x05, handle_index=1),
]


def test_a_logon_is_read_with_the_table_that_its_handle_goes_to() -> None:
    recorded = RECORDED["emsmdb/logon"]
    (logon,), handles = read_requests(recorded.rops)
    assert logon == RopLogon(ADAS_DN)
    assert isinstance(logon, RopLogon)
    assert logon.is_private
    assert handles == (NO_HANDLE,)


def test_a_logon_to_public_folders_names_no_mailbox() -> None:
    (logon,), _ = read_requests(RECORDED["emsmdb/public_logon"].rops)
    assert logon == RopLogon("", 0, OpenFlag.PUBLIC)
    assert isinstance(logon, RopLogon)
    assert not logon.is_private


def test_operations_follow_each_other_in_one_call() -> None:
    asked = (RopRelease(handle_index=2, logon_id=1), LOGON, RopRelease())
    assert read_requests(request_octets(asked, (7, NO_HANDLE, 9))) == (asked, (7, NO_HANDLE, 9))


def test_what_follows_an_operation_of_another_kind_is_a_part_of_it() -> None:
    octets = request_octets((LOGON, UnknownRop(0x02, b"\x03\x01rest"), RopRelease()))
    (logon, unknown), _ = read_requests(octets)
    assert logon == LOGON
    assert unknown == UnknownRop(0x02, b"\x03\x01rest\x01\x00\x00")
    assert isinstance(unknown, UnknownRop)
    assert unknown.handle_index == 1


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_an_answer_comes_back_as_it_went(reply: RopReply) -> None:
    assert read_replies(reply_octets((reply,), (5,))) == ((reply,), (5,))


def test_answers_follow_each_other_in_one_call() -> None:
    assert read_replies(reply_octets(REPLIES, (1, 2, 3))) == (tuple(REPLIES), (1, 2, 3))


def test_an_answer_to_something_else_that_went_well_is_left_as_it_is() -> None:
    octets = reply_octets((UnknownRop(0x02, bytes(5) + b"rest"),))
    assert read_replies(octets) == ((UnknownRop(0x02, bytes(5) + b"rest"),), ())


def test_the_day_of_a_logon_is_told_as_a_weekday_too() -> None:
    octets = reply_octets((REPLIES[0],))
    assert bytes((59, 0, 12, 0, 29, 11, 0xEA, 0x07)) in octets


def test_a_redirect_names_the_array_and_ends_in_a_nul() -> None:
    octets = reply_octets((LogonRedirect("/cn=a"),))
    assert octets[8:] == bytes.fromhex("1000 fe 00 78040000 01 06") + b"/cn=a\0"


def test_operations_in_several_buffers_follow_each_other() -> None:
    first = bytearray(request_octets((LOGON,), (7,)))
    first[2] = 0  # not the last one
    octets = bytes(first) + request_octets((RopRelease(),), (8,))
    assert read_requests(octets) == ((LOGON, RopRelease()), (7,))


@pytest.mark.parametrize("octets", [request_octets((LOGON,)), reply_octets(REPLIES)], ids=["request", "answer"])
def test_a_rop_buffer_cut_anywhere_is_a_wire_error(octets: bytes) -> None:
    payload = octets[8:]
    for cut in range(1, len(payload)):
        for read in (read_requests, read_replies):
            shortened = frame(payload[:cut])
            try:
                _, handles = read(shortened)
            except WireError:
                continue
            assert handles is not None  # cut between two handles, which is a shorter table
            assert cut >= int.from_bytes(payload[:2], "little")


@pytest.mark.parametrize("size", [0, 1])
def test_a_rop_buffer_smaller_than_its_own_size_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="truncated"):
        read_requests(frame(size.to_bytes(2, "little")))


def test_a_logon_on_a_day_that_never_was_is_a_wire_error() -> None:
    octets = reply_octets((REPLIES[0],)).replace(bytes((29, 11, 0xEA, 0x07)), bytes((31, 11, 0xEA, 0x07)))
    with pytest.raises(WireError, match="^time"):
        read_replies(octets)


@pytest.mark.parametrize(
    "reply",
    [
        LogonRedirect("x" * 255),
        LogonRedirect("€"),
        LogonSuccess(MAILBOX, NOON, folder_ids=(1, 2)),
        RopFailure(1 << 32),
    ],
    ids=["a name too long", "a name of other letters", "too few folders", "a result too big"],
)
def test_an_answer_that_no_octets_can_carry_is_a_wire_error(reply: RopReply) -> None:
    with pytest.raises(WireError):
        reply_octets((reply,))


@pytest.mark.parametrize(
    "message",
    [
        EcDoRpcExt2(HANDLE, bytes(BUFFER_MAX + 1)),
        EcDoRpcExt2(HANDLE, b"", out_max=BUFFER_MAX + 1),
        EcDoRpcExt2(HANDLE, b"", aux_in=bytes(AUX_MAX + 1)),
        EcDoRpcExt2(HANDLE, b"", aux_out_max=AUX_MAX + 1),
        EcDoRpcExt2Reply(HANDLE, bytes(BUFFER_MAX + 1)),
        EcDoRpcExt2Reply(HANDLE, aux_out=bytes(AUX_MAX + 1)),
    ],
    ids=["operations", "room", "aux", "room for aux", "answers", "aux of the answer"],
)
def test_more_than_the_interface_allows_is_a_wire_error(message: EcDoRpcExt2 | EcDoRpcExt2Reply) -> None:
    with pytest.raises(WireError, match="range"):
        type(message).decode(message.encode())


@pytest.mark.parametrize("behind", ["operations", "aux"])
def test_another_size_than_announced_is_a_wire_error(behind: str) -> None:
    octets = bytearray(EcDoRpcExt2(HANDLE, b"operations", aux_in=b"12345aux").encode())
    place = octets.index(behind.encode()) + len(behind)
    octets[(place + 3) & -4] ^= 1
    with pytest.raises(WireError, match="announced"):
        EcDoRpcExt2.decode(bytes(octets))
