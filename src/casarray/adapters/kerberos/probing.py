"""Tickets for the health probe `kerberos`, kept in memory and got in threads, so that no KDC is waited for on the loop.

A ticket is used for a minute, then asked for anew: so a roll is noticed soon, and the KDC is not asked at each probe. A
KDC that does not answer takes nobody out: the old ticket goes on as long as it lives, and without one the probe says
that the fault is ours, which leaves the verdict as it was.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from casarray.adapters.kerberos.initiator import Purse
from casarray.adapters.kerberos.knocking import steps_of
from casarray.core.config import KerberosSettings
from casarray.core.errors import Denied
from casarray.core.health.conversation import Answer, Steps
from casarray.core.health.probes import Target
from casarray.core.kerberos.approach import approach
from casarray.core.kerberos.principal import Spn
from casarray.core.kerberos.probe import probe_steps
from casarray.core.kerberos.proof import NoTicket, asked_as
from casarray.core.kerberos.tickets import Ticket

TICKET_SECONDS = 60.0
RETRY_SECONDS = 5.0  # after a KDC said no, or nothing
THREADS = 4


@dataclass(slots=True)
class _Known:
    """What we have for one name."""

    purse: Purse | None = None
    ticket: Ticket | None = None
    next_look: float = 0.0  # of a clock that never jumps
    trouble: str = ""
    asking: "asyncio.Future[None] | None" = None


class KerberosProbes:
    """`casarray.adapters.net.dial.Door`, for all probes of a gateway."""

    def __init__(self, settings: KerberosSettings, ticket_seconds: float = TICKET_SECONDS) -> None:
        self._settings = settings
        self._ticket_seconds = ticket_seconds
        self._known: dict[str, _Known] = {}
        self._pool = ThreadPoolExecutor(THREADS, "kerberos-probe")

    async def steps(self, target: Target, seconds: float) -> Steps | Answer:
        """The conversation for this target; or why it cannot be had, which is no fault of the server's."""
        way = approach(target.service, target.mapper_port)
        if way is None:
            return Answer(False, f"{target.server} was not probed: nothing says how to show it a ticket", ours=True)
        host = target.host or target.server
        name = asked_as(Spn(way.kind, host))
        known = self._known.setdefault(name, _Known())
        await self._refresh(name, known, seconds)
        if known.purse is None or known.ticket is None:
            why = known.trouble or "no KDC has answered yet"
            return Answer(False, f"{target.server} was not probed: there is no ticket for {name}: {why}", ours=True)
        try:
            knock = steps_of(known.purse, way, name, host, login=False)
        except Denied as error:
            known.next_look = 0.0
            return Answer(False, f"{target.server} was not probed: {error}", ours=True)
        return probe_steps(knock, known.ticket, time.time())

    def close(self) -> None:
        """Let go of threads and tickets."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _refresh(self, name: str, known: _Known, seconds: float) -> None:
        """Have a ticket of this minute. Whoever waits for the first one waits at most half of the probe's time."""
        loop = asyncio.get_running_loop()
        if known.asking is None and loop.time() >= known.next_look:
            known.asking = asyncio.ensure_future(self._ask(name, known))
        if known.asking is not None and known.ticket is None:
            await asyncio.wait((known.asking,), timeout=seconds / 2)

    async def _ask(self, name: str, known: _Known) -> None:
        loop = asyncio.get_running_loop()
        settings = self._settings
        purse = Purse(settings.principal, settings.keytab, settings.ccache)
        try:
            got = await loop.run_in_executor(self._pool, purse.get, name)
        finally:
            known.asking = None
        if isinstance(got, NoTicket):
            known.trouble, known.next_look = got.detail, loop.time() + min(RETRY_SECONDS, self._ticket_seconds)
            if known.purse is not None and not known.purse.lives:
                known.purse = known.ticket = None
            return
        known.purse, known.ticket, known.trouble = purse, got.ticket, ""
        known.next_look = loop.time() + self._ticket_seconds
