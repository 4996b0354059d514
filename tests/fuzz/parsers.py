"""Everything that parses bytes from the network, as functions that may end in a value or in the error they promise.

Run as a program it feeds them without end, or for some seconds: with atheris where that can be imported, which follows
the coverage, else with bytes spoilt at random.

    python -m tests.fuzz.parsers 60            all of them, 60 seconds in all
    python -m tests.fuzz.parsers 60 inspection
"""

import contextlib
import importlib.util
import pkgutil
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from tests.core.dcerpc.conftest import read_capture
from tests.core.dcerpc.interfaces.address_book import ADAS_DN, RECORDED, SERVER
from tests.core.kerberos.tokens import client_token
from tests.core.rpc_http.pair import COOKIES, Pair

from casarray.core.autodiscover.elements import read_xml, write_xml
from casarray.core.autodiscover.request import Request as Question
from casarray.core.autodiscover.request import read_request, write_request
from casarray.core.autodiscover.response import (
    MAPI_HTTP,
    OwaUrl,
    RedirectAddress,
    Refusal,
    Settings,
    Side,
    User,
    read_response,
    write_response,
)
from casarray.core.autodiscover.response import (
    Protocol as Way,
)
from casarray.core.autodiscover.walk import Came, Found, LookUp, Visit, walk
from casarray.core.config import ProbeKind, Service
from casarray.core.dcerpc import interfaces
from casarray.core.dcerpc.association import AssociationView, Broken, RpcClient, RpcServer
from casarray.core.dcerpc.endpoint_map import EndpointMap
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.emsmdb_frames import AuxBlock, read_aux, write_aux
from casarray.core.dcerpc.interfaces.emsmdb_rops import read_replies, read_requests
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_LOOKUP, Entry, EptLookup, EptMapReply
from casarray.core.dcerpc.interfaces.mgmt import MGMT
from casarray.core.dcerpc.interfaces.nspi_entry_ids import EphemeralEntryId, PermanentEntryId, read_entry_id
from casarray.core.dcerpc.pdu import (
    AlterContextResponse,
    Auth,
    BindAck,
    BindNak,
    ContextResult,
    Fault,
    Request,
    Response,
    decode_pdu,
    take_pdu,
)
from casarray.core.dcerpc.syntax import NDR, NDR64
from casarray.core.dcerpc.tower import Tower
from casarray.core.dcerpc.verification import BITMASK_1, Command, encode_verification, split_verification
from casarray.core.errors import ConfigError, Denied, OutOfTurn, WireError
from casarray.core.gateway.epm_inspection import InspectionLimits, MapperInspection, PortPolicy
from casarray.core.gateway.layer import Close
from casarray.core.health.certificate import expires, names
from casarray.core.health.conversation import Answer, Ask, Failure, Talk
from casarray.core.health.probes import Target, conversation
from casarray.core.kerberos import agent_messages
from casarray.core.kerberos.agent_config import load_agent
from casarray.core.kerberos.bare import bare
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key
from casarray.core.kerberos.keytab import KeytabEntry, entries_of, read_keytab, write_keytab
from casarray.core.kerberos.tickets import Mechanism, mechanism_of, ticket_of
from casarray.core.ntlm.context import NtlmClient, NtlmServer
from casarray.core.ntlm.crypto import nt_hash
from casarray.core.rpc_http.client import VirtualConnection
from casarray.core.rpc_http.http import RequestHead, request_head, rpc_error, success, take_answer, take_request
from casarray.core.rpc_http.http import Target as RpcTarget
from casarray.core.rpc_http.rts import decode_rts, take_all
from casarray.core.spnego.negotiation import NTLM, SpnegoClient, SpnegoServer
from casarray.core.spnego.negotiation import Way as Mechanical
from casarray.core.spnego.tokens import NegTokenInit, NegTokenResp

CAPTURES = ("mapper_bind", "mapper_bind_ack", "ept_map_emsmdb", "ept_map_emsmdb_reply", "ept_map_nothing_reply")
RTS = tuple(
    f"rpc_http/{path.stem}" for path in sorted((Path(__file__).parents[1] / "captures" / "rpc_http").glob("*.hex"))
)
BIND, BIND_ACK, MAP, ANSWER, NOTHING = (read_capture(name) for name in CAPTURES)
ENTRIES = tuple(Entry(Tower.tcp(EMSMDB, 50000 + n, IPv4Address("10.12.0.21")), f"number {n}") for n in range(4))


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser. ``feed`` returns for any bytes whatever; ``seeds`` are right ones to begin from."""

    feed: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


class Decoder(Protocol):
    """A class whose instances travel in a stub."""

    def __call__(self, stub: bytes, order: str, ndr64: bool) -> object:
        """Its ``decode``."""


def _or_wire_error(decode: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        with contextlib.suppress(WireError):
            decode(data)

    return feed


def _pdu(data: bytes) -> None:
    """What was read and is written again reads the same."""
    pdu = decode_pdu(data)
    assert decode_pdu(pdu.encode()) == pdu


def _stream(data: bytes) -> None:
    buffer = bytearray(data)
    while take_pdu(buffer) is not None:
        pass


def _stub(decode: Decoder) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        for order in ("little", "big"):
            for ndr64 in (False, True):
                _or_wire_error(lambda stub, order=order, ndr64=ndr64: decode(stub, order, ndr64))(data)  # type: ignore[misc]  # mypy takes a lambda's default for an argument

    return feed


def _client(data: bytes) -> None:
    client = RpcClient()
    client.bind(EPM)
    for at in range(0, len(data) or 1, 97):
        if any(isinstance(event, Broken) for event in client.receive(data[at : at + 97])):
            return


def _server(data: bytes) -> None:
    server = RpcServer({EPM: EndpointMap(ENTRIES)}, transfer=(NDR64, NDR))
    for at in range(0, len(data) or 1, 97):
        if not server.closed:
            server.serve(data[at : at + 97])


def _view(data: bytes) -> None:
    """The first octet of each chunk says who speaks."""
    view = AssociationView()
    buffers = bytearray(), bytearray()
    try:
        for at in range(0, len(data), 120):
            side = data[at] & 1
            buffers[side].extend(data[at + 1 : at + 120])
            while (pdu := take_pdu(buffers[side])) is not None:
                (view.client_pdu if side else view.server_pdu)(pdu)
    except (WireError, OutOfTurn):
        return


def _inspection(data: bytes) -> None:
    """From a server, to a client that has bound and asked twice; then the same bytes from the client."""
    layer = MapperInspection(IPv4Address("10.11.0.100"), PortPolicy(), InspectionLimits(held=8192))
    commands = layer.from_client(BIND) + layer.from_server(BIND_ACK) + layer.from_client(MAP)
    commands += layer.from_client(Request(call_id=2, context_id=0, opnum=EPT_LOOKUP, stub=b"").encode())
    assert not any(isinstance(command, Close) for command in commands)
    for at in range(0, len(data) or 1, 97):
        commands += layer.from_server(data[at : at + 97])
    commands += layer.from_client(data) + layer.client_closed() + layer.server_closed()
    assert sum(isinstance(command, Close) for command in commands) == 1


def _conversation(service: Service) -> Callable[[bytes], None]:
    """A server under health's eyes that says this, in pieces, whatever it is told."""

    def feed(data: bytes) -> None:
        talk = Talk("cas1", conversation(Target("cas1", (IPv4Address("10.12.0.21"),), service, 135)))
        pieces = [data[at : at + 97] for at in range(0, len(data), 97)]
        step = talk.begin()
        while not isinstance(step, Answer):
            if isinstance(step, Ask):
                step = talk.go_on(pieces.pop(0)) if pieces else talk.fail(Failure.CLOSED)
            else:
                step = talk.go_on(b"")

    return feed


def _keytab(data: bytes) -> None:
    """What was read and is written again reads the same."""
    entries = read_keytab(data)
    assert read_keytab(write_keytab(entries)) == entries


def _agent(data: bytes) -> None:
    """Whatever it may be; a holding that was read can be written, into a keytab too."""
    _or_wire_error(agent_messages.read_answer)(data)
    _or_wire_error(agent_messages.read_holdings)(data)
    with contextlib.suppress(WireError):
        request = agent_messages.read_request(data)
        assert agent_messages.read_request(agent_messages.write_request(request)) == request
        if request.holding is not None:
            write_keytab(entries_of(request.holding))


def _agent_file(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        load_agent(data.decode(errors="replace"), hostname="cas1.lab.example")


def _token(data: bytes) -> None:
    """Whatever has a ticket is of Kerberos."""
    mechanism = mechanism_of(data)
    try:
        ticket_of(data)
    except WireError:
        return
    assert mechanism is Mechanism.KERBEROS


def _fixed(size: int) -> bytes:
    return b"\x5a" * size


def _ntlm(data: bytes) -> None:
    """Both sides, at each turn; they end in a token or in a refusal."""
    one = NtlmClient("alice", "LAB", "secret", "x/y", random=_fixed, clock=lambda: 0.0)
    other = NtlmServer("cas1", "LAB", lambda _user, _domain: bytes(16), random=_fixed, clock=lambda: 0.0)
    fresh = NtlmServer("cas1", "LAB", lambda _user, _domain: bytes(16), random=_fixed, clock=lambda: 0.0)
    other.step(one.step(b""))
    for side in (one, other, fresh, SpnegoServer([Mechanical(NTLM, fresh)])):
        with contextlib.suppress(Denied):
            side.step(data)
    client = SpnegoClient([Mechanical(NTLM, NtlmClient("alice", "LAB", "s", "x/y", random=_fixed, clock=lambda: 0.0))])
    client.step(b"")
    with contextlib.suppress(Denied):
        client.step(data)


def _ntlm_messages() -> tuple[bytes, ...]:
    one = NtlmClient("alice", "LAB", "secret", "x/y", random=_fixed, clock=lambda: 0.0)
    other = NtlmServer("cas1", "LAB", lambda _user, _domain: nt_hash("secret"), random=_fixed, clock=lambda: 0.0)
    first = one.step(b"")
    asked = other.step(first)
    proof = one.step(asked)
    offers = (NegTokenInit((NTLM,), first).encode(), NegTokenResp(1, NTLM, asked, bytes(16)).encode())
    return (first, asked, proof, *offers)


def _entry_id(data: bytes) -> None:
    """What was read and is written again reads the same."""
    with contextlib.suppress(WireError):
        entry = read_entry_id(data)
        assert read_entry_id(entry.to_octets()) == entry


def _rops(data: bytes) -> None:
    _or_wire_error(read_requests)(data)
    _or_wire_error(read_replies)(data)


def _autodiscover(data: bytes) -> None:
    """What was read and is written again reads the same: a question, an answer, whatever else is XML."""
    question = read_request(data)
    if isinstance(question, Question):
        assert read_request(write_request(question)) == question
    else:
        assert read_response(write_response(question)) == question
    _or_wire_error(_autodiscover_answer)(data)


def _autodiscover_way(data: bytes) -> None:
    """Whatever everybody answers, and wherever that leads, a client's way ends."""
    way = walk(Question("alice@domain.tld"))
    step: Visit | LookUp = next(way)
    for number in range(60):
        location = data[:80].decode("latin-1")
        came = Came(302, location) if number % 3 == 1 else Came(200, body=data)
        try:
            step = way.send(Found(((location, 443),)) if isinstance(step, LookUp) else came)
        except StopIteration:
            return
    raise AssertionError("the way goes on for ever")


def _autodiscover_answer(data: bytes) -> None:
    root = read_xml(data, len(data))
    assert read_xml(write_xml(root), 100 * len(data) + 100) == root
    answer = read_response(data)
    assert read_response(write_response(answer)) == answer


def _answers() -> Iterator[bytes]:
    """What servers send, right."""
    yield from (BIND_ACK, ANSWER, NOTHING, BIND_ACK + ANSWER)
    yield BindNak(call_id=1, reason=4).encode()
    yield AlterContextResponse(call_id=1, results=(ContextResult(0, 0, NDR),)).encode()
    yield BindAck(call_id=1, results=(ContextResult(0, 0, NDR64), ContextResult(3, 3, NDR))).encode()
    yield Fault(call_id=1, status=0x1C010003).encode()
    yield Response(call_id=1, context_id=0, stub=bytes(40), auth=Auth(10, 5, 0, bytes(16))).encode()
    yield Response(call_id=2, order="big", context_id=0, stub=EptMapReply((ENTRIES[0].tower,)).encode("big")).encode()  # type: ignore[arg-type]  # mypy takes the order for any text


def _questions() -> Iterator[bytes]:
    """What clients send, right."""
    yield from (BIND, MAP, BIND + MAP)
    client = RpcClient()
    yield client.bind(EPM, MGMT, transfer=(NDR, NDR64), features=3)
    yield Request(call_id=1, context_id=0, opnum=EPT_LOOKUP, stub=EptLookup().encode()).encode()


def _decoders() -> Iterator[tuple[str, Callable[[bytes], None]]]:
    """Every stub of every interface."""
    for found in pkgutil.iter_modules(interfaces.__path__, f"{interfaces.__name__}."):
        for name, member in vars(import_module(found.name)).items():
            if isinstance(member, type) and member.__module__ == found.name and hasattr(member, "decode"):
                yield name, _stub(member.decode)


ENTRY_IDS = (PermanentEntryId(ADAS_DN).to_octets(), EphemeralEntryId(SERVER, 16).to_octets())
SAID = {type(message).__name__: (message.encode(),) for message in RECORDED.values()}
ROPS = tuple(message.rops for message in RECORDED.values() if hasattr(message, "rops"))
ANSWERS, QUESTIONS = tuple(_answers()), tuple(_questions())
STUBS = tuple(pdu[24:] for pdu in (*ANSWERS, *QUESTIONS) if pdu[2] in (0, 2))
HTTP = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\n\r\n",
    b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n",
)
MAIL = (b"* OK ready\r\n", b"+OK ready\r\n", b"220-a\r\n220 b\r\n250-c\r\n250 d\r\n")
DER = (bytes.fromhex("3082000a3003020101300302010130") + b"170d" + b"261122000000Z",)
ENTRY = KeytabEntry(("http", "cas"), "LAB", 1, 0, 261, 18, bytes(32))
KEYTABS = (write_keytab([]), write_keytab([ENTRY, ENTRY]), write_keytab([ENTRY]) + b"\xff\xff\xff\xfe\0\0")
HOLDING = Holding("asa$", "LAB", ("http/cas",), (Generation(3, (Key(Enctype.AES256, 3, bytes(32)),), 1.0),))
AGENT = (
    agent_messages.write_request(agent_messages.Request(agent_messages.Op.TAKE, holding=HOLDING)),
    agent_messages.write_answer(agent_messages.Answer({"host": "cas1"}, HOLDING)),
    agent_messages.write_holdings((HOLDING,)),
)
AGENT_FILE = b'[agent]\nadministrators = ["a@LAB"]\n[[keytab]]\npath = "/x"\nservices = ["http"]\nreload = ["a", "b"]\n'
TOKENS = (client_token(), client_token(framed=False), client_token(spnego=True), b"NTLMSSP\0\1\0\0\0")
SIDE = Side((OwaUrl("https://a/owa/", "Basic"),), "EXCH", "https://a/?b=1&c=2")
AUTODISCOVER = (
    write_request(Question("a@b.tld", "/o=O/ou=G/cn=Recipients/cn=a")),
    write_response(
        Settings(User("A"), (Way("WEB", SIDE, SIDE), Way(MAPI_HTTP, mail_store=("https://a", "https://b"))))
    ),
    write_response(RedirectAddress("a@c.tld")),
    write_response(Refusal(600, "Invalid Request", "<why>", "12:00:00", "1")),
    b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
)


def _rts(data: bytes) -> None:
    for raw in take_all(bytearray(data)):
        decode_rts(raw)


def _rpc_http_heads(data: bytes) -> None:
    for take in (take_request, take_answer):
        buffer = bytearray(data)
        while (head := take(buffer)) is not None:
            if isinstance(head, RequestHead):
                _ = head.target, head.credentials, head.headers.session


def _rpc_http_client(data: bytes) -> None:
    """What a proxy sends, in pieces."""
    client = VirtualConnection(COOKIES, 0.0, draw=lambda: COOKIES.group)
    for at in range(0, len(data) or 1, 97):
        client.from_out(data[at : at + 97], 0.0)


def _rpc_http_proxy(data: bytes) -> None:
    """What a client sends on its IN channel, in pieces: however it ends, it ends in commands."""
    pair = Pair()
    pair.open()
    for at in range(0, len(data) or 1, 97):
        try:
            pair.write(pair.in_channel, data[at : at + 97])
        except WireError:
            return


PARSERS: Mapping[str, Parser] = {
    "rts": Parser(_or_wire_error(_rts), tuple(map(read_capture, RTS))),
    "rpc over http: heads": Parser(
        _or_wire_error(_rpc_http_heads),
        (request_head("RPC_IN_DATA", RpcTarget("cas1", 6001), "cas1", 4), rpc_error(0x6BA), success(20)),
    ),
    "rpc over http: client": Parser(_rpc_http_client, tuple(map(read_capture, RTS))),
    "rpc over http: proxy": Parser(_rpc_http_proxy, tuple(map(read_capture, RTS))),
    "probe rpc-http": Parser(_conversation(Service("rpch", 80, "web", ProbeKind.RPC_HTTP)), HTTP),
    "probe rpc-http server": Parser(
        _conversation(Service("rpch", 6001, "web", ProbeKind.RPC_HTTP)), (b"ncacn_http/1.0",)
    ),
    "pdu": Parser(_or_wire_error(_pdu), ANSWERS + QUESTIONS),
    "stream": Parser(_or_wire_error(_stream), ANSWERS + QUESTIONS),
    "tower": Parser(_or_wire_error(Tower.decode), (MAP[56:131], Tower.pipe(EMSMDB, r"\pipe\x", "CAS1").encode())),
    **{name: Parser(feed, STUBS + SAID.get(name, ())) for name, feed in _decoders()},
    "entry id": Parser(_entry_id, ENTRY_IDS),
    "rops": Parser(_rops, ROPS),
    "aux": Parser(_or_wire_error(read_aux), (write_aux((AuxBlock(0x48, bytes(4)), AuxBlock(0x17, b"1"))),)),
    "client": Parser(_client, ANSWERS),
    "server": Parser(_server, QUESTIONS),
    "view": Parser(_view, tuple(b"\x01" + q for q in QUESTIONS)),
    "inspection": Parser(_inspection, ANSWERS),
    "probe rpc": Parser(_conversation(Service("rpc", 5001, "rpc", ProbeKind.RPC, interfaces=(str(EMSMDB),))), ANSWERS),
    "probe http": Parser(_conversation(Service("web", 80, "web", ProbeKind.HTTP)), HTTP),
    "probe imap": Parser(_conversation(Service("imap", 143, "mail", ProbeKind.IMAP)), MAIL),
    "probe pop3": Parser(_conversation(Service("pop3", 110, "mail", ProbeKind.POP3)), MAIL),
    "probe smtp": Parser(_conversation(Service("smtp", 25, "mail", ProbeKind.SMTP)), MAIL),
    "certificate": Parser(expires, DER),
    "names of a certificate": Parser(names, DER),
    "keytab": Parser(_or_wire_error(_keytab), KEYTABS),
    "token": Parser(_token, TOKENS),
    "agent": Parser(_or_wire_error(_agent), (*AGENT, *map(agent_messages.frame, AGENT))),
    "agent file": Parser(_agent_file, (AGENT_FILE,)),
    "autodiscover": Parser(_autodiscover, AUTODISCOVER),
    "autodiscover's way": Parser(_autodiscover_way, AUTODISCOVER),
    "bare": Parser(bare, TOKENS),
    "ntlm and spnego": Parser(_ntlm, (*TOKENS, *_ntlm_messages())),
    "verification": Parser(split_verification, (encode_verification(b"abc", (Command(BITMASK_1, bytes(4)),)),)),
}


def spoil(seed: bytes, chance: random.Random) -> bytes:
    """The seed with a few octets changed, cut, doubled or put in."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if data:
                data[min(at, len(data) - 1)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1 if data:
                data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
            case 2:
                del data[at : at + chance.randint(1, 16)]
            case 3:
                data[at:at] = chance.randbytes(chance.randint(1, 16))
            case 4:
                data[at:at] = data[at : at + chance.randint(1, 64)]
            case _:
                del data[at:]
    return bytes(data)


def feed_for(seconds: float, names: Iterable[str], chance: random.Random) -> int:
    """Feed these parsers, in turn, for so long in all; how many inputs it were. What breaks one is printed."""
    chosen = [PARSERS[name] for name in names]
    fed, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for parser in chosen:
            data = spoil(chance.choice(parser.seeds), chance)
            try:
                parser.feed(data)
            except BaseException:
                print(f"broken by {data.hex()}", file=sys.stderr)
                raise
            fed += 1
    return fed


def main(arguments: list[str]) -> None:
    """See above."""
    seconds = float(arguments[0]) if arguments else 60.0
    names = arguments[1:] or list(PARSERS)
    if importlib.util.find_spec("atheris") is None:
        print(f"{feed_for(seconds, names, random.Random())} inputs, nothing broken")
        return
    atheris = import_module("atheris")
    atheris.instrument_all()
    feeds = [PARSERS[name].feed for name in names]
    atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}"], lambda data: [feed(data) for feed in feeds])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
