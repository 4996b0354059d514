"""Things that go wrong, at will: each is done to a site and written down for the oracle.

A fault that takes a member away (killed, frozen, misbehaving, cut off, drained) opens an absence in the journal, and
its counterpart closes it. A fault of the gateway (killed, reloaded, its table flushed) opens none: no client may move
because of it.
"""

import asyncio
import signal

from casarray.core.config import Wish
from casarray.core.errors import CasarrayError, Unavailable
from casarray.lab.site import Site


class Faults:
    """What can be done to a site."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def _out(self, member: str, why: str) -> None:
        self.site.journal("out", member=member, why=why)

    def _in(self, member: str, why: str) -> None:
        self.site.journal("in", member=member, why=why)

    def kill(self, name: str) -> None:
        """SIGKILL to a server's process: its kernel ends its connections."""
        self._out(name, "killed")
        self.site.servers[name].kill()
        self.site.servers[name].wait()

    async def revive(self, name: str) -> None:
        """Start it again."""
        await self.site.start_server(name)
        self._in(name, "killed")

    def freeze(self, name: str) -> None:
        """SIGSTOP: its kernel still accepts connections, and nobody answers."""
        self._out(name, "frozen")
        self.site.servers[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self.site.servers[name].send_signal(signal.SIGCONT)
        self._in(name, "frozen")

    def misbehave(self, name: str, line: str) -> None:
        """A line for its control socket, such as ``rpc hang-accept``; see `lab.server`."""
        self._out(name, "misbehaving")
        self.site.tell(name, line)

    def half_die(self, name: str) -> None:
        """The endpoint mapper answers, the mailbox service does not."""
        self.misbehave(name, "rpc refuse")

    def behave(self, name: str) -> None:
        """Everything as it should be."""
        self.site.tell(name, "all normal")
        self._in(name, "misbehaving")

    def cut(self, name: str) -> None:
        """Pull its cable: nobody tells its clients, least of all it."""
        self._out(name, "cut off")
        self.site.cut(name)

    def join(self, name: str) -> None:
        """Put the cable in again."""
        self.site.join(name)
        self._in(name, "cut off")

    async def drain(self, name: str, deadline_seconds: float | None = None) -> None:
        """The operator drains it."""
        self._out(name, "drained")
        await asyncio.to_thread(self.site.control.set_server, name, Wish.DRAIN, deadline_seconds)

    async def activate(self, name: str) -> None:
        """The operator takes it back."""
        await asyncio.to_thread(self.site.control.set_server, name, Wish.ACTIVE)
        self._in(name, "drained")

    def flush_tables(self) -> None:
        """Somebody runs ``nft flush ruleset`` on the gateway."""
        self.site.journal("flushed")
        done = self.site.host("gateway").run("nft", "flush", "ruleset", check=False)
        if done.returncode != 0:
            raise CasarrayError(f"nft flush ruleset: {done.stderr.strip()}")

    def kill_gateway(self) -> None:
        """kill -9 of the control plane."""
        self.site.journal("gateway killed")
        self.site.kill_gateway()

    async def start_gateway(self) -> float:
        """Start it again; the seconds until it was ready."""
        seconds = await self.site.start_gateway()
        self.site.journal("gateway started")
        return seconds

    async def reload(self) -> None:
        """`casarray reload`."""
        self.site.journal("reloaded")
        await asyncio.to_thread(self.site.control.reload)

    async def until_state(self, name: str, up: bool, patience: float = 20.0) -> float:
        """Wait until the gateway regards a server as usable in the group ``rpc``, or not; the seconds it took."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while loop.time() - since < patience:
            if await asyncio.to_thread(self._usable, name) == up:
                return loop.time() - since
            await asyncio.sleep(0.02)
        raise Unavailable(f"after {patience:.0f} s the gateway still regards {name} as {'down' if up else 'up'}")

    def _usable(self, name: str) -> bool:
        status = self.site.control.status()
        return any(
            member.eligible
            for array in status.arrays
            for group in array.groups
            if group.name == "rpc"
            for member in group.members
            if member.name == name
        )
