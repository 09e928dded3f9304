"""What is remembered beside a record: which trackers hold it."""

from __future__ import annotations

import json
from pathlib import Path

from harness.config.secrets import masked
from harness.records import write_whole

LOGGED_FILE = "mlflow.json"  # beside a record: tracker and the run that holds it; absent before
SQLITE = "sqlite:///"


def logged(folder: Path) -> dict[str, str]:
    """Return the trackers that hold a trial, and the id of its run in each."""
    if not (folder / LOGGED_FILE).is_file():
        return {}
    try:
        found: dict[str, str] = json.loads((folder / LOGGED_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_logged(folder: Path, tracker: str) -> bool:
    """Say whether a tracker holds a trial's record, as far as is known without asking it."""
    return absolute(tracker) in logged(folder)


def remember(folder: Path, tracker: str, run: str) -> None:
    """Write down that a run of a tracker holds a trial's record."""
    if not folder.is_dir():  # the record lies in a folder that has not the trial's name
        return
    known = {masked(place): each for place, each in logged(folder).items()}
    known[absolute(tracker)] = run
    write_whole(folder / LOGGED_FILE, json.dumps(known, indent=1) + "\n")


def sqlite_file(tracker: str) -> Path | None:
    """Return the file of a tracker that is a database here; None for a server.

    What follows `sqlite:///` is a path as it is, whatever letters are in it.
    """
    return Path(tracker.removeprefix(SQLITE)).resolve() if tracker.startswith(SQLITE) else None


def absolute(tracker: str) -> str:
    """Return a name of the tracker that holds in any folder, without passwords."""
    file = sqlite_file(tracker)
    return f"{SQLITE}{file}" if file else masked(tracker)
