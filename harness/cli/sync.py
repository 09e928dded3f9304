"""`detbench sync`: send to a tracker whatever it lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import harness.tracking.contents as contents
from harness.cli.console import print_json
from harness.cli.text import say
from harness.config.secrets import masked
from harness.config.yaml_source import StudyError
from harness.records import Record, RecordError, record, snapshot
from harness.tracking.marks import is_current, remember
from harness.tracking.tracker import Tracker

ALL = "all"
Trusted: TypeAlias = Collection[str] | None  # see `Tracker.send`
TRIED_IN_VAIN = 3  # failures in a row after which the tracker is taken to be away


class Synced(NamedTuple):
    """What became of a study's records."""

    study: str
    sent: int
    held: int  # by the tracker before
    failed: dict[str, str]  # trial: reason


def sync(name: str, out: Path, tracker: str, *, models: bool, as_json: bool) -> int:
    """Send the records of a study, or of all, that the tracker does not hold.

    Args:
        name: a study, a folder of records, or `all`.
        out: folder of the records.
        tracker: an MLflow tracking URI; it is asked what it holds, so that a tracker that was lost
            or went back to a backup is filled again.
        models: send trained weights as models, too, of detectors that are built in: whoever made
            the records might have named any code.
        as_json: print JSON.

    Returns:
        The exit status: 1 if something could not be sent.

    Raises:
        StudyError: there are no records.
        RecordError: a record of the one study that is meant cannot be read.
    """
    target = Tracker(tracker)
    synced = _whatever_others_hold if name == ALL else sync_folder
    trusted: Trusted = () if models else None
    results = [synced(folder, target, trusted) for folder in _folders(name, out)]
    if as_json:
        print_json([item._asdict() for item in results])
    else:
        say("\n".join(map(_line, results)))
    return 1 if any(item.failed for item in results) else 0


def sync_folder(folder: Path, tracker: Tracker, trusted: Trusted) -> Synced:
    """Send the records of one study's folder that the tracker does not hold."""
    from harness.cli import answers  # numpy is slow to import

    records = record.read_all(folder)
    study = records[0].study
    try:
        tracker.close_stale(study)
        held = tracker.held(study)
    except Exception as error:  # whatever a tracker raises
        return Synced(study, 0, 0, {item.trial: _reason(error, tracker) for item in records})
    missing = []
    for item in records:
        found = held.get((item.trial, contents.attempt(item)))
        if found is None or not is_current(folder / item.trial, found.sent):
            missing.append(item)
        else:
            remember(folder / item.trial, tracker.uri, found.run)
    known = snapshot.load(folder)
    knobs = set(known.knobs) if known else {path for item in records for path in item.overrides}
    text, asked = answers.of_folder(folder)
    note = known.question if known else ""
    send = partial(tracker.send, knobs=knobs, note=note, trusted=trusted)
    failed = _send(missing, folder, tracker, send)
    try:
        tracker.arrange(study, folder, records)
        if asked and not failed:
            tracker.tell(asked[0], folder, text)
    except Exception as error:  # whatever a tracker raises
        failed = failed or {records[0].trial: _reason(error, tracker)}
    return Synced(study, len(missing) - len(failed), len(records) - len(missing), failed)


def _whatever_others_hold(folder: Path, tracker: Tracker, trusted: Trusted) -> Synced:
    """Send a study's records; one that cannot be read must not keep other studies from theirs."""
    try:
        return sync_folder(folder, tracker, trusted)
    except RecordError as error:
        return Synced(folder.name, 0, 0, {folder.name: _reason(error, tracker)})


def _send(
    records: Sequence[Record], folder: Path, tracker: Tracker, send: Callable[[Record, Path], str]
) -> dict[str, str]:
    """Send records; return those that could not be sent, with reasons."""
    failed: dict[str, str] = {}
    in_vain = 0
    for item in records:
        if in_vain == TRIED_IN_VAIN:
            failed[item.trial] = "the tracker is away"
            continue
        try:
            send(item, folder / item.trial)
            in_vain = 0
        except Exception as error:  # whatever a tracker raises
            in_vain += 1
            failed[item.trial] = _reason(error, tracker)
    return failed


def _folders(name: str, out: Path) -> list[Path]:
    """Return the folders of records that are meant.

    Raises:
        StudyError: there are none.
    """
    if name == ALL:
        found = sorted(out.iterdir()) if out.is_dir() else []
    else:
        found = [Path(name) if _has_records(Path(name)) else out / _study_name(name, out)]
    found = [folder for folder in found if _has_records(folder)]
    if not found:
        raise StudyError(f"no records of {name} in {out}; name their folder with --out")
    return found


def _study_name(name: str, out: Path) -> str:
    """Return the name of a study that is named by its folder, its file or its place in studies/."""
    if (out / name).is_dir():
        return name
    from harness import study  # imports torch, which is slow

    return study.load(name).name


def _has_records(folder: Path) -> bool:
    return (
        not folder.name.startswith(".") and next(folder.glob(f"*/{record.FILE}"), None) is not None
    )


def _reason(error: Exception, tracker: Tracker) -> str:
    text = masked(" ".join(str(error).split()), tracker.uri)
    return text[:300] or type(error).__name__


def _line(item: Synced) -> str:
    text = f"{item.study}: {item.sent} sent, {item.held} were there"
    if item.failed:
        reason: Any = next(iter(item.failed.values()))
        text += f", {len(item.failed)} could not be sent ({reason})"
    return text
