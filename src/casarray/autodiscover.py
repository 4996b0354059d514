"""Puts Autodiscover together: in the gateway, or by itself with `casarray autodiscover run`."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

from casarray.adapters.autodiscover_server import AutodiscoverServer, proofs_for
from casarray.adapters.clock import SystemClock
from casarray.adapters.config_reader import read_config
from casarray.adapters.log import log_to_stderr
from casarray.adapters.stores.following import open_feed
from casarray.adapters.systemd import Notifier
from casarray.app.autodiscover import Autodiscover
from casarray.app.directory_feed import DirectoryFeed
from casarray.core.config import AutodiscoverSettings, Config
from casarray.core.directory.model import Directory
from casarray.core.errors import CasarrayError, ConfigError

log = logging.getLogger("casarray.autodiscover")


class RunningAutodiscover:
    """One server of Autodiscover, on the running loop."""

    def __init__(
        self, settings: AutodiscoverSettings, profile: str, name: str, directory: Callable[[], Directory]
    ) -> None:
        """``directory`` as it is now. Raises what is wrong with the settings."""
        if not (settings.listen or settings.redirect_listen):
            raise ConfigError('nothing says where to listen: set listen under [autodiscover], like "10.11.0.5:443"')
        self._settings = settings
        self.service = Autodiscover(directory, settings, profile, SystemClock(), name)
        self.server = AutodiscoverServer(self.service, settings, proofs_for(settings))

    async def start(self) -> None:
        """Listen. Raises why it cannot."""
        await self.server.start()
        places = [place for place in (self._settings.listen, self._settings.redirect_listen) if place]
        log.info("Autodiscover: listening on %s", " and ".join(places))

    def renew(self) -> None:
        """Read the certificate anew."""
        try:
            self.server.renew()
        except CasarrayError as error:
            log.error("Autodiscover keeps its certificate: %s", error)

    async def close(self) -> None:
        """End it. Twice is once."""
        await self.server.stop()


def run(path: str, *, as_json: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the certificate anew. The exit code."""
    log_to_stderr(as_json=as_json)
    try:
        return asyncio.run(_serve(read_config(path)))
    except CasarrayError as error:
        print(f"casarray: {error}", file=sys.stderr)
        return 1


async def _serve(config: Config) -> int:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    feed = open_feed(config.gateway, config.directory)
    told = config.autodiscover
    running = RunningAutodiscover(told, config.directory.profile, config.gateway.name, lambda: feed.directory)
    loop.add_signal_handler(signal.SIGHUP, running.renew)
    notifier = Notifier()
    following: asyncio.Task[None] | None = None
    try:
        if told.listen:  # a redirect alone needs no mailboxes
            await feed.start()
            following = asyncio.create_task(_follow(feed))
        await running.start()
        print("ready", flush=True)
        notifier.ready("Autodiscover")
        await notifier.until(over)
        notifier.stopping()
    finally:
        if following is not None:
            following.cancel()
        await running.close()
        await feed.close()
    return 0


async def _follow(feed: DirectoryFeed) -> None:
    async for _ in feed.changes():
        log.debug("the directory has changed")
