"""The shelf: every training of an output folder once, by the hash of what determines it.

`SHELF/HASH/` holds weights, their config and the story of the training. It is made in
`SHELF/.partial-HASH/`, which survives a process that dies, so that the next one goes on from the
checkpoint in it, and is put in place in one go. Whoever needs a training that is being made waits,
unless the process that makes it shows no sign of life, as one that was stopped: then it is made
beside that one's, from its checkpoint, and what is in place first stays.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import BaseFileLock, FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detectors import weights
from harness.records import files, record

SHELF = ".trainings"
OWN_SHELF = ".training"  # in a trial's folder, for one that shares with nobody
STORY_FILE = "training.json"
CHECKPOINT = "checkpoint"
PARTIAL = ".partial-"
PLACING = ".placing.lock"
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_BEATS, SECONDS_OF_GRACE = 10.0, 120.0


class Story(BaseModel):
    """How the weights beside it came about."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")

    schema_version: Literal[1] = Field(default=record.SCHEMA, alias="schema")
    training: str
    """Hash of what determines the weights."""
    made_by: str
    """The trial that made them, as STUDY/TRIAL."""
    curves: list[dict[str, float]]
    """One row an epoch, as in a record; validated with the knobs of the config beside."""
    seconds: float
    """Wall time of the whole training, validation included."""
    finished: float
    """Seconds since the epoch of Unix."""
    details: dict[str, Any] = {}
    """What training tells of itself: throughput, memory, deviations."""
    environment: dict[str, Any] = {}
    """The machine that it was made on."""


class Stored(NamedTuple):
    """A training that stands on the shelf."""

    folder: Path
    story: Story


class Sizes(NamedTuple):
    """What trainings take of the disk, bytes."""

    finished: int
    unfinished: int  # of those that are under way or were given up, checkpoints included


def find(shelf: Path, training: str) -> Stored | None:
    """Return a training that stands, and is whole."""
    folder = shelf / training
    try:
        text = record.artifact(folder, STORY_FILE).read_bytes()
        story = Story.model_validate_json(text)
    except (OSError, ValidationError, record.RecordError):
        return None
    whole = all((folder / name).is_file() for name in (weights.WEIGHTS_FILE, weights.CONFIG_FILE))
    return Stored(folder, story) if whole else None


def obtain(
    shelf: Path,
    training: str,
    make: Callable[[Path], Story],
    on_wait: Callable[[], None] = lambda: None,
    keep: Collection[str] = (),
) -> Stored:
    """Return a training, which is made if it does not stand.

    Args:
        shelf: of all trainings.
        training: its hash.
        make: called with a folder that nobody else has; saves weights and config there. What an
            earlier owner left in it is still there, and so it is after an exception.
        on_wait: called now and then while another process makes the same training.
        keep: what of its folder stays, beside weights and config, once it is made.

    Raises:
        Exception: whatever `make` raises.
    """
    found = find(shelf, training)
    if found is not None:
        return found
    record.make_folder(shelf)
    place = training
    while found is None:
        lock = _lock(shelf, place)
        if not _wait_for(lock, on_wait):
            place = _beside(shelf, place)
            continue
        try:
            with _alive(Path(lock.lock_file)):
                found = find(shelf, training) or _make(shelf, training, make, place, keep)
        finally:
            lock.release()
    return found


def is_being_made(shelf: Path, training: str) -> bool:
    """Say whether a process is making a training right now."""
    lock = _lock(shelf, training)
    if not Path(lock.lock_file).exists() or find(shelf, training) is not None:
        return False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _wait_for(lock: BaseFileLock, on_wait: Callable[[], None]) -> bool:
    """Take a lock; False once its holder has shown no sign of life for too long."""
    file, seen, since = Path(lock.lock_file), 0, time.monotonic()
    while True:
        try:
            lock.acquire(timeout=SECONDS_BETWEEN_LOOKS)
            return True
        except Timeout:
            on_wait()
        now = file.stat().st_mtime_ns
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > SECONDS_OF_GRACE:
            return False


@contextmanager
def _alive(file: Path) -> Iterator[None]:
    """Show in a lock's file that its holder runs: a process that is stopped holds it, too."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(SECONDS_BETWEEN_BEATS):
            with suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=beat, daemon=True)
    with suppress(OSError):
        os.utime(file)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _beside(shelf: Path, place: str) -> str:
    """Name a place beside that of a process that is stopped, and begin with what it had."""
    training, _, number = place.partition("+")
    beside = f"{training}+{int(number or 1) + 1}"
    if not partial_folder(shelf, beside).exists():
        with suppress(OSError):
            shutil.copytree(partial_folder(shelf, place), partial_folder(shelf, beside))
    return beside


def _lock(shelf: Path, training: str) -> BaseFileLock:
    return FileLock(shelf / f".{training}.lock")  # a flock: the system releases a dead owner's


def discard(shelf: Path, training: str) -> None:
    """Remove one training from a shelf, and the shelf itself if nothing else is on it."""
    shutil.rmtree(shelf / training, ignore_errors=True)
    for lock in (_lock(shelf, training).lock_file, shelf / PLACING):
        Path(lock).unlink(missing_ok=True)
    with suppress(OSError):
        shelf.rmdir()


def _make(
    shelf: Path,
    training: str,
    make: Callable[[Path], Story],
    place: str = "",
    keep: Collection[str] = (),
) -> Stored:
    partial, folder = partial_folder(shelf, place or training), shelf / training
    story = make(files.own_folder(partial))
    for item in partial.iterdir():
        if item.name not in (weights.WEIGHTS_FILE, weights.CONFIG_FILE, *keep):
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    record.write_whole(partial / STORY_FILE, story.model_dump_json(indent=1, by_alias=True) + "\n")
    with FileLock(shelf / PLACING):
        if find(shelf, training) is None:
            shutil.rmtree(folder, ignore_errors=True)  # there if it is damaged
            os.replace(partial, folder)
    shutil.rmtree(partial, ignore_errors=True)  # there if another process was first
    found = find(shelf, training)
    if found is None:
        raise OSError(f"{folder}: the training that was put there is not whole")
    return found


def partial_folder(shelf: Path, training: str) -> Path:
    """Return where a training is made."""
    return shelf / f"{PARTIAL}{training}"


def share(stored: Stored, folder: Path) -> None:
    """Put a training's weights into a trial's folder, without a copy where the disk can do it."""
    link(stored.folder / weights.WEIGHTS_FILE, folder / weights.WEIGHTS_FILE)


def link(source: Path, target: Path) -> None:
    """Make a file appear a second time; where it cannot be linked it is copied."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sizes(shelf: Path) -> Sizes:
    """Add up what lies on the shelf."""
    finished = unfinished = 0
    for folder in shelf.glob("*"):
        if folder.is_dir():
            held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            if folder.name.startswith(PARTIAL):
                unfinished += held
            else:
                finished += held
    return Sizes(finished, unfinished)
