"""The transforms of a training image: boxes follow pixels, and chance is bounded as stated."""

import cv2
import numpy as np
import pytest

from detectors.interface import InputConfig
from harness.augmentation import Augment
from harness.data.augment import HSV, Fit, Flip, RandomCrop, RandomResize, Sample, pipeline


def sample(height: int = 80, width: int = 120, boxes: object = ((20, 10, 50, 40),)) -> Sample:
    """Return an image that is white inside the boxes and black elsewhere."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in array.astype(int):
        image[y1:y2, x1:x2] = 255
    return Sample(image, array, np.arange(len(array)))


def painted_box(image: np.ndarray) -> list[int]:
    rows = np.flatnonzero((image[..., 0] > 127).any(axis=1))
    columns = np.flatnonzero((image[..., 0] > 127).any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_pipelines() -> None:
    input = InputConfig(size=(64, 96))
    assert pipeline(Augment(flip=0), input) == [Fit(input)]
    full = Augment(resize_range=(0.5, 2.0), hsv=(5, 30, 30))
    assert pipeline(full, input) == [
        RandomResize((64, 96), (0.5, 2.0)),
        RandomCrop((64, 96)),
        HSV((5, 30, 30)),
        Flip(0.5),
    ]


def test_flip() -> None:
    before = sample()
    after = Flip(1.0)(before, rng(), [])
    assert after.boxes.tolist() == [[70, 10, 100, 40]] == [painted_box(after.image)]
    assert before.boxes.tolist() == [[20, 10, 50, 40]] == [painted_box(before.image)]
    assert Flip(0.0)(before, rng(), []) is before
    turned = sum(Flip(0.3)(before, rng(seed), []) is not before for seed in range(300))
    assert 60 < turned < 120


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_drawn_boxes_follow_pixels(seed: int) -> None:
    before = sample(100, 150, [(30, 20, 120, 90)])
    draws = rng(seed)
    after = before
    augment = Augment(resize_range=(0.5, 2.0), flip=0.5)
    for transform in pipeline(augment, InputConfig(size=(96, 128))):
        after = transform(after, draws, [])
    assert after.image.shape[0] <= 96
    assert after.image.shape[1] <= 128
    assert np.abs(np.array(painted_box(after.image)) - after.boxes[0]).max() <= 1.01


def test_random_resize_keeps_the_ratio_and_its_range() -> None:
    widths = []
    for seed in range(50):
        after = RandomResize((64, 64), (0.5, 2.0))(sample(80, 160), rng(seed), [])
        height, width = after.image.shape[:2]
        assert abs(height * 2 - width) <= 1
        widths.append(width)
    assert 32 <= min(widths) < 45
    assert 115 < max(widths) <= 128


def test_crop_clips_and_drops_what_is_left_below_a_pixel() -> None:
    whole = sample(64, 200, [(0, 0, 100.5, 64), (150, 10, 180, 30)])
    for seed in range(20):
        after = RandomCrop((64, 64))(whole, rng(seed), [])
        assert after.image.shape == (64, 64, 3)
        assert len(after.boxes) == len(after.labels) >= 1
        assert after.boxes.min() >= 0
        assert after.boxes.max() <= 64
        assert (after.boxes[:, 2:] - after.boxes[:, :2]).min() >= 1
        x1, y1, x2, y2 = painted_box(after.image)
        assert abs(after.boxes[:, 2].max() - x2) <= 1
    labels = {tuple(RandomCrop((64, 64))(whole, rng(seed), []).labels) for seed in range(40)}
    assert {(0,), (1,)} <= labels


def test_crop_of_an_image_without_objects_and_of_a_small_one() -> None:
    empty = RandomCrop((64, 64))(sample(100, 100, ()), rng(), [])
    assert empty.image.shape == (64, 64, 3)
    assert empty.boxes.shape == (0, 4)
    small = sample(40, 50, [(5, 5, 20, 20)])
    after = RandomCrop((64, 64))(small, rng(), [])
    assert after.image.shape == (40, 50, 3)
    assert after.boxes.tolist() == small.boxes.tolist()


def reference_shift(image: np.ndarray, shifts: tuple[int, int, int]) -> np.ndarray:
    """Shift in 16-bit integers, pixel by pixel."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + shifts[0]) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] + shifts[1], 0, 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + shifts[2], 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)


class Fixed:
    """A generator that draws what it was given."""

    def __init__(self, shares: list[float], switches: list[int]) -> None:
        self._shares, self._switches = np.array(shares), np.array(switches)

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        assert (low, high, size) == (-1, 1, 3)
        return self._shares

    def integers(self, low: int, high: int, size: int) -> np.ndarray:
        assert (low, high, size) == (0, 2, 3)
        return self._switches


@pytest.mark.parametrize(
    ("shares", "switches", "shifts"),
    [
        ([1.0, 1.0, 1.0], [1, 1, 1], (5, 30, 30)),
        ([-1.0, -0.5, 0.99], [1, 1, 1], (-5, -15, 29)),
        ([1.0, -1.0, 1.0], [0, 1, 0], (0, -30, 0)),
    ],
)
def test_hsv_against_plain_arithmetic(
    shares: list[float], switches: list[int], shifts: tuple[int, int, int]
) -> None:
    image = rng().integers(0, 256, (40, 50, 3), np.uint8)
    before = Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    after = HSV((5, 30, 30))(before, Fixed(shares, switches), [])  # type: ignore[arg-type]
    np.testing.assert_array_equal(after.image, reference_shift(image, shifts))
    np.testing.assert_array_equal(before.image, image)
    assert not np.array_equal(after.image, image)


def test_crop_looks_again_where_no_object_was_inside() -> None:
    rare = sample(64, 640, [(300, 10, 320, 30)])
    hits = sum(len(RandomCrop((64, 64))(rare, rng(seed), []).boxes) for seed in range(200))
    assert hits > 100  # 200 * (1 - (1 - 82 / 577) ** 10) = 157; without a second look 28
