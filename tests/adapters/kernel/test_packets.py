"""Packets of our own, compared with known bytes (tcpdump -vv called each of them correct)."""

import struct
from ipaddress import IPv4Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from casarray.adapters.kernel.packets import arp_announcement, bare_syn, checksum, neighbour_advertisement

MAC = bytes.fromhex("025e10000001")


def half(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    return (
        ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", source_port, destination_port)
    )


def test_the_checksum_of_rfc_1071s_example_is_right() -> None:
    assert checksum(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0xFFFF - 0xDDF2  # [RFC 1071] section 3


@given(st.binary(max_size=80))
def test_the_checksum_agrees_with_adding_words_and_carries(data: bytes) -> None:
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == 0xFFFF - total


def test_a_bare_syn_over_ipv4_goes_back_the_way_the_connection_came() -> None:
    assert bare_syn(half("10.91.0.2", 40000, "10.91.0.100", 5001)) == bytes.fromhex("""
        45 00 0028  0000 4000  40 06 0000  0a5b0064  0a5b0002
        1389 9c40  00000000  00000000  50 02 ffff  eafd 0000
    """)


def test_a_bare_syn_over_ipv6_carries_the_checksum_of_the_pseudo_header() -> None:
    assert bare_syn(half("fd91::2", 40000, "fd91::100", 5001)) == bytes.fromhex("""
        60000000 0014 06 40
        fd910000000000000000000000000100  fd910000000000000000000000000002
        1389 9c40  00000000  00000000  50 02 ffff  03f4 0000
    """)


def test_gratuitous_arp_names_the_address_as_its_sender_and_its_target() -> None:
    frame = arp_announcement(IPv4Address("10.91.0.100"), MAC, 1)
    assert frame == bytes.fromhex("""
        ffffffffffff 025e10000001 0806
        0001 0800 06 04 0001  025e10000001 0a5b0064  ffffffffffff 0a5b0064
    """)
    assert arp_announcement(IPv4Address("10.91.0.100"), MAC, 2)[21] == 2


def test_an_unsolicited_advertisement_overrides_what_all_nodes_have_cached() -> None:
    frame = neighbour_advertisement(ip_address("fd91::100").packed, MAC, router=True)
    assert frame == bytes.fromhex("""
        333300000001 025e10000001 86dd
        60000000 0020 3a ff  fd910000000000000000000000000100  ff020000000000000000000000000001
        88 00 c71c  a0000000  fd910000000000000000000000000100  02 01 025e10000001
    """)
    assert neighbour_advertisement(ip_address("fd91::100").packed, MAC, router=False)[58] == 0x20
