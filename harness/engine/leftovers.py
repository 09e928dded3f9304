"""What lies in a folder of studies and no study needs: found without torch, removed on request.

Records are never among it. Nor is what a study that is under way may need, or what a process holds.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from harness.engine import owner
from harness.engine.owner import Owner
from harness.engine.storage import FILE as FILE_OF_STORAGE
from harness.engine.storage import SECONDS_FOR_A_LOCK
from harness.records import FILE

SHELVES = (".trainings", ".training")  # of all studies, and of one `detbench train`
TOKEN = ".study"  # in the folder of a study that was run there
STORY = "training.json"  # in the folder of a finished training
LOCK = ".lock"  # on the shelf of a `detbench train` that is under way
PARTIAL, EARLIER, REPLACED, UNREADABLE = ".partial-", ".earlier-", ".replaced-", ".unreadable-"
OF_TRIALS = {
    PARTIAL: "trial that was given up",
    REPLACED: "trial that was replaced",
    EARLIER: "trial of other code",
    UNREADABLE: "record that cannot be read",
}
TEMPORARY = re.compile(r"^\.(?P<name>.+\.[a-z]+|study)\.[0-9a-f]{8}$")
SECONDS_ALIVE = 150.0  # without a heartbeat, after which a trial is taken to be over
SECONDS_AT_WORK = 3600.0  # since the last change of a trial whose heartbeats are not at hand
SECONDS_FOR_A_PAGE = 60.0  # that writing one takes at most


class Leftover(NamedTuple):
    """A file or folder that no study needs."""

    path: Path
    kind: str
    bytes: int  # that removing it frees
    age_days: float  # since anything in it was changed


class Found(NamedTuple):
    """What can be removed, and why other things are kept."""

    items: list[Leftover]
    kept: list[str]


def find(out: Path) -> Found:
    """Find what no study needs.

    Args:
        out: folder of the studies.
    """
    idle, kept = [], []
    for folder in _folders(out):
        idle.append(folder) if not _is_at_work(folder) else kept.append(f"{folder}: is under way")
    items = [item for folder in idle for item in _of_study(folder)]
    items += [item for folder in (out, *idle) for item in _unfinished(folder / SHELVES[1])]
    shelf = out / SHELVES[0]
    items += _unfinished(shelf)
    if kept or _is_in_use(shelf):
        kept.append(f"{shelf}: what is under way may need any training")
    elif (needed := _needed(out)) is None:
        kept.append(f"{shelf}: a record cannot be read, and may refer to any training")
    else:
        items += _unneeded(shelf, needed)
    return Found(sorted(items, key=lambda item: -item.bytes), kept)


def remove(item: Leftover) -> str | None:
    """Remove one; return why it could not be, or why it was left after all."""
    with _held(item.path) as free:
        if not free:
            return f"{item.path}: a process has taken it up"
        try:
            shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
    return None


def _folders(out: Path) -> list[Path]:
    return [item for item in sorted(out.glob("[!.]*")) if item.is_dir() and not item.is_symlink()]


def _of_study(study: Path) -> Iterator[Leftover]:
    """Yield what trials left in a study's folder; nothing in a folder that is something else."""
    if not (study / TOKEN).is_file() and _read_any(study) is None:
        return
    for item in sorted(study.iterdir()):
        for prefix, kind in OF_TRIALS.items():
            if item.name.startswith(prefix) and _is_folder(item) and not _only_record(item):
                yield _leftover(item, kind)
    for folder in (study, *(item for item in _folders(study) if (item / FILE).is_file())):
        yield from _temporary(folder)


def _read_any(folder: Path) -> dict[str, Any] | None:
    """Return a record that stands in a study's folder, or in that of one training."""
    files = (folder / FILE, *sorted(folder.glob(f"[!.]*/{FILE}")))
    return next((found for file in files if (found := _read(file)) is not None), None)


def _only_record(folder: Path) -> bool:
    """Say whether a folder holds a record that stands nowhere else, as far as one can tell.

    One that was replaced is known to stand elsewhere once its trial has a record again.
    """
    if _read(folder / FILE) is None:
        return False
    trial = folder.with_name(folder.name.removeprefix(REPLACED).removeprefix(PARTIAL))
    return folder.name.startswith((EARLIER, UNREADABLE)) or not (trial / FILE).is_file()


def _unfinished(shelf: Path) -> Iterator[Leftover]:
    """Yield the trainings of a shelf that somebody was interrupted in, and those moved aside."""
    kinds = {PARTIAL: "training that was given up", EARLIER: "training by other code"}
    for item in sorted(shelf.glob(".*")) if _is_folder(shelf) else []:
        for prefix, kind in kinds.items():
            if item.name.startswith(prefix) and _is_folder(item):
                with _held(item) as free:
                    if free:
                        yield _leftover(item, kind)


def _is_in_use(shelf: Path) -> bool:
    """Say whether a process makes a training on a shelf."""
    for item in shelf.glob(f"{PARTIAL}*"):
        with _held(item) as free:
            if not free:
                return True
    return False


def _unneeded(shelf: Path, needed: Collection[str]) -> Iterator[Leftover]:
    """Yield finished trainings that no record refers to, and what was not written to its end."""
    if _is_folder(shelf):
        yield from _temporary(shelf)
        for item in _folders(shelf):
            if item.name not in needed and (item / STORY).is_file():
                yield _leftover(item, "training that no record refers to")


def _temporary(folder: Path) -> Iterator[Leftover]:
    """Yield files that somebody was killed in writing."""
    for item in sorted(folder.iterdir()):
        found = TEMPORARY.match(item.name)
        if found and item.is_file() and not item.is_symlink():
            page = found["name"].endswith(".html")  # which is written when no trial is under way
            if not page or _age(item) > SECONDS_FOR_A_PAGE:
                yield _leftover(item, "file that was not written to its end")


def _needed(out: Path) -> set[str] | None:
    """Return the trainings that records refer to; None where a record cannot be read."""
    needed = set()
    files = (file for file in out.glob(f"*/*/{FILE}") if UNREADABLE not in file.parent.name)
    for file in files:
        found = _read(file)
        if found is None:
            return None
        training = found.get("details", {}).get("training", {})
        needed.add(str(training.get("training")))
    return needed


def _read(file: Path) -> dict[str, Any] | None:
    """Return a record as it stands in its file; None if it cannot be read."""
    try:
        found = json.loads(file.read_bytes())
        details = found["details"].get("training", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if isinstance(details, dict) else None


def _is_at_work(study: Path) -> bool:
    """Say whether a process may be at work on a study, or on one training."""
    with _locked(study / SHELVES[1] / LOCK) as free:
        if not free:
            return True
    running = _running(study / FILE_OF_STORAGE)
    if running is not None:
        return any(_lives(who, heard) for who, heard in running)
    if not (study / TOKEN).is_file():
        return False  # nobody ever ran it here
    partials = [item for item in study.glob(f"{PARTIAL}*") if _is_folder(item)]
    return any(_age(item) < SECONDS_AT_WORK for item in partials)


def _lives(who: Owner, heard: float) -> bool:
    """Say whether a process may be alive that was heard of so many seconds ago."""
    if owner.is_elsewhere(who):
        return heard < SECONDS_ALIVE
    return not owner.is_dead(who)


def _running(file: Path) -> list[tuple[Owner, float]] | None:
    """Return who runs trials, and the seconds since each was heard of; None if nobody can tell."""
    question = (
        "select value_json, strftime('%s', 'now') - strftime('%s', heartbeat) from trials"
        " join trial_user_attributes using (trial_id) left join trial_heartbeats using (trial_id)"
        " where state = 'RUNNING' and key = 'owner'"
    )
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(file, timeout=SECONDS_FOR_A_LOCK)) as database:
            found = database.execute(question).fetchall()
        return [(Owner(*json.loads(who)), heard or 0.0) for who, heard in found]
    except (sqlite3.Error, ValueError, TypeError):
        return None


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _leftover(path: Path, kind: str) -> Leftover:
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    found = [item.lstat() for item in files if not item.is_symlink()]
    freed = sum(item.st_size for item in found if item.st_nlink == 1)
    return Leftover(path, kind, freed, _age(path) / 86400)


def _age(path: Path) -> float:
    """Return the seconds since anything in a folder was changed."""
    latest = 0.0
    for item in (path, *path.rglob("*")):
        with suppress(OSError):
            latest = max(latest, item.lstat().st_mtime)
    return max(time.time() - latest, 0.0)


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a training, if it is one, and say whether no other process does."""
    if path.parent.name not in SHELVES or not path.is_dir():
        yield True
        return
    name = path.name.removeprefix(PARTIAL).removeprefix(EARLIER)
    with _locked(path.with_name(f".{name}.lock")) as free:
        yield free


@contextmanager
def _locked(file: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does; one that nobody made is free."""
    if not file.exists():
        yield True
        return
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
