"""Looks at servers for `casarray init`: the health probes once each, and a list of all interfaces behind the mapper."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from casarray.adapters.net.dial import DialProber
from casarray.core.config import ProbeKind, Service
from casarray.core.dcerpc.association import BindRefused, Bound, Broken, ClientEvent, Failed, Reply, RpcClient
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_LOOKUP, EptLookup, EptLookupReply
from casarray.core.dcerpc.ndr import NIL_HANDLE
from casarray.core.errors import CasarrayError, Unavailable
from casarray.core.forwarding.table import Address
from casarray.core.health.probes import Target
from casarray.core.profiles import MAPPER_PORT
from casarray.core.survey import ANY_STATUS, CANDIDATES, HEALTH_PAGE, Found, Interface, Offer

SECONDS = 3.0  # for each service
MOST_ROUNDS = 20  # of 500 interfaces each; a real server has a few hundred in all
OVER_TCP = 0x07  # [C706] appendix I


def survey(servers: Mapping[str, Address]) -> list[Offer]:
    """What each server really offers; never raises for what a server does."""
    return asyncio.run(_survey(servers))


async def _survey(servers: Mapping[str, Address]) -> list[Offer]:
    prober = DialProber()
    try:
        return list(await asyncio.gather(*(_look(prober, name, address) for name, address in servers.items())))
    finally:
        prober.close()


async def _look(prober: DialProber, name: str, address: Address) -> Offer:
    found = await asyncio.gather(*(_probe(prober, name, address, service) for service in CANDIDATES))
    offer = Offer(name, address, tuple(found))
    if not found[0].up:
        return offer
    try:
        async with asyncio.timeout(SECONDS):
            return replace(offer, interfaces=await _interfaces(address))
    except TimeoutError:
        return replace(offer, mapper_reason="its endpoint mapper does not list its interfaces in time")
    except (OSError, CasarrayError) as error:
        return replace(offer, mapper_reason=f"its endpoint mapper does not list its interfaces: {error}")


async def _probe(prober: DialProber, name: str, address: Address, service: Service) -> Found:
    if service.probe in (ProbeKind.HTTP, ProbeKind.HTTPS) and service.name != HEALTH_PAGE:
        service = replace(service, status=ANY_STATUS)
    answer, _ = await prober.probe(Target(name, (address,), service), SECONDS)
    return Found(service.name, answer.up, answer.reason)


async def _interfaces(address: Address) -> tuple[Interface, ...]:
    """Every interface on TCP that the endpoint mapper lists. [C706] appendix O, ept_lookup."""
    reader, writer = await asyncio.open_connection(str(address), MAPPER_PORT)
    try:
        client = RpcClient()
        writer.write(client.bind(EPM))
        await _event(client, reader)
        found: dict[Interface, None] = {}
        handle = NIL_HANDLE
        for _ in range(MOST_ROUNDS):
            writer.write(client.call(EPM, EPT_LOOKUP, EptLookup(handle=handle).encode()))
            reply = await _event(client, reader)
            if not isinstance(reply, Reply):
                raise Unavailable("the answer is no answer")
            page = EptLookupReply.decode(reply.stub, reply.order, reply.ndr64)
            for entry in page.entries:
                tower = entry.tower
                if tower and tower.interface and tower.port and tower.transport == OVER_TCP:
                    syntax = tower.interface
                    name = f"{syntax.uuid}/{syntax.major}.{syntax.minor}"
                    found[Interface(name, tower.port, entry.annotation)] = None
            handle = page.handle
            if page.status or not page.entries or handle == NIL_HANDLE:
                break
        return tuple(found)
    finally:
        writer.close()


async def _event(client: RpcClient, reader: asyncio.StreamReader) -> ClientEvent:
    """The next thing the server says; a refusal is an error."""
    while True:
        data = await reader.read(16384)
        if not data:
            raise Unavailable("it closed the connection")
        for event in client.receive(data):
            if isinstance(event, BindRefused | Failed | Broken):
                raise Unavailable(f"it refused ({event})")
            if isinstance(event, Bound) and not client.accepts(EPM):
                raise Unavailable("it is no endpoint mapper")
            return event
