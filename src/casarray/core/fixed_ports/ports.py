"""The two services whose ports can be fixed, the ports they are given, and the ports that Windows gives out.

Exchange 2010 has two RPC services that Outlook reaches over TCP: RPC Client Access (EMSMDB) and Address Book (NSPI and
RFR on one port). By themselves both take a dynamic port at every start.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import Conflict

FIRST_PORT: Final = 1024  # below are the ports of well-known services
LAST_PORT: Final = 65535


class RpcService(StrEnum):
    """A service with a port to fix, under the name that the profile exchange-2010 gives it."""

    RPC = "rpc"
    AB = "ab"

    @property
    def windows_name(self) -> str:
        """As Windows calls the service: for ``Restart-Service`` and in the registry."""
        return {RpcService.RPC: "MSExchangeRPC", RpcService.AB: "MSExchangeAB"}[self]

    @property
    def interfaces(self) -> tuple[Syntax, ...]:
        """What it registers with the endpoint mapper."""
        return {RpcService.RPC: (EMSMDB,), RpcService.AB: (NSPI, RFR)}[self]


@dataclass(frozen=True, slots=True)
class FixedPorts:
    """A port for each service. None: the array does not have the service, or leaves its port dynamic."""

    rpc: int | None = 5001
    ab: int | None = 5000

    def of(self, service: RpcService) -> int | None:
        """The port of one of them."""
        return self.rpc if service is RpcService.RPC else self.ab

    def __iter__(self) -> Iterator[tuple[RpcService, int]]:
        """Those that are fixed."""
        for service in RpcService:
            if (port := self.of(service)) is not None:
                yield service, port

    def __str__(self) -> str:
        return ", ".join(f"{service} {self.of(service) or 'dynamic'}" for service in RpcService)


#: Below both ranges that Windows and Exchange give out dynamically, and nobody else's.
DEFAULT_PORTS: Final = FixedPorts()


def check_ports(ports: FixedPorts) -> None:
    """`Conflict` for ports that could not work, whatever the servers say."""
    for service, port in ports:
        if not FIRST_PORT <= port <= LAST_PORT:
            raise Conflict(
                f"{port} cannot be the port of {service.windows_name}: choose one from {FIRST_PORT} to {LAST_PORT}, "
                f"best {DEFAULT_PORTS.of(service)}"
            )
    if ports.rpc is not None and ports.rpc == ports.ab:
        raise Conflict(
            f"both services cannot have port {ports.rpc}: they are two processes; choose two, like "
            f"{DEFAULT_PORTS.rpc} and {DEFAULT_PORTS.ab}"
        )


@dataclass(frozen=True, slots=True)
class DynamicRange:
    """The ports a Windows host gives to whoever asks for any: a start and a *count*, as netsh prints it."""

    start: int
    count: int

    @property
    def last(self) -> int:
        """The last port in it."""
        return self.start + self.count - 1

    def __contains__(self, port: int) -> bool:
        return self.start <= port <= self.last

    def __str__(self) -> str:
        return f"{self.start} to {self.last}"


WINDOWS_RANGE: Final = DynamicRange(49152, 16384)  # since Windows Server 2008
EXCHANGE_RANGE: Final = DynamicRange(6005, 59530)  # what the setup of the client-access role makes of it

#: Microsoft's Set-StaticPorts.ps1 takes ports from here: it read the count 59530 as the last dynamic port.
MISREAD_RANGE: Final = DynamicRange(59531, 1024)
