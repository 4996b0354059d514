"""Kerberos on RPC with others: impacket calls the lab's server, and our client calls Samba's domain controller."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from tests.conftest import Domain

gssapi = pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")
pytest.importorskip("impacket", reason="impacket is not installed")

from impacket.dcerpc.v5 import rpcrt, transport
from impacket.uuid import uuidtup_to_bin

from casarray.adapters.kerberos.rpc_security import initiate
from casarray.core.dcerpc.association import Bound, Reply, RpcClient
from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth
from casarray.core.dcerpc.interfaces import emsmdb, epm
from casarray.core.dcerpc.pdu import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.lab import mit_kdc, netns, samba, samba_ad
from casarray.lab.mit_kdc import MitKdc
from casarray.lab.samba import client_environment
from casarray.lab.server import tell

NAME = "cas.mit.example"
PORT = 5001
SAMR = Syntax(UUID("12345778-1234-abcd-ef00-0123456789ac"), 1, 0)
CONNECT2 = 57  # [MS-SAMR] 3.1.5.1.3: no server's name, all rights there are; a handle and a status come back
OPEN = bytes(4) + bytes.fromhex("00000002")


@pytest.fixture
def server(kdc: MitKdc) -> Iterator[Path]:
    """The lab's server on the loopback of the KDC's host, Kerberos only; its control socket."""
    keytab, control = kdc.keytab(f"host/{NAME}", f"exchangeMDB/{NAME}"), kdc.folder / "server.sock"
    command = [sys.executable, "-m", "casarray.lab.server", "--name", "cas1", "--rpc-port", str(PORT)]
    command += ["--keytab", str(keytab), "--kerberos-only", "--control", str(control)]
    env = os.environ | {"PYTHONPATH": str(netns.here()), "KRB5RCACHEDIR": str(kdc.folder)}
    process = kdc.host.spawn(*command, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready")
    yield control
    process.terminate()
    process.wait(10)


def impacket_binding(level: int | None) -> rpcrt.DCERPC_v5:
    """Connected to the mailbox's port under the array's name; None: without authentication."""
    binding = transport.DCERPCTransportFactory(f"ncacn_ip_tcp:{NAME}[{PORT}]")
    binding.setRemoteHost("127.0.0.1")
    rpc = binding.get_dce_rpc()
    if level is not None:
        binding.set_kerberos(True, "127.0.0.1")
        binding.set_credentials("alice", "", "MIT.EXAMPLE")
        rpc.set_auth_type(rpcrt.RPC_C_AUTHN_GSS_NEGOTIATE)
        rpc.set_auth_level(level)
    rpc.connect()
    return rpc


@pytest.mark.root
@pytest.mark.skipif((netns.missing() or mit_kdc.missing()) is not None, reason="no KDC can run here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of impacket's and pyasn1's own code
def test_impacket_calls_signed_and_sealed_and_is_known_by_name(
    kdc: MitKdc, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = kdc.ticket("alice", kdc.add_user("alice"))
    kdc.service_ticket(cache, f"host/{NAME}")  # impacket asks for no other class
    monkeypatch.setenv("KRB5CCNAME", cache.removeprefix("FILE:"))
    levels = {
        "connect": rpcrt.RPC_C_AUTHN_LEVEL_CONNECT,
        "integrity": rpcrt.RPC_C_AUTHN_LEVEL_PKT_INTEGRITY,
        "privacy": rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY,
    }
    question = emsmdb.EcDoConnectEx("/o=Lab/cn=alice").encode()
    for word, level in levels.items():
        rpc = impacket_binding(level)
        rpc.bind(uuidtup_to_bin((str(emsmdb.EMSMDB.uuid), "0.81")))
        for _ in range(3):
            rpc.call(emsmdb.Opnum.CONNECT, question)
            assert emsmdb.EcDoConnectExReply.decode(rpc.recv(), "little", False).display_name == "cas1"
        rpc.disconnect()
        assert tell(server, "state")["kerberos"]["last"] == {
            "principal": "alice@MIT.EXAMPLE",
            "mechanism": "SPNEGO, Kerberos",
            "level": word,
        }
    nobody = impacket_binding(None)
    nobody.bind(uuidtup_to_bin((str(emsmdb.EMSMDB.uuid), "0.81")))
    nobody.call(emsmdb.Opnum.CONNECT, question)
    with pytest.raises(rpcrt.DCERPCException, match="access_denied"):
        nobody.recv()
    nobody.disconnect()


@pytest.fixture
def named(kdc: MitKdc, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Samba's tools find the array's name on the loopback of the KDC's host, and nothing of the host's settings."""
    overlay = Path("/etc/netns") / kdc.host.name
    overlay.mkdir(parents=True, exist_ok=True)
    (overlay / "hosts").write_text(f"127.0.0.1 localhost {NAME}\n")
    try:
        yield dict(kdc.environment()) | {"SMB_CONF_PATH": client_environment(tmp_path)["SMB_CONF_PATH"]}
    finally:
        shutil.rmtree(overlay)


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif((netns.missing() or mit_kdc.missing() or samba.missing()) is not None, reason="no Samba here")
def test_sambas_client_calls_us_signed_and_sealed(kdc: MitKdc, server: Path, named: Mapping[str, str]) -> None:
    cache = kdc.ticket("alice", kdc.add_user("alice"))
    env = dict(named) | {"KRB5CCNAME": cache}
    said = ["--use-kerberos=required", "--option=realm=MIT.EXAMPLE"]
    for options, mechanism, level in (
        ("sign,krb5", "Kerberos", "integrity"),
        ("seal,krb5", "Kerberos", "privacy"),
        ("sign,spnego", "SPNEGO, Kerberos", "integrity"),
        ("seal,spnego", "SPNEGO, Kerberos", "privacy"),
    ):
        binding = f"ncacn_ip_tcp:{NAME}[135,{options}]"
        done = kdc.host.run("rpcclient", *said, binding, "-c", "epmmap lsarpc", env=env, check=False)
        state = tell(server, "state")["kerberos"]
        assert state["last"] == {"principal": "alice@MIT.EXAMPLE", "mechanism": mechanism, "level": level}, done.stderr
        assert "DCERPC" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert state["callers"] == {"alice@MIT.EXAMPLE": 4}


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif((netns.missing() or samba_ad.missing()) is not None, reason="no domain controller can run here")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", [AuthType.SPNEGO, AuthType.KERBEROS])
@pytest.mark.parametrize("level", [AuthLevel.INTEGRITY, AuthLevel.PRIVACY])
def test_samba_takes_our_signed_and_sealed_calls(domain: Domain, kind: AuthType, level: AuthLevel) -> None:
    dc = domain.dc
    cache = dc.ticket("carol", dc.add_user("carol"))
    port = samr_port(dc.address)
    for signing in (True, False):
        security = initiate(f"host/{dc.fqdn}", cache, kind, sealed=level == AuthLevel.PRIVACY)
        with closing(socket.create_connection((dc.address, port), 10)) as sock:
            client, auth = RpcClient(), ClientAuth(security, kind, level, header_signing=signing)
            sock.sendall(client.bind(SAMR, auth=auth.begin(), header_signing=signing))
            bound = event(sock, client)
            assert isinstance(bound, Bound)
            assert bound.header_signing is signing
            while leg := auth.answered(bound.auth, bound.header_signing):  # in SPNEGO Samba wants a fourth one
                sock.sendall(client.alter(SAMR, auth=leg))
                bound = event(sock, client)
                assert isinstance(bound, Bound), bound
            client.protection = auth.protection
            for _ in range(2):
                sock.sendall(client.call(SAMR, CONNECT2, OPEN))
                reply = event(sock, client)
                assert isinstance(reply, Reply), reply
                assert len(reply.stub) == 24
                assert reply.stub[20:] == bytes(4), reply.stub


def samr_port(address: str) -> int:
    with closing(socket.create_connection((address, 135), 10)) as sock:
        client = RpcClient()
        sock.sendall(client.bind(epm.EPM))
        assert isinstance(event(sock, client), Bound)
        sock.sendall(client.call(epm.EPM, epm.EPT_MAP, epm.EptMap(Tower.tcp(SAMR)).encode()))
        reply = event(sock, client)
    assert isinstance(reply, Reply)
    port = epm.EptMapReply.decode(reply.stub, reply.order, reply.ndr64).towers[0].port
    assert port
    return port


def event(sock: socket.socket, client: RpcClient) -> object:
    while data := sock.recv(16384):
        if events := client.receive(data):
            return events[0]
    raise ConnectionResetError("ended")
