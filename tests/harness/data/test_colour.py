"""Changes of colour, beside plain arithmetic and torchvision."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from harness.data.colour import Distortion, Shifts


def noise(height: int = 40, width: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def reference_shift(image: np.ndarray, shifts: tuple[int, int, int]) -> np.ndarray:
    """Shift in 16-bit integers, pixel by pixel."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + shifts[0]) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] + shifts[1], 0, 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + shifts[2], 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)


@pytest.mark.parametrize("shifts", [(5, 30, 30), (-5, -15, 29), (0, -30, 0), (0, 0, 0)])
def test_shifts_against_plain_arithmetic(shifts: tuple[int, int, int]) -> None:
    image = noise()
    expected = reference_shift(image, shifts)
    Shifts(*shifts).apply(image)
    np.testing.assert_array_equal(image, expected)


def test_shifts_change_the_part_that_they_are_given_alone() -> None:
    image = noise(64, 80)
    expected = image.copy()
    expected[:30, :40] = reference_shift(image[:30, :40], (3, 20, -10))
    Shifts(3, 20, -10).apply(image[:30, :40])
    np.testing.assert_array_equal(image, expected)


def test_shifts_are_drawn_evenly_and_half_of_them_not_at_all() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([Shifts.draw((5, 30, 30), rng) for _ in range(2000)])
    assert (np.abs(drawn).max(axis=0) == [4, 29, 29]).all()  # cut off towards 0
    np.testing.assert_allclose((drawn[:, 1:] == 0).mean(axis=0), 0.5 + 0.5 / 30, atol=0.04)
    assert abs(drawn[:, 1].mean()) < 1


PLAIN = Distortion(None, None, None, None, False, None)


@pytest.mark.parametrize(
    "distortion",
    [
        PLAIN,
        PLAIN._replace(brightness=0.9),
        PLAIN._replace(contrast=1.4),
        PLAIN._replace(saturation=0.6),
        PLAIN._replace(saturation=1.5),
        PLAIN._replace(hue=0.05),
        PLAIN._replace(hue=-0.05),
        PLAIN._replace(order=(1, 2, 0)),
        Distortion(1.1, 0.7, 1.3, 0.05, True, (2, 0, 1)),
        Distortion(0.9, 1.3, 0.7, -0.05, False, (0, 2, 1)),
    ],
)
def test_distortion_is_torchvisions_up_to_rounding(distortion: Distortion) -> None:
    image = cv2.GaussianBlur(noise(), (0, 0), 2)
    before = image.copy()
    order = None if distortion.order is None else torch.tensor(distortion.order)
    params = {
        "brightness_factor": distortion.brightness,
        "contrast_factor": distortion.contrast,
        "saturation_factor": distortion.saturation,
        "hue_factor": distortion.hue,
        "contrast_before": distortion.contrast_first,
        "channel_permutation": order,
    }
    rgb = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
    expected = v2.RandomPhotometricDistort().transform(rgb, params).numpy()
    made = distortion.apply(image)[..., ::-1].transpose(2, 0, 1)
    difference = np.abs(made.astype(int) - expected)
    assert difference.mean() < 2
    assert difference.max() <= 8
    np.testing.assert_array_equal(image, before)


def test_each_distortion_has_its_probability_and_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [Distortion.draw(0.3, rng) for _ in range(1000)]
    for name, low, high in (
        ("brightness", 0.875, 1.125),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -0.05, 0.05),
    ):
        values = [getattr(item, name) for item in drawn if getattr(item, name) is not None]
        assert 250 < len(values) < 350, name
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high
    assert 250 < sum(item.order is not None for item in drawn) < 350
    assert 430 < sum(item.contrast_first for item in drawn) < 570
