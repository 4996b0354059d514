"""What operators and their programs reach a gateway by: the control socket, the API, and the desk behind both."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

from casarray.adapters.control import ControlServer
from casarray.app.operations import Operations
from casarray.core.config import Config

if TYPE_CHECKING:
    from casarray.faces.api.desk import Desk


class Front:
    """The server, and the desk once somebody has asked for the directory."""

    def __init__(self, operations: Operations, config: Config) -> None:
        """Call ``server.start``; `close` ends both."""
        gateway = config.gateway
        self.server = ControlServer(operations, gateway.control, gateway.metrics, more=self._routes, api=config.api)
        self._config = config
        self._desk: Desk | None = None

    def _routes(self) -> Sequence[BaseRoute]:
        from casarray.adapters.stores.opening import open_named  # noqa: PLC0415 - most gateways are never asked for it
        from casarray.faces.api.desk import Desk  # noqa: PLC0415 - as above
        from casarray.faces.api.routes import api_routes  # noqa: PLC0415 - as above

        self._desk = Desk(partial(open_named, self._config.gateway, self._config.directory))
        return api_routes(self._desk)

    async def close(self) -> None:
        """First who asks, then who answers."""
        await self.server.stop()
        if self._desk is not None:
            await self._desk.close()
