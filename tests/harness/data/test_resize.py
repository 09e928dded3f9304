"""Letterbox, stretch and shortest edge: boxes follow the pixels, there and back."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detectors.interface import InputConfig
from harness.data import normalize, to_original
from harness.data.resize import canvas, fitted, place, resize, span, stacked

SIDES = st.integers(8, 3000)
SIZES = st.tuples(SIDES, SIDES)
INPUTS = st.builds(
    InputConfig,
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda s: (32 * s[0], 32 * s[1])),
    resize=st.sampled_from(["letterbox", "stretch"]),
)


@pytest.mark.parametrize(
    ("original", "size", "expected"),
    [
        ((480, 640), (640, 640), (480, 640)),
        ((427, 640), (320, 320), (214, 320)),  # 213.5 rounds half up
        ((640, 427), (320, 640), (320, 214)),
        ((100, 50), (640, 640), (640, 320)),  # small images grow
        ((3, 3000), (320, 320), (1, 320)),
    ],
)
def test_letterbox_sizes(
    original: tuple[int, int], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitted(original, InputConfig(size=size)) == expected


def test_stretch_fills_the_input() -> None:
    assert fitted((480, 600), InputConfig(size=(320, 416), resize="stretch")) == (320, 416)


@given(original=SIZES, input=INPUTS)
def test_the_image_fits_and_touches_one_side(original: tuple[int, int], input: InputConfig) -> None:
    height, width = fitted(original, input)
    assert 1 <= height <= input.size[0]
    assert 1 <= width <= input.size[1]
    assert height == input.size[0] or width == input.size[1]


@given(original=SIZES, input=INPUTS, corners=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back(
    original: tuple[int, int], input: InputConfig, corners: list[float]
) -> None:
    height, width = original
    boxes = np.float32([corners]) * np.float32([width, height, width, height])
    size = fitted(original, input)
    back = to_original(to_original(torch.from_numpy(boxes), original, size), size, original)
    np.testing.assert_allclose(back.numpy(), boxes, rtol=1e-5, atol=1e-3)


def test_to_original_takes_rows_of_a_batch() -> None:
    boxes = torch.tensor([[0.0, 0.0, 320.0, 240.0]])
    sizes, originals = torch.tensor([[240, 320]]), torch.tensor([[480, 1280]])
    assert to_original(boxes, sizes[0], originals[0]).tolist() == [[0, 0, 1280, 480]]
    assert to_original(boxes[:0], sizes[0], originals[0]).shape == (0, 4)


def painted_box(image: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero((image[..., 0] > 127).any(axis=1))
    columns = np.flatnonzero((image[..., 0] > 127).any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@pytest.mark.parametrize("mode", ["letterbox", "stretch", "shortest_edge"])
@pytest.mark.parametrize("original", [(97, 211), (480, 640), (700, 300)])
def test_boxes_follow_painted_corners(mode: str, original: tuple[int, int]) -> None:
    input = InputConfig(size=(320, 416), resize=mode)  # type: ignore[arg-type]
    height, width = original
    for box in ([0, 0, 40, 30], [width - 50, height - 45, width, height], [60, 20, 90, 80]):
        x1, y1, x2, y2 = box
        image = np.zeros((height, width, 3), np.uint8)
        image[y1:y2, x1:x2] = 255
        size = fitted(original, input)
        placed = place(resize(image, size), input).numpy().transpose(1, 2, 0).copy()
        placed[size[0] :], placed[:, size[1] :] = 0, 0
        moved = to_original(torch.tensor([box]).float(), original, size)[0].numpy()
        assert np.abs(painted_box(placed) - moved).max() <= 1


def test_place_pads_right_and_bottom_and_orders_channels() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[...] = (10, 20, 30)  # blue, green, red
    rgb = place(image, InputConfig(size=(4, 4), channels="rgb", pad_value=7))
    bgr = place(image, InputConfig(size=(4, 4), channels="bgr", pad_value=7))
    assert rgb[:, 0, 0].tolist() == [30, 20, 10]
    assert bgr[:, 0, 0].tolist() == [10, 20, 30]
    assert (rgb[:, 2:] == 7).all()
    assert (rgb[:, :, 3:] == 7).all()
    assert torch.equal(rgb[:, :2, :3], bgr.flip(0)[:, :2, :3])


def test_normalize() -> None:
    images = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    result = normalize(images, InputConfig(mean=(10.0, 10.0, 20.0), std=(1.0, 2.0, 4.0)))
    assert result.dtype == torch.float32
    assert result.flatten().tolist() == [0, 5, 2.5]
    assert images.flatten().tolist() == [10, 20, 30]


SHORTEST: Any = InputConfig(size=(800, 1333), resize="shortest_edge")
NOISE = np.random.default_rng(0).integers(0, 256, (97, 131, 3), np.uint8)


@pytest.mark.parametrize(
    ("original", "image", "tensor"),
    [
        ((480, 640), (800, 1066), (800, 1088)),
        ((640, 480), (1066, 800), (1088, 800)),
        ((300, 1000), (399, 1333), (416, 1344)),  # the longest side decides: 300 * 1.333 = 399.9
        ((1600, 1600), (800, 800), (800, 800)),
    ],
)
def test_the_shortest_edge_decides_until_the_longest_is_too_long(
    original: tuple[int, int], image: tuple[int, int], tensor: tuple[int, int]
) -> None:
    assert fitted(original, SHORTEST) == image
    assert canvas([image], SHORTEST) == tensor
    corner = torch.tensor([[0.0, 0.0, original[1] / 2, original[0] / 2]])
    there = to_original(corner, original, image)
    assert there.tolist() == [[0, 0, image[1] / 2, image[0] / 2]]
    assert torch.allclose(to_original(there, image, original), corner)


@pytest.mark.parametrize("original", [(480, 640), (427, 640), (333, 500), (1200, 640), (97, 1311)])
def test_sizes_of_the_shortest_edge_are_torchvisions(original: tuple[int, int]) -> None:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform  # takes a second

    theirs = GeneralizedRCNNTransform(800, 1333, [0, 0, 0], [1, 1, 1]).eval()
    images, _ = theirs([torch.zeros(3, *original)])
    image = fitted(original, SHORTEST)
    assert [image] == images.image_sizes
    assert canvas([image], SHORTEST) == tuple(images.tensors.shape[2:])


def test_a_batch_of_shortest_edges_is_as_large_as_its_largest_and_padded_with_the_mean() -> None:
    input = InputConfig(
        size=(8, 16), resize="shortest_edge", pad_to=4, pad_value="mean", mean=(10.4, 20.6, 30.0)
    )
    tall, wide = np.zeros((12, 8, 3), np.uint8), np.zeros((8, 15, 3), np.uint8)
    assert canvas([(12, 8), (8, 15)], input) == (12, 16)
    batch = stacked([place(image, input)[None] for image in (tall, wide)], input)
    assert batch.shape == (2, 3, 12, 16)
    assert not batch[0, :, :, :8].any()
    assert batch[0, :, 0, 8].tolist() == batch[1, :, 11, 15].tolist() == [10, 21, 30]
    assert torch.equal(batch[1], place(wide, input, (12, 16)))
    assert span([(24, 16), (8, 15)], input) == {"smallest": (12, 8), "largest": (8, 16)}
    assert span([(24, 16)], InputConfig()) == {}


def test_a_size_that_no_shortest_edge_has_is_refused() -> None:
    with pytest.raises(ValueError, match="put the smaller one first"):
        InputConfig(size=(1333, 800), resize="shortest_edge")
    with pytest.raises(ValueError, match="pad_to is 0"):
        InputConfig(pad_to=0)
    with pytest.raises(ValueError, match="pad_to 20 is no multiple of 32"):
        InputConfig(resize="shortest_edge", pad_to=20).check_size(32)
    SHORTEST.check_size(32)
    assert SHORTEST.largest == (800, 1344)


@pytest.mark.parametrize("size", [(40, 50), (200, 300), (97, 60), (31, 131)])
def test_bilinear_with_antialias_is_pillows(size: tuple[int, int]) -> None:
    image_module = pytest.importorskip("PIL.Image")
    theirs = image_module.fromarray(NOISE).resize(size[::-1], image_module.Resampling.BILINEAR)
    ours = resize(NOISE, size, "bilinear_antialias")
    assert ours.dtype == np.uint8
    assert ours.shape == (*size, 3)
    assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 1
    if size[0] < 97:  # where it becomes smaller, no other way is like it
        for other in ("linear", "area", "cubic"):
            assert np.abs(resize(NOISE, size, other).astype(int) - ours).max() > 10  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["linear", "area", "cubic"])
def test_other_interpolations_are_opencvs(name: Any) -> None:
    flag = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}[name]
    expected = cv2.resize(NOISE, (50, 40), interpolation=flag)
    np.testing.assert_array_equal(resize(NOISE, (40, 50), name), expected)
    assert name != "linear" or np.array_equal(resize(NOISE, (40, 50)), expected)
