"""NTLM on RPC with others: impacket and Samba's client call the lab's server, and Samba's controller takes our calls.

impacket speaks NTLM by itself only; inside SPNEGO it has nothing but Kerberos.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from uuid import UUID

import pytest
from tests.conftest import Domain

pytest.importorskip("impacket", reason="impacket is not installed")

from impacket.dcerpc.v5 import rpcrt, transport
from impacket.uuid import uuidtup_to_bin

from casarray.adapters.rpc_acceptors import AnyAcceptors
from casarray.adapters.rpc_logon import Credential, Kind, Logons
from casarray.core.dcerpc.association import Reply
from casarray.core.dcerpc.auth import AuthLevel, ClientAuth
from casarray.core.dcerpc.interfaces import emsmdb, epm
from casarray.core.dcerpc.pdu import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.errors import Denied
from casarray.lab import netns, samba, samba_ad
from casarray.lab.channel import Channel, RpcFault
from casarray.lab.server import LabServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of impacket's own code
PASSWORD = "Grün:und Blau 7"  # with a colon and what is not ASCII
EMSMDB = uuidtup_to_bin((str(emsmdb.EMSMDB.uuid), "0.81"))
QUESTION = emsmdb.EcDoConnectEx("/o=Lab/cn=alice").encode()
LEVELS = {
    "connect": rpcrt.RPC_C_AUTHN_LEVEL_CONNECT,
    "integrity": rpcrt.RPC_C_AUTHN_LEVEL_PKT_INTEGRITY,
    "privacy": rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY,
}
SAMR = Syntax(UUID("12345778-1234-abcd-ef00-0123456789ac"), 1, 0)
CONNECT2 = 57  # [MS-SAMR] 3.1.5.1.3: no server's name, all rights there are; a handle and a status come back
OPEN = bytes(4) + bytes.fromhex("00000002")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.touch(0o600)
    path.write_text(f"alice:{PASSWORD}\nbob:other\n", encoding="utf-8")
    return path


@pytest.fixture
async def server(users: Path) -> AsyncIterator[LabServer]:
    """The lab's server, for who has authenticated only, without Kerberos."""
    ports = {"epm": 0, "ab": 0, "rpc": 0}
    server = LabServer("cas1", ["127.0.0.1"], ports, security=AnyAcceptors(None, users).accept, kerberos_only=True)
    await server.start()
    yield server
    await server.close()


def impacket_calls(port: int, level: int, user: str = "alice", password: str = PASSWORD) -> list[str | None]:
    """Bind and call three times; the names in the answers."""
    binding = transport.DCERPCTransportFactory(f"ncacn_ip_tcp:127.0.0.1[{port}]")
    binding.set_credentials(user, password, "LAB")
    rpc = binding.get_dce_rpc()
    rpc.set_auth_type(rpcrt.RPC_C_AUTHN_WINNT)
    rpc.set_auth_level(level)
    rpc.connect()
    try:
        rpc.bind(EMSMDB)
        names = []
        for _ in range(3):
            rpc.call(emsmdb.Opnum.CONNECT, QUESTION)
            names.append(emsmdb.EcDoConnectExReply.decode(rpc.recv(), "little", False).display_name)
        return names
    finally:
        rpc.disconnect()


@pytest.mark.parametrize("level", LEVELS)
async def test_impacket_calls_at_every_level_and_is_known_by_name(server: LabServer, level: str) -> None:
    port = server.services["rpc"].port
    assert await asyncio.to_thread(impacket_calls, port, LEVELS[level]) == ["cas1"] * 3
    assert server.state()["kerberos"]["last"] == {"principal": "LAB\\alice", "mechanism": "NTLM", "level": level}


@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("mallory", PASSWORD), ("", "")])
async def test_impacket_with_a_wrong_password_or_name_is_denied(server: LabServer, user: str, password: str) -> None:
    port, level = server.services["rpc"].port, LEVELS["integrity"]
    with pytest.raises(rpcrt.DCERPCException, match="access_denied|rpc_s_access_denied"):
        await asyncio.to_thread(impacket_calls, port, level, user, password)
    assert server.last_caller is None


@pytest.mark.parametrize("kind", ["ntlm", "negotiate"])
@pytest.mark.parametrize("level", [AuthLevel.CONNECT, AuthLevel.INTEGRITY, AuthLevel.PRIVACY])
async def test_our_client_calls_the_labs_server(server: LabServer, kind: Kind, level: AuthLevel) -> None:
    logons = Logons(Credential("alice", "LAB", PASSWORD))
    logon = await asyncio.to_thread(logons.open, kind, "exchangeMDB/cas1", level)
    channel = await Channel.open("127.0.0.1", server.services["rpc"].port)
    await channel.bind(emsmdb.EMSMDB, auth=logon.auth())
    for _ in range(2):
        reply = await channel.call(emsmdb.EMSMDB, emsmdb.Opnum.CONNECT, QUESTION)
        assert emsmdb.EcDoConnectExReply.decode(reply.stub, "little", False).display_name == "cas1"
    channel.close()
    assert logon.mechanism == "NTLM"
    assert bool(logon.why_not_kerberos) is (kind == "negotiate")
    logons.close()


async def test_a_wrong_password_is_told_by_the_first_call_of_ntlm_and_by_the_bind_of_spnego(server: LabServer) -> None:
    logons = Logons(Credential("alice", "LAB", "wrong"))
    port = server.services["rpc"].port
    channel = await Channel.open("127.0.0.1", port)
    await channel.bind(emsmdb.EMSMDB, auth=logons.open("ntlm", "x/y", AuthLevel.INTEGRITY).auth())
    with pytest.raises(RpcFault, match="0x00000005"):
        await channel.call(emsmdb.EMSMDB, emsmdb.Opnum.CONNECT, QUESTION)
    channel.close()
    channel = await Channel.open("127.0.0.1", port)
    with pytest.raises(Denied, match="refuses to let us in"):
        await channel.bind(emsmdb.EMSMDB, auth=logons.open("negotiate", "x/y", AuthLevel.INTEGRITY).auth())
    channel.close()
    logons.close()


@pytest.mark.parametrize("kind", ["ntlm", "negotiate"])
@pytest.mark.parametrize("level", [AuthLevel.INTEGRITY, AuthLevel.PRIVACY])
async def test_a_fragment_that_was_changed_or_sent_again_ends_the_connection(
    server: LabServer, kind: Kind, level: AuthLevel
) -> None:
    for spoilt in ("changed", "again"):
        logon = Logons(Credential("alice", "LAB", PASSWORD)).open(kind, "x/y", level)
        channel = await Channel.open("127.0.0.1", server.services["rpc"].port)
        await channel.bind(emsmdb.EMSMDB, auth=logon.auth())
        sent = channel.rpc.call(emsmdb.EMSMDB, emsmdb.Opnum.CONNECT, QUESTION)
        if spoilt == "changed":
            sent = sent[:22] + bytes([sent[22] ^ 1]) + sent[23:]  # the opnum, which only a whole PDU's signature covers
        else:
            await channel._ask(sent)
        calls = server.callers["LAB\\alice"]
        assert not isinstance(await channel._ask(sent), Reply)
        await asyncio.wait_for(channel.lost, 15)
        assert server.callers["LAB\\alice"] == calls


@pytest.fixture
async def mapper(users: Path) -> AsyncIterator[LabServer]:
    """The same on port 135, where Samba's client wants it, at an address that no other run of this test has."""
    address = f"127.77.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
    server = LabServer("cas1", [address], security=AnyAcceptors(None, users).accept, kerberos_only=True)
    await server.start()
    yield server
    await server.close()


def rpcclient(address: str, options: str, password: str, folder: Path) -> str:
    """Samba's client asks the endpoint mapper; what it says."""
    secret = folder / "credentials"
    secret.touch(0o600)
    secret.write_text(f"username=alice\npassword={password}\ndomain=LAB\n", encoding="utf-8")
    command = ["rpcclient", "-A", str(secret), "--use-kerberos=off", f"ncacn_ip_tcp:{address}[135,{options}]"]
    env = os.environ | {"SMB_CONF_PATH": samba.client_environment(folder)["SMB_CONF_PATH"]}
    done = subprocess.run(
        [*command, "-c", "epmmap lsarpc"], capture_output=True, text=True, timeout=60, check=False, env=env
    )
    return done.stdout + done.stderr


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif((netns.missing() or samba.missing()) is not None, reason="no Samba here")
@pytest.mark.parametrize(
    "options", ["connect,ntlm", "sign,ntlm", "seal,ntlm", "connect,spnego", "sign,spnego", "seal,spnego"]
)
async def test_sambas_client_calls_us_by_ntlm(mapper: LabServer, options: str, tmp_path: Path) -> None:
    said = await asyncio.to_thread(rpcclient, mapper.addresses[0], options, PASSWORD, tmp_path)
    level = {"connect": "connect", "sign": "integrity", "seal": "privacy"}[options.partition(",")[0]]
    mechanism = "SPNEGO, NTLM" if "spnego" in options else "NTLM"
    last = mapper.state()["kerberos"]["last"]
    assert last == {"principal": "LAB\\alice", "mechanism": mechanism, "level": level}, said
    assert "DCERPC" not in said, said


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif((netns.missing() or samba.missing()) is not None, reason="no Samba here")
@pytest.mark.parametrize("options", ["sign,ntlm", "seal,spnego"])
async def test_sambas_client_with_a_wrong_password_is_refused(mapper: LabServer, options: str, tmp_path: Path) -> None:
    said = await asyncio.to_thread(rpcclient, mapper.addresses[0], options, "wrong", tmp_path)
    assert mapper.last_caller is None, said


@pytest.fixture
def account(domain: Domain) -> Credential:
    dc = domain.dc
    return Credential("carol", dc.realm, dc.add_user("carol"))


async def samr_port(address: str) -> int:
    channel = await Channel.open(address, 135)
    await channel.bind(epm.EPM)
    reply = await channel.call(epm.EPM, epm.EPT_MAP, epm.EptMap(Tower.tcp(SAMR)).encode())
    channel.close()
    port = epm.EptMapReply.decode(reply.stub, reply.order, reply.ndr64).towers[0].port
    assert port
    return port


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif((netns.missing() or samba_ad.missing()) is not None, reason="no domain controller can run here")
@pytest.mark.timeout(180)
async def test_samba_takes_our_calls_by_ntlm_and_by_spnego_with_either(domain: Domain, account: Credential) -> None:
    dc = domain.dc
    port = await samr_port(dc.address)
    logons = Logons(account)
    ways: tuple[tuple[Kind, str, str], ...] = (
        ("ntlm", f"host/{dc.fqdn}", "NTLM"),
        ("negotiate", f"host/{dc.fqdn}", "Kerberos"),
        ("negotiate", "host/nobody.lab.example", "NTLM"),
        ("kerberos", f"host/{dc.fqdn}", "Kerberos"),
    )
    for kind, target, mechanism in ways:
        for level, signing in product((AuthLevel.INTEGRITY, AuthLevel.PRIVACY), (True, False)):
            logon = await asyncio.to_thread(logons.open, kind, target, level)
            channel = await Channel.open(dc.address, port)
            await channel.bind(SAMR, auth=ClientAuth(logon.security, logon.type, level, header_signing=signing))
            for _ in range(2):
                reply = await channel.call(SAMR, CONNECT2, OPEN)
                assert reply.stub[20:] == bytes(4), (kind, target, level)
            channel.close()
            assert logon.mechanism == mechanism
            assert ("nobody.lab.example" in logon.why_not_kerberos) is (mechanism == "NTLM" and kind == "negotiate")
    logons.close()


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif((netns.missing() or samba_ad.missing()) is not None, reason="no domain controller can run here")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["ntlm", "negotiate"])
async def test_samba_refuses_a_wrong_password_and_a_changed_call(
    domain: Domain, account: Credential, kind: Kind
) -> None:
    dc = domain.dc
    port = await samr_port(dc.address)

    async def bound(password: str) -> Channel:
        logon = Logons(Credential(account.user, account.domain, password)).open(kind, "x/y", AuthLevel.PRIVACY)
        channel = await Channel.open(dc.address, port)
        await channel.bind(SAMR, auth=logon.auth())
        return channel

    said = "fault 0x1C01000B" if kind == "ntlm" else "refuses to let us in"  # Windows: fault 5
    with pytest.raises((Denied, RpcFault), match=said):
        await (await bound("wrong")).call(SAMR, CONNECT2, OPEN)
    channel = await bound(account.password)
    sent = bytearray(channel.rpc.call(SAMR, CONNECT2, OPEN))
    sent[-1] ^= 1  # the number of the message
    assert not isinstance(await channel._ask(bytes(sent)), Reply)
    channel.close()
