"""Finished trials as the two sides of a comparison: what may be compared with what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.measure.accuracy import detections
from harness.records import Record, finished, origins, protocols, record
from harness.records.finished import CompareError

__all__ = ["CompareError", "Run", "check", "other_seeds", "read", "same_but_seed", "same_trainings"]


class Run(NamedTuple):
    """A finished trial and what it found."""

    folder: Path
    record: Record
    detections: list[dict[str, Any]]


def read(folder: Path) -> Run:
    """Read a finished trial.

    Raises:
        CompareError: it has no record, no accuracy or no detections.
        RecordError: its files are damaged.
    """
    result = finished.read(folder)
    file = record.artifact(folder, result.artifacts["detections"])
    return Run(folder, result, detections.read(file))


def same_but_seed(first: Record, other: Record) -> bool:
    """Say whether two trials are one configuration, of the same code, measured alike on one data.

    A result that is out of date is no seed of another, whatever its record says of its code.
    """
    return (
        first.detector == other.detector
        and first.config == other.config
        and first.protocol_hash == other.protocol_hash
        and first.data.get("fingerprint") == other.data.get("fingerprint")
        and _beside(first) == _beside(other)
        and first.code == other.code
        and origins.stale(first) is origins.stale(other) is None
    )


def same_trainings(a: Sequence[Record], b: Sequence[Record]) -> list[int] | None:
    """Return the place in B of each training of A; None unless both sides are the same trainings.

    Trials share a training where they differ in what acts after it, such as thresholds of NMS.
    """
    first, second = ([item.details.get("training", {}).get("training") for item in side]
                     for side in (a, b))  # fmt: skip
    if None in first or len({*first}) < len(first) or sorted(first) != sorted(map(str, second)):
        return None
    return [second.index(name) for name in first]


def _beside(item: Record) -> dict[str, Any]:
    """Return what a trial changes that is no knob of its configuration, such as its weights."""
    return {path: value for path, value in item.overrides.items() if path not in item.config}


def other_seeds(folder: Path) -> list[Path]:
    """Return the folders beside a trial's whose trials differ from it by the seed only."""
    named = record.read(folder)
    found: dict[int, Path] = {}
    for path in sorted(folder.resolve().parent.glob(f"*/{record.FILE}")):
        if path.parent.name.startswith("."):
            continue
        other = record.read(path)
        fits = other.state == "done" and other.study == named.study and other.seed != named.seed
        if fits and same_but_seed(named, other):
            found.setdefault(other.seed, path.parent)
    return [found[seed] for seed in sorted(found)]


def check(a: Sequence[Run], b: Sequence[Run], *, mixed: bool) -> list[str]:
    """Refuse runs whose figures do not mean the same.

    Returns:
        What must be said beside the result when `mixed` lets them pass.

    Raises:
        CompareError: another protocol or data, or a side that is not one configuration.
    """
    for name, side in (("A", a), ("B", b)):
        _check_side(name, [run.record for run in side])
    first, second = a[0].record, b[0].record
    found = []
    if unlike := protocols.unexplained([first, second]):
        found.append(f"A and B were measured by different protocols ({', '.join(unlike)})")
    prints = [item.data.get("fingerprint") for item in (first, second)]
    if prints[0] != prints[1]:
        found.append(f"A and B are of different data (fingerprints {prints[0]} and {prints[1]})")
    if found and not mixed:
        raise CompareError(f"{'; '.join(found)}; --mixed compares them all the same, and says so")
    return [*found, *_origins([run.record for run in (*a, *b)])]


def _origins(records: Sequence[Record]) -> list[str]:
    """Say in what the runs differ beside their knobs: protocol that is swept, code, libraries."""
    found = []
    if swept := protocols.brought_along(records):
        found.append(f"what is swept changes the protocol, too: {', '.join(swept)}")
    stale = {record.trial: why for record in records if (why := origins.stale(record)) is not None}
    found += [f"trial {trial} is of other code: {why}" for trial, why in stale.items()]
    if files := origins.other_code(records):
        found.append(f"the code changed between them: {', '.join(files)}")
    unknown = [record for record in records if not record.code]
    if unknown:
        whose = "all runs" if len(unknown) == len(records) else f"{len(unknown)} of the runs"
        found.append(f"code unknown: {whose} were recorded before the source was kept")
    for name, versions in origins.libraries(records).items():
        found.append(f"{name} differs: {', '.join(versions)}")
    return found


def _check_side(name: str, records: Sequence[Record]) -> None:
    seeds = [item.seed for item in records]
    if len(set(seeds)) < len(seeds):
        raise CompareError(f"side {name} has a seed twice (seeds {seeds}); name each run once")
    for other in records[1:]:
        if not same_but_seed(records[0], other):
            keys = sorted(records[0].config.keys() | other.config.keys())
            unlike = [k for k in keys if records[0].config.get(k) != other.config.get(k)]
            reason = ", ".join(unlike) or "detector, data, protocol or code"
            raise CompareError(f"side {name} is not one configuration with seeds: {reason} differs")
