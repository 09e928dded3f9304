"""A short look at how fast a variant trains here, so that a plan can tell hours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from detectors.config import canonical
from harness import data
from harness.config.data import DataError
from harness.config.recipe import Recipe, RecipeError
from harness.machine import locks
from harness.records.progress import Progress
from harness.training.train import train
from harness.trials.learn import build
from harness.trials.plan import PASSES, Planned

SECONDS = 10.0  # of steps that are timed
FEWEST_STEPS = 2  # that are timed, however long they take
CPU_STEP_MACS = 2e11  # of a step on a CPU at most: the batch is cut, which changes the pace little


class Probe(NamedTuple):
    """How fast a variant trains."""

    name: str  # of the trial
    macs_per_second: float
    images_per_second: float
    steps: int  # that were timed


class _Enough(Exception):
    """The probe has seen enough."""


def probe(left: Sequence[Planned], device: str, seconds: float = SECONDS) -> Probe | str:
    """Take a few training steps of the variant that is typical in its MACs, loading included.

    Args:
        left: trials whose trainings are to be made, at least one.
        device: as torch spells it.
        seconds: for the steps that are timed; the first step is not.

    Returns:
        What was found; where the steps could not be taken, why.
    """
    item = sorted(left, key=lambda item: item.trained_macs)[len(left) // 2]
    recipe = _brief(item, device)
    times: list[float] = []

    def look(progress: Progress) -> None:
        times.append(time.perf_counter())
        timed = len(times) - 1
        if timed >= FEWEST_STEPS and times[-1] - times[0] >= seconds:
            raise _Enough

    try:
        detector = build(item.spec, canonical(item.spec.setup.detector))
        dataset = data.load(item.spec.data)
        with locks.working(device):
            train(detector, dataset, recipe, seed=0, device=device, on_progress=look)
    except _Enough:
        pass
    except (DataError, RecipeError, RuntimeError, ArithmeticError) as error:
        return f"the probe failed: {' '.join(str(error).split())[:200]}"
    steps, spent = len(times) - 1, times[-1] - times[0]
    if steps < 1 or spent <= 0:
        return "the training is too short for a probe"
    pace = steps * recipe.batch_size / spent
    return Probe(item.spec.title, PASSES * item.trained_macs * pace, pace, steps)


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
