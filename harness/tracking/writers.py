"""Who writes a run: runs that a killed process left open have nobody at work on them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

ABANDONED_AFTER = 24 * 3600.0  # seconds without a word; an epoch takes less
WRITER, SINCE = (
    "detbench.writer",
    "detbench.logging_since",
)  # tags: who writes, its last sign of life


def this() -> str:
    """Name this process among those of all machines."""
    return f"{socket.gethostname()}:{os.getpid()}"


def abandoned(tags: Mapping[str, str]) -> bool:
    """Say whether nobody is at work on an open run of ours."""
    if "detbench.study" not in tags and "detbench.trial" not in tags:
        return False
    host, _, pid = tags.get(WRITER, "").rpartition(":")
    if host == socket.gethostname() and (int(pid) == os.getpid() or not _alive(int(pid))):
        return True
    return time.time() - float(tags.get(SINCE, 0)) > ABANDONED_AFTER


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
