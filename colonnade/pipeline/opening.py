"""A store that is not there at start is waited for: it is no reason to exit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from colonnade.pipeline.component import Host, Status
from colonnade.pipeline.errors import Retryable

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0


async def wait_for_store(host: Host, ready: Callable[[], Awaitable[object]]) -> None:
    """Returns once `ready` does, so that tables are there before the first row; its trouble (Retryable) is told once,
    not each time."""
    wait_s, told = FIRST_WAIT_S, ""
    while True:
        try:
            await ready()
        except Retryable as error:
            if error.message != told:
                told = error.message
                host.logger.warning("exporter %s: waiting for the store: %s", host.id, told)
                host.report(Status("recoverable_error", told))
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        else:
            break
    if told:
        host.logger.info("exporter %s: the store answers", host.id)
    host.report(Status("ok"))
