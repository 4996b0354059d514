"""Autodiscover that answers on 127.0.0.1, for tests: whoever asks by name is led there."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.adapters.api_files import write_pair
from tests.core.directory.example import ORGANISATION

from casarray.adapters.autodiscover_client import AutodiscoverClient
from casarray.adapters.autodiscover_server import AutodiscoverServer, Proofs
from casarray.adapters.clock import SystemClock
from casarray.adapters.net.rpc_http_client import HttpLogon
from casarray.app.autodiscover import Autodiscover
from casarray.core.config import AutodiscoverSettings, Proof
from casarray.core.directory.model import Directory

HOSTS = ("autodiscover.domain.tld", "domain.tld", "autodiscover.other.tld")
URL = "https://autodiscover.domain.tld/autodiscover/autodiscover.xml"
CAS = ORGANISATION.arrays["cas"]
DIRECTORY = ORGANISATION.put(replace(CAS, settings={**CAS.settings, "published": ["mail.domain.tld"]}))


@dataclass
class Site:
    """A running server, and what it answers by."""

    server: AutodiscoverServer
    service: Autodiscover
    folder: Path
    directory: Directory

    @property
    def ca(self) -> str:
        return str(self.folder / "api.pem")

    def client(self, logon: Callable[[str], HttpLogon] | None = None) -> AutodiscoverClient:
        """A client for which `autodiscover.` hosts are this server; the bare domain has no web server."""

        def connect_to(host: str, port: int) -> tuple[str, int]:
            ports = {443: self.server.port, 80: self.server.redirect_port}
            return ("127.0.0.1", ports.get(port, port) if host.startswith("autodiscover.") else 1)

        return AutodiscoverClient(logon, ca=self.ca, connect_to=connect_to)


@asynccontextmanager
async def answering(
    folder: Path,
    directory: Directory = DIRECTORY,
    proofs: Proofs | None = None,
    authentication: tuple[Proof, ...] = (Proof.NONE,),
    redirects: tuple[str, ...] = (),
) -> AsyncIterator[Site]:
    """Both listeners, on ports of their own."""
    write_pair(folder, hosts=HOSTS)
    settings = AutodiscoverSettings(
        listen="127.0.0.1:0",
        certificate=str(folder / "api.pem"),
        key=str(folder / "api.key"),
        redirect_listen="127.0.0.1:0",
        url=URL,
        authentication=authentication,
        redirects=redirects,
    )
    service = Autodiscover(lambda: site.directory, settings, "exchange-2010", SystemClock(), "gw1")
    server = AutodiscoverServer(service, settings, proofs)
    site = Site(server, service, folder, directory)
    await server.start()
    try:
        yield site
    finally:
        await server.stop()
