"""How fast detectors train on this machine: from trainings that were recorded, or from a probe.

A pace holds for detectors like the one it was seen with. Between two that were seen it follows a
power of their operations; beyond them the square root, half way between a step that is all work and
one that is all overhead, and no further than a factor of `ALIKE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.machine import environment
from harness.records import Record, RecordError, record
from harness.study import code as codes
from harness.study.specification import TrialSpec

ALIKE = 2.0  # times the operations, up to which a pace tells of another detector
SAME = ("recipe.precision", "recipe.batch_size", "recipe.accumulate", "recipe.channels_last")

Kind = tuple[str, ...]


class Pace(NamedTuple):
    """How fast one detector trains."""

    kind: Kind
    macs: float  # of one image, forward
    train: float  # seconds per image, loading included
    validate: float  # seconds per image


def kind_of(detector: str, config: Mapping[str, Any]) -> Kind:
    """Return what a pace hangs on beside the operations."""
    return (detector, *(str(config.get(name)) for name in SAME))


def expected(
    paces: Iterable[Pace], kind: Kind, macs: float, *, alike: float = ALIKE
) -> Pace | None:
    """Return the pace of a detector that was not seen; None where none that was is like it.

    Args:
        paces: that were seen.
        kind: of the detector.
        macs: of one image, forward.
        alike: times the operations, up to which the nearest may tell.
    """
    seen = sorted((pace for pace in paces if pace.kind == kind), key=lambda pace: pace.macs)
    if not seen:
        return None
    below = max((pace for pace in seen if pace.macs <= macs), key=_macs, default=seen[0])
    above = min((pace for pace in seen if pace.macs >= macs), key=_macs, default=seen[-1])
    nearest = min(abs(math.log(macs / pace.macs)) for pace in (below, above))
    if nearest > math.log(alike) and below.macs == above.macs:
        return None
    return Pace(
        kind,
        macs,
        _between((below.macs, below.train), (above.macs, above.train), macs),
        _between((below.macs, below.validate), (above.macs, above.validate), macs),
    )


def _macs(pace: Pace) -> float:
    return pace.macs


def _between(low: tuple[float, float], high: tuple[float, float], macs: float) -> float:
    """Follow a power of the operations through two points; through one, the square root."""
    power = 0.5
    if high[0] > low[0] and low[1] > 0 and high[1] > 0:
        power = math.log(high[1] / low[1]) / math.log(high[0] / low[0])
    return float(low[1] * (macs / low[0]) ** power)


def recorded(
    out: Path, specs: Sequence[TrialSpec], machine: Mapping[str, Any] | None
) -> list[Pace]:
    """Return the paces of trainings that were recorded under a folder, each once.

    Args:
        out: where records of all studies stand.
        specs: trials whose detectors' code counts: what other code took says nothing.
        machine: from `environment.capture`; what was trained on another does not count.
    """
    found: dict[str, list[Pace]] = {}
    wanted = None if machine is None else environment.identity(machine)
    now = {spec.detector: _code(spec.code) for spec in specs}
    for result in _records(out):
        told = result.details.get("training", {})
        key = str(told.get("training", result.trial))
        elsewhere = wanted not in (None, environment.identity(result.environment))
        of_now = result.detector in now and _code(result.code) == now[result.detector]
        pace = _pace(result) if of_now and not elsewhere and result.state == "done" else None
        if pace is not None:
            found.setdefault(key, [pace])
    return _medians(pace for held in found.values() for pace in held)


def _medians(paces: Iterable[Pace]) -> list[Pace]:
    """Return one pace for each detector: the median of what was seen of it."""
    alike: dict[tuple[Kind, float], list[Pace]] = {}
    for pace in paces:
        alike.setdefault((pace.kind, pace.macs), []).append(pace)
    return [sorted(held, key=lambda pace: pace.train)[len(held) // 2] for held in alike.values()]


def _code(code: codes.Code) -> dict[str, Any]:
    return {part: code.get(part) for part in codes.TRAINED}


def _pace(result: Record) -> Pace | None:
    told, config = result.details.get("training", {}), result.config
    seconds, macs = told.get("seconds"), result.metrics.get("macs")
    epochs, every = config.get("recipe.epochs"), config.get("recipe.validate_every")
    images, val = (int(result.data.get(name, {}).get("images", 0)) for name in ("train", "val"))
    speed = told.get("details", {}).get("images_per_second")
    if not (seconds and macs and epochs and every and images and val and speed):
        return None
    rest = max(seconds - images * epochs / speed, 0.0)
    kind = kind_of(result.detector, config)
    return Pace(kind, macs, 1 / speed, rest / (val * -(-epochs // every)))


def _records(out: Path) -> Iterator[Record]:
    for folder in sorted(out.glob("*")):
        try:
            yield from record.read_all(folder)
        except RecordError:
            continue
