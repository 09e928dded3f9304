"""What each training picture is made of: its place in the order, partners for Mosaic and MixUp.

The process that trains draws them here; the loading processes only carry out. So pictures do not
depend on how many of those there are, nor on the pixels that happen to be in memory.

The caches of RTMDet are lists of images seen lately. Here they are lists of indices, dealt out as
in the reference, where every loading process of every device has a cache of its own: micro-batches
take turns between `LANES` lanes, and large ones are cut into parts with lanes of their own.
Of the past a cache only remembers a little, so that its state at the beginning of an epoch is what
replaying the batches shortly before gives; a stage begins with empty caches, as in the reference.

Source: github.com/open-mmlab/mmdetection mmdet/datasets/transforms/transforms.py @00e07a9c,
`CachedMosaic` and `CachedMixUp`.
Differs: partners that are not cached come from the whole split, and a MixUp's is a Mosaic, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.config.augmentation import Augment, MixUp, Mosaic
from harness.config.recipe import Recipe
from harness.data.resize import Size

LANES = 8  # loading processes of a device in the reference's sense; 1, 2, 4 or 8 are fastest here
PART = 32  # images of a micro-batch that share a cache, at most: a device's batch in the reference
TRIES = 15  # MixUp partners looked at for one with a box
FEWEST = 4  # images that a cache must exceed for a Mosaic
MEMORY = 20  # cache sizes of images after which a cache has forgotten what was before
STEP = 32  # pixels to which the sizes of multi-scale batches are rounded
ORDER, PICTURE, PARTNERS, SCALE = range(4)  # streams of random numbers under one seed
_T = TypeVar("_T")


class Plan(NamedTuple):
    """A picture before MixUp; with the seed it says all there is to it."""

    epoch: int
    position: int  # in the epoch's order
    images: tuple[int, ...]  # one, or the four of a Mosaic


class Key(NamedTuple):
    """A training picture."""

    plan: Plan
    partners: tuple[Plan, ...] = ()  # for MixUp: the first with a box is taken
    mirrored: bool = False  # whether the partner is
    kept: bool = False  # whether others may ask for this picture as a partner
    size: Size | None = None  # of the batch, where it is not the input's


class _Lane:
    """The caches of one lane."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.made: list[Plan] = []


class Dealer:
    """Deals the keys of a training, the same ones every time it is asked."""

    def __init__(self, images: int, input_size: Size, recipe: Recipe, seed: int) -> None:
        self.images, self.seed, self._recipe, self._size = images, seed, recipe, input_size
        self.batch_size = min(recipe.batch_size // recipe.accumulate, images)
        self.batches = max(1, images // self.batch_size)
        parts = range(-(-self.batch_size // PART), self.batch_size + 1)
        self._parts = next(n for n in parts if self.batch_size % n == 0)

    def epoch(self, epoch: int, start: int, mine: slice) -> Iterator[list[Key]]:
        """Yield the keys of an epoch's micro-batches.

        Args:
            epoch: counted from 0.
            start: the first micro-batch to yield.
            mine: the part of each micro-batch that is asked for.
        """
        lanes = [[_Lane() for _ in range(LANES)] for _ in range(self._parts)]
        first = epoch * self.batches
        for batch in range(self._remembered(epoch), first + start):
            for _ in self._deal(batch, lanes, self._order(batch // self.batches)):
                pass
        for batch in range(first + start, first + self.batches):
            keys = [key for part in self._deal(batch, lanes, self._order(epoch)) for key in part]
            yield keys[mine]

    def _remembered(self, epoch: int) -> int:
        """Return the first micro-batch that the caches at the beginning of an epoch know of."""
        augment = self._recipe.augment_of(epoch)
        mixes: tuple[Mosaic | MixUp | None, ...] = (augment.mosaic, augment.mixup)
        sizes = [mix.cache_size for mix in mixes if mix and mix.cached]
        turns = -(-MEMORY * max(sizes, default=0) // (self.batch_size // self._parts))
        switch = self._recipe.epochs - self._recipe.last_epochs
        stage = switch if self._recipe.last_epochs and epoch >= switch else 0
        return max(stage * self.batches, epoch * self.batches - turns * LANES)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if getattr(self, "_ordered", None) != epoch:
            rng = np.random.default_rng([self.seed, ORDER, epoch])
            self._permutation, self._ordered = rng.permutation(self.images), epoch
        return self._permutation

    def _deal(
        self, batch: int, lanes: list[list[_Lane]], order: NDArray[np.int64]
    ) -> Iterator[list[Key]]:
        """Yield the keys of each part of a micro-batch, counted from the first epoch's."""
        epoch, turn = divmod(batch, self.batches)
        augment = self._recipe.augment_of(epoch)
        rng = np.random.default_rng([self.seed, PARTNERS, epoch, turn])
        size = self._scale(augment, epoch, turn)
        share = self.batch_size // self._parts
        for part in range(self._parts):
            begin = turn * self.batch_size + part * share
            draws = rng.random((share, _COLUMNS))
            lane = lanes[part][turn % LANES]
            yield [
                self._key(Plan(epoch, position, (int(order[position]),)), lane, augment, row, size)
                for position, row in zip(range(begin, begin + share), draws.tolist(), strict=True)
            ]

    def _key(
        self, plan: Plan, lane: _Lane, augment: Augment, draws: list[float], size: Size | None
    ) -> Key:
        """Deal one key and bring the caches of its lane up to date."""
        if augment.mosaic:
            plan = self._tiled(plan, lane, augment.mosaic, draws[:5])
        mix = augment.mixup
        if mix is None:
            return Key(plan, size=size)
        pool = None
        if mix.cached:
            pool = lane.made
            _remember(pool, plan, mix, draws[5])
        kept = mix.cached
        if draws[6] >= mix.probability or (pool is not None and len(pool) < 2):
            return Key(plan, kept=kept, size=size)
        tries = draws[8:]
        partners = (
            tuple([pool[int(draw * len(pool))] for draw in tries])
            if pool is not None
            else tuple(self._fresh(plan, augment.mosaic, tries[k : k + 5]) for k in _FRESH)
        )
        return Key(plan, partners, draws[7] < mix.flip, kept, size)

    def _tiled(self, plan: Plan, lane: _Lane, mosaic: Mosaic, draws: list[float]) -> Plan:
        """Give an image its three partners."""
        if mosaic.cached:
            _remember(lane.seen, plan.images[0], mosaic, draws[0])
            if len(lane.seen) <= FEWEST:
                return plan
        if draws[1] >= mosaic.probability:
            return plan
        chosen = draws[2:5]
        partners = (
            tuple(_pick(lane.seen, draw) for draw in chosen)
            if mosaic.cached
            else tuple(int(draw * self.images) for draw in chosen)
        )
        return plan._replace(images=plan.images + partners)

    def _fresh(self, plan: Plan, mosaic: Mosaic | None, draws: list[float]) -> Plan:
        """Plan a MixUp partner from anywhere in the split, made as the picture itself is."""
        count = 4 if mosaic and draws[4] < mosaic.probability else 1
        images = tuple(int(draw * self.images) for draw in draws[:count])
        return Plan(plan.epoch, plan.position, images)

    def _scale(self, augment: Augment, epoch: int, turn: int) -> Size | None:
        """Draw the size of a micro-batch; None for the input's own."""
        if not augment.multi_scale:
            return None
        rng = np.random.default_rng([self.seed, SCALE, epoch, turn])
        factor = augment.multi_scale[int(rng.integers(len(augment.multi_scale)))]
        height, width = (max(STEP, round(side * factor / STEP) * STEP) for side in self._size)
        return height, width


_COLUMNS = 8 + TRIES  # draws a picture
_FRESH = range(0, TRIES, 5)  # where the draws of each partner that is not cached begin


def _remember(cache: list[_T], item: _T, rule: Mosaic | MixUp, draw: float) -> None:
    """Append an item, then drop one if there are too many."""
    cache.append(item)
    if len(cache) > rule.cache_size:
        cache.pop(int(draw * len(cache)) if rule.eviction == "random" else 0)


def _pick(cache: list[_T], draw: float) -> _T:
    return cache[int(draw * len(cache))]
