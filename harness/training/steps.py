"""Optimiser steps: gradients of a group of batches, in parts where memory is short, and updates."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from detectors.interface import Detector, Target
from harness.config.recipe import Recipe
from harness.data import Batch, normalize
from harness.training import memory, optimize, processes
from harness.training.meters import Losses


class Sample:
    """Images and targets in an object that is opaque to Fabric, which else rounds the boxes."""

    def __init__(self, images: Tensor, targets: list[Target]) -> None:
        self.images, self.targets = images, targets


class Objective(nn.Module):
    """Gives Fabric a `forward` to wrap."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, sample: Sample) -> dict[str, Tensor]:
        """Return the detector's losses."""
        return self.detector.losses(sample.images, sample.targets)


class Stepper:
    """A detector with its optimiser, on its device."""

    def __init__(self, detector: Detector, recipe: Recipe, device: processes.Device) -> None:
        self.detector, self.recipe = detector, recipe
        self.fabric, self.scaler = device
        self.device = self.fabric.device
        self.layout = torch.channels_last if recipe.channels_last else torch.preserve_format
        self.model, self.optimizer = self.fabric.setup(
            Objective(detector), optimize.make(detector, recipe)
        )
        self.parts = 1  # into which memory forces each batch of the loader
        self.snapshot = memory.Snapshot(detector, self.device)

    def gradients(self, group: list[Batch]) -> tuple[list[Losses], str | None]:
        """Accumulate the gradients of a step; where memory runs out, anew in smaller parts.

        What a failed attempt has drawn and counted is undone.

        Returns:
            The losses of every part, and what happened to the memory, if anything did.

        Raises:
            MemoryError: one of several processes ran out of memory, which the others don't know.
        """
        self.snapshot.take()
        shrunk = None
        while True:
            try:
                return self._accumulate(group), shrunk
            except (MemoryError, RuntimeError) as error:
                if not memory.ran_out(error) or self._largest(group) == 1:
                    raise
                if processes.count() > 1:
                    raise MemoryError(
                        f"{error}; several processes: raise recipe.accumulate"
                    ) from error
            # Outside of the handler, which keeps alive what the failed attempt has allocated.
            shrunk = self._shrink(group)

    def _shrink(self, group: list[Batch]) -> str:
        """Undo an attempt and halve the parts; say so."""
        self.snapshot.restore()
        self.optimizer.zero_grad()
        torch.cuda.empty_cache()
        self.parts *= 2
        whole = max(len(batch.images) for batch in group)
        return (
            f"out of memory: micro-batches of {self._largest(group)} images instead of {whole}, "
            "which is what norms and loss normalisers see; a step has as many images as before"
        )

    def _largest(self, group: list[Batch]) -> int:
        """Return the number of images of the largest part."""
        return max(-(-len(batch.images) // self.parts) for batch in group)

    def _cut(self, group: list[Batch]) -> Iterator[tuple[Batch, float]]:
        """Yield the parts of every batch, each with its share of the batch."""
        for batch in group:
            images = len(batch.images)
            size = -(-images // self.parts)
            for start in range(0, images, size):
                piece = slice(start, start + size)
                part = {name: column[piece] for name, column in batch._asdict().items()}
                yield Batch(**part), len(part["images"]) / images

    def _accumulate(self, group: list[Batch]) -> list[Losses]:
        found = []
        parts = list(self._cut(group))
        for number, (part, share) in enumerate(parts, start=1):
            with self.fabric.no_backward_sync(self.model, enabled=number < len(parts)):
                losses = self._losses(part)
                values = torch.stack(list(losses.values()))
                self.fabric.backward(values.sum() * (share / len(group)))
            found.append(Losses(list(losses), values.detach(), part.indices, share))
        return found

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        pixels, targets = self.fabric.to_device((batch.images, batch.targets))
        images = normalize(pixels, self.detector.config.input).to(memory_format=self.layout)
        losses: dict[str, Tensor] = self.model(Sample(images, targets))
        return losses

    def update(self, rate: float) -> None:
        """Take one optimiser step from the accumulated gradients, at a learning rate."""
        optimize.set_learning_rate(self.optimizer, rate)
        if self.recipe.clip_norm is not None:
            self.fabric.clip_gradients(
                self.model,
                self.optimizer,
                max_norm=self.recipe.clip_norm,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
