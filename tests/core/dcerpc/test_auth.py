"""Callers that prove who they are, with a security provider made of paper: client and server joined in memory."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.association import (
    ACCESS_DENIED,
    SECURITY_ERROR,
    BindRefused,
    Bound,
    Broken,
    Call,
    Failed,
    Reply,
    RpcClient,
    RpcServer,
)
from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth, Protection, ServerAuth
from casarray.core.dcerpc.pdu import AlterContext, NakReason, Request, Syntax, take_pdu
from casarray.core.dcerpc.verification import (
    BITMASK_1,
    SIGNATURE,
    Command,
    encode_verification,
    header2,
    split_verification,
    without_verification,
)
from casarray.core.errors import Denied

ECHO = Syntax(UUID("12345678-1234-abcd-ef00-0123456789ab"), 1, 0)
LEVELS = (AuthLevel.CONNECT, AuthLevel.PACKET, AuthLevel.INTEGRITY, AuthLevel.PRIVACY)


class PaperSecurity:
    """Three legs, "hello", "welcome", "thanks"; an HMAC of 20 octets; a seal that is a XOR. Order counts."""

    def __init__(self, server: bool, key: bytes = b"key") -> None:
        self.server = server
        self.key = key
        self.turn = 0
        self.numbers = {"sent": 0, "received": 0}

    @property
    def complete(self) -> bool:
        return self.turn == 2

    @property
    def peer(self) -> str:
        return "alice@LAB" if self.server and self.complete else ""

    mechanism = "paper"
    signs_headers = False

    def step(self, token: bytes) -> bytes:
        wanted = ((b"hello", b"thanks") if self.server else (b"", b"welcome"))[self.turn]
        if token != wanted:
            raise Denied(f"{token!r} is not {wanted!r}")
        self.turn += 1
        return ((b"welcome", b"") if self.server else (b"hello", b"thanks"))[self.turn - 1]

    def token_size(self, sealed: bool) -> int:
        return 24 if sealed else 20

    def _mac(self, data: bytes, way: str) -> bytes:
        self.numbers[way] += 1
        return hmac.digest(self.key, self.numbers[way].to_bytes(4, "big") + data, hashlib.sha1)

    def sign(self, data: bytes) -> bytes:
        return self._mac(data, "sent")

    def verify(self, data: bytes, token: bytes) -> None:
        if self._mac(data, "received") != token:
            raise Denied("the signature is not right")

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        return bytes(octet ^ 0x55 for octet in body), b"seal" + self._mac(before + body + after, "sent")

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        clear = bytes(octet ^ 0x55 for octet in body)
        if token != b"seal" + self._mac(before + clear + after, "received"):
            raise Denied("the seal is not right")
        return clear


def answer(call: Call) -> bytes:
    assert call.caller is not None
    return f"{call.caller.name} {call.caller.level.name} ".encode() + call.stub[::-1]


def joined(
    level: AuthLevel, *, signing: bool = True, third: str = "alter", key: bytes = b"key"
) -> tuple[RpcClient, RpcServer]:
    """A client and a server that have gone through all legs."""
    auth = ClientAuth(PaperSecurity(False, key), AuthType.KERBEROS, level, header_signing=signing)
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=auth.begin(), header_signing=signing)))
    assert isinstance(event, Bound)
    assert event.header_signing is signing
    leg = auth.answered(event.auth, event.header_signing)
    assert leg is not None
    if third == "auth3":
        assert server.serve(client.auth3(leg)) == b""
    else:
        (event,) = client.receive(server.serve(client.alter(ECHO, auth=leg)))
        assert isinstance(event, Bound)
        assert auth.answered(event.auth, event.header_signing) is None
    client.protection = auth.protection
    return client, server


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("signing", [True, False])
@pytest.mark.parametrize("third", ["alter", "auth3"])
@pytest.mark.parametrize("size", [0, 1, 16, 20_000])
def test_calls_and_answers_arrive_in_clear_and_the_caller_is_known(
    level: AuthLevel, signing: bool, third: str, size: int
) -> None:
    client, server = joined(level, signing=signing, third=third)
    for _ in range(2):
        stub = bytes(number % 251 for number in range(size))
        (event,) = client.receive(server.serve(client.call(ECHO, 0, stub)))
        assert isinstance(event, Reply)
        assert event.stub == f"alice@LAB {level.name} ".encode() + stub[::-1]


def test_at_privacy_level_the_stub_is_not_on_the_wire() -> None:
    client, server = joined(AuthLevel.PRIVACY)
    sent = client.call(ECHO, 0, b"a secret nobody may read")
    assert b"secret" not in sent
    received = server.serve(sent)
    assert b"alice" not in received
    assert b"terces" not in received


@pytest.mark.parametrize("level", LEVELS[1:])
@given(data=st.data())
def test_a_call_of_which_one_bit_changed_is_refused_and_the_connection_ends(
    level: AuthLevel, data: st.DataObject
) -> None:
    client, server = joined(level)
    sent = bytearray(client.call(ECHO, 7, b"sixteen octets!!"))
    # The version, type, length and byte order decide what it is at all; from the call id on, all of it is vouched for.
    at = data.draw(st.integers(12, len(sent) - 1))
    sent[at] ^= 1 << data.draw(st.integers(0, 7))
    events = server.receive(bytes(sent))
    assert server.closed
    assert isinstance(events[-1], Broken)
    assert not any(isinstance(event, Call) for event in events)


def test_without_header_signing_the_header_may_change_and_the_stub_not() -> None:
    client, server = joined(AuthLevel.INTEGRITY, signing=False)
    sent = bytearray(client.call(ECHO, 7, b"sixteen octets!!"))
    sent[22] ^= 1  # the opnum
    (event,) = server.receive(bytes(sent))
    assert isinstance(event, Call)
    assert event.opnum == 6
    sent = bytearray(client.call(ECHO, 7, b"sixteen octets!!"))
    sent[24] ^= 1
    assert isinstance(server.receive(bytes(sent))[-1], Broken)


def test_a_call_sent_again_is_refused() -> None:
    client, server = joined(AuthLevel.INTEGRITY)
    sent = client.call(ECHO, 0, b"pay ten")
    assert isinstance(client.receive(server.serve(sent))[0], Reply)
    refused = server.serve(sent)
    assert server.closed
    fault = take_pdu(bytearray(refused))
    assert getattr(fault, "status", None) == SECURITY_ERROR


def test_an_answer_that_was_changed_breaks_the_client() -> None:
    client, server = joined(AuthLevel.PRIVACY)
    received = bytearray(server.serve(client.call(ECHO, 0, b"how much")))
    received[30] ^= 1
    (event,) = client.receive(bytes(received))
    assert isinstance(event, Broken)
    assert isinstance(event.error, Denied)


def test_a_call_without_the_agreed_protection_is_refused() -> None:
    client, server = joined(AuthLevel.INTEGRITY)
    client.protection = None
    (event,) = client.receive(server.serve(client.call(ECHO, 0, b"trust me")))
    assert event == Failed(3, SECURITY_ERROR, True)
    assert server.closed


def test_a_call_before_the_last_leg_is_refused() -> None:
    auth = ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.CONNECT)
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    client.receive(server.serve(client.bind(ECHO, auth=auth.begin())))
    (event,) = client.receive(server.serve(client.call(ECHO, 0, b"")))
    assert event == Failed(2, SECURITY_ERROR, True)
    assert server.caller is None


def test_a_provider_nobody_has_is_refused_by_its_type() -> None:
    auth = ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.CONNECT)
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: None))
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=auth.begin())))
    assert event == BindRefused(NakReason.AUTHENTICATION_TYPE_NOT_RECOGNIZED, ((5, 0),))
    assert not server.closed  # it may try again without


def test_a_token_that_proves_nothing_is_refused_with_the_bind() -> None:
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    auth = replace(ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.CONNECT).begin(), token=b"forged")
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=auth)))
    assert event == BindRefused(NakReason.INVALID_CHECKSUM, ((5, 0),))
    assert server.closed


@pytest.mark.parametrize(
    "spoil",
    [
        lambda auth: replace(auth, token=b"forged"),
        lambda auth: replace(auth, level=AuthLevel.CONNECT),
        lambda auth: replace(auth, context_id=99),
    ],
)
def test_a_third_leg_that_is_not_right_is_denied(spoil: Callable[..., object]) -> None:
    auth = ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.PRIVACY)
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=auth.begin())))
    assert isinstance(event, Bound)
    leg = spoil(auth.answered(event.auth, event.header_signing))
    (event,) = client.receive(server.serve(client.alter(ECHO, auth=leg)))  # type: ignore[arg-type]  # as spoilt
    assert event == Failed(2, ACCESS_DENIED, True)
    assert server.closed


def test_who_does_not_authenticate_is_served_as_nobody() -> None:
    seen = []

    def handler(call: Call) -> bytes:
        seen.append(call.caller)
        return b"hello"

    client, server = RpcClient(), RpcServer({ECHO: handler}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    client.receive(server.serve(client.bind(ECHO)))
    (event,) = client.receive(server.serve(client.call(ECHO, 0, b"")))
    assert isinstance(event, Reply)
    assert seen == [None]


def test_a_server_that_proves_nothing_is_not_believed() -> None:
    auth = ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.PRIVACY)
    auth.begin()
    with pytest.raises(Denied, match="does not prove"):
        auth.answered(None, False)


# The verification trailer.

CALL = Request(call_id=5, context_id=1, opnum=9, stub=b"abc")


def trailed(*commands: Command) -> Request:
    return replace(CALL, stub=encode_verification(CALL.stub, commands))


def test_a_verification_trailer_is_taken_off() -> None:
    request = trailed(Command(BITMASK_1, bytes((1, 0, 0, 0))), header2(CALL))
    assert request.stub[4:12] == SIGNATURE
    assert without_verification(request).stub == b"abc\0"  # its padding is what the interface has to bear with
    assert split_verification(b"nothing here") == (b"nothing here", ())
    assert split_verification(SIGNATURE + b"\xff") == (SIGNATURE + b"\xff", ())


def test_a_header_that_contradicts_its_trailer_is_denied() -> None:
    with pytest.raises(Denied, match="somebody changed it"):
        without_verification(replace(trailed(header2(CALL)), opnum=8))
    with pytest.raises(Denied, match="command 77"):
        without_verification(trailed(Command(77, b"", must_process=True)))
    assert without_verification(trailed(Command(77, b""))).stub == b"abc\0"


@given(st.binary(max_size=60), st.binary(max_size=40))
def test_any_stub_has_a_trailer_or_none(before: bytes, after: bytes) -> None:
    stub, commands = split_verification(before + SIGNATURE + after)
    assert (stub, commands) == (before + SIGNATURE + after, ()) or stub + SIGNATURE in before + SIGNATURE + after


# What others send.


def test_an_alter_context_may_carry_its_contexts_twice_before_a_trailer() -> None:
    """As impacket's does, the third leg of a Kerberos bind: counted once, written twice."""
    auth = ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.CONNECT)
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=auth.begin())))
    assert isinstance(event, Bound)
    sent = client.alter(ECHO, auth=auth.answered(event.auth, event.header_signing))
    pdu = take_pdu(bytearray(sent))
    assert isinstance(pdu, AlterContext)
    contexts = sent[28:72]
    longer = sent[:72] + contexts + sent[72:]
    server.serve(longer[:8] + len(longer).to_bytes(2, "little") + longer[10:])
    assert server.caller is not None


def test_protection_is_for_one_context_only() -> None:
    """A PDU of another security context, level or provider is not taken, whatever its token."""
    client, _ = joined(AuthLevel.INTEGRITY)
    assert isinstance(client.protection, Protection)
    raw = client.call(ECHO, 0, b"")
    request = take_pdu(bytearray(raw))
    assert isinstance(request, Request)
    assert request.auth is not None
    for auth in (
        None,
        replace(request.auth, context_id=2),
        replace(request.auth, level=AuthLevel.PRIVACY),
        replace(request.auth, type=10),
    ):
        with pytest.raises(Denied, match="without the protection"):
            client.protection.reveal(replace(request, auth=auth))


def test_an_auth3_that_proves_nothing_is_not_answered_and_the_first_call_is_denied() -> None:
    auth = ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.CONNECT)
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=auth.begin(), header_signing=True)))
    assert isinstance(event, Bound)
    leg = auth.answered(event.auth, event.header_signing)
    assert leg is not None
    assert server.serve(client.auth3(replace(leg, token=b"forged"))) == b""
    assert not server.closed
    assert client.receive(server.serve(client.call(ECHO, 0, b"stub"))) == [Failed(2, ACCESS_DENIED, True)]
    assert server.closed


def test_who_was_refused_by_an_auth3_cannot_try_again_on_the_same_connection() -> None:
    auth = ClientAuth(PaperSecurity(False), AuthType.KERBEROS, AuthLevel.CONNECT)
    client, server = RpcClient(), RpcServer({ECHO: answer}, auth=ServerAuth(lambda _: PaperSecurity(True)))
    (event,) = client.receive(server.serve(client.bind(ECHO, auth=auth.begin(), header_signing=True)))
    assert isinstance(event, Bound)
    leg = auth.answered(event.auth, event.header_signing)
    assert leg is not None
    server.serve(client.auth3(replace(leg, token=b"forged")))
    (event,) = client.receive(server.serve(client.alter(ECHO, auth=leg)))
    assert event == Failed(client.last_call_id, ACCESS_DENIED, True)
    assert server.closed


class PaperNtlm(PaperSecurity):
    """Signs whole PDUs, whatever was agreed on."""

    mechanism = "paper NTLM"
    signs_headers = True


@pytest.mark.parametrize("level", [AuthLevel.INTEGRITY, AuthLevel.PRIVACY])
def test_a_provider_may_vouch_for_headers_though_nobody_agreed_on_it(level: AuthLevel) -> None:
    call = Request(call_id=1, context_id=0, opnum=7, stub=bytes(16))
    for paper, noticed in ((PaperSecurity, False), (PaperNtlm, True)):
        here = Protection(paper(False), AuthType.NTLM, level, 1, False)
        there = Protection(paper(True), AuthType.NTLM, level, 1, False)
        sent = bytearray(here.protect(here.mark(call)))
        sent[22] ^= 1  # the opnum
        pdu = take_pdu(sent)
        assert isinstance(pdu, Request)
        if noticed:
            with pytest.raises(Denied):
                there.reveal(pdu)
        else:
            assert there.reveal(pdu).stub == bytes(16)
