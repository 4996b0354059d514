"""The RPC probe against our own server side of an association, joined in memory."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.health.talking import converse

from casarray.core.config import ProbeKind, Service
from casarray.core.dcerpc.client import Bound, RpcClient
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import CANNOT_PERFORM, EPM, NOT_REGISTERED, EptMap, EptMapReply
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.pdu import Bind, BindAck, BindNak, decode_pdu
from casarray.core.dcerpc.server import Call, RpcServer
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.health.conversation import Answer, Failure
from casarray.core.health.probes import Target, conversation
from casarray.core.health.rpc import Agenda, Ports, Said, consulting, is_short_ack, offer, remembered_ack, without_group

RPC = Service("rpc", 5001, "rpc", ProbeKind.RPC, interfaces=(str(EMSMDB),))
AB = Service("ab", None, "rpc", ProbeKind.RPC, interfaces=(str(NSPI), str(RFR)))
MAPPER = Service("epm", 135, "rpc", ProbeKind.RPC, mapper=True)


@dataclass
class Host:
    """A server: its mapper's towers, what each port has, how the wire cuts, what breaks."""

    towers: Mapping[Syntax, Iterable[Tower]]
    ports: Mapping[int, Iterable[Syntax]]
    cut: int = 1000
    mapper_status: int = 0
    broken: Mapping[int, bytes | Failure] = field(default_factory=dict)
    transfer: tuple[Syntax, ...] = (NDR,)
    one_at_a_time: bool = False  # as Samba
    dialled: list[int] = field(default_factory=list)
    _live: RpcServer | None = None

    def ept_map(self, call: Call) -> bytes | int:
        if self.mapper_status and self.mapper_status != NOT_REGISTERED:
            return self.mapper_status
        asked = EptMap.decode(call.stub, call.order, call.ndr64).tower
        assert asked is not None
        assert asked.interface is not None
        found = tuple(self.towers.get(asked.interface, ()))
        status = 0 if found else NOT_REGISTERED
        return EptMapReply(found, status, max_towers=8).encode(call.order, call.ndr64)

    def __call__(self, port: int, data: bytes) -> Iterable[bytes] | Failure:
        if not data:
            interfaces: Mapping[Syntax, Callable[[Call], bytes | int] | None]
            interfaces = {EPM: self.ept_map} if port == 135 else dict.fromkeys(self.ports.get(port, ()))
            self._live = RpcServer(interfaces, transfer=self.transfer)
            return ()
        if self.one_at_a_time and port != 135 and isinstance(bind := decode_pdu(data), Bind):
            first = bind.contexts[0].interface
            self._live = RpcServer([i for i in self.ports[port] if i == first])
        if (broken := self.broken.get(port)) is not None:
            return broken if isinstance(broken, Failure) else [broken]
        assert self._live is not None
        answer = self._live.serve(data)
        return [answer[at : at + self.cut] for at in range(0, len(answer), self.cut)]

    def probe(self, service: Service, mapper_port: int | None = 135) -> Answer:
        listening = {135, *self.ports}
        refused = [port for port in (5000, 5001, 49160, 49161) if port not in listening]
        steps = conversation(Target("cas1", (), service, mapper_port))
        return converse(steps, self, refused=refused, dialled=self.dialled)


def exchange(**kwargs: Any) -> Host:
    """EMSMDB on its static port, the address book on a dynamic one."""
    towers = {EMSMDB: [Tower.tcp(EMSMDB, 5001)], NSPI: [Tower.tcp(NSPI, 49160)], RFR: [Tower.tcp(RFR, 49160)]}
    return Host(**{"towers": towers, "ports": {5001: [EMSMDB], 49160: [NSPI, RFR]}, **kwargs})


@pytest.mark.parametrize("cut", [1, 3, 16, 1000])
def test_an_interface_is_mapped_and_bound_to_however_the_answers_are_cut(cut: int) -> None:
    host = exchange(cut=cut)
    assert host.probe(RPC) == Answer(True, "cas1 accepts the bind to EMSMDB on 5001")
    assert host.dialled == [135, 5001]


def test_interfaces_on_one_port_are_bound_to_on_one_connection() -> None:
    host = exchange()
    assert host.probe(AB) == Answer(True, "cas1 accepts the bind to NSPI and RFR on 49160")
    assert host.dialled == [135, 49160]


def test_interfaces_on_two_ports_are_both_bound_to() -> None:
    towers = {NSPI: [Tower.tcp(NSPI, 49160)], RFR: [Tower.tcp(RFR, 49161)]}
    host = Host(towers, {49160: [NSPI], 49161: [RFR]})
    assert host.probe(AB).up
    assert host.dialled == [135, 49160, 49161]
    assert Host(towers, {49160: [NSPI]}).probe(AB) == Answer(
        False, "cas1 refuses connections on 49161, where its endpoint mapper says RFR is", conclusive=True
    )


def test_a_server_that_takes_one_interface_on_a_connection_is_asked_for_each_on_its_own() -> None:
    host = exchange(one_at_a_time=True)
    assert host.probe(AB).up
    assert host.dialled == [135, 49160, 49160]
    half = exchange(one_at_a_time=True, ports={49160: [NSPI]})
    assert half.probe(AB).reason == (
        "cas1 rejects the bind to RFR on 49160, where its endpoint mapper says RFR is: it does not have the interface"
    )


def test_what_a_server_said_before_says_nothing_of_it_now() -> None:
    """Answers are read once, and asked for each time."""
    assert exchange().probe(AB).up
    assert not exchange(ports={49160: [NSPI]}).probe(AB).up
    assert not exchange(towers={NSPI: [Tower.tcp(NSPI, 49160)]}).probe(AB).up
    assert exchange().probe(AB).up


def test_an_answer_to_a_bind_is_known_again_by_all_but_its_association_group() -> None:
    ack = RpcServer([NSPI]).serve(RpcClient().bind(NSPI))
    decoded = decode_pdu(ack)
    assert isinstance(decoded, BindAck)
    assert without_group(replace(decoded, group_id=4711, raw=b"").encode()) == without_group(ack)
    assert without_group(replace(decoded, max_recv=4711, raw=b"").encode()) != without_group(ack)
    assert remembered_ack(offer((NSPI,)), without_group(ack)) == Bound(decoded.results, 0)


def test_an_answer_that_is_cut_or_wrong_is_looked_at_closer() -> None:
    ack = RpcServer([NSPI]).serve(RpcClient().bind(NSPI))
    assert is_short_ack(ack)
    assert remembered_ack(offer((NSPI,)), ack[:-1]) is None
    assert remembered_ack(offer((NSPI,)), ack[:-1] + b"?") is None
    assert remembered_ack(offer((NSPI, RFR)), ack) is None
    assert not is_short_ack(BindNak(call_id=1, reason=2).encode())
    assert not is_short_ack(ack[:2])


def test_questions_come_while_others_are_asked_and_not_after_the_last() -> None:
    host, said = exchange(), list[Syntax]()

    def hear(interface: Syntax, _: Said) -> None:
        said.append(interface)
        if interface == NSPI:
            agenda.add(RFR)

    agenda = Agenda(hear, (NSPI, EMSMDB))
    assert converse(consulting(135, agenda), host, dialled=host.dialled).up
    assert said == [NSPI, EMSMDB, RFR]
    assert agenda.closed
    assert host.dialled == [135]


def test_a_mapper_that_answers_a_question_is_not_asked_for_itself() -> None:
    said = dict[Syntax, Said]()
    asked = list[Syntax]()
    agenda = Agenda(said.__setitem__, (EPM, NSPI, RFR))
    for interface in agenda:
        asked.append(interface)
        agenda.heard(interface, Answer(False, "fault") if interface == NSPI else Ports((), NOT_REGISTERED))
    assert asked == [NSPI, RFR]
    assert said[EPM] == Ports((), NOT_REGISTERED)


def test_a_mapper_that_has_answered_nothing_yet_is_asked_for_itself_at_last() -> None:
    asked = list[Syntax]()
    agenda = Agenda(lambda _interface, _said: None, (EPM, NSPI))
    for interface in agenda:
        asked.append(interface)
        agenda.heard(interface, Answer(False, "fault"))
    assert asked == [NSPI, EPM]


def test_half_dead_is_down() -> None:
    """The mapper answers, the port it names does not."""
    answer = exchange(broken={5001: Failure.TIMEOUT}).probe(RPC)
    assert answer.reason == (
        "cas1 accepts connections on 5001, where its endpoint mapper says EMSMDB is, "
        "but does not answer the bind to EMSMDB"
    )
    assert not answer.conclusive


def test_an_interface_that_nobody_registered_is_down() -> None:
    answer = exchange(towers={}).probe(RPC)
    assert answer == Answer(False, "cas1 has no TCP port for EMSMDB: its endpoint mapper says not registered")


def test_a_tower_over_something_else_than_tcp_does_not_count() -> None:
    answer = exchange(towers={EMSMDB: [Tower.http(EMSMDB, 6001), Tower.pipe(EMSMDB, "x")]}).probe(RPC)
    assert not answer.up


def test_among_several_ports_the_static_one_is_tried() -> None:
    host = exchange(towers={EMSMDB: [Tower.http(EMSMDB, 6001), Tower.tcp(EMSMDB, 49160), Tower.tcp(EMSMDB, 5001)]})
    assert host.probe(RPC).up
    assert host.dialled == [135, 5001]


def test_where_the_mapper_names_another_port_than_the_static_one_that_one_counts() -> None:
    host = exchange(towers={EMSMDB: [Tower.tcp(EMSMDB, 49160)]}, ports={49160: [EMSMDB]})
    assert host.probe(RPC).reason == "cas1 accepts the bind to EMSMDB on 49160"


def test_without_a_mapper_the_static_port_is_bound_to_directly() -> None:
    host = exchange()
    assert host.probe(RPC, mapper_port=None) == Answer(True, "cas1 accepts the bind to EMSMDB on 5001")
    assert host.dialled == [5001]


def test_without_an_interface_any_answer_to_a_bind_will_do() -> None:
    host = exchange()
    assert host.probe(Service("x", 5001, "rpc", ProbeKind.RPC)) == Answer(True, "cas1 answers a bind on 5001")
    assert (
        not exchange(broken={5001: b"HTTP/1.1 400 Bad Request\r\n\r\n"})
        .probe(Service("x", 5001, "rpc", ProbeKind.RPC))
        .up
    )


def test_nothing_to_ask_for_is_a_fault_of_ours() -> None:
    assert exchange().probe(Service("x", None, "rpc", ProbeKind.RPC), mapper_port=None).ours


def test_a_rejected_interface_is_down() -> None:
    answer = exchange(ports={5001: [NSPI]}).probe(RPC)
    assert answer.reason == (
        "cas1 rejects the bind to EMSMDB on 5001, where its endpoint mapper says EMSMDB is: "
        "it does not have the interface"
    )
    assert "it does not speak NDR" in exchange(transfer=(NDR64,)).probe(MAPPER).reason


def test_a_refused_bind_is_down() -> None:
    nak = BindNak(call_id=1, reason=2, versions=((5, 0),)).encode()
    assert exchange(broken={5001: nak}).probe(RPC).reason.endswith("EMSMDB is: a limit of its own is reached")


def test_a_mapper_that_knows_nothing_lives() -> None:
    assert Host({}, {}).probe(MAPPER) == Answer(True, "cas1 answers ept_map on 135")


def test_a_mapper_that_faults_is_down() -> None:
    answer = Host({}, {}, mapper_status=CANNOT_PERFORM).probe(MAPPER)
    assert answer == Answer(False, "cas1 answers ept_map for the endpoint mapper on 135 with fault 16C9A0CD")


def test_a_mapper_that_refuses_connections_is_conclusive() -> None:
    steps = conversation(Target("cas1", (), RPC))
    assert converse(steps, Host({}, {}), refused=[135]) == Answer(False, "cas1 refuses connections on 135", True)


def test_another_protocol_is_a_sentence() -> None:
    answer = exchange(broken={135: b"SSH-2.0-OpenSSH_9.2\r\n"}).probe(MAPPER)
    assert answer.reason.startswith(
        "cas1 accepts connections on 135 but what it sends does not answer the bind to the endpoint mapper ("
    )


def test_an_unknown_interface_goes_by_its_number() -> None:
    uuid = "12345778-1234-abcd-ef00-0123456789ac"
    answer = exchange().probe(Service("sam", None, "rpc", ProbeKind.RPC, interfaces=(f"{uuid}/1.0",)))
    assert answer.reason == f"cas1 has no TCP port for {UUID(uuid)}/1.0: its endpoint mapper says not registered"


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=10), st.sampled_from([135, 49160]), st.booleans())
def test_whatever_comes_there_is_an_answer(pieces: list[bytes], port: int, framed: bool) -> None:
    if framed:  # so that it gets beyond the header
        pieces = [b"\5\0\x0c\3\x10\0\0\0" + (len(p) + 16).to_bytes(2, "little") + b"\0\0\1\0\0\0" + p for p in pieces]
    host = exchange(broken={port: b"".join(pieces)} if pieces else {})
    assert isinstance(host.probe(AB), Answer)


@given(st.data())
def test_a_changed_octet_in_any_answer_ends_in_an_answer(data: st.DataObject) -> None:
    at, value, port = (
        data.draw(st.integers(0, 400)),
        data.draw(st.integers(0, 255)),
        data.draw(st.sampled_from([135, 49160])),
    )
    host = exchange()

    def meddled(where: int, said: bytes) -> Iterable[bytes] | Failure:
        replies = host(where, said)
        if where != port or isinstance(replies, Failure):
            return replies
        whole = bytearray(b"".join(replies))
        if at < len(whole):
            whole[at] = value
        return [bytes(whole)] if whole else ()

    assert isinstance(converse(conversation(Target("cas1", (), AB)), meddled, refused=[]), Answer)
