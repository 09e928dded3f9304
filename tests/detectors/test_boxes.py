"""Arithmetic on boxes against values worked out by hand."""

import math

import pytest
import torch

from detectors.boxes import (
    area,
    boxes_to_shares,
    distances_to_boxes,
    giou,
    grid_points,
    inverse_sigmoid,
    iou,
    pairwise_iou,
    shares_to_boxes,
)

SQUARE = [0.0, 0.0, 10.0, 10.0]


def test_grid_points_are_top_left_corners_fine_to_coarse() -> None:
    points, strides = grid_points([(2, 3), (1, 2)], (8, 16), torch.device("cpu"))
    assert points.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]
    assert strides.tolist() == [8, 8, 8, 8, 8, 8, 16, 16]


def test_distances_to_boxes_keeps_negative_distances() -> None:
    points = torch.tensor([[10.0, 20.0], [5.0, 5.0]])
    distances = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 2.0, -3.0]]])
    assert distances_to_boxes(points, distances).tolist() == [[[9, 18, 13, 24], [6, 5, 7, 2]]]


def test_shares_of_the_input() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.1, 0.5]])
    boxes = torch.tensor([[90.0, 0.0, 110.0, 50.0]])
    torch.testing.assert_close(shares_to_boxes(shares, (100, 200)), boxes)
    torch.testing.assert_close(boxes_to_shares(boxes, (100, 200)), shares)


def test_inverse_sigmoid_is_finite_at_both_ends() -> None:
    limit = math.log(1e5)
    values = inverse_sigmoid(torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0]))
    assert values.tolist() == pytest.approx([-limit, -limit, -math.log(3), limit, limit])


def test_area() -> None:
    assert area(torch.tensor([[2.0, 3.0, 5.0, 10.0]])).tolist() == [21]


@pytest.mark.parametrize(
    ("other", "overlap", "generalised"),
    [
        (SQUARE, 1.0, 1.0),
        ([5.0, 0.0, 15.0, 10.0], 50 / 150, 50 / 150),
        ([5.0, 5.0, 15.0, 15.0], 25 / 175, 25 / 175 - 50 / 225),
        ([20.0, 0.0, 30.0, 10.0], 0.0, -100 / 300),
        ([2.0, 2.0, 4.0, 4.0], 4 / 100, 4 / 100),
    ],
)
def test_overlaps(other: list[float], overlap: float, generalised: float) -> None:
    boxes, others = torch.tensor([SQUARE]), torch.tensor([other])
    assert pairwise_iou(boxes, others).item() == pytest.approx(overlap)
    assert iou(boxes, others).item() == pytest.approx(overlap)
    assert giou(boxes, others).item() == pytest.approx(generalised)


def test_pairwise_iou_broadcasts_over_a_batch() -> None:
    boxes, others = torch.rand(2, 5, 4), torch.rand(2, 3, 4)
    boxes[..., 2:] += boxes[..., :2]
    others[..., 2:] += others[..., :2]
    whole = pairwise_iou(boxes, others)
    assert whole.shape == (2, 5, 3)
    torch.testing.assert_close(whole[1, 4:, 2:], pairwise_iou(boxes[1, 4:], others[1, 2:]))


def test_boxes_without_area_do_not_divide_by_zero() -> None:
    point = torch.zeros(1, 4)
    assert pairwise_iou(point, point).item() == 0
    assert giou(point, point).isfinite().all()
