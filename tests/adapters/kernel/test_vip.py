"""Addresses of an array: placed, announced to a real neighbour, taken away."""

import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from casarray.adapters.kernel.vip import Placed, announce, place, withdraw
from casarray.core.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from tests.adapters.kernel.conftest import Lab

pytestmark = pytest.mark.root
ARRAY = {4: ip_address("10.91.0.100"), 6: ip_address("fd91::100")}
NEVER = "02:00:00:00:00:01"  # nobody's hardware address


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_is_placed_where_its_subnet_is_and_taken_away_again(lab: "Lab", version: int) -> None:
    address = ARRAY[version]
    lab.gateway.run("sysctl -qw net.ipv6.conf.to91.accept_dad=1")
    placed = lab.gateway.call(lambda: place(address))
    assert placed == Placed(address, "to91", ours=True)
    shown = lab.gateway.run(f"ip -o address show to {address}")
    assert f"{address}/{address.max_prefixlen} " in shown
    assert "tentative" not in shown
    lab.client.run(f"ping -c1 -W1 {address}")
    lab.gateway.call(lambda: withdraw(placed))
    lab.gateway.call(lambda: withdraw(placed))
    assert lab.gateway.run(f"ip -o address show to {address}") == ""


@pytest.mark.parametrize("version", [4, 6])
def test_a_later_run_knows_the_address_it_placed_and_leaves_somebody_elses_alone(lab: "Lab", version: int) -> None:
    lab.gateway.call(lambda: place(ARRAY[version]))
    assert lab.gateway.call(lambda: place(ARRAY[version])) == Placed(ARRAY[version], "to91", ours=True)
    theirs = ip_address("10.91.0.101" if version == 4 else "fd91::101")
    lab.gateway.run(f"ip address add {theirs} dev to92")
    placed = lab.gateway.call(lambda: place(theirs))
    assert placed == Placed(theirs, "to92", ours=False)
    lab.gateway.call(lambda: withdraw(placed))
    assert str(theirs) in lab.gateway.run("ip -o address show dev to92")


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_outside_every_subnet_goes_where_its_route_leads(lab: "Lab", version: int) -> None:
    address = ip_address("10.200.0.9" if version == 4 else "fd99::9")
    with pytest.raises(NotFound, match=r"set gateway\.interface"):
        lab.gateway.call(lambda: place(address))
    route = "10.200.0.0/24 via 10.92.0.2" if version == 4 else "fd99::/64 via fd92::2"
    lab.gateway.run(f"ip -{version} route add {route}")
    assert lab.gateway.call(lambda: place(address)) == Placed(address, "to92", ours=True)


def test_the_narrowest_subnet_wins(lab: "Lab") -> None:
    lab.gateway.run("ip address add 10.91.0.97/28 dev to92")
    assert lab.gateway.call(lambda: place(ARRAY[4])).interface == "to92"


def test_a_named_interface_is_taken_at_its_word(lab: "Lab") -> None:
    assert lab.gateway.call(lambda: place(ARRAY[4], "to92")) == Placed(ARRAY[4], "to92", ours=True)
    with pytest.raises(NotFound, match=r"no interface eth7; gateway\.interface can be one of: lo, to91, to92"):
        lab.gateway.call(lambda: place(ARRAY[6], "eth7"))
    lab.gateway.run("ip link set to92 down")
    with pytest.raises(Unavailable, match="ip link set to92 up"):
        lab.gateway.call(lambda: place(ARRAY[6], "to92"))


def test_none_places_nothing(lab: "Lab") -> None:
    placed = lab.gateway.call(lambda: place(ARRAY[4], "none"))
    assert placed == Placed(ARRAY[4], "", ours=False)
    assert lab.gateway.run(f"ip -o address show to {ARRAY[4]}") == ""
    lab.gateway.call(partial(announce, [placed]))


def test_the_gateways_own_connections_do_not_begin_from_the_arrays_address(lab: "Lab") -> None:
    for address in ARRAY.values():
        lab.gateway.call(partial(place, address))
    assert "src 10.91.0.1 " in lab.gateway.run("ip route get 10.91.0.2")
    assert "src fd91::1 " in lab.gateway.run("ip -6 route get fd91::2")


@pytest.mark.parametrize("version", [4, 6])
def test_an_announcement_changes_what_a_neighbour_has_cached(lab: "Lab", version: int) -> None:
    address = ARRAY[version]
    placed = lab.gateway.call(lambda: place(address))
    lab.client.run(f"ip neighbour replace {address} lladdr {NEVER} dev eth0 nud reachable")
    ours = lab.gateway.run("cat /sys/class/net/to91/address").strip()
    deadline = time.monotonic() + 15  # the first announcements may come before the new link listens
    cached = ""
    while ours not in cached and time.monotonic() < deadline:
        lab.gateway.call(lambda: announce([placed], times=1))
        time.sleep(0.02)
        cached = lab.client.run(f"ip neighbour show {address}")
    assert ours in cached
    lab.client.run(f"ping -c1 -W1 {address}")


def test_announcements_come_several_times_and_again_on_demand(lab: "Lab") -> None:
    placed = [lab.gateway.call(partial(place, address)) for address in ARRAY.values()]
    pauses: list[float] = []
    before = sent(lab)
    lab.gateway.call(lambda: announce(placed, times=3, pause_seconds=0.5, sleep=pauses.append))
    assert pauses == [0.5, 0.5]
    assert sent(lab) - before >= 9  # two ARP frames and one advertisement each time
    lab.gateway.run("ip link set to91 down")
    with pytest.raises(Unavailable, match="cannot be announced on to91"):
        lab.gateway.call(lambda: announce(placed, times=1))


def sent(lab: "Lab") -> int:
    return int(lab.gateway.run("cat /sys/class/net/to91/statistics/tx_packets"))
