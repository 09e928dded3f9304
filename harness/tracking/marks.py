"""What is remembered beside a record: which trackers hold it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.config.secrets import masked
from harness.records import FILE, RecordError, latencies, record, write_whole

LOGGED_FILE = "mlflow.json"  # beside a record: tracker and the run that holds it; absent before
SENT = "sent"  # beside those: by tracker, the digest of the record that was sent
SQLITE = "sqlite:///"


def logged(folder: Path) -> dict[str, str]:
    """Return the trackers that hold a trial, and the id of its run in each."""
    return {tracker: run for tracker, run in _read(folder).items() if tracker != SENT}


def is_logged(folder: Path, tracker: str) -> bool:
    """Say whether a tracker holds a trial's record as it is, as far as is known without asking."""
    name, known = absolute(tracker), _read(folder)
    sent = known.get(SENT, {}).get(name)
    return name in known and is_current(folder, sent)


def is_current(folder: Path, sent: str | None) -> bool:
    """Say whether a trial's record is as it was sent.

    Args:
        folder: the trial's.
        sent: digest of what was; None from before digests were kept.
    """
    if sent is not None:
        return sent == written(folder)
    try:
        return latencies.session(record.read(folder)) is None  # what changes a record since then
    except (OSError, RecordError):
        return True


def remember(folder: Path, tracker: str, run: str, sent: str | None = None) -> None:
    """Write down that a run of a tracker holds a trial's record.

    Args:
        folder: the trial's.
        tracker: its URI.
        run: id of the run.
        sent: digest of the record that it holds, from `written`; None for the one that is there.
    """
    if not folder.is_dir():  # the record lies in a folder that has not the trial's name
        return
    name = absolute(tracker)
    before = _read(folder).get(SENT, {})
    known: dict[str, Any] = {masked(place, place): each for place, each in logged(folder).items()}
    digests = {masked(place, place): each for place, each in before.items()}
    digests[name] = written(folder) if sent is None else sent
    known |= {name: run, SENT: digests}
    write_whole(folder / LOGGED_FILE, json.dumps(known, indent=1) + "\n")


def is_told(folder: Path, tracker: str, answer: str) -> bool:
    """Say whether a tracker holds this answer of a study, as far as is known without asking.

    Args:
        folder: the study's.
        tracker: its URI.
        answer: the text.
    """
    return bool(_read(folder).get(SENT, {}).get(absolute(tracker)) == digest(answer))


def digest(answer: str) -> str:
    """Return what is remembered of an answer that was sent."""
    return hashlib.sha256(answer.encode()).hexdigest()[:16]


def written(folder: Path) -> str:
    """Return the digest of a trial's record, which is another once it was timed together."""
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return ""
    return hashlib.sha256(content).hexdigest()[:16]


def _read(folder: Path) -> dict[str, Any]:
    if not (folder / LOGGED_FILE).is_file():
        return {}
    try:
        found: Any = json.loads((folder / LOGGED_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not isinstance(found.get(SENT, {}), dict):
        return {}
    return found


def sqlite_file(tracker: str) -> Path | None:
    """Return the file of a tracker that is a database here; None for a server.

    What follows `sqlite:///` is a path as it is, whatever letters are in it.
    """
    return Path(tracker.removeprefix(SQLITE)).resolve() if tracker.startswith(SQLITE) else None


def absolute(tracker: str) -> str:
    """Return a name of the tracker that holds in any folder, without passwords."""
    file = sqlite_file(tracker)
    return f"{SQLITE}{file}" if file else masked(tracker, tracker)
