"""The slot of an address is the kernel's."""

import random
import re
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.affinity.jhash import jhash, same_client, slot_of
from casarray.lab.netns import Lab, Namespace, missing

_WHY = missing()

# Read from a set that `meta mark set jhash ip saddr mod 16381 seed 0x1234` had filled, Linux 6.18.
SEEN = {
    "127.0.0.1": 0x0852,
    "127.1.0.7": 0x195E,
    "127.1.1.7": 0x204D,
    "127.1.2.7": 0x2237,
    "127.1.3.7": 0x094E,
    "127.1.4.7": 0x10B0,
}


@pytest.mark.parametrize("address", SEEN)
def test_the_slots_the_kernel_gave_are_computed(address: str) -> None:
    assert slot_of(ip_address(address), 0x1234, 16381) == SEEN[address]


@given(st.ip_addresses(), st.integers(0, 2**32 - 1), st.integers(1, 65537))
def test_every_slot_is_within_the_table(client: IPv4Address | IPv6Address, seed: int, slots: int) -> None:
    assert 0 <= slot_of(client, seed, slots) < slots


@given(st.ip_addresses(v=4), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_all_addresses_of_a_prefix_have_one_slot(client: IPv4Address, last: int, seed: int) -> None:
    other = IPv4Address(int(client) & 0xFFFFFF00 | last)
    assert slot_of(client, seed, 16381, prefix4=24) == slot_of(other, seed, 16381, prefix4=24)
    assert same_client(client, 24, 64) == IPv4Network((client, 24), strict=False).network_address


@given(st.ip_addresses(v=6), st.integers(0, 128))
def test_a_prefix_of_any_length_leaves_just_its_bits(client: IPv6Address, prefix: int) -> None:
    assert same_client(client, 32, prefix) == IPv6Network((client, prefix), strict=False).network_address


def test_a_key_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="not 5"):
        jhash(b"12345", 0)


RULES = """
table inet seen {{
  set four {{ type ipv4_addr . mark; flags dynamic; size 65536; }}
  set six {{ type ipv6_addr . mark; flags dynamic; size 65536; }}
  chain input {{
    type filter hook input priority 0;
    meta nfproto ipv4 meta mark set jhash ip saddr{mask4} mod {slots} seed {seed}
    meta nfproto ipv4 update @four {{ ip saddr . meta mark }}
    meta nfproto ipv6 meta mark set jhash ip6 saddr{mask6} mod {slots} seed {seed}
    meta nfproto ipv6 update @six {{ ip6 saddr . meta mark }}
  }}
}}
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    """A host to which 10.0.0.0/8 and 2001:db8::/32 belong as a whole."""
    with Lab() as lab:
        host = lab.namespace("jhash")
        host.ip("link set lo up", "route add local 10.0.0.0/8 dev lo", "route add local 2001:db8::/32 dev lo")
        host.sysctl("net.ipv6.ip_nonlocal_bind", 1)
        yield host


def _send(count: int, family: int, to: str, source: Callable[[], str]) -> None:
    for _ in range(count):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.bind((source(), 0))
            sender.sendto(b"x", (to, 9))


@pytest.mark.root
@pytest.mark.skipif(_WHY is not None, reason=str(_WHY))
@pytest.mark.parametrize(
    ("seed", "slots", "prefix4", "prefix6"),
    [(0x1234, 16381, 32, 128), (1, 65537, 24, 64), (0xFFFFFFFF, 65537, 32, 128), (0x9E3779B9, 251, 17, 57)],
)
def test_the_kernel_gives_each_address_the_same_slot(
    host: Namespace, seed: int, slots: int, prefix4: int, prefix6: int
) -> None:
    host.run("nft", "flush ruleset")
    mask4 = f" and {IPv4Network((0, prefix4)).netmask}" if prefix4 < 32 else ""
    mask6 = f" and {IPv6Network((0, prefix6)).netmask}" if prefix6 < 128 else ""
    host.run("nft", "-f", "-", input=RULES.format(mask4=mask4, mask6=mask6, slots=slots, seed=hex(seed)))
    draw = random.Random(seed)
    with host.inside():
        _send(500, socket.AF_INET, "10.0.0.1", lambda: str(IPv4Address(10 << 24 | draw.getrandbits(24))))
        _send(500, socket.AF_INET6, "2001:db8::1", lambda: str(IPv6Address(0x20010DB8 << 96 | draw.getrandbits(96))))
    listing = host.run("nft", "list table inet seen").stdout
    seen = {ip_address(a): int(mark, 16) for a, mark in re.findall(r"([0-9a-f.:]+) \. (0x[0-9a-f]{8})", listing)}
    assert len(seen) >= 990
    assert seen == {client: slot_of(client, seed, slots, prefix4, prefix6) for client in seen}
