"""Blocking work in a thread that is finished before anything else happens."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_its_end(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """As `asyncio.to_thread`, but whoever is cancelled meanwhile goes no sooner than the work is done.

    A thread cannot be stopped. Without this, what it works on would be taken for free, and what it makes for not made.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait((doing,))
        if not doing.cancelled():
            doing.exception()  # nobody is left to hear of it
        raise
