"""Logons on to web servers, without a web server."""

import os
import time
from typing import Any

import pytest

from casarray.adapters.http_logon import Ntlm, WebLogons
from casarray.adapters.rpc_logon import Credential
from casarray.core.errors import Denied
from casarray.core.ntlm.context import NtlmServer
from casarray.core.ntlm.crypto import nt_hash

ALICE = Credential("alice", "LAB", "secret", "FILE:/nonexistent")


def server(password: str) -> NtlmServer:
    clocks: dict[str, Any] = {"random": os.urandom, "clock": time.time}
    return NtlmServer("mail.lab.example", "LAB", lambda *_: nt_hash(password), **clocks)


def test_ntlm_takes_two_messages_and_the_channels_request_carries_the_second() -> None:
    logon, web = WebLogons(ALICE).open("ntlm", "mail.lab.example"), server("secret")
    assert isinstance(logon, Ntlm)
    first, is_last = logon.step(b"")
    assert not is_last
    second, is_last = logon.step(web.step(first))
    assert is_last
    web.step(second)
    assert (web.complete, web.peer) == (True, "LAB\\alice")
    with pytest.raises(Denied, match="does not take this name and password"):
        logon.step(b"again")


def test_a_wrong_password_proves_nothing() -> None:
    logon, web = WebLogons(ALICE).open("ntlm", "mail.lab.example"), server("another")
    second, _ = logon.step(web.step(logon.step(b"")[0]))
    with pytest.raises(Denied):
        web.step(second)


def test_a_user_may_be_named_with_the_domain_behind() -> None:
    who = Credential("alice@LAB", "", "secret")
    logon, web = WebLogons(who).open("ntlm", "mail.lab.example"), server("secret")
    web.step(logon.step(web.step(logon.step(b"")[0]))[0])
    assert web.peer == "LAB\\alice"


def test_without_a_ticket_negotiate_wants_a_password_and_takes_ntlm_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5_CONFIG", "/dev/null")
    with pytest.raises(
        Denied, match=r"there is no ticket for HTTP/mail\.lab\.example \(.*\), and NTLM takes a password"
    ):
        WebLogons(Credential(ccache="FILE:/nonexistent")).open("negotiate", "mail.lab.example")
    logons = WebLogons(ALICE)
    assert logons.open("negotiate", "mail.lab.example").mechanism == "NTLM"
    logons.close()
    with pytest.raises(Denied, match="NTLM takes a password"):
        WebLogons(Credential()).open("ntlm", "mail.lab.example")


def test_a_ticket_is_asked_for_only_when_the_server_wants_one() -> None:
    later = WebLogons(Credential(ccache="FILE:/nonexistent")).later("mail.lab.example")
    assert (later.scheme, later.mechanism) == ("Negotiate", "Kerberos")
    with pytest.raises(Denied, match="there is no ticket"):
        later.step(b"")
