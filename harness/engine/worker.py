"""What a worker does with a job, wherever it works: run the trial, put its folder in place."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

from harness.engine.executor import Job
from harness.records import Record, files, source
from harness.records.progress import Judge, OnProgress
from harness.study import code as codes
from harness.study.code import CodeError, Fingerprints
from harness.study.sources import is_ours
from harness.study.specification import TrialSpec
from harness.trials import folders, trial


class Interrupted(BaseException):
    """Raised in a trial's step to end it without a record; no `except Exception` may catch it."""


def _loaded() -> dict[Path, bytes]:
    """Read the files of detbench that this process has imported."""
    named = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    files = [Path(file) for name, file in named.items() if file and is_ours(name)]
    return {file: file.read_bytes() for file in files if file.suffix == ".py" and file.is_file()}


HELD = _loaded()
"""Files as they were when this process, or the one that it was forked from, first saw them: what
they hold, or the hash of it where they are no Python."""


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
        CodeError: this process has other code than that which the trial was planned with.
        OSError: the record cannot be written.
        folders.ClaimLost: another process has taken the trial over, whose result stays.
    """
    check_code(job.spec)
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


def check_code(spec: TrialSpec) -> None:
    """Refuse a trial that this process would run with other code than it was planned with.

    Raises:
        CodeError: naming the files.
    """
    config, fingerprints = spec.setup.detector, Fingerprints(spec.detector)
    wrong = codes.differing(spec.code, fingerprints.of(config, spec.measure))
    for part in fingerprints.files(config, spec.measure).values():
        wrong += [name for name, file in part.items() if _changed_since(file)]
    if wrong:
        files = ", ".join(dict.fromkeys(wrong))
        raise CodeError(
            f"the code changed since the study was started, or differs on this node: {files};"
            " run the study again, with the same code everywhere"
        )


def _changed_since(file: Path) -> bool:
    """Say whether a file computes something else than when this process first saw it."""
    if file.suffix not in source.PYTHON:  # weights, perhaps: their hash is enough
        now = source.load(file).fingerprint.encode()
        return HELD.setdefault(file, now) != now
    now = file.read_bytes()
    held = HELD.setdefault(file, now)
    return held != now and source.read(held).fingerprint != source.read(now).fingerprint
