"""The directory as a gateway knew it last, in a file: for a start while Active Directory cannot be reached."""

import json
import logging
import os
from pathlib import Path

from casarray.core.directory.changes import as_json, of_json
from casarray.core.directory.model import Directory, Kind
from casarray.core.errors import CasarrayError

log = logging.getLogger(__name__)

FILE_NAME = "last-known.json"
SERVED = (Kind.SITE, Kind.SUBNET, Kind.SERVER, Kind.ARRAY)  # what a gateway serves; the rest may be large


class LastKnownFile:
    """`casarray.app.directory_feed.LastKnown` below a directory; replaced as a whole or not at all."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / FILE_NAME

    def save(self, directory: Directory) -> None:
        data = {kind: [as_json(thing) for thing in directory.of(kind).values()] for kind in SERVED}
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            log.warning("the directory could not be kept in %s: %s", self._path, error)

    def load(self) -> Directory | None:
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            return Directory().put(*(of_json(kind, thing) for kind in SERVED for thing in data[kind]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, CasarrayError) as error:
            log.warning("%s cannot be read: %s", self._path, error)
            return None
