"""RTMDet-s's stage 1 at 640 pixels, one process: run with `tox -e bench`, nothing else running.

Beside ours stands the reference description without fusing, `peer_pipeline`. Published, an image
(not a hundred): Mosaic 24.0 ms cached and 87.1 not, MixUp 12.4 and 19.3; see
studies/papers/rtmdet.yaml, rtmdet/cache_time.
"""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detectors.interface import InputConfig
from harness.augmentation import Augment, MixUp, Mosaic
from harness.data import DataConfig, Split, load, train_loader
from harness.recipe import Recipe
from tests.benchmarks.peer_pipeline import Unfused

SHARED = Path(os.environ.get("DETBENCH_SHARED", Path(__file__).parents[3] / "shared"))
COCO_MINI = SHARED / "data" / "coco_mini"
IMAGES = 32  # a round
pytestmark = pytest.mark.skipif(not COCO_MINI.is_dir(), reason=f"no {COCO_MINI}")


@pytest.fixture(scope="module")
def split() -> Iterator[Split]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    yield load(DataConfig(source=str(COCO_MINI))).train
    cv2.setNumThreads(threads)


def fused(split: Split, augment: Augment, memory: int) -> Callable[[], int]:
    """Return what loads the next batch of ours, caches warm."""
    recipe = Recipe(
        epochs=1000, batch_size=IMAGES, lr=1, workers=0, augment=augment, cache_bytes=memory
    )
    loader = train_loader(split, InputConfig(size=(640, 640)), recipe, seed=0)
    batches = (batch for epoch in count() for batch in loader.epoch(epoch))
    for _ in range(16):
        next(batches)
    return lambda: len(next(batches).images)


def unfused(split: Split, **cached: bool) -> Callable[[], int]:
    """Return what loads as many images of the peer, planes included, caches warm."""
    peer = Unfused(split, **cached)
    order = (int(i) for i in np.random.default_rng(0).integers(0, len(split), 1 << 20))

    def batch() -> int:
        planes = [peer(next(order)).image.transpose(2, 0, 1) for _ in range(IMAGES)]
        return len(np.stack(planes))

    for _ in range(2):
        batch()
    return batch


def stage(mosaic: dict[str, Any] | None, mixup: dict[str, Any] | None) -> Augment:
    return Augment(
        mosaic=None if mosaic is None else Mosaic(**mosaic),
        mixup=None if mixup is None else MixUp(**mixup),
        resize_range=(0.5, 2.0),
        hsv=(5, 30, 30),
    )


# Of 364 photographs two GiB hold all, which is no cache of forty: `from disk` keeps nothing.
CASES: dict[str, Callable[[Split], Callable[[], int]]] = {
    "cached": lambda split: fused(split, stage({}, {}), 1 << 31),
    "cached in 500 MB": lambda split: fused(split, stage({}, {}), 500_000_000),
    "uncached from disk": lambda split: fused(
        split, stage({"cached": False}, {"cached": False}), 0
    ),
    "peer cached": lambda split: unfused(split),
    "peer uncached": lambda split: unfused(split, mosaic_cached=False, mixup_cached=False),
    "mosaic cached": lambda split: fused(split, stage({}, None), 1 << 31),
    "mosaic uncached from disk": lambda split: fused(split, stage({"cached": False}, None), 0),
    "mixup cached": lambda split: fused(split, stage(None, {}), 1 << 31),
    "mixup uncached from disk": lambda split: fused(split, stage(None, {"cached": False}), 0),
}


@pytest.mark.benchmark(group=f"{IMAGES} images of RTMDet-s's stage 1 at 640 pixels, one process")
@pytest.mark.parametrize("case", CASES)
def test_input_pipeline(benchmark: Any, split: Split, case: str) -> None:
    load_batch = CASES[case](split)
    found = benchmark.pedantic(load_batch, rounds=8)
    assert found == IMAGES
    benchmark.extra_info["ms_an_image"] = 1000 * benchmark.stats.stats.median / IMAGES
    benchmark.extra_info["images_per_second"] = IMAGES / benchmark.stats.stats.median


def test_the_peer_makes_the_same_kind_of_picture(split: Split) -> None:
    """Brightness, padding and number of boxes agree on average, so the work is comparable."""
    peer = Unfused(split)
    theirs = [peer(index) for index in range(60)][20:]
    recipe = Recipe(epochs=1, batch_size=20, lr=1, workers=0, augment=stage({}, {}))
    loader = train_loader(split, InputConfig(size=(640, 640)), recipe, seed=0)
    batches = [batch for _, batch in zip(range(16), loader.epoch(0), strict=False)][8:]
    boxes = np.mean([len(target.boxes) for batch in batches for target in batch.targets])
    assert abs(boxes / np.mean([len(sample.boxes) for sample in theirs]) - 1) < 0.3
    mean = np.mean([batch.images.float().mean() for batch in batches])
    assert abs(mean - np.mean([sample.image.mean() for sample in theirs])) < 10
