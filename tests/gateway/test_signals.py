"""What the process does when it is told to read its configuration again, and about faults in what it does beside."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from casarray import run
from casarray.core.config import Config
from casarray.core.config import Gateway as GatewayConfig
from casarray.run import Gateway


def gateway() -> Any:  # its parts are looked at one by one
    return Gateway(Config(GatewayConfig("gw1"), (), (), ()), "/nowhere/casarray.toml")


async def test_reloads_that_are_asked_for_meanwhile_become_one_and_a_fault_ends_none_of_the_later_ones() -> None:
    process, begun, go_on = gateway(), 0, asyncio.Event()

    async def reload() -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()
        if begun == 1:
            raise RuntimeError("nobody thought of it")

    process._reload_asked.set()
    task = asyncio.create_task(process._reload_when_asked(SimpleNamespace(reload=reload)))
    await asyncio.sleep(0.01)
    for _ in range(100):
        process._reload_asked.set()
    assert begun == 1
    go_on.set()
    await asyncio.sleep(0.01)
    assert begun == 2
    process._reload_asked.set()
    await asyncio.sleep(0.01)
    assert begun == 3
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_pins_are_renewed_also_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "JANITOR_SECONDS", 0.01)
    process, renewed = gateway(), 0

    async def refresh_pins(_seconds: int) -> int:
        nonlocal renewed
        renewed += 1
        raise RuntimeError("can't start new thread")

    array = SimpleNamespace(name="cas", affinity_timeout=4)
    service = SimpleNamespace(array=array, forwarder=SimpleNamespace(refresh_pins=refresh_pins))
    task = asyncio.create_task(process._janitor(service))
    async with asyncio.timeout(5):
        while renewed < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
