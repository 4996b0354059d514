"""What operators and their programs reach a gateway by: the control socket, the API, and the desk behind both."""

from functools import partial

from casarray.adapters.control import ControlServer
from casarray.adapters.stores.opening import open_named
from casarray.app.operations import Operations
from casarray.core.config import Config
from casarray.faces.api.desk import Desk
from casarray.faces.api.routes import api_routes


def control_server(operations: Operations, config: Config) -> tuple[ControlServer, Desk]:
    """The server, and the desk of its routes, which is to be closed after it has stopped."""
    gateway = config.gateway
    desk = Desk(partial(open_named, gateway, config.directory))
    server = ControlServer(operations, gateway.control, gateway.metrics, routes=api_routes(desk), api=config.api)
    return server, desk
