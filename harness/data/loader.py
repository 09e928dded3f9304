"""Batches of images and targets, the same ones whatever the number of processes.

Each index travels to the processes together with its epoch, and every random draw comes from a
generator seeded by (seed, epoch, index).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from detectors.interface import InputConfig, Target
from harness.data.augment import Fit, Sample, Transform, pipeline
from harness.data.config import DataError
from harness.data.dataset import Split
from harness.data.resize import place
from harness.recipe import Recipe

_ORDER, _IMAGE = 0, 1  # streams of random numbers under one seed


class Batch(NamedTuple):
    """Some images of a split, as a detector takes them but for `normalize`."""

    images: Tensor  # uint8 [B, 3, H, W] in the order of the input's `channels`
    targets: list[Target]  # boxes in input pixels
    sizes: Tensor  # int64 [B, 2] (h, w) of the real image inside the input
    original_sizes: Tensor  # int64 [B, 2] (h, w)
    indices: Tensor  # int64 [B] into `split.images`


class TrainLoader:
    """The training batches of every epoch; the processes live as long as this object.

    Every batch is a function of (split, input, recipe, seed) and of its place in the training, so
    that a training that goes on needs to know that place alone.
    """

    def __init__(
        self,
        split: Split,
        input: InputConfig,
        recipe: Recipe,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        size = recipe.batch_size // recipe.accumulate
        self._order = _Order(len(split), size, seed, rank, world)
        stages = tuple(
            tuple(pipeline(augment or recipe.augment, input))
            for augment in (recipe.augment, recipe.last_augment)
        )
        switch = recipe.epochs - recipe.last_epochs
        dataset = _Prepared(split, input, stages, switch, seed)
        self._loader = _loader(dataset, self._order, recipe.workers, persistent=True)
        self._identity = {"images": len(split), "batch_size": size, "seed": seed}

    def __len__(self) -> int:
        """Return the number of micro-batches an epoch, the same on every rank."""
        return self._order.batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch in its own random order.

        A last batch that is not full is left out, unless it is the only one.

        Args:
            epoch: counted from 0.
            start: the first batch to load; those before are as if they had been.

        Raises:
            DataError: an image cannot be read.
        """
        self._order.epoch, self._order.start = epoch, start
        for packed in _start(self._loader):
            yield _unpack(packed)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, in plain values."""
        return {"epoch": self._order.epoch, **self._identity}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another loader was.

        Raises:
            DataError: that one had other images, batches or another seed.
        """
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise DataError(
                    f"the training to go on with had {name} {state.get(name)}, this one has"
                    f" {value}; remove its checkpoint to start anew"
                )
        self._order.epoch = int(state["epoch"])

    def stats(self) -> dict[str, Any]:
        """Return figures of the loading so far."""
        return {}


class ValLoader:
    """A split in order, without augmentation; its processes live for one pass."""

    def __init__(self, split: Split, input: InputConfig, batch_size: int, workers: int) -> None:
        dataset = _Prepared(split, input, ((Fit(input),),), switch=0, seed=0)
        self._batches = _InOrder(len(split), batch_size)
        workers = min(workers, len(self._batches))
        self._loader = _loader(dataset, self._batches, workers, persistent=False)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches.

        Raises:
            DataError: an image cannot be read.
        """
        for packed in _start(self._loader):
            yield _unpack(packed)


def train_loader(
    split: Split, input: InputConfig, recipe: Recipe, seed: int, rank: int = 0, world: int = 1
) -> TrainLoader:
    """Return the loader of a training.

    A micro-batch is `batch_size // accumulate` images over all ranks, and `rank` gets its share of
    each: together the ranks see what one alone would.
    """
    return TrainLoader(split, input, recipe, seed, rank, world)


def val_loader(split: Split, input: InputConfig, batch_size: int, workers: int) -> ValLoader:
    """Return the loader of an evaluation."""
    return ValLoader(split, input, batch_size, workers)


Key = tuple[int, int]  # epoch, index


class _Order(Sampler[list[Key]]):
    """Batches of keys, shuffled anew each epoch."""

    def __init__(self, images: int, batch_size: int, seed: int, rank: int, world: int) -> None:
        self.epoch, self.start = 0, 0
        self.batches = max(1, images // batch_size)
        self._images, self._batch_size, self._seed = images, min(batch_size, images), seed
        if self._batch_size % world:
            raise DataError(
                f"{self._batch_size} images a micro-batch cannot be split evenly over {world}"
                " processes; change recipe.batch_size or recipe.accumulate"
            )
        share = self._batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        rng = np.random.default_rng([self._seed, _ORDER, epoch])
        order = rng.permutation(self._images).tolist()
        for i in range(self.start, self.batches):
            batch = order[i * self._batch_size : (i + 1) * self._batch_size]
            yield [(epoch, k) for k in batch[self._mine]]


class _InOrder(Sampler[list[Key]]):
    """Batches of keys in the order of the split."""

    def __init__(self, images: int, batch_size: int) -> None:
        self._images, self._batch_size = images, batch_size

    def __len__(self) -> int:
        return -(-self._images // self._batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, self._images, self._batch_size):
            yield [(0, k) for k in range(start, min(start + self._batch_size, self._images))]


class _Raw(Sequence[Sample]):
    """The images of a split before any transform, decoded when indexed."""

    def __init__(self, split: Split) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: Any) -> Any:
        return Sample(self._split.read(index), *self._split.objects(index))


class _Item(NamedTuple):
    """One image after its transforms."""

    sample: Sample
    original_size: tuple[int, int]
    position: int  # in the split


class _Packed(NamedTuple):
    """A batch on its way between processes: few arrays, as every tensor costs a file handle."""

    images: Tensor
    boxes: NDArray[np.float32]  # [sum of M, 4]
    labels: NDArray[np.int64]  # [sum of M]
    counts: list[int]  # M of each image
    sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]
    indices: list[int]


@dataclass(frozen=True)
class _Prepared(Dataset[Any]):
    """Images after their transforms, by (epoch, index).

    A `DataError` travels as a value, so that its one line reaches the user without the traceback
    of the process.
    """

    split: Split
    input: InputConfig
    stages: tuple[tuple[Transform, ...], ...]
    switch: int  # the epoch with which the last stage begins
    seed: int

    def __getitem__(self, key: Key) -> _Item | DataError:
        epoch, index = key
        transforms = self.stages[-1 if epoch >= self.switch else 0]
        rng = np.random.default_rng([self.seed, _IMAGE, epoch, index])
        samples = _Raw(self.split)
        try:
            sample: Sample = samples[index]
            original_size = sample.image.shape[:2]
            for transform in transforms:
                sample = transform(sample, rng, samples)
        except DataError as error:
            return error
        return _Item(sample, original_size, index)

    def pack(self, items: list[_Item | DataError]) -> _Packed | DataError:
        """Join images into a batch."""
        good = [item for item in items if isinstance(item, _Item)]
        if len(good) < len(items):
            return next(item for item in items if isinstance(item, DataError))
        return _Packed(
            torch.stack([place(item.sample.image, self.input) for item in good]),
            np.concatenate([item.sample.boxes for item in good]),
            np.concatenate([item.sample.labels for item in good]),
            [len(item.sample.labels) for item in good],
            [item.sample.image.shape[:2] for item in good],
            [item.original_size for item in good],
            [item.position for item in good],
        )


def _unpack(packed: _Packed | DataError) -> Batch:
    if isinstance(packed, DataError):
        raise packed
    boxes = torch.split(torch.from_numpy(packed.boxes), packed.counts)
    labels = torch.split(torch.from_numpy(packed.labels), packed.counts)
    return Batch(
        packed.images,
        [Target(*pair) for pair in zip(boxes, labels, strict=True)],
        torch.tensor(packed.sizes),
        torch.tensor(packed.original_sizes),
        torch.tensor(packed.indices),
    )


def _loader(
    dataset: _Prepared, batches: Sampler[list[Key]], workers: int, *, persistent: bool
) -> DataLoader[_Packed | DataError]:
    workers = min(workers, _processors())  # torch warns of more; batches do not depend on it
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=dataset.pack,
        worker_init_fn=_one_thread,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        persistent_workers=persistent and workers > 0,
        generator=torch.Generator(),  # so that loading leaves torch's own generator alone
    )


def _start(loader: DataLoader[_Packed | DataError]) -> Iterator[_Packed | DataError]:
    """Begin a pass, with processes forked off where there are none yet.

    A fork starts at once, where a fresh process imports torch for seconds. Python warns of forks
    beside threads; these processes only decode and resize, with one thread each, and touch nothing
    that a thread of this process may hold.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        return iter(loader)


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
