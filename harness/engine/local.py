"""Carries out jobs in processes of this machine that stay warm from one job to the next."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple, TypeAlias

import torch

from harness.engine import server, worker
from harness.engine.executor import Advanced, Asked, Finished, Job, Lost, Message, Speaker, Stage
from harness.engine.failures import OTHER_CODE, STOPPED
from harness.engine.worker import Interrupted
from harness.records import Failure, Record
from harness.records.progress import Progress
from harness.study.code import CodeError

SECONDS_BETWEEN_STEPS = 0.1
SECONDS_TO_DIE = 3.0
Perform: TypeAlias = Callable[..., Record]  # as `worker.perform`
LEAVE_A_WORKER_SOUND = ("data", "not_finite")
"""Causes of failure after which a process may be trusted with another job."""


class Answer(NamedTuple):
    """What a worker that asked is told."""

    reason: str | None
    stop: bool = False  # told without having asked: end at the next step


class LocalExecutor:
    """A process a slot, started when it is first needed and replaced when it cannot be trusted."""

    def __init__(self, devices: Sequence[str], perform: Perform = worker.perform) -> None:
        """Prepare the slots.

        Args:
            devices: the device of each slot; one may be named several times.
            perform: carries out a job in a process; a function of a module.

        Raises:
            StudyError: the platform has no such processes.
        """
        server.warm_up()
        self.perform = perform
        self.free = list(devices)
        self.slots = len(self.free)
        self.idle: list[_Worker] = []
        self.busy: dict[str, _Worker] = {}

    def submit(self, job: Job) -> None:
        """Give a job to a warm process, or to a new one."""
        for item in [item for item in self.idle if not item.process.is_alive()]:
            self.idle.remove(item)
            self._retire(item)
        chosen = self.idle.pop() if self.idle else self._start(self.free.pop(0))
        self.busy[job.trial] = chosen
        chosen.begin(job)

    def _start(self, device: str) -> _Worker:
        context = multiprocessing.get_context("forkserver")
        pipe, theirs = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(theirs, self.perform, device, self.slots),
            name=f"detbench worker on {device}",
        )
        process.start()
        theirs.close()
        return _Worker(device, pipe, process)

    def wait(self, timeout: float) -> list[Message]:
        """Return what the processes say, and what became of those that died."""
        by_handle = {handle: item for item in self.busy.values() for handle in item.handles}
        ready = connection.wait(list(by_handle), timeout)
        told = dict.fromkeys(by_handle[handle] for handle in ready)  # type: ignore[index]
        return [message for item in told for message in self._heard(item)]

    def answer(self, trial: str, reason: str | None) -> None:
        """Answer a process that waits."""
        self.busy[trial].tell(Answer(reason))

    def stop(self, trial: str) -> None:
        """Ask a process to end its job at the next step."""
        self.busy[trial].tell(Answer(None, stop=True))

    def kill(self, trial: str) -> None:
        """End the process of a job."""
        self._retire(self.busy.pop(trial))

    def close(self) -> None:
        """End all processes."""
        for item in [*self.busy.values(), *self.idle]:
            item.end()
        self.busy, self.idle = {}, []

    def _heard(self, item: _Worker) -> Iterator[Message]:
        """Yield what a process says; free it once its job is over."""
        for message in item.hear():
            yield message
            if isinstance(message, Finished | Lost):
                del self.busy[message.trial]
                if _sound(message):
                    self.idle.append(item)
                else:
                    self._retire(item)
                return

    def _retire(self, item: _Worker) -> None:
        item.end()
        self.free.append(item.device)


def _sound(message: Finished | Lost) -> bool:
    if isinstance(message, Lost):
        return False
    failure = message.record.failure
    return failure is None or failure.cause in LEAVE_A_WORKER_SOUND


class _Worker:
    """A process that carries out one job after the other, seen from the driver."""

    def __init__(self, device: str, pipe: Connection, process: BaseProcess) -> None:
        self.device, self.pipe, self.process, self.trial = device, pipe, process, ""

    @property
    def handles(self) -> tuple[Connection, int]:
        """What becomes ready when the process says something or dies."""
        return self.pipe, self.process.sentinel

    def begin(self, job: Job) -> None:
        """Send a job."""
        self.trial = job.trial
        self.tell(job)

    def tell(self, what: Job | Answer) -> None:
        """Send something; a process that is dead is found out by `hear`."""
        try:
            self.pipe.send(what)
        except OSError:
            self.process.join(SECONDS_TO_DIE)

    def hear(self) -> Iterator[Message]:
        """Yield what the process said; at its death, what became of its job."""
        dead = not self.process.is_alive()
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(SECONDS_TO_DIE)
            dead = True
        if dead:
            yield Lost(self.trial, self._crash())

    def end(self) -> None:
        """End the process and whatever it started."""
        _kill_group(self.process)
        self.process.join()
        self.pipe.close()
        self.process.close()

    def _crash(self) -> Failure:
        code = self.process.exitcode or 0
        if code >= 0:
            message = f"the trial's process ended with status {code}"
            return Failure(cause="crash", message=message)
        name = signal.Signals(-code).name
        hint = "; the machine may be out of memory" if name == "SIGKILL" else ""
        return Failure(cause="crash", message=f"the trial's process was ended by {name}{hint}")


def _kill_group(process: BaseProcess) -> None:
    """Kill a worker, if it lives, and the loaders that it started, if they do."""
    if process.pid is None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it is over, or so young that it leads no group
        if process.is_alive():
            process.kill()


def _serve(pipe: Connection, perform: Perform, device: str, share: int) -> None:
    """Carry out jobs, in the process that was made for it, as long as the driver lives."""
    os.setpgid(0, 0)  # only the driver hears Ctrl-C, and ends all of this group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Line(pipe)
    threading.Thread(target=line.listen, daemon=True).start()
    gc.freeze()  # what was imported is not looked through after every job
    while True:
        line.say(carry_out(line.jobs.get(), line, device, share, perform))
        _tidy(device)


def carry_out(
    job: Job, line: Speaker, device: str, share: int, perform: Perform = worker.perform
) -> Finished | Lost:
    """Run a trial; what keeps it from leaving a record is told instead."""
    line.begin(job.trial)
    try:
        result = perform(job, device=device, share=share, on_progress=line.advance, judge=line.ask)
        return Finished(job.trial, result)
    except Interrupted:
        return Lost(job.trial, Failure(cause=STOPPED, message="ended on request"))
    except CodeError as error:
        return Lost(job.trial, Failure(cause=OTHER_CODE, message=str(error)))
    except BaseException as error:  # whatever it is, the driver has to know
        return Lost(job.trial, failure_of(error))


def failure_of(error: BaseException) -> Failure:
    """Return how a trial failed whose record could not be written."""
    message = " ".join(str(error).split()) or type(error).__name__
    details = "".join(traceback.format_exception(error))
    return Failure(cause="error", message=f"record: {message}", details=details)


def _tidy(device: str) -> None:
    """Give back the memory of the last job, so that the next finds as much as a new process."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class Line:
    """A worker's end of the pipe to the driver, and its lifeline: both die together."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.jobs: queue.Queue[Job] = queue.Queue()
        self.answers: queue.Queue[Answer] = queue.Queue()
        self.trial, self.stopping, self.phase, self.sent = "", False, "", 0.0

    def begin(self, trial: str) -> None:
        """Begin a job."""
        self.trial, self.phase, self.sent = trial, "", 0.0

    def listen(self) -> None:
        """Sort what comes in, until the driver is gone."""
        while True:
            try:
                heard = self.pipe.recv()
            except (EOFError, OSError):
                die()
                return
            if isinstance(heard, Job):
                self.jobs.put(heard)
            else:
                self.stopping = self.stopping or heard.stop
                self.answers.put(heard)

    def say(self, message: Message) -> None:
        """Send a message."""
        try:
            self.pipe.send(message)
        except OSError:
            die()

    def advance(self, progress: Progress) -> None:
        """Send a step, if its phase is another or the last was sent long enough ago.

        Raises:
            Interrupted: the driver wants the job to end.
        """
        if self.stopping:
            raise Interrupted
        now = time.monotonic()
        due = now - self.sent >= SECONDS_BETWEEN_STEPS or bool(progress.note or progress.row)
        if due or progress.phase != self.phase or progress.done == progress.total:
            self.phase, self.sent = progress.phase, now
            self.say(Advanced(self.trial, progress))

    def ask(
        self, stage: Stage, metrics: dict[str, float], curves: list[dict[str, float]]
    ) -> str | None:
        """Ask whether the trial is worth going on, and wait for the answer.

        Raises:
            Interrupted: the driver wants the job to end.
        """
        self.say(Asked(self.trial, stage, metrics, curves))
        heard = self.answers.get()
        if heard.stop:
            raise Interrupted
        return heard.reason


def die() -> None:
    """End this process and whatever it started, leaving nothing in place."""
    os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
