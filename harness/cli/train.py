"""`detbench train`: train one detector and evaluate it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from detectors.weights import WEIGHTS_FILE
from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.models import get_weights, note, one_line, show_metrics
from harness.cli.text import say
from harness.data.classes import read_choice
from harness.records import record
from harness.study import Study, StudyError
from harness.study.specification import TrialSpec
from harness.training import processes
from harness.trials import longer, trainings, trial

LOCK = ".lock"  # beside the training while it is made


def train(
    study: Study,
    out: Path,
    device: str,
    *,
    classes: Sequence[str] = (),
    as_json: bool,
) -> int:
    """Train and evaluate one detector in this process, and those that `torchrun` started with it.

    Only the first of them shows and keeps anything.

    Args:
        study: of one trial.
        out: folder for weights, record and detections.
        device: as torch spells it.
        classes: which class of the data set is which of the weights', `DATA=MODEL,...`.
        as_json: whether to print JSON.

    Raises:
        StudyError: `out` holds something else, a finished training, or one that is under way.
    """
    _refuse_foreign(out)
    if classes and study.weights is None:
        raise StudyError("--classes goes with --weights: it says which of their classes are which")
    get_weights(study)
    spec = studies.expand(study, choice=read_choice(classes))[0]
    if spec.start is not None and processes.is_first():
        note(console.stderr(), [spec.start.taken, *spec.start.notes])
    device = processes.local(device)
    with _alone(out, spec):
        return _run(spec, out, device, as_json=as_json)


def go_on(folder: Path, epochs: int, out: Path | None, device: str, *, as_json: bool) -> int:
    """Train a finished detector for more epochs, as if they had been meant from the start.

    Args:
        folder: of the finished training, which stays as it is.
        epochs: in all.
        out: where the longer one goes; None for a folder beside the finished one.
        device: as torch spells it.
        as_json: print JSON.

    Raises:
        StudyError: there is no finished training, it cannot go on, or `out` is taken.
    """
    named = folder.resolve() if folder.name in ("", "..") else folder
    out = out or named.with_name(f"{named.name}-{epochs}-epochs")
    _refuse_foreign(out)
    try:
        found = record.read(folder / record.FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise StudyError(
            f"{folder}: holds no finished training; one that was interrupted goes on with the"
            " command that began it"
        ) from None
    spec = longer.specified(found, folder, epochs)
    device = processes.local(device)
    with _alone(out, spec):
        if processes.is_first():
            longer.prepare(folder, spec, found.config["recipe.epochs"], out, device)
        return _run(spec, out, device, as_json=as_json)


def _run(spec: TrialSpec, out: Path, device: str, *, as_json: bool) -> int:
    """Train, evaluate and show one detector."""
    if not processes.is_first():
        return 1 if trial.run(spec, out, device=device).failure else 0
    with one_line(spec.detector, spec.recipe) as on_progress:
        result = trial.run(spec, out, device=device, on_progress=on_progress)
    if as_json:
        print_json(json.loads(result.to_json()))
    else:
        show_metrics(result.metrics, f"{spec.detector} on {spec.dataset['name']}")
        say(f"weights, record and detections: {out}")
        _show_checkpoint(out)
    if result.failure is not None:
        console.stderr().print(
            f"failed ({result.failure.cause}): {result.failure.message}", markup=False
        )
    return 1 if result.failure else 0


def _show_checkpoint(out: Path) -> None:
    """Say what is kept for further epochs, and what it takes of the disk."""
    files = [*(out / trainings.CHECKPOINT).glob("*")]
    if files:
        size = sum(file.stat().st_size for file in files) / 1e6
        print(
            f"state to go on from: {out / trainings.CHECKPOINT} ({size:.1f} MB), for"
            f" `detbench train --resume {out} --epochs N`"
        )


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds something else than one training of ours.

    Raises:
        StudyError: it does.
    """
    ours = (out / trainings.OWN_SHELF).is_dir() or _has_record(out)
    if out.is_dir() and not ours and next(out.iterdir(), None) is not None:
        raise StudyError(
            f"{out}: holds something else than a training; name a new folder with --out, such as"
            f" {out / 'training'}"
        )


def _has_record(out: Path) -> bool:
    try:
        record.read(out / record.FILE)
    except (OSError, record.RecordError):
        return False
    return True


@contextmanager
def _alone(out: Path, spec: TrialSpec) -> Iterator[None]:
    """Keep other processes out of a folder that holds no finished training.

    Raises:
        StudyError: another process trains there, or a finished training is there.
    """
    if not processes.is_first():
        yield
        return
    new = not out.exists()
    record.make_folder(out)
    shelf = record.make_folder(out / trainings.OWN_SHELF)
    lock = FileLock(shelf / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StudyError(
            f"{out}: another process trains there; let it end, or name another folder with --out"
        ) from None
    try:
        _refuse_finished(out, spec)
        yield
    finally:
        if [item.name for item in shelf.iterdir()] == [LOCK]:
            (shelf / LOCK).unlink()
        lock.release()
        with suppress(OSError):  # an unfinished training is on it
            shelf.rmdir()
            if new:
                out.rmdir()  # which holds nothing if the training was refused


def _refuse_finished(out: Path, spec: TrialSpec) -> None:
    """Refuse to write over a training that is finished, or over weights of another one.

    Raises:
        StudyError: there is one.
    """
    try:
        found = record.read(out)
    except FileNotFoundError:
        found = None
    if found is not None and found.study != spec.study:
        raise StudyError(
            f"{out}: is the folder of a trial of the study {found.study};"
            " name a new folder with --out"
        )
    made_here = any((out / trainings.OWN_SHELF).glob(f"*/{trainings.STORY_FILE}"))
    left = (out / WEIGHTS_FILE).is_file() and not made_here
    if left or (found is not None and found.state == "done"):
        more = (out / trainings.CHECKPOINT).is_dir()
        go_on = f" To train that one for more epochs: --resume {out} --epochs N;" if more else ""
        raise StudyError(
            f"{out}: holds a finished training; name a new folder with --out.{go_on}"
            f" To begin from its weights: --weights {out}"
        )
