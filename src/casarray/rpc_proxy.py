"""Puts the RPC proxy together: in the gateway, or by itself with `casarray rpc-proxy run`."""

import asyncio
import logging
import signal
import ssl
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address

from casarray.adapters.api_address import load_certificate, server_context
from casarray.adapters.config_reader import read_config
from casarray.adapters.extras import kerberos_libraries
from casarray.adapters.log import log_to_stderr
from casarray.adapters.net.map_asker import ask_port
from casarray.adapters.net.rpc_http_proxy import Admission, Limits, RpcHttpProxy
from casarray.adapters.systemd import Notifier
from casarray.app.operations import RpcHttpStatus
from casarray.app.rpc_proxy import Leader, RingLeader, ServerFinder
from casarray.core.config import Config, RpcHttpSettings
from casarray.core.errors import CasarrayError, ConfigError
from casarray.core.rpc_http.proxy import Settings

log = logging.getLogger("casarray.rpc-proxy")


class RunningProxy:
    """One RPC proxy, on the running loop."""

    def __init__(self, config: Callable[[], Config], leader: Callable[[str], Leader | None]) -> None:
        """``config`` as it is now; its `[rpc-http]` counts as it is at this moment. Raises what is wrong with it."""
        settings = config().rpc_http
        if not settings.listen:
            raise ConfigError('nothing says where to listen: set listen under [rpc-http], like "10.11.0.5:443"')
        self._settings = settings
        self.proxy = RpcHttpProxy(
            ServerFinder(config, leader, ask_port, time.monotonic),
            settings=Settings(timeout=int(settings.timeout * 1000)),
            limits=Limits(per_client=settings.connections_per_client),
            tls=tls_context(settings),
            admission=_admission(settings.keytab),
        )

    async def start(self) -> None:
        """Listen. Raises why it cannot."""
        host, _, port = self._settings.listen.rpartition(":")
        address = ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
        await self.proxy.start(address, int(port))
        log.info("RPC over HTTP: listening on %s", self._settings.listen)

    def status(self) -> RpcHttpStatus:
        """How it is."""
        return RpcHttpStatus(self._settings.listen, self.proxy.connections, self.proxy.counters())

    async def close(self) -> None:
        """End all of it. Twice is once."""
        await self.proxy.close()


def tls_context(settings: RpcHttpSettings) -> ssl.SSLContext | None:
    """TLS with the certificate, or None without one."""
    if not settings.certificate:
        return None
    context = server_context()
    load_certificate(context, settings.certificate, settings.key, "rpc-http")
    return context


def _admission(keytab: str) -> Admission | None:
    if not keytab:
        return None
    with kerberos_libraries():
        from casarray.adapters.kerberos.http_gate import TicketGate  # noqa: PLC0415 - its library is an extra
    return TicketGate(keytab)


def run(path: str, *, as_json: bool = False) -> int:
    """Serve until SIGTERM or SIGINT. The exit code."""
    log_to_stderr(as_json=as_json)
    try:
        return asyncio.run(_serve(read_config(path)))
    except CasarrayError as error:
        print(f"casarray: {error}", file=sys.stderr)
        return 1


async def _serve(config: Config) -> int:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    if not config.directory.is_file:
        raise ConfigError(
            "`casarray rpc-proxy run` takes arrays from the file alone: with another [directory] store, let the "
            "gateway run the proxy"
        )
    leaders = {array.name: RingLeader(config, array, time.monotonic) for array in config.arrays}
    running = RunningProxy(lambda: config, leaders.get)
    await running.start()
    notifier = Notifier()
    print("ready", flush=True)
    notifier.ready("RPC over HTTP")
    try:
        await notifier.until(over)
        notifier.stopping()
    finally:
        await running.close()
    return 0
