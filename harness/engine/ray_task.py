"""What a node of a Ray cluster does with a job: run it here, and send its folder if need be."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.engine.executor import Advanced, Asked, Finished, Job, Lost, Message, Stage
from harness.engine.local import carry_out
from harness.engine.opening import TOKEN
from harness.engine.worker import Interrupted
from harness.records.progress import Progress

SECONDS_BETWEEN_STEPS = 0.2
Files = dict[str, bytes]
"""A folder: contents of its files by path inside it."""


@dataclass(frozen=True)
class Sent:
    """What a task is given."""

    job: Job  # as the driver sees it
    attempt: int
    token: str  # what the file `TOKEN` of the driver's folder says: who reads the same shares it
    reference: Sequence[Any]  # at most one promise of `Files`; fetched only where nothing is shared
    place: Path  # the driver's working directory, where there is one of that name


class Outcome(NamedTuple):
    """What a task returns."""

    message: Finished | Lost
    files: Files | None  # the trial's folder, unless it stands in the driver's place already


def work(sent: Sent, post: Any) -> Outcome:
    """Carry out a job on this node.

    Args:
        sent: the job.
        post: the actor that the driver listens to.
    """
    import ray  # optional

    if sent.place.is_dir():
        os.chdir(sent.place)
    _look_last(str(sent.place))
    device = "cuda:0" if ray.get_gpu_ids() else "cpu"
    with _home(sent) as job:
        message = carry_out(job, Wire(post, sent.attempt), device, share=1)
        brought = job.folder != sent.job.folder and isinstance(message, Finished)
        files = pack(job.folder / job.trial) if brought else None
    gc.collect()
    return Outcome(message, files)


def _look_last(place: str) -> None:
    """Look for modules in the driver's working directory last, as the driver does.

    Ray puts it first. What a node has there may be older than what the driver sent.
    """
    sys.path[:] = [item for item in sys.path if item != place] + [place]


@contextmanager
def _home(sent: Sent) -> Iterator[Job]:
    """Give the job a folder: the driver's if it is here, too, else one for the time being."""
    if token(sent.job.folder) == sent.token:
        yield sent.job
        return
    import ray  # optional

    with tempfile.TemporaryDirectory(prefix="detbench-") as name:
        folder, reference = Path(name, sent.job.folder.name), None
        folder.mkdir()
        for promise in sent.reference:
            reference = Path(name, "reference")
            unpack(ray.get(promise), reference)
        yield replace(sent.job, folder=folder, reference=reference, shelf=None, token="")


def token(folder: Path) -> str | None:
    """Return what tells a study's folder from all others; None if it is not here."""
    try:
        return (folder / TOKEN).read_text(encoding="utf-8")
    except OSError:
        return None


def pack(folder: Path) -> Files:
    """Read a folder into memory."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def unpack(files: Files, folder: Path) -> None:
    """Write what was packed."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class Wire:
    """A task's line to the driver."""

    def __init__(self, post: Any, attempt: int) -> None:
        self.post, self.attempt = post, attempt
        self.begin("")

    def begin(self, trial: str) -> None:
        """Begin a job."""
        self.trial, self.phase, self.sent, self.reply = trial, "", 0.0, None

    def advance(self, progress: Progress) -> None:
        """Send a step, if its phase is another or the last was sent long enough ago.

        Raises:
            Interrupted: the driver wants the job to end.
        """
        now = time.monotonic()
        due = now - self.sent >= SECONDS_BETWEEN_STEPS or bool(progress.note or progress.row)
        if due or progress.phase != self.phase:
            self.phase, self.sent = progress.phase, now
            self._heed()
            message = _pickled(Advanced(self.trial, progress))
            self.reply = self.post.say.remote(self.attempt, message)

    def ask(
        self, stage: Stage, metrics: dict[str, float], curves: list[dict[str, float]]
    ) -> str | None:
        """Ask whether the trial is worth going on, and wait for the answer.

        Raises:
            Interrupted: the driver wants the job to end.
        """
        import ray  # optional

        question = _pickled(Asked(self.trial, stage, metrics, curves))
        reason, stop = ray.get(self.post.ask.remote(self.attempt, question))
        if stop:
            raise Interrupted
        answer: str | None = reason
        return answer

    def _heed(self) -> None:
        """End the job if the reply to the last step, which is not waited for, says so."""
        import ray  # optional

        if self.reply is not None and ray.wait([self.reply], timeout=0)[0]:
            reply, self.reply = self.reply, None
            if ray.get(reply):
                raise Interrupted


def _pickled(message: Message) -> bytes:
    return pickle.dumps(message)
