"""A member whose agent says that its Kerberos key is stale gets no clients until it has caught up."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.kerberos.test_member import World, generation, holding

from casarray.core.kerberos.agent_messages import Op
from casarray.lab.site import LoopbackSite, free_port

from .gateways import MAIL_ARRAY, SERVER, members, soon

pytest.importorskip("gssapi", reason="python-gssapi is not installed")

from casarray.adapters.kerberos.agent_server import HealthServer

NAMES = ("cas1", "cas2")
SERVICES = """
[[array.service]]
name = "imap"
port = {imap}
group = "mail"

[[array.service]]
name = "keys"
port = {keys}
group = "mail"
probe = "http"
path = "/health"
required = true
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[LoopbackSite, dict[str, World]]]:
    """Two members with mail, each with an agent over a realm from memory."""
    found = LoopbackSite(tmp_path, servers=NAMES)
    imap, keys = free_port(28300), free_port(28350)
    services = SERVICES.format(imap=imap, keys=keys)
    text = MAIL_ARRAY.format(mode=found.mode, folder=tmp_path, vip=found.vip, services=services)
    text += "".join(SERVER.format(name=name, address=found.addresses(name)[0]) for name in NAMES)
    worlds = {name: World(holding(generation(3))) for name in NAMES}
    doors = []

    async def start() -> None:
        found.build()
        script = str(Path(__file__).with_name("tiny_servers.py"))
        for name in NAMES:
            address = found.addresses(name)[0]
            command = [sys.executable, script, name, address, str(tmp_path), f"imap={imap}"]
            found.servers[name] = await found._start(name, name, command)
            doors.append(HealthServer(worlds[name].member, f"{address}:{keys}"))
            doors[-1].start()
        found.config_path.write_text(text)
        await found.start_gateway()

    try:
        asyncio.run(start())
        yield found, worlds
    finally:
        found.close()
        for door in doors:
            door.close()


async def test_a_stale_member_is_out_until_it_has_caught_up(site: tuple[LoopbackSite, dict[str, World]]) -> None:
    place, worlds = site

    def eligible() -> dict[str, bool]:
        return {name: one.eligible for name, one in members(place, "mail").items()}

    await soon(lambda: eligible() == {"cas1": True, "cas2": True})
    for world in worlds.values():
        world.ticket = type(world.ticket)("asa$", world.ticket.name, 4)  # the directory has a new key
    assert worlds["cas1"].ask(Op.HOLD, generation=generation(4)) == ""
    for world in worlds.values():
        world.member.check()
    await soon(lambda: eligible() == {"cas1": True, "cas2": False})
    worlds["cas2"].peers["cas2"] = worlds["cas1"].member.holdings[0]
    worlds["cas2"].member.check()
    await soon(lambda: eligible() == {"cas1": True, "cas2": True})
