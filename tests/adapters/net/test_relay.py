"""One relayed connection over real loopback sockets, by asyncio's own loop and by uvloop."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_address

import pytest
import uvloop

from casarray.adapters.net.relay import CHUNK, End, Relay, RelayLimits, prepare

HOST = "127.0.0.1"
PATIENT = RelayLimits(connect=1.0)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Bench:
    """A client, a member's listening socket, and a relay between them."""

    def __init__(self, limits: RelayLimits = PATIENT) -> None:
        self.loop = asyncio.get_running_loop()
        self.ends: list[End] = []
        self.stack = ExitStack()
        self.listener = self.stack.enter_context(socket.create_server((HOST, 0)))
        self.listener.setblocking(False)
        with socket.create_server((HOST, 0)) as door:
            self.client = self.stack.enter_context(socket.create_connection(door.getsockname()))
            accepted, _ = door.accept()
        self.client.setblocking(False)
        accepted.setblocking(False)
        buffer = memoryview(bytearray(CHUNK))
        self.relay = Relay(self.loop, accepted, buffer, limits, lambda _, why: self.ends.append(why))

    async def started(self) -> "Bench":
        """With the member connected."""
        self.relay.start(ip_address(HOST), self.listener.getsockname()[1])
        accepted, _ = await asyncio.wait_for(self.loop.sock_accept(self.listener), 2)
        self.member = self.stack.enter_context(accepted)
        self.member.setblocking(False)
        return self

    async def send(self, side: socket.socket, data: bytes) -> None:
        await asyncio.wait_for(self.loop.sock_sendall(side, data), 10)

    async def read(self, side: socket.socket, count: int = 1 << 30) -> bytes:
        """So many bytes, or all until the end."""
        data = bytearray()
        while len(data) < count:
            chunk = await asyncio.wait_for(self.loop.sock_recv(side, min(count - len(data), 1 << 20)), 10)
            if not chunk:
                break
            data += chunk
        return bytes(data)

    async def ended(self) -> End:
        """How it ended."""
        for _ in range(200):
            if self.ends:
                break
            await asyncio.sleep(0.01)
        assert len(self.ends) == 1
        return self.ends[0]


Scene = Callable[[], Awaitable[None]]


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Iterator[Callable[[Scene], None]]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:

        async def bounded(scene: Scene) -> None:
            await asyncio.wait_for(scene(), 30)

        yield lambda scene: runner.run(bounded(scene))


Play = Callable[[Scene], None]


def shut(bench: Bench) -> None:
    """Nothing is left open."""
    bench.relay.end(End.ENDED, reset=True)
    bench.stack.close()


def test_both_directions_carry_everything_at_the_same_time(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        there, back = os.urandom(5_000_000), os.urandom(3_000_000)
        _, _, got_there, got_back = await asyncio.gather(
            bench.send(bench.client, there),
            bench.send(bench.member, back),
            bench.read(bench.member, len(there)),
            bench.read(bench.client, len(back)),
        )
        assert (got_there == there, got_back == back) == (True, True)
        assert bench.relay.carried == len(there) + len(back)
        shut(bench)

    play(scene)


@pytest.mark.parametrize("first", ["client", "member"])
def test_an_end_in_one_direction_leaves_the_other_one_open(play: Play, first: str) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        one, other = (bench.client, bench.member) if first == "client" else (bench.member, bench.client)
        await bench.send(one, b"question")
        one.shutdown(socket.SHUT_WR)
        assert await bench.read(other) == b"question"
        answer = os.urandom(2_000_000)
        sending = asyncio.create_task(bench.send(other, answer))
        assert await bench.read(one, len(answer)) == answer
        await sending
        assert not bench.ends
        other.shutdown(socket.SHUT_WR)
        assert await bench.read(one) == b""
        assert await bench.ended() is End.CLOSED
        shut(bench)

    play(scene)


def test_the_end_waits_behind_what_was_sent_before_it(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        data = os.urandom(8_000_000)

        async def talk() -> None:
            await bench.send(bench.client, data)
            bench.client.shutdown(socket.SHUT_WR)

        talking = asyncio.create_task(talk())
        await asyncio.sleep(0.3)  # all buffers between them are full by now
        assert await bench.read(bench.member) == data
        await talking
        shut(bench)

    play(scene)


def test_a_reader_that_does_not_read_stops_its_writer_and_little_is_held(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        sent = 0
        for _ in range(50):
            with suppress(BlockingIOError):
                while True:
                    sent += bench.client.send(bytes(1 << 20))
            await asyncio.sleep(0.005)
        before = sent
        await asyncio.sleep(0.2)
        with pytest.raises(BlockingIOError):
            bench.client.send(b"x")
        assert bench.relay.held <= CHUNK
        bench.client.shutdown(socket.SHUT_WR)
        assert len(await bench.read(bench.member)) == before
        shut(bench)

    play(scene)


@pytest.mark.parametrize("who", ["client", "member"])
def test_a_reset_is_passed_on_as_a_reset(play: Play, who: str) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        await bench.send(bench.client, b"hello")
        assert await bench.read(bench.member, 5) == b"hello"
        one, other = (bench.client, bench.member) if who == "client" else (bench.member, bench.client)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.close()
        with pytest.raises(ConnectionResetError):
            await bench.read(other)
        assert await bench.ended() is End.RESET
        shut(bench)

    play(scene)


def test_last_words_arrive_although_the_member_takes_no_more(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        uploading = asyncio.create_task(bench.send(bench.client, bytes(50_000_000)))
        await asyncio.sleep(0.1)
        await bench.send(bench.member, b"413 too much")
        await asyncio.sleep(0.05)
        bench.member.close()  # with unread data: a reset
        assert await bench.read(bench.client, 12) == b"413 too much"
        with suppress(OSError):
            await uploading
        assert await bench.ended() is End.RESET
        shut(bench)

    play(scene)


def test_last_words_arrive_although_the_reset_is_met_when_sending(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        await bench.send(bench.client, b"hello")
        assert await bench.read(bench.member, 5) == b"hello"
        bench.client.send(b"more")
        bench.member.send(b"bye")
        bench.member.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        bench.member.close()
        assert bench.relay._up is not None
        bench.relay._up.readable()  # the loop might have called the other direction first
        assert await bench.read(bench.client, 3) == b"bye"
        with pytest.raises(ConnectionResetError):
            await bench.read(bench.client)
        assert await bench.ended() is End.RESET
        shut(bench)

    play(scene)


def test_a_member_that_refuses_is_unreachable_and_the_client_is_reset(play: Play) -> None:
    async def scene() -> None:
        bench = Bench()
        port = bench.listener.getsockname()[1]
        bench.listener.close()
        bench.relay.start(ip_address(HOST), port)
        assert not bench.ends  # never from within start
        assert await bench.ended() is End.UNREACHABLE
        with pytest.raises(ConnectionResetError):
            await bench.read(bench.client)
        shut(bench)

    play(scene)


def test_a_member_that_is_silent_is_given_up_in_time(play: Play) -> None:
    async def scene() -> None:
        bench = Bench(RelayLimits(connect=0.2))
        with socket.socket() as deaf, ExitStack() as queue:
            deaf.bind((HOST, 0))
            deaf.listen(0)
            for _ in range(3):  # a full queue: the kernel drops the next SYN
                waiting = queue.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(deaf.getsockname())
            began = bench.loop.time()
            bench.relay.start(ip_address(HOST), deaf.getsockname()[1])
            assert await bench.ended() is End.UNREACHABLE
            assert 0.15 < bench.loop.time() - began < 1.0
        shut(bench)

    play(scene)


def test_a_member_that_breaks_off_before_any_byte_counts_as_unreachable(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        await asyncio.sleep(0.02)
        bench.member.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        bench.member.close()
        assert await bench.ended() is End.UNREACHABLE
        shut(bench)

    play(scene)


def test_silence_ends_it_and_a_byte_in_either_direction_is_no_silence(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench(RelayLimits(idle=100, half_closed=10)).started()
        now = bench.loop.time()
        bench.relay.check(now)
        bench.relay.check(now + 99)
        await bench.send(bench.member, b"x")
        assert await bench.read(bench.client, 1) == b"x"
        bench.relay.check(now + 101)
        bench.relay.check(now + 200)
        assert not bench.ends
        bench.relay.check(now + 202)
        assert await bench.ended() is End.IDLE
        with pytest.raises(ConnectionResetError):
            await bench.read(bench.client)
        shut(bench)

    play(scene)


def test_half_closed_and_silent_is_ended_sooner(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench(RelayLimits(idle=100, half_closed=10)).started()
        bench.client.shutdown(socket.SHUT_WR)
        assert await bench.read(bench.member) == b""
        now = bench.loop.time()
        bench.relay.check(now)
        bench.relay.check(now + 9)
        assert not bench.ends
        bench.relay.check(now + 11)
        assert await bench.ended() is End.STALLED
        shut(bench)

    play(scene)


def test_ending_resets_both_sides_once(play: Play) -> None:
    async def scene() -> None:
        bench = await Bench().started()
        for _ in range(2):
            bench.relay.end(End.ENDED, reset=True)
        for side in (bench.client, bench.member):
            with pytest.raises(ConnectionResetError):
                await bench.read(side)
        assert await bench.ended() is End.ENDED
        shut(bench)

    play(scene)


def test_ending_while_it_connects_leaves_nothing(play: Play) -> None:
    async def scene() -> None:
        bench = Bench()
        bench.relay.start(ip_address(HOST), bench.listener.getsockname()[1])
        bench.relay.end(End.ENDED, reset=True)
        await asyncio.sleep(0.05)
        assert bench.ends == [End.ENDED]
        shut(bench)

    play(scene)


def test_a_listener_hands_keepalive_and_no_delay_on_to_what_it_accepts() -> None:
    with socket.create_server((HOST, 0)) as door:
        prepare(door, RelayLimits(keepalive=77))
        with socket.create_connection(door.getsockname()):
            accepted, _ = door.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
