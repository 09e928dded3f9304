"""A short look at how fast variants train here, so that a plan can tell hours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from detectors.config import canonical
from detectors.interface import Detector
from harness import data
from harness.config.data import DataError
from harness.config.recipe import Recipe, RecipeError
from harness.data import DataSet
from harness.machine import locks
from harness.measure.accuracy.evaluate import detect
from harness.records.progress import Progress
from harness.training.train import train
from harness.trials.learn import build
from harness.trials.paces import Pace
from harness.trials.plan import PASSES, Planned, kind_of

SECONDS = 4.0  # of steps that are timed, of all variants together
MOST = 4  # variants that are tried
APART = 1.3  # times the operations, from which a second variant of a kind is worth a try
FEWEST_STEPS = 3  # that are timed, however long they take
MANY = 10  # steps, of which a mean is taken
BUSY = 0.6  # of the cores it could have, below which a probe says that others use them
CPU_STEP_MACS = 2e10  # of a step on a CPU, about a second: the batch is cut, then the input


class Probe(NamedTuple):
    """How fast variants train."""

    paces: list[Pace]
    basis: str  # in words, which took what


class _Enough(Exception):
    """The probe has seen enough."""


def probe(left: Sequence[Planned], device: str, seconds: float = SECONDS) -> Probe | str:
    """Take a few training steps of the smallest and largest variants, loading included.

    Args:
        left: trials whose trainings are to be made, at least one.
        device: as torch spells it.
        seconds: for the steps that are timed; each variant's first step is not.

    Returns:
        What was found; where the steps could not be taken, why.
    """
    chosen, found, told = _chosen(left), list[Pace](), list[str]()
    used, began = time.process_time(), time.perf_counter()
    for item in chosen:
        try:
            pace, steps = _look(item, device, seconds / len(chosen))
        except (DataError, RecipeError, RuntimeError, ArithmeticError) as error:
            return f"the probe failed: {' '.join(str(error).split())[:200]}"
        if pace is None:
            return "the training is too short for a probe"
        found.append(pace)
        told.append(f"{item.spec.title}: {steps} steps at {1 / pace.train:.3g} images a second")
    used = (time.process_time() - used) / (time.perf_counter() - began)
    busy = device == "cpu" and used < BUSY * torch.get_num_threads()
    told += ["others used this machine meanwhile, so that alone it will take less"] if busy else []
    return Probe(found, f"just tried on {device}: {', '.join(told)}")


def _chosen(left: Sequence[Planned]) -> list[Planned]:
    """Return the smallest and the largest variant of each kind, as far as they differ."""
    kinds: dict[Any, list[Planned]] = {}
    for item in sorted(left, key=lambda item: item.trained_macs):
        kinds.setdefault(kind_of(item), []).append(item)
    chosen = []
    for held in kinds.values():
        far = held[-1].trained_macs > APART * held[0].trained_macs
        chosen += [held[0], held[-1]] if far else [held[len(held) // 2]]
    return chosen[:MOST]


def _look(item: Planned, device: str, seconds: float) -> tuple[Pace | None, int]:
    """Time the steps of one variant, then a batch or two as a validation has them."""
    recipe, times = _brief(item, device), list[float]()

    def look(progress: Progress) -> None:
        if progress.note:
            return
        times.append(time.perf_counter())
        if len(times) > FEWEST_STEPS and times[-1] - times[0] >= seconds:
            raise _Enough

    config, share = _smaller(item, recipe, device)
    detector = build(item.spec.model_copy(update={"start": None}), config)
    dataset = data.load(item.spec.data)
    with locks.working(device):
        with suppress(_Enough):
            train(detector, dataset, recipe, seed=0, device=device, on_progress=look)
        steps = [after - before for before, after in pairwise(times)]
        if not steps:
            return None, 0
        validated = _validation(detector, dataset, device, seconds / 2) * share
    trained = typical(steps) / recipe.batch_size * share
    return Pace(kind_of(item), item.trained_macs, trained, validated), len(steps)


def typical(seconds: Sequence[float]) -> float:
    """Return how long a step takes: of few the fastest, which the least disturbed; else a mean.

    The slowest tenth of many is left out: what disturbed it does not last.
    """
    kept = sorted(seconds)[: max(1, len(seconds) * 9 // 10)]
    return kept[0] if len(seconds) < MANY else sum(kept) / len(kept)


def _validation(detector: Detector, dataset: DataSet, device: str, seconds: float) -> float:
    """Return the seconds that an image takes when a detector is evaluated."""
    deployed = detector.eval().deploy().to(device)
    images, began = 0, time.perf_counter()
    for found in detect(deployed, dataset.val, device=device, workers=0):
        images += found.images
        if time.perf_counter() - began >= seconds:
            break
    return (time.perf_counter() - began) / images


def _brief(item: Planned, device: str) -> Recipe:
    """Return the recipe with a step of one micro-batch, on a CPU with one that can be waited for.

    The sizes of steps are what training takes: on a GPU a smaller batch would be another pace.
    """
    recipe = item.spec.recipe
    assert recipe is not None
    batch = min(recipe.batch_size // recipe.accumulate, item.images)
    if device == "cpu":
        batch = min(batch, max(1, int(CPU_STEP_MACS / (PASSES * item.trained_macs))))
    return recipe.model_copy(update={"batch_size": batch, "accumulate": 1})


def _smaller(item: Planned, recipe: Recipe, device: str) -> tuple[Any, float]:
    """Halve the sides of the input of a detector that is too slow for a CPU even so.

    Returns:
        The config, and how many times the work of an image is that of the smaller one.
    """
    config, share = canonical(item.spec.setup.detector), 1.0
    divisor = getattr(config, "size_divisor", 1)
    work = PASSES * item.trained_macs * recipe.batch_size
    while device == "cpu" and work > share * CPU_STEP_MACS:
        height, width = config.input.size
        if height % (2 * divisor) or width % (2 * divisor):
            break
        config = replace(config, input=replace(config.input, size=(height // 2, width // 2)))
        share *= 4
    return config, share
