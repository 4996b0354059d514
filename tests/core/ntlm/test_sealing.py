"""Signatures and seals of an NTLM session."""

import pytest

from casarray.core.errors import Denied
from casarray.core.ntlm.sealing import Sealing

KEY = b"\x55" * 16


def sides() -> tuple[Sealing, Sealing]:
    return Sealing(KEY, client=True), Sealing(KEY, client=False)


def test_the_first_sealed_message_is_that_of_the_specification() -> None:
    """[MS-NLMP] 4.2.4.4: "Plaintext" in UTF-16."""
    client, _ = sides()
    body, token = client.seal(b"", "Plaintext".encode("utf-16-le"), b"")
    assert body.hex() == "54e50165bf1936dc996020c1811b0f06fb5f"
    assert token.hex() == "010000007fb38ec5c55d497600000000"


def test_signed_and_sealed_messages_take_turns_in_one_stream() -> None:
    client, server = sides()
    for number in range(3):
        text = f"call {number}".encode()
        server.verify(text, client.sign(text))
        body, token = client.seal(b"head", text, b"tail")
        assert body != text
        assert server.unseal(b"head", body, b"tail", token) == text
        body, token = server.seal(b"head", text, b"tail")
        assert client.unseal(b"head", body, b"tail", token) == text


@pytest.mark.parametrize("changed", ["before", "body", "after", "token"])
def test_a_changed_part_is_denied(changed: str) -> None:
    client, server = sides()
    body, token = client.seal(b"head", b"text", b"tail")
    parts = {"before": b"head", "body": body, "after": b"tail", "token": token}
    parts[changed] = bytes([parts[changed][0] ^ 1]) + parts[changed][1:]
    with pytest.raises(Denied, match="the seal of a call is not right"):
        server.unseal(parts["before"], parts["body"], parts["after"], parts["token"])


def test_a_message_that_comes_again_is_denied() -> None:
    client, server = sides()
    token = client.sign(b"text")
    server.verify(b"text", token)
    with pytest.raises(Denied, match="repeated"):
        server.verify(b"text", token)


def test_what_a_client_sent_cannot_be_sent_back_to_it() -> None:
    client, _ = sides()
    with pytest.raises(Denied):
        client.verify(b"text", client.sign(b"text"))
