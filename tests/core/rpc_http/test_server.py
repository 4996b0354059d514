"""The server's end and the proxies' end towards it, joined in memory."""

from collections import deque
from dataclasses import replace
from ipaddress import ip_address
from itertools import count
from uuid import UUID

import pytest
from tests.core.rpc_http.pair import rpc

from casarray.core.errors import WireError
from casarray.core.rpc_http.messages import ConnA2, ConnB2, FlowControlAck, FlowControlAckTo, KeepAlive, Ping
from casarray.core.rpc_http.rts import Ack, Party, decode_rts
from casarray.core.rpc_http.server import (
    PARTNER_SECONDS,
    Close,
    Command,
    Deliver,
    Introduction,
    Opened,
    ProxyEnd,
    Send,
    ServerEnd,
    Side,
)

CLIENT = ip_address("10.11.0.31")
ABOUT = Introduction(UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4), CLIENT)


class Joined:
    """Both ends, and what went between them."""

    def __init__(self, about: Introduction = ABOUT) -> None:
        numbers = count(100)
        self.server = ServerEnd(about.connection, 0.0)
        self.proxy = ProxyEnd(about, lambda: UUID(int=next(numbers)))
        self.opened: list[Opened] = []
        self.to_server: list[bytes] = []
        self.to_proxy: list[bytes] = []
        self.closed: list[str] = []
        self.wire: list[tuple[str, Side, bytes]] = []
        self._todo: deque[tuple[str, Command]] = deque()
        a2, b2 = (decode_rts(about_side) for about_side in (self.proxy.first[Side.OUT], self.proxy.first[Side.IN]))
        self.run("server", [*self.server.begin(ConnA2.read(a2)), *self.server.begin(ConnB2.read(b2))])

    def run(self, who: str, commands: list[Command]) -> None:
        self._todo += ((who, command) for command in commands)
        while self._todo:
            speaker, command = self._todo.popleft()
            match command:
                case Send(side, data):
                    self.wire.append((speaker, side, data))
                    other = self.proxy if speaker == "server" else self.server
                    listener = "proxy" if speaker == "server" else "server"
                    self._todo += ((listener, answer) for answer in other.receive(side, data))
                case Opened():
                    self.opened.append(command)
                case Deliver(data):
                    (self.to_server if speaker == "server" else self.to_proxy).append(data)
                case Close(why):
                    self.closed.append(why)


def test_both_halves_open_a_virtual_connection_and_the_server_learns_who_the_client_is() -> None:
    joined = Joined()
    assert Opened(CLIENT, ABOUT.group) in joined.opened
    joined.run("proxy", joined.proxy.send(rpc(1)))
    joined.run("server", joined.server.send(rpc(2)))
    assert (joined.to_server, joined.to_proxy, joined.closed) == ([rpc(1)], [rpc(2)], [])


def test_much_is_carried_both_ways_within_the_windows() -> None:
    joined = Joined()
    sent = [rpc(number, 5000) for number in range(100)]
    for pdu in sent:
        joined.run("proxy", joined.proxy.send(pdu))
        joined.run("server", joined.server.send(pdu))
    assert (joined.to_server, joined.to_proxy, joined.closed) == (sent, sent, [])


def test_an_out_channel_that_is_used_up_is_replaced() -> None:
    about = replace(ABOUT, lifetime=128 * 1024)
    joined = Joined(about)
    sent = [rpc(number, 5000) for number in range(100)]
    for pdu in sent:
        joined.run("server", joined.server.send(pdu))
    assert (joined.to_proxy, joined.closed) == (sent, [])
    flags = [decode_rts(data).flags for who, _, data in joined.wire if who == "server" and data[2] == 20]
    assert flags.count(4) >= 4  # OUT_R2/A1


def test_what_is_for_the_client_goes_on_through_the_server() -> None:
    joined = Joined()
    for message in (FlowControlAckTo(Party.OUT_PROXY, Ack(0, 65536, UUID(int=2))), KeepAlive(60_000)):
        assert joined.server.receive(Side.IN, message.encode()) == [Send(Side.OUT, message.encode())]


def test_one_half_alone_is_given_up() -> None:
    server = ServerEnd(UUID(int=1), 0.0)
    server.begin(ConnA2(1, UUID(int=1), UUID(int=2), 1 << 30, 65536))
    assert server.tick(PARTNER_SECONDS) == []
    (close,) = server.tick(PARTNER_SECONDS + 1)
    assert isinstance(close, Close)


def test_a_second_half_with_the_same_cookie_ends_it() -> None:
    joined = Joined()
    (close,) = joined.server.begin(ConnA2(1, UUID(int=1), UUID(int=9), 1 << 30, 65536))
    assert isinstance(close, Close)
    assert "second OUT" in close.why


def test_a_server_that_is_sent_more_than_it_has_room_for_ends_it() -> None:
    joined = Joined()
    commands = [command for n in range(40) for command in joined.server.receive(Side.IN, rpc(n, 5000))]
    assert not any(isinstance(command, Close) for command in commands)  # it acknowledges as it takes
    (close,) = joined.server.receive(Side.OUT, rpc(1))
    assert isinstance(close, Close)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("octets", [ConnA2(1, UUID(int=1), UUID(int=2), 1 << 30, 65536).encode(), b"\5\0\x14" * 8])
def test_what_is_not_expected_ends_it(side: Side, octets: bytes) -> None:
    for end in (Joined().server, Joined().proxy):
        commands = end.receive(side, octets)
        assert isinstance(commands[-1], Close)
        assert end.receive(side, Ping().encode()) == []


def test_an_acknowledgement_of_what_was_never_sent_ends_it() -> None:
    (close,) = Joined().proxy.receive(Side.IN, FlowControlAck(Ack(5, 65536, UUID(int=3))).encode())
    assert isinstance(close, Close)
    with pytest.raises(WireError):
        FlowControlAck.read(decode_rts(Ping().encode()))
