"""The borders of postprocessing: what is just enough, just too much, and what settings start as."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from detectors.interface import DenseOutputs, QueryOutputs
from detectors.postprocess import MOST_PAIRED, NMSConfig, StaticNMS, TopKConfig

SIZES = torch.tensor([[100, 200], [200, 100]])


def outputs(boxes: list[Any], logits: list[Any]) -> DenseOutputs:
    """Return predictions of one image, or of as many as `logits` has."""
    scores = torch.tensor(logits, dtype=torch.float32)
    scores = scores[None] if scores.dim() == 2 else scores
    corners = torch.tensor(boxes, dtype=torch.float32).expand(len(scores), -1, -1)
    points = corners.shape[1]
    return DenseOutputs(scores, corners, torch.zeros(points, 2), torch.ones(points))


def both(config: NMSConfig, predictions: DenseOutputs) -> list[list[tuple[Any, ...]]]:
    """Return (left, label) of what `NMS` finds in each image, which `StaticNMS` finds too."""
    sizes = SIZES[: len(predictions.logits)]
    waiting = config.build()(predictions, sizes)
    fixed = StaticNMS(config)(predictions, sizes)
    assert fixed.converged.all()
    for one, other in zip(waiting, fixed.unpad(), strict=True):
        for part, same in zip(one, other, strict=True):
            torch.testing.assert_close(part, same)
    return [
        list(zip(each.boxes[:, 0].tolist(), each.labels.tolist(), strict=True)) for each in waiting
    ]


ROW = [[20.0 * i, 0.0, 20.0 * i + 10, 50.0] for i in range(5)]


def test_settings_start_as_published() -> None:
    """RTMDet's of table 2, RT-DETR's of table 2."""
    assert asdict(NMSConfig()) == {
        "score_threshold": 0.001,
        "iou_threshold": 0.65,
        "max_candidates": 30000,
        "max_detections": 300,
        "class_agnostic": False,
    }
    assert asdict(TopKConfig()) == {"max_detections": 300, "score_threshold": 0.0}


@pytest.mark.parametrize(
    "extreme",
    [
        {"score_threshold": 0.0},
        {"score_threshold": 0.999},
        {"iou_threshold": 0.0},
        {"iou_threshold": 1.0},
        {"max_candidates": 1},
        {"max_detections": 1},
    ],
)
def test_extreme_settings_are_taken(extreme: dict[str, Any]) -> None:
    predictions = outputs(ROW, [[7.0], [8.0], [9.0], [8.5], [7.5]])
    (found,) = NMSConfig(**extreme).build()(predictions, SIZES[:1])
    assert len(found.scores) == (
        1 if 1 in extreme.values() and "iou_threshold" not in extreme else 5
    )
    assert found.boxes[0].tolist() == ROW[2]
    if "max_detections" in extreme or "score_threshold" in extreme:
        (best,) = TopKConfig(**extreme).build()(QueryOutputs(*predictions[:2]), SIZES[:1])
        assert best.boxes[0].tolist() == ROW[2]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (NMSConfig, {"score_threshold": -0.01}),
        (NMSConfig, {"score_threshold": 1.0}),
        (NMSConfig, {"iou_threshold": 1.01}),
        (NMSConfig, {"iou_threshold": -0.01}),
        (NMSConfig, {"max_candidates": 0}),
        (NMSConfig, {"max_detections": 0}),
        (TopKConfig, {"max_detections": 0}),
        (TopKConfig, {"score_threshold": -0.01}),
        (TopKConfig, {"score_threshold": 1.0}),
    ],
)
def test_settings_beyond_the_extremes_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        kind(**wrong)


def test_a_score_at_the_threshold_is_below_it() -> None:
    predictions = outputs(ROW, [[0.0], [0.01], [-0.01], [0.0], [1.0]])  # 0 is a score of a half
    config = NMSConfig(score_threshold=0.5, max_candidates=5)
    assert both(config, predictions) == [[(80, 0), (20, 0)]]
    assert config.build().candidates(predictions).tolist() == [2]
    queries = QueryOutputs(*predictions[:2])
    (best,) = TopKConfig(score_threshold=0.5).build()(queries, SIZES[:1])
    assert best.boxes.tolist() == [ROW[4], ROW[1]]


def test_candidates_of_every_image_are_counted() -> None:
    logits = [[[1.0, 1.0]] * 5, [[1.0, -1.0]] * 5, [[-1.0, -1.0]] * 5]
    predictions = outputs(ROW, logits)
    for most, expected in ((10, [10, 5, 0]), (9, [9, 5, 0]), (5, [5, 5, 0])):
        config = NMSConfig(score_threshold=0.5, max_candidates=most)
        assert config.build().candidates(predictions).tolist() == expected


def test_the_best_candidates_enter_and_the_best_survivors_stay() -> None:
    """The second box lies on the first; each limit acts on its own side of suppression."""
    boxes = [ROW[0], [0.0, 0.0, 10.0, 49.0], *ROW[1:4]]
    predictions = outputs(boxes, [[5.0], [4.0], [3.0], [2.0], [1.0]])
    for knobs, lefts in (
        ({"max_candidates": 5}, [0, 20, 40, 60]),
        ({"max_candidates": 4}, [0, 20, 40]),
        ({"max_candidates": 2}, [0]),
        ({"max_candidates": 5, "max_detections": 4}, [0, 20, 40, 60]),
        ({"max_candidates": 5, "max_detections": 3}, [0, 20, 40]),
        ({"max_candidates": 5, "max_detections": 2}, [0, 20]),
        ({"max_candidates": 5, "max_detections": 1}, [0]),
    ):
        assert both(NMSConfig(**knobs), predictions) == [[(left, 0) for left in lefts]]


def test_classes_suppress_each_other_only_where_that_is_wanted() -> None:
    predictions = outputs([ROW[0], ROW[0], ROW[1]], [[3.0, 2.0], [-1.0, 4.0], [1.0, -9.0]])
    knobs = {"score_threshold": 0.01, "max_candidates": 6}
    assert both(NMSConfig(**knobs), predictions) == [[(0, 1), (0, 0), (20, 0)]]
    assert both(NMSConfig(**knobs, class_agnostic=True), predictions) == [[(0, 1), (20, 0)]]


def test_boxes_end_at_their_own_image_and_vanish_outside() -> None:
    boxes = [
        [-9.0, -9.0, 300.0, 300.0],
        [100.0, 0.0, 150.0, 50.0],  # right of the second image, which it touches
        [0.0, 100.0, 50.0, 150.0],  # below the first
        [-5.0, 0.0, 0.0, 50.0],
        [0.0, -5.0, 50.0, 0.0],
        [30.0, 30.0, 30.0, 60.0],
        [30.0, 30.0, 60.0, 30.0],
        [60.0, 70.0, 30.0, 40.0],  # crossed on both axes
        [0.5, 90.0, 1.0, 90.5],
    ]
    predictions = outputs(boxes, [[[9.0 - i] for i in range(9)]] * 2)
    config = NMSConfig(max_candidates=9, score_threshold=0.0)
    waiting = config.build()(predictions, SIZES)
    fixed = StaticNMS(config)(predictions, SIZES).unpad()
    first = [[0.0, 0.0, 200.0, 100.0], boxes[1], boxes[8]]
    second = [[0.0, 0.0, 100.0, 200.0], boxes[2], boxes[8]]
    for found in (waiting, fixed):
        assert [each.boxes.tolist() for each in found] == [first, second]
        expected = torch.tensor([9.0, 8, 1]).sigmoid()
        torch.testing.assert_close(found[0].scores, expected)
        torch.testing.assert_close(found[1].scores, torch.tensor([9.0, 7, 1]).sigmoid())
    taken = TopKConfig().build()(QueryOutputs(*predictions[:2]), SIZES)
    assert [each.boxes[0].tolist() for each in taken] == [first[0], second[0]]
    assert [len(each.boxes) for each in taken] == [9, 9]
    assert taken[0].boxes[1:5].tolist() == [
        [100, 0, 150, 50],
        [0, 100, 50, 100],
        [0, 0, 0, 50],
        [0, 0, 50, 0],
    ]


def test_of_equal_scores_the_first_box_and_then_the_first_class_come_first() -> None:
    predictions = outputs(ROW, [[1.0, 1.0], [2.0, 1.0], [1.0, 2.0], [1.0, 1.0], [1.0, 2.0]])
    expected = [(20, 0), (40, 1), (80, 1), (0, 0), (0, 1), (20, 1), (40, 0), (60, 0)]
    found = both(NMSConfig(max_candidates=10), predictions)
    assert found == [[*expected, (60, 1), (80, 0)]]
    (waiting,) = NMSConfig(max_candidates=8).build()(predictions, SIZES[:1])
    assert waiting.boxes[:, 0].tolist() == [left for left, _ in expected]
    assert waiting.labels.tolist() == [label for _, label in expected]


def test_many_equal_scores_keep_the_order_of_the_outputs() -> None:
    """A sort that is not stable keeps the order of a few all the same."""
    boxes = [[0.5 * i, 0.0, 0.5 * i + 0.25, 50.0] for i in range(300)]
    predictions = outputs(boxes, [[1.0 + i % 2] for i in range(300)])
    expected = [(0.5 * i, 0) for i in [*range(1, 300, 2), *range(0, 300, 2)]]
    assert both(NMSConfig(max_candidates=300), predictions) == [expected]


def test_one_prediction_is_enough() -> None:
    predictions = outputs(ROW[1:2], [[[3.0]], [[-9.0]]])
    for paired in (None, 1):
        stage = StaticNMS(NMSConfig(max_candidates=1, score_threshold=0.5), paired=paired)
        found = stage(predictions, SIZES)
        assert found.counts.tolist() == [1, 0]
        assert found.converged.tolist() == [True, True]
        assert [len(each.scores) for each in found.unpad()] == [1, 0]


def test_no_prediction_gives_no_detection() -> None:
    empty = DenseOutputs(
        torch.zeros(2, 0, 3), torch.zeros(2, 0, 4), torch.zeros(0, 2), torch.ones(0)
    )
    assert [len(each.scores) for each in NMSConfig().build()(empty, SIZES)] == [0, 0]
    for stage in (StaticNMS(NMSConfig(max_candidates=5)), NMSConfig().build().without_waiting()):
        found = stage(empty, SIZES)
        assert found.counts.tolist() == [0, 0]
        assert found.converged.all()
    queries = QueryOutputs(*empty[:2])
    assert [len(each.scores) for each in TopKConfig().build()(queries, SIZES)] == [0, 0]


def test_as_many_pairs_are_compared_as_memory_allows() -> None:
    assert MOST_PAIRED == 4096  # a matrix of 64 MiB in single precision
    assert StaticNMS(NMSConfig(max_candidates=4096)).paired == 4096
    with pytest.raises(ValueError, match="4097"):
        StaticNMS(NMSConfig(max_candidates=4097))
    with pytest.raises(ValueError, match="4097"):
        StaticNMS(NMSConfig(), paired=4097)
    for most, paired in ((30000, 4096), (4097, 4096), (4095, 4095), (1, 1)):
        stage = NMSConfig(max_candidates=most).build().without_waiting()
        assert stage.paired == paired


def complete(most: int, paired: int | None) -> list[bool]:
    """Say where all is compared, of images with 2, 3 and 4 candidates and one at the threshold."""
    logits = [[[1.0]] * count + [[0.0]] + [[-1.0]] * (4 - count) for count in (2, 3, 4)]
    config = NMSConfig(score_threshold=0.5, max_candidates=most)
    sizes = torch.tensor([[100, 200]] * 3)
    found: list[bool] = StaticNMS(config, paired=paired)(
        outputs(ROW, logits), sizes
    ).converged.tolist()
    return found


def test_it_is_told_where_not_all_candidates_were_compared() -> None:
    assert complete(30, paired=3) == [True, True, False]
    assert complete(30, paired=2) == [True, False, False]
    assert complete(30, paired=4) == [True, True, True]
    # Beyond `max_candidates` nothing would have entered suppression anyway.
    assert complete(3, paired=3) == [True, True, True]
    assert complete(3, paired=None) == [True, True, True]
    assert complete(4, paired=3) == [True, True, False]


def test_too_few_steps_are_told_though_all_was_compared() -> None:
    heap = [[float(i), 0.0, i + 8.0, 8.0] for i in range(6)]  # each overlaps the next by 7 / 9
    predictions = outputs(heap, [[5.0 - i] for i in range(6)])
    for steps, settled in ((5, True), (4, False), (0, False)):
        found = StaticNMS(NMSConfig(max_candidates=6), steps=steps)(predictions, SIZES[:1])
        assert found.converged.tolist() == [settled]


@pytest.mark.parametrize("most", [1, 3, 5, 6])
def test_what_is_beyond_the_last_detection_is_zero(most: int) -> None:
    predictions = outputs(ROW, [[[5.0], [-9.0], [4.0], [-9.0], [3.0]], [[-9.0]] * 4 + [[1.0]]])
    config = NMSConfig(score_threshold=0.5, max_candidates=5, max_detections=most)
    found = StaticNMS(config)(predictions, SIZES)
    room = min(most, 5)
    assert found.boxes.shape == (2, room, 4)
    assert found.scores.shape == found.labels.shape == (2, room)
    assert found.counts.tolist() == [min(most, 3), 1]
    beyond = torch.arange(room) >= found.counts[:, None]
    parts: tuple[Tensor, ...] = (found.boxes, found.scores, found.labels)
    assert not any(part[beyond].any() for part in parts)
    assert found.boxes[0, :3, 0].tolist() == [0, 40, 80][:most]


def test_selection_takes_no_more_than_it_may() -> None:
    queries = QueryOutputs(torch.tensor([[[0.0, 3.0], [2.0, 1.0]]]), torch.tensor([ROW[:2]]))
    for most, expected in ((1, [1]), (3, [1, 0, 1]), (4, [1, 0, 1, 0]), (5, [1, 0, 1, 0])):
        (found,) = TopKConfig(max_detections=most).build()(queries, SIZES[:1])
        assert found.labels.tolist() == expected
        assert found.boxes[:, 0].tolist() == [0, 20, 20, 0][:most]
