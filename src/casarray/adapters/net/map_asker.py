"""Asks an endpoint mapper for the port of an interface, as a client does."""

from casarray.adapters.net.rpc_channel import Channel, RpcFault
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_MAP, EptMap, EptMapReply
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import TCP, Tower
from casarray.core.errors import Unavailable, WireError
from casarray.core.forwarding.table import Address

SECONDS = 3.0


async def ask_port(address: Address, mapper_port: int, interface: Syntax) -> int:
    """The TCP port of the interface on that server. `Unavailable` when its mapper does not answer or know it."""
    channel = await Channel.open(str(address), mapper_port, patience=SECONDS)
    try:
        await channel.bind(EPM)
        answer = await channel.call(EPM, EPT_MAP, EptMap(Tower.tcp(interface)).encode())
        reply = EptMapReply.decode(answer.stub, answer.order, answer.ndr64)
    except (RpcFault, WireError) as error:
        raise Unavailable(f"the endpoint mapper of {address} does not say where {interface} is: {error}") from error
    finally:
        channel.close(hard=True)
    for tower in reply.towers:
        if tower.transport == TCP and tower.port:
            return tower.port
    raise Unavailable(f"the endpoint mapper of {address} does not know {interface} (status 0x{reply.status:08X})")
