"""Training: one loop for every detector, `losses()` in, trained weights out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from detectors.interface import Detector, Target
from harness import optimize
from harness.data import Batch, DataSet, normalize, train_loader
from harness.ema import MovingAverage
from harness.progress import OnProgress, Progress, ignore
from harness.recipe import Recipe, RecipeError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
STEPS_BETWEEN_READS = 20  # on an accelerator, where reading a loss waits for the device

Validate = Callable[[Detector], dict[str, float]]


class NotFiniteError(ArithmeticError):
    """Training ran into a loss or a weight that is infinite or not a number."""


class Training(NamedTuple):
    """What a training leaves behind, beside the weights."""

    # One row an epoch: epoch and step (finished, from 1), time (s since the epoch of Unix), lr (of
    # the last step), loss, each loss by name (means over the epoch), images_per_second (without
    # validation), and what `validate` returned.
    curves: list[dict[str, float]]
    seconds: float  # wall time of the whole training, validation included


def train(
    detector: Detector,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    on_progress: OnProgress = ignore,
    validate: Validate | None = None,
) -> Training:
    """Train a detector, in place.

    On return `detector` is on `device`, in eval mode, and holds the weights to keep: the moving
    average when the recipe has one. Runs of one seed are equal on a CPU with the same number of
    threads; on a GPU some kernels add up in an order that changes.

    A step sees the same images whatever `accumulate` is, and its micro-batches count alike, but
    each has its own loss normaliser and norm statistics: only without norms, and for losses that
    are means over images, does accumulation equal one large batch. Images that don't fill a step
    are left out of their epoch.

    Args:
        detector: with a criterion; its weights are where training starts.
        data: its `train` split is learnt.
        recipe: how.
        seed: of augmentation and order; also seeds torch's global generator.
        device: `cpu`, `cuda` or `cuda:N`.
        on_progress: called at every optimiser step, phase `train`, with the values loss, each loss
            by name, lr, eta_s and images_per_second. On a GPU the losses are up to 20 steps old,
            and absent before.
        validate: called with the weights that would be kept, in eval mode, every `validate_every`
            epochs and after the last; what it returns joins that epoch's row of the curves.

    Raises:
        NotFiniteError: a loss or the final weights are not finite.
        RecipeError: the recipe does not go with the device.
    """
    started = time.perf_counter()
    torch.manual_seed(seed)
    loop = _Loop(detector, data, recipe, seed=seed, device=torch.device(device))
    curves = []
    for epoch in range(1, recipe.epochs + 1):
        row = loop.run_epoch(epoch, on_progress)
        if validate and (epoch % recipe.validate_every == 0 or epoch == recipe.epochs):
            row |= validate(loop.kept().eval())
        curves.append(row)
    if loop.kept() is not detector:
        detector.load_state_dict(loop.kept().state_dict())
    _check_weights(detector.eval())
    return Training(curves, time.perf_counter() - started)


class _Sample:
    """Images and targets in an object that is opaque to Fabric, which else rounds the boxes."""

    def __init__(self, images: Tensor, targets: list[Target]) -> None:
        self.images, self.targets = images, targets


class _Losses(nn.Module):
    """Gives Fabric a `forward` to wrap."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, sample: _Sample) -> dict[str, Tensor]:
        return self.detector.losses(sample.images, sample.targets)


class _Loop:
    """The state of one training."""

    def __init__(
        self, detector: Detector, data: DataSet, recipe: Recipe, *, seed: int, device: torch.device
    ) -> None:
        self.detector, self.recipe = detector, recipe
        self.layout = torch.channels_last if recipe.channels_last else torch.preserve_format
        self.fabric = _fabric(device, recipe)
        self.loader = train_loader(data.train, detector.config.input, recipe, seed)
        self.accumulate = min(recipe.accumulate, len(self.loader))
        self.steps_per_epoch = len(self.loader) // self.accumulate
        detector.to(device).to(memory_format=self.layout)
        self.average: MovingAverage[Detector] | None = None
        if recipe.ema_decay is not None:
            self.average = MovingAverage(detector, recipe.ema_decay, recipe.ema_ramp)
        optimizer = optimize.adamw(detector, recipe)
        self.model, self.optimizer = self.fabric.setup(_Losses(detector), optimizer)
        self.clock = _Clock(recipe.epochs * self.steps_per_epoch)
        self.lr = 0.0

    def kept(self) -> Detector:
        """Return the model whose weights would be kept if training ended here."""
        return self.average.model if self.average else self.detector

    def run_epoch(self, epoch: int, on_progress: OnProgress) -> dict[str, float]:
        """Train for one epoch and return its row of the curves."""
        self.detector.train()
        self.clock.start_epoch()
        every = 1 if self.fabric.device.type == "cpu" else STEPS_BETWEEN_READS
        meter = _Meter(epoch)
        for images in self._steps(epoch, meter):
            self.clock.tick(images)
            if self.clock.step % every == 0:
                meter.read()
            values = {**meter.latest, "lr": self.lr, **self.clock.values()}
            on_progress(Progress("train", self.clock.step, self.clock.steps, values))
        meter.read()
        return {
            "epoch": epoch,
            "step": self.clock.step,
            "time": time.time(),
            "lr": self.lr,
            **meter.means(),
            "images_per_second": self.clock.images_per_second(),
        }

    def _steps(self, epoch: int, meter: _Meter) -> Iterator[int]:
        """Take the optimiser steps of an epoch; yield the number of images after each."""
        images = 0
        batches = islice(self.loader.epoch(epoch - 1), self.steps_per_epoch * self.accumulate)
        for index, batch in enumerate(batches, start=1):
            last = index % self.accumulate == 0
            with self.fabric.no_backward_sync(self.model, enabled=not last):
                losses = self._losses(batch)
                values = torch.stack(list(losses.values()))
                self.fabric.backward(values.sum() / self.accumulate)
            meter.add(_Waiting(self.clock.step + 1, list(losses), values.detach(), batch.indices))
            images += len(batch.images)
            if last:
                self._update()
                yield images
                images = 0

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        pixels, targets = self.fabric.to_device((batch.images, batch.targets))
        images = normalize(pixels, self.detector.config.input).to(memory_format=self.layout)
        losses: dict[str, Tensor] = self.model(_Sample(images, targets))
        return losses

    def _update(self) -> None:
        """Take one optimiser step from the accumulated gradients."""
        self.lr = optimize.learning_rate(self.clock.step, self.clock.steps, self.recipe)
        optimize.set_learning_rate(self.optimizer, self.lr)
        if self.recipe.clip_norm is not None:
            self.fabric.clip_gradients(
                self.model,
                self.optimizer,
                max_norm=self.recipe.clip_norm,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(self.detector)


class _Clock:
    """Counts optimiser steps and images, and says how long the rest will take."""

    def __init__(self, steps: int) -> None:
        self.step, self.steps = 0, steps
        self.started = self.epoch_started = time.perf_counter()
        self.images = 0

    def start_epoch(self) -> None:
        """Count images from here."""
        self.epoch_started, self.images = time.perf_counter(), 0

    def tick(self, images: int) -> None:
        """Count one step."""
        self.step += 1
        self.images += images

    def images_per_second(self) -> float:
        """Return the speed of the epoch so far."""
        return self.images / max(time.perf_counter() - self.epoch_started, 1e-9)

    def values(self) -> dict[str, float]:
        """Return what to show beside a progress bar."""
        spent = time.perf_counter() - self.started
        eta_s = spent / self.step * (self.steps - self.step)
        return {"eta_s": eta_s, "images_per_second": self.images_per_second()}


class _Waiting(NamedTuple):
    """The losses of a micro-batch, still on the device."""

    step: int
    names: list[str]
    values: Tensor  # [len(names)]
    images: Tensor  # indices into the split


class _Meter:
    """Collects losses on the device, and reads and checks many at once."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.latest: dict[str, float] = {}
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.waiting: list[_Waiting] = []

    def add(self, item: _Waiting) -> None:
        """Take the losses of a micro-batch, without waiting for the device."""
        self.waiting.append(item)

    def read(self) -> None:
        """Fetch what was collected.

        Raises:
            NotFiniteError: at the first loss that is not finite.
        """
        if not self.waiting:
            return
        numbers = torch.cat([item.values for item in self.waiting]).tolist()
        for item in self.waiting:
            row = dict(zip(item.names, numbers, strict=False))
            del numbers[: len(row)]
            for name, value in row.items():
                self._check(item, name, value)
            self.latest = {"loss": sum(row.values()), **row}
            for name, value in self.latest.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1
        self.waiting.clear()

    def _check(self, item: _Waiting, name: str, value: float) -> None:
        if not math.isfinite(value):
            images = ", ".join(map(str, item.images.tolist()))
            raise NotFiniteError(
                f"epoch {self.epoch}, step {item.step}: {name} is {value} on the training images "
                f"{images}; lower recipe.lr, lengthen the warm-up, or look at these images"
            )

    def means(self) -> dict[str, float]:
        """Return each loss's mean over the micro-batches that had it."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}


def _fabric(device: torch.device, recipe: Recipe) -> Fabric:
    """Make the Fabric that moves tensors and chooses the arithmetic."""
    from lightning_fabric import Fabric  # slow to import, and only training needs it

    if device.type == "cpu" and recipe.precision == "fp16":
        raise RecipeError("recipe.precision: fp16 needs a GPU; use bf16 or fp32 on the cpu")
    devices = 1 if device.type == "cpu" else [device.index or 0]
    return Fabric(accelerator=device.type, devices=devices, precision=PRECISIONS[recipe.precision])


def _check_weights(detector: Detector) -> None:
    """Refuse weights that are not finite: their detections would be empty without a word."""
    for name, parameter in detector.named_parameters():
        if not torch.isfinite(parameter).all():
            raise NotFiniteError(f"{name} is not finite after the last step; lower recipe.lr")
