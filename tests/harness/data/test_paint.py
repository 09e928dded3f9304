"""Pixels of a picture by planes, beside plain numpy."""

import numpy as np
import pytest

from detectors.interface import InputConfig
from harness.data.augment import Picture
from harness.data.layout import cropped, snapped, whole
from harness.data.paint import blend, mirror, paint, to_planes

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 20, 3), np.uint8)


@pytest.mark.parametrize(("channels", "order"), [("bgr", [0, 1, 2]), ("rgb", [2, 1, 0])])
def test_planes_are_written_where_they_shall_be(channels: str, order: list[int]) -> None:
    batch = np.zeros((2, 3, 12, 20), np.uint8)
    to_planes(IMAGE, batch[1], channels)
    np.testing.assert_array_equal(batch[1], IMAGE.transpose(2, 0, 1)[order])
    assert not batch[0].any()


def test_mirror_and_blend_are_written_where_they_shall_be() -> None:
    first, second = RNG.integers(0, 256, (2, 3, 12, 20), np.uint8)
    batch = np.zeros((2, 3, 12, 20), np.uint8)
    mirror(first, batch[0])
    blend(first, second, batch[1])
    np.testing.assert_array_equal(batch[0], first[..., ::-1])
    np.testing.assert_array_equal(batch[1], (first.astype(int) + second) // 2)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mirrored_picture_is_the_picture_mirrored(mirrored: bool) -> None:
    """A photograph that leaves a part of the picture free, in a larger input."""
    photograph = whole(0, (12, 20), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    layout, pastes = snapped(cropped(photograph, (-3, -2), (15, 25)))
    picture = Picture(
        layout.size, pastes, layout.boxes, layout.labels, 7, None, None, mirrored
    )  # fmt: skip
    canvas = np.zeros((18, 30, 3), np.uint8)
    paint(picture, lambda _: IMAGE, canvas, InputConfig(pad_value=114))
    part = np.full((15, 25, 3), 7, np.uint8)
    part[2:14, 3:23] = IMAGE
    expected = np.full((18, 30, 3), 114, np.uint8)
    expected[:15, :25] = part[:, ::-1] if mirrored else part
    np.testing.assert_array_equal(canvas, expected)
