"""Dead letters that `colonnade dead-letter retry` gave back: the sender that parked them tries them again.

A file is sent as a slice of its own, under a name that only it has, and in doubt: after a crash between the store's
answer and the end of the file it is sent once more, which changes nothing where the store knows names or can be asked.
What is refused again is parked again, with the reason of today; the file goes once everything in it is settled.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from colonnade.pipeline.component import Slice
from colonnade.pipeline.dead_letter import UNREADABLE, load
from colonnade.pipeline.disk import sync

if TYPE_CHECKING:
    from colonnade.pipeline.sender import Sender

LOOK_AGAIN_S = 2.0


async def retry_dead_letters(sender: Sender, stopping: asyncio.Event) -> None:
    """Looks for files that were given back until the sender stops. Raises LeftInLog when it stops amid one."""
    told = ""
    while not stopping.is_set():
        try:
            for path in await sender.host.run(sender.letters.given_back, sender.log.pipeline):
                if stopping.is_set():
                    return
                await _retry(sender, path)
        except OSError as fault:
            if str(fault) != told:
                told = str(fault)
                sender.host.logger.error("exporter %s: dead letters can not be tried again: %s", sender.name, told)
        try:
            async with asyncio.timeout(LOOK_AGAIN_S):
                await stopping.wait()
        except TimeoutError:
            pass


async def _retry(sender: Sender, path: Path) -> None:
    """One file, until each of its rows is stored or parked again."""
    logger = sender.host.logger
    try:
        part = _named(await sender.host.run(load, path), path)
    except FileNotFoundError:
        return
    except UNREADABLE as error:
        await sender.host.run(path.rename, path.with_suffix(".unreadable"))
        what = (sender.name, path, type(error).__name__)
        logger.error("exporter %s: dead letters in %s can not be read (%s): set aside as .unreadable", *what)
        return
    rows = part.rows
    error = await sender.see_through(lambda: sender.send_alone(part), part)
    good = rows if error is None else await sender.settle_refused(part, error, sender.send_alone)
    sender.count_again(rows)
    if good:
        sender.count_stored(good, part.nbytes * good // rows)
    await sender.host.run(_end, path)
    what = (sender.name, good, rows, sender.log.pipeline, path.name)
    logger.info("exporter %s: %d of %d dead letters of pipeline %s are stored now (%s)", *what)


def _named(part: Slice, path: Path) -> Slice:
    """As no other slice is called: files of one range, parked for several reasons, are different rows."""
    digest = hashlib.blake2b(path.name.encode(), digest_size=8).hexdigest()
    return replace(part, log_id=f"{part.log_id.partition('~')[0]}~{digest}")


def _end(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync(path.parent)
