"""The scatter of trainings, taken from finished studies where a study has one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.records import Record, cells, digest, origins, protocols

MOST = 3  # studies, so that an answer names all that it rests on
HOW = ("recipe.workers", "recipe.checkpoint_minutes", "recipe.cache_bytes")
"""Settings of a recipe that say how the machine works, and nothing of what is learnt."""


class Borrowed(NamedTuple):
    """How much the mAP of a training scatters over seeds, and which studies tell it."""

    variance: float  # points of mAP, squared
    freedom: int  # degrees
    trainings: int
    studies: list[str]  # those with the most trainings first


def scatter(records: Sequence[Record], others: Sequence[Record]) -> Borrowed | None:
    """Take the scatter of mAP over seeds from trainings of other studies that are the same in kind.

    Trainings are the same in kind where all of these are equal: the data (by fingerprint), every
    setting of the recipe but how many workers read, how much is cached and how often is saved,
    and so the number of epochs and steps; the weights that they start from; the family of
    detectors (`rtmdet` of `rtmdet_s`); and how mAP was measured: input, postprocessing, evaluator.
    Their detectors may differ in size and in other knobs, their code and machine in version: what
    is taken from them is how much luck moves a training, never a figure of theirs. That holds as
    far as variants of one family scatter alike, which is why an answer names the studies.

    Nothing is taken where the trials of the study differ in any of this by themselves, as in a
    sweep of learning rates; where two of its variants share a training, as with thresholds of NMS,
    whose difference does not scatter as trainings do; and from results of other code.

    Args:
        records: finished, of the study, whose variants have one seed each.
        others: finished trials of any study; those of `records` among them do not count.

    Returns:
        None where nothing of that kind was repeated, or repetitions gave equal values.
    """
    kinds = {kind(record) for record in records}
    trainings = {training(record) for record in records}
    if len(kinds) != 1 or len(trainings) < len(records):
        return None
    same = [o for o in others if "mAP" in o.metrics and kind(o) in kinds]
    repeated = _repeated([o for o in same if origins.stale(o) is None], trainings)
    named = [name for name, _ in Counter(one.study for one in repeated).most_common(MOST)]
    used = [one for one in repeated if one.study in named]
    if not used:
        return None
    values = 100 * np.array([one.metrics["mAP"] for one in used])
    alike = len({record.seed for record in records}) == 1  # what a seed does to all cancels
    fit = cells.cells(used, values, blocks=alike, cell=cells.configured).fit
    if not fit.freedom:  # of one detector alone, what a seed does to all is part of the scatter
        fit = cells.cells(used, values, blocks=False, cell=cells.configured).fit
    if fit.variance is None:
        return None
    return Borrowed(fit.variance, fit.freedom, len(used), named)


def _repeated(others: Sequence[Record], known: set[str]) -> list[Record]:
    """Return trials of detectors that were trained with several seeds, each training once.

    Args:
        others: of one kind.
        known: trainings that do not count.
    """
    found: dict[tuple[str, ...], dict[int, Record]] = {}
    for other in others:
        if training(other) not in known:
            found.setdefault(cells.configured(other), {}).setdefault(other.seed, other)
    kept: dict[str, Record] = {}
    for seeds in sorted(found.values(), key=len, reverse=True):
        own = {training(other): other for other in seeds.values()}
        if len(seeds) > 1 and not own.keys() & kept.keys():  # other exits of a training are not new
            kept |= own
    return list(kept.values())


def kind(record: Record) -> str:
    """Hash what trainings must have in common so that one tells how another scatters."""
    names = [path for path in record.config if path.startswith(("recipe.", "weights"))]
    recipe = {path: record.config[path] for path in names if path not in HOW}
    start = record.overrides.get("weights")
    accuracy = protocols.of_accuracy(record)
    return digest([family(record), record.data.get("fingerprint"), recipe, start, accuracy])


def family(record: Record) -> str:
    """Return the family of a trial's detector: `rtmdet` of `rtmdet_s`, or the package it is of."""
    package, colon, _ = record.detector.partition(":")
    return package if colon else record.detector.partition("_")[0]


def training(record: Record) -> str:
    """Return the hash of a trial's training, or of the trial where it does not tell."""
    return str(record.details.get("training", {}).get("training") or record.trial)
