"""The rendered data set: the same bytes from the same seed, and boxes on what they bound."""

import multiprocessing
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from harness.config.data import DataConfig, DataError, ShapesConfig
from harness.data import describe, load, shapes
from harness.data.scenes import CLASSES
from tests.patience import wait_for

SMALL = ShapesConfig(train_images=6, val_images=3, size=96)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = files(shapes.folder(SMALL))
    other = files(shapes.folder(SMALL.model_copy(update={"seed": 1})))
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "again"))
    assert files(shapes.folder(SMALL)) == first
    assert first["train/000000.jpg"] != other["train/000000.jpg"]
    assert first["train/000000.jpg"] != first["val/000000.jpg"]


def test_more_images_leave_the_first_ones_as_they_are() -> None:
    few = files(shapes.folder(SMALL))
    many = files(shapes.folder(SMALL.model_copy(update={"train_images": 8})))
    assert all(many[name] == data for name, data in few.items() if name.startswith("train"))


def test_it_is_a_data_set_like_any_other() -> None:
    config = DataConfig(shapes=ShapesConfig(train_images=60, val_images=5, size=96))
    data = load(config)
    assert data.name == "shapes"
    assert [category.name for category in data.categories] == list(CLASSES)[:4]
    assert data.train.read(0).shape == (96, 96, 3)
    figures = describe(data)["train"]
    assert min(figures["by_class"].values()) > 10
    assert figures["degenerate"] == 0
    assert figures["images"] == 60


def test_boxes_are_tight_around_what_was_painted() -> None:
    """Without background and noise, everything that differs from the corners is the object."""
    config = ShapesConfig(
        size=128, objects=(1, 1), sides=(0.2, 0.5), clutter=0, noise=0, train_images=1, val_images=1
    )
    checked = 0
    for index in range(30):
        scene = shapes.render(config, "train", index)
        if not len(scene.boxes):
            continue
        bare = cv2.resize(
            cv2.resize(scene.image[::127, ::127], (2, 2)), (128, 128)
        )  # the gradient again, from its four corners
        x1, y1, x2, y2 = scene.boxes[0]
        if x1 < 2 or y1 < 2 or x2 > 126 or y2 > 126:
            continue
        far = np.abs(scene.image.astype(int) - bare.astype(int)).sum(axis=2) > 45
        rows, columns = np.flatnonzero(far.any(1)), np.flatnonzero(far.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(np.array(found) - scene.boxes[0]).max() <= 3
        checked += 1
    assert checked >= 10


def test_objects_stay_inside_and_as_many_and_as_large_as_asked() -> None:
    config = ShapesConfig(size=128, objects=(3, 5), sides=(0.1, 0.3), hidden=0)
    scenes = [shapes.render(config, "val", index) for index in range(20)]
    counts = [len(scene.boxes) for scene in scenes]
    assert max(counts) == 5
    boxes = np.concatenate([scene.boxes for scene in scenes])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert boxes.min() >= 0
    assert boxes.max() <= 128
    assert 0.08 * 128 <= sides.min() < sides.max() <= 0.3 * 128 + 3
    assert {scene.image.shape for scene in scenes} == {(128, 128, 3)}


def test_classes_and_areas() -> None:
    config = ShapesConfig(size=64, classes=2, sides=(0.3, 0.5))
    scenes = [shapes.render(config, "train", index) for index in range(20)]
    assert set(np.concatenate([scene.labels for scene in scenes]).tolist()) == {0, 1}
    for scene in scenes:
        extent = np.prod(scene.boxes[:, 2:] - scene.boxes[:, :2], axis=1)
        assert ((scene.areas > 0.1 * extent) & (scene.areas <= extent)).all()


def test_changed_code_draws_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shapes.folder(SMALL)
    whole = files(first)
    monkeypatch.setattr(shapes, "_code", lambda: "other")
    second = shapes.folder(SMALL)
    assert second != first
    assert files(second) == whole  # so that the data's fingerprint is the same


def test_what_an_interrupted_call_left_is_removed(cache: Path) -> None:
    target = shapes.folder(SMALL)
    whole = files(target)
    partial = target.with_name(f".{target.name}.partial")
    target.rename(partial)
    (partial / "train" / "000000.jpg").write_bytes(b"half")
    (partial / "train" / "junk.jpg").write_bytes(b"half")
    assert files(shapes.folder(SMALL)) == whole
    assert not partial.exists()


def _render(config: ShapesConfig) -> None:
    shapes.folder(config)


def test_a_kill_in_the_middle_leaves_nothing_half_made() -> None:
    config = ShapesConfig(train_images=100_000, val_images=1, size=64)
    process = multiprocessing.get_context("fork").Process(target=_render, args=(config,))
    process.start()
    root = shapes.cache_dir() / "shapes"
    wait_for(lambda: list(root.glob(".*.partial/train/*.jpg")), "a first image")
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert list(root.glob(".*.partial/train/*.jpg"))
    assert [path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."] == []


def test_two_processes_at_once_are_fine() -> None:
    context = multiprocessing.get_context("fork")
    config = ShapesConfig(train_images=30, val_images=3, size=64)
    processes = [context.Process(target=_render, args=(config,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(files(shapes.folder(config))) == 30 + 3 + 2


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set DETBENCH_CACHE to a folder with room"):
        shapes.folder(SMALL)


@pytest.mark.parametrize(
    "knobs",
    [
        {"sides": (0.5, 0.2)},
        {"sides": (0.5, 1.2)},
        {"sides": (0.01, 0.2)},
        {"objects": (4, 2)},
        {"classes": 7},
        {"colour": 1},
    ],
)
def test_impossible_scenes_are_refused(knobs: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ShapesConfig(**knobs)
