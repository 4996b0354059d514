"""The RPC proxy asks for tickets of a real KDC: MIT's krb5kdc."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")

from casarray.adapters.http_logon import WebLogons
from casarray.adapters.kerberos.http_gate import TicketGate
from casarray.adapters.net.rpc_http_client import Basic, RpcHttpChannel, RpcProxy, open_rpc_http
from casarray.adapters.net.rpc_http_proxy import RpcHttpProxy
from casarray.adapters.rpc_logon import Credential
from casarray.app.rpc_proxy import Place
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.errors import ConfigError, Denied
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http.http import Target
from casarray.lab import mit_kdc, netns
from casarray.lab.mit_kdc import MitKdc
from casarray.lab.server import LabServer

NAME = "mail.mit.example"
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif((netns.missing() or mit_kdc.missing()) is not None, reason="no KDC can run here"),
]


class ToMailbox:
    """Every client gets the one server's mailbox."""

    def __init__(self, server: LabServer) -> None:
        self._server = server

    def check(self, target: Target) -> None:
        """All may be had."""

    async def find(self, target: Target, client: Address) -> Place:  # noqa: ARG002 - as all finders
        return Place(ip_address("127.0.0.1"), self._server.services["rpc"].port)

    def usable(self, place: Place) -> bool:  # noqa: ARG002 - as all finders
        return True

    def unreachable(self, place: Place) -> None:
        raise AssertionError(place)


def through(keytab: Path, logon: Callable[[], Any]) -> tuple[str, dict[str, int]]:
    """Open a channel through a proxy with that keytab: how it was logged on, and what the proxy counted."""

    async def attempt() -> tuple[str, dict[str, int]]:
        server = LabServer("cas1", ["127.0.0.1"], {"epm": 0})
        await server.start()
        finder = ToMailbox(server)
        proxy = RpcHttpProxy(finder, admission=TicketGate(str(keytab)))
        port = await proxy.start(ip_address("127.0.0.1"), 0)
        try:
            channel: RpcHttpChannel = await open_rpc_http(
                RpcProxy("127.0.0.1", port, name=NAME, logon=logon), "cas.lab.example", 6001
            )
            await channel.bind(EMSMDB)
            channel.close()
            return channel.mechanism, dict(proxy.counters())
        finally:
            await proxy.close()
            await server.close()

    return asyncio.run(attempt())


def test_a_ticket_lets_in(kdc: MitKdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5RCACHEDIR", str(kdc.folder))
    keytab = kdc.keytab(f"HTTP/{NAME}")
    tickets = WebLogons(Credential(ccache=kdc.ticket("alice", kdc.add_user("alice"))))
    try:
        mechanism, counted = through(keytab, lambda: tickets.open("negotiate", NAME))
    finally:
        tickets.close()
    assert mechanism == "Kerberos"
    assert counted["connections"] == 1
    assert "denied:logon" not in counted


def test_a_ticket_for_another_key_does_not(kdc: MitKdc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5RCACHEDIR", str(kdc.folder))
    kdc.keytab(f"HTTP/{NAME}")
    other = kdc.keytab("HTTP/other.mit.example")
    tickets = WebLogons(Credential(ccache=kdc.ticket("alice", kdc.add_user("alice"))))
    try:
        with pytest.raises(Denied, match="it offers Negotiate"):
            through(other, lambda: tickets.open("negotiate", NAME))
    finally:
        tickets.close()


def test_a_password_does_not(kdc: MitKdc) -> None:
    with pytest.raises(Denied, match="it offers Negotiate"):
        through(kdc.keytab(f"HTTP/{NAME}"), lambda: Basic("alice", "secret"))


def test_a_keytab_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set \[rpc-http\] keytab"):
        TicketGate(str(tmp_path / "none"))
