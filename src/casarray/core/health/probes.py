"""Which conversation tells whether a service of a server lives."""

from dataclasses import dataclass

from casarray.core.config import ProbeKind, Service
from casarray.core.forwarding.table import Address
from casarray.core.health.conversation import Answer, Dial, Steps
from casarray.core.health.greetings import greeting
from casarray.core.health.http import http
from casarray.core.health.rpc import rpc
from casarray.core.profiles import MAPPER_PORT


@dataclass(frozen=True, slots=True)
class Target:
    """One service of one server, as it is probed. It is up when it answers on every one of ``addresses``."""

    server: str
    addresses: tuple[Address, ...]  # of the IP versions that the array has addresses of
    service: Service
    mapper_port: int | None = MAPPER_PORT  # None: it has no endpoint mapper that could be asked
    host: str = ""  # the name asked for in HTTP and TLS: the array's; empty = the server's

    @property
    def key(self) -> tuple[str, str]:
        """By what its results are known: server and service."""
        return self.server, self.service.name


def conversation(target: Target, *, keep: bool = False) -> Steps:
    """The conversation for this target, on one address.

    With ``keep``, one that ends up leaves a connection open that servers let idle: it serves as a tripwire.
    """
    service = target.service
    match service.probe:
        case ProbeKind.NONE:
            return unprobed()
        case ProbeKind.KERBEROS:
            return without_tickets()
        case ProbeKind.RPC:
            return rpc(service, target.mapper_port)
    return nowhere(service.name) if service.port is None else _at(service.port, target, keep)


def _at(port: int, target: Target, keep: bool) -> Steps:
    """The conversation with a service whose port is known."""
    service, host = target.service, target.host or target.server
    match service.probe:
        case ProbeKind.HTTP | ProbeKind.HTTPS:
            tls = service.probe is ProbeKind.HTTPS
            return http(port, service.path, service.status, host, tls=tls, keep=keep)
        case ProbeKind.RPC_HTTP:
            from casarray.core.health.rpc_http import rpc_http  # noqa: PLC0415 - few have one; every start would wait

            return rpc_http(port, host)
        case ProbeKind.TCP:
            return tcp(port)
        case _:
            return greeting(service.probe, port, host, keep=keep)


def tcp(port: int) -> Steps:
    """Up when the connection comes about."""
    yield Dial(port)
    return Answer(True, f"accepts connections on {port}")


def unprobed() -> Steps:
    """Up without a look."""
    yield from ()
    return Answer(True, "is not probed")


def without_tickets() -> Steps:
    """Nobody brings tickets; who does, brings the conversation as well (`casarray.core.kerberos.probe`)."""
    yield from ()
    return Answer(False, "was not probed: the libraries of casarray[kerberos] are missing here", ours=True)


def nowhere(service: str) -> Steps:
    """A dynamic port can be asked for by RPC only."""
    yield from ()
    return Answer(False, f"has no port to probe for {service}: give it a port or the probe rpc", ours=True)
