"""Reads the configuration files, the gateway's with what the environment says over it."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from casarray.core.config import Config
from casarray.core.config_file import load_config
from casarray.core.errors import ConfigError

if TYPE_CHECKING:
    from casarray.core.kerberos.agent_config import AgentSettings


def read_config(path: str) -> Config:
    """The configuration in the file. `ConfigError` for everything that is wrong with it, reading it included."""
    text = _text(path, "write one with `casarray init`")
    return load_config(text, path, hostname=socket.gethostname().split(".")[0], environment=os.environ)


def read_agent(path: str) -> "AgentSettings":
    """The agent's configuration. `ConfigError` as above."""
    from casarray.core.kerberos.agent_config import load_agent  # noqa: PLC0415 - no gateway needs it

    text = _text(path, "`casarray agent init` prints one to begin with")
    return load_agent(text, path, hostname=socket.getfqdn())


def _text(path: str, hint: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; {hint}") from error
