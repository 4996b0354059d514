"""`casarray referral` with tickets for a retired server's names: who came is proven, and only then is the book open."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")

from tests.gateway.gateways import PROGRAM, eventually

from casarray.adapters.kerberos.rpc_security import initiate
from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.stores import Note
from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth
from casarray.core.dcerpc.interfaces import emsmdb, nspi, nspi_names
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB, EcResult
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonRedirect,
    RopLogon,
    read_replies,
    request_octets,
)
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.nspi_entry_ids import Resolved
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.directory.changes import difference
from casarray.core.directory.legacy_dn import of_account, of_server
from casarray.core.directory.model import (
    MAILBOX,
    Account,
    Array,
    Copy,
    Database,
    Directory,
    Server,
    Site,
)
from casarray.lab import mit_kdc, netns
from casarray.lab.channel import Channel, RpcFault
from casarray.lab.mit_kdc import MitKdc

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif((netns.missing() or mit_kdc.missing()) is not None, reason="no KDC can run here"),
]

OLD, ADDRESS = "old1.mit.example", "127.0.0.1"
DIRECTORY = Directory("Lab").put(
    Site("Lab"),
    Server("mbx1", "mbx1.mit.example", "Lab", (MAILBOX,), None),
    Array("CAS", "cas.mit.example", "Lab"),
    Database("DB1", "mbx1", (Copy("mbx1"),), "cas.mit.example"),
    Account("alice", "DB1", "alice@mit.example", "Alice"),
)
ALICE = of_account(DIRECTORY, DIRECTORY.accounts["alice"])
CONFIG = """\
[gateway]
name = "gw1"
state = "{folder}/state"
metrics = ""
[referral]
keytab = "{keytab}"
encryption_required = true
[[retired]]
name = "old1.mit.example"
addresses = ["127.0.0.1"]
"""


@pytest.fixture
def config(kdc: MitKdc, tmp_path: Path) -> Iterator[Path]:
    """A referral that runs on the loopback of the KDC's host; its configuration."""
    keytab = kdc.keytab(*(f"{name}/{OLD}" for name in ("exchangeAB", "exchangeMDB", "exchangeRFR")))
    store = SqliteDirectory(str(tmp_path / "state"))
    store.change(store.read(), difference(Directory(), DIRECTORY), Note("test", "made"))
    store.close()
    path = tmp_path / "referral.toml"
    path.write_text(CONFIG.format(folder=tmp_path, keytab=keytab))
    env = os.environ | {"PYTHONPATH": str(netns.here()), "KRB5RCACHEDIR": str(kdc.folder)}
    process = kdc.host.spawn(PROGRAM, "referral", "run", "-c", str(path), stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield path
    process.terminate()
    assert process.wait(15) == 0


async def bound(kdc: MitKdc, port: int, interface: Syntax, proof: tuple[str, str] | None, level: AuthLevel) -> Channel:
    """A connection, sealed or signed by a ticket from a cache for a service's class; or by none."""
    auth = None
    if proof is not None:
        cache, service = proof
        security = initiate(f"{service}/{OLD}", cache, AuthType.KERBEROS, sealed=level == AuthLevel.PRIVACY)
        auth = ClientAuth(security, AuthType.KERBEROS, level)
    with kdc.host.inside():
        opened = await Channel.open(ADDRESS, port, None, 5.0)
    await opened.bind(interface, auth=auth)
    return opened


async def connected(opened: Channel) -> emsmdb.EcDoConnectExReply:
    answer = await opened.call(EMSMDB, emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(ALICE).encode())
    return emsmdb.EcDoConnectExReply.decode(answer.stub)


async def test_a_client_with_a_ticket_for_the_old_name_is_led_to_the_array_sealed(kdc: MitKdc, config: Path) -> None:
    cache = kdc.ticket("alice", kdc.add_user("alice"))
    for service in ("exchangeMDB", "exchangeAB"):
        kdc.service_ticket(cache, f"{service}/{OLD}")
    signed = await bound(kdc, 5001, EMSMDB, (cache, "exchangeMDB"), AuthLevel.INTEGRITY)
    assert (await connected(signed)).result == EcResult.NOT_ENCRYPTED
    signed.close()
    sealed = await bound(kdc, 5001, EMSMDB, (cache, "exchangeMDB"), AuthLevel.PRIVACY)
    session = (await connected(sealed)).session
    asked = EcDoRpcExt2(session, request_octets([RopLogon(ALICE)])).encode()
    answer = await sealed.call(EMSMDB, emsmdb.Opnum.RPC_EXT, asked)
    (led,), _ = read_replies(EcDoRpcExt2Reply.decode(answer.stub).rops)
    assert led == LogonRedirect(of_server(DIRECTORY, DIRECTORY.arrays["cas"]))
    sealed.close()

    book = await bound(kdc, 5000, NSPI, (cache, "exchangeAB"), AuthLevel.PRIVACY)
    handle = nspi.NspiBindReply.decode((await book.call(NSPI, nspi.Opnum.BIND, nspi.NspiBind().encode())).stub).handle
    names = nspi_names.NspiResolveNamesW(handle, ("ali",)).encode()
    answer = await book.call(NSPI, nspi.Opnum.RESOLVE_NAMES_W, names)
    assert nspi_names.NspiResolveNamesWReply.decode(answer.stub).minimal_ids == (Resolved.TO_ONE,)
    book.close()

    stranger = await bound(kdc, 5000, NSPI, None, AuthLevel.NONE)
    with pytest.raises(RpcFault, match="00000005"):
        await stranger.call(NSPI, nspi.Opnum.BIND, nspi.NspiBind().encode())
    stranger.close()

    def told() -> list[tuple[str, str]]:
        words = [PROGRAM, "referral", "report", "--json", "-c", str(config)]
        done = subprocess.run(words, capture_output=True, check=True, timeout=30)
        return sorted((visit["user"], visit["proven"]) for visit in json.loads(done.stdout)["visits"])

    async def kept() -> None:
        assert await asyncio.to_thread(told) == [("", ""), ("alice", "Kerberos")]

    await eventually(kept, 15)
