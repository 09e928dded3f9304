"""What a worker does with a job, wherever it works: run the trial, put its folder in place."""

from __future__ import annotations

import shutil
from functools import partial

from harness.engine.executor import Job
from harness.records import Record, files
from harness.records.progress import Judge, OnProgress
from harness.trials import folders, trial


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
        folders.ClaimLost: another process has taken the trial over, whose result stays.
    """
    unfinished = folders.partial_folder(job.folder, job.trial, job.token)
    shutil.rmtree(files.own_folder(unfinished), ignore_errors=True)
    result = trial.run(
        job.spec,
        unfinished,
        device=device,
        reference=job.reference,
        find_reference=partial(folders.first_done, job.folder),
        share=share,
        on_progress=on_progress,
        shelf=job.shelf,
        judge=judge if job.judged else None,
    )
    folders.place(unfinished, job.folder / job.trial, job.token)
    return result
