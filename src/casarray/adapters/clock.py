"""The host's clocks."""

import time


class SystemClock:
    """`casarray.app.ports.Clock` as the host has it."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
