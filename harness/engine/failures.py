"""Why trials fail, and how often each cause is worth another attempt."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from harness.records import Failure

RETRIES = {"crash": 1, "lost_worker": 3}
"""Further attempts by cause, unless the study's `retries` says otherwise; others get none."""

STOPPED = "stopped"
"""Cause of a job that was ended on request: no failure, its trial is given back."""


def retries(given: Mapping[str, int], cause: str) -> int:
    """Return how many further attempts a cause is worth."""
    return given.get(cause, RETRIES.get(cause, 0))


def no_room(failure: Failure) -> bool:
    """Say whether the disk is full: then no other trial would fare better."""
    return any(os.strerror(code) in failure.message for code in (errno.ENOSPC, errno.EDQUOT))
