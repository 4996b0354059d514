"""How a client proves who it is: by tickets got with a password, by NTLM, and by what SPNEGO comes to."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

gssapi = pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")

from casarray.adapters.rpc_acceptors import AnyAcceptors, NtlmUsers
from casarray.adapters.rpc_logon import Credential, Kind, Logon, Logons, principal_of
from casarray.core.dcerpc.association import BindRefused, Bound, Broken, Call, Reply, RpcClient, RpcServer
from casarray.core.dcerpc.auth import AuthLevel, AuthType, ServerAuth
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.pdu import NakReason
from casarray.core.errors import CasarrayError, Denied
from casarray.core.ntlm.crypto import nt_hash
from casarray.lab import mit_kdc, netns
from casarray.lab.mit_kdc import MitKdc

REASON = netns.missing() or mit_kdc.missing()
needs_kdc = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
SERVICE = "exchangeMDB/cas.mit.example"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.touch(0o600)
    return path


def answer(call: Call) -> bytes:
    assert call.caller is not None
    return f"{call.caller.name}|{call.caller.mechanism}".encode()


def legs(
    logon: Logon, acceptors: AnyAcceptors, handler: Callable[[Call], bytes] = answer
) -> tuple[RpcClient, RpcServer, object]:
    """A client and a server that went through all legs, and the last event."""
    auth, client, server = logon.auth(), RpcClient(), RpcServer({EMSMDB: handler}, auth=ServerAuth(acceptors.accept))
    (event,) = client.receive(server.serve(client.bind(EMSMDB, auth=auth.begin(), header_signing=True)))
    while isinstance(event, Bound) and (leg := auth.answered(event.auth, event.header_signing)) is not None:
        if auth.ends_unanswered:
            assert server.serve(client.auth3(leg)) == b""
            break
        (event,) = client.receive(server.serve(client.alter(EMSMDB, auth=leg)))
    if isinstance(event, Bound):
        client.protection = auth.protection
    return client, server, event


def joined(logon: Logon, acceptors: AnyAcceptors) -> object:
    """The answer to a call after all legs, or the refusal."""
    client, server, event = legs(logon, acceptors)
    if not isinstance(event, Bound):
        return event
    (event,) = client.receive(server.serve(client.call(EMSMDB, 0, b"question")))
    return event


def said(event: object) -> list[str]:
    assert isinstance(event, Reply), event
    return event.stub.decode().split("|")


def test_a_credential_does_not_show_its_password() -> None:
    assert "secret" not in repr(Credential("alice", "LAB", "secret"))


@pytest.mark.parametrize(
    ("who", "principal"),
    [
        (Credential("alice", "lab.example"), "alice@LAB.EXAMPLE"),
        (Credential("alice@lab.example"), "alice@LAB.EXAMPLE"),
        (Credential("alice", "LAB"), "alice"),
        (Credential("alice"), "alice"),
    ],
)
def test_a_domain_with_a_dot_is_the_realm(who: Credential, principal: str) -> None:
    assert principal_of(who) == principal


def test_ntlm_without_a_password_is_denied() -> None:
    with pytest.raises(Denied, match="takes a password"):
        Logons(Credential("alice", "LAB")).open("ntlm", SERVICE, AuthLevel.PRIVACY)


def test_users_are_found_by_name_whatever_its_case_or_the_domain(users: Path) -> None:
    users.write_text("alice:with:colon\n\nBob:x\n")
    found = NtlmUsers(users)
    assert found.hash_of("ALICE", "ANY") == nt_hash("with:colon")
    assert found.hash_of("bob", "") == nt_hash("x")
    assert found.hash_of("mallory", "") is None


def test_a_file_of_users_that_others_may_read_is_refused(users: Path) -> None:
    users.chmod(0o640)
    with pytest.raises(CasarrayError, match="chmod 600"):
        AnyAcceptors(None, users)


def test_users_that_went_away_are_a_refusal(users: Path) -> None:
    found = NtlmUsers(users)
    users.unlink()
    with pytest.raises(Denied, match="cannot be read"):
        found.hash_of("alice", "LAB")


@pytest.mark.parametrize("kind", [AuthType.SPNEGO, AuthType.KERBEROS, AuthType.NTLM, 68])
def test_a_server_with_nothing_opens_nothing(kind: int) -> None:
    assert AnyAcceptors(None, None).accept(kind) is None


@pytest.mark.parametrize("level", [AuthLevel.CONNECT, AuthLevel.INTEGRITY, AuthLevel.PRIVACY])
@pytest.mark.parametrize("kind", ["ntlm", "negotiate"])
def test_calls_of_many_fragments_go_through_both_ways(kind: Kind, level: AuthLevel, users: Path) -> None:
    users.write_text("alice:secret\n")
    logon = Logons(Credential("alice", "LAB", "secret")).open(kind, "x/127.0.0.1", level)
    client, server, _ = legs(logon, AnyAcceptors(None, users), lambda call: call.stub[::-1])
    for size in (0, 1, 20_000, 5):
        stub = bytes(number % 251 for number in range(size))
        (event,) = client.receive(server.serve(client.call(EMSMDB, 0, stub)))
        assert isinstance(event, Reply)
        assert event.stub == stub[::-1]


class TestWithKdc:
    """A realm, and a server that has a key of its own in it and the same users by NTLM."""

    pytestmark = needs_kdc

    def test_the_best_that_both_can_do_is_used_and_told(self, kdc: MitKdc, users: Path) -> None:
        who = Credential("alice", kdc.realm, kdc.add_user("alice"))
        users.write_text(f"alice:{who.password}\n")
        keytab = kdc.keytab(SERVICE)
        both, ntlm_only, kerberos_only = (
            AnyAcceptors(keytab, users),
            AnyAcceptors(None, users),
            AnyAcceptors(keytab, None),
        )
        tried: tuple[tuple[Kind, AnyAcceptors, str], ...] = (
            ("negotiate", both, "Kerberos"),
            ("negotiate", kerberos_only, "Kerberos"),
            ("negotiate", ntlm_only, "NTLM"),
            ("kerberos", both, "Kerberos"),
            ("ntlm", both, "NTLM"),
        )
        logons = Logons(who)
        for kind, server, mechanism in tried:
            for level in (AuthLevel.CONNECT, AuthLevel.INTEGRITY, AuthLevel.PRIVACY):
                logon = logons.open(kind, SERVICE, level)
                assert logon.mechanism == ""
                event = joined(logon, server)
                name, used = said(event)
                assert used == (f"SPNEGO, {mechanism}" if kind == "negotiate" else mechanism)
                assert name == ("alice@MIT.EXAMPLE" if mechanism == "Kerberos" else f"{kdc.realm}\\alice")
                assert logon.mechanism == mechanism
                fell = (kind, mechanism) == ("negotiate", "NTLM")
                assert ("the server takes no Kerberos" in logon.why_not_kerberos) is fell
        logons.close()

    def test_tickets_of_a_cache_do_without_a_password(self, kdc: MitKdc, users: Path) -> None:
        cache, keytab = kdc.ticket("alice", kdc.add_user("alice")), kdc.keytab(SERVICE)
        logons = Logons(Credential(ccache=cache))
        logon = logons.open("negotiate", SERVICE, AuthLevel.PRIVACY)
        event = joined(logon, AnyAcceptors(keytab, users))
        assert said(event) == ["alice@MIT.EXAMPLE", "SPNEGO, Kerberos"]
        refused = joined(logons.open("negotiate", SERVICE, AuthLevel.PRIVACY), AnyAcceptors(None, users))
        assert refused == BindRefused(NakReason.INVALID_CHECKSUM, ((5, 0),))
        logons.close()

    def test_a_name_that_nobody_has_leads_to_ntlm_and_the_reason_is_told(self, kdc: MitKdc, users: Path) -> None:
        who = Credential("alice", kdc.realm, kdc.add_user("alice"))
        users.write_text(f"alice:{who.password}\n")
        logons = Logons(who)
        logon = logons.open("negotiate", "exchangeMDB/nobody.mit.example", AuthLevel.PRIVACY)
        event = joined(logon, AnyAcceptors(kdc.keytab(SERVICE), users))
        assert said(event)[1] == "SPNEGO, NTLM"
        assert logon.mechanism == "NTLM"
        assert "the KDC knows no exchangeMDB/nobody.mit.example" in logon.why_not_kerberos
        with pytest.raises(Denied, match="Kerberos is not possible: the KDC knows no exchangeMDB/nobody"):
            logons.open("kerberos", "exchangeMDB/nobody.mit.example", AuthLevel.PRIVACY)
        logons.close()

    def test_without_a_kdc_the_reason_is_that(self, kdc: MitKdc, monkeypatch: pytest.MonkeyPatch) -> None:
        who = Credential("alice", kdc.realm, kdc.add_user("alice"))
        lost = kdc.folder / "lost.conf"
        lost.write_text(
            f"[libdefaults]\n default_realm = {kdc.realm}\n dns_lookup_kdc = false\n"
            f"[realms]\n {kdc.realm} = {{\n  kdc = 127.0.0.1:9\n }}\n"
        )
        monkeypatch.setenv("KRB5_CONFIG", str(lost))
        logon = Logons(who).open("negotiate", SERVICE, AuthLevel.PRIVACY)
        assert "no KDC answers" in logon.why_not_kerberos

    def test_a_wrong_password_is_told_as_such_and_gets_in_by_neither_way(self, kdc: MitKdc, users: Path) -> None:
        users.write_text(f"alice:{kdc.add_user('alice')}\n")
        logons = Logons(Credential("alice", kdc.realm, "wrong"))
        with pytest.raises(Denied, match="there is no ticket of our own"):
            logons.open("kerberos", SERVICE, AuthLevel.PRIVACY)
        server = AnyAcceptors(kdc.keytab(SERVICE), users)
        logon = logons.open("negotiate", SERVICE, AuthLevel.PRIVACY)
        assert not isinstance(joined(logon, server), Reply | Broken)
        assert not isinstance(joined(logons.open("ntlm", SERVICE, AuthLevel.PRIVACY), server), Reply | Broken)


def test_the_labs_server_takes_its_users_from_a_file_and_no_ticket_where_it_shall_not(
    users: Path, tmp_path: Path
) -> None:
    users.write_text("alice:secret\n")
    ports = [word for name in ("epm", "ab", "rpc") for word in (f"--{name}-port", "0")]
    command = [sys.executable, "-m", "casarray.lab.server", *ports, "--ntlm-users", str(users), "--no-kerberos"]
    command += ["--keytab", str(tmp_path / "nothing.keytab"), "--control", str(tmp_path / "control")]
    env = os.environ | {"PYTHONPATH": str(netns.here())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith(b"ready")
            port = int(ready.rpartition(b'"rpc": ')[2].rstrip(b"}\n"))
            refused = first_answer(port, AuthType.KERBEROS)
            assert refused == BindRefused(NakReason.AUTHENTICATION_TYPE_NOT_RECOGNIZED, ((5, 0),))
            assert isinstance(first_answer(port, AuthType.NTLM), Bound)
        finally:
            process.terminate()


def first_answer(port: int, kind: AuthType) -> object:
    """The answer to a bind that begins with NTLM's first message, as that type."""
    logon = Logons(Credential("alice", "LAB", "secret")).open("ntlm", SERVICE, AuthLevel.PRIVACY)
    auth, client = Logon(kind, logon.security, logon.level).auth(), RpcClient()
    with closing(socket.create_connection(("127.0.0.1", port), 10)) as sock:
        sock.sendall(client.bind(EMSMDB, auth=auth.begin(), header_signing=True))
        while data := sock.recv(16384):
            if events := client.receive(data):
                return events[0]
    raise ConnectionResetError("ended")
