"""`python -m colonnade`."""

import sys

from colonnade.daemon.command import main

if __name__ == "__main__":
    sys.exit(main())
