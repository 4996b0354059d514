"""Frames on a real socket: however they are cut, and what ends a connection."""

import socket
import threading

import pytest

from casarray.core.errors import Unavailable, WireError
from casarray.core.kerberos.agent_messages import frame

pytest.importorskip("gssapi", reason="gssapi is not installed")

from casarray.adapters.kerberos.gss import receive_frame, send_frame


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_frames_come_out_however_they_are_cut(size: int) -> None:
    stream = b"".join(map(frame, (b"a", b"bc" * 400, b"d")))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)

        def drip() -> None:
            for at in range(0, len(stream), size):
                ours.sendall(stream[at : at + size])
            ours.shutdown(socket.SHUT_WR)

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert [receive_frame(theirs) for _ in range(4)] == [b"a", b"bc" * 400, b"d", b""]
        dripping.join()


@pytest.mark.parametrize("sent", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n"])
def test_what_is_no_frame_is_an_error(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(sent)
        with pytest.raises(WireError):
            receive_frame(theirs)


@pytest.mark.parametrize("sent", [b"\0", b"\0\0\0\5abc"])
def test_an_end_in_the_middle_is_a_lost_line(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(sent)
        with pytest.raises(Unavailable, match="middle"):
            receive_frame(theirs)


def test_nothing_in_time_and_nobody_there_are_lost_lines() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(0.05)
        with pytest.raises(Unavailable, match="in time"):
            receive_frame(theirs)
        ours.close()
        with pytest.raises(Unavailable, match="lost"):
            send_frame(theirs, b"x")
