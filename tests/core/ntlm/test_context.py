"""An NTLM logon, both sides joined in memory; and who is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.core.dcerpc.conftest import read_capture

from casarray.core.errors import Denied, WireError
from casarray.core.ntlm.context import NtlmClient, NtlmServer
from casarray.core.ntlm.crypto import nt_hash
from casarray.core.ntlm.messages import MIC_AT, Authenticate, AvId, Challenge, Flag, Negotiate

NOW = 1_800_000_000.0


def counted() -> Callable[[int], bytes]:
    """Octets that nobody would call random, other ones each time."""
    turn = iter(range(1, 200))
    return lambda size: bytes([next(turn)]) * size


def client(user: str = "alice", password: str = "secret", domain: str = "LAB") -> NtlmClient:
    return NtlmClient(user, domain, password, "exchangeMDB/cas.lab.example", random=counted(), clock=lambda: NOW)


def server() -> NtlmServer:
    users = {"alice": nt_hash("secret")}
    return NtlmServer("cas1.lab.example", "LAB", lambda user, _: users.get(user), random=counted(), clock=lambda: NOW)


def proof_of(one: NtlmClient, other: NtlmServer) -> bytes:
    return one.step(other.step(one.step(b"")))


def test_both_know_each_other_after_three_messages() -> None:
    one, other = client(), server()
    last = proof_of(one, other)
    assert one.complete
    assert not other.complete
    assert other.step(last) == b""
    assert (other.peer, one.peer) == ("LAB\\alice", "cas1.lab.example")
    other.verify(b"text", one.sign(b"text"))
    assert one.token_size(True) == one.token_size(False) == 16


def test_a_logon_is_the_recorded_one_octet_by_octet() -> None:
    one, other = client(), server()
    legs = [read_capture(f"ntlm_{name}") for name in ("negotiate", "challenge", "authenticate")]
    assert one.step(b"") == legs[0]
    assert other.step(legs[0]) == legs[1]
    assert one.step(legs[1]) == legs[2]
    assert other.step(legs[2]) == b""
    read = (Negotiate.decode(legs[0]), Challenge.decode(legs[1]), Authenticate.decode(legs[2]))
    assert [message.encode() for message in read] == legs


@pytest.mark.parametrize(("name", "kind"), [("challenge", Challenge), ("authenticate", Authenticate)])
def test_a_message_cut_in_its_fixed_part_is_a_wire_error(name: str, kind: type[Challenge | Authenticate]) -> None:
    message = read_capture(f"ntlm_{name}")
    for cut in range(48):
        with pytest.raises(WireError):
            kind.decode(message[:cut])


def test_a_response_names_the_service_and_the_servers_time() -> None:
    one, other = client(), server()
    said = Authenticate.decode(proof_of(one, other))
    assert "exchangeMDB/cas.lab.example".encode("utf-16-le") in said.response
    assert int((NOW + 11_644_473_600) * 1e7).to_bytes(8, "little") in said.response
    assert b"secret" not in said.encode()


@pytest.mark.parametrize("who", [client(password="wrong"), client(user="mallory")])
def test_a_wrong_password_and_an_unknown_user_hear_the_same(who: NtlmClient) -> None:
    other = server()
    last = proof_of(who, other)
    with pytest.raises(Denied, match="is not known here, or the password is not right"):
        other.step(last)
    assert not other.complete
    assert other.peer == ""


def test_nobody_is_let_in_anonymously() -> None:
    one, other = client(user=""), server()
    last = proof_of(one, other)
    with pytest.raises(Denied, match="anonymously"):
        other.step(last)


def test_a_response_of_version_1_is_refused() -> None:
    one, other = client(), server()
    said = Authenticate.decode(proof_of(one, other))
    with pytest.raises(Denied, match="version 1"):
        other.step(replace(said, response=bytes(24)).encode())


def test_flags_taken_away_on_the_way_are_noticed() -> None:
    one, other = client(), server()
    offer = Negotiate(Negotiate.decode(one.step(b"")).flags & ~Flag.VERSION).encode()
    last = one.step(other.step(offer))
    with pytest.raises(Denied, match="changed on their way"):
        other.step(last)


@pytest.mark.parametrize("at", [MIC_AT, MIC_AT + 15])
def test_a_mic_that_was_changed_is_denied(at: int) -> None:
    one, other = client(), server()
    last = bytearray(proof_of(one, other))
    last[at] ^= 1
    with pytest.raises(Denied, match="changed on their way"):
        other.step(bytes(last))


@pytest.mark.parametrize("flag", [Flag.EXTENDED_SESSION_SECURITY, Flag.KEY_128, Flag.KEY_EXCHANGE, Flag.UNICODE])
def test_less_than_version_2_needs_is_refused_by_both(flag: Flag) -> None:
    one = client()
    offer = Negotiate.decode(one.step(b""))
    with pytest.raises(Denied, match="the client cannot do"):
        server().step(Negotiate(offer.flags & ~flag).encode())
    asked = Challenge.decode(server().step(offer.encode()))
    with pytest.raises(Denied, match="the server cannot do"):
        one.step(replace(asked, flags=asked.flags & ~flag).encode())


def test_garbage_is_denied_by_both() -> None:
    one = client()
    one.step(b"")
    for token in (b"", b"NTLMSSP\0", b"\x60\x10", bytes(200), b"NTLMSSP\0\2\0\0\0" + b"\xff" * 60):
        with pytest.raises(Denied):
            one.step(token)
        with pytest.raises(Denied):
            server().step(token)


def test_flags_of_a_server_that_are_too_long_are_cut() -> None:
    one = client()
    asked = Challenge.decode(server().step(one.step(b"")))
    odd = replace(asked, pairs=((AvId.FLAGS.value, b"\xff" * 9),))
    assert b"\6\0\4\0\xff\xff\xff\xff" in Authenticate.decode(one.step(odd.encode())).response


def test_facts_that_cannot_be_repeated_are_a_refusal() -> None:
    one = client()
    asked = Challenge.decode(server().step(one.step(b"")))
    with pytest.raises(Denied, match="cannot be answered"):
        one.step(replace(asked, pairs=((99, bytes(65464)),)).encode())


def test_after_the_end_nothing_more_is_taken() -> None:
    one, other = client(), server()
    last = proof_of(one, other)
    other.step(last)
    for side in (one, other):
        with pytest.raises(Denied, match="after its end"):
            side.step(last)


def test_a_challenge_is_read_octet_by_octet() -> None:
    recorded = bytes.fromhex(
        "4e544c4d53535000 02000000"  # NTLMSSP, message 2
        "0800 0800 38000000"  # the target's name: 8 octets at 56
        "358289e0"  # UNICODE, REQUEST_TARGET, SIGN, SEAL, NTLM, ALWAYS_SIGN, ESS, TARGET_INFO, 128, EXCHANGE, 56
        "0123456789abcdef 0000000000000000"  # the challenge; reserved
        "1400 1400 40000000"  # the target's info: 20 octets at 64
        "0603802500000 00f".replace(" ", "")  # the version
        + "4300410053003100"  # CAS1
        + "0200 0600 4c0041004200"  # the domain: LAB
        + "0900 0200 7800"  # the target: x
        + "00000000"  # the end
    )
    found = Challenge.decode(recorded)
    assert (found.target, found.challenge.hex()) == ("CAS1", "0123456789abcdef")
    assert found.pairs == ((AvId.NETBIOS_DOMAIN, b"L\0A\0B\0"), (AvId.TARGET_NAME, b"x\0"))
    assert found.encode() == recorded
