"""Autodiscover over HTTPS: the server and the client of our own, and raw octets where those would not go wrong."""

import asyncio
import base64
import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adapters.autodiscover_site import DIRECTORY, URL, Site, answering

from casarray.adapters import autodiscover_server
from casarray.adapters.control import listen_tcp
from casarray.adapters.net.rpc_http_client import Basic
from casarray.core.autodiscover.request import LONGEST, Request, write_request
from casarray.core.autodiscover.response import (
    EXCH,
    EXPR,
    MAPI_HTTP,
    ErrorCode,
    Refusal,
    Settings,
    read_response,
)
from casarray.core.autodiscover.walk import Came, Problem
from casarray.core.config import Proof
from casarray.core.directory.edits import move_active_database
from casarray.core.directory.model import Account
from casarray.core.errors import Denied, Unavailable

ALICE = Request("alice@domain.tld")


class Door:
    """Stands in for the KDC."""

    def ticket(self, text: str) -> tuple[str, str]:
        if text != base64.b64encode(b"alice's ticket").decode():
            raise Denied("no such ticket")
        return "alice@DOMAIN.TLD", base64.b64encode(b"read").decode()

    def password(self, text: str) -> str:
        if base64.b64decode(text) != b"alice:secret":
            raise Denied("no such password")
        return "alice@DOMAIN.TLD"


class Ticket:
    scheme, mechanism = "Negotiate", "Kerberos"

    def step(self, _token: bytes) -> tuple[bytes, bool]:
        return b"alice's ticket", True


async def raw(site: Site, octets: bytes) -> bytes:
    """What comes back to these octets over TLS, until it hangs up."""
    context = ssl.create_default_context(cafile=site.ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port, ssl=context)
    try:
        writer.write(octets)
        return await asyncio.wait_for(reader.read(), 15)
    finally:
        writer.transport.abort()


def post(body: bytes, *headers: str, path: str = "/autodiscover/autodiscover.xml", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(octets: bytes) -> tuple[int, bytes]:
    head, _, body = octets.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_a_client_that_knows_only_an_address_finds_the_array(tmp_path: Path) -> None:
    async with answering(tmp_path) as site:
        walked = await site.client().walk(ALICE)
        assert walked.settings is not None
        exch, expr = walked.settings.protocol(EXCH), walked.settings.protocol(EXPR)
        assert exch is not None
        assert expr is not None
        assert (exch.server, expr.server) == ("cas.domain.tld", "mail.domain.tld")
        assert (walked.url, [hop.ok for hop in walked.hops]) == (URL, [False, True])
        assert site.server.counts == {"settings": 1}


async def test_after_a_switchover_the_array_of_the_other_site_is_told(tmp_path: Path) -> None:
    async with answering(tmp_path) as site:
        client = site.client()
        before = (await client.walk(ALICE)).settings
        site.directory = move_active_database(site.directory, "DB1", "ber1")
        after = (await client.walk(ALICE)).settings
        assert before is not None
        assert after is not None
        told = [one.server for found in (before, after) if (one := found.protocol(EXCH)) is not None]
        assert told == ["cas.domain.tld", "outlook.berlin.domain.tld"]


async def test_port_80_sends_on_to_https_without_being_asked_who_one_is(tmp_path: Path) -> None:
    async with answering(tmp_path) as site:
        walked = await site.client().walk(
            ALICE, ["http://autodiscover.domain.tld/Autodiscover/AUTODISCOVER.xml"], only=True
        )
        assert [hop.words for hop in walked.hops] == [f"redirects (302) to {URL}", "answers the settings"]
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.redirect_port)
        writer.write(post(write_request(ALICE)))
        assert answer(await asyncio.wait_for(reader.read(), 15))[0] == 405
        writer.close()


async def test_a_client_that_speaks_mapi_over_http_is_told_of_that(tmp_path: Path) -> None:
    cas = DIRECTORY.arrays["cas"]
    modern = replace(cas, settings={**cas.settings, "profile": "exchange-2013"})
    alice = replace(DIRECTORY.accounts["alice"], mailbox_guid="416c6368-656d-794a-6f45-57615272456e")
    async with answering(tmp_path, DIRECTORY.put(modern, alice)) as site:
        walked = await site.client().walk(replace(ALICE, mapi_http=True))
        assert walked.settings is not None
        found = walked.settings.protocol(MAPI_HTTP)
        assert found is not None
        assert "416c6368-656d-794a-6f45-57615272456e@domain.tld" in found.mail_store[0]


async def test_an_alias_is_answered_with_the_primary_address(tmp_path: Path) -> None:
    alice = replace(DIRECTORY.accounts["alice"], aliases=("info@domain.tld",))
    async with answering(tmp_path, DIRECTORY.put(alice)) as site:
        walked = await site.client().walk(Request("INFO@domain.tld"))
        assert walked.settings is not None
        assert walked.settings.user.address == "alice@domain.tld"


async def test_redirects_of_the_configuration_are_followed(tmp_path: Path) -> None:
    there = ("old@other.tld = alice@domain.tld",)
    async with answering(tmp_path, redirects=there) as site:
        walked = await site.client().walk(Request("old@other.tld"))
        assert walked.address == "alice@domain.tld"
        assert walked.settings is not None
        assert site.server.counts == {"redirect-address": 1, "settings": 1}


async def test_without_a_logon_one_is_told_what_would_be_taken(tmp_path: Path) -> None:
    async with answering(tmp_path, proofs=Door(), authentication=(Proof.KERBEROS, Proof.BASIC)) as site:
        walked = await site.client().walk(ALICE, [URL], only=True)
        assert walked.response is None
        assert walked.hops[0].words == "wants a logon (401, offering Negotiate, Basic)"


async def test_a_ticket_or_a_password_lets_one_in(tmp_path: Path) -> None:
    async with answering(tmp_path, proofs=Door(), authentication=(Proof.KERBEROS, Proof.BASIC)) as site:
        for logon, scheme in ((lambda _: Ticket(), "Kerberos"), (lambda _: Basic("alice", "secret"), "Basic")):
            walked = await site.client(logon).walk(ALICE, [URL], only=True)
            assert isinstance(walked.response, Settings)
            came = walked.hops[0].came
            assert isinstance(came, Came)
            assert came.scheme == scheme


async def test_a_wrong_password_is_refused_and_named(tmp_path: Path) -> None:
    async with answering(tmp_path, proofs=Door(), authentication=(Proof.BASIC,)) as site:
        walked = await site.client(lambda _: Basic("alice", "wrong")).walk(ALICE, [URL], only=True)
        assert walked.hops[0].words == "wants a logon (401, offering Basic); Basic was refused"
        assert site.server.counts == {}


async def test_what_is_not_offered_is_not_taken(tmp_path: Path) -> None:
    async with answering(tmp_path, proofs=Door(), authentication=(Proof.KERBEROS,)) as site:
        octets = post(write_request(ALICE), "Authorization: Basic " + base64.b64encode(b"alice:secret").decode())
        assert answer(await raw(site, octets))[0] == 401


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"x", path="/elsewhere"), 404),
        (post(b"<x/>", "Content-Type: application/x-www-form-urlencoded"), 415),
        (post(b" " * (LONGEST + 1), "Content-Type: text/xml"), 413),
        (
            b"PUT /autodiscover/autodiscover.xml HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            405,
        ),
        (b"nonsense\r\n\r\n", 400),
    ],
    ids=["another path", "a form", "a huge body", "PUT", "nonsense"],
)
async def test_what_is_no_question_gets_a_status(tmp_path: Path, request_: bytes, status: int) -> None:
    async with answering(tmp_path) as site:
        assert answer(await raw(site, request_))[0] == status


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (
            b"GET /Autodiscover/Autodiscover.xml HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            ErrorCode.INVALID_REQUEST,
        ),
        (post(b""), ErrorCode.INVALID_REQUEST),
        (post(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), ErrorCode.INVALID_REQUEST),
        (post(write_request(ALICE).replace(b"outlook/responseschema/2006a", b"mobilesync/responseschema/2006")), 601),
        (post(write_request(Request("nobody@domain.tld")), version="1.0"), ErrorCode.UNKNOWN_ADDRESS),
    ],
    ids=["GET", "an empty body", "a DTD", "another schema", "HTTP/1.0"],
)
async def test_a_wrong_question_gets_the_error_of_the_specification(tmp_path: Path, request_: bytes, code: int) -> None:
    async with answering(tmp_path) as site:
        status, body = answer(await raw(site, request_))
        found = read_response(body)
        assert isinstance(found, Refusal)
        assert (status, found.code) == (200, code)
        assert found.time
        assert found.instance
        assert site.server.counts == {f"error-{int(code)}": 1}


async def test_a_client_that_never_sends_the_rest_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autodiscover_server, "BODY_SECONDS", 0.2)
    async with answering(tmp_path) as site:
        whole = post(write_request(ALICE), "Content-Type: text/xml")
        assert answer(await raw(site, whole[:-20]))[0] == 408
        assert (await site.client().walk(ALICE)).settings is not None


async def test_hundreds_of_clients_at_once_are_all_answered(tmp_path: Path) -> None:
    async with answering(tmp_path) as site:
        client = site.client()
        ways = await asyncio.gather(*(client.walk(ALICE, [URL], only=True) for _ in range(300)))
        assert [walked.hops[-1].words for walked in ways if walked.settings is None] == []
        assert site.server.counts == {"settings": 300}


@pytest.mark.parametrize("address", ["192.0.2.77", "[2001:db8::77]"])
def test_an_address_that_is_on_the_other_host_of_a_pair_now_is_no_reason_not_to_start(address: str) -> None:
    listen_tcp(f"{address}:0", absent=True).close()
    with pytest.raises(Unavailable):
        listen_tcp(f"{address}:0")


async def test_two_accounts_with_an_address_are_noted_once_for_the_administrator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(tmp_path, DIRECTORY.put(Account("eve", "DB1", "alice@domain.tld"))) as site:
        for _ in range(3):
            walked = await site.client().walk(ALICE)
            assert isinstance(walked.response, Refusal)
        assert [record.message for record in caplog.records if "the same address" in record.message] == [
            "autodiscover: the accounts alice, eve have the same address alice@domain.tld: change all but one"
        ]


async def test_a_certificate_for_another_name_ends_it_before_anything_is_said(tmp_path: Path) -> None:
    async with answering(tmp_path) as site:
        walked = await site.client().walk(
            ALICE, ["https://autodiscover.strange.tld/autodiscover/autodiscover.xml"], only=True
        )
        came = walked.hops[0].came
        assert isinstance(came, Came)
        assert came.problem is Problem.CERTIFICATE
        assert site.server.counts == {}


async def test_a_server_that_stays_silent_is_left_in_time() -> None:
    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
            await reader.read()
        writer.transport.abort()
        over.set()

    from casarray.adapters.autodiscover_client import AutodiscoverClient  # noqa: PLC0415 - this test's alone

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        client = AutodiscoverClient(seconds=0.3)
        walked = await client.walk(ALICE, [f"http://127.0.0.1:{port}/autodiscover/autodiscover.xml"], only=True)
        assert walked.hops[0].words == "does not answer within 0.3 s"
        await asyncio.wait_for(over.wait(), 15)
        await asyncio.sleep(0)  # for the transport to close
