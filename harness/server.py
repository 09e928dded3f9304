"""The server process that trials fork from, with everything imported that a trial needs."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
from multiprocessing import forkserver

PRELOAD = ["harness.trial", "lightning_fabric"]


def warm_up() -> None:
    """Start the imports, unless they were started before, and don't wait for them.

    Threads that wait inside an operator sleep rather than spin, unless the user chose otherwise:
    beside another busy process, spinning makes a training step a hundred times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    multiprocessing.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()


def _stop() -> None:
    """End the server, which looks whether it is still needed only after its imports."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)  # type: ignore[attr-defined]
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


atexit.register(_stop)
