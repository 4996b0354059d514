"""The program `casarray`: brings the command line its world, each piece imported when it is needed."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from casarray.app.operations import RemoteOperations
from casarray.core.forwarding.table import Address
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World

if TYPE_CHECKING:
    from casarray.core.survey import Offer


def main() -> None:
    """Run one command; leaves by SystemExit with its exit code."""
    world = World(connect=_connect, run=_run, remove=_remove, survey=_survey, environment=os.environ)
    cli(obj=world, prog_name="casarray")


def _connect(path: str) -> RemoteOperations:
    from casarray.adapters.control_client import ControlClient  # noqa: PLC0415 - only what the command needs

    return ControlClient(path)


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
