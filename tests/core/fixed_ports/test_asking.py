"""An endpoint mapper asked for the two services' ports, joined to our own server side in memory."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.health.talking import always, converse

from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import CANNOT_PERFORM, EPM, NOT_REGISTERED, EptMap, EptMapReply
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.pdu import BindNak, NakReason
from casarray.core.dcerpc.server import Call, RpcServer
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.fixed_ports.asking import Answers, Ports, answers, asking
from casarray.core.health.conversation import Failure

HOST = IPv4Address("10.12.0.21")
ALL = (EMSMDB, NSPI, RFR)


class Mapper:
    """An endpoint mapper that knows these ports."""

    def __init__(self, ports: Mapping[Syntax, Iterable[int]], *, interface: Syntax = EPM, cut: int = 1000) -> None:
        self.ports, self.cut, self.status, self.fault = ports, cut, 0, 0
        self.web: tuple[int, ...] = ()  # ports for RPC over HTTP, of every interface
        self.server = RpcServer({interface: self.answer})

    def answer(self, call: Call) -> bytes | int:
        if self.fault:
            return self.fault
        tower = EptMap.decode(call.stub, call.order, call.ndr64).tower
        assert tower is not None
        assert tower.interface is not None
        towers = tuple(Tower.tcp(tower.interface, port, HOST) for port in self.ports.get(tower.interface, ()))
        towers += tuple(Tower.http(tower.interface, port, HOST) for port in self.web)
        return EptMapReply(towers, self.status or (0 if towers else NOT_REGISTERED), max_towers=8).encode()

    def __call__(self, _port: int, data: bytes) -> Iterable[bytes]:
        reply = self.server.serve(data) if data else b""
        return [reply[at : at + self.cut] for at in range(0, len(reply), self.cut)]


def ask(mapper: object, interfaces: Iterable[Syntax] = ALL, **options: object) -> Answers:
    """What comes of asking it."""
    found = Ports()
    end = converse(asking(135, tuple(interfaces), found), mapper, **options)  # type: ignore[arg-type]  # any of the above
    return answers("cas1", found, end)


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_every_interface_comes_with_its_ports(cut: int) -> None:
    found = ask(Mapper({EMSMDB: [5001], NSPI: [5000], RFR: [5000]}, cut=cut))
    assert found == Answers("cas1", {"EMSMDB": (5001,), "NSPI": (5000,), "RFR": (5000,)})
    assert found.answered


def test_an_interface_that_is_not_registered_has_no_port() -> None:
    found = ask(Mapper({EMSMDB: [5001]}))
    assert found.ports == {"EMSMDB": (5001,), "NSPI": (), "RFR": ()}
    assert found.answered


def test_several_ports_come_in_order_and_each_once() -> None:
    assert ask(Mapper({EMSMDB: [6123, 5001, 6123]}), [EMSMDB]).ports == {"EMSMDB": (5001, 6123)}


def test_ports_for_rpc_over_http_are_passed_over() -> None:
    mapper = Mapper({EMSMDB: [5001]})
    mapper.web = (6001,)
    assert ask(mapper, [EMSMDB]).ports == {"EMSMDB": (5001,)}


def test_only_what_was_wanted_is_asked_for() -> None:
    assert ask(Mapper({EMSMDB: [5001], NSPI: [5000]}), [EMSMDB]).ports == {"EMSMDB": (5001,)}


def test_nobody_there_is_a_reason() -> None:
    assert ask(Mapper({}), refused=[135]).reason == "cas1 refuses connections on 135"


def test_a_mapper_that_refuses_says_why() -> None:
    nak = BindNak(call_id=1, reason=NakReason.TEMPORARY_CONGESTION).encode()
    found = ask(lambda _port, data: [nak] if data else [])
    assert found.reason == "cas1 refuses to be asked for ports on 135: it is congested"


def test_something_else_on_the_port_is_told() -> None:
    assert ask(Mapper({}, interface=NSPI)).reason == "cas1 has no endpoint mapper on 135, but something else"


def test_a_fault_and_an_error_of_the_mapper_are_told_with_their_numbers() -> None:
    mapper = Mapper({})
    mapper.fault = 5
    assert ask(mapper).reason == "cas1 answers ept_map for EMSMDB with fault 00000005"
    mapper = Mapper({})
    mapper.status = CANNOT_PERFORM
    assert ask(mapper).reason == "cas1 answers ept_map for EMSMDB with status 16C9A0CD"


def test_what_was_said_before_the_end_does_not_count() -> None:
    class Dying(Mapper):
        def __call__(self, port: int, data: bytes) -> Iterable[bytes]:
            asked_for_nspi = self.ports.keys() == {EMSMDB} and NSPI.uuid.bytes_le in data
            return [] if asked_for_nspi else super().__call__(port, data)

    found = ask(Dying({EMSMDB: [5001]}))
    assert (found.ports, found.answered) == ({}, False)
    assert found.reason == "cas1 accepts connections on 135 but does not answer ept_map for NSPI"


def test_silence_is_told_as_silence() -> None:
    assert "does not answer the bind" in ask(lambda _port, _data: []).reason
    assert "closes the connection" in ask(lambda _port, data: Failure.CLOSED if data else []).reason


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_end_in_an_answer(pieces: list[bytes]) -> None:
    assert ask(always(*(piece for piece in pieces if piece))).reason
