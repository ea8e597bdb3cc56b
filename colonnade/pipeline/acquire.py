"""Acquiring on a thread what a component holds: a start that is cut off leaves nothing open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from colonnade.pipeline.component import Host

T = TypeVar("T")


async def acquire(host: Host, take: Callable[..., T], *args: Any, undo: Callable[[T], object]) -> T:
    """What `take(*args)` gives. Where the caller is cancelled meanwhile, the thread is waited for and `undo` takes it
    back, because a thread can not be called off. Raises what `take` raises."""
    taking = asyncio.ensure_future(host.run(take, *args))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        await asyncio.gather(taking, return_exceptions=True)
        if not taking.cancelled() and taking.exception() is None:
            await host.run(undo, taking.result())
        raise
