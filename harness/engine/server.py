"""The server process that trials fork from, with everything imported that a trial needs."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import forkserver

from harness.config.yaml_source import StudyError

PRELOAD = [
    *("harness.engine.worker", "lightning_fabric"),
    *(
        "torchvision.ops",
        "scipy.optimize",
        "torch.utils.flop_counter",
    ),  # slow, and needed later
]


def warm_up() -> None:
    """Start the imports, unless they were started before, and don't wait for them.

    Raises:
        StudyError: the platform has no such server.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise StudyError("trials need processes as Linux and macOS have them; on Windows, use WSL")
    multiprocessing.set_forkserver_preload(PRELOAD)
    with _interrupts_ignored():
        forkserver.ensure_running()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let what is started inside ignore Ctrl-C, which else breaks its imports off loudly."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop() -> None:
    """End the server, which looks whether it is still needed only after its imports."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


atexit.register(_stop)
