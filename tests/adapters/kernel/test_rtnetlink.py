"""rtnetlink beside what iproute2 says of the same links, addresses, routes and filters."""

import errno
import json
import socket
import struct
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from casarray.adapters.kernel import bpf
from casarray.adapters.kernel.nfnetlink import NLM_F_DUMP, NLM_F_DUMP_INTR
from casarray.adapters.kernel.rtnetlink import EGRESS, INGRESS, Filter, Held, Routes, Spot

if TYPE_CHECKING:
    from tests.adapters.kernel.conftest import Lab

T = TypeVar("T")
LINK_NAME, HARDWARE = 3, {"ether": 1, "loopback": 772}
PASS_ALL = struct.pack("=BBhiBBhi", 0xB7, 0, 0, -1, 0x95, 0, 0, 0)  # r0 = -1 (TC_ACT_UNSPEC); exit


def asked(lab: "Lab", question: Callable[[Routes], T]) -> T:
    def inside() -> T:
        with Routes() as routes:
            return question(routes)

    return lab.gateway.call(inside)


def shown(lab: "Lab", what: str) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = json.loads(lab.gateway.run(f"ip -j -d {what}"))
    return said


@pytest.mark.root
def test_links_are_those_that_ip_shows(lab: "Lab") -> None:
    lab.gateway.run("ip link add bridge0 type bridge", "ip link set to92 master bridge0", "ip link set to91 mtu 1400")
    ours = {(link.index, link.name, link.kind, link.mtu, bool(link.flags & 1)) for link in asked(lab, Routes.links)}
    assert ours == {
        (one["ifindex"], one["ifname"], HARDWARE[one["link_type"]], one["mtu"], "UP" in one["flags"])
        for one in shown(lab, "link show")
    }
    index = {link.name: link.index for link in asked(lab, Routes.links)}
    assert {link.name: link.master for link in asked(lab, Routes.links) if link.master} == {"to92": index["bridge0"]}


@pytest.mark.root
def test_addresses_are_those_that_ip_shows(lab: "Lab") -> None:
    lab.gateway.run("ip address add 10.7.7.1 peer 10.7.7.2/32 dev to92")
    index = {link.name: link.index for link in asked(lab, Routes.links)}
    expected = {
        (index[one["ifname"]], info["local"], info["prefixlen"])
        for one in shown(lab, "address show")
        for info in one["addr_info"]
    }
    assert {(held.index, str(held.address), held.prefix) for held in asked(lab, Routes.addresses)} == expected
    assert (index["to92"], "10.7.7.1", 32) in expected


@pytest.mark.root
@pytest.mark.parametrize("text", ["10.91.0.100", "fd91::100"])
def test_an_address_is_put_there_with_what_was_asked_for_once(lab: "Lab", text: str) -> None:
    address = ip_address(text)
    index = {link.name: link.index for link in asked(lab, Routes.links)}["to91"]

    def put(route: Routes) -> None:
        route.add_address(index, address, 0xCA, flags=2, lifetimes=(0, 3600))

    asked(lab, put)
    assert Held(index, address, address.max_prefixlen, 0xCA) in asked(lab, Routes.addresses)
    (info,) = [i for one in shown(lab, "address show dev to91") for i in one["addr_info"] if i["local"] == text]
    assert (info["preferred_life_time"], info["valid_life_time"], info["deprecated"]) == (0, 3600, True)
    assert (info["scope"], info.get("nodad", address.version == 4)) == ("global", True)
    with pytest.raises(FileExistsError):
        asked(lab, put)
    asked(lab, lambda r: r.delete_address(index, address))
    with pytest.raises(OSError, match="Cannot assign requested address") as missing:
        asked(lab, lambda r: r.delete_address(index, address))
    assert missing.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.root
@pytest.mark.parametrize("text", ["10.91.0.2", "10.92.0.2", "fd92::2"])
def test_the_way_is_the_one_that_ip_shows(lab: "Lab", text: str) -> None:
    names = {link.index: link.name for link in asked(lab, Routes.links)}
    (expected,) = shown(lab, f"route get {text}")
    way = asked(lab, lambda r: r.way_to(ip_address(text)))
    assert way is not None
    assert names[way] == expected["dev"]
    lab.gateway.run("ip route add prohibit 10.77.0.0/16")
    with pytest.raises(OSError, match="Permission denied"):
        asked(lab, lambda r: r.way_to(ip_address("10.77.0.1")))


@pytest.mark.root
def test_a_program_is_put_replaced_told_from_other_filters_and_taken_away(lab: "Lab") -> None:
    index = {link.name: link.index for link in asked(lab, Routes.links)}["to91"]
    asked(lab, lambda r: r.add_clsact(index))
    with pytest.raises(FileExistsError):
        asked(lab, lambda r: r.add_clsact(index))
    spot, program = Spot(index, INGRESS, 0x1234, 0xCA5A, 0x0003), bpf.load("test", PASS_ALL)
    for name in ("casarray CAS in", "casarray CAS in", "casarray CAS newer"):
        asked(lab, partial(Routes.put_program, spot=spot, descriptor=program, name=name))
    assert asked(lab, lambda r: r.filters(index, INGRESS)) == [Filter("bpf", "casarray CAS newer", 0x1234)]
    assert asked(lab, lambda r: r.filters(index, EGRESS)) == []
    said = lab.gateway.run("tc filter show dev to91 ingress")
    assert "protocol all pref 51802 bpf chain 0 handle 0x1234 casarray CAS newer direct-action" in said
    lab.gateway.run("tc filter add dev to91 egress protocol ip pref 7 u32 match u32 0 0 flowid 1:1")
    assert {(one.kind, one.name) for one in asked(lab, lambda r: r.filters(index, EGRESS))} == {("u32", "")}
    asked(lab, lambda r: r.delete_program(spot))
    assert asked(lab, lambda r: r.filters(index, INGRESS)) == []
    with pytest.raises(FileNotFoundError):
        asked(lab, lambda r: r.delete_program(spot))
    asked(lab, lambda r: r.delete_clsact(index))
    assert "clsact" not in lab.gateway.run("tc qdisc show dev to91")


class Told:
    """A socket on which the kernel has said these things already; each answers the question it is asked for."""

    def __init__(self, *datagrams: Callable[[int], bytes]) -> None:
        self._datagrams = list(datagrams)
        self._asked = 0

    def send(self, _data: bytes) -> None:
        self._asked += 1

    def recv(self, _size: int) -> bytes:
        if not self._datagrams:
            raise BlockingIOError
        return self._datagrams.pop(0)(self._asked)

    def close(self) -> None: ...


def said(kind: int, body: bytes, flags: int = 0) -> Callable[[int], bytes]:
    return lambda sequence: struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def link(index: int, flags: int = 0) -> Callable[[int], bytes]:
    return said(16, struct.pack("=BxHiII", 0, 1, index, 1, 0), flags)


def done(flags: int = 0) -> Callable[[int], bytes]:
    return said(3, bytes(4), NLM_F_DUMP | flags)


def routes(monkeypatch: pytest.MonkeyPatch, *datagrams: Callable[[int], bytes]) -> Routes:
    monkeypatch.setattr(socket, "socket", lambda *_: Told(*datagrams))
    return Routes()


def test_a_list_that_changed_meanwhile_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    it = routes(monkeypatch, link(1), link(2, NLM_F_DUMP_INTR), done(), link(1), link(3), done())
    assert [one.index for one in it.links()] == [1, 3]


def test_a_list_that_changes_all_the_time_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    it = routes(monkeypatch, *(datagram for _ in range(50) for datagram in (link(1), done(NLM_F_DUMP_INTR))))
    with pytest.raises(InterruptedError):
        it.links()


def test_an_answer_to_an_earlier_question_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    it = routes(monkeypatch, lambda sequence: link(9)(sequence - 1) + link(1)(sequence), done())
    assert [one.index for one in it.links()] == [1]


def test_a_kernel_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BlockingIOError):
        routes(monkeypatch).links()
