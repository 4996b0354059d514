"""What others make of our octets, and we of theirs: Samba's ndrdump and impacket, neither of which was written here.

ndrdump's picture of a tower in NDR64 differs from the interface definition (it takes tower_length for eight octets), so
for towers in NDR64 impacket stands alone.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from casarray.core.dcerpc.association import RpcServer
from casarray.core.dcerpc.cursor import NIL, Order
from casarray.core.dcerpc.endpoint_map import EndpointMap
from casarray.core.dcerpc.interfaces.epm import (
    EPM,
    NOT_REGISTERED,
    Entry,
    EptLookup,
    EptLookupHandleFree,
    EptLookupHandleFreeReply,
    EptLookupReply,
    EptMap,
    EptMapReply,
    Inquiry,
    Versions,
)
from casarray.core.dcerpc.interfaces.mgmt import MGMT, InqIfIdsReply, IsServerListeningReply
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.pdu import (
    FIRST,
    LAST,
    NDR,
    NDR64,
    NO_SYNTAX,
    AlterContext,
    AlterContextResponse,
    Auth,
    Auth3,
    Bind,
    BindAck,
    BindNak,
    CoCancel,
    Context,
    ContextResult,
    Fault,
    Orphaned,
    Pdu,
    Request,
    Response,
    Rts,
    Shutdown,
    Syntax,
)
from casarray.core.dcerpc.syntax import feature_negotiation
from casarray.core.dcerpc.tower import Tower

EMSMDB = Syntax(UUID("a4f1db00-ca47-1067-b31f-00dd010662da"), 0, 81)
NSPI = Syntax(UUID("f5cc5a18-4264-101a-8c59-08002b2f8426"), 56, 0)
HOST = IPv4Address("10.1.1.3")
HANDLE = ContextHandle(UUID("00112233-4455-6677-8899-aabbccddeeff"), 3)
TCP_TOWER = Tower.tcp(EMSMDB, 59532, HOST)
PIPE_TOWER = Tower.pipe(NSPI, r"\pipe\epmapper", "CAS1")
TOKEN = Auth(9, 6, 79231, b"NTLMSSP\0token")

PDUS: dict[str, tuple[Pdu, list[str]]] = {
    "request": (
        Request(call_id=2, context_id=7, opnum=3, stub=b"question", object=HANDLE.uuid, auth=TOKEN),
        ["DCERPC_PKT_REQUEST (0)", "opnum : 0x0003", "context_id : 0x0007", f"object : {HANDLE.uuid}"],
    ),
    "fragment": (
        Request(call_id=2, context_id=7, opnum=3, stub=b"question", flags=FIRST, alloc_hint=99),
        ["alloc_hint : 0x00000063 (99)", "DATA_BLOB length=8"],
    ),
    "response": (
        Response(call_id=9, context_id=1, stub=b"answer", cancel_count=1, auth=TOKEN, flags=LAST),
        ["DCERPC_PKT_RESPONSE (2)", "cancel_count : 0x01", "auth_length : 0x000d (13)"],
    ),
    "fault": (Fault(call_id=1, status=0x1C00001A), ["status : DCERPC_NCA_S_FAULT_CONTEXT_MISMATCH"]),
    "bind": (
        Bind(
            call_id=1,
            contexts=(Context(0, EPM, (NDR, NDR64)), Context(1, EPM, (feature_negotiation(3),))),
            group_id=0x1234,
        ),
        ["num_contexts : 0x02", f"uuid : {EPM.uuid}", f"uuid : {NDR64.uuid}", "assoc_group_id : 0x00001234"],
    ),
    "bind_ack": (
        BindAck(
            call_id=1,
            results=(ContextResult(0, 0, NDR), ContextResult(2, 2, NO_SYNTAX), ContextResult(3, 3, NO_SYNTAX)),
            secondary_address=b"135\0",
            auth=TOKEN,
        ),
        [
            "secondary_address : '135'",
            "TRANSFER_SYNTAXES_NOT_SUPPORTED (2)",
            "NEGOTIATE_ACK (3)",
            "auth_info : DATA_BLOB",
        ],
    ),
    "bind_nak": (
        BindNak(call_id=1, reason=4, versions=((5, 0), (5, 1))),
        ["PROTOCOL_VERSION_NOT_SUPPORTED (4)", "num_versions : 0x02", "rpc_vers_minor : 0x01"],
    ),
    "alter_context": (
        AlterContext(call_id=2, contexts=(Context(5, MGMT, (NDR,)),), auth=TOKEN),
        ["DCERPC_PKT_ALTER (14)", "context_id : 0x0005", f"uuid : {MGMT.uuid}"],
    ),
    "alter_context_response": (
        AlterContextResponse(call_id=2, results=(ContextResult(0, 0, NDR),)),
        ["DCERPC_PKT_ALTER_RESP (15)", "num_results : 0x01", f"uuid : {NDR.uuid}"],
    ),
    "auth3": (Auth3(call_id=1, auth=TOKEN), ["DCERPC_PKT_AUTH3 (16)", "auth_info : DATA_BLOB length=21"]),
    "shutdown": (Shutdown(call_id=0), ["DCERPC_PKT_SHUTDOWN (17)"]),
    "co_cancel": (CoCancel(call_id=4), ["DCERPC_PKT_CO_CANCEL (18)", "call_id : 0x00000004"]),
    "orphaned": (Orphaned(call_id=4), ["DCERPC_PKT_ORPHANED (19)"]),
    "rts": (Rts(call_id=0, body=bytes.fromhex("40000000")), ["DCERPC_PKT_RTS (20)", "RTS_FLAG_ECHO"]),
}

MAP = EptMap(TCP_TOWER, 4, HANDLE)
LOOKUP = EptLookup(Inquiry.BY_BOTH, NIL, EMSMDB, Versions.UP_TO, HANDLE, 10)
FREE = EptLookupHandleFree(HANDLE)
# pipe, function, in or out, the request before it, our stub, what must be seen
STUBS: dict[str, tuple[str, str, str, bytes, bytes, list[str]]] = {
    "map": (
        *("epmapper", "epm_Map", "in", b"", MAP.encode()),
        ["port : 0xe88c (59532)", "ipaddr : 10.1.1.3", "max_towers : 0x00000004", f"uuid : {HANDLE.uuid}"],
    ),
    "map for a pipe": (
        *("epmapper", "epm_Map", "in", b"", EptMap(PIPE_TOWER, object=None).encode()),
        ["unc : '\\pipe\\epmapper'", "name : 'CAS1'", "object : NULL"],
    ),
    "map reply": (
        *("epmapper", "epm_Map", "out", MAP.encode(), EptMapReply((TCP_TOWER, PIPE_TOWER, TCP_TOWER)).encode()),
        ["num_towers : 0x00000003", "port : 0xe88c (59532)", "unc : '\\pipe\\epmapper'", "result : 0x00000000"],
    ),
    "map reply without towers": (
        *("epmapper", "epm_Map", "out", MAP.encode(), EptMapReply((), NOT_REGISTERED).encode()),
        ["num_towers : 0x00000000", "result : 0x16c9a0d6"],
    ),
    "lookup": (
        *("epmapper", "epm_Lookup", "in", b"", LOOKUP.encode()),
        ["MATCH_BY_BOTH (3)", f"uuid : {EMSMDB.uuid}", "vers_minor : 0x0051 (81)", "max_ents : 0x0000000a"],
    ),
    "lookup reply": (
        *("epmapper", "epm_Lookup", "out", LOOKUP.encode()),
        EptLookupReply((Entry(TCP_TOWER, "mail"), Entry(PIPE_TOWER, "y" * 63, HANDLE.uuid)), max_entries=10).encode(),
        ["num_ents : 0x00000002", "annotation : 'mail'", f"annotation : '{'y' * 63}'", f"object : {HANDLE.uuid}"],
    ),
    "lookup reply without towers": (
        *("epmapper", "epm_Lookup", "out", LOOKUP.encode()),
        EptLookupReply((Entry(None, "a"), Entry(None, "")), max_entries=10).encode(),
        ["annotation : 'a'", "tower : NULL"],
    ),
    "free": (*("epmapper", "epm_LookupHandleFree", "in", b"", FREE.encode()), [f"uuid : {HANDLE.uuid}"]),
    "free reply": (
        *("epmapper", "epm_LookupHandleFree", "out", FREE.encode(), EptLookupHandleFreeReply().encode()),
        [f"uuid : {NIL}", "result : 0x00000000"],
    ),
    "inq_if_ids reply": (
        *("mgmt", "mgmt_inq_if_ids", "out", b"", InqIfIdsReply((EPM, MGMT, EMSMDB)).encode()),
        ["count : 0x00000003", f"uuid : {EPM.uuid}", "if_version : 0x00510000"],
    ),
    "is_server_listening reply": (
        *("mgmt", "mgmt_is_server_listening", "out", b"", IsServerListeningReply(True, 5).encode()),
        ["status : 0x00000005", "result : 0x00000001"],
    ),
}
# Those in NDR64 that ndrdump reads as the interface definition has them.
WIDE_STUBS: dict[str, tuple[str, str, str, bytes, bytes, list[str]]] = {
    "map without a tower": (
        *("epmapper", "epm_Map", "in", b"", EptMap(None, 7, HANDLE).encode("little", True)),
        ["map_tower : NULL", f"uuid : {HANDLE.uuid}", "max_towers : 0x00000007"],
    ),
    "map reply without towers": (
        *("epmapper", "epm_Map", "out", EptMap(None).encode("little", True)),
        EptMapReply((), NOT_REGISTERED).encode("little", True),
        ["num_towers : 0x00000000", "result : 0x16c9a0d6"],
    ),
    "lookup": (
        *("epmapper", "epm_Lookup", "in", b"", LOOKUP.encode("little", True)),
        [f"uuid : {EMSMDB.uuid}", "vers_minor : 0x0051 (81)", "max_ents : 0x0000000a"],
    ),
    "inq_if_ids reply": (
        *("mgmt", "mgmt_inq_if_ids", "out", b"", InqIfIdsReply((EPM, MGMT)).encode("little", True)),
        ["count : 0x00000002", f"uuid : {EPM.uuid}", f"uuid : {MGMT.uuid}", "WERR_OK"],
    ),
}


def ndrdump(*arguments: str | Path) -> str:
    """What ndrdump prints, with runs of blanks as one; it must have read all there is."""
    if shutil.which("ndrdump") is None:
        pytest.skip("no ndrdump (Debian: samba-testsuite)")
    done = subprocess.run(["ndrdump", *map(str, arguments)], capture_output=True, timeout=30, check=False)
    text = " ".join((done.stdout + done.stderr).decode("latin-1").split())
    assert done.returncode == 0, text
    assert "dump OK" in text, text
    assert "unread bytes" not in text, text
    return text


def dump_stub(stub: tuple[str, str, str, bytes, bytes, list[str]], folder: Path, *options: str) -> str:
    pipe, function, direction, before, octets, wanted = stub
    (folder / "before").write_bytes(before)
    (folder / "stub").write_bytes(octets)
    context = ("-c", folder / "before") if direction == "out" else ()
    text = ndrdump(*options, *context, pipe, function, direction, folder / "stub")
    assert [piece for piece in wanted if piece not in text] == [], text
    return text


@pytest.mark.samba
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("name", PDUS)
def test_ndrdump_reads_every_pdu(name: str, order: Order, tmp_path: Path) -> None:
    pdu, wanted = PDUS[name]
    if name == "rts" and order == "big":
        wanted = wanted[:1]  # the flags in its body are octets to us
    (tmp_path / "pdu").write_bytes(replace(pdu, order=order).encode())
    text = ndrdump("dcerpc", "ncacn_packet", "struct", tmp_path / "pdu")
    assert [piece for piece in wanted if piece not in text] == [], text


@pytest.mark.samba
@pytest.mark.parametrize("name", STUBS)
def test_ndrdump_reads_every_stub_and_writes_it_with_the_same_length(name: str, tmp_path: Path) -> None:
    text = dump_stub(STUBS[name], tmp_path, "--validate")
    assert "validated pulled bytes" not in text
    assert STUBS[name][2] == "out" or "differ" not in text  # requests even with the same referents


@pytest.mark.samba
@pytest.mark.parametrize("name", WIDE_STUBS)
def test_ndrdump_reads_ndr64_where_it_goes_by_the_definition(name: str, tmp_path: Path) -> None:
    dump_stub(WIDE_STUBS[name], tmp_path, "--ndr64")


# impacket


class Wire:
    """The transport of an impacket client whose other end is an `RpcServer` in memory."""

    def __init__(self, server: RpcServer) -> None:
        self.server = server
        self._answers = bytearray()

    def connect(self) -> None:
        pass

    def disconnect(self) -> None:
        self.server.close()

    def send(self, data: bytes, **_: Any) -> None:
        self._answers += self.server.serve(data)

    def recv(self, _force: int = 0, count: int = 0) -> bytes:
        octets = bytes(self._answers[: count or None])
        del self._answers[: len(octets)]
        assert octets, "nobody answers"
        return octets


def impacket_client(server: RpcServer) -> Any:
    rpcrt = pytest.importorskip("impacket.dcerpc.v5.rpcrt")
    client = rpcrt.DCERPC_v5(Wire(server))
    client.connect()
    return client


BOOK = EndpointMap(
    [
        Entry(TCP_TOWER, "mail"),
        Entry(Tower.http(EMSMDB, 6001, HOST), "mail over HTTP"),
        Entry(Tower.pipe(EMSMDB, r"\pipe\mail", "CAS1"), ""),
        *(Entry(Tower.tcp(NSPI, 6000 + n, HOST), f"address book {n}") for n in range(120)),
    ],
    page=50,
)


def remote(interface: Syntax) -> bytes:
    return interface.encode("little")


@pytest.mark.parametrize(
    ("protocol", "binding"),
    [
        ("ncacn_ip_tcp", "ncacn_ip_tcp:cas1[59532]"),
        ("ncacn_http", "ncacn_http:cas1[6001]"),
        ("ncacn_np", r"ncacn_np:cas1[\pipe\mail]"),
    ],
)
def test_impacket_is_led_to_the_port(protocol: str, binding: str) -> None:
    epm = pytest.importorskip("impacket.dcerpc.v5.epm")
    client = impacket_client(RpcServer({EPM: BOOK}, secondary_address="135"))
    assert epm.hept_map("cas1", remote(EMSMDB), protocol=protocol, dce=client) == binding


def test_impacket_reads_every_page_of_a_lookup() -> None:
    epm = pytest.importorskip("impacket.dcerpc.v5.epm")
    client = impacket_client(RpcServer({EPM: BOOK}))
    entries = epm.hept_lookup("cas1", dce=client)
    assert len(entries) == len(BOOK.entries)
    bindings = [epm.PrintStringBinding(entry["tower"]["Floors"]) for entry in entries]
    assert bindings[:2] == ["ncacn_ip_tcp:10.1.1.3[59532]", "ncacn_http:10.1.1.3[6001]"]
    assert entries[-1]["annotation"] == b"address book 119\0"


def test_impacket_is_told_when_nothing_is_registered() -> None:
    epm = pytest.importorskip("impacket.dcerpc.v5.epm")
    rpcrt = pytest.importorskip("impacket.dcerpc.v5.rpcrt")
    client = impacket_client(RpcServer({EPM: BOOK}))
    with pytest.raises(rpcrt.DCERPCException, match="not_registered|0x16c9a0d6"):
        epm.hept_map("cas1", remote(Syntax(UUID(int=1), 1, 0)), protocol="ncacn_ip_tcp", dce=client)


def test_impacket_asks_the_management_interface() -> None:
    mgmt = pytest.importorskip("impacket.dcerpc.v5.mgmt")
    client = impacket_client(RpcServer({EPM: BOOK}))
    client.bind(mgmt.MSRPC_UUID_MGMT)
    found = mgmt.hinq_if_ids(client)
    ids = [entry["Data"]["Uuid"] for entry in found["if_id_vector"]["if_id"]]
    assert ids == [EPM.uuid.bytes_le, MGMT.uuid.bytes_le]
    assert mgmt.his_server_listening(client)["status"] == 0


def test_impacket_reads_a_fault() -> None:
    epm = pytest.importorskip("impacket.dcerpc.v5.epm")
    rpcrt = pytest.importorskip("impacket.dcerpc.v5.rpcrt")
    client = impacket_client(RpcServer({EPM: BOOK}))
    client.bind(epm.MSRPC_UUID_PORTMAP)
    client.call(6, b"")
    with pytest.raises(rpcrt.DCERPCException, match="nca_s_op_rng_error"):
        client.recv()


def test_impacket_is_refused_an_interface_that_nobody_has() -> None:
    rpcrt = pytest.importorskip("impacket.dcerpc.v5.rpcrt")
    client = impacket_client(RpcServer({EPM: BOOK}))
    with pytest.raises(rpcrt.DCERPCException, match="abstract_syntax_not_supported"):
        client.bind(remote(EMSMDB))


def test_impacket_sends_and_gets_calls_in_fragments() -> None:
    seen: list[bytes] = []
    epm = pytest.importorskip("impacket.dcerpc.v5.epm")

    def echo(call: Any) -> bytes:
        seen.append(call.stub)
        return bytes(call.stub)

    client = impacket_client(RpcServer({EPM: echo}))
    client.set_max_fragment_size(1000)
    client.bind(epm.MSRPC_UUID_PORTMAP)
    stub = bytes(range(256)) * 60
    client.call(3, stub)
    answer = client.recv()
    assert seen[0][: len(stub)] == stub
    assert answer[: len(stub)] == stub


def _asked(build: Callable[[Any], Any]) -> Any:
    epm = pytest.importorskip("impacket.dcerpc.v5.epm")
    request = epm.ept_map()
    octets = TCP_TOWER.encode()
    request["obj"] = NIL.bytes_le
    request["map_tower"]["tower_length"] = len(octets)
    request["map_tower"]["tower_octet_string"] = octets
    request["entry_handle"]["context_handle_attributes"] = HANDLE.attributes
    request["entry_handle"]["context_handle_uuid"] = HANDLE.uuid.bytes_le
    request["max_towers"] = 4
    return build(request)


@pytest.mark.parametrize("ndr64", [False, True])
def test_a_map_request_of_impackets_is_read(ndr64: bool) -> None:
    def build(request: Any) -> bytes:
        if ndr64:
            request.changeTransferSyntax(remote(NDR64))
        return bytes(request.getData())

    assert EptMap.decode(_asked(build), "little", ndr64) == MAP


@pytest.mark.parametrize("ndr64", [False, True])
def test_impacket_reads_a_map_answer(ndr64: bool) -> None:
    epm = pytest.importorskip("impacket.dcerpc.v5.epm")
    stub = EptMapReply((TCP_TOWER, PIPE_TOWER), 0, NIL_HANDLE, 4).encode("little", ndr64)
    reply = epm.ept_mapResponse(stub, isNDR64=ndr64)
    towers = [b"".join(tower["Data"]["tower_octet_string"]) for tower in reply["ITowers"]]
    assert towers == [TCP_TOWER.encode(), PIPE_TOWER.encode()]
    assert reply["status"] == 0
