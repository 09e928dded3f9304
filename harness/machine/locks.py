"""One measurement at a time on a device: what trains there waits at its next step.

Locks are `flock`s on files of the user's own, so a process that dies lets go of what it held.
A lock is a pair of files. Whoever comes passes the turnstile first, and a measurement holds it
while it waits: those that work finish their step, none begins another, and the wait is short.

The files lie in a folder that its owner alone can write, so nobody else can hold them. So other
users of the same machine are not kept off a device either; what they do shows in the conditions
beside a latency. Users who trust each other name one folder in $DETBENCH_LOCKS for all of them:
what others hold there is waited for, but not for ever.
"""

from __future__ import annotations

import getpass
import os
import re
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from harness.records.progress import OnProgress, Progress

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

PAUSES_WORK = fcntl is not None
"""Whether `measuring` keeps `working` out; without `fcntl` it keeps out other measurements only."""

SHARED = "DETBENCH_LOCKS"
RUNTIME = "XDG_RUNTIME_DIR"
SECONDS_FOR_OTHERS = 900.0  # at a lock that another user may hold; a measurement takes minutes

_held: dict[tuple[int, str], str] = {}  # (thread, device): measuring | working
_descriptors: set[int] = set()
_told: set[str] = set()
_passed: set[str] = set()  # devices whose locks were not had in time


@contextmanager
def measuring(device: str) -> Iterator[float]:
    """Keep everyone else off a device, once the steps that run there are finished.

    Args:
        device: as torch spells it, e.g. `cpu` or `cuda:0`.

    Yields:
        Seconds waited.

    Raises:
        RuntimeError: this thread is inside `working` on the device and would wait for itself.
    """
    key = _key(device)
    if _held.get(key) == "working":
        raise RuntimeError(f"measuring({device!r}) inside working({device!r}) waits for itself")
    if key in _held:
        yield 0.0
        return
    start = time.monotonic()
    with _exclusive(key[1]):
        _held[key] = "measuring"
        try:
            yield time.monotonic() - start
        finally:
            del _held[key]


@contextmanager
def working(device: str) -> Iterator[None]:
    """Share a device with others that work, but not with a measurement; hold it briefly.

    Args:
        device: as torch spells it, e.g. `cpu` or `cuda:0`.
    """
    key = _key(device)
    if key in _held or not PAUSES_WORK:
        yield
        return
    with _flock(key[1], fcntl.LOCK_SH):
        _held[key] = "working"
        try:
            yield
        finally:
            del _held[key]


@contextmanager
def sharing(device: str, on_progress: OnProgress) -> Iterator[OnProgress]:
    """Work on a device, and let a measurement go first between any two steps.

    Yields:
        What to call at every step.
    """
    with ExitStack() as held:
        held.enter_context(working(device))

        def step(progress: Progress) -> None:
            held.close()
            held.enter_context(working(device))
            on_progress(progress)

        yield step


def _key(device: str) -> tuple[int, str]:
    return threading.get_ident(), _physical(device)


def _physical(device: str) -> str:
    """Name a device the same in processes that see different GPUs as `cuda:0`."""
    kind, _, index = device.partition(":")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if kind != "cuda" or not visible:
        return f"{kind}-{index or 0}"
    seen = [name.strip() for name in visible.split(",")]
    number = int(index or 0)
    return f"{kind}-{seen[number] if number < len(seen) else number}"


def _folder() -> Path | None:
    """Return where this user's locks are; None, and a warning, if nothing can be trusted there."""
    given = os.environ.get(SHARED)
    if given:
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    places = [Path(tempfile.gettempdir(), f"detbench-{user}")]  # the same one in every session
    places += [Path(os.environ[RUNTIME], "detbench")] if os.environ.get(RUNTIME) else []
    for place in places:
        if _is_own(place):
            return place
    _tell(
        f"{places[0]} is not this user's own folder: nothing keeps measurements apart; remove it,"
        f" or name a folder of yours in ${SHARED}"
    )
    return None


def _is_own(folder: Path) -> bool:
    """Say whether a folder, which is made if need be, is one that only this user can write."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return True
    alone = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and alone


def _tell(text: str) -> None:
    """Warn in one line, once a process."""
    if text not in _told:
        _told.add(text)
        print(f"detbench: warning: {text}", file=sys.stderr)


def _file(folder: Path, name: str, part: str) -> str:
    return os.path.join(folder, re.sub(r"[^\w.-]", "_", name) + part)


@contextmanager
def _exclusive(name: str) -> Iterator[None]:
    folder = _folder()
    if PAUSES_WORK:
        with _flock(name, fcntl.LOCK_EX):
            yield
    elif folder is None:
        yield
    else:
        with FileLock(_file(folder, name, ".lock")):
            yield


@contextmanager
def _flock(name: str, mode: int) -> Iterator[None]:
    """Hold a device, exclusively or shared, after passing its turnstile."""
    opened = _open_both(name)
    if opened is None:
        yield
        return
    turnstile, lock = opened
    try:
        patience = 0.0 if name in _passed else SECONDS_FOR_OTHERS
        if _take(turnstile, mode, patience) and _take(lock, mode, patience):
            fcntl.flock(turnstile, fcntl.LOCK_UN)
        else:
            _passed.add(name)
            _tell(f"somebody holds {name} in ${SHARED} for long: going on beside them")
        yield
    finally:
        for descriptor in (lock, turnstile):
            _close(descriptor)


def _take(descriptor: int, mode: int, patience: float) -> bool:
    """Wait for a lock, if others may hold it only so many seconds; say whether it was had."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        return True
    if not os.environ.get(SHARED):
        fcntl.flock(descriptor, mode)
        return True
    if not patience:
        return False
    had = threading.Event()

    def wait() -> None:
        fcntl.flock(descriptor, mode)
        had.set()

    threading.Thread(target=wait, name="detbench lock", daemon=True).start()
    return had.wait(patience)


def _open_both(name: str) -> tuple[int, int] | None:
    """Open the files of a device; None, and a warning, where that is not possible."""
    folder = _folder()
    if folder is None:
        return None
    opened: list[int] = []
    try:
        for part in (".turn", ".lock"):
            opened.append(_open(_file(folder, name, part)))
    except OSError as error:
        for descriptor in opened:
            _close(descriptor)
        _tell(f"{error.filename}: {error.strerror}: nothing keeps measurements apart")
        return None
    return opened[0], opened[1]


def _open(path: str) -> int:
    """Open a file that is made if need be; another user's can be locked if it can be read."""
    flags = getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY | flags)
    _descriptors.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    """Let go, even if a process that is being forked has the file open as well."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    _descriptors.discard(descriptor)
    os.close(descriptor)


def _forget() -> None:
    """Leave a parent's locks to the parent: else they would outlive it in its forked children."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
