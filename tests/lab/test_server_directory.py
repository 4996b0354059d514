"""The lab server by a directory: it answers as that server of it would, and looks again when it has changed."""

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.core.referral.talk import ALICE, PEOPLE, SERVERS

from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.stores import Note
from casarray.core.dcerpc.interfaces import emsmdb
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB, EcResult
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonRedirect,
    LogonSuccess,
    RopLogon,
    RopReply,
    read_replies,
    request_octets,
)
from casarray.core.directory.changes import difference
from casarray.core.directory.model import Directory
from casarray.core.referral.client_access import Demands
from casarray.lab.channel import Channel
from casarray.lab.server import LabServer, _directory

HOST = "127.61.0.2"


async def opened(server: LabServer) -> tuple[Channel, emsmdb.EcDoConnectExReply]:
    """Alice's connection, and what the server says when she opens a session."""
    channel = await Channel.open(HOST, server.services["rpc"].port)
    await channel.bind(EMSMDB)
    answer = await channel.call(EMSMDB, emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(ALICE).encode())
    return channel, emsmdb.EcDoConnectExReply.decode(answer.stub)


async def logon(server: LabServer) -> RopReply:
    channel, connected = await opened(server)
    asked = EcDoRpcExt2(connected.session, request_octets([RopLogon(ALICE)])).encode()
    answer = await channel.call(EMSMDB, emsmdb.Opnum.RPC_EXT, asked)
    channel.close()
    return read_replies(EcDoRpcExt2Reply.decode(answer.stub).rops)[0][0]


async def test_a_switchover_in_the_directory_is_obeyed_at_the_next_logon(tmp_path: Path) -> None:
    store = SqliteDirectory(str(tmp_path))
    store.change(store.read(), difference(Directory(), PEOPLE), Note("test", "made"))
    directory = await asyncio.to_thread(_directory, f"sqlite:{tmp_path}")
    server = LabServer("cas1", [HOST], {"epm": 0}, domain="domain.tld", directory=directory)
    await server.start()
    try:
        assert isinstance(await logon(server), LogonSuccess)
        moved = PEOPLE.put(replace(PEOPLE.databases["db1"], active_server="ber1"))
        store.change(store.read(), difference(PEOPLE, moved), Note("test", "switched over"))
        assert await logon(server) == LogonRedirect(f"{SERVERS}outlook.berlin.domain.tld")
    finally:
        await server.close()
        store.close()


async def test_a_server_that_wants_sealed_connections_opens_no_session_on_others() -> None:
    server = LabServer("cas1", [HOST], {"epm": 0}, demands=Demands(encrypted=True))
    await server.start()
    try:
        channel, connected = await opened(server)
        assert connected.result == EcResult.NOT_ENCRYPTED
        channel.close()
    finally:
        await server.close()
