"""MLflow's database in a file: made whole or not at all, wherever it lies."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from harness.tracking.marks import SQLITE

READ_BY_URLS = "%?"  # letters of a path that a URL takes for its own
BROKEN = re.compile(
    r"(table|index) \S+ already exists|duplicate column|no such (table|column)|malformed"
    r"|not a database"
)
OUTDATED = "out-of-date database schema"


class TrackerError(ValueError):
    """A tracker that cannot be used."""


def address(file: Path) -> str:
    """Return a URL by which MLflow finds a file.

    A path with letters that a URL would read as its own is named by a link to its folder.
    """
    if any(letter in str(file) for letter in READ_BY_URLS):
        file = _link(file.parent) / file.name
    return f"{SQLITE}{file}"


@cache
def _link(folder: Path) -> Path:
    """Return a link to a folder that lasts as long as this process."""
    place = Path(tempfile.mkdtemp(prefix="detbench-"))
    os.symlink(folder, place / "folder")
    atexit.register(shutil.rmtree, place, ignore_errors=True)  # the link, not what it leads to
    return place / "folder"


def ensure(file: Path, make: Callable[[str], object]) -> None:
    """Make a database unless it is there; whoever is killed meanwhile leaves none behind.

    Args:
        file: where it goes; nobody else may do the same at a time.
        make: makes one at a URL.
    """
    if file.exists() and file.stat().st_size:
        return
    folder = file.with_name(f".{file.name}.making")
    shutil.rmtree(folder, ignore_errors=True)  # of one who was killed
    folder.mkdir()
    made, whole = folder / "made.db", folder / "whole.db"
    make(address(made))
    with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(whole)) as target:
        source.backup(target)  # MLflow has the other one open, and may have more to write to it
    os.replace(whole, file)
    shutil.rmtree(folder, ignore_errors=True)


def remedy(file: Path, error: Exception) -> str | None:
    """Say what is wrong with a database that is damaged or was left half made; None if nothing."""
    found = BROKEN.search(str(error))
    if found is not None:
        wrong = f"half made or damaged ({found.group()}); move it away"
    elif OUTDATED in str(error):
        wrong = (
            f"of another MLflow, or half made; `mlflow db upgrade {address(file)}`, or move it away"
        )
    else:
        return None
    return f"{file}: {wrong}, and `detbench sync all` fills a new one from the records"
