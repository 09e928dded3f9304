"""Records that stand in a study's folder, and the remains of those that don't."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from harness.records import Record, RecordError, latencies, record
from harness.study.specification import TrialSpec

PARTIAL, REPLACED, UNREADABLE = ".partial-", ".replaced-", ".unreadable-"


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
    whole = result.state == "done" and "weights" in result.artifacts
    return whole and latencies.rough(result) is None


def first_done(folder: Path) -> Path | None:
    """Return the folder of the trial of a study that was done first and can be timed again."""
    found = (standing(folder, trial) for trial in names(folder))
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
        aside = _unused(folder / f"{UNREADABLE}{trial}")
        os.replace(folder / trial, aside)
        reason = str(error).partition("; remove")[0]
        return f"{reason}; it was moved to {aside}, and the trial is run anew"
    return None


def partial_folder(folder: Path, spec: TrialSpec) -> Path:
    """Return where a trial's files gather until it is over."""
    return folder / f"{PARTIAL}{spec.trial}"


def place(partial: Path, folder: Path) -> None:
    """Put a finished trial's folder in its place, in one go."""
    old = folder.with_name(f"{REPLACED}{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path, busy: Collection[str | None]) -> None:
    """Remove what trials left behind that nobody runs any more.

    Args:
        folder: of the study.
        busy: trials that someone runs.
    """
    for item in folder.iterdir():
        for prefix in (PARTIAL, REPLACED):
            if item.name.startswith(prefix) and item.name.removeprefix(prefix) not in busy:
                shutil.rmtree(item, ignore_errors=True)


def _unused(path: Path) -> Path:
    number = 1
    while path.with_name(f"{path.name}-{number}").exists():
        number += 1
    return path.with_name(f"{path.name}-{number}")
