"""What a study will do and cost, before it does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from detectors.config import KnobError
from harness import complexity, record
from harness.recipe import Recipe
from harness.record import Record, RecordError
from harness.specification import TrialSpec
from harness.yaml_source import StudyError

PASSES = 3  # a training step costs about three forward passes: one forward, two backward
ALIKE = 4  # times the MACs: small models are slower for their work, and say nothing of large ones


class Planned(NamedTuple):
    """One trial, built without memory."""

    spec: TrialSpec
    params: int
    macs: int  # of one image, training graph
    stands: bool  # whether its record exists, so that it won't run
    images: int  # an epoch
    epochs: int  # 0 when nothing is trained
    steps: int  # of the optimiser, in all

    @property
    def training_macs(self) -> float:
        """Multiply-accumulates of the whole training, roughly."""
        return float(PASSES * self.macs * self.images * self.epochs)


class Cost(NamedTuple):
    """What a study will take."""

    seconds: float | None  # of training; None as long as nothing was trained on this machine
    basis: str


def plan(specs: Sequence[TrialSpec], out: Path) -> list[Planned]:
    """Build every trial without memory.

    Raises:
        StudyError: a trial whose detector cannot be built.
    """
    return [_planned(spec, out) for spec in specs]


def cost(planned: Sequence[Planned], out: Path) -> Cost:
    """Estimate how long the trainings that are left will take, from those that ended before."""
    left = [item for item in planned if not item.stands]
    work = sum(item.training_macs for item in left)
    if not work:
        return Cost(0.0, "nothing is left to train")
    typical = sorted(item.macs for item in left)[len(left) // 2]
    speeds = sorted(
        found.speed
        for found in _trainings(out)
        if 1 / ALIKE <= found.macs / typical <= ALIKE and found.speed
    )
    if not speeds:
        return Cost(None, f"unknown until a detector like these has been trained; none is in {out}")
    speed = speeds[len(speeds) // 2]
    seconds = work / speed
    return Cost(seconds, f"speed of trainings of like detectors recorded in {out}, scaled by MACs")


def _planned(spec: TrialSpec, out: Path) -> Planned:
    config = spec.setup.detector
    try:
        with torch.device("meta"):
            detector = config.build()
        metrics = complexity.count_training(detector, config.input.size)
    except KnobError:
        raise
    except (ValueError, RuntimeError) as error:
        raise StudyError(f"trial {spec.name!r} cannot be built: {error}") from error
    recipe = spec.recipe if "accuracy" in spec.measure else None
    images = int(spec.dataset["train"]["images"])
    epochs = recipe.epochs if recipe else 0
    steps = epochs * _steps_per_epoch(images, recipe) if recipe else 0
    stands = stands_in(spec, out)
    macs, params = int(metrics["macs"]), int(metrics["params"])
    return Planned(spec, params, macs, stands, images, epochs, steps)


def _steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Count optimiser steps as training takes them: images that fill no step are left out."""
    batches = max(images * recipe.accumulate // recipe.batch_size, 1)
    return batches // min(recipe.accumulate, batches)


def stands_in(spec: TrialSpec, out: Path) -> bool:
    """Say whether a trial's record makes running it needless."""
    from harness.engine.standing import standing

    return standing(out / spec.study, spec.trial) is not None


class _Trained(NamedTuple):
    """One training that was recorded."""

    macs: float  # of one image
    speed: float  # multiply-accumulates a second


def _trainings(out: Path) -> Iterator[_Trained]:
    """Yield every training recorded under a folder."""
    for folder in sorted(out.glob("*")):
        for found in _records(folder):
            seconds, macs = found.timings.get("train"), found.metrics.get("macs")
            epochs, images = found.config.get("recipe.epochs"), found.data.get("train", {})
            if found.state == "done" and seconds and macs and epochs:
                yield _Trained(macs, PASSES * macs * images.get("images", 0) * epochs / seconds)


def _records(folder: Path) -> list[Record]:
    try:
        return record.read_all(folder)
    except RecordError:
        return []
