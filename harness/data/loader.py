"""Batches of images and targets, the same ones whatever the number of processes.

Each key travels to the processes together with its epoch, and every random draw comes from a
generator seeded by (seed, epoch, position, index).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from detectors.interface import InputConfig
from harness.config.augmentation import Augment
from harness.config.data import DataError
from harness.config.recipe import Recipe
from harness.data.batch import Batch, Packed, blank, pack, rescaled, unpack
from harness.data.caches import LANES, Dealer, Key, Plan
from harness.data.dataset import Split
from harness.data.maker import Maker
from harness.data.store import Store
from harness.machine.procfs import quota_cores, usable_cores
from harness.records import digest

ROOM = 3  # times the pictures that MixUp's caches hold; what else is there is for photographs
THREADS_A_LOADER = 4  # of operators on a CPU, for each process that loads beside them
MOST_LOADERS = 8  # that `auto` takes
NO_TRAINING = (
    "detector.input.resize: shortest_edge gives photographs sizes of their own, and a training"
    " wants one; train with letterbox or stretch"
)
Workers = int | Literal["auto"]


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
        if input.varies:
            raise DataError(NO_TRAINING)
        self._keys = _Keys(Dealer(len(split), input.size, recipe, seed), rank, world)
        self._photographs, self._pictures = _stores(split, input, recipe)
        maker = Maker(split, input, recipe, seed, self._photographs, self._pictures)
        workers = loading_processes(recipe.workers)
        self._loader = _loader(maker, self._keys, workers, persistent=True)
        self._identity = {
            "images": len(split),
            "seed": seed,
            "recipe": batches_digest(recipe),
        }
        self._unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        """Return the number of micro-batches an epoch, the same on every rank."""
        return self._keys.dealer.batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch in its own random order.

        A last batch that is not full is left out, unless it is the only one.

        Args:
            epoch: counted from 0.
            start: the first batch to load; those before are as if they had been.

        Raises:
            DataError: an image cannot be read, and the recipe does not pass it over.
        """
        self._keys.epoch, self._keys.start = epoch, start
        for packed in _made(self._loader):
            batch = unpack(packed)
            self._unreadable |= packed.unreadable
            yield batch

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, in plain values: the epoch, and what it is an epoch of."""
        return {"epoch": self._keys.epoch, **self._identity}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another loader was.

        Raises:
            DataError: that one had other images, another recipe or seed.
        """
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise DataError(
                    f"{name}: the training to go on with had {state.get(name)}, this one has"
                    f" {value}; remove its checkpoint to start anew"
                )
        self._keys.epoch = int(state["epoch"])

    def stats(self) -> dict[str, Any]:
        """Return figures of the loading so far.

        Returns:
            `cache_bytes` of shared memory in use and `cache_limit_bytes`; how often a photograph
            and a mixed picture were there (`*_hits`) and were not (`*_misses`); `images_skipped`
            and, by file name, what was wrong with them (`skipped`).
        """
        photographs, pictures = self._photographs.stats(), self._pictures.stats()
        skipped = {str(index): text for index, text in sorted(self._unreadable.items())}
        return {
            "cache_bytes": photographs["bytes"] + pictures["bytes"],
            "cache_limit_bytes": self._photographs.limit + self._pictures.limit,
            "photograph_hits": photographs["hits"],
            "photograph_misses": photographs["misses"],
            "picture_hits": pictures["hits"],
            "picture_misses": pictures["misses"],
            "images_skipped": len(skipped),
            "skipped": list(skipped.values()),
        }


class ValLoader:
    """A split in order, without augmentation; its processes live for one pass."""

    def __init__(self, split: Split, input: InputConfig, batch_size: int, workers: Workers) -> None:
        recipe = Recipe(epochs=1, batch_size=1, lr=1, augment=Augment(flip=0))
        maker = Maker(split, input, recipe, 0, Store(0), Store(0))
        self._batches = _InOrder(len(split), batch_size)
        processes = min(loading_processes(workers), len(self._batches))
        self._loader = _loader(maker, self._batches, processes, persistent=False)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches.

        Raises:
            DataError: an image cannot be read.
        """
        for packed in _made(self._loader):
            yield unpack(packed)


def train_loader(
    split: Split, input: InputConfig, recipe: Recipe, seed: int, rank: int = 0, world: int = 1
) -> TrainLoader:
    """Return the loader of a training.

    A micro-batch is `batch_size // accumulate` images over all ranks, and `rank` gets its share of
    each: together the ranks see what one alone would.
    """
    return TrainLoader(split, input, recipe, seed, rank, world)


def val_loader(split: Split, input: InputConfig, batch_size: int, workers: Workers) -> ValLoader:
    """Return the loader of an evaluation."""
    return ValLoader(split, input, batch_size, workers)


def loading_processes(
    wanted: Workers,
    device: str = "cpu",
    share: int = 1,
    *,
    cores: int | None = None,
    threads: int | None = None,
) -> int:
    """Return how many processes load images, 0 for the one that trains or evaluates.

    On a CPU the operators use all their threads, and an operator waits for the last of them: a
    process that takes the core of one slows all. On two cores that costs more than it saves. With
    more cores operators leave more of them idle, and one process for every four threads keeps up,
    since a step takes far longer than its pictures. A GPU needs one core to drive it; the others
    load.

    Args:
        wanted: as a recipe says; a number is taken as it is.
        device: where the operators run, as torch spells it.
        share: number of trainings that run at a time, and share the cores.
        cores: that this process may use; None to ask the system.
        threads: of operators on a CPU, the share of this training; None to ask torch.
    """
    if wanted != "auto":
        return wanted
    cores = cores or int(min(len(usable_cores()), quota_cores() or len(usable_cores())))
    if device.partition(":")[0] == "cpu":
        threads = min(threads or torch.get_num_threads(), max(cores // share, 1))
        return min(threads // THREADS_A_LOADER, MOST_LOADERS)
    together = share * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's, of this machine
    return min(max(cores // together - 1, 1), MOST_LOADERS)


class _Keys(Sampler[list[Key]]):
    """This rank's keys of each micro-batch of an epoch."""

    def __init__(self, dealer: Dealer, rank: int, world: int) -> None:
        self.epoch, self.start, self.dealer = 0, 0, dealer
        if dealer.batch_size % world:
            raise DataError(
                f"{dealer.batch_size} images a micro-batch cannot be split evenly over {world}"
                " processes; change recipe.batch_size or recipe.accumulate"
            )
        share = dealer.batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self.dealer.batches - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        return self.dealer.epoch(self.epoch, self.start, self._mine)


class _InOrder(Sampler[list[Key]]):
    """Batches of keys in the order of the split."""

    def __init__(self, images: int, batch_size: int) -> None:
        self._images, self._batch_size = images, batch_size

    def __len__(self) -> int:
        return -(-self._images // self._batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, self._images, self._batch_size):
            end = min(start + self._batch_size, self._images)
            yield [Key(Plan(0, k, (k,))) for k in range(start, end)]


class _Batches(Dataset[Any]):
    """Batches by their keys.

    A `DataError` travels as a value, so that its one line reaches the user without the traceback
    of the process.
    """

    def __init__(self, maker: Maker) -> None:
        self._maker = maker

    def __getitems__(self, keys: list[Key]) -> Packed | DataError:
        maker = self._maker
        size = maker.size_of(keys)
        images = blank(len(keys), size)
        try:
            made = [
                maker.make(key, planes) for key, planes in zip(keys, images.numpy(), strict=True)
            ]
        except DataError as error:
            return error
        packed = pack(images, made, maker.unreadable)
        return rescaled(packed, keys[0].size or size)


def _stores(split: Split, input: InputConfig, recipe: Recipe) -> tuple[Store, Store]:
    """Share the memory out: photographs, and pictures that MixUp may ask for.

    Photographs are kept if they are asked for again soon, by a cached Mosaic, or if all fit.
    """
    stages = [augment for augment in (recipe.augment, recipe.last_augment) if augment]
    sizes = [item.mixup.cache_size for item in stages if item.mixup and item.mixup.cached]
    height, width = input.size
    most = ROOM * LANES * max(sizes, default=0) * height * width * 3
    pictures = min(recipe.cache_bytes // 2, most)
    rest = recipe.cache_bytes - pictures
    soon = any(item.mosaic and item.mosaic.cached for item in stages)
    fits = sum(image.height * image.width * 3 for image in split.images) <= rest
    return Store(rest if soon or fits else 0), Store(pictures)


def batches_digest(recipe: Recipe) -> str:
    """Hash what of a recipe decides which batches there are."""
    names = {
        "epochs", "batch_size", "accumulate", "on_corrupt", "augment", "last_epochs",
        "last_augment",
    }  # fmt: skip
    return digest(recipe.model_dump(mode="json", include=names))


def _loader(
    maker: Maker, batches: Sampler[list[Key]], workers: int, *, persistent: bool
) -> DataLoader[Packed | DataError]:
    workers = min(workers, len(usable_cores()))  # torch warns of more; batches do not depend on it
    return DataLoader(
        _Batches(maker),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        persistent_workers=persistent and workers > 0,
        generator=torch.Generator(),  # so that loading leaves torch's own generator alone
    )


def _start(loader: DataLoader[Packed | DataError]) -> Iterator[Packed | DataError]:
    """Begin a pass, with processes forked off where there are none yet.

    A fork starts at once, where a fresh process imports torch for seconds. Python warns of forks
    beside threads; these processes only decode and resize, with one thread each, and touch nothing
    that a thread of this process may hold.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        return iter(loader)


def _made(loader: DataLoader[Packed | DataError]) -> Iterator[Packed]:
    """Yield what the processes make of a pass; they end where it cannot be gone on with.

    Left to the garbage collector, torch closes their queues before it tells them, and then waits
    for each of them for ten seconds.

    Raises:
        DataError: an image cannot be read.
    """
    batches = _start(loader)
    for packed in batches:
        if isinstance(packed, DataError):
            if loader.num_workers:
                batches._shutdown_workers()  # type: ignore[attr-defined]
                loader._iterator = None
            raise packed
        yield packed


def _as_it_is(packed: Any) -> Any:
    return packed


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
