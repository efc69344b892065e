"""`python -m swinv2` is the command `swinv2`."""

import sys

from swinv2.cli import main

if __name__ == "__main__":
    sys.exit(main())
