"""The program with small segments, and little in memory, so that seconds of a test are days of a daemon."""

from __future__ import annotations

import sys

from colonnade.daemon.command import main
from colonnade.exporters.parquet import bucket
from colonnade.extensions.file_storage import store

store.SEGMENT_BYTES = 64 << 10
store.IDLE_SEGMENT_BYTES = 16 << 10
store.MEMORY_BYTES = 256 << 10
store.FOLD_AFTER_S = 0.05
store.TIDY_EVERY_S = 0.2
# Files of the rounds are up to 46 kB.
bucket.WHOLE_MAX_BYTES = 40 << 10

if __name__ == "__main__":
    sys.exit(main())
