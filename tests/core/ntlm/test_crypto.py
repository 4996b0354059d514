"""NTLM's algorithms, by the examples of their specifications."""

import pytest

from casarray.core.ntlm.crypto import Rc4, hmac_md5, md4, nt_hash, proof, response_key, seal_key, sign_key


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        ("abc", "a448017aaf21d8525fc10ae87aa6729d"),
        ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_is_that_of_rfc_1320(text: str, digest: str) -> None:
    assert md4(text.encode()).hex() == digest


def test_rc4_goes_on_where_it_stopped() -> None:
    whole = Rc4(b"Key").through(b"Plaintext")
    assert whole.hex().upper() == "BBF316E8D940AF0AD3"
    parts = Rc4(b"Key")
    assert parts.through(b"Plain") + parts.through(b"text") == whole


def test_keys_are_those_of_the_specifications_example() -> None:
    """[MS-NLMP] 4.2.4: User, Domain, Password, and a server whose challenge is 0123456789abcdef."""
    key = response_key(nt_hash("Password"), "User", "Domain")
    assert key.hex() == "0c868a403bfd7a93a3001ef22ef02e3f"
    rest = bytes.fromhex(
        "01010000 00000000"  # version 1, 1; reserved
        "0000000000000000"  # the time
        "aaaaaaaaaaaaaaaa"  # the client's challenge
        "00000000"
        "02000c00 44006f006d00610069006e00"  # NetBIOS domain: Domain
        "01000c00 530065007200760065007200"  # NetBIOS computer: Server
        "00000000"  # the end of the pairs
        "00000000"
    )
    proven = proof(key, bytes.fromhex("0123456789abcdef"), rest)
    assert proven.hex() == "68cd0ab851e51c96aabc927bebef6a1c"
    session_base_key = hmac_md5(key, proven)
    assert session_base_key.hex() == "8de40ccadbc14a82f15cb0ad0de95ca3"
    assert Rc4(session_base_key).through(b"\x55" * 16).hex() == "c5dad2544fc9799094ce1ce90bc9d03e"


def test_the_keys_of_a_session_are_those_of_the_specifications_example() -> None:
    """[MS-NLMP] 4.2.4.4, with the random session key 55 ... 55."""
    assert seal_key(b"\x55" * 16, True).hex() == "59f600973cc4960a25480a7c196e4c58"
    assert sign_key(b"\x55" * 16, True).hex() == "4788dc861b4782f35d43fd98fe1a2d39"
    assert seal_key(b"\x55" * 16, False) != seal_key(b"\x55" * 16, True)
