"""Folders that commands write into."""

from __future__ import annotations

import os
from pathlib import Path

from harness.study import StudyError


def refuse_taken(out: Path, command: str) -> None:
    """Refuse a folder that holds anything, so that nothing is written over.

    Args:
        out: named by the user.
        command: that would write into it.

    Raises:
        StudyError: it holds something, or is a file.
    """
    try:
        is_file = os.path.lexists(out) and not out.is_dir()
        is_taken = out.is_dir() and next(out.iterdir(), None) is not None
    except OSError as error:
        raise StudyError(
            f"{out}: cannot be read: {error.strerror}; name a new folder with --out"
        ) from error
    if is_file:
        raise StudyError(f"{out}: is a file; name a new folder with --out")
    if is_taken:
        raise StudyError(
            f"{out}: holds something already, and {command} writes over nothing; name a new folder"
            f" with --out, such as {out / command}"
        )
