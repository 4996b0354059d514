"""RFR against bytes of the specification's shape and against impacket, which nobody here wrote."""

import pytest
from impacket.dcerpc.v5 import oxabref

from casarray.core.dcerpc.interfaces.rfr import (
    RfrGetFqdnFromServerDn,
    RfrGetFqdnFromServerDnReply,
    RfrGetNewDsa,
    RfrGetNewDsaReply,
    server_of_dn,
)
from casarray.core.errors import WireError

DN = "/o=Org/ou=EAG/cn=Recipients/cn=jd"

NEW_DSA = bytes.fromhex(
    "00000000"  # flags
    "22000000 00000000 22000000"  # maximum 34, offset 0, actual 34 (with the NUL)
    + DN.encode().hex()
    + "00 0000"  # NUL, gap
    "00000000"  # unused: null
    "00000000"  # server: null
)

NEW_DSA_REPLY = bytes.fromhex(
    "00000000"  # unused: null
    "00000200 04000200"  # pointer to a pointer ...
    "14000000 00000000 14000000" + b"outlook.contoso.com\0".hex() + "00000000"  # ... to 20 octets  # result
)


def test_a_request_for_a_server_is_laid_out_as_the_specification_says() -> None:
    assert RfrGetNewDsa(DN).encode() == NEW_DSA
    assert len(NEW_DSA) == 60
    assert RfrGetNewDsa.decode(NEW_DSA) == RfrGetNewDsa(DN)


def test_an_answer_that_names_an_array_is_laid_out_as_the_specification_says() -> None:
    assert RfrGetNewDsaReply("outlook.contoso.com").encode() == NEW_DSA_REPLY
    assert len(NEW_DSA_REPLY) == 48


def test_impackets_request_for_a_server_is_read() -> None:
    asked = oxabref.RfrGetNewDSA()
    asked["ulFlags"] = 0
    asked["pUserDN"] = DN + "\0"
    asked["ppszUnused"] = oxabref.NULL
    asked["ppszServer"] = "\0"  # impacket sends two pointers to an empty string
    assert RfrGetNewDsa.decode(asked.getData()) == RfrGetNewDsa(DN, server="")


def test_impacket_reads_our_answer() -> None:
    answer = oxabref.RfrGetNewDSAResponse(RfrGetNewDsaReply("cas1.lab.example").encode())
    assert answer["ppszServer"] == "cas1.lab.example\0"


def test_impackets_question_for_a_name_is_ours_to_the_byte() -> None:
    dn = "/o=Org/ou=EAG/cn=Configuration/cn=Servers/cn=CAS1"
    asked = oxabref.RfrGetFQDNFromServerDN()
    asked["ulFlags"] = 0
    asked["szMailboxServerDN"] = dn + "\0"
    asked["cbMailboxServerDN"] = len(dn) + 1
    assert asked.getData() == RfrGetFqdnFromServerDn(dn).encode()


def test_impacket_reads_the_name_and_the_result() -> None:
    octets = RfrGetFqdnFromServerDnReply("cas1.lab.example", result=0x80040111).encode()
    answer = oxabref.RfrGetFQDNFromServerDNResponse(octets)
    assert (answer["ppszServerFQDN"], answer["ErrorCode"]) == ("cas1.lab.example\0", 0x80040111)


@pytest.mark.parametrize("size", [8, 1024])  # with the NUL: 9 and 1025, just outside 10 to 1024
def test_a_dn_outside_the_range_of_the_interface_is_refused_both_ways(size: int) -> None:
    with pytest.raises(WireError, match="range"):
        RfrGetFqdnFromServerDn("x" * size).encode()
    good = bytearray(RfrGetFqdnFromServerDn("x" * 9).encode())
    good[4:8] = (size + 1).to_bytes(4, "little")
    with pytest.raises(WireError, match="range"):
        RfrGetFqdnFromServerDn.decode(bytes(good))


@pytest.mark.parametrize(
    ("dn", "server"),
    [
        ("/o=Org/ou=EAG/cn=Configuration/cn=Servers/cn=CAS1", "CAS1"),
        ("/o=Org/ou=EAG/cn=Configuration/CN=SERVERS/CN=CAS1/cn=Microsoft Private MDB", "CAS1"),
        ("/o=Org/ou=EAG/cn=Configuration/cn=Servers/cn=cas.domain.tld/cn=Microsoft Private MDB", "cas.domain.tld"),
        ("/o=Org/ou=EAG/cn=Configuration/cn=Servers", ""),
        ("", ""),
    ],
)
def test_the_server_in_a_dn_follows_the_servers_container(dn: str, server: str) -> None:
    assert server_of_dn(dn) == server
