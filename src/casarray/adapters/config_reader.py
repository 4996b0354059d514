"""Reads the configuration file, with what the environment says over it."""

import os
import socket
from pathlib import Path

from casarray.core.config import Config
from casarray.core.config_file import load_config
from casarray.core.errors import ConfigError


def read_config(path: str) -> Config:
    """The configuration in the file. `ConfigError` for everything that is wrong with it, reading it included."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; write one with `casarray init`") from error
    return load_config(text, path, hostname=socket.gethostname().split(".")[0], environment=os.environ)
