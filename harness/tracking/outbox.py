"""Tells a tracker of a study while it runs, in a thread of its own: no trial waits for a tracker.

A trial's run opens as the trial starts, and its metrics come with each epoch, if the tracker is
there. What of that it misses comes with the trial's record.
"""

from __future__ import annotations

import importlib
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import harness.tracking.contents as contents
from harness.config.secrets import masked
from harness.machine import locks
from harness.records import Record, RecordError, record
from harness.tracking.marks import is_logged
from harness.tracking.tracker import Tracker

SECONDS_BEFORE_IMPORT = 1.0
SECONDS_AT_THE_END = 10.0  # for a server that is away, or that answers what no tracker says
SECONDS_FOR_A_RECORD = 120.0  # for one that took all so far
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_BETWEEN_ATTEMPTS = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)


class Shown(NamedTuple):
    """What a trial under way has come to."""

    trial: str
    row: Mapping[str, float]  # see `Progress.row`; empty as the trial starts


class Outbox:
    """Keeps what is still to be sent, and tries again now and then while a tracker is away.

    When the study ends, a server that does not answer, or not as MLflow does, is given up after ten
    seconds; its thread ends with the process.

    Args:
        study: its name.
        tracker: an MLflow tracking URI.
        device: that trials are measured on here; what costs its time waits for a measurement.
        knobs: paths that the study sweeps; see `contents.params`.
        note: what the study asks.
        trusted: send trained weights as models, too; see `Tracker.send`.
        warn: told once when the tracker is away, and once at the end what it lacks.
    """

    def __init__(
        self,
        study: str,
        tracker: str,
        *,
        device: str = "cpu",
        knobs: Collection[str] | None = None,
        note: str = "",
        trusted: Collection[str] | None = None,
        warn: Callable[[str], None],
    ) -> None:
        self.study, self.tracker, self.device, self.warn = study, Tracker(tracker), device, warn
        self.knobs, self.note, self.trusted = knobs, note, trusted
        self._posted: queue.SimpleQueue[Path | Shown | None] = queue.SimpleQueue()
        self._begun: dict[str, tuple[Record, Path]] = {}  # trials under way
        self._fresh: deque[Path] = deque()
        self._failed: deque[Path] = deque()
        self._left: dict[Path, None] = {}  # what was put and is not known to be there
        self._failures, self._next = 0, 0.0
        self.complete = True  # at the end: whether the tracker holds all that was put
        self._ready = self._warned = self._abandoned = False
        self._imported, self._accepted = math.inf, -math.inf  # when
        self._thread = threading.Thread(target=self._work, name="detbench tracking", daemon=True)

    def __enter__(self) -> Outbox:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Send what is left, as far as the tracker takes it; nobody waits long for a server."""
        self._posted.put(None)
        ended = time.monotonic()
        while self._thread.is_alive() and time.monotonic() < self._until(ended):
            self._thread.join(SECONDS_BETWEEN_LOOKS)
        self._abandoned = self._thread.is_alive()
        left = [folder for folder in list(self._left) if not is_logged(folder, self.tracker.uri)]
        self.complete = not left
        if left:
            sends = f"`detbench sync {self.study}` sends them"
            self.warn(f"{len(left)} trials are not in MLflow; {sends}")

    def _until(self, ended: float) -> float:
        """Return when to give the tracker up, now that the study ended."""
        if self.tracker.file is not None:
            return math.inf  # it is a file here, and takes what it takes
        until = max(ended, self._imported) + SECONDS_AT_THE_END
        return max(until, 0.0 if self._failures else self._accepted + SECONDS_FOR_A_RECORD)

    def put(self, folder: Path) -> None:
        """Have the record in a trial's folder sent, unless that is known to be done."""
        self._left[folder] = None
        self._posted.put(folder)

    def begin(self, trial: Record, folder: Path) -> None:
        """Have a run opened for a trial that starts.

        Args:
            trial: as its record is before there is any result.
            folder: where its record will be.
        """
        self._begun[trial.trial] = trial, folder
        self._posted.put(Shown(trial.trial, {}))

    def add(self, trial: str, row: Mapping[str, float]) -> None:
        """Have what a trial under way has come to shown in its run."""
        self._posted.put(Shown(trial, row))

    def _work(self) -> None:
        while (what := self._take()) is not None:
            if isinstance(what, Shown):
                self._show(what)
                continue
            self._fresh.append(what)
            if time.monotonic() >= self._next:
                self._send_all()
        self._send_all()
        if not self._failures and self._begun:
            folder = next(iter(self._begun.values()))[1].parent
            self._try(lambda: self.tracker.stop(folder))

    def _show(self, what: Shown) -> None:
        """Open a trial's run, or add to it; what a tracker that is away misses, a record brings."""
        if what.trial not in self._begun or time.monotonic() < self._next:
            return
        if not self._ready:
            self._get_ready()
        trial, folder = self._begun[what.trial]
        points = contents.live(what.row)

        def work() -> None:
            if not self.tracker.has_begun(what.trial):
                self.tracker.begin(trial, folder, knobs=self.knobs, note=self.note)
            self.tracker.add(what.trial, points, folder.parent)

        self._try(work)

    def _take(self) -> Path | Shown | None:
        """Wait for what is put, and get ready meanwhile; a run with nothing to do never is."""
        if not self._ready:
            try:
                return self._posted.get(timeout=SECONDS_BEFORE_IMPORT)
            except queue.Empty:
                self._get_ready()
        return self._posted.get()

    def _get_ready(self) -> None:
        """Import MLflow, which takes seconds, and close what a killed driver left open."""
        self._ready = True
        with locks.working(self.device):
            importlib.import_module("mlflow")
        self._imported = time.monotonic()
        self._try(lambda: self.tracker.close_stale(self.study))

    def _send_all(self) -> None:
        """Send until something fails; what failed before comes last."""
        for waiting in (self._fresh, self._failed):
            for _ in range(len(waiting)):
                folder = waiting.popleft()
                if not self._try(lambda folder=folder: self._send(folder)):  # type: ignore[misc]
                    self._failed.append(folder)
                    return
                self._left.pop(folder, None)
                self._begun.pop(folder.name, None)

    def _send(self, folder: Path) -> None:
        if is_logged(folder, self.tracker.uri):
            return
        try:
            found = record.read(folder)
        except (FileNotFoundError, RecordError):
            return  # it was taken away meanwhile; there is nothing to send
        if not self._ready:
            self._get_ready()
        self.tracker.send(found, folder, knobs=self.knobs, note=self.note, trusted=self.trusted)

    def _try(self, work: Callable[[], object]) -> bool:
        """Do something with the tracker; whatever it raises, the study goes on."""
        try:
            with self._quietly():
                work()
        except Exception as error:
            pauses = SECONDS_BETWEEN_ATTEMPTS
            self._next = time.monotonic() + pauses[min(self._failures, len(pauses) - 1)]
            self._failures += 1
            self._warn_once(error)
            return False
        self._failures, self._accepted = 0, time.monotonic()
        return True

    def _warn_once(self, error: Exception) -> None:
        if not self._warned and not self._abandoned:
            text = masked(" ".join(str(error).split()), self.tracker.uri)[:300]
            where = masked(self.tracker.uri, self.tracker.uri)
            self.warn(f"MLflow at {where} is away ({text}); the trials go on")
        self._warned = True

    def _quietly(self) -> AbstractContextManager[None]:
        """Leave measurements alone, which on their part need not wait for a server's answer."""
        return locks.working(self.device) if self.tracker.file else nullcontext()
