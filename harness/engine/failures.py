"""Why trials fail, and how often each cause is worth another attempt."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from harness.records import Failure

RETRIES = {"crash": 1, "lost_worker": 3}
"""Further attempts by cause, unless the study's `retries` says otherwise; others get none."""

STOPPED = "stopped"
"""Cause of a job that was ended on request: no failure, its trial is given back."""

OTHER_CODE = "other_code"
"""Cause of a job that was refused, since its code has changed: so it would be with all others."""


def retries(given: Mapping[str, int], cause: str) -> int:
    """Return how many further attempts a cause is worth."""
    return given.get(cause, RETRIES.get(cause, 0))


def ends_all(failure: Failure, folder: Path) -> str | None:
    """Return why no other trial of a folder would fare better; None if one may."""
    if failure.cause == OTHER_CODE:
        return failure.message
    if any(os.strerror(code) in failure.message for code in (errno.ENOSPC, errno.EDQUOT)):
        return f"{folder}: {failure.message}; free some, and run again"
    return None
