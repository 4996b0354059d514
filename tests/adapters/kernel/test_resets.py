"""Resets of idle connections, seen by a thousand real clients."""

import errno
import socket
import struct
import time
from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

import pytest

from casarray.adapters.kernel.conntrack import Conntrack
from casarray.adapters.kernel.resets import TABLE, Resets, _rounds, _send_one, elements, rules
from casarray.core.errors import Unavailable
from casarray.core.forwarding.table import MARK_MASK, connection_mark

if TYPE_CHECKING:
    from tests.adapters.kernel.conftest import Lab

DYING, LIVING = connection_mark(1, 7), connection_mark(1, 8)  # as the lab marks ports 5000 and 5001


def half(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    return (
        ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", source_port, destination_port)
    )


def test_elements_name_each_family_in_its_own_set() -> None:
    assert elements([half("10.0.0.1", 1, "10.0.0.2", 2), half("fd00::1", 3, "fd00::2", 4)], 5) == (
        f"add element inet {TABLE} closing4 {{ 10.0.0.1 . 1 . 10.0.0.2 . 2 timeout 5s }}\n"
        f"add element inet {TABLE} closing6 {{ fd00::1 . 3 . fd00::2 . 4 timeout 5s }}\n"
    )
    assert elements([], 5) == ""


@pytest.mark.parametrize(("each", "rounds"), [(1, 2), (1000, 2), (1001, 4), (3000, 8), (60_000, 10)])
def test_there_are_more_rounds_when_one_client_has_more_connections_than_it_answers_for(each: int, rounds: int) -> None:
    ports = range(1024, 1024 + each)
    busy = [half("10.0.0.1", port, "10.0.0.2", 80) for port in ports]
    assert _rounds([half("10.0.0.9", port, "10.0.0.2", 80) for port in range(1, 900)] + busy) == rounds


@pytest.mark.root
@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("version", [4, 6])
def test_a_thousand_idle_clients_are_reset_within_a_second_and_the_other_members_are_left_alone(
    lab: "Lab", version: int
) -> None:
    lab.serve()
    with lab.idle_clients(version, 1000, 5000) as dying, lab.idle_clients(version, 1000, 5001) as living:
        before = lab.gateway.call(lambda: Conntrack().count_by_mark(MARK_MASK))
        assert before == Counter({DYING: 1000, LIVING: 1000})
        resetting = lab.gateway.submit(lambda: Resets().reset(DYING, MARK_MASK))
        seconds = lab.ended_within(dying, 3)
        assert resetting.result() == 1000
        print(f"IPv{version}: 1,000 idle connections reset {seconds} s after the verdict")
        assert seconds is not None
        assert seconds < 1
        assert lab.ended_within(living, 0.1) is None
        # Neither the SYNs nor the answers to them have left an entry.
        assert lab.gateway.call(lambda: Conntrack().count_by_mark(MARK_MASK)) == Counter({LIVING: 1000})
        assert len(lab.gateway.run(f"conntrack -L -p tcp -f ipv{version}").splitlines()) == 1000
        for client in living:
            client.sendall(b"still there?")
        assert lab.ended_within(living, 0.5) is None


@pytest.mark.root
def test_a_client_that_was_challenged_a_moment_ago_is_reset_in_the_second_round(lab: "Lab") -> None:
    lab.serve()
    with lab.idle_clients(4, 1, 5000) as clients:
        resets, port = Resets(), clients[0].getsockname()[1]
        lab.gateway.call(resets.prepare)
        # The client's TCP answers this one, and is then silent for 500 ms.
        lab.gateway.call(lambda: resets._send([half("10.91.0.2", port, "10.91.0.100", 5000)]))
        resetting = lab.gateway.submit(lambda: resets.reset(DYING, MARK_MASK))
        seconds = lab.ended_within(clients, 3)
        assert resetting.result() == 1
        assert seconds is not None
        assert 0.4 < seconds < 1


@pytest.mark.root
def test_a_client_that_sends_is_reset_and_may_come_back_from_the_same_port_at_once(lab: "Lab") -> None:
    lab.serve()
    with lab.idle_clients(4, 1, 5000) as clients:
        source = clients[0].getsockname()
        clients[0].sendall(b"busy")
        resetting = lab.gateway.submit(lambda: Resets().reset(DYING, MARK_MASK))
        assert lab.ended_within(clients, 1) is not None
        clients[0].close()

        def return_at_once() -> socket.socket:
            listening = lab.server.call(lambda: socket.create_server(("10.92.0.2", 5001), backlog=8))
            listening.close()  # only 5000, still listening, answers
            again = socket.socket()
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.settimeout(2)
            again.bind(source)
            again.connect(("10.91.0.100", 5000))
            return again

        with lab.client.call(return_at_once) as again:
            resetting.result()  # the second round has passed
            again.sendall(b"hello")
            assert lab.ended_within([again], 0.5) is None


@pytest.mark.root
def test_a_member_that_lives_has_its_ends_reset_too_when_asked(lab: "Lab") -> None:
    lab.serve()
    with lab.idle_clients(4, 20, 5000) as clients:
        resetting = lab.gateway.submit(lambda: Resets().reset(DYING, MARK_MASK, member_too=True))
        assert lab.ended_within(clients, 1) is not None
        assert resetting.result() == 20
        assert lab.ended_within(lab.accepted, 1) is not None


@pytest.mark.root
def test_the_gateways_own_connections_to_the_array_are_reset_too(lab: "Lab") -> None:
    lab.serve()
    with lab.idle_clients(4, 5, 5000, at=lab.gateway) as clients:
        resetting = lab.gateway.submit(lambda: Resets().reset(DYING, MARK_MASK))
        assert lab.ended_within(clients, 2) is not None
        assert resetting.result() == 5


@pytest.mark.root
def test_without_the_nft_program_the_connections_are_flushed_all_the_same(lab: "Lab") -> None:
    lab.serve()
    with lab.idle_clients(4, 3, 5000):
        with pytest.raises(Unavailable, match="install the package nftables"):
            lab.gateway.call(lambda: Resets(nft="/nonexistent/nft").reset(DYING, MARK_MASK))
        assert lab.gateway.call(lambda: Conntrack().count_by_mark(MARK_MASK)) == Counter()


@pytest.mark.root
def test_the_table_is_made_again_after_somebody_flushed_the_ruleset_and_is_removed_when_asked(lab: "Lab") -> None:
    resets = Resets()
    lab.gateway.call(resets.prepare)
    lab.gateway.run("nft flush ruleset")
    lab.gateway.call(resets.prepare)
    lab.gateway.call(resets.prepare)
    said = lab.gateway.run("nft -s list ruleset")
    assert said.count("notrack") == 1
    assert said.count("reject with tcp reset") == rules().count("reject with tcp reset")
    lab.gateway.call(resets.remove)
    lab.gateway.call(resets.remove)
    assert lab.gateway.run("nft list ruleset") == ""


@pytest.mark.root
def test_no_more_syns_leave_than_the_rate_allows(lab: "Lab") -> None:
    lab.serve()
    many = [half("10.91.0.2", port, "10.91.0.100", 5000) for port in range(10_000, 14_000)]
    began = time.monotonic()
    lab.gateway.call(lambda: Resets(per_second=10_000)._send(many))
    assert 0.3 < time.monotonic() - began < 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EPERM])
def test_a_client_that_no_route_leads_to_keeps_no_other_from_hearing_of_it(number: int) -> None:
    class Link:
        def sendto(self, _packet: bytes, _to: object) -> int:
            raise OSError(number, "refused by a route")

    _send_one(cast(socket.socket, Link()), b"", "10.0.0.1")


def test_a_socket_that_is_broken_is_told() -> None:
    class Link:
        def sendto(self, _packet: bytes, _to: object) -> int:
            raise OSError(errno.EBADF, "bad descriptor")

    with pytest.raises(Unavailable, match="could not be sent"):
        _send_one(cast(socket.socket, Link()), b"", "10.0.0.1")
