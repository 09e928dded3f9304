"""What a study will do and cost, before it does it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from detectors.config import KnobError, canonical
from detectors.interface import Detector
from harness.config.recipe import Recipe
from harness.config.yaml_source import StudyError
from harness.measure.complexity import products
from harness.study.constraints import infeasible, is_lifted
from harness.study.specification import TrialSpec
from harness.trials import paces, reuse, together, trainings
from harness.trials.folders import standing
from harness.trials.paces import Pace
from harness.trials.reuse import Earlier

PASSES = 3  # a training step costs about three forward passes: one forward, two backward
SECONDS_TO_BEGIN, SECONDS_A_TRIAL = 8.0, 3.0  # a process and its imports; data, counts and files
STATES = 4  # of the weights' size in a checkpoint: the weights, their average, and AdamW's two
STAGES_SHARE = 1.5  # a subject's stages take half as long again as its calls


class Planned(NamedTuple):
    """One trial, built without memory."""

    spec: TrialSpec
    params: int
    macs: int  # of one image, training graph
    stands: bool  # whether its record exists, so that it won't run
    images: int  # an epoch
    epochs: int  # 0 when nothing is trained
    steps: int  # of the optimiser, in all
    training: str | None  # hash of what determines the weights; None when nothing is trained
    trained: bool  # whether these weights stand
    trained_macs: int  # of one image, with the inference-only knobs that the training has
    weight_bytes: int
    ruled_out: str | None  # why it will not be trained, as far as that is known for free
    earlier: Earlier | None  # the same trial of another study, whose results are taken over

    @property
    def training_macs(self) -> float:
        """Multiply-accumulates of the whole training, roughly."""
        return float(PASSES * self.trained_macs * self.images * self.epochs)


class Cost(NamedTuple):
    """What a study will take."""

    seconds: float | None  # of training and its validations; None where nothing tells a pace
    basis: str


class Disk(NamedTuple):
    """What a study will take of the disk, and what is there, bytes."""

    weights: int  # of the trainings that are left
    checkpoint: int  # the largest, while its training runs
    finished: int  # trainings that stand, of all studies
    unfinished: int  # trainings under way or given up, of all studies
    free: int


def plan(
    specs: Sequence[TrialSpec],
    out: Path,
    constraints: Mapping[str, str] | None = None,
    machine: Mapping[str, Any] | None = None,
) -> list[Planned]:
    """Build every trial without memory.

    Args:
        specs: the trials.
        out: where records and trainings stand.
        constraints: metric to limit.
        machine: from `environment.capture`, where trials of other studies are to be taken over.

    Raises:
        StudyError: a trial whose detector cannot be built.
    """
    built: dict[str, _Built] = {}  # by detector: trials may differ in other knobs
    planned = [_planned(spec, out, constraints or {}, built) for spec in specs]
    if machine is None:
        return planned
    found = [None if item.stands else reuse.find(item.spec, out, machine) for item in planned]
    return [item._replace(earlier=one) for item, one in zip(planned, found, strict=True)]


def trainings_left(planned: Sequence[Planned]) -> list[Planned]:
    """Return one trial for each training that has to be made."""
    left: dict[str, Planned] = {}
    for item in planned:
        known = item.stands or item.trained or item.ruled_out or item.earlier
        if item.training and not known:
            left.setdefault(item.training, item)
    return list(left.values())


def cost(
    planned: Sequence[Planned],
    out: Path,
    machine: Mapping[str, Any] | None = None,
    measured: Sequence[Pace] = (),
) -> Cost:
    """Estimate how long the trainings that are left will take, their validations included.

    Args:
        planned: the trials.
        out: where records of this study and of others stand.
        machine: from `environment.capture`; what was trained on another does not count.
        measured: paces from a probe, which then count alone.
    """
    left = trainings_left(planned)
    if not left:
        return Cost(0.0, "nothing is left to train")
    known = measured or paces.recorded(out, [item.spec for item in left], machine)
    seconds = [_seconds(item, known, measured=bool(measured)) for item in left]
    found = [value for value in seconds if value is not None]
    if len(found) < len(seconds):
        return Cost(None, f"unknown until detectors like these have been trained into {out}")
    return Cost(sum(found), f"by the pace of like trainings of this machine and code in {out}")


def kind_of(item: Planned) -> paces.Kind:
    """Return what the pace of a trial's training hangs on beside its operations."""
    return paces.kind_of(item.spec.detector, item.spec.config)


def _seconds(item: Planned, known: Sequence[Pace], *, measured: bool) -> float | None:
    """Return how long one training takes; None where no pace tells."""
    recipe, kind = item.spec.recipe, kind_of(item)
    if measured and not any(pace.kind == kind for pace in known):
        known = [pace._replace(kind=kind) for pace in known]  # of another family: better than none
    alike = math.inf if measured else paces.ALIKE
    pace = paces.expected(known, kind, item.trained_macs, alike=alike)
    if pace is None or recipe is None:
        return None
    validated = -(-item.epochs // recipe.validate_every) * int(item.spec.dataset["val"]["images"])
    return pace.train * item.images * item.epochs + pace.validate * validated


def other_seconds(planned: Sequence[Planned]) -> float:
    """Return what trials take beside learning and timing: to begin, load, count and write."""
    left = sum(not (item.stands or item.ruled_out) for item in planned)
    return SECONDS_TO_BEGIN + SECONDS_A_TRIAL * left if left else 0.0


def latency_seconds(planned: Sequence[Planned]) -> float:
    """Return how long the latencies that are left will take at most.

    Each is timed beside its reference, and in the end all are timed together.
    """
    timed = [item for item in planned if "latency" in item.spec.measure and not item.ruled_out]
    left = [item for item in timed if not item.stands]
    new = [item.spec.latency for item in left if item.earlier is None or not item.earlier.here]
    alone = sum(2 * (item.warmup_seconds + STAGES_SHARE * item.seconds) for item in new)
    if not left or len(timed) < 2 or not timed[0].spec.latency.together_seconds:
        return alone
    brief = together.brief(timed[0].spec.latency, len(timed))
    return alone + len(timed) * (brief.warmup_seconds + brief.seconds)


def disk(planned: Sequence[Planned], out: Path) -> Disk:
    """Say what trainings will take; the weights of a training lie there once for all its trials."""
    left = trainings_left(planned)
    held = trainings.sizes(out / trainings.SHELF)
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    return Disk(
        weights=sum(item.weight_bytes for item in left),
        checkpoint=max((STATES * item.weight_bytes for item in left), default=0),
        finished=held.finished,
        unfinished=held.unfinished,
        free=shutil.disk_usage(there).free,
    )


class _Built(NamedTuple):
    """What is known of a detector without memory for it."""

    metrics: dict[str, float]
    bytes: int


def _planned(
    spec: TrialSpec, out: Path, constraints: Mapping[str, str], built: dict[str, _Built]
) -> Planned:
    config = spec.setup.detector
    own, shared = (_build(spec, each, built) for each in (config, canonical(config)))
    recipe = spec.recipe if "accuracy" in spec.measure else None
    images = int(spec.dataset["train"]["images"])
    epochs = recipe.epochs if recipe else 0
    training = spec.training if recipe else None
    return Planned(
        spec,
        params=int(own.metrics["params"]),
        macs=int(own.metrics["macs"]),
        stands=stands_in(spec, out, constraints),
        images=images,
        epochs=epochs,
        steps=epochs * _steps_per_epoch(images, recipe) if recipe else 0,
        training=training,
        trained=bool(training and trainings.find(out / trainings.SHELF, training)),
        trained_macs=int(shared.metrics["macs"]),
        weight_bytes=shared.bytes,
        ruled_out=infeasible(own.metrics, constraints),
        earlier=None,
    )


def _build(spec: TrialSpec, config: Any, built: dict[str, _Built]) -> _Built:
    key = repr(config)
    if key not in built:
        try:
            detector, metrics = _counted(config)
        except KnobError:
            raise
        except (ValueError, RuntimeError) as error:
            raise StudyError(f"trial {spec.name!r} cannot be built: {error}") from error
        size = sum(part.numel() * part.element_size() for part in detector.state_dict().values())
        built[key] = _Built(metrics, size)
    return built[key]


def _counted(config: Any) -> tuple[Detector, dict[str, float]]:
    """Build and count a detector without memory, or with it where its work depends on values."""
    try:
        with torch.device("meta"):
            detector: Detector = config.build()
        return detector, products.count(detector, config.input.largest)
    except NotImplementedError:  # such as the number of proposals that a second stage looks at
        detector = config.build()
        return detector, products.count(detector, config.input.largest)


def _steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Count optimiser steps as training takes them: images that fill no step are left out."""
    batches = max(images * recipe.accumulate // recipe.batch_size, 1)
    return batches // min(recipe.accumulate, batches)


def stands_in(spec: TrialSpec, out: Path, limits: Mapping[str, str]) -> bool:
    """Say whether a trial's record makes running it needless."""
    found = standing(out / spec.study, spec.trial)
    return found is not None and not is_lifted(found, limits)
