"""The event log of this machine: lines with Exchange's event numbers, source casarray, in the journal or syslog.

Whoever reads the log with a program finds ``casarray[PID]: event=14002 ...``; `journalctl -t casarray` shows them.
Monitoring must never be the reason why a roll fails: nothing here raises, and nothing waits.
"""

import contextlib
import logging
import os
import socket
from logging.handlers import SysLogHandler

from casarray.app.kerberos.telling import SOURCE, Event

DEVICE = "/dev/log"
LONGEST = 900  # bytes of a line; syslog takes 1024 everywhere (RFC 3164 4.1)
_DAEMON = SysLogHandler.LOG_DAEMON
_PRIORITIES = {
    Event.STARTED: SysLogHandler.LOG_INFO,
    Event.SUCCEEDED: SysLogHandler.LOG_INFO,
    Event.SUCCEEDED_WITH_WARNINGS: SysLogHandler.LOG_WARNING,
    Event.FAILED: SysLogHandler.LOG_ERR,
}
_LEVELS = {
    SysLogHandler.LOG_INFO: logging.INFO,
    SysLogHandler.LOG_WARNING: logging.WARNING,
    SysLogHandler.LOG_ERR: logging.ERROR,
}


class SystemLog:
    """`casarray.app.kerberos.telling.EventLog` on this machine."""

    def __init__(self, device: str = DEVICE) -> None:
        """``device``: the socket that syslog listens at; without one, Python's own log is written."""
        self._device = device

    def write(self, event: Event, text: str) -> None:
        """A line."""
        priority = _PRIORITIES[event]
        line = " ".join(text.split())  # one event is one line
        logger = logging.getLogger(SOURCE)
        sent = self._sent(f"<{_DAEMON << 3 | priority}>{SOURCE}[{os.getpid()}]: event={event.value} {line}")
        if not sent and logger.hasHandlers():  # without one, Python would write to stderr, where the face speaks
            logger.log(_LEVELS[priority], "event=%d %s", event.value, line)

    def _sent(self, line: str) -> bool:
        data = line.encode("utf-8", "replace")[:LONGEST]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.setblocking(False)
            log.connect(self._device)
            return log.send(data) == len(data)
        return False
