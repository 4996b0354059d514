"""Client and proxy of RPC over HTTP, joined in memory: the same state machines that sockets are given to elsewhere."""

from uuid import UUID

import pytest
from tests.core.rpc_http.pair import COOKIES, Pair, rpc

from casarray.core.rpc_http.client import SendIn
from casarray.core.rpc_http.messages import (
    ChannelCookie,
    ConnA1,
    ConnB1,
    FlowControlAckTo,
    InR1A1,
    OutR2A2,
    OutR2A3,
    OutR2A7,
    Ping,
)
from casarray.core.rpc_http.proxy import Close, ProxiedConnection, Refuse, SendOut, Settings, State
from casarray.core.rpc_http.rts import Ack, Party, decode_rts

KIB = 1024
STRANGER = UUID(int=99)


def opened(settings: Settings | None = None, **options: int) -> Pair:
    pair = Pair(settings, **options)
    pair.open()
    assert pair.opened
    return pair


def test_both_halves_open_a_virtual_connection() -> None:
    pair = opened()
    pair.call(rpc(1))
    pair.answer(rpc(2))
    assert pair.to_server == [rpc(1)]
    assert pair.to_client == [rpc(2)]
    assert (pair.broken, pair.closed) == (None, None)


def test_the_in_channel_may_come_first() -> None:
    pair = Pair()
    pair.write(pair.in_channel, pair.client.first_in)
    assert not pair.opened
    pair.write(pair.out_channel, pair.client.first_out)
    assert pair.opened


def test_one_half_alone_is_given_up() -> None:
    pair = Pair()
    pair.write(pair.out_channel, pair.client.first_out)
    assert pair.proxy.tick(29.0) == []
    (close,) = pair.proxy.tick(31.0)
    assert isinstance(close, Close)
    assert close.kind == "alone"


def test_much_is_carried_both_ways_within_the_windows() -> None:
    pair = opened()
    sent = [rpc(number, 5000) for number in range(200)]
    for pdu in sent:
        pair.call(pdu)
        pair.answer(pdu)
    assert pair.to_server == sent
    assert pair.to_client == sent


def test_a_client_sends_no_more_than_the_proxy_has_room_for_until_the_server_takes_it() -> None:
    pair = opened()
    pair.obey(pair.proxy.server_full(True, 0.0))
    for number in range(30):
        pair.call(rpc(number, 5000))
    assert len(pair.to_server) == 13  # 64 KiB
    assert pair.client.backlog == 17 * 5000
    pair.obey(pair.proxy.server_full(False, 0.0))
    assert pair.to_server == [rpc(number, 5000) for number in range(30)]


def test_a_client_that_sends_more_than_there_is_room_for_is_cut_off() -> None:
    pair = opened()
    pair.obey(pair.proxy.server_full(True, 0.0))
    for number in range(14):
        pair.write(pair.in_channel, rpc(number, 5000))
    assert pair.closed is not None
    assert pair.closed.kind == "flow"


def test_a_proxy_sends_no_more_than_the_client_has_room_for() -> None:
    proxy = ProxiedConnection(COOKIES.connection, Settings(), 0.0)
    proxy.out_channel(1, ConnA1(1, COOKIES.connection, COOKIES.out_channel, 8 * KIB), 0.0)
    proxy.in_channel(2, ConnB1(1, COOKIES.connection, COOKIES.in_channel, 1 << 30, 300_000, COOKIES.group), 0.0)
    proxy.connected(0.0)
    assert proxy.from_server(rpc(1, 5000), 0.0) == [SendOut(1, rpc(1, 5000))]
    assert proxy.from_server(rpc(2, 5000), 0.0) == []
    ack = FlowControlAckTo(Party.OUT_PROXY, Ack(5000, 8 * KIB, COOKIES.out_channel))
    assert proxy.from_in(2, ack.encode(), 0.0) == [SendOut(1, rpc(2, 5000))]


def test_the_server_is_not_read_while_the_client_reads_nothing() -> None:
    proxy = ProxiedConnection(COOKIES.connection, Settings(), 0.0)
    proxy.out_channel(1, ConnA1(1, COOKIES.connection, COOKIES.out_channel, 8 * KIB), 0.0)
    proxy.in_channel(2, ConnB1(1, COOKIES.connection, COOKIES.in_channel, 1 << 30, 300_000, COOKIES.group), 0.0)
    proxy.connected(0.0)
    assert proxy.wants_server
    for number in range(54):
        proxy.from_server(rpc(number, 5000), 0.0)
    assert not proxy.wants_server


def test_an_acknowledgement_of_what_was_never_sent_is_an_error() -> None:
    pair = opened()
    ack = FlowControlAckTo(Party.OUT_PROXY, Ack(1, 64 * KIB, COOKIES.out_channel))
    pair.write(pair.in_channel, ack.encode())
    assert pair.closed is not None
    assert pair.closed.kind == "flow"


def test_in_channels_are_replaced_before_they_are_used_up_and_nothing_is_lost() -> None:
    pair = opened(lifetime=128 * KIB)
    sent = [rpc(number, 5000) for number in range(100)]
    for pdu in sent:
        pair.call(pdu)
    assert pair.to_server == sent
    assert pair.replaced["in"] >= 4
    assert (pair.broken, pair.closed) == (None, None)


def test_out_channels_are_replaced_before_they_are_used_up_and_nothing_is_lost() -> None:
    pair = opened(Settings(lifetime=128 * KIB))
    sent = [rpc(number, 5000) for number in range(100)]
    for pdu in sent:
        pair.answer(pdu)
    assert pair.to_client == sent
    assert pair.replaced["out"] >= 4
    assert (pair.broken, pair.closed) == (None, None)


def test_both_channels_are_replaced_at_once() -> None:
    pair = opened(Settings(lifetime=128 * KIB), lifetime=128 * KIB)
    sent = [rpc(number, 5000) for number in range(100)]
    for pdu in sent:
        pair.answer(pdu)
        pair.call(pdu)
    assert pair.to_client == sent
    assert pair.to_server == sent
    assert min(pair.replaced.values()) >= 4


def test_a_client_that_does_not_replace_its_out_channel_in_time_is_cut_off() -> None:
    proxy = ProxiedConnection(COOKIES.connection, Settings(lifetime=128 * KIB), 0.0)
    proxy.out_channel(1, ConnA1(1, COOKIES.connection, COOKIES.out_channel, 256 * KIB), 0.0)
    proxy.in_channel(2, ConnB1(1, COOKIES.connection, COOKIES.in_channel, 1 << 30, 300_000, COOKIES.group), 0.0)
    proxy.connected(0.0)
    said = [command for number in range(25) for command in proxy.from_server(rpc(number, 5000), 0.0)]
    assert SendOut(1, OutR2A2().encode()) in said
    (close,) = proxy.tick(61.0)
    assert isinstance(close, Close)
    assert close.kind == "handover"


@pytest.mark.parametrize("which", ["in", "out"])
def test_a_second_channel_with_the_same_cookie_is_refused_and_the_first_goes_on(which: str) -> None:
    pair = opened()
    if which == "in":
        again = ConnB1(1, COOKIES.connection, STRANGER, 1 << 30, 300_000, COOKIES.group)
        (refusal,) = pair.proxy.in_channel(9, again, 0.0)
    else:
        (refusal,) = pair.proxy.out_channel(9, ConnA1(1, COOKIES.connection, STRANGER, 64 * KIB), 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.channel == 9
    assert pair.proxy.lost(9) == []
    pair.call(rpc(1))
    assert pair.to_server == [rpc(1)]


def test_a_successor_needs_the_cookie_of_the_channel_it_follows() -> None:
    pair = opened()
    (refusal,) = pair.proxy.in_channel(9, InR1A1(1, COOKIES.connection, STRANGER, UUID(int=77)), 0.0)
    assert isinstance(refusal, Refuse)
    (refusal,) = pair.proxy.out_channel(9, OutR2A3(1, COOKIES.connection, STRANGER, STRANGER, 64 * KIB), 0.0)
    assert isinstance(refusal, Refuse)
    assert pair.closed is None


@pytest.mark.parametrize("words", [OutR2A7(Party.SERVER, STRANGER, 1).encode(), ChannelCookie(STRANGER).encode()])
def test_a_switch_to_a_channel_that_is_not_there_is_an_error(words: bytes) -> None:
    pair = opened()
    pair.write(pair.in_channel, words)
    assert pair.closed is not None
    assert pair.closed.kind == "out-of-turn"


def test_what_a_server_said_last_still_arrives() -> None:
    proxy = ProxiedConnection(COOKIES.connection, Settings(), 0.0)
    proxy.out_channel(1, ConnA1(1, COOKIES.connection, COOKIES.out_channel, 8 * KIB), 0.0)
    proxy.in_channel(2, ConnB1(1, COOKIES.connection, COOKIES.in_channel, 1 << 30, 300_000, COOKIES.group), 0.0)
    proxy.connected(0.0)
    proxy.from_server(rpc(1, 5000), 0.0)
    proxy.from_server(rpc(2, 5000), 0.0)
    assert proxy.server_lost(0.0) == []
    assert not proxy.wants_server
    ack = FlowControlAckTo(Party.OUT_PROXY, Ack(5000, 8 * KIB, COOKIES.out_channel))
    assert proxy.from_in(2, ack.encode(), 0.0) == [SendOut(1, rpc(2, 5000)), Close()]


def test_a_client_that_does_not_take_it_is_not_waited_for_for_ever() -> None:
    proxy = ProxiedConnection(COOKIES.connection, Settings(), 0.0)
    proxy.out_channel(1, ConnA1(1, COOKIES.connection, COOKIES.out_channel, 8 * KIB), 0.0)
    proxy.in_channel(2, ConnB1(1, COOKIES.connection, COOKIES.in_channel, 1 << 30, 300_000, COOKIES.group), 0.0)
    proxy.connected(0.0)
    for number in range(3):
        proxy.from_server(rpc(number, 5000), 0.0)
    proxy.server_lost(0.0)
    (close,) = proxy.tick(61.0)
    assert isinstance(close, Close)


@pytest.mark.parametrize("channel", ["in_channel", "out_channel"])
def test_one_channel_that_dies_ends_the_connection(channel: str) -> None:
    pair = opened()
    assert pair.proxy.lost(getattr(pair, channel)) == [Close()]
    assert pair.proxy.state is State.OVER
    assert pair.proxy.from_server(rpc(1), 0.0) == []


def test_some_rts_pdus_in_a_row_are_borne_with() -> None:
    pair = opened()
    for _ in range(400):
        pair.write(pair.in_channel, Ping().encode())
    assert pair.closed is None


def test_rts_pdus_without_end_are_a_flood() -> None:
    pair = opened()
    for _ in range(600):
        pair.write(pair.in_channel, Ping().encode())
    assert pair.closed is not None
    assert pair.closed.kind == "flood"


def test_calls_before_the_connection_is_open_are_out_of_turn() -> None:
    pair = Pair()
    pair.write(pair.in_channel, pair.client.first_in + rpc(1))
    assert pair.closed is not None
    assert pair.closed.kind == "out-of-turn"


def test_both_sides_say_that_they_are_still_there() -> None:
    pair = opened()
    assert pair.client.tick(100.0) == []
    assert pair.client.tick(450.0) == [SendIn(Ping().encode())]
    assert pair.proxy.tick(100.0) == []
    assert pair.proxy.tick(151.0) == [SendOut(pair.out_channel, Ping().encode())]


def test_a_client_that_says_nothing_for_too_long_is_given_up() -> None:
    pair = opened()
    (close,) = pair.proxy.tick(901.0)
    assert isinstance(close, Close)
    assert close.kind == "silent"


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n", b"\5\0\x14\3\x10\0\0\0\x15\0\0\0\0\0\0\0\1\0\0\0\0"])
def test_garbage_on_the_out_channel_breaks_the_client(garbage: bytes) -> None:
    pair = opened()
    pair.do(pair.client.from_out(garbage, 0.0))
    assert pair.broken is not None
    assert pair.client.send(rpc(1), 0.0) == []


def test_what_a_client_does_not_expect_breaks_it() -> None:
    pair = opened()
    pair.do(pair.client.from_out(ChannelCookie(STRANGER).encode(), 0.0))
    assert pair.broken is not None
    assert "for a client" in pair.broken


def test_the_first_words_are_read_back() -> None:
    pair = Pair()
    assert ConnA1.read(decode_rts(pair.client.first_out)).connection == COOKIES.connection
    assert ConnB1.read(decode_rts(pair.client.first_in)).group == COOKIES.group
