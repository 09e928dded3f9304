"""Suppression, step by step, and the selection of the best without it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torchvision.ops import box_iou, nms

from detectors.boxes import shares_to_boxes
from detectors.interface import DenseOutputs, Detections, QueryOutputs
from detectors.postprocess import NMSConfig, StaticNMS, TopKConfig
from detectors.suppression import _nms_by_group, _nms_in_blocks, group_nms, static_nms
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


def test_of_equal_scores_the_first_enter() -> None:
    scores = [[0.5]] * 3 + [[0.75]]
    found = detect([*APART, [60.0, 0.0, 70.0, 10.0]], scores, max_candidates=3)
    assert found.boxes[:, 0].tolist() == [60, 0, 20]


def test_nothing_above_the_threshold() -> None:
    found = detect(APART, [[0.1], [0.1], [0.1]], score_threshold=0.5)
    assert (found.boxes.shape, found.scores.shape) == ((0, 4), (0,))
    assert found.labels.dtype == torch.int64
    for suppress in WAYS[:1] + WAYS[2:]:
        assert len(suppress(found.boxes, found.scores, found.labels, 0.5)) == 0


def crowd(count: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random boxes of many sizes, best first."""
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator) * 40
    sides = 2 ** (torch.rand(count, 2, generator=generator) * 5 + 2)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.cat((corners, corners + sides), dim=1), scores, labels


def in_blocks(boxes: Tensor, scores: Tensor, groups: Tensor, limit: float, block: int) -> Tensor:
    return _nms_in_blocks(boxes.float(), groups, limit, block)


def in_fixed_size(boxes: Tensor, scores: Tensor, groups: Tensor, limit: float) -> Tensor:
    alive = torch.ones_like(groups, dtype=torch.bool)
    keep, converged = static_nms(boxes, groups, alive, limit)
    assert converged
    return keep.nonzero().squeeze(1)


def group_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, limit: float) -> Tensor:
    counts = [count for count in groups.bincount().tolist() if count]
    return _nms_by_group(boxes.float(), scores.float(), groups, counts, limit)


WAYS = (
    group_nms,
    group_by_group,
    partial(in_blocks, block=1024),
    partial(in_blocks, block=5),
    in_fixed_size,
)


def by_torchvision(boxes: Tensor, scores: Tensor, groups: Tensor, limit: float) -> Tensor:
    """Run torchvision's NMS on one group after the other, in single precision."""
    kept = [
        members[nms(boxes[members].float(), scores[members].float(), limit)]
        for members in ((groups == group).nonzero().flatten() for group in groups.unique())
    ]
    return torch.cat([*kept, groups[:0]]).sort().values


@pytest.mark.parametrize("suppress", WAYS)
@pytest.mark.parametrize("classes", [1, 7, 80])
def test_all_ways_equal_a_plain_loop_over_classes(
    classes: int, suppress: Callable[..., Tensor]
) -> None:
    boxes, scores, labels = crowd(400, classes)
    expected = by_torchvision(boxes, scores, labels, 0.5)
    assert len(expected) < len(boxes)
    assert torch.equal(suppress(boxes, scores, labels, 0.5), expected)


IN_EIGHTHS = st.integers(0, 60).map(lambda number: number / 8)  # many equal, many ties in overlap
ANYWHERE = st.floats(-1e4, 1e4, width=32)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw boxes, scores and groups, best first; some boxes without area, some crossed."""
    number = draw(st.sampled_from([IN_EIGHTHS, ANYWHERE]))
    rows = draw(st.lists(st.tuples(number, number, number, number), max_size=24))
    count = len(rows)
    scores = draw(st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=count, max_size=count))
    groups = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    boxes = torch.tensor(rows).reshape(-1, 4)
    if draw(st.booleans()):
        boxes = torch.cat(
            [boxes[:, :2].minimum(boxes[:, 2:]), boxes[:, :2].maximum(boxes[:, 2:])], 1
        )
    dtype = draw(st.sampled_from([torch.float16, torch.float32]))
    ordered = torch.tensor(scores).sort(descending=True).values
    return boxes.to(dtype), ordered.to(dtype), torch.tensor(groups, dtype=torch.int64)


@settings(deadline=None, max_examples=150)
@given(candidates(), st.sampled_from([0.0, 0.2, 0.25, 1 / 3, 0.5, 0.6, 0.65, 0.7, 0.8, 1.0]))
def test_all_ways_equal_torchvision_on_every_case(
    drawn: tuple[Tensor, Tensor, Tensor], limit: float
) -> None:
    expected = by_torchvision(*drawn, limit).tolist()
    for suppress in WAYS:
        assert suppress(*drawn, limit).tolist() == expected


@pytest.mark.parametrize("suppress", WAYS)
def test_an_overlap_at_the_threshold_falls_as_in_torchvision(
    suppress: Callable[..., Tensor],
) -> None:
    """In single precision 0.6 is above 0.6, and 0.7 below 0.7."""
    scores, labels = torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
    for side, limit in ((6.0, 0.6), (7.0, 0.7)):
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, side]])
        expected = nms(boxes, scores, limit).tolist()
        assert (len(expected) == 1) == (limit == 0.6)
        assert suppress(boxes, scores, labels, limit).tolist() == expected


@pytest.mark.parametrize("suppress", WAYS)
def test_no_class_costs_another_precision(suppress: Callable[..., Tensor]) -> None:
    """Moved apart by 79 x 701 pixels, as torchvision does it, these boxes would all be one line."""
    boxes = torch.tensor([[600.0, 0, 600.001, 1], [600.0, 0, 600.001, 0.61], [0, 0, 700, 700]])
    assert 0.6 < box_iou(boxes[:1], boxes[1:2]).item() < 0.62
    labels = torch.tensor([79, 79, 0])
    scores = torch.tensor([0.9, 0.8, 0.7])
    for limit, kept in ((0.6, [0, 2]), (0.62, [0, 1, 2])):
        assert suppress(boxes, scores, labels, limit).tolist() == kept


def test_half_precision_is_widened_before_anything_is_computed() -> None:
    boxes, scores, labels = crowd(600, 20)
    half = boxes.half()
    expected = by_torchvision(half, scores, labels, 0.5)
    for suppress in WAYS:
        assert torch.equal(suppress(half, scores.half(), labels, 0.5), expected)
    moved_apart = half + labels[:, None] * (half.max() + 1)
    assert not torch.equal(nms(moved_apart.float(), scores, 0.5), expected)


def chain(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes each of which overlaps the next by a half: every other one survives."""
    left = torch.arange(length) * 3.0
    boxes = torch.stack([left, left * 0, left + 9, left * 0 + 9], dim=1)
    return boxes, torch.linspace(1, 0.5, length), torch.zeros(length, dtype=torch.int64)


@pytest.mark.parametrize("length", [1, 2, 63, 300])
def test_long_chains_of_suppression_are_settled(length: int) -> None:
    inputs = chain(length)
    expected = by_torchvision(*inputs, 0.4)
    assert expected.tolist() == list(range(0, length, 2))
    for suppress in WAYS:
        assert torch.equal(suppress(*inputs, 0.4), expected)


def test_too_few_steps_are_told() -> None:
    boxes, _, groups = chain(100)
    alive = torch.ones(100, dtype=torch.bool)
    early = static_nms(boxes, groups, alive, 0.4, steps=10)
    assert not early.converged
    assert early.keep[:10].tolist() == [True, False] * 5
    assert static_nms(boxes, groups, alive, 0.4, steps=100).converged
    assert static_nms(boxes[:0], groups[:0], alive[:0], 0.4).converged


def test_padding_neither_survives_nor_suppresses() -> None:
    boxes = torch.tensor(TOGETHER)
    alive = torch.tensor([False, True, True])
    keep = static_nms(boxes, torch.zeros(3, dtype=torch.int64), alive, 0.4).keep
    assert keep.tolist() == [False, True, False]


def busy_outputs(images: int = 2, points: int = 80, classes: int = 5) -> DenseOutputs:
    """Return predictions that overlap a lot, some equal, some outside."""
    boxes = torch.stack([crowd(points + image, classes)[0][:points] for image in range(images)])
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(images, points, classes, generator=draw).mul(8).round() / 4 - 2
    return DenseOutputs(logits, boxes - 20, torch.zeros(points, 2), torch.ones(points))


SIZES = torch.tensor([[100, 200], [120, 90]])


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"score_threshold": 0.3, "iou_threshold": 0.5},
        {"iou_threshold": 0.3, "class_agnostic": True, "max_detections": 7},
        {"score_threshold": 0.99},
    ],
)
def test_fixed_size_finds_what_nms_finds(knobs: dict[str, Any]) -> None:
    config = NMSConfig(max_candidates=400, **knobs)
    predictions = busy_outputs()
    found = StaticNMS(config)(predictions, SIZES)
    assert found.converged.all()
    expected = config.build()(predictions, SIZES)
    assert len(expected[0].scores) > 0 or knobs == {"score_threshold": 0.99}
    for ours, theirs in zip(found.unpad(), expected, strict=True):
        assert all(map(torch.equal, ours, theirs))
    beyond = torch.arange(found.scores.shape[1]) >= found.counts[:, None]
    assert not any(part[beyond].any() for part in found[:3])


def test_fixed_size_respects_the_limit_of_candidates() -> None:
    config = NMSConfig(max_candidates=40)
    predictions = busy_outputs()
    spread = torch.arange(predictions.logits.numel()).reshape(predictions.logits.shape)
    predictions = predictions._replace(logits=predictions.logits + spread / 1e6)  # no ties
    found, expected = StaticNMS(config)(predictions, SIZES), config.build()(predictions, SIZES)
    assert found.boxes.shape == (2, 40, 4)
    for ours, theirs in zip(found.unpad(), expected, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_too_many_candidates_for_all_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="set max_candidates to 4096 or fewer"):
        StaticNMS(NMSConfig())


def test_fixed_size_tells_where_it_compared_too_few() -> None:
    few = StaticNMS(NMSConfig(), steps=6, paired=2)(busy_outputs(), SIZES)
    assert not few.converged.any()
    every = NMSConfig().build().without_waiting()(busy_outputs(), SIZES)
    assert every.converged.all()
    for ours, theirs in zip(every.unpad(), NMSConfig().build()(busy_outputs(), SIZES), strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_fixed_size_needs_no_value_on_the_host() -> None:
    """Fake tensors have shapes and no values: whatever asks for one raises."""
    config = NMSConfig(max_candidates=50)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        predictions = DenseOutputs(*map(mode.from_tensor, busy_outputs()))
        sizes = mode.from_tensor(SIZES)
        found = StaticNMS(config)(predictions, sizes)
        with pytest.raises((DynamicOutputShapeException, DataDependentOutputException)):
            config.build()(predictions, sizes)
    assert found.boxes.shape == (2, 50, 4)


@pytest.mark.gpu
def test_fixed_size_runs_in_a_cuda_graph_without_waiting() -> None:
    config = NMSConfig(max_candidates=512)
    stage = StaticNMS(config, steps=64)
    held = DenseOutputs(*(part.cuda() for part in busy_outputs()))
    sizes = SIZES.cuda()
    stage(held, sizes)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        stage(held, sizes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = stage(held, sizes)
    held.logits.copy_(held.logits.flip(0))
    held.boxes.copy_(held.boxes.flip(0))
    graph.replay()
    expected = config.build()(DenseOutputs(*(part.cpu() for part in held)), SIZES)
    assert captured.converged.all()
    for ours, theirs in zip(captured.unpad(), expected, strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.gpu
def test_survivors_are_the_same_on_a_gpu() -> None:
    inputs = crowd(20000, 80)
    found = group_nms(*(part.cuda() for part in inputs), 0.65)
    assert torch.equal(found.cpu(), by_torchvision(*inputs, 0.65))


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
def test_selection_equals_golden_detections(name: str) -> None:
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
