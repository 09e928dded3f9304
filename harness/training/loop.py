"""The loop of a training: epochs of steps, and between any two steps the state of it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from detectors.interface import Detector
from harness.config.recipe import Recipe
from harness.data import Batch, DataSet, loading_processes, train_loader
from harness.records.progress import OnProgress, Progress
from harness.training import checkpoint, memory, norms, optimize, processes
from harness.training.checkpoint import State
from harness.training.doubt import doubt
from harness.training.ema import MovingAverage
from harness.training.freezing import Frozen
from harness.training.meters import Clock, Meter, NotFiniteError
from harness.training.steps import Stepper

STEPS_BETWEEN_READS = 20  # on an accelerator, where reading a loss waits for the device


class Loop:
    """One training under way."""

    def __init__(
        self,
        detector: Detector,
        data: DataSet,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        share: int = 1,
    ) -> None:
        self.detector, self.data, self.recipe = detector, data, recipe
        place = processes.launch(device, recipe)
        self.device = place.fabric.device
        self.identity = checkpoint.identify(
            detector.config, data.fingerprint, recipe, seed, self.device
        )
        rank, count = processes.rank(), processes.count()
        self.loading = loading_processes(recipe.workers, self.device.type, share)
        recipe = recipe.model_copy(update={"workers": self.loading})
        self.loader = train_loader(data.train, detector.config.input, recipe, seed, rank, count)
        self.accumulate = min(recipe.accumulate, len(self.loader))
        self.steps_per_epoch = len(self.loader) // self.accumulate
        layout = torch.channels_last if recipe.channels_last else torch.preserve_format
        detector.to(self.device).to(memory_format=layout)
        self.norms_restored = norms.restore(detector, data.train, self.device)
        self.frozen = Frozen(detector, recipe.frozen)
        self.average: MovingAverage[Detector] | None = None
        if recipe.ema_decay is not None:
            self.average = MovingAverage(detector, recipe.ema_decay, recipe.ema_ramp)
        self.deviations: list[str] = []
        self._part_norms = self._join_norms()
        self.stepper = Stepper(detector, recipe, place)
        self.clock = Clock(recipe.epochs * self.steps_per_epoch, self.device)
        self.epoch, self.meter = 1, Meter(1)
        self.position = 0  # steps of the epoch that are done
        self.resumed = 0
        self.lr = 0.0
        self.curves: list[dict[str, float]] = []
        self.doubted = ""  # what was said of a training that does not learn
        self.keeper = checkpoint.Keeper(None, recipe.checkpoint_minutes)

    def _join_norms(self) -> Callable[[], None]:
        """Let norms see all processes' images, if the recipe says so; return the undoing."""
        if processes.count() == 1 or not self.recipe.sync_norm:
            return lambda: None
        if self.device.type == "cpu":
            self.deviations.append(
                "recipe.sync_norm: on a cpu norms see the images of their own process alone"
            )
            return lambda: None
        return processes.join_norms(self.detector)

    def kept(self) -> Detector:
        """Return the model whose weights would be kept if training ended here."""
        return self.average.model if self.average else self.detector

    def close(self) -> None:
        """Leave in the detector the weights to keep, in eval mode.

        Raises:
            NotFiniteError: one of them is not finite; its detections would be empty without a word.
        """
        self._part_norms()
        self.frozen.thaw()
        if self.kept() is not self.detector:
            self.detector.load_state_dict(self.kept().state_dict())
        for name, parameter in self.detector.eval().named_parameters():
            if not torch.isfinite(parameter).all():
                raise NotFiniteError(f"{name} is not finite after the last step; lower recipe.lr")

    def keep_in(self, folder: Path) -> None:
        """Go on from the checkpoint in a folder, if there is one, and write further ones there.

        A damaged one is as good as none, and is told among the deviations. Of several processes,
        which may name folders of their own, that of the first counts.

        Raises:
            CheckpointError: the checkpoint is that of another training.
        """
        folder = processes.gather(folder)[0]
        self.keeper = checkpoint.Keeper(folder, self.recipe.checkpoint_minutes)
        state = checkpoint.read(folder, self.identity)
        if state is not None:
            self._resume(state)
        elif (folder / checkpoint.FILE).is_file():
            self.deviations.append("began anew, since the checkpoint was damaged")

    def run_epoch(self, on_progress: OnProgress) -> dict[str, float]:
        """Train to the end of the epoch under way and return its row of the curves."""
        self.detector.train()
        self.frozen.settle()
        if self.position == self.steps_per_epoch:  # resumed between the last step and validation
            on_progress(Progress("train", self.clock.step, self.clock.steps, self.meter.latest))
        for step in self._steps():
            values = {**self.meter.latest, "lr": self.lr, **self.clock.values()}
            on_progress(Progress("train", step, self.clock.steps, values))
        self._keep()
        return {
            "epoch": self.epoch,
            "step": self.clock.step,
            "time": time.time(),
            "lr": self.lr,
            **self.meter.means(),
            "images_per_second": self.clock.images_per_second(),
        }

    def end_epoch(self, row: dict[str, float]) -> None:
        """Go on to the next epoch."""
        self.curves.append(row)
        self.epoch += 1
        self.position, self.meter = 0, Meter(self.epoch)
        self.clock.end_epoch()

    def tell_doubt(self, on_progress: OnProgress, *, from_weights: bool) -> None:
        """Say once if the training learns nothing."""
        found = None if self.doubted else doubt(self.curves, self.recipe, from_weights=from_weights)
        if found is not None:
            self.doubted = found
            told, steps = f"learns nothing so far: {found}", self.clock.steps
            on_progress(Progress("train", self.clock.step, steps, self.meter.latest, told))

    def details(self) -> dict[str, Any]:
        """Say how fast the training was, what it took, and how it differs from its recipe."""
        return {
            **self.clock.throughput(),
            "memory_bytes": memory.peak_bytes(self.device),
            "lr": self.recipe.scaled_lr,
            "processes": processes.count(),
            "loading_processes": self.loading,
            "resumed": self.resumed,
            "deviations": self.deviations,
            "data": self.loader.stats(),
            **({"doubted": self.doubted} if self.doubted else {}),
            **({"norms_restored": self.norms_restored} if self.norms_restored else {}),
        }

    def _steps(self) -> Iterator[int]:
        """Take the optimiser steps that the epoch has left; yield the number of each."""
        if self.position == self.steps_per_epoch:
            return
        batches = self.loader.epoch(self.epoch - 1, start=self.position * self.accumulate)
        every = 1 if self.device.type == "cpu" else STEPS_BETWEEN_READS
        while self.position < self.steps_per_epoch:
            with self.clock.waiting():
                group = list(islice(batches, self.accumulate))
            with self.clock.working():
                self._step(group)
            self.position += 1
            self.clock.tick(sum(len(batch.images) for batch in group) * processes.count())
            if self.clock.step % every == 0:
                self._read()
                if self.keeper.is_due():
                    self._keep()
            yield self.clock.step

    def _step(self, group: list[Batch]) -> None:
        losses, shrunk = self.stepper.gradients(group)
        if shrunk:
            self.deviations.append(f"from step {self.clock.step + 1} on, {shrunk}")
        self.meter.add(self.clock.step + 1, losses)
        if self.device.type == "cpu":  # where reading costs nothing, before weights are spoilt
            self._read(self.stepper.snapshot.restore)
        self.lr = optimize.learning_rate(self.clock.step, self.clock.steps, self.recipe)
        self.stepper.update(self.lr)
        if self.average:
            self.average.update(self.detector)

    def _read(self, undo: Callable[[], None] = lambda: None) -> None:
        """Read the losses; keep the state when one is not finite.

        Args:
            undo: what brings the state back to that before the step under way.

        Raises:
            NotFiniteError: in one of the processes; names the images, and where the state is.
        """
        self.clock.read()
        found = next(filter(None, processes.gather(self.meter.read())), None)
        if found is None:
            return
        ids = ", ".join(str(self.data.train.images[index].id) for index in found.images)
        message = f"{found.where} on the training images with the ids {ids}"
        if self.keeper.folder is not None:
            undo()
            file = self.keeper.keep({**self._state(), "problem": message}, checkpoint.NOT_FINITE)
            message += f"; the state is in {file}"
        raise NotFiniteError(
            f"{message}; lower recipe.lr, lengthen the warm-up, or look at these images"
        )

    def _keep(self) -> None:
        """Write a checkpoint, if there is a place for it."""
        self._read()
        if self.keeper.folder is not None:
            self.keeper.keep(self._state())

    def _state(self) -> State:
        """Return all that the training is; every process has to call it."""
        stepper = self.stepper
        return {
            "identity": self.identity,
            "epoch": self.epoch,
            "position": self.position,
            "clock": self.clock.state(),
            "meter": self.meter.state(),
            "lr": self.lr,
            "parts": stepper.parts,
            "deviations": self.deviations,
            "resumed": self.resumed,
            "curves": self.curves,
            "doubted": self.doubted,
            "loader": self.loader.state(),
            "random": processes.gather(memory.random_state(self.device)),
            "model": self.detector.state_dict(),
            "optimizer": stepper.optimizer.state_dict(),
            "scaler": stepper.scaler.state_dict() if stepper.scaler else {},
            "average": self.average.state() if self.average else {},
        }

    def _resume(self, state: State) -> None:
        """Become what a state says."""
        stepper = self.stepper
        self.epoch, self.position = state["epoch"], state["position"]
        self.clock.resume(state["clock"])
        self.meter = Meter(self.epoch, **state["meter"])
        self.lr, stepper.parts = state["lr"], state["parts"]
        self.deviations, self.curves = state["deviations"], state["curves"]
        self.doubted = state.get("doubted", "")  # older checkpoints lack it
        self.resumed = state["resumed"] + 1
        self.loader.restore(state["loader"])
        self.detector.load_state_dict(state["model"])
        stepper.optimizer.load_state_dict(state["optimizer"])
        if stepper.scaler:
            stepper.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.resume(state["average"])
        memory.set_random_state(state["random"][processes.rank()], self.device)
