"""An event loop whose clock jumps to the next timer instead of waiting for it: a minute passes in no time."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Where the loop would sleep, let its clock run on."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop, and a `casarray.app.ports.Clock`, in virtual time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def monotonic(self) -> float:
        return self._virtual.now

    def wall(self) -> float:
        return self._virtual.now


def in_virtual_time(body: Callable[[VirtualLoop], Awaitable[T]]) -> T:
    """Run a coroutine on such a loop."""

    async def run() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return await body(loop)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())
