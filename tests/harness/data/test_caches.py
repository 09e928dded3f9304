"""Which images are mixed: the caches against the reference's rules, and their distribution."""

from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest

from harness.config.augmentation import Augment, MixUp, Mosaic
from harness.config.recipe import Recipe
from harness.data.caches import LANES, TRIES, Dealer, Key

ALL = slice(None)


def dealer(images: int = 400, batch_size: int = 16, **changes: Any) -> Dealer:
    mixed = Augment(mosaic=Mosaic(), mixup=MixUp(), resize_range=(0.5, 2.0))
    values = {"epochs": 10, "lr": 1, "augment": mixed, **changes}
    return Dealer(images, (640, 640), Recipe(batch_size=batch_size, **values), seed=0)


def augmented(mosaic: dict[str, Any], mixup: dict[str, Any]) -> Augment:
    return Augment(mosaic=Mosaic(**mosaic), mixup=MixUp(**mixup), resize_range=(0.5, 2.0))


def keys(of: Dealer, epoch: int) -> list[Key]:
    return list(chain(*of.epoch(epoch, 0, ALL)))


def by_lane(of: Dealer, epoch: int) -> list[list[Key]]:
    """Return the keys of each lane in order, all epochs up to one."""
    lanes: list[list[Key]] = [[] for _ in range(LANES)]
    for number in range(epoch + 1):
        for turn, batch in enumerate(of.epoch(number, 0, ALL)):
            lanes[turn % LANES] += batch
    return lanes


def test_fifo_caches_hold_the_latest() -> None:
    """Every partner is among the latest images of its lane, as the cache's size says."""
    fifo = augmented({"cache_size": 20, "eviction": "fifo"}, {"cache_size": 10, "eviction": "fifo"})
    for lane in by_lane(dealer(augment=fifo), 2):
        seen, made = [], []
        for key in lane:
            seen.append(key.plan.images[0])
            made.append(key.plan)
            latest = seen[-20:]
            assert len(key.plan.images) == (4 if len(latest) > 4 else 1)
            assert set(key.plan.images[1:]) <= set(latest)
            assert set(key.partners) <= set(made[-10:])
            assert len(key.partners) == (TRIES if len(made[-10:]) > 1 else 0)


def test_random_caches_forget_as_the_reference_does() -> None:
    """The age of a partner is geometric: a cache of n drops each entry with 1 / (n + 1) a turn."""
    ages: Counter[int] = Counter()
    for lane in by_lane(dealer(images=6400, batch_size=32), 1):
        at = {key.plan: turn for turn, key in enumerate(lane)}
        for turn, key in enumerate(lane):
            if turn > 400:
                ages.update(turn - at[plan] for plan in key.partners[:1])
    total = sum(ages.values())
    mean = sum(age * count for age, count in ages.items()) / total
    assert abs(mean - 20) < 2  # of a geometric distribution with 1 / 21 it is 20
    older = sum(count for age, count in ages.items() if age >= 40) / total
    assert abs(older - (20 / 21) ** 40) < 0.03


@pytest.mark.parametrize("part", ["mosaic", "mixup"])
def test_probabilities(part: str) -> None:
    rules: dict[str, dict[str, Any]] = {"mosaic": {}, "mixup": {}}
    rules[part]["probability"] = 0.3
    dealt = keys(dealer(images=3200, augment=augmented(rules["mosaic"], rules["mixup"])), 1)
    tiled = np.mean([len(key.plan.images) == 4 for key in dealt])
    mixed = np.mean([bool(key.partners) for key in dealt])
    assert abs(tiled - (0.3 if part == "mosaic" else 1)) < 0.03
    assert abs(mixed - (0.3 if part == "mixup" else 1)) < 0.03


def test_without_caches_partners_come_from_everywhere() -> None:
    dealt = keys(dealer(augment=augmented({"cached": False}, {"cached": False})), 0)
    assert all(len(key.plan.images) == 4 for key in dealt)
    assert all(len(plan.images) == 4 for key in dealt for plan in key.partners)
    assert not any(key.kept for key in dealt)
    drawn = Counter(chain(*(key.plan.images[1:] for key in dealt)))
    assert len(drawn) > 350
    assert max(drawn.values()) < 15  # three each


def test_the_partner_of_a_mixup_is_mirrored_half_of_the_time() -> None:
    share = np.mean([key.mirrored for key in keys(dealer(images=3200), 1)])
    assert abs(share - 0.5) < 0.04


def test_an_epoch_is_the_same_whatever_was_dealt_before() -> None:
    one, other = dealer(), dealer()
    for epoch in range(3):
        keys(other, epoch)
    assert keys(one, 3) == keys(other, 3)
    assert list(one.epoch(3, 11, ALL)) == list(other.epoch(3, 0, ALL))[11:]


def test_caches_live_on_over_the_epoch() -> None:
    """The first images of an epoch find partners of the one before, as if it had no end."""
    of = dealer()
    early = next(iter(of.epoch(1, 0, ALL)))
    assert all(len(key.plan.images) == 4 for key in early)
    assert {plan.epoch for key in early for plan in key.partners} == {0, 1}


def test_what_a_cache_forgot_does_not_matter() -> None:
    """A replay of the last batches gives the caches that dealing without a break has left."""
    of = dealer(images=6400)
    lasting = [key for number in range(3) for key in keys(of, number)]
    of._remembered = lambda epoch: 0  # type: ignore[method-assign]
    assert keys(of, 2) == lasting[-6400:]


def test_a_stage_begins_with_empty_caches() -> None:
    mixed = augmented({}, {})
    of = dealer(augment=mixed, last_augment=mixed, last_epochs=4)
    first = next(iter(of.epoch(6, 0, ALL)))
    assert [len(key.plan.images) for key in first[:6]] == [1, 1, 1, 1, 4, 4]
    plain = dealer(last_augment=Augment(), last_epochs=4)
    assert all(key == Key(key.plan) and len(key.plan.images) == 1 for key in keys(plain, 6))


def test_large_batches_are_cut_into_caches_of_a_devices_batch() -> None:
    """Whoever takes a part of 32 finds all of its partners in that part."""
    of = dealer(images=2048, batch_size=256)
    batches = list(of.epoch(0, 0, ALL)) + list(of.epoch(1, 0, ALL))
    for number in range(8):
        part = slice(number * 32, number * 32 + 32)
        own = {key.plan.images[0] for batch in batches for key in batch[part]}
        assert all(set(key.plan.images) <= own for batch in batches for key in batch[part])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_image_is_dealt_once_an_epoch(accumulate: int) -> None:
    dealt = keys(dealer(accumulate=accumulate), 2)
    assert sorted(key.plan.images[0] for key in dealt) == list(range(400))
    assert [key.plan.position for key in dealt] == list(range(400))
