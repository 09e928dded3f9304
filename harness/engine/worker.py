"""What a worker does with a job, wherever it works: run the trial, put its folder in place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engine.executor import Job
from harness.progress import Judge, OnProgress
from harness.record import Record

if TYPE_CHECKING:
    from harness.specification import TrialSpec

PARTIAL, REPLACED = ".partial-", ".replaced-"


class Interrupted(BaseException):
    """Raised in a trial's step to end it without a record; no `except Exception` may catch it."""


def perform(job: Job, *, device: str, share: int, on_progress: OnProgress, judge: Judge) -> Record:
    """Carry out a job in this process and put its folder in place, whole.

    Args:
        job: which trial, and where.
        device: as torch spells it.
        share: number of jobs that share this machine's processor.
        on_progress: called at every step; may raise `Interrupted`.
        judge: asks the driver whether the trial is worth going on, if the driver wants that.

    Raises:
        Interrupted: `on_progress` did.
        OSError: the record cannot be written.
    """
    from harness import trial

    partial = partial_folder(job.folder, job.spec)
    shutil.rmtree(partial, ignore_errors=True)
    result = trial.run(
        job.spec,
        partial,
        device=device,
        reference=job.reference,
        share=share,
        on_progress=on_progress,
        shelf=job.shelf,
        judge=judge if job.judged else None,
    )
    place(partial, job.folder / job.trial)
    return result


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
