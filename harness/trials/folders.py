"""Records that stand in a study's folder, claims to trials, and the remains of attempts.

Whoever runs a trial holds a claim to it: a token in a file of the study's folder. It is looked at
and changed under the folder's lock, and so is a trial's folder put in its place. A process that
was stopped for long, and whose trial was given to another meanwhile, finds another's token there
and leaves the other's result alone; what it had gathered lies in a folder of its own attempt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from filelock import BaseFileLock, FileLock

from harness.records import Record, RecordError, latencies, record, snapshot

LOCK = ".lock"
CLAIM, PARTIAL, REPLACED, UNREADABLE = ".claim-", ".partial-", ".replaced-", ".unreadable-"
EARLIER = ".earlier-"
OTHER_CODE = "other_code"
"""In the details of a record of other code that stands in for a trial: the files that changed."""


class ClaimLost(Exception):
    """A trial was given to another process meanwhile, whose result it is."""


def read(folder: Path, trial: str) -> Record | None:
    """Return the record of a trial, of whatever state.

    Args:
        folder: of the study.
        trial: its hash.
    """
    try:
        return record.read(folder / trial)
    except (FileNotFoundError, RecordError):
        return None


def read_all(folder: Path) -> dict[str, Record]:
    """Return the records of a study's folder that can be read, by trial, as they were put there."""
    found = ((trial, read(folder, trial)) for trial in names(folder))
    return {trial: item for trial, item in found if item is not None}


def standing(folder: Path, trial: str) -> Record | None:
    """Return the record that makes running a trial needless.

    Args:
        folder: of the study.
        trial: its hash.
    """
    found = read(folder, trial)
    return found if found is not None and found.state != "failed" else None


def can_be_reference(result: Record) -> bool:
    """Say whether latencies can be compared with a trial's; not with one that is only rough."""
    ours = OTHER_CODE not in result.details  # else its weights may not even fit
    whole = result.state == "done" and "weights" in result.artifacts
    return ours and whole and latencies.rough(result) is None


def first_done(folder: Path) -> Path | None:
    """Return the folder of the trial of a study that was done first and can be timed again.

    Trials of earlier versions of the study's file are none of the study.
    """
    kept = snapshot.load(folder)
    trials = (trial for trial in names(folder) if kept is None or trial in kept.trials)
    found = (standing(folder, trial) for trial in trials)
    first = next((item for item in found if item is not None and can_be_reference(item)), None)
    return folder / first.trial if first else None


def names(folder: Path) -> list[str]:
    """Return the trials that have a folder, in the order they were put there."""
    files = (item for item in folder.glob(f"*/{record.FILE}") if item.parent.name[0] != ".")
    return [item.parent.name for item in sorted(files, key=lambda item: item.stat().st_mtime)]


def set_aside(folder: Path, trial: str) -> str | None:
    """Move a record away that cannot be read, so that it is neither trusted nor overwritten.

    Returns:
        What was wrong with it; None if nothing was.
    """
    try:
        record.read(folder / trial)
    except FileNotFoundError:
        return None
    except (RecordError, UnicodeError) as error:
        aside = record.unused(folder / f"{UNREADABLE}{trial}")
        os.replace(folder / trial, aside)
        reason = str(error).partition("; remove")[0]
        return f"{reason}; it was moved to {aside}, and the trial is run anew"
    return None


def make_way(folder: Path, trial: str) -> None:
    """Remove what a trial left that did not finish; keep aside what did."""
    found = standing(folder, trial)
    if found is not None and found.state == "done":
        os.replace(folder / trial, record.unused(folder / f"{EARLIER}{trial}"))
    shutil.rmtree(folder / trial, ignore_errors=True)


def lock(folder: Path) -> BaseFileLock:
    """Return the lock under which claims are made, given up and looked at."""
    return FileLock(folder / LOCK)


def claim(folder: Path, trial: str, token: str) -> None:
    """Give a trial to the holder of a token, whoever had it before."""
    (folder / f"{CLAIM}{trial}").write_text(token, encoding="utf-8")


def is_claimed(folder: Path, trial: str, token: str) -> bool:
    """Say whether a trial is still the token's; without a token nobody else can have it."""
    if not token:
        return True
    try:
        return (folder / f"{CLAIM}{trial}").read_text(encoding="utf-8") == token
    except FileNotFoundError:
        return False


def give_up(folder: Path, trial: str, token: str) -> None:
    """Take a claim back that is still the token's."""
    if token and is_claimed(folder, trial, token):
        (folder / f"{CLAIM}{trial}").unlink(missing_ok=True)


def partial_folder(folder: Path, trial: str, token: str = "") -> Path:
    """Return where the files of one attempt at a trial gather until it is over."""
    return folder / f"{PARTIAL}{_attempt(trial, token)}"


def place(partial: Path, folder: Path, token: str = "") -> None:
    """Put a finished trial's folder in its place, in one go.

    Raises:
        ClaimLost: the trial was given to another process meanwhile; nothing was changed.
    """
    study, trial = folder.parent, folder.name
    old = folder.with_name(f"{REPLACED}{trial}")
    with lock(study):
        if not is_claimed(study, trial, token):
            raise ClaimLost(f"{folder}: another process has taken this trial over")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path, busy: Collection[tuple[str | None, str]]) -> None:
    """Remove what trials left behind that nobody runs any more.

    Args:
        folder: of the study.
        busy: trials that someone runs, each with the token of its claim.
    """
    trials = {trial for trial, _ in busy if trial}
    kept = {f"{prefix}{trial}" for prefix in (CLAIM, REPLACED) for trial in trials}
    kept |= {f"{PARTIAL}{_attempt(trial, token)}" for trial, token in busy if trial}
    for item in folder.iterdir():
        if item.name.startswith((CLAIM, PARTIAL, REPLACED)) and item.name not in kept:
            shutil.rmtree(item, ignore_errors=True) if item.is_dir() else item.unlink()


def _attempt(trial: str, token: str) -> str:
    return f"{trial}-{token}" if token else trial
