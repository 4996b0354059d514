"""What a client with an old profile asks, through the endpoint mapper that it came to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from casarray.core.dcerpc.interfaces import emsmdb, epm, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    RopLogon,
    read_replies,
    request_octets,
)
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.lab.channel import Channel


async def port_of(host: str, port: int, interface: Syntax, source: str) -> int:
    """The port of an interface, as the endpoint mapper there tells it."""
    opened = await Channel.open(host, port, source, 5.0)
    await opened.bind(EPM)
    answer = await opened.call(EPM, epm.EPT_MAP, epm.EptMap(Tower.tcp(interface)).encode())
    opened.close()
    (tower,) = epm.EptMapReply.decode(answer.stub).towers
    assert tower.port is not None
    return tower.port


@asynccontextmanager
async def bound(host: str, port: int, interface: Syntax, source: str) -> AsyncIterator[Channel]:
    """A connection to an interface, by way of the endpoint mapper there."""
    opened = await Channel.open(host, await port_of(host, port, interface, source), source, 5.0)
    try:
        await opened.bind(interface)
        yield opened
    finally:
        opened.close()


async def logged_on_as(host: str, port: int, dn: str, source: str) -> Any:
    """What the server there answers to a user of that DN who logs on to his mailbox."""
    async with bound(host, port, EMSMDB, source) as opened:
        answer = await opened.call(EMSMDB, emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(dn).encode())
        session = emsmdb.EcDoConnectExReply.decode(answer.stub).session
        asked = EcDoRpcExt2(session, request_octets([RopLogon(dn)])).encode()
        answer = await opened.call(EMSMDB, emsmdb.Opnum.RPC_EXT, asked)
        (reply,), _ = read_replies(EcDoRpcExt2Reply.decode(answer.stub).rops)
        return reply


async def host_behind(host: str, port: int, dn: str, source: str) -> str | None:
    """The host name behind a server's DN, as RFR there tells it."""
    async with bound(host, port, RFR, source) as opened:
        asked = rfr.RfrGetFqdnFromServerDn(dn).encode()
        answer = await opened.call(RFR, rfr.Opnum.GET_FQDN_FROM_SERVER_DN, asked)
        return rfr.RfrGetFqdnFromServerDnReply.decode(answer.stub).fqdn
