"""Puts one gateway together and runs it: the only place that knows every adapter."""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from casarray.adapters.allocator import return_big_blocks
from casarray.adapters.clock import SystemClock
from casarray.adapters.config_reader import read_config
from casarray.adapters.kernel.addresses import HostAddresses
from casarray.adapters.kernel.fast_path import FastPath
from casarray.adapters.kernel.forwarder import KernelForwarder
from casarray.adapters.kernel.guard import TableGuard
from casarray.adapters.kernel.host import prepare_host, probe_host
from casarray.adapters.kernel.leftovers import Belongings, sweep
from casarray.adapters.kernel.lock import AddressLock
from casarray.adapters.kernel.nfnetlink import Interrupted
from casarray.adapters.kernel.resets import Resets
from casarray.adapters.kernel.vip import place, withdraw
from casarray.adapters.log import log_to_stderr
from casarray.adapters.net.dial import DialProber, Door
from casarray.adapters.net.mapper import MapperListener, settings_of
from casarray.adapters.stores.sqlite import SqliteState
from casarray.adapters.systemd import Notifier
from casarray.app.arrays import ArrayService
from casarray.app.gatekeeper import Plan
from casarray.app.gateway import GatewayService
from casarray.app.operations import GatewayStatus
from casarray.app.ports import Mapper, ServerWish, State
from casarray.core.config import Config, Mode
from casarray.core.errors import CasarrayError, Unavailable
from casarray.core.forwarding.table import Address

if TYPE_CHECKING:
    from casarray.adapters.control import ControlServer
    from casarray.app.directory_feed import DirectoryFeed
    from casarray.autodiscover import RunningAutodiscover
    from casarray.rpc_proxy import RunningProxy

log = logging.getLogger("casarray")

THREADS = 16
PIN_REFRESH_SHARE = 4  # pins of living connections are renewed when less than a quarter of their time is left
JANITOR_SECONDS = 1.0  # a reload may have made that time shorter: looked at so often


def run(path: str, *, as_json: bool = False) -> int:
    """Serve what the file says until told to stop. The exit code: 0 stopped in order, 1 refused, with the reason.

    With ``as_json`` each line of the log, on stderr, is a JSON object.
    """
    return_big_blocks()
    sys.setswitchinterval(0.0005)  # a thread that counts or fills would else keep the loop waiting for 5 ms each time
    log_to_stderr(as_json=as_json)
    try:
        config = read_config(path)
        return _on_fastest_loop(config, path)
    except CasarrayError as error:
        print(f"casarray: {error}", file=sys.stderr)
        return 1


def _on_fastest_loop(config: Config, path: str) -> int:
    try:
        import uvloop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return asyncio.run(Gateway(config, path).serve())
    return uvloop.run(Gateway(config, path).serve())


class Gateway:
    """The process: its mode, its arrays, its signals."""

    def __init__(self, config: Config, path: str) -> None:
        self._config = config
        self._path = os.path.abspath(path)
        self._mode = config.gateway.mode
        self._rpc_http = config.rpc_http  # as the file says, wherever arrays come from; a restart reads it anew
        self._told = config.autodiscover  # as above
        self._autodiscover: RunningAutodiscover | None = None
        self._clock = SystemClock()
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._control: ControlServer | None = None

    async def serve(self) -> int:
        """Everything from start to end."""
        loop = asyncio.get_running_loop()
        # Resets and walks through big kernel tables hold a thread for seconds; an expulsion must not wait for them.
        loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="casarray"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)  # from the first moment on: else it kills
        feed = await self._open_feed()
        choosing = asyncio.create_task(asyncio.to_thread(self._choose_mode))
        await asyncio.sleep(0)
        # Loaded while an nft program is asked what the kernel can do: neither waits for the other.
        from casarray.operating import Front  # noqa: PLC0415 - see above

        warnings = await choosing
        about = GatewayStatus(
            name=self._config.gateway.name,
            mode=self._mode.value,
            return_path=self._config.gateway.return_path.value,
            version=version("casarray"),
            uptime_seconds=0.0,
            pid=os.getpid(),
            rss_bytes=0,
            config=self._path,
        )
        state = SqliteState(self._config.gateway.state)
        service = GatewayService(
            self._config,
            state,
            self._clock,
            about=about,
            load=partial(self._load, feed),
            open_array=self._open_array,
            resident_bytes=resident_bytes,
            pool=self._pool(),
            feed=feed,
        )
        service.warnings += warnings
        front = Front(service, self._config)
        self._control = front.server
        await front.server.start()
        proxy: RunningProxy | None = None
        try:
            if await self._unless_stopped(service.start()):
                self._spawn(self._reload_when_asked(service))
                if feed is not None:
                    self._spawn(self._follow(feed, service))
                proxy = await self._start_rpc_proxy(service)
                await self._start_autodiscover(feed, service)
                await self._sweep(state)
                self._spawn(self._keep_alive(service))
                print("ready", flush=True)
                self._notifier.ready(f"{len(service.arrays)} arrays, {self._mode} mode")
                settle()
                await self._stop.wait()
            self._notifier.stopping()
        finally:
            for task in self._background:
                task.cancel()
            if proxy is not None:
                await proxy.close()
            if self._autodiscover is not None:
                await self._autodiscover.close()
            await front.close()
            await service.close(keep=self._mode is Mode.KERNEL)
            if feed is not None:
                await feed.close()
        return 0

    async def _start_rpc_proxy(self, service: GatewayService) -> "RunningProxy | None":
        """RPC over HTTP, where the file has a place for it: its clients get the members that their pins say."""
        if not self._rpc_http.listen:
            return None
        from casarray.app.rpc_proxy import GatewayLeader  # noqa: PLC0415 - few gateways have one
        from casarray.rpc_proxy import RunningProxy  # noqa: PLC0415 - as above

        def leader(name: str) -> "GatewayLeader | None":
            array = service.arrays.get(name)
            return GatewayLeader(array) if array is not None else None

        proxy = RunningProxy(lambda: replace(service.config, rpc_http=self._rpc_http), leader)
        await proxy.start()
        service.rpc_http = proxy.status
        return proxy

    async def _start_autodiscover(self, feed: "DirectoryFeed | None", service: GatewayService) -> None:
        """Where the file has a place for it: clients are told by the directory as the gateway knows it."""
        if not (self._told.listen or self._told.redirect_listen):
            return
        from casarray.autodiscover import RunningAutodiscover  # noqa: PLC0415 - few gateways have one
        from casarray.core.directory.model import Directory  # noqa: PLC0415 - as above

        profile, name = self._config.directory.profile, self._config.gateway.name
        directory = (lambda: feed.directory) if feed is not None else Directory
        running = RunningAutodiscover(self._told, profile, name, directory)
        await running.start()
        self._autodiscover = running
        service.answers = lambda: running.server.counts

    async def _open_feed(self) -> "DirectoryFeed | None":
        """The directory, read once, if the file says that arrays come from one; they are the configuration's then."""
        settings, gateway = self._config.directory, self._config.gateway
        if settings.is_file:
            return None
        from casarray.adapters.dns import resolve  # noqa: PLC0415 - a gateway with a file has none
        from casarray.adapters.stores.following import open_feed  # noqa: PLC0415 - as above

        feed = open_feed(gateway, settings, resolve)
        await feed.start()
        self._config = replace(feed.config(gateway), api=self._config.api)
        if not self._config.arrays:
            log.warning("the directory has no array to serve yet; add one, and it is served at once")
        return feed

    async def _load(self, feed: "DirectoryFeed | None") -> Config:
        """The configuration as it is now: that of the file, with the arrays of the directory if they come from one."""
        config = await asyncio.to_thread(read_config, self._path)
        if self._autodiscover is not None:
            self._autodiscover.renew()
        if self._control is not None:
            try:
                self._control.renew(config.api)
            except CasarrayError as error:  # no reason to leave everything else as it was
                log.error("the API keeps its certificate and token: %s", error)
        if feed is None:
            return config
        return replace(feed.config(config.gateway), directory=config.directory, api=config.api)

    async def _follow(self, feed: "DirectoryFeed", service: GatewayService) -> None:
        """What changes in the directory is served."""
        async for _ in feed.changes():
            try:
                await service.reload()
                feed.served()
            except CasarrayError as error:
                feed.served(str(error))
                log.error("the directory has changed, and that cannot be served: %s", error)
            except Exception:  # the next change may be better
                log.exception("the directory has changed, and that cannot be served")

    def _pool(self) -> HostAddresses | None:
        """The source addresses belong where their subnet is, which is not where the clients are."""
        if self._mode is not Mode.KERNEL:
            return None
        return HostAddresses("none" if self._config.gateway.interface == "none" else "auto")

    async def _sweep(self, state: State) -> None:
        """Away with what the configuration had before it was changed while nobody ran."""
        if self._mode is not Mode.KERNEL:
            return
        addresses = {address for a in self._config.arrays for address in a.addresses}
        now = Belongings({a.name for a in self._config.arrays}, addresses | {*self._config.gateway.source_addresses})
        once = Belongings(state.ids("array").keys(), {ip_address(a) for a in state.ids("address")})
        try:
            for sentence in await asyncio.to_thread(sweep, once, now):
                log.warning("%s", sentence)
        except (CasarrayError, Interrupted) as error:
            log.warning("what an earlier gateway left could not be looked at: %s", error)
        except Exception:  # no reason to serve nobody
            log.exception("what an earlier gateway left could not be looked at")

    async def _unless_stopped(self, work: Coroutine[None, None, None]) -> bool:
        """Do it to its end, or until somebody says stop. Whether it was done."""
        doing, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait((doing,))
        if doing.cancelled():
            return False
        doing.result()
        return True

    def _choose_mode(self) -> list[str]:
        """Kernel or userspace; what is worth a warning. Raises `Unavailable` when the kernel was asked for in vain."""
        if self._mode is Mode.USERSPACE:
            return []
        versions = {address.version for array in self._config.arrays for address in array.addresses}
        report = probe_host(versions)
        missing = report.missing or prepare_host(versions).missing
        if not missing:
            self._mode = Mode.KERNEL
            return list(report.advice)
        if self._mode is Mode.KERNEL:
            raise Unavailable(f'{" ".join(missing)} Or set [gateway] mode = "userspace".')
        self._mode = Mode.USERSPACE
        warning = f"userspace mode, slower and without affinity over restarts: {' '.join(missing)}"
        log.warning("%s", warning)
        return [warning]

    async def _open_array(self, plan: Plan, wishes: Mapping[str, ServerWish]) -> ArrayService:
        array = plan.array
        service = self._array_service(plan)
        try:
            await service.start(wishes, self._mapper)
        except BaseException:
            await service.close(keep=not service.began)
            raise
        service.accompany(self._janitor(service))
        if isinstance(service.forwarder, KernelForwarder):
            await self._keep_fast_path(service, service.forwarder.fast_path)
            guard = TableGuard(service.forwarder, lambda: service.gatekeeper.nodes, service.put_right)
            service.accompany(guard.watch())
        log.info("array %s: serving %s", array.name, ", ".join(str(a) for a in array.addresses))
        return service

    async def _keep_fast_path(self, service: ArrayService, fast_path: FastPath) -> None:
        if self._config.gateway.fast_path:
            service.fast_path = fast_path.status
            service.accompany(fast_path.keep(lambda: service.array.addresses))
        else:  # one of an earlier run would go on, and nobody would pause it
            await asyncio.to_thread(fast_path.close, keep=False)

    def _array_service(self, plan: Plan) -> ArrayService:
        prober = DialProber(open_door=self._door)
        if self._mode is Mode.KERNEL:
            addresses = HostAddresses(self._config.gateway.interface)
            return ArrayService(plan, KernelForwarder(plan.array.name), self._clock, prober, addresses)

        from casarray.adapters.net.userspace import UserspaceForwarder  # noqa: PLC0415 - the kernel's mode has none

        # The relay meets a member that refuses before any probe does, and says so.
        def unreachable(group: str, member_id: int) -> None:
            service.suspect(group, member_id)

        relay = UserspaceForwarder(unreachable=unreachable)
        service = ArrayService(plan, relay, self._clock, prober, HostAddresses(None))
        return service

    def _door(self) -> Door | None:
        """What brings the probe `kerberos` its tickets, where the libraries are here."""
        try:
            from casarray.adapters.kerberos.probing import KerberosProbes  # noqa: PLC0415 - it has libraries of its own
        except ImportError as error:
            log.error("the probe kerberos needs the library %s: pip install 'casarray[kerberos]'", error.name)
            return None
        return KerberosProbes(self._config.kerberos)

    def _mapper(self, service: ArrayService) -> Mapper:
        return MapperListener(settings_of(service.array), service)

    async def _janitor(self, service: ArrayService) -> None:
        """A pin must not run out under a living connection."""
        renewed = self._clock.monotonic()
        while True:
            seconds = max(1, service.array.affinity_timeout // PIN_REFRESH_SHARE)
            await asyncio.sleep(min(seconds / 2, JANITOR_SECONDS))
            if self._clock.monotonic() - renewed < seconds / 2:
                continue
            renewed = self._clock.monotonic()
            try:
                await service.forwarder.refresh_pins(seconds)
            except CasarrayError as error:
                log.warning("array %s: pins could not be renewed: %s", service.array.name, error)
            except Exception:  # the next time may be better, and nobody else does it
                log.exception("array %s: pins could not be renewed", service.array.name)

    async def _keep_alive(self, service: GatewayService) -> None:
        """Tell systemd that the loop turns."""
        seconds = self._notifier.watchdog_seconds
        while seconds:
            self._notifier.watchdog()
            ready, word = service.readiness()
            self._notifier.status(word if not ready else f"{len(service.arrays)} arrays, {self._mode} mode")
            await asyncio.sleep(seconds / 2)

    async def _reload_when_asked(self, service: GatewayService) -> None:
        """However often it is asked meanwhile, the file is read once more."""
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            self._notifier.reloading()
            try:
                await service.reload()
            except CasarrayError as error:
                log.error("the configuration was not reloaded, the old one stays in force:\n%s", error)
            except Exception:
                log.exception("the configuration was not reloaded")
            self._notifier.ready()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def settle() -> None:
    """Have the garbage collector at work, off since `casarray.main.serve`, and pass over what lives until the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


def resident_bytes() -> int:
    """Memory of this process that is resident now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def remove(path: str) -> list[str]:
    """Take away what a gateway that no longer runs left in the kernel; a sentence for each thing.

    Raises `Conflict` while one still runs, `Denied` when a right is missing.
    """
    return asyncio.run(_remove(read_config(path)))


async def _remove(config: Config) -> list[str]:
    said = []
    for array in config.arrays:
        with AddressLock(array.addresses):
            forwarder = KernelForwarder(array.name)
            if await forwarder.observe() is not None:
                said.append(f"array {array.name}: its forwarding table is gone, and with it every client's affinity")
            await forwarder.close(keep=False)
            said += [f"array {array.name}: {taken}" for taken in await asyncio.to_thread(_take_away, array.addresses)]
    with AddressLock(config.gateway.source_addresses):
        said += await asyncio.to_thread(_take_away, config.gateway.source_addresses)
    Resets().remove()
    return said


def _take_away(addresses: Sequence[Address]) -> list[str]:
    said = []
    for address in addresses:
        placed = place(address, "none")
        if placed.ours:
            withdraw(placed)
            said.append(f"{placed.address} is taken from {placed.interface}")
    return said
