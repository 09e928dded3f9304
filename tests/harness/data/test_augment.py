"""The geometry of a training picture: boxes follow pixels, and chance is bounded as stated."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torchvision import tv_tensors
from torchvision.transforms import v2

from detectors.interface import InputConfig
from harness.config.augmentation import Augment, IoUCrop, MixUp, Mosaic, ZoomOut
from harness.data.augment import (
    Composer,
    Fit,
    RandomCrop,
    RandomIoUCrop,
    RandomResize,
    RandomZoomOut,
    mosaic,
)
from harness.data.layout import cropped, resized, snapped, tall_enough
from harness.data.resize import resize
from tests.harness.data.painting import PAD, Photographs, painted, picture, white_box

INPUT = InputConfig(size=(96, 128))
FOUR = Photographs(
    ((80, 120), [(30, 20, 90, 60)]),
    ((100, 60), [(10, 30, 50, 90)]),
    ((70, 70), [(20, 20, 60, 50)]),
    ((64, 128), [(40, 10, 100, 55)]),
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_resize_alone_is_opencvs() -> None:
    noise = rng().integers(0, 256, (80, 120, 3), np.uint8)
    made = painted(picture(resized(FOUR.layout(0), (57, 93))), lambda _: noise, (57, 93))
    np.testing.assert_array_equal(made, resize(noise, (57, 93)))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(resize_range=(0.5, 2.0)),
        Augment(mosaic=Mosaic(), resize_range=(0.5, 2.0)),
        Augment(zoom_out=ZoomOut(probability=1), iou_crop=IoUCrop(probability=1)),
    ],
)
def test_whatever_is_drawn_boxes_follow_pixels(augment: Augment, seed: int) -> None:
    images = (0, 1, 2, 3) if augment.mosaic else (seed % 4,)
    made = Composer(augment, INPUT)(images, FOUR.layout, rng(seed))
    pixels = painted(made, FOUR.pixels, INPUT.size)
    height, width = made.size
    assert (made.boxes >= 0).all()
    assert (made.boxes <= [width, height, width, height]).all()
    for label, box in zip(made.labels, made.boxes, strict=True):
        one = made._replace(pastes=[paste for paste in made.pastes if paste.image == label])
        found = white_box(painted(one, FOUR.pixels, INPUT.size))
        assert np.abs(np.array(found) - box).max() <= 2.01, (found, box)  # half a blurred edge
    assert (pixels[height:] == PAD).all()
    assert (pixels[:, width:] == PAD).all()


def reference_mosaic(
    read: Any, boxes: list[np.ndarray], size: tuple[int, int], center: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Paste four fitted images on a canvas, one after the other, in plain loops."""
    (height, width), (x, y) = size, center
    canvas, found = np.full((2 * height, 2 * width, 3), PAD, np.uint8), []
    for k in range(4):
        image = read(k)
        ratio = min(height / image.shape[0], width / image.shape[1])
        h, w = (int(side * ratio + 0.5) for side in image.shape[:2])
        left, top = (x - w if k % 2 == 0 else x), (y - h if k < 2 else y)
        small = resize(image, (h, w))
        for row, column in product(range(h), range(w)):
            if 0 <= top + row < 2 * height and 0 <= left + column < 2 * width:
                canvas[top + row, left + column] = small[row, column]
        scale = np.array([w / image.shape[1], h / image.shape[0]] * 2)
        moved = boxes[k] * scale + (left, top, left, top)
        found.append(np.clip(moved, 0, [2 * width, 2 * height] * 2))
    return canvas, np.concatenate(found)


@pytest.mark.parametrize("seed", range(4))
def test_mosaic_is_the_reference_description(seed: int) -> None:
    layout = mosaic([FOUR.layout(k) for k in range(4)], (48, 64), (0.5, 1.5), rng(seed))
    draws = rng(seed)
    center = int(draws.uniform(0.5, 1.5) * 64), int(draws.uniform(0.5, 1.5) * 48)
    canvas, boxes = reference_mosaic(FOUR.pixels, FOUR.boxes, (48, 64), center)
    made = painted(picture(layout), FOUR.pixels, (96, 128))
    difference = np.abs(made.astype(int) - canvas)
    assert difference.mean() < 1  # a part at the border is resized on its own
    kept = tall_enough(boxes)
    np.testing.assert_allclose(layout.visible(), boxes[kept], atol=1e-4)
    assert layout.labels.tolist() == np.flatnonzero(kept).tolist()


def test_a_chain_is_one_interpolation_of_the_same_picture() -> None:
    """Smooth images are compared, where two interpolations and one agree."""
    y, x = np.mgrid[:80, :120]
    waves = np.stack([128 + 100 * np.sin(x / 19), 128 + 100 * np.cos(y / 17), x + y], -1)
    smooth = waves.astype(np.uint8)
    layout = resized(FOUR.layout(0), (160, 240))
    layout = cropped(resized(layout, (131, 197)), (40, 21), (90, 110))
    made = painted(picture(layout), lambda _: smooth, (90, 110))
    expected = resize(resize(smooth, (160, 240)), (131, 197))[21:111, 40:150]
    assert np.abs(made.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize("seed", range(30))
def test_snapping_moves_by_half_a_pixel_and_covers_what_it_did(seed: int) -> None:
    layout = mosaic([FOUR.layout(k) for k in range(4)], INPUT.size, (0.5, 1.5), rng(seed))
    layout = RandomResize((192, 256), (0.3, 2.0))(layout, rng(seed))
    layout = RandomCrop(INPUT.size)(layout, rng(seed))
    moved, pastes = snapped(layout)
    for paste in pastes:
        (left, top, right, bottom), (x1, y1, x2, y2) = paste.target, paste.region
        assert left <= x1 < x2 <= right
        assert top <= y1 < y2 <= bottom
        k = layout.images.index(paste.image)
        corner = layout.offset[k] + np.array(paste.source) * layout.scale[k]
        assert np.abs(corner - paste.target).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(moved.region, layout.region, atol=0.5)


def test_random_resize_keeps_the_ratio_and_draws_evenly() -> None:
    factors = []
    for seed in range(400):
        height, width = RandomResize((640, 640), (0.5, 2.0))(FOUR.layout(3), rng(seed)).size
        assert abs(height * 2 - width) <= 1
        factors.append(width / 640)
    assert kstest(factors, "uniform", args=(0.5, 1.5)).pvalue > 0.001


def test_the_center_of_a_mosaic_is_drawn_evenly() -> None:
    layouts = [FOUR.layout(k) for k in range(4)]
    meets = [mosaic(layouts, (100, 200), (0.5, 1.5), rng(seed)).region[3] for seed in range(400)]
    x, y = np.array(meets)[:, :2].T
    assert kstest(x, "uniform", args=(100, 200)).pvalue > 0.001
    assert kstest(y, "uniform", args=(50, 100)).pvalue > 0.001
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.2


def test_the_flip_has_its_probability() -> None:
    composer = Composer(Augment(flip=0.3), INPUT)
    turned = sum(composer((0,), FOUR.layout, rng(seed)).mirrored for seed in range(300))
    assert 60 < turned < 120


def test_crop_clips_and_drops_what_is_left_below_a_pixel() -> None:
    wide = Photographs(((64, 200), [(0, 0, 100.5, 64), (150, 10, 180, 30)]))
    seen = set()
    for seed in range(40):
        after = RandomCrop((64, 64))(wide.layout(0), rng(seed))
        boxes = after.visible()
        assert after.size == (64, 64)
        assert len(boxes) == len(after.labels) >= 1
        assert boxes.min() >= 0
        assert boxes.max() <= 64
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 1
        seen.add(tuple(after.boxes[:, 0].tolist()))
    assert {(0.0,), (150.0,)} <= seen


def test_crop_of_an_image_without_objects_and_of_a_small_one() -> None:
    images = Photographs(((100, 100), []), ((40, 50), [(5, 5, 20, 20)]))
    assert RandomCrop((64, 64))(images.layout(0), rng()).boxes.shape == (0, 4)
    after = RandomCrop((64, 64))(images.layout(1), rng())
    assert after.size == (40, 50)
    assert after.visible().tolist() == [[5, 5, 20, 20]]


def test_crop_looks_again_where_no_object_was_inside() -> None:
    rare = Photographs(((64, 640), [(300, 10, 320, 30)])).layout(0)
    hits = sum(len(RandomCrop((64, 64))(rare, rng(seed)).boxes) for seed in range(200))
    assert hits > 100  # 200 * (1 - (1 - 82 / 577) ** 10) = 157; without a second look 28


def test_zoom_out_draws_what_torchvision_does() -> None:
    photographs = Photographs(((30, 50), [(10, 10, 20, 20)]))
    torch.manual_seed(0)
    theirs, ours = [], []
    image = tv_tensors.Image(torch.zeros(3, 30, 50, dtype=torch.uint8))
    for seed in range(400):
        left, top, right, _ = v2.RandomZoomOut(p=1).make_params([image])["padding"]
        theirs.append((left, top, left + 50 + right))
        after = RandomZoomOut(ZoomOut(probability=1))(photographs.layout(0), rng(seed))
        x, y = after.region[0, :2]
        ours.append((x, y, after.size[1]))
        assert after.visible()[0].tolist() == [10 + x, 10 + y, 20 + x, 20 + y]
    for one, other in zip(np.array(theirs).T, np.array(ours).T, strict=True):
        assert ks_2samp(one, other).pvalue > 0.001


def test_iou_crop_draws_what_torchvision_does() -> None:
    boxes = [(10, 10, 30, 40), (50, 20, 90, 50), (5, 55, 15, 58)]
    photographs = Photographs(((60, 100), boxes))
    torch.manual_seed(0)
    image = tv_tensors.Image(torch.zeros(3, 60, 100, dtype=torch.uint8))
    objects = tv_tensors.BoundingBoxes(torch.tensor(boxes), format="XYXY", canvas_size=(60, 100))
    theirs, ours = [], []
    for seed in range(400):
        found = v2.RandomIoUCrop().make_params([image, objects])
        kept = found["is_within_crop_area"].sum() if found else 3
        theirs.append((found.get("width", 100), found.get("height", 60), int(kept)))
        after = RandomIoUCrop(IoUCrop(probability=1))(photographs.layout(0), rng(seed))
        ours.append((after.size[1], after.size[0], len(after.boxes)))
    for one, other in zip(np.array(theirs).T, np.array(ours).T, strict=True):
        assert ks_2samp(one, other).pvalue > 0.001


def test_iou_crop_crops_and_clips_as_torchvision_does() -> None:
    boxes = [(10, 10, 30, 40), (50, 20, 90, 50)]
    photographs = Photographs(((60, 100), boxes))
    objects = tv_tensors.BoundingBoxes(
        torch.tensor(boxes, dtype=torch.float32), format="XYXY", canvas_size=(60, 100)
    )
    compared = 0
    for seed in range(40):
        after = RandomIoUCrop(IoUCrop(probability=1))(photographs.layout(0), rng(seed))
        (height, width), (x, y) = after.size, -after.offset[0, :2]
        inside = torch.tensor([box in after.boxes.tolist() for box in map(list, boxes)])
        params = {"top": int(y), "left": int(x), "height": height, "width": width}
        params["is_within_crop_area"] = inside
        expected = v2.RandomIoUCrop().transform(objects, params)[inside]
        np.testing.assert_allclose(after.visible(), expected, atol=1e-4)
        compared += after.size != (60, 100)
    assert compared > 20


def test_iou_crop_leaves_images_without_boxes_whole() -> None:
    empty = Photographs(((60, 100), [])).layout(0)
    assert RandomIoUCrop(IoUCrop(probability=1))(empty, rng()) is empty


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="mosaic: needs resize_range"):
        Augment(mosaic=Mosaic())
    with pytest.raises(ValueError, match="need the fit"):
        Augment(resize_range=(0.5, 2), zoom_out=ZoomOut())
    with pytest.raises(ValueError, match=r"center: expected 0 < low"):
        Mosaic(center=(1.5, 0.5))
    with pytest.raises(ValueError, match="greater than or equal to 5"):
        Mosaic(cache_size=4)
    with pytest.raises(ValueError, match=r"resize_range: expected \[low, high\]"):
        Augment(resize_range=(2, 0.5))
    with pytest.raises(ValueError, match="multi_scale: expected at least one"):
        Augment(multi_scale=())
    assert MixUp().cache_size == 20


def test_the_steps_of_a_recipe() -> None:
    assert Composer(Augment(), INPUT).transforms == [Fit(INPUT)]
    cut = [RandomResize((96, 128), (0.5, 2.0)), RandomCrop((96, 128))]
    assert Composer(Augment(resize_range=(0.5, 2.0)), INPUT).transforms == cut
    tiled = Composer(Augment(mosaic=Mosaic(), resize_range=(0.5, 2.0)), INPUT).transforms
    assert tiled == [RandomResize((192, 256), (0.5, 2.0)), RandomCrop((96, 128))]


def test_a_picture_without_any_shift_of_colour_keeps_its_pixels() -> None:
    """The way to HSV and back would change colours a little."""
    composer = Composer(Augment(hsv=(0.9, 0.9, 0.9)), INPUT)
    assert composer((0,), FOUR.layout, rng(0)).shifts is None
