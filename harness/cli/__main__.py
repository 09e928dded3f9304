"""`python -m harness.cli`, as torchrun starts the command."""

import sys

from harness.cli import main

if __name__ == "__main__":
    sys.exit(main())
