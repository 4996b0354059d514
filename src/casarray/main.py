"""The program `casarray`: brings the command line its world, each piece imported when it is needed."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from casarray.app.operations import RemoteOperations
from casarray.core.forwarding.table import Address
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import DEFAULT_CONFIG, World

if TYPE_CHECKING:
    from casarray.app.stores import DirectoryStore
    from casarray.core.survey import Offer


def main() -> None:
    """Run one command; leaves by SystemExit with its exit code."""
    world = World(
        connect=_connect, run=_run, remove=_remove, survey=_survey, environment=os.environ, open_store=_open_store
    )
    cli(obj=world, prog_name="casarray")


def _connect(path: str) -> RemoteOperations:
    from casarray.adapters.control_client import ControlClient  # noqa: PLC0415 - only what the command needs

    return ControlClient(path)


def _open_store(name: str | None) -> "DirectoryStore":
    """The store of that name; without one, that of the usual configuration, and without that, the embedded one."""
    from casarray.adapters.stores.opening import open_named, open_store  # noqa: PLC0415 - as above
    from casarray.core.config import DirectorySettings, Gateway  # noqa: PLC0415

    gateway, settings = Gateway("gateway"), DirectorySettings()
    if os.path.exists(DEFAULT_CONFIG):
        from casarray.adapters.config_reader import read_config  # noqa: PLC0415 - loads all that reads configurations

        config = read_config(DEFAULT_CONFIG)
        gateway, settings = config.gateway, config.directory
    return open_named(gateway, settings) if name is None else open_store(name, settings, gateway.state)


def _run(path: str, as_json: bool) -> int:
    """Become the gateway; the process stays the same to whoever started it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "casarray.serve", path, *(["--json"] if as_json else [])])


def _remove(path: str) -> Sequence[str]:
    from casarray.run import remove  # noqa: PLC0415 - loads the whole gateway

    return remove(path)


def _survey(servers: Mapping[str, Address]) -> "Sequence[Offer]":
    from casarray.adapters.survey import survey  # noqa: PLC0415 - loads the probes

    return survey(servers)


if __name__ == "__main__":
    main()
