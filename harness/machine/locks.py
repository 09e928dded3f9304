"""One measurement at a time on a device: what trains there waits at its next step.

Locks are `flock`s on files of the user's own, so a process that dies lets go of what it held.
A lock is a pair of files. Whoever comes passes the turnstile first, and a measurement holds it
while it waits: those that work finish their step, none begins another, and the wait is short.
$DETBENCH_LOCKS names another folder for them, for a device that several users share, or for tests.
"""

from __future__ import annotations

import getpass
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock

from harness.records.progress import OnProgress, Progress

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

PAUSES_WORK = fcntl is not None
"""Whether `measuring` keeps `working` out; without `fcntl` it keeps out other measurements only."""

_held: dict[tuple[int, str], str] = {}  # (thread, device): measuring | working
_descriptors: set[int] = set()


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


def _folder() -> Path:
    given = os.environ.get("DETBENCH_LOCKS")
    if given:
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"detbench-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _file(name: str, part: str) -> str:
    return os.path.join(_folder(), re.sub(r"[^\w.-]", "_", name) + part)


@contextmanager
def _exclusive(name: str) -> Iterator[None]:
    if PAUSES_WORK:
        with _flock(name, fcntl.LOCK_EX):
            yield
    else:
        with FileLock(_file(name, ".lock")):
            yield


@contextmanager
def _flock(name: str, mode: int) -> Iterator[None]:
    """Hold a device, exclusively or shared, after passing its turnstile."""
    turnstile, lock = _open(_file(name, ".turn")), _open(_file(name, ".lock"))
    try:
        fcntl.flock(turnstile, mode)
        fcntl.flock(lock, mode)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        yield
    finally:
        for descriptor in (lock, turnstile):
            _close(descriptor)


def _open(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
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
