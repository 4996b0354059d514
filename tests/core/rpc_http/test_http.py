"""The heads of requests and answers, and bodies in chunks."""

import contextlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import WireError
from casarray.core.rpc_http.http import (
    MOST_HEAD,
    OUT,
    Chunks,
    RequestHead,
    Target,
    challenge,
    request_head,
    rpc_error,
    take_answer,
    take_request,
)

SESSION = UUID("11111111-2222-3333-4444-555555555555")
OUTLOOK = (
    b"RPC_OUT_DATA /rpc/rpcproxy.dll?cas1.lab.example:6001 HTTP/1.1\r\n"
    b"Cache-Control: no-cache\r\nConnection: Keep-Alive\r\nPragma: No-cache\r\n"
    b"Pragma: SessionId=11111111-2222-3333-4444-555555555555, MinConnTimeout=120\r\n"
    b"Accept: application/rpc\r\nUser-Agent: MSRPC\r\nHost: mail.lab.example\r\n"
    b"Content-Length: 76\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n"
)


def read(octets: bytes) -> RequestHead:
    head = take_request(bytearray(octets))
    assert head is not None
    return head


def test_outlooks_request_is_read() -> None:
    head = read(OUTLOOK)
    assert (head.method, head.path, head.length, head.minor) == (OUT, "/rpc/rpcproxy.dll", 76, 1)
    assert head.target == Target("cas1.lab.example", 6001)
    assert head.headers.session == SESSION
    assert head.credentials == ("basic", b"alice:secret")
    assert head.is_channel


@pytest.mark.parametrize("cut", range(0, len(OUTLOOK), 7))
def test_half_a_head_waits(cut: int) -> None:
    buffer = bytearray(OUTLOOK[:cut])
    assert take_request(buffer) is None
    buffer += OUTLOOK[cut:] + b"body"
    assert take_request(buffer) is not None
    assert buffer == b"body"


def test_our_own_request_is_read_by_ourselves() -> None:
    extra = [("Pragma", f"SessionId={SESSION}")]
    head = read(request_head(OUT, Target("fe80::1", 6004), "mail", 120, extra))
    assert (head.target, head.length, head.headers.session) == (Target("fe80::1", 6004), 120, SESSION)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"RPC_IN_DATA /rpc/rpcproxy.dll HTTP/1.1\nHost: a\r\n\r\n",
        OUTLOOK.replace(b"Content-Length: 76", b"Content-Length: -1"),
        OUTLOOK.replace(b"Content-Length: 76", b"Content-Length: 76\r\nContent-Length: 77"),
        OUTLOOK.replace(b"Content-Length: 76", b"Transfer-Encoding: chunked"),
        OUTLOOK.replace(b"Accept: ", b"Acc ept: "),
        OUTLOOK.replace(b"Accept: ", b" folded: "),
        b"RPC_IN_DATA / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"RPC_IN_DATA / HTTP/1.1\r\na: " + b"a" * MOST_HEAD,
    ],
)
def test_what_is_no_request_is_a_wire_error(octets: bytes) -> None:
    with pytest.raises(WireError):
        take_request(bytearray(octets))


@pytest.mark.parametrize("target", [b"cas1", b"cas1:0", b"cas1:65536", b":6001", b"a/b:1", b"cas1:6001:1", b"[::1]"])
def test_what_is_no_server_is_a_wire_error(target: bytes) -> None:
    head = read(OUTLOOK.replace(b"cas1.lab.example:6001", target))
    with pytest.raises(WireError):
        _ = head.target


def test_an_authorization_that_is_not_base64_is_a_wire_error() -> None:
    head = read(OUTLOOK.replace(b"YWxpY2U6c2VjcmV0", b"???"))
    with pytest.raises(WireError):
        _ = head.credentials


def test_an_answer_is_read() -> None:
    answer = take_answer(bytearray(rpc_error(0x6BA)))
    assert answer is not None
    assert (answer.status, answer.reason) == (503, "RPC Error: 6ba")
    asked = take_answer(bytearray(challenge(["Negotiate", 'Basic realm="a"'])))
    assert asked is not None
    assert asked.headers.all("www-authenticate") == ("Negotiate", 'Basic realm="a"')


def test_nobody_slips_a_header_in() -> None:
    with pytest.raises(WireError):
        request_head(OUT, Target("a", 1), "host\r\nX: y", 4)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_a_body_is_taken_out_of_its_chunks_however_it_is_cut(step: int) -> None:
    wire = b"5\r\nhello\r\nA;name=value\r\n0123456789\r\n0\r\n\r\n"
    chunks = Chunks()
    body = b"".join(chunks.take(wire[at : at + step]) for at in range(0, len(wire), step))
    assert body == b"hello0123456789"
    assert chunks.over


@pytest.mark.parametrize("wire", [b"zz\r\n", b"-1\r\n", b"1" * 300, b"123456789\r\n"])
def test_what_is_no_chunk_is_a_wire_error(wire: bytes) -> None:
    with pytest.raises(WireError):
        Chunks().take(wire)


@given(st.binary(max_size=300))
def test_any_octets_end_in_a_value_or_a_wire_error(octets: bytes) -> None:
    for take in (take_request, take_answer):
        with contextlib.suppress(WireError):
            take(bytearray(octets))
    with contextlib.suppress(WireError):
        Chunks().take(octets)
