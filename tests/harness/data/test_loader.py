"""Batches: complete, reproducible, and the same whatever the number of processes."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from detectors.interface import InputConfig
from harness.augmentation import Augment
from harness.data import (
    Batch,
    DataConfig,
    DataError,
    DataSet,
    load,
    to_original,
    train_loader,
    val_loader,
)
from harness.recipe import Recipe
from tests.harness.data.folders import box, document, write

INPUT = InputConfig(size=(64, 96))


def recipe(batch_size: int = 4, *, workers: int = 0, accumulate: int = 1) -> Recipe:
    return Recipe(
        epochs=2,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=0.1,
        workers=workers,
        augment=Augment(resize_range=(0.5, 2.0), hsv=(5, 30, 30)),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = write(tmp_path_factory.mktemp("pets"), document(10), document(5, first=50))
    return load(DataConfig(source=str(folder)))


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for field in ("images", "sizes", "original_sizes", "indices"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field
        for target, twin in zip(one.targets, other.targets, strict=True):
            assert torch.equal(target.boxes, twin.boxes)
            assert torch.equal(target.labels, twin.labels)


def test_a_batch_is_what_the_seam_says(data: DataSet) -> None:
    (batch, *_) = train_loader(data.train, INPUT, recipe(), seed=0).epoch(0)
    assert batch.images.shape == (4, 3, 64, 96)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous()
    assert batch.sizes.dtype == batch.original_sizes.dtype == batch.indices.dtype == torch.int64
    assert batch.sizes.shape == batch.original_sizes.shape == (4, 2)
    for index, size, target in zip(batch.indices, batch.original_sizes, batch.targets, strict=True):
        assert tuple(size.tolist()) == (40 + index, 60)
        assert target.boxes.dtype == torch.float32
        assert target.boxes.shape == (1, 4)
        assert target.labels.tolist() == [0]


def test_the_number_of_processes_changes_nothing(data: DataSet) -> None:
    alone = train_loader(data.train, INPUT, recipe(), seed=5)
    expected = [list(alone.epoch(epoch)) for epoch in (0, 1)]
    for workers in (1, 2, 64):
        loader = train_loader(data.train, INPUT, recipe(workers=workers), seed=5)
        for epoch in (0, 1):
            assert_equal(list(loader.epoch(epoch)), expected[epoch])


def test_processes_that_live_on_see_the_epoch(data: DataSet) -> None:
    """Colours are compared, as stale augmentation would keep those of the first epoch."""
    loader = train_loader(data.train, INPUT, recipe(1, workers=2), seed=0)
    first, second = (
        {int(batch.indices[0]): batch.images for batch in loader.epoch(epoch)} for epoch in (0, 1)
    )
    assert first.keys() == second.keys() == set(range(10))
    assert not any(torch.equal(first[key], second[key]) for key in first)


def test_each_image_has_draws_of_its_own(data: DataSet) -> None:
    (batch,) = train_loader(data.train, INPUT, recipe(10), seed=0).epoch(0)
    assert len({int(width) for width in batch.sizes[:, 1]}) >= 4


def test_an_epoch_can_be_drawn_again_in_any_order(data: DataSet) -> None:
    loader = train_loader(data.train, INPUT, recipe(), seed=1)
    later = list(loader.epoch(7))
    list(loader.epoch(0))
    assert_equal(list(loader.epoch(7)), later)
    other = list(train_loader(data.train, INPUT, recipe(), seed=2).epoch(7))
    assert not torch.equal(other[0].images, later[0].images)


def test_an_epoch_left_early_does_not_spoil_the_next(data: DataSet) -> None:
    loader = train_loader(data.train, INPUT, recipe(2, workers=1), seed=1)
    expected = list(train_loader(data.train, INPUT, recipe(2), seed=1).epoch(1))
    next(loader.epoch(0))
    assert_equal(list(loader.epoch(1)), expected)


def test_batches_are_full_unless_there_is_but_one(data: DataSet) -> None:
    loader = train_loader(data.train, INPUT, recipe(4), seed=0)
    batches = list(loader.epoch(0))
    assert len(loader) == len(batches) == 2
    seen = torch.cat([batch.indices for batch in batches]).tolist()
    assert len(set(seen)) == 8
    small = train_loader(data.train, INPUT, recipe(64), seed=0)
    assert [len(batch.indices) for batch in small.epoch(0)] == [10]
    assert len(small) == 1
    micro = train_loader(data.train, INPUT, recipe(4, accumulate=2), seed=0)
    assert {len(batch.indices) for batch in micro.epoch(0)} == {2}


def test_every_image_comes_up_over_the_epochs(data: DataSet) -> None:
    loader = train_loader(data.train, INPUT, recipe(4), seed=0)
    seen = {int(i) for epoch in range(6) for batch in loader.epoch(epoch) for i in batch.indices}
    assert seen == set(range(10))


@pytest.mark.parametrize("workers", [0, 2])
def test_val_batches_in_order_and_back_to_original_pixels(data: DataSet, workers: int) -> None:
    loader = val_loader(data.val, INPUT, batch_size=2, workers=workers)
    for _ in range(2):
        batches = list(loader)
        assert len(loader) == len(batches) == 3
        assert torch.cat([batch.indices for batch in batches]).tolist() == [0, 1, 2, 3, 4]
    batch = batches[1]
    assert batch.sizes.tolist() == [[64, 91], [64, 89]]
    for k, index in enumerate(batch.indices.tolist()):
        boxes = to_original(batch.targets[k].boxes, batch.sizes[k], batch.original_sizes[k])
        np.testing.assert_allclose(boxes, data.val.objects(index)[0], rtol=1e-5)
        assert (batch.images[k, :, :, int(batch.sizes[k, 1]) :] == INPUT.pad_value).all()


def test_images_without_objects_make_empty_targets(tmp_path: Path) -> None:
    val = document(2) | {"annotations": [box(1, 0, [1, 1, 5, 5], iscrowd=1)]}
    data = load(DataConfig(source=str(write(tmp_path, val=val))))
    (batch,) = val_loader(data.val, INPUT, 2, 0)
    assert [tuple(target.boxes.shape) for target in batch.targets] == [(0, 4), (0, 4)]
    assert [tuple(target.labels.shape) for target in batch.targets] == [(0,), (0,)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_one_line_from_any_process(tmp_path: Path, workers: int) -> None:
    folder = write(tmp_path)
    data = load(DataConfig(source=str(folder)))
    (folder / "val" / "51.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"51\.png: not an image") as caught:
        list(val_loader(data.val, INPUT, 1, workers))
    assert "\n" not in str(caught.value)


def test_loading_leaves_the_generators_alone(data: DataSet) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1]
    list(train_loader(data.train, INPUT, recipe(workers=1), seed=0).epoch(0))
    list(val_loader(data.val, INPUT, 2, 0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_the_warning_about_forks_beside_threads_is_not_passed_on(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fork

    def fork() -> int:
        warnings.warn(
            "This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks in the"
            " child.",
            DeprecationWarning,
            stacklevel=2,
        )
        return real()

    monkeypatch.setattr(os, "fork", fork)
    assert len(list(val_loader(data.val, INPUT, 1, 1))) == 5


def test_a_split_can_be_sent_to_another_process(data: DataSet) -> None:
    again = pickle.loads(pickle.dumps(data.train))
    assert np.array_equal(again.read(0), data.train.read(0))
    assert again.objects(3)[0].tolist() == data.train.objects(3)[0].tolist()
