"""RPC's security by the system's GSSAPI, with tickets of a real KDC; client and server joined in memory."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

gssapi = pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")

from casarray.adapters.kerberos.rpc_security import Acceptors, initiate
from casarray.core.dcerpc.association import BindRefused, Bound, Broken, Call, Reply, RpcClient, RpcServer
from casarray.core.dcerpc.auth import AuthLevel, AuthType, Caller, ClientAuth, ServerAuth
from casarray.core.dcerpc.pdu import NakReason, Syntax
from casarray.core.errors import Denied
from casarray.lab import mit_kdc, netns
from casarray.lab.mit_kdc import MitKdc

REASON = netns.missing() or mit_kdc.missing()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

ECHO = Syntax(UUID("12345678-1234-abcd-ef00-0123456789ab"), 1, 0)
SERVICE = "exchangeMDB/cas.mit.example"


class Wire:
    """A client and a server with the first two legs and the third between them."""

    def __init__(self, cache: str, keytab: Path, kind: AuthType, level: AuthLevel, signing: bool) -> None:
        self.callers: list[Caller | None] = []
        security = initiate(SERVICE, cache, kind, sealed=level == AuthLevel.PRIVACY)
        self.auth = ClientAuth(security, kind, level, header_signing=signing)
        self.client = RpcClient()
        self.server = RpcServer({ECHO: self.answer}, auth=ServerAuth(Acceptors(keytab).accept))
        self.signing = signing

    def answer(self, call: Call) -> bytes:
        self.callers.append(call.caller)
        return call.stub[::-1]

    def bind(self) -> object:
        sent = self.client.bind(ECHO, auth=self.auth.begin(), header_signing=self.signing)
        (event,) = self.client.receive(self.server.serve(sent))
        if not isinstance(event, Bound):
            return event
        leg = self.auth.answered(event.auth, event.header_signing)
        assert leg is not None
        (event,) = self.client.receive(self.server.serve(self.client.alter(ECHO, auth=leg)))
        if isinstance(event, Bound) and not self.auth.complete:  # SPNEGO has a last word
            assert self.auth.answered(event.auth, event.header_signing) is None
        if self.auth.complete:
            self.client.protection = self.auth.protection
        return event

    def call(self, stub: bytes) -> object:
        (event,) = self.client.receive(self.server.serve(self.client.call(ECHO, 0, stub)))
        return event


@pytest.fixture
def cache(kdc: MitKdc) -> str:
    return kdc.ticket("alice", kdc.add_user("alice"))


@pytest.mark.parametrize("kind", [AuthType.SPNEGO, AuthType.KERBEROS])
@pytest.mark.parametrize("signing", [True, False])
def test_calls_go_through_at_every_level(kdc: MitKdc, cache: str, kind: AuthType, signing: bool) -> None:
    keytab = kdc.keytab(SERVICE)
    for level in (AuthLevel.CONNECT, AuthLevel.INTEGRITY, AuthLevel.PRIVACY):
        wire = Wire(cache, keytab, kind, level, signing)
        assert isinstance(wire.bind(), Bound)
        for size in (0, 5, 32, 20_000):
            stub = bytes(number % 251 for number in range(size))
            reply = wire.call(stub)
            assert isinstance(reply, Reply)
            assert reply.stub == stub[::-1]
        caller = wire.callers[-1]
        assert caller is not None
        assert (caller.name, caller.level) == ("alice@MIT.EXAMPLE", level)
        assert "Kerberos" in caller.mechanism
        assert wire.auth.protection.security.peer == f"{SERVICE}@MIT.EXAMPLE"


def test_a_sealed_call_cannot_be_read_or_changed(kdc: MitKdc, cache: str) -> None:
    wire = Wire(cache, kdc.keytab(SERVICE), AuthType.SPNEGO, AuthLevel.PRIVACY, True)
    wire.bind()
    sent = bytearray(wire.client.call(ECHO, 0, b"a secret nobody may read"))
    assert b"secret" not in sent
    sent[22] ^= 1  # the opnum, which the token vouches for too
    (*_, event) = wire.server.receive(bytes(sent))
    assert isinstance(event, Broken)
    assert "seal of a call is not right" in str(event.error)


def test_a_ticket_for_a_key_the_server_does_not_have_is_refused_and_says_so(kdc: MitKdc, cache: str) -> None:
    """As by a member that was forgotten in a roll: the old keys only."""
    old = kdc.keytab(SERVICE).rename(kdc.folder / "private/old.keytab")
    kdc.local(f"cpw -randkey {SERVICE}")
    wire = Wire(cache, old, AuthType.SPNEGO, AuthLevel.PRIVACY, True)
    sent = wire.client.bind(ECHO, auth=wire.auth.begin(), header_signing=True)
    refused, broken = wire.server.receive(sent)
    assert wire.client.receive(getattr(refused, "data", b"")) == [
        BindRefused(NakReason.INVALID_CHECKSUM, ((5, 0),)),
    ]
    assert isinstance(broken, Broken)
    assert "keytab" in str(broken.error)
    wire = Wire(cache, kdc.keytab(SERVICE), AuthType.SPNEGO, AuthLevel.PRIVACY, True)  # the same, caught up
    assert isinstance(wire.bind(), Bound)


def test_without_a_keytab_a_bind_is_refused_by_its_type(kdc: MitKdc, cache: str) -> None:
    kdc.keytab(SERVICE)
    wire = Wire(cache, kdc.folder / "nothing.keytab", AuthType.KERBEROS, AuthLevel.CONNECT, True)
    assert wire.bind() == BindRefused(NakReason.AUTHENTICATION_TYPE_NOT_RECOGNIZED, ((5, 0),))


@pytest.mark.parametrize("kind", [AuthType.SPNEGO, AuthType.KERBEROS])
def test_garbage_is_denied(kdc: MitKdc, kind: AuthType) -> None:
    for token in (b"\x60", b"NTLMSSP\0\1\0\0\0", bytes(300), b"\x60\x82\xff\xff"):
        security = Acceptors(kdc.keytab(SERVICE)).accept(kind)
        assert security is not None
        with pytest.raises(Denied, match="Kerberos authentication failed"):
            security.step(token)


def test_who_has_no_ticket_is_told(kdc: MitKdc) -> None:
    with pytest.raises(Denied, match="there is no ticket to use"):
        initiate(SERVICE, f"FILE:{kdc.folder}/nothing.ccache")


def test_a_name_without_a_principal_is_denied(kdc: MitKdc, cache: str) -> None:  # noqa: ARG001 - its realm is there
    security = initiate("exchangeMDB/other.mit.example", cache, AuthType.KERBEROS)
    with pytest.raises(Denied, match="not found in Kerberos database"):
        security.step(b"")


def test_another_provider_is_not_opened(kdc: MitKdc) -> None:
    assert Acceptors(kdc.keytab(SERVICE)).accept(10) is None


def test_a_caller_cannot_lower_the_level_on_the_way(kdc: MitKdc, cache: str) -> None:
    wire = Wire(cache, kdc.keytab(SERVICE), AuthType.SPNEGO, AuthLevel.PRIVACY, True)
    wire.bind()
    assert wire.client.protection is not None
    wire.client.protection = replace(wire.client.protection, level=AuthLevel.INTEGRITY)
    (*_, event) = wire.server.receive(wire.client.call(ECHO, 0, b"in clear"))
    assert isinstance(event, Broken)
    assert "without the protection" in str(event.error)
