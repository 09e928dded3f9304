"""How long tests wait for what has to happen, before they call it a hang."""

import time
from collections.abc import Callable

HANG = 400.0
"""Seconds. No test passes or fails by how quick a machine is: this is far above what a machine
needs that is busy with other things, and below the limit of a whole test, whose message says less.
"""


def wait_for(happened: Callable[[], object], what: str) -> None:
    """Return once something has happened; fail if it never does."""
    until = time.monotonic() + HANG
    while not happened():
        assert time.monotonic() < until, f"{what} did not happen within {HANG:g} seconds"
        time.sleep(0.01)
