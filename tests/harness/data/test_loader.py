"""Batches: complete, reproducible, and the same whatever the number of processes."""

import json
import multiprocessing
import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from detectors.interface import InputConfig
from harness.config.augmentation import Augment, IoUCrop, MixUp, Mosaic, ZoomOut
from harness.config.data import DataConfig, DataError
from harness.config.recipe import Recipe
from harness.data import (
    Batch,
    DataSet,
    load,
    loading_processes,
    to_original,
    train_loader,
    val_loader,
)
from harness.data.resize import resize
from tests.harness.data.folders import box, document, write

INPUT = InputConfig(size=(64, 96))


MIXED = Augment(
    mosaic=Mosaic(cache_size=6), mixup=MixUp(cache_size=4), resize_range=(0.5, 2.0), hsv=(5, 30, 30)
)


def recipe(batch_size: int = 4, **changes: Any) -> Recipe:
    plain = Augment(resize_range=(0.5, 2.0), hsv=(5, 30, 30))
    values = {"epochs": 9, "lr": 0.1, "workers": 0, "augment": plain, **changes}
    return Recipe(batch_size=batch_size, **values)


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


QUERIES = Augment(distort=0.5, zoom_out=ZoomOut(), iou_crop=IoUCrop(), multi_scale=(1.0, 1.5))
UNCACHED = Augment(mosaic=Mosaic(cached=False), mixup=MixUp(cached=False), resize_range=(0.5, 2.0))


@pytest.mark.parametrize("augment", [recipe().augment, MIXED, UNCACHED, QUERIES])
def test_the_number_of_processes_and_the_memory_change_nothing(
    data: DataSet, augment: Augment
) -> None:
    alone = train_loader(data.train, INPUT, recipe(augment=augment), seed=5)
    expected = [list(alone.epoch(epoch)) for epoch in (0, 1)]
    for workers, memory in ((1, 1 << 24), (2, 1 << 20), (64, 0), (0, 0), (0, 200_000)):
        changed = recipe(workers=workers, cache_bytes=memory, augment=augment)
        loader = train_loader(data.train, INPUT, changed, seed=5)
        for epoch in (0, 1):
            assert_equal(list(loader.epoch(epoch)), expected[epoch])


@pytest.mark.parametrize("augment", [recipe().augment, MIXED, QUERIES])
def test_ranks_together_see_what_one_alone_would(data: DataSet, augment: Augment) -> None:
    mixed = recipe(4, augment=augment)
    alone = list(train_loader(data.train, INPUT, mixed, seed=5).epoch(1))
    parts = [
        list(train_loader(data.train, INPUT, mixed, 5, rank=rank, world=2).epoch(1))
        for rank in (0, 1)
    ]
    for whole, first, second in zip(alone, *parts, strict=True):
        assert torch.equal(whole.images, torch.cat([first.images, second.images]))
        assert torch.equal(whole.indices, torch.cat([first.indices, second.indices]))
        boxes = [target.boxes for part in (first, second) for target in part.targets]
        assert all(map(torch.equal, [target.boxes for target in whole.targets], boxes))


def test_ranks_that_cannot_share_evenly_are_refused(data: DataSet) -> None:
    with pytest.raises(DataError, match="4 images a micro-batch cannot be split evenly over 3"):
        train_loader(data.train, INPUT, recipe(4), 0, world=3)


@pytest.mark.parametrize(
    ("device", "cores", "threads", "share", "processes"),
    [
        ("cpu", 1, 1, 1, 0),
        ("cpu", 2, 2, 1, 0),  # where a process would take every other core from the operators
        ("cpu", 4, 4, 1, 1),
        ("cpu", 16, 16, 1, 4),
        ("cpu", 16, 4, 4, 1),  # trials side by side have a share of the threads each
        ("cpu", 2, 16, 1, 0),  # a container's cores, where torch counts those of the machine
        ("cpu", 256, 256, 1, 8),
        ("cuda:0", 1, 1, 1, 1),
        ("cuda:0", 4, 4, 1, 3),
        ("cuda:0", 16, 1, 1, 8),
        ("cuda:1", 16, 4, 4, 3),
    ],
)
def test_auto_follows_the_cores(
    device: str, cores: int, threads: int, share: int, processes: int
) -> None:
    assert loading_processes("auto", device, share, cores=cores, threads=threads) == processes
    assert loading_processes(5, device, share, cores=cores, threads=threads) == 5


def test_processes_of_torchrun_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loading_processes("auto", "cuda:0", cores=16, threads=1) == 3


def test_batches_of_auto_are_those_of_any_number(data: DataSet) -> None:
    auto, none = (
        list(train_loader(data.train, INPUT, recipe(workers=workers), seed=3).epoch(1))
        for workers in ("auto", 0)
    )
    assert_equal(auto, none)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", [recipe().augment, MIXED, QUERIES])
def test_an_epoch_goes_on_in_its_middle(data: DataSet, augment: Augment, workers: int) -> None:
    whole = train_loader(data.train, INPUT, recipe(2, augment=augment), seed=3)
    batches = [list(whole.epoch(epoch)) for epoch in (0, 1, 2)]
    assert len(whole) == 5
    other = train_loader(data.train, INPUT, recipe(2, augment=augment, workers=workers), seed=3)
    other.restore(json.loads(json.dumps(whole.state())))
    assert_equal(list(other.epoch(2, start=3)), batches[2][3:])
    assert_equal(list(other.epoch(1, start=5)), [])


def test_a_state_of_another_training_is_refused(data: DataSet) -> None:
    state = train_loader(data.train, INPUT, recipe(), seed=3).state()
    for loader, name in (
        (train_loader(data.train, INPUT, recipe(), seed=4), "seed"),
        (train_loader(data.val, INPUT, recipe(), seed=3), "images"),
        (train_loader(data.train, INPUT, recipe(augment=MIXED), seed=3), "recipe"),
    ):
        with pytest.raises(DataError, match=f"{name}: the training to go on with had"):
            loader.restore(state)
    train_loader(data.train, INPUT, recipe(workers=2, cache_bytes=0), seed=3).restore(state)


def colours(image: torch.Tensor) -> int:
    """Return how many values an image of uniform photographs shows, but for the padding."""
    values, counts = image[0].unique(return_counts=True)
    return int((counts[values != INPUT.pad_value] > 40).sum())


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Photographs of one gray each, which tell whether pictures are mixed."""
    folder = write(tmp_path_factory.mktemp("uniform"), document(12), document(2, first=50))
    for k in range(12):
        pixels = np.full((40 + k, 60, 3), 5 + 20 * k, np.uint8)
        cv2.imwrite(str(folder / "train" / f"{k}.png"), pixels)
    return load(DataConfig(source=str(folder)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("first", "last"), [(0, Augment()), (2, None), (3, Augment())])
def test_the_last_epochs_reach_every_process(
    uniform: DataSet, workers: int, first: int, last: Augment | None
) -> None:
    """Pixels are compared: Mosaic shows several grays at once, and the last epochs only one."""
    two_stage = recipe(
        6,
        workers=workers,
        epochs=5,
        augment=Augment(mosaic=Mosaic(cache_size=6), resize_range=(0.5, 0.5)),
        last_epochs=2,
        last_augment=last,
    )
    loader = train_loader(uniform.train, INPUT, two_stage, seed=0)
    for epoch in range(first, 5):  # from `first` on, as after a resume
        shown = [colours(image) for batch in loader.epoch(epoch) for image in batch.images]
        if epoch >= 3:
            assert set(shown) == {1}, epoch
        elif epoch:
            assert np.mean(shown) > 2, epoch


def test_mixup_of_two_mosaics_is_of_eight_images(uniform: DataSet) -> None:
    augment = Augment(mosaic=Mosaic(), mixup=MixUp(), resize_range=(0.5, 0.5), flip=0)
    loader = train_loader(uniform.train, INPUT, recipe(6, augment=augment), seed=0)
    boxes = [len(target.boxes) for batch in loader.epoch(1) for target in batch.targets]
    assert max(boxes) == 8  # each photograph has one
    assert np.mean(boxes) > 5


def test_multi_scale_gives_a_batch_one_size_and_the_nearest_pixels(data: DataSet) -> None:
    plain, scales = Augment(distort=0.5), (0.75, 1.0, 1.5)
    square = InputConfig(size=(64, 128))
    usual = train_loader(data.train, square, recipe(2, augment=plain), seed=0)
    changed = recipe(2, augment=plain.model_copy(update={"multi_scale": scales}))
    other = train_loader(data.train, square, changed, seed=0)
    sizes = set()
    for epoch in range(4):
        for one, two in zip(usual.epoch(epoch), other.epoch(epoch), strict=True):
            size = tuple(two.images.shape[2:])
            sizes.add(size)
            nearest = torch.nn.functional.interpolate(one.images, size)
            assert torch.equal(two.images, nearest)
            ratio = torch.tensor([size[1] / 128, size[0] / 64] * 2)
            for before, after in zip(one.targets, two.targets, strict=True):
                torch.testing.assert_close(after.boxes, before.boxes * ratio)
            expected = one.sizes * torch.tensor([size[0] / 64, size[1] / 128])
            assert (two.sizes - expected).abs().max() <= 0.5
    assert sizes == {(64, 96), (64, 128), (96, 192)}  # 48 is rounded to 64, half to even


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", [recipe().augment, MIXED])
def test_images_that_cannot_be_read_are_passed_over_and_named(
    tmp_path: Path, augment: Augment, workers: int
) -> None:
    folder = write(tmp_path, document(10))
    data = load(DataConfig(source=str(folder)))
    for name in ("3.png", "4.png"):
        (folder / "train" / name).write_bytes(b"no image")
    skipping = recipe(5, augment=augment, workers=workers, on_corrupt="skip")
    loader = train_loader(data.train, INPUT, skipping, seed=0)
    batches = [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]
    assert {len(batch.images) for batch in batches} == {5}
    seen = torch.cat([batch.indices for batch in batches]).tolist()
    assert seen.count(5) == 6  # for itself, for 3 and for 4
    assert not {3, 4} & set(seen)
    stats = loader.stats()
    assert stats["images_skipped"] == 2
    assert [text.split(":")[0].rsplit("/")[-1] for text in stats["skipped"]] == ["3.png", "4.png"]
    refusing = recipe(5, augment=augment, workers=workers)
    with pytest.raises(DataError, match=r"[34]\.png: not an image"):
        list(train_loader(data.train, INPUT, refusing, seed=0).epoch(0))


def test_a_split_without_any_image_to_read_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, document(3))
    data = load(DataConfig(source=str(folder)))
    for file in (folder / "train").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="no image can be read; restore the files"):
        list(train_loader(data.train, INPUT, recipe(2, on_corrupt="skip"), seed=0).epoch(0))


@pytest.mark.parametrize("validating", [False, True])
def test_processes_end_with_a_pass_that_is_given_up(tmp_path: Path, validating: bool) -> None:
    """Also while somebody holds the error, and with it all that it came by."""
    folder = write(tmp_path, document(10), document(10))
    data = load(DataConfig(source=str(folder)))
    for file in (*(folder / "train").iterdir(), *(folder / "val").iterdir()):
        file.write_bytes(b"no image")
    before = set(multiprocessing.active_children())
    training = train_loader(data.train, INPUT, recipe(2, workers=2), seed=0)
    batches = iter(val_loader(data.val, INPUT, 2, workers=2)) if validating else training.epoch(0)
    with pytest.raises(DataError) as held:
        list(batches)
    assert set(multiprocessing.active_children()) == before
    assert held.traceback


def resident(pid: int) -> int:
    """Return the bytes of memory that a process holds for itself."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    return sum(1024 * int(size) for size in re.findall(r"Rss(?:Anon|File):\s+(\d+) kB", text))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_stays_flat_over_epochs(data: DataSet) -> None:
    limit = 600_000
    mixed = recipe(2, augment=MIXED, workers=1, cache_bytes=limit)
    loader = train_loader(data.train, INPUT, mixed, seed=0)
    others = set(multiprocessing.active_children())
    for epoch in range(4):
        list(loader.epoch(epoch))
    (child,) = set(multiprocessing.active_children()) - others
    assert child.pid is not None
    used, before = loader.stats()["cache_bytes"], resident(child.pid)
    for epoch in range(4, 24):
        list(loader.epoch(epoch))
    assert 0.5 * limit < used <= loader.stats()["cache_bytes"] <= limit
    assert resident(child.pid) - before < 3_000_000
    assert loader.stats()["picture_hits"] > 50


def test_processes_that_live_on_see_the_epoch(data: DataSet) -> None:
    """Colours are compared, as stale augmentation would keep those of the first epoch."""
    loader = train_loader(data.train, INPUT, recipe(1, workers=2), seed=0)
    first, second = (
        {int(batch.indices[0]): batch.images for batch in loader.epoch(epoch)} for epoch in (0, 1)
    )
    assert first.keys() == second.keys() == set(range(10))
    assert not any(torch.equal(first[key], second[key]) for key in first)


def test_each_image_has_draws_of_its_own(data: DataSet) -> None:
    shrunk = recipe(10, augment=Augment(resize_range=(0.3, 1.0)))
    (batch,) = train_loader(data.train, INPUT, shrunk, seed=0).epoch(0)
    assert len({int(width) for width in batch.sizes[:, 1]}) >= 8


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


def test_inputs_as_large_as_their_photographs_are_padded_to_the_largest_of_a_batch(
    data: DataSet,
) -> None:
    """Photographs of 60 x 40 to 60 x 44 become 30 x 20, then 29 x 20, and so on."""
    input = InputConfig(size=(20, 30), resize="shortest_edge", pad_to=4, pad_value="mean")
    batches = list(val_loader(data.val, input, batch_size=3, workers=0))
    assert [tuple(batch.images.shape) for batch in batches] == [(3, 3, 20, 32), (2, 3, 20, 28)]
    assert [batch.sizes.tolist() for batch in batches] == [
        [[20, 30], [20, 29], [20, 28]], [[20, 27], [20, 27]]
    ]  # fmt: skip
    for batch in batches:
        for image, size, original, target in zip(
            batch.images, batch.sizes, batch.original_sizes, batch.targets, strict=True
        ):
            assert not image[:, :, int(size[1]) :].any()  # the mean is 0
            back = to_original(target.boxes, size, original)
            torch.testing.assert_close(back, torch.tensor([[10.0, 5.0, 30.0, 15.0]]))


def test_a_training_on_inputs_as_large_as_their_photographs_is_refused(data: DataSet) -> None:
    input = InputConfig(size=(32, 64), resize="shortest_edge")
    with pytest.raises(DataError, match="a training wants one; train with letterbox or stretch"):
        train_loader(data.train, input, recipe(), seed=0)


@pytest.mark.parametrize("name", ["area", "bilinear_antialias", "cubic"])
def test_photographs_are_resized_as_the_input_says(data: DataSet, name: Any) -> None:
    input = InputConfig(size=(24, 32), interpolation=name)
    (batch,) = val_loader(data.val, input, batch_size=8, workers=0)
    for index, (height, width) in enumerate(batch.sizes.tolist()):
        expected = resize(data.val.read(index), (height, width), name)
        found = batch.images[index, :, :height, :width].permute(1, 2, 0).numpy()[..., ::-1]
        np.testing.assert_array_equal(found, expected)
        plain = resize(data.val.read(index), (height, width))
        assert np.abs(plain.astype(int) - expected).max() > 5
