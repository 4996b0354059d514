"""Puts the referral together and lets it run: `casarray referral run`."""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from casarray.adapters.config_reader import read_config
from casarray.adapters.control import listen_tcp
from casarray.adapters.extras import kerberos_libraries, readable_keytab
from casarray.adapters.http_server import HttpServer, stop_servers
from casarray.adapters.log import log_to_stderr
from casarray.adapters.net.rpc_listener import Limits, RpcListener
from casarray.adapters.referral_metrics import referral_app
from casarray.adapters.stores.following import open_feed
from casarray.adapters.stores.visits_file import VisitsFile
from casarray.adapters.systemd import Notifier
from casarray.app.directory_feed import DirectoryFeed
from casarray.app.referral import SERVICES, OpenSecurity, ReferralService, kept
from casarray.core.config import Config, Retired
from casarray.core.directory.model import Directory
from casarray.core.directory.serving import seed
from casarray.core.errors import CasarrayError, ConfigError

log = logging.getLogger("casarray.referral")

KEEP_SECONDS = 1.0  # between two looks whether somebody came
MOST_CONNECTIONS = 4096


class RunningReferral:
    """One referral with its doors, on the running loop. `close` ends it."""

    def __init__(self, config: Config) -> None:
        """Raises what is wrong with the state or the keytab."""
        if not config.retired:
            raise ConfigError(
                "nothing says for which servers to stand in: add [[retired]] with name and addresses, or give --retired"
                " and --listen"
            )
        self.config = config
        settings = config.referral
        self._state = settings.state or config.gateway.state
        self._store = VisitsFile(self._state)
        self._store.lock()
        try:
            security = _security(settings.keytab)
            self.service = ReferralService(
                config,
                uuid4,
                time.time,
                kept=kept(self._store),
                open_security=security,
                utc=lambda: datetime.now(UTC),
            )
        except CasarrayError:
            self._store.unlock()
            raise
        limits = Limits(idle=settings.idle_timeout, per_client=settings.connections_per_client, total=MOST_CONNECTIONS)
        self.listener = RpcListener(
            (
                (post.address, post.ports[kind], partial(self.service.visitor, post, kind))
                for post in self.service.posts
                for kind in SERVICES
            ),
            limits,
        )
        self.service.connections = lambda: self.listener.connections
        self._feed = self._make_feed()
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: HttpServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self.metrics_port = 0

    def _make_feed(self) -> DirectoryFeed:
        folder = Path(self._state) / "referral"
        if self.config.directory.store[0].startswith("ldap"):
            with contextlib.suppress(OSError):  # it is only missed when the directory is, too; saving says why
                folder.mkdir(parents=True, exist_ok=True)
        return open_feed(self.config.gateway, self.config.directory, folder=str(folder))

    async def start(self) -> None:
        """Listen. Raises why it cannot, and then nothing is left."""
        try:
            await self._feed.start()
            self._show()
            ports = iter(await self.listener.start())
            for post in self.service.posts:
                post.listening({kind: next(ports) for kind in SERVICES})
            if self.config.referral.metrics:
                await self._serve_metrics(self.config.referral.metrics)
        except BaseException:
            await self.close()
            raise
        for sentence in self.service.warnings():
            log.warning("%s", sentence)
        self._spawn(self._follow())
        self._spawn(self._keep())

    async def _serve_metrics(self, place: str) -> None:
        listening = listen_tcp(place, "the referral's metrics", "referral.metrics")
        self.metrics_port = listening.getsockname()[1]
        self._http = HttpServer(referral_app(self.service, self.listener.counters))
        self._serving = asyncio.create_task(self._http.serve([listening]))
        await self._http.listening.wait()

    async def close(self) -> None:
        """End; who came is kept. Twice is once."""
        await self.listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None and self._serving is not None:
            await stop_servers([(self._http, self._serving)])
            self._http = self._serving = None
        await self._save()
        await self._feed.close()
        self._store.unlock()

    def _show(self) -> None:
        """The directory as known now; with the arrays of the file, if they stand there."""
        directory: Directory = self._feed.directory
        if self.config.directory.is_file:
            tables = {"array": [{"name": array.name} for array in self.config.arrays]}
            directory = seed(self.config, tables, directory)
        self.service.directory = directory

    async def _follow(self) -> None:
        """What changes in the directory is what clients are told."""
        async for _ in self._feed.changes():
            try:
                self._show()
            except Exception:  # the next change may be better
                log.exception("the directory has changed, and clients are told what it said before")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await self._save()

    async def _save(self) -> None:
        if not self.service.visits.changed:
            return
        self.service.visits.changed = False
        try:
            await asyncio.to_thread(self._store.save, self.service.visits.lines())
        except CasarrayError as error:
            self.service.visits.changed = True
            log.error("%s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _security(keytab: str) -> OpenSecurity | None:
    """What opens acceptors from that keytab."""
    if not keytab:
        return None
    with kerberos_libraries():
        from casarray.adapters.kerberos.rpc_security import Acceptors  # noqa: PLC0415 - its library is an extra
    return Acceptors(readable_keytab(keytab, "referral")).accept


def read_referral(path: str, listen: Sequence[str] = (), retired: Sequence[str] = ()) -> Config:
    """The configuration, with the retired names of the command line in the place of the file's where there are any."""
    from casarray.core.config import Gateway  # noqa: PLC0415 - only without a file
    from casarray.core.config_values import address_of  # noqa: PLC0415 - only with names on the command line

    if not (listen or retired):
        return read_config(path)
    if not (listen and retired):
        raise ConfigError("--listen and --retired belong together: say where, and for which old names")
    config = read_config(path) if Path(path).exists() else Config(Gateway("gateway"), (), (), ())
    addresses = []
    for text in listen:
        address = address_of(text)
        if isinstance(address, str):
            raise ConfigError(f'--listen "{text}" {address}; write it like 10.11.0.50')
        addresses.append(address)
    return replace(config, retired=tuple(Retired(name, tuple(addresses)) for name in dict.fromkeys(retired)))


def run(path: str, listen: Sequence[str] = (), retired: Sequence[str] = (), *, as_json: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again. The exit code."""
    log_to_stderr(as_json=as_json)
    read = partial(read_referral, path, listen, retired)
    try:
        return asyncio.run(_serve(read))
    except CasarrayError as error:
        print(f"casarray: {error}", file=sys.stderr)
        return 1


async def _serve(read: Callable[[], Config]) -> int:
    over, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    notifier = Notifier()
    running = RunningReferral(await asyncio.to_thread(read))
    await running.start()
    print("ready", flush=True)
    notifier.ready(f"{len(running.config.retired)} retired names")
    try:
        while not over.is_set():
            seconds = notifier.watchdog_seconds
            await _first_of((over, again), seconds / 2 if seconds else None)
            notifier.watchdog()
            if again.is_set():
                again.clear()
                notifier.reloading()
                running = await _renewed(running, read)
                notifier.ready()
        notifier.stopping()
    finally:
        await running.close()
    return 0


async def _first_of(events: Sequence[asyncio.Event], seconds: float | None) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _renewed(running: RunningReferral, read: Callable[[], Config]) -> RunningReferral:
    """The referral with the configuration as it is now; the old one goes on where the new one cannot be."""
    before = running.config
    try:
        config = await asyncio.to_thread(read)
        if config != before:
            await running.close()
            try:
                running = RunningReferral(config)
                await running.start()
            except CasarrayError:
                running = RunningReferral(before)  # if even that fails, the service ends and is started again
                await running.start()
                raise
        log.info("the configuration was read again")
    except CasarrayError as error:
        log.error("the configuration was not taken, the old one stays: %s", error)
    return running
