"""Places where a test lets the process die, as a power cut would: `COLONNADE_DIE_AT=stored:3` at the third time.

note        a slice's range is written down, nothing is sent
stored      the store has the slice, nothing says so yet
done        the cursor has moved
append      an append is on disk, nobody is answered
publish     some files of a stream are visible, others not
upload      a file is whole in a bucket, and not visible under its name
checkpoint  a full segment is about to be folded into one file
drop        a segment is about to be removed
"""

from __future__ import annotations

import os
import signal

_PLACE, _, _TIMES = os.environ.get("COLONNADE_DIE_AT", "").partition(":")
_left = int(_TIMES or 1)


def reached(place: str) -> None:
    """Dies here if a test has said so; else nothing."""
    global _left
    if place == _PLACE:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
