from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pytest

from casarray.core.dcerpc.association import CONTEXT_MISMATCH, OP_RANGE_ERROR, Failed, Reply, RpcClient, RpcServer
from casarray.core.dcerpc.cursor import NIL
from casarray.core.dcerpc.endpoint_map import EndpointMap
from casarray.core.dcerpc.interfaces.epm import (
    CANNOT_PERFORM,
    EPM,
    EPT_LOOKUP,
    EPT_LOOKUP_HANDLE_FREE,
    EPT_MAP,
    NOT_REGISTERED,
    OK,
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
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.tower import Tower

HOST = IPv4Address("10.1.1.3")
EMSMDB = UUID("a4f1db00-ca47-1067-b31f-00dd010662da")
NSPI = UUID("f5cc5a18-4264-101a-8c59-08002b2f8426")
OBJECT = UUID(int=99)


def entry(uuid: UUID, major: int, minor: int, port: int, **how: Any) -> Entry:
    tower = Tower.tcp(Syntax(uuid, major, minor), port, HOST, how.get("transfer", NDR))
    return Entry(tower, f"{port}", how.get("object", NIL))


ENTRIES = (
    entry(EMSMDB, 0, 81, 5001),
    entry(EMSMDB, 0, 81, 5002),
    entry(EMSMDB, 0, 79, 5003),
    entry(EMSMDB, 1, 0, 5004),
    entry(EMSMDB, 0, 81, 5005, object=OBJECT),
    entry(EMSMDB, 0, 81, 5006, transfer=NDR64),
    Entry(Tower.pipe(Syntax(EMSMDB, 0, 81), r"\pipe\x", "CAS1"), "pipe"),
    entry(NSPI, 56, 0, 6004),
)


def mapped(asked: EptMap, book: EndpointMap | None = None) -> EptMapReply:
    reply = (book or EndpointMap(ENTRIES)).map(asked)
    assert isinstance(reply, EptMapReply)
    return reply


def ports(reply: EptMapReply) -> list[int | None]:
    return [tower.port for tower in reply.towers]


def looked_up(asked: EptLookup, book: EndpointMap | None = None) -> EptLookupReply:
    reply = (book or EndpointMap(ENTRIES)).lookup(asked)
    assert isinstance(reply, EptLookupReply)
    return reply


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 81))), [5001, 5002]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 80))), [5001, 5002]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 1))), [5001, 5002, 5003]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 82))), []),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 1, 0))), [5004]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 81)), object=None), [5001, 5002]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 81)), object=OBJECT), [5005]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 81)), object=UUID(int=1)), [5001, 5002]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 81), transfer=NDR64)), [5006]),
        (EptMap(Tower.tcp(Syntax(EMSMDB, 0, 81), 999, IPv4Address("1.2.3.4"))), [5001, 5002]),
        (EptMap(Tower.http(Syntax(EMSMDB, 0, 81))), []),
        (EptMap(Tower(())), []),
        (EptMap(None), []),
    ],
)
def test_a_map_finds_what_serves_the_tower_whatever_its_port_and_address(
    asked: EptMap, expected: list[int | None]
) -> None:
    reply = mapped(asked)
    assert ports(reply) == expected
    assert reply.status == (OK if expected else NOT_REGISTERED)
    assert reply.handle.is_nil


def test_a_map_for_a_pipe_finds_the_pipe() -> None:
    (tower,) = mapped(EptMap(Tower.pipe(Syntax(EMSMDB, 0, 81), ""))).towers
    assert tower.pipe_name == r"\pipe\x"


def test_a_map_goes_on_with_its_handle_and_ends_as_windows_does() -> None:
    book = EndpointMap(ENTRIES)
    tower = Tower.tcp(Syntax(EMSMDB, 0, 1))
    first = mapped(EptMap(tower, 2), book)
    assert ports(first) == [5001, 5002]
    assert not first.handle.is_nil
    last = mapped(EptMap(tower, 2, first.handle), book)
    assert (ports(last), last.status, last.handle) == ([5003], OK, NIL_HANDLE)
    assert book.map(EptMap(tower, 2, first.handle)) == CONTEXT_MISMATCH


def test_asking_for_no_towers_gets_none_and_no_handle() -> None:
    reply = mapped(EptMap(Tower.tcp(Syntax(EMSMDB, 0, 81)), 0))
    assert (reply.towers, reply.status, reply.handle) == ((), OK, NIL_HANDLE)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (EptLookup(), ["5001", "5002", "5003", "5004", "5005", "5006", "pipe", "6004"]),
        (EptLookup(Inquiry.BY_OBJECT, OBJECT), ["5005"]),
        (EptLookup(Inquiry.BY_INTERFACE, None, Syntax(NSPI, 0, 0), Versions.ALL), ["6004"]),
        (EptLookup(Inquiry.BY_INTERFACE, None, Syntax(NSPI, 56, 1), Versions.COMPATIBLE), []),
        (EptLookup(Inquiry.BY_BOTH, OBJECT, Syntax(EMSMDB, 0, 81), Versions.EXACT), ["5005"]),
        (EptLookup(Inquiry.BY_BOTH, NIL, Syntax(EMSMDB, 0, 79), Versions.EXACT), ["5003"]),
        (EptLookup(Inquiry.BY_BOTH, NIL, Syntax(EMSMDB, 0, 80), Versions.COMPATIBLE), ["5001", "5002", "5006", "pipe"]),
        (EptLookup(Inquiry.BY_BOTH, NIL, Syntax(EMSMDB, 1, 9), Versions.MAJOR_ONLY), ["5004"]),
        (EptLookup(Inquiry.BY_BOTH, NIL, Syntax(EMSMDB, 0, 80), Versions.UP_TO), ["5003"]),
        (EptLookup(Inquiry.BY_INTERFACE, None, None), []),
    ],
)
def test_a_lookup_goes_by_what_was_inquired(asked: EptLookup, expected: list[str]) -> None:
    reply = looked_up(asked)
    assert [entry.annotation for entry in reply.entries] == expected
    assert reply.status == (OK if expected else NOT_REGISTERED)


@pytest.mark.parametrize(
    "asked",
    [EptLookup(4), EptLookup(0xFFFFFFFF), EptLookup(1, None, Syntax(NSPI, 0, 0), 0), EptLookup(1, versions=6)],
)
def test_an_inquiry_or_version_option_that_does_not_exist_cannot_be_performed(asked: EptLookup) -> None:
    assert looked_up(asked).status == CANNOT_PERFORM


def turn_all_pages(book: EndpointMap, most: int) -> tuple[list[str], list[int]]:
    """All annotations, and the status of each page."""
    handle, seen, statuses = NIL_HANDLE, list[str](), list[int]()
    while not statuses or not handle.is_nil:
        reply = looked_up(EptLookup(max_entries=most, handle=handle), book)
        assert len(reply.entries) <= most
        seen += [entry.annotation for entry in reply.entries]
        statuses.append(reply.status)
        handle = reply.handle
    return seen, statuses


@pytest.mark.parametrize(("most", "pages"), [(3, 3), (5, 2), (500, 1)])
def test_pages_hold_everything_once_and_the_last_has_a_nil_handle(most: int, pages: int) -> None:
    seen, statuses = turn_all_pages(EndpointMap(ENTRIES), most)
    assert seen == [entry.annotation for entry in ENTRIES]
    assert statuses == [OK] * pages


@pytest.mark.parametrize(("most", "pages"), [(1, 8), (4, 2), (8, 1)])
def test_a_last_page_that_is_full_is_followed_by_one_that_says_there_is_no_more(most: int, pages: int) -> None:
    # rpcclient asks for one entry at a time, and begins again when it gets a nil handle without that status.
    seen, statuses = turn_all_pages(EndpointMap(ENTRIES), most)
    assert seen == [entry.annotation for entry in ENTRIES]
    assert statuses == [OK] * pages + [NOT_REGISTERED]


def test_a_page_of_the_servers_own_is_no_larger() -> None:
    assert len(looked_up(EptLookup(), EndpointMap(ENTRIES, page=3)).entries) == 3


def test_a_freed_handle_is_gone() -> None:
    book = EndpointMap(ENTRIES)
    handle = looked_up(EptLookup(max_entries=1), book).handle
    assert book.free(EptLookupHandleFree(handle)) == EptLookupHandleFreeReply()
    assert book.free(EptLookupHandleFree(handle)) == CONTEXT_MISMATCH
    assert book.lookup(EptLookup(handle=handle)) == CONTEXT_MISMATCH
    assert book.free(EptLookupHandleFree(NIL_HANDLE)) == EptLookupHandleFreeReply()


def test_a_handle_of_one_operation_is_none_of_the_other() -> None:
    book = EndpointMap(ENTRIES)
    handle = looked_up(EptLookup(max_entries=1), book).handle
    assert book.map(EptMap(None, handle=handle)) == CONTEXT_MISMATCH
    assert looked_up(EptLookup(handle=handle), book).entries


def test_handles_of_those_who_never_come_back_are_dropped_oldest_first() -> None:
    book = EndpointMap(ENTRIES, max_handles=3)
    handles = [looked_up(EptLookup(max_entries=1), book).handle for _ in range(5)]
    answers = [book.lookup(EptLookup(handle=handle)) for handle in handles]
    assert answers[:2] == [CONTEXT_MISMATCH, CONTEXT_MISMATCH]
    assert CONTEXT_MISMATCH not in answers[2:]


@pytest.mark.parametrize("transfer", [NDR, NDR64])
def test_it_answers_as_an_rpc_server(transfer: Syntax) -> None:
    client, server = RpcClient(), RpcServer({EPM: EndpointMap(ENTRIES)}, transfer=(transfer,))
    client.receive(server.serve(client.bind(EPM, transfer=(NDR, NDR64))))
    wide = transfer == NDR64

    def ask(opnum: int, stub: bytes) -> bytes:
        (event,) = client.receive(server.serve(client.call(EPM, opnum, stub)))
        assert isinstance(event, Reply)
        assert event.ndr64 == wide
        return event.stub

    reply = EptMapReply.decode(ask(EPT_MAP, EptMap(Tower.tcp(Syntax(NSPI, 56, 0))).encode("little", wide)), ndr64=wide)
    assert ports(reply) == [6004]
    stub = ask(EPT_LOOKUP, EptLookup(max_entries=1).encode("little", wide))
    handle = EptLookupReply.decode(stub, ndr64=wide).handle
    stub = ask(EPT_LOOKUP_HANDLE_FREE, EptLookupHandleFree(handle).encode("little", wide))
    assert EptLookupHandleFreeReply.decode(stub, ndr64=wide) == EptLookupHandleFreeReply()


@pytest.mark.parametrize(
    ("opnum", "stub", "status"),
    [
        (0, b"", OP_RANGE_ERROR),
        (7, b"", OP_RANGE_ERROR),
        (EPT_MAP, b"\1\2\3", 0x6F7),
        (EPT_LOOKUP, EptLookup(handle=ContextHandle(UUID(int=5))).encode(), CONTEXT_MISMATCH),
        (EPT_MAP, EptMap(None, handle=ContextHandle(UUID(int=5))).encode(), CONTEXT_MISMATCH),
        (EPT_LOOKUP_HANDLE_FREE, EptLookupHandleFree(ContextHandle(UUID(int=5))).encode(), CONTEXT_MISMATCH),
    ],
)
def test_what_it_cannot_do_is_a_fault(opnum: int, stub: bytes, status: int) -> None:
    client, server = RpcClient(), RpcServer({EPM: EndpointMap(ENTRIES)})
    client.receive(server.serve(client.bind(EPM)))
    (event,) = client.receive(server.serve(client.call(EPM, opnum, stub)))
    assert isinstance(event, Failed)
    assert event.status == status
