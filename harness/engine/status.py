"""How far a study is, told by its storage and its records, whoever runs it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.engine import entries, owner, storage
from harness.records import Record
from harness.trials import folders

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STATES = ("done", "pruned", "failed", "running", "waiting")


class Entered(NamedTuple):
    """A trial as the storage names it."""

    trial: str
    overrides: dict[str, Any]
    seed: int


def status(
    study: str,
    total: int,
    folder: Path,
    given: str | None,
    holds: Callable[[Any], bool] = lambda trial: True,
) -> dict[str, Any]:
    """Return the state of a study as JSON values.

    Args:
        study: its name.
        total: number of its trials, those that nobody entered yet included.
        folder: of its records.
        given: SQLAlchemy's URL of its storage; None for the file beside the records.
        holds: whether a trial is one of the study's file as it is now; it has hash, overrides and
            seed.

    Returns:
        `counts` by state; `earlier`, the number of trials of earlier versions; `running` with owner
        and progress; `failures` by cause; `eta_s`, absent while no trial is done or none is
        running.

    Raises:
        StorageError: the storage cannot be used.
    """
    entered = _entries(study, storage.url(given, folder), folder)
    found = [item for item in entered if _is_held(item, holds)]
    latest = {entries.trial_of(item) or str(item.number): item for item in found}
    records = folders.read_all(folder)
    held = [item for item in records.values() if holds(item)]
    earlier = len(records) - len(held)
    if not found:
        return _from_records(total, held) | {"earlier": earlier}
    states = {trial: _state(item) for trial, item in latest.items()}
    counts: Counter[str] = Counter(state for state in states.values() if state != entries.DUPLICATE)
    counts["waiting"] += max(total - sum(counts.values()), 0)
    running = [_running(trial, latest[trial]) for trial in states if states[trial] == "running"]
    ended = [item.user_attrs["outcome"] for item in latest.values() if entries.state_of(item)]
    failed = [trial for trial in states if states[trial] == "failed"]
    seconds = [told["seconds"] for told in ended if told["state"] == "done"]
    result: dict[str, Any] = {
        "counts": {state: counts[state] for state in STATES},
        "earlier": earlier,
        "running": running,
        "failures": _by_cause({trial: _failure(latest[trial]) for trial in failed}),
    }
    left = counts["waiting"] + 0.5 * len(running)
    if seconds and running:
        result["eta_s"] = sum(seconds) / len(seconds) * left / len(running)
    return result


def _entries(study: str, where: str, folder: Path) -> Sequence[FrozenTrial]:
    import optuna  # slow to import

    if where == storage.url(None, folder) and not (folder / storage.FILE).is_file():
        return []
    opened = storage.open_storage(where)
    if study not in optuna.get_all_study_names(opened):
        return []
    return optuna.load_study(study_name=study, storage=opened).get_trials(deepcopy=False)


def _is_held(entry: FrozenTrial, holds: Callable[[Any], bool]) -> bool:
    """Say whether an entry is of the present file; one that a search is to choose yet is."""
    trial, told = entries.trial_of(entry), entry.user_attrs
    return trial is None or holds(Entered(trial, told.get("overrides", {}), told.get("seed", 0)))


def _from_records(total: int, records: Sequence[Record]) -> dict[str, Any]:
    """Tell what the records tell by themselves."""
    counts: Counter[str] = Counter(item.state for item in records)
    failed = {item.trial: item.failure for item in records if item.failure is not None}
    waiting = max(total - len(records), 0)
    return {
        "counts": {**{state: counts[state] for state in STATES}, "waiting": waiting},
        "running": [],
        "failures": _by_cause({key: (item.cause, item.message) for key, item in failed.items()}),
    }


def _state(entry: FrozenTrial) -> str:
    name: str = entry.state.name
    return entries.state_of(entry) or {"RUNNING": "running", "WAITING": "waiting"}.get(
        name, "failed"
    )


def _running(trial: str, entry: FrozenTrial) -> dict[str, Any]:
    who = entries.owner_of(entry)
    started = entry.datetime_start
    return {
        "trial": trial,
        "name": entry.user_attrs.get("name", ""),
        "seed": entry.user_attrs.get("seed"),
        "owner": who.title if who else None,
        "owner_is_dead": bool(who and owner.is_dead(who)),
        "seconds": max(time.time() - started.timestamp(), 0.0) if started else None,
        **entry.user_attrs.get("progress", {}),
    }


def _failure(entry: FrozenTrial) -> tuple[str, str]:
    told = entry.user_attrs.get("outcome", {})
    return told.get("cause", "error"), told.get("message", "")


def _by_cause(failures: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Gather trials that failed by cause, the most frequent first."""
    grouped: dict[str, list[str]] = {}
    for trial, (cause, _) in failures.items():
        grouped.setdefault(cause, []).append(trial)
    ordered = sorted(grouped, key=lambda cause: -len(grouped[cause]))
    return [
        {"cause": cause, "trials": grouped[cause], "message": failures[grouped[cause][0]][1]}
        for cause in ordered
    ]
