"""Suppression, step by step, and the selection of the best without it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from detectors.boxes import shares_to_boxes
from detectors.interface import DenseOutputs, Detections, QueryOutputs
from detectors.postprocess import NMSConfig, TopKConfig, _nms_apart, _nms_by_group, group_nms
from tests.detectors import golden
from tests.detectors.rtdetr_cases import count_waits
from tests.golden.golden_inputs import align_detections

SIZE = torch.tensor([[100, 200]])
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # ids that COCO gives to no class
COCO_IDS = np.array([number for number in range(1, 91) if number not in UNUSED])


def detect(boxes: list[list[float]], scores: list[list[float]], **knobs: Any) -> Detections:
    """Postprocess one image of 100 x 200 pixels."""
    found = NMSConfig(**knobs).build()(outputs(boxes, scores), SIZE)
    assert len(found) == 1
    return found[0]


def outputs(boxes: list[list[float]], scores: list[list[float]]) -> DenseOutputs:
    return DenseOutputs(
        torch.tensor(scores).logit()[None],
        torch.tensor(boxes)[None],
        torch.zeros(len(boxes), 2),
        torch.ones(len(boxes)),
    )


APART = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [40.0, 0.0, 50.0, 10.0]]
TOGETHER = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 5.0]]


def test_detections_come_best_first() -> None:
    found = detect(APART, [[0.2, 0.01], [0.9, 0.01], [0.01, 0.5]], score_threshold=0.05)
    assert found.boxes.tolist() == [APART[1], APART[2], APART[0]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert found.labels.tolist() == [0, 1, 0]


def test_one_box_may_be_found_as_several_classes() -> None:
    found = detect(APART[:1], [[0.6, 0.7]])
    assert found.labels.tolist() == [1, 0]
    assert found.boxes.tolist() == [APART[0], APART[0]]


def test_threshold_is_strict() -> None:
    config = NMSConfig(score_threshold=0.5)
    exactly_half = DenseOutputs(
        torch.tensor([[[0.0], [1e-6]]]), torch.tensor([APART[:2]]), torch.zeros(2, 2), torch.ones(2)
    )
    assert config.build()(exactly_half, SIZE)[0].boxes.tolist() == [APART[1]]
    assert config.build().candidates(exactly_half).tolist() == [1]


def test_suppression_is_strict_and_by_class() -> None:
    # overlaps with the first: 0.9 and 0.5
    assert len(detect(TOGETHER, [[0.9], [0.8], [0.7]], iou_threshold=0.65).scores) == 2
    assert len(detect(TOGETHER, [[0.9], [0.8], [0.7]], iou_threshold=0.5).scores) == 2
    assert len(detect(TOGETHER, [[0.9], [0.8], [0.7]], iou_threshold=0.49).scores) == 1
    scores = [[0.9, 0.0001], [0.0001, 0.8], [0.0001, 0.0001]]
    assert detect(TOGETHER, scores).labels.tolist() == [0, 1]
    assert detect(TOGETHER, scores, class_agnostic=True).labels.tolist() == [0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    chain = [[0.0, 0.0, 10.0, 10.0], [0.0, 3.0, 10.0, 13.0], [0.0, 6.0, 10.0, 16.0]]
    found = detect(chain, [[0.9], [0.8], [0.7]], iou_threshold=0.5)
    assert found.boxes.tolist() == [chain[0], chain[2]]


def test_boxes_are_clipped_to_the_real_image() -> None:
    found = detect([[-5.0, -6.0, 500.0, 90.0], [150.0, 50.0, 250.0, 500.0]], [[0.9], [0.8]])
    assert found.boxes.tolist() == [[0, 0, 200, 90], [150, 50, 200, 100]]


def test_boxes_without_area_are_dropped() -> None:
    outside, crossed, line = [210.0, 0.0, 250.0, 50.0], [30.0, 5.0, 20.0, 9.0], [5.0, 5.0, 5.0, 9.0]
    found = detect([outside, crossed, line, APART[0]], [[0.9], [0.9], [0.9], [0.5]])
    assert found.boxes.tolist() == [APART[0]]


def test_limits_keep_the_best() -> None:
    scores = [[0.3], [0.9], [0.6]]
    assert detect(APART, scores, max_detections=2).boxes.tolist() == [APART[1], APART[2]]
    assert detect(APART, scores, max_candidates=2).boxes.tolist() == [APART[1], APART[2]]
    # the best two candidates suppress each other, and the third never entered
    assert len(detect(TOGETHER, [[0.3], [0.9], [0.6]], max_candidates=2).scores) == 2
    pair = [TOGETHER[0], TOGETHER[1], APART[2]]
    assert detect(pair, [[0.9], [0.8], [0.7]], max_candidates=2).boxes.tolist() == [pair[0]]


def test_candidates_count_what_enters_suppression() -> None:
    some = outputs(APART, [[0.3, 0.2], [0.9, 0.001], [0.6, 0.0005]])
    assert NMSConfig(score_threshold=0.1).build().candidates(some).tolist() == [4]
    limited = NMSConfig(score_threshold=0.1, max_candidates=3).build()
    assert limited.candidates(some).tolist() == [3]


def test_nothing_above_the_threshold() -> None:
    found = detect(APART, [[0.1], [0.1], [0.1]], score_threshold=0.5)
    assert (found.boxes.shape, found.scores.shape) == ((0, 4), (0,))
    assert found.labels.dtype == torch.int64
    empty = torch.zeros(0, dtype=torch.int64)
    assert len(_nms_apart(found.boxes, found.scores, empty, 0.5)) == 0


def crowd(count: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random boxes of many sizes, best first."""
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator) * 150
    sides = 2 ** (torch.rand(count, 2, generator=generator) * 7)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.cat((corners, corners + sides), dim=1), scores, labels


@pytest.mark.parametrize("classes", [1, 7, 80])
def test_both_ways_equal_a_plain_loop_over_classes(classes: int) -> None:
    boxes, scores, labels = crowd(3000, classes)
    expected = torch.cat(
        [
            members[nms(boxes[members], scores[members], 0.5)]
            for members in ((labels == label).nonzero().flatten() for label in range(classes))
        ]
    )
    expected = expected.sort().values
    assert len(expected) < len(boxes)
    assert torch.equal(_nms_by_group(boxes, scores, labels, 0.5), expected)
    assert torch.equal(_nms_apart(boxes, scores, labels, 0.5), expected)


def test_moving_classes_apart_costs_no_precision() -> None:
    """Shifted in single precision by 79 x 701 pixels, these boxes' overlap would cross 0.6."""
    boxes = torch.tensor([[600.0, 0, 600.001, 1], [600.0, 0, 600.001, 0.61], [0, 0, 700, 700]])
    assert 0.6 < box_iou(boxes[:1], boxes[1:2]).item() < 0.62
    labels = torch.tensor([79, 79, 0])
    scores = torch.tensor([0.9, 0.8, 0.7])
    for threshold, kept in ((0.6, [0, 2]), (0.62, [0, 1, 2])):
        assert _nms_apart(boxes, scores, labels, threshold).tolist() == kept
        assert group_nms(boxes, scores, labels, threshold).tolist() == kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"score_threshold": 1.0},
        {"iou_threshold": -0.1},
        {"max_candidates": 0},
        {"max_detections": 0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        NMSConfig(**wrong)


def select(boxes: list[list[float]], scores: list[list[float]], **knobs: Any) -> Detections:
    """Take the best of one image of 100 x 200 pixels."""
    predictions = QueryOutputs(torch.tensor(scores).logit()[None], torch.tensor(boxes)[None])
    found = TopKConfig(**knobs).build()(predictions, SIZE)
    assert len(found) == 1
    return found[0]


def test_the_best_pairs_of_box_and_class_are_taken() -> None:
    scores = [[0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]
    found = select(APART, scores, max_detections=4)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.3])
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert found.boxes.tolist() == [APART[1], APART[0], APART[2], APART[2]]
    assert found.labels.dtype == torch.int64


def test_taking_more_than_there_are_takes_all() -> None:
    assert len(select(APART, [[0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]).scores) == 6


def test_taken_boxes_are_clipped_to_each_real_image() -> None:
    boxes = torch.tensor([[[-5.0, -6.0, 500.0, 90.0]], [[150.0, 50.0, 250.0, 500.0]]])
    predictions = QueryOutputs(torch.zeros(2, 1, 1), boxes)
    found = TopKConfig().build()(predictions, torch.tensor([[100, 200], [40, 170]]))
    assert [each.boxes.tolist() for each in found] == [[[0, 0, 200, 90]], [[150, 40, 170, 40]]]


def test_a_threshold_is_strict_and_by_image() -> None:
    scores = torch.tensor([[[0.0], [1e-6], [1.0]], [[-1.0], [-2.0], [-3.0]]])
    predictions = QueryOutputs(scores, torch.tensor([APART, APART]))
    sizes = SIZE.repeat(2, 1)
    found = TopKConfig(score_threshold=0.5).build()(predictions, sizes)
    assert [each.boxes.tolist() for each in found] == [[APART[2], APART[1]], []]
    assert [len(each.labels) for each in found] == [2, 0]
    assert [len(each.scores) for each in TopKConfig().build()(predictions, sizes)] == [3, 3]


def test_selection_waits_for_the_device_only_for_a_threshold() -> None:
    predictions = QueryOutputs(torch.zeros(2, 3, 4), torch.tensor([APART, APART]))
    for threshold, expected in ((0.0, {}), (0.1, {"tolist": 1})):
        with count_waits() as reads:
            TopKConfig(score_threshold=threshold).build()(predictions, SIZE.repeat(2, 1))
        assert reads == expected


def test_low_precision_scores_are_widened_first() -> None:
    predictions = QueryOutputs(torch.zeros(1, 3, 4).bfloat16(), torch.tensor([APART]))
    assert TopKConfig().build()(predictions, SIZE)[0].scores.dtype == torch.float32


@pytest.mark.parametrize("name", ["r18vd", "r50vd"])
def test_selection_equals_the_references(name: str) -> None:
    stored = golden.arrays(f"rtdetr_{name}.npz")
    width, height = stored["post_size_wh"].tolist()
    boxes = shares_to_boxes(torch.from_numpy(stored["boxes"][:1]), (height, width))
    predictions = QueryOutputs(torch.from_numpy(stored["logits"])[None], boxes)
    found = TopKConfig().build()(predictions, torch.tensor([[height, width]]))[0]
    clipped = stored["post_boxes"].clip(0, [width, height, width, height])
    theirs = (clipped, stored["post_scores"], stored["post_labels"])
    ours = (found.boxes.numpy(), found.scores.numpy(), COCO_IDS[found.labels.numpy()])
    order = align_detections(theirs, ours)
    for value, expected, tolerance in zip(ours, theirs, (1e-3, 1e-6, 0), strict=True):
        np.testing.assert_allclose(value[order], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "wrong", [{"max_detections": 0}, {"score_threshold": 1.0}, {"score_threshold": -0.1}]
)
def test_impossible_selections_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        TopKConfig(**wrong)
