"""Tells systemd how the service is (sd_notify): datagrams of `KEY=value` lines to the socket in $NOTIFY_SOCKET.

Without systemd, every call does nothing. A service must not suffer from its supervisor: nothing here raises or waits.
Protocol: sd_notify(3), sd_watchdog_enabled(3).
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """One service's way to tell its supervisor. Each call returns whether the message was handed over."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read where to send to, and whether a watchdog waits, from ``environment``."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog_seconds(environment)
        """Within this time `watchdog` must be called, best at half of it; None if nobody waits for it."""

    def ready(self, status: str = "") -> bool:
        """The service forwards (after the start, and again after a reload)."""
        return self._tell("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._tell(*_status(text))

    def reloading(self) -> bool:
        """A new configuration is being read; `ready` ends it."""
        # Type=notify-reload tells this reload from earlier ones by the time, on the clock systemd looks at too.
        return self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> bool:
        """The service has begun to stop."""
        return self._tell("STOPPING=1")

    def watchdog(self) -> bool:
        """The service is alive."""
        return self._tell("WATCHDOG=1")

    async def until(self, over: asyncio.Event) -> None:
        """Wait for that; meanwhile a watchdog is told that the loop turns."""
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self.watchdog_seconds / 2 if self.watchdog_seconds else None)
            self.watchdog()

    def _tell(self, *lines: str) -> bool:
        # A leading @ stands for the 0 byte of an abstract name; vsock addresses are for virtual machines, not services.
        if not self._address.startswith(("/", "@")):
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.setblocking(False)
                link.connect(address)
                link.send("\n".join(lines).encode())
        except OSError:
            return False
        return True


def _status(text: str) -> tuple[str, ...]:
    # A line break would begin another assignment.
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
        meant_for = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and meant_for == os.getpid() else None
