"""Every exchange of Autodiscover as it travels, with notes. ``; `` begins a note about the line below it."""

import asyncio
import re
import ssl
from pathlib import Path

import pytest
from tests.adapters.autodiscover_site import answering
from tests.adapters.test_autodiscover import Door

from casarray.core.autodiscover.request import Request, read_request
from casarray.core.autodiscover.response import Refusal, Settings, read_response, write_response
from casarray.core.config import Proof

CAPTURES = Path(__file__).parents[1] / "captures" / "autodiscover"
#: What is of the moment: the date, the time of an error, the number of the server.
MOMENT = re.compile(rb'date: [^\r]*|(?<=Time=")[^"]*|(?<=Id=")[^"]*')


def recorded(name: str) -> bytes:
    """The octets: the head's lines end as HTTP has it."""
    lines = (CAPTURES / f"{name}.txt").read_text().splitlines()
    text = "".join(f"{line}\n" for line in lines if not line.startswith("; "))
    head, _, body = text.partition("\n\n")
    return head.rstrip("\n").replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.encode()


def timeless(octets: bytes) -> bytes:
    return MOMENT.sub(b"...", octets)


async def told(port: int, octets: bytes, ca: str = "") -> bytes:
    context = ssl.create_default_context(cafile=ca) if ca else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(octets)
        return await asyncio.wait_for(reader.read(), 15)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("name", ["settings", "get"])
async def test_a_recorded_question_gets_the_recorded_answer(tmp_path: Path, name: str) -> None:
    async with answering(tmp_path) as site:
        found = await told(site.server.port, recorded(name), site.ca)
        assert timeless(found) == timeless(recorded(f"{name}_reply"))


async def test_port_80_answers_the_recorded_redirect(tmp_path: Path) -> None:
    async with answering(tmp_path) as site:
        found = await told(site.server.redirect_port, recorded("get"))
        assert timeless(found) == timeless(recorded("redirect_reply"))


async def test_without_a_logon_the_recorded_offer_is_made(tmp_path: Path) -> None:
    async with answering(tmp_path, proofs=Door(), authentication=(Proof.KERBEROS, Proof.BASIC)) as site:
        found = await told(site.server.port, recorded("settings"), site.ca)
        assert timeless(found) == timeless(recorded("no_logon_reply"))


def test_the_recordings_are_read_and_written_alike() -> None:
    assert read_request(recorded("settings").partition(b"\r\n\r\n")[2]) == Request("alice@domain.tld")
    for name, kind in (("settings_reply", Settings), ("get_reply", Refusal)):
        body = recorded(name).partition(b"\r\n\r\n")[2]
        found = read_response(body)
        assert isinstance(found, kind)
        assert write_response(found) == body
