"""What a gateway left for arrays and addresses that the configuration no longer has, since a stop leaves everything.

Unseen, a table would lead clients to members that nobody probes, and an address would reach this host's own daemons.
Something is left over if this gateway once had it, by what its state remembers, and nobody holds its lock now: what
another gateway of this host left behind while it restarts is none of ours.
"""

from collections.abc import Collection
from dataclasses import dataclass

from casarray.adapters.kernel import readback
from casarray.adapters.kernel.fast_path import FastPath
from casarray.adapters.kernel.lock import AddressLock
from casarray.adapters.kernel.nfnetlink import Channel, Kind, Message, attributes, string, text
from casarray.adapters.kernel.vip import ours, routes, withdraw
from casarray.core.errors import Conflict
from casarray.core.forwarding.table import Address

_PREFIX = "casarray_"


@dataclass(frozen=True, slots=True)
class Belongings:
    """What belongs to a gateway: its arrays' names and every address it places."""

    arrays: Collection[str]
    addresses: Collection[Address]


def sweep(once: Belongings, now: Belongings) -> list[str]:
    """Take away what this gateway once had and has no longer; a sentence each. Blocks for milliseconds."""
    said = []
    with Channel() as channel:
        tables = [string(dict(attributes(answer))[1]) for answer in channel.dump(Message(Kind.GETTABLE, b""))]
        for table in tables:
            about = readback.about(channel, table) if table.startswith(_PREFIX) else None
            if about is None or about.structure.array in now.arrays or about.structure.array not in once.arrays:
                continue
            try:
                with AddressLock([a for a in about.structure.addresses if a not in now.addresses]):
                    channel.commit(Message(Kind.DELTABLE, text(1, table)))
                    FastPath(about.structure.array).close(keep=False)
            except Conflict:
                continue
            said.append(f"the array {about.structure.array} is not configured any more: its forwarding table is gone")
    with routes() as route:
        strays = [p for p in ours(route) if p.address in once.addresses and p.address not in now.addresses]
    for placed in strays:
        try:
            with AddressLock([placed.address]):
                withdraw(placed)
        except Conflict:
            continue
        said.append(f"{placed.address} is not configured any more: it is taken from {placed.interface}")
    return said
