"""SPNEGO: what is agreed on, that nobody between can make it the weaker, and that others agree."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.core.dcerpc.conftest import read_capture
from tests.core.ntlm.test_context import client as ntlm_client
from tests.core.ntlm.test_context import server as ntlm_server

from casarray.core.dcerpc.auth import Security
from casarray.core.errors import Denied
from casarray.core.kerberos.tickets import KERBEROS, KERBEROS_OF_WINDOWS, Mechanism, mechanism_of
from casarray.core.spnego.negotiation import NTLM, SpnegoClient, SpnegoServer, Way
from casarray.core.spnego.tokens import NegState, NegTokenInit, NegTokenResp

spnego = pytest.importorskip("spnego", reason="pyspnego is not installed (the extra casarray[dev])")


class PaperKerberos:
    """Three legs, as Kerberos has them in DCE style, and a signature that anybody can make."""

    mechanism = "Kerberos"
    signs_headers = False
    peer = "alice@LAB.EXAMPLE"

    def __init__(self, words: Sequence[tuple[bytes, bytes]]) -> None:
        self.words = list(words)

    @property
    def complete(self) -> bool:
        return not self.words

    def step(self, token: bytes) -> bytes:
        if not self.words or token not in (
            self.words[0][0],
            b"\x60\x11\x06\x09" + KERBEROS + b"\1\0" + self.words[0][0],
        ):
            raise Denied(f"paper: {token!r}")
        return self.words.pop(0)[1]

    def token_size(self, sealed: bool) -> int:  # noqa: ARG002 - as the port has it
        return 4

    def sign(self, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big")

    def verify(self, data: bytes, token: bytes) -> None:
        if token != self.sign(data):
            raise Denied("the signature is not right")

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        return body, self.sign(before + body + after)

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        self.verify(before + body + after, token)
        return body


def paper_client() -> PaperKerberos:
    return PaperKerberos([(b"", b"\x6e\x02hi"), (b"welcome", b"thanks")])


def paper_server() -> PaperKerberos:
    return PaperKerberos([(b"\x6e\x02hi", b"welcome"), (b"thanks", b"")])


def both_ways() -> SpnegoClient:
    return SpnegoClient([Way(KERBEROS, paper_client()), Way(NTLM, ntlm_client())])


def walk(one: Any, other: Any) -> list[bytes]:
    """All legs; the tokens, in their order."""
    sent = [one.step(b"")]
    while len(sent) < 10:
        sent.append(other.step(sent[-1]))
        if one.complete or not sent[-1]:
            break
        sent.append(one.step(sent[-1]))
        if not sent[-1]:
            break
    return [token for token in sent if token]


def speak(one: Security, other: Security) -> None:
    """A sealed call and a sealed answer."""
    for this, that in ((one, other), (other, one)):
        body, token = this.seal(b"head", b"text", b"tail")
        assert that.unseal(b"head", body, b"tail", token) == b"text"


def test_kerberos_is_taken_where_both_have_it_and_the_list_is_not_signed() -> None:
    one = both_ways()
    other = SpnegoServer([Way(NTLM, ntlm_server()), Way(KERBEROS, paper_server())])
    sent = walk(one, other)
    assert one.complete
    assert other.complete
    assert one.mechanism == other.mechanism == "SPNEGO, Kerberos"
    assert other.peer == "alice@LAB.EXAMPLE"
    assert not any(NegTokenResp.decode(token).mic for token in sent[1:])
    assert mechanism_of(sent[0]) is Mechanism.KERBEROS


def test_the_tokens_around_ntlm_are_the_recorded_ones() -> None:
    one, other = SpnegoClient([Way(NTLM, ntlm_client())]), SpnegoServer([Way(NTLM, ntlm_server())])
    first = one.step(b"")
    assert first == bytes.fromhex(
        "60 48 06 06 2b0601050502"  # the frame of RFC 2743 3.1, of SPNEGO
        "a0 3e 30 3c"  # NegTokenInit
        "a0 0e 30 0c 06 0a 2b06010401823702020a"  # mechTypes: NTLM
        "a2 2a 04 28"  # mechToken: 40 octets
    ) + read_capture("ntlm_negotiate")
    asked = other.step(first)
    assert asked == bytes.fromhex(
        "a1 81a6 30 81a3"  # NegTokenResp
        "a0 03 0a 01 01"  # negState: accept-incomplete
        "a1 0c 06 0a 2b06010401823702020a"  # supportedMech: NTLM
        "a2 818d 04 818a"  # responseToken: 138 octets
    ) + read_capture("ntlm_challenge")
    proof = one.step(asked)
    assert proof == bytes.fromhex("a1 820180 30 82017c a2 820164 04 820160") + read_capture(
        "ntlm_authenticate"
    ) + bytes.fromhex(
        "a3 12 04 10"  # mechListMIC
        "01000000 3c2cc4a11c4c6125 00000000"  # the client's signature number 0, over 30 0c 06 0a ... 0a
    )
    assert other.step(proof) == bytes.fromhex(
        "a1 1b 30 19"
        "a0 03 0a 01 00"  # negState: accept-completed
        "a3 12 04 10 01000000 2543d364a9e9e49a 00000000"  # the server's signature over the same list
    )


def test_where_the_server_has_no_kerberos_ntlm_is_agreed_on_and_the_list_signed_by_both() -> None:
    one, other = both_ways(), SpnegoServer([Way(NTLM, ntlm_server())])
    sent = walk(one, other)
    assert one.mechanism == other.mechanism == "SPNEGO, NTLM"
    assert other.peer == "LAB\\alice"
    assert NegTokenResp.decode(sent[1]).state == NegState.REQUEST_MIC
    assert len(NegTokenResp.decode(sent[-2]).mic) == len(NegTokenResp.decode(sent[-1]).mic) == 16
    for _ in range(2):
        speak(one, other)


def test_who_takes_kerberos_off_the_list_on_its_way_is_noticed() -> None:
    one, other = both_ways(), SpnegoServer([Way(KERBEROS, paper_server()), Way(NTLM, ntlm_server())])
    one.step(b"")
    shorter = NegTokenInit((NTLM,)).encode()
    asked = other.step(shorter)
    proof = one.step(other.step(one.step(asked)))
    with pytest.raises(Denied, match="somebody changed the list"):
        other.step(proof)


def test_a_server_that_ends_without_signing_the_shortened_list_is_refused() -> None:
    one, other = both_ways(), SpnegoServer([Way(NTLM, ntlm_server())])
    proof = one.step(other.step(one.step(other.step(one.step(b"")))))
    assert NegTokenResp.decode(proof).mic
    with pytest.raises(Denied, match="too early"):
        one.step(NegTokenResp(NegState.COMPLETED).encode())


def test_a_client_that_does_not_sign_the_shortened_list_is_refused() -> None:
    one, other = both_ways(), SpnegoServer([Way(NTLM, ntlm_server())])
    proof = NegTokenResp.decode(one.step(other.step(one.step(other.step(one.step(b""))))))
    with pytest.raises(Denied, match="does not sign its list"):
        other.step(NegTokenResp(None, b"", proof.token).encode())


def test_nothing_in_common_is_said_by_both() -> None:
    with pytest.raises(Denied, match="nothing that is taken here, which is Kerberos"):
        SpnegoServer([Way(KERBEROS, paper_server())]).step(SpnegoClient([Way(NTLM, ntlm_client())]).step(b""))
    one = both_ways()
    one.step(b"")
    with pytest.raises(Denied, match="none of these: Kerberos, NTLM"):
        one.step(NegTokenResp(NegState.REJECT).encode())


def test_a_rejection_with_an_error_of_the_mechanism_in_it_is_told_by_that() -> None:
    one = both_ways()
    one.step(b"")
    with pytest.raises(Denied, match="paper: b'clock'"):
        one.step(NegTokenResp(NegState.REJECT, KERBEROS, b"clock").encode())


def test_a_server_cannot_choose_what_was_not_offered() -> None:
    one = SpnegoClient([Way(KERBEROS, paper_client())])
    one.step(b"")
    with pytest.raises(Denied, match="was not offered"):
        one.step(NegTokenResp(NegState.INCOMPLETE, NTLM).encode())


def test_windows_spelling_of_kerberos_is_kerberos_and_is_answered_as_it_came() -> None:
    other = SpnegoServer([Way(KERBEROS, paper_server())])
    said = NegTokenResp.decode(other.step(NegTokenInit((KERBEROS_OF_WINDOWS, NTLM), b"\x6e\x02hi").encode()))
    assert (said.mechanism, said.token, said.state) == (KERBEROS_OF_WINDOWS, b"welcome", NegState.INCOMPLETE)


def test_garbage_is_denied_by_both() -> None:
    one = both_ways()
    one.step(b"")
    for token in (b"", b"\xa1", b"\x60\x82\xff\xff", bytes(100), b"\xa1\x03\x30\x01\xa0"):
        with pytest.raises(Denied):
            one.step(token)
        with pytest.raises(Denied):
            SpnegoServer([Way(NTLM, ntlm_server())]).step(token)


class Pyspnego:
    """The library's context, as the two sides here are joined."""

    def __init__(self, context: Any) -> None:
        self.context = context

    @property
    def complete(self) -> bool:
        return bool(self.context.complete)

    def step(self, token: bytes) -> bytes:
        return self.context.step(token or None) or b""

    def seal(self, before: bytes, body: bytes, after: bytes) -> tuple[bytes, bytes]:
        kinds = spnego.iov.BufferType
        iov = [kinds.header, (kinds.sign_only, before), body, (kinds.sign_only, after)]
        done = self.context.wrap_iov(iov).buffers
        return done[2].data, done[0].data

    def unseal(self, before: bytes, body: bytes, after: bytes, token: bytes) -> bytes:
        kinds = spnego.iov.BufferType
        iov = [(kinds.header, token), (kinds.sign_only, before), body, (kinds.sign_only, after)]
        return bytes(self.context.unwrap_iov(iov).buffers[2].data)


@pytest.mark.parametrize("protocol", ["ntlm", "negotiate"])
def test_pyspnegos_client_logs_on_and_its_sealed_calls_are_read(protocol: str) -> None:
    options = spnego.NegotiateOptions.use_negotiate if protocol == "negotiate" else spnego.NegotiateOptions.use_ntlm
    one: Any = Pyspnego(spnego.client("LAB\\alice", "secret", protocol=protocol, options=options))
    other = SpnegoServer([Way(NTLM, ntlm_server())]) if protocol == "negotiate" else ntlm_server()
    walk(one, other)
    assert other.complete
    assert other.peer == "LAB\\alice"
    for _ in range(2):
        speak(one, other)


@pytest.mark.parametrize("protocol", ["ntlm", "negotiate"])
def test_pyspnegos_server_takes_our_logon_and_our_sealed_calls(
    protocol: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "users"
    users.write_text("LAB:alice:secret\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(users))
    options = spnego.NegotiateOptions.use_negotiate if protocol == "negotiate" else spnego.NegotiateOptions.use_ntlm
    other: Any = Pyspnego(spnego.server(protocol=protocol, options=options))
    one = SpnegoClient([Way(NTLM, ntlm_client())]) if protocol == "negotiate" else ntlm_client()
    walk(one, other)
    assert one.complete
    assert other.complete
    for _ in range(2):
        speak(one, other)
