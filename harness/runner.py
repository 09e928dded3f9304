"""Runs the trials of a study, each in a process of its own, and survives what they die of."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from filelock import FileLock, Timeout

from harness import record, server
from harness.progress import Progress
from harness.record import Failure, Record, RecordError
from harness.specification import TrialSpec
from harness.yaml_source import StudyError

PARTIAL, REPLACED = ".partial-", ".replaced-"
SECONDS_BETWEEN_EVENTS = 0.1
SECONDS_TO_DIE = 3.0


class Event(NamedTuple):
    """Something that happened to a trial."""

    kind: Literal["skipped", "started", "progress", "finished"]
    spec: TrialSpec
    progress: Progress | None = None
    record: Record | None = None


OnEvent = Callable[[Event], None]


class Summary(NamedTuple):
    """How a study went."""

    records: list[Record]  # in the order of the trials
    skipped: int  # trials whose records stood before

    @property
    def failed(self) -> int:
        """Number of trials that are not done."""
        return sum(item.state == "failed" for item in self.records)


def device(given: str | None) -> str:
    """Return the device to use: a GPU when there is one, unless said otherwise.

    Raises:
        StudyError: torch knows no such device, or this machine has none.
    """
    if given is None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(given)
    except RuntimeError as error:
        raise StudyError(f"--device {given}: expected cpu or cuda:N") from error
    if wanted.type not in ("cpu", "cuda"):
        raise StudyError(f"--device {given}: expected cpu or cuda:N")
    count = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        raise StudyError(f"--device {given}: there are {count} CUDA devices here; use cpu")
    return "cuda:0" if given == "cuda" else given


def standing(spec: TrialSpec, out: Path) -> Record | None:
    """Return the record that makes running a trial needless."""
    try:
        found = record.read(out / spec.study / spec.trial)
    except (FileNotFoundError, RecordError):
        return None
    return found if found.state != "failed" else None


def run(
    specs: Sequence[TrialSpec],
    *,
    out: Path,
    device: str = "cpu",
    workers: int = 1,
    on_event: OnEvent,
) -> Summary:
    """Run trials, up to `workers` at once; those whose record stands are skipped.

    Args:
        specs: trials of one study; the first that is done, and whose weights stand in its folder,
            is what latencies are compared with.
        out: records go to `out/STUDY/TRIAL/record.json`.
        device: as torch spells it.
        workers: processes at a time.
        on_event: called in this thread.

    Raises:
        StudyError: another run is at work on the study.
        RecordError: `out` cannot be written.
        KeyboardInterrupt: after the running trials were ended; records of finished ones stand.
    """
    folder = record.make_folder(out / specs[0].study)
    with _alone(folder):
        _clean(folder)
        return _Run(specs, folder, device, workers, on_event).run()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a study's folder."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StudyError(f"{folder}: another detbench run is at work there; let it end") from error
    try:
        yield
    finally:
        lock.release()


class _Run:
    """The trials of one run: which wait, which run, which are over."""

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        folder: Path,
        device: str,
        workers: int,
        on_event: OnEvent,
    ) -> None:
        self.specs, self.folder, self.device = specs, folder, device
        self.workers, self.on_event = workers, on_event
        self.records: dict[str, Record] = {}
        self.running: list[_Child] = []

    def run(self) -> Summary:
        """Run everything and return the records."""
        waiting = [spec for spec in self.specs if not self._stands(spec)]
        skipped = len(self.specs) - len(waiting)
        if waiting:
            server.warm_up()
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.workers:
                    self._start(waiting.pop(0))
                self._listen()
        finally:
            for child in self.running:
                child.end()
        return Summary([self.records[spec.trial] for spec in self.specs], skipped)

    def _stands(self, spec: TrialSpec) -> bool:
        found = standing(spec, self.folder.parent)
        if found is None:
            return False
        self.records[spec.trial] = found
        self.on_event(Event("skipped", spec, record=found))
        return True

    def _start(self, spec: TrialSpec) -> None:
        over = (self.records.get(other.trial) for other in self.specs)
        first = next(
            (r for r in over if r and r.state == "done" and "weights" in r.artifacts), None
        )
        reference = self.folder / first.trial if first else None
        shutil.rmtree(self.folder / spec.trial, ignore_errors=True)
        job = Job(spec, self.folder, self.device, self.workers, reference)
        self.running.append(_Child(job))
        self.on_event(Event("started", spec))

    def _listen(self) -> None:
        """Wait until a trial reports or ends, and pass that on."""
        both = [(child.events, child.process.sentinel) for child in self.running]
        ready = connection.wait([item for pair in both for item in pair])
        for child in list(self.running):
            progress = child.report() if child.events in ready else None
            if progress is not None:
                self.on_event(Event("progress", child.job.spec, progress=progress))
            elif child.process.sentinel in ready:
                self._finish(child)

    def _finish(self, child: _Child) -> None:
        self.running.remove(child)
        result = child.result()
        self.records[child.job.spec.trial] = result
        self.on_event(Event("finished", child.job.spec, record=result))


@dataclass(frozen=True)
class Job:
    """What the process of a trial is told."""

    spec: TrialSpec
    folder: Path  # of the study
    device: str
    workers: int
    reference: Path | None


class _Child:
    """The process of one trial, seen from outside."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("forkserver")
        self.job, self.started = job, time.time()
        self.events, events = context.Pipe(duplex=False)
        lifeline, self.lifeline = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(
            target=_run_in_child, args=(job, events, lifeline), name=f"detbench {job.spec.trial}"
        )
        self.process.start()
        events.close()
        lifeline.close()

    def report(self) -> Progress | None:
        """Return what the process reports; None at the end of its reports."""
        try:
            progress: Progress = self.events.recv()
        except (EOFError, OSError):
            self.process.join()
            return None
        return progress

    def result(self) -> Record:
        """Return the record of a process that ended; if it left none, write that down."""
        self.process.join()
        _kill_group(self.process, signal.SIGKILL)
        self._close()
        folder = self.job.folder / self.job.spec.trial
        try:
            return record.read(folder)
        except (FileNotFoundError, RecordError):
            from harness.trial import blank_failure

            shutil.rmtree(_partial(self.job), ignore_errors=True)
            result = blank_failure(self.job.spec, self._crash(), self.started)
            result.write(folder)
            return result

    def end(self) -> None:
        """End the process and whatever it started."""
        _kill_group(self.process, signal.SIGTERM)
        self.process.join(SECONDS_TO_DIE)
        _kill_group(self.process, signal.SIGKILL)
        self.process.join()
        self._close()
        shutil.rmtree(_partial(self.job), ignore_errors=True)

    def _close(self) -> None:
        self.events.close()
        self.lifeline.close()

    def _crash(self) -> Failure:
        code = self.process.exitcode or 0
        if code >= 0:
            return Failure(cause="crash", message=f"the trial's process ended with status {code}")
        name = signal.Signals(-code).name
        hint = "; the machine may be out of memory" if name == "SIGKILL" else ""
        return Failure(cause="crash", message=f"the trial's process was ended by {name}{hint}")


def _run_in_child(job: Job, events: Connection, lifeline: Connection) -> None:
    """Run one trial in the process that was made for it."""
    os.setpgid(0, 0)  # only the parent hears Ctrl-C, and ends all of this group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()
    from harness import trainings, trial

    partial = _partial(job)
    trial.run(
        job.spec,
        partial,
        device=job.device,
        reference=job.reference,
        share=job.workers,
        on_progress=_Reporter(events),
        shelf=job.folder.parent / trainings.SHELF,
    )
    place(partial, job.folder / job.spec.trial)


class _Reporter:
    """Sends progress to the parent, not more often than it can be seen."""

    def __init__(self, events: Connection) -> None:
        self.events, self.phase, self.sent = events, "", 0.0

    def __call__(self, progress: Progress) -> None:
        """Send it, if the phase is another or the last report is old enough."""
        now = time.monotonic()
        due = now - self.sent >= SECONDS_BETWEEN_EVENTS
        if due or progress.phase != self.phase or progress.done == progress.total:
            self.phase, self.sent = progress.phase, now
            try:
                self.events.send(progress)
            except OSError:
                _die()


def place(partial: Path, folder: Path) -> None:
    """Put a finished trial's folder in its place, in one go."""
    old = folder.with_name(f"{REPLACED}{folder.name}")
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _partial(job: Job) -> Path:
    return job.folder / f"{PARTIAL}{job.spec.trial}"


def _clean(folder: Path) -> None:
    """Remove what trials that were killed left behind."""
    for item in folder.iterdir():
        if item.name.startswith((PARTIAL, REPLACED)):
            shutil.rmtree(item, ignore_errors=True)


def _follow(lifeline: Connection) -> None:
    """Die with the parent, which never writes: the pipe ends when it does."""
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        _die()


def _die() -> None:
    """End this process and whatever it started, leaving nothing in place."""
    os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _kill_group(process: ForkServerProcess, sign: signal.Signals) -> None:
    """Signal a trial's process, if it lives, and the loaders that it started, if they do."""
    if process.pid is None:
        return
    try:
        os.killpg(process.pid, sign)
    except (ProcessLookupError, PermissionError):  # it is over, or so young that it leads no group
        if process.is_alive():
            process.kill()
