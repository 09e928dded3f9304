"""Training: one loop for every detector, `losses()` in, trained weights out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from detectors.interface import Detector
from harness.config.recipe import Recipe
from harness.data import DataSet
from harness.records.progress import OnProgress, ignore
from harness.training import processes
from harness.training.checkpoint import CheckpointError
from harness.training.doubt import doubt
from harness.training.loop import Loop
from harness.training.meters import NotFiniteError

__all__ = ["CheckpointError", "NotFiniteError", "Training", "Validate", "train"]

Validate = Callable[[Detector], dict[str, float]]


class Training(NamedTuple):
    """What a training leaves behind, beside the weights."""

    # One row an epoch: epoch and step (finished, from 1), time (s since the epoch of Unix), lr (of
    # the last step), loss, each loss by name (means over the epoch), images_per_second (without
    # validation), and what `validate` returned.
    curves: list[dict[str, float]]
    seconds: float  # wall time of the whole training, validation included
    details: dict[str, Any]
    """Of all steps: `images_per_second`; `waiting_share` and `device_share` of their time, spent on
    waiting for data and, on a GPU, from the first to the last of a step's kernels; `memory_bytes`,
    the most that tensors took on a GPU, or the process on a CPU; `lr` after warm-up, as scaled;
    `processes`; `loading_processes`, those that loaded images beside each; `resumed`, how often it
    went on from a checkpoint; `deviations`, in words, from the recipe; `data`, what the loader
    tells; `doubted`, what was said while it ran of a training that learnt nothing, and `doubt`,
    what is to be said at its end, each where there was something; `norms_restored`, how many norms
    came folded into convolutions, where there were any.
    """


def train(
    detector: Detector,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    on_progress: OnProgress = ignore,
    validate: Validate | None = None,
    checkpoint: Path | None = None,
    share: int = 1,
    from_weights: bool = False,
) -> Training:
    """Train a detector, in place.

    On return `detector` is on `device`, in eval mode, and holds the weights to keep: the moving
    average when the recipe has one. Runs of one seed are equal on a CPU with the same number of
    threads, whether they were ended and resumed or not; on a GPU some kernels add up in an order
    that changes.

    A step sees the same images whatever `accumulate` is, and its micro-batches count alike, but
    each has its own loss normaliser and norm statistics: only without norms, and for losses that
    are means over images, does accumulation equal one large batch. Images that don't fill a step
    are left out of their epoch.

    Under `torchrun` its processes share the batch: each calls this function with the same
    arguments, and all return the same.

    Args:
        detector: with a criterion; its weights are where training starts.
        data: its `train` split is learnt.
        recipe: how.
        seed: of augmentation and order; also seeds torch's global generator.
        device: `cpu`, `cuda` or `cuda:N`; under `torchrun` `cpu` or `cuda`.
        on_progress: called at every optimiser step, phase `train`, with the values loss, each loss
            by name, lr, eta_s and images_per_second. On a GPU the losses are up to 20 steps old,
            and absent before. Once, with a note, if the training learns nothing.
        validate: called with the weights that would be kept, in eval mode, every `validate_every`
            epochs and after the last; what it returns joins that epoch's row of the curves. What it
            raises ends the training. After a resume that of the last epoch may be called again.
        checkpoint: folder that training resumes from if it holds a checkpoint, and writes one to at
            the end of each epoch, before it is validated, and every `checkpoint_minutes`.
        share: number of trainings that run at a time, and share the cores with this one.
        from_weights: whether it starts from weights that were trained before.

    Raises:
        NotFiniteError: a loss or the final weights are not finite.
        RecipeError: the recipe does not go with the detector, the device or the processes.
        CheckpointError: the checkpoint is that of another training.
    """
    torch.manual_seed(seed + processes.rank())
    loop = Loop(detector, data, recipe, seed, torch.device(device), share)
    if checkpoint is not None:
        loop.keep_in(checkpoint)
    while loop.epoch <= recipe.epochs:
        row = loop.run_epoch(on_progress)
        if validate and (loop.epoch % recipe.validate_every == 0 or loop.epoch == recipe.epochs):
            row |= validate(loop.kept().eval())
        loop.end_epoch(row)
        loop.tell_doubt(on_progress, from_weights=from_weights)
    loop.close()
    details, found = loop.details(), doubt(loop.curves, recipe, from_weights=from_weights)
    details |= {} if found is None else {"doubt": found}
    return Training(loop.curves, loop.clock.elapsed(), details)
