"""The server process that trials fork from, with everything imported that a trial needs."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

PRELOAD = ["harness.trial", "lightning_fabric"]


def warm_up() -> None:
    """Start the imports, unless they were started before, and don't wait for them."""
    multiprocessing.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
