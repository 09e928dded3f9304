"""Every assigner's promises, and scenes worked out by hand where there is no reference."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import detectors
from detectors.assigners import (
    ATSS,
    OTA,
    AnyAssigner,
    DynamicSoftLabel,
    FCOSCenter,
    Hungarian,
    MaxIoU,
    SimOTA,
    TaskAligned,
)
from detectors.assigners.ota import sinkhorn
from detectors.assigners.scene import settle
from detectors.boxes import giou, grid_points, pairwise_iou
from detectors.config import KnobError, override
from detectors.interface import BACKGROUND, IGNORED, Assignment, DenseOutputs, Target
from detectors.rtmdet.criterion import RTMDetCriterionConfig

CPU = torch.device("cpu")
POINTS, STRIDES = grid_points([(12, 12), (6, 6), (3, 3)], (8, 16, 32), CPU)  # 96 x 96 pixels
NONE = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
ALL = [kind() for kind in get_args(AnyAssigner)]
NAMES = [type(each).__name__ for each in ALL]
every_assigner = pytest.mark.parametrize("assigner", ALL, ids=NAMES)


def target(*boxes: list[float], labels: list[int] | None = None) -> Target:
    return Target(torch.tensor(boxes), torch.tensor(labels or [0] * len(boxes)))


def predictions(images: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw logits of 3 classes and boxes around the points."""
    draw = torch.Generator().manual_seed(seed)
    reach = (0.5 + 2 * torch.rand(images, len(POINTS), 2, generator=draw)) * STRIDES[:, None]
    logits = torch.randn(images, len(POINTS), 3, generator=draw)
    return logits, torch.cat((POINTS - reach, POINTS + reach), dim=-1)


def crowd(objects: int, seed: int) -> Target:
    draw = torch.Generator().manual_seed(seed)
    corners = torch.rand(objects, 2, generator=draw) * 60
    sizes = 8 + torch.rand(objects, 2, generator=draw) * 40
    labels = torch.randint(3, (objects,), generator=draw)
    return Target(torch.cat((corners, corners + sizes), dim=1), labels)


def assign(assigner: Any, *targets: Target, seed: int = 0) -> list[Assignment]:
    logits, boxes = predictions(len(targets), seed)
    found: list[Assignment] = assigner(logits, boxes, POINTS, STRIDES, list(targets))
    return found


@every_assigner
def test_an_image_is_assigned_as_if_it_were_alone(assigner: Any) -> None:
    logits, boxes = predictions(4)
    targets = [crowd(7, 1), NONE, crowd(1, 2), crowd(12, 3)]
    together = assigner(logits, boxes, POINTS, STRIDES, targets)
    for i, found in enumerate(together):
        one = slice(i, i + 1)
        (alone,) = assigner(logits[one], boxes[one], POINTS, STRIDES, targets[one])
        assert torch.equal(found.gt_index, alone.gt_index)
        assert torch.equal(found.quality, alone.quality)
    assert (together[0].gt_index >= 0).any()


@every_assigner
def test_quality_is_the_overlap_of_the_prediction(assigner: Any) -> None:
    _, boxes = predictions(1)
    objects = crowd(7, 1)
    (found,) = assign(assigner, objects)
    taken = found.gt_index >= 0
    ious = pairwise_iou(boxes[0], objects.boxes)
    expected = ious.gather(1, found.gt_index.clamp(min=0)[:, None])[:, 0] * taken
    assert torch.equal(found.quality, expected)
    assert found.quality.dtype == torch.float32
    assert found.gt_index.dtype == torch.int64


@every_assigner
def test_nothing_is_assigned_where_nothing_is(assigner: Any) -> None:
    for found in assign(assigner, NONE, NONE):
        assert (found.gt_index == BACKGROUND).all()
        assert (found.quality == 0).all()
    logits, boxes = predictions(0)
    assert assigner(logits, boxes, POINTS, STRIDES, []) == []


@every_assigner
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(assigner: Any, kind: torch.dtype) -> None:
    logits, boxes = predictions(1)
    logits, boxes = logits.to(kind), boxes.to(kind)
    objects = [crowd(7, 1)]
    (half,) = assigner(logits, boxes, POINTS, STRIDES, objects)
    (single,) = assigner(logits.float(), boxes.float(), POINTS, STRIDES, objects)
    assert torch.equal(half.gt_index, single.gt_index)
    assert torch.equal(half.quality, single.quality)


@every_assigner
def test_an_object_far_outside_harms_nobody(assigner: Any) -> None:
    here = [20.0, 20.0, 60.0, 60.0]
    (found,) = assign(assigner, target(here, [400.0, 400.0, 420.0, 420.0]))
    assert (found.gt_index == 0).any()
    assert found.quality.isfinite().all()
    assert (found.gt_index == 1).sum() <= 1


@every_assigner
def test_any_dense_detector_takes_it(assigner: Any) -> None:
    name = type(assigner).__name__
    changes = {
        "assigner": {"type": name},
        "backbone.width_mult": 0.125,
        "input.size": (64, 64),
        "num_classes": 3,
    }
    torch.manual_seed(0)
    model = detectors.create("rtmdet_tiny", changes)
    assert model.config.assigner == assigner
    losses = model.losses(torch.randn(2, 3, 64, 64), [target([8.0, 8.0, 40.0, 56.0]), NONE])
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    assert model.backbone is not None
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_knobs_are_those_of_the_chosen_assigner() -> None:
    config = detectors.CONFIGS["rtmdet_s"]
    sim = override(config, {"assigner": {"type": "SimOTA", "topk": 7}})
    assert sim.assigner == SimOTA(topk=7)
    assert override(sim, {"assigner.topk": 5}).assigner == SimOTA(topk=5)
    assert override(config, {"assigner.topk": 10}).assigner == DynamicSoftLabel(topk=10)
    with pytest.raises(KnobError, match="ATSS has no knob 'beta'"):
        override(config, {"assigner.type": "ATSS", "assigner.beta": 2.0})


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (SimOTA, {"topk": 0}),
        (SimOTA, {"center_radius": -1.0}),
        (TaskAligned, {"topk": 0}),
        (TaskAligned, {"beta": -1.0}),
        (ATSS, {"anchor_scale": 0.0}),
        (MaxIoU, {"negative_overlap": 0.6}),
        (MaxIoU, {"min_overlap": -0.1}),
        (FCOSCenter, {"limit": 0.0}),
        (OTA, {"iterations": 0}),
        (OTA, {"epsilon": 0.0}),
        (OTA, {"alpha": 2.0}),
        (Hungarian, {"giou_cost": -1.0}),
    ],
)
def test_impossible_settings_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        kind(**wrong)


def test_a_prediction_goes_to_the_highest_merit_and_the_first_of_equals() -> None:
    index = torch.tensor([[[0, 2], [2, 0], [2, 3]]])  # what three objects want
    merits = torch.tensor([[[0.5, 0.1], [0.4, 0.5], [0.3, -torch.inf]]])
    assert settle(index, merits, 5).tolist() == [[0, -1, 1, -1, -1]]


# FCOS: one object of 32 x 32 pixels around (40, 40); farthest sides are 16 to 32 pixels away.


def fcos(*boxes: list[float], **knobs: float) -> list[set[tuple[int, int, int]]]:
    """Return the points of each object as (x, y, stride)."""
    (found,) = assign(FCOSCenter(**knobs), target(*boxes))
    places = torch.cat((POINTS, STRIDES[:, None]), dim=1).int().tolist()
    return [
        {tuple(places[i]) for i in (found.gt_index == gt).nonzero().flatten().tolist()}
        for gt in range(len(boxes))
    ]


def test_fcos_takes_the_middle_of_the_level_that_fits() -> None:
    box = [24.0, 24.0, 56.0, 56.0]
    # within 12 pixels of (40, 40), at stride 8
    middle = {(x, y, 8) for x in (32, 40, 48) for y in (32, 40, 48)}
    assert fcos(box) == [middle]
    assert fcos(box, center_radius=1.0) == [{(40, 40, 8)}]  # 8 pixels away is not inside


def test_fcos_gives_each_level_its_sizes() -> None:
    box = [24.0, 24.0, 56.0, 56.0]
    # With a limit of 2 strides: 16 pixels at stride 8, 32 at stride 16, no limit at 32.
    # At stride 8 only the centre is as near as 16 pixels to all sides. At 16 the points within 24
    # pixels are at 32 and 48 (16 and 64 are outside), farthest side 24. At 32 it is (32, 32), 24
    # pixels away from its farthest side, less than the lower limit of 32.
    assert fcos(box, limit=2.0) == [
        {(40, 40, 8)} | {(x, y, 16) for x in (32, 48) for y in (32, 48)},
    ]
    # 8 and 16 pixels: the coarsest level takes what is farther than 16.
    assert fcos(box, limit=1.0) == [{(32, 32, 32)}]


def test_fcos_prefers_the_smaller_of_two_objects() -> None:
    large, small = fcos([16.0, 16.0, 64.0, 64.0], [32.0, 32.0, 47.0, 47.0])
    assert small == {(40, 40, 8)}
    assert (40, 40, 8) not in large
    assert (32, 40, 8) in large


# Max-IoU: anchors of 64 pixels at stride 8.


def test_maxiou_ignores_what_lies_between_the_bars() -> None:
    points, strides = (
        torch.tensor([[32.0, 32.0], [52.0, 32.0], [64.0, 32.0]]),
        torch.full((3,), 8.0),
    )
    anchor = [0.0, 0.0, 64.0, 64.0]  # of the first; the others overlap it by 44 / 84 and 32 / 96
    boxes, logits = torch.zeros(1, 3, 4), torch.zeros(1, 3, 1)

    def found(**knobs: Any) -> list[int]:
        assigner = MaxIoU(**knobs)
        return assigner(logits, boxes, points, strides, [target(anchor)])[0].gt_index.tolist()

    assert found() == [0, 0, BACKGROUND]
    assert found(positive_overlap=0.6) == [0, IGNORED, BACKGROUND]
    assert found(positive_overlap=0.6, negative_overlap=0.2) == [0, IGNORED, IGNORED]
    far = [[40.0, 0.0, 140.0, 64.0]]  # overlaps of 24/140, 44/120 and 56/108: all below 0.6
    assigner = MaxIoU(positive_overlap=0.6, negative_overlap=0.6)
    arguments = (logits, boxes, points, strides, [target(*far)])
    assert assigner(*arguments)[0].gt_index.tolist() == [-1, -1, 0]
    assigner = MaxIoU(positive_overlap=0.6, negative_overlap=0.6, match_low_quality=False)
    assert assigner(*arguments)[0].gt_index.tolist() == [-1, -1, -1]


def test_an_ignored_prediction_has_no_loss() -> None:
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    boxes = torch.zeros(1, 2, 4, requires_grad=True)

    def ignore_first(*_: Any) -> list[Assignment]:
        return [Assignment(torch.tensor([IGNORED, BACKGROUND]), torch.zeros(2))]

    criterion = RTMDetCriterionConfig().build(ignore_first)
    outputs = DenseOutputs(logits, boxes, torch.zeros(2, 2), torch.ones(2))
    sum(criterion(outputs, [target([0.0, 0.0, 1.0, 1.0])]).values()).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0] == 0).all()
    assert (logits.grad[0, 1] > 0).all()


def test_a_hard_label_wants_a_score_of_one() -> None:
    """A prediction with half the object's area: its loss is lowest at a score of a half, or one."""
    boxes, points = torch.tensor([[[0.0, 0.0, 4.0, 2.0]]]), torch.zeros(1, 2)

    def loss(labels: Any, score: float) -> float:
        assigned = [Assignment(torch.tensor([0]), torch.tensor([0.5]))]
        criterion = RTMDetCriterionConfig(labels=labels).build(lambda *_: assigned)
        logits = torch.tensor([[[score]]]).logit()
        outputs = DenseOutputs(logits, boxes, points, torch.ones(1))
        losses = criterion(outputs, [target([0.0, 0.0, 4.0, 4.0])])
        assert losses["loss_giou"].item() == pytest.approx(
            2 * 0.5 * (1 if labels == "one" else 0.5)
        )
        return float(losses["loss_cls"])

    assert loss("overlap", 0.5) == 0
    assert loss("overlap", 0.9) > 0
    assert loss("one", 0.9) < loss("one", 0.5)


# OTA


def test_sinkhorn_keeps_supplies_and_demands() -> None:
    torch.manual_seed(0)
    costs, supply = torch.rand(2, 3, 6) * 5, torch.tensor([[2.0, 1.0, 3.0], [1.0, 1.0, 4.0]])
    demands = torch.ones(2, 6, dtype=torch.bool)
    plan = sinkhorn(costs, supply, demands, 500).softmax(dim=1)
    torch.testing.assert_close(plan.sum(dim=2), supply, rtol=1e-3, atol=1e-3)


def test_sinkhorn_finds_the_cheapest_plan() -> None:
    torch.manual_seed(0)
    costs, supply = torch.rand(1, 4, 9), [2, 3, 1, 3]
    plan = sinkhorn(
        costs / 0.005, torch.tensor([supply]).float(), torch.ones(1, 9, dtype=torch.bool), 500
    )
    labels = np.arange(4).repeat(supply)  # each label a row of its own
    rows, columns = linear_sum_assignment(costs[0].numpy()[labels])
    assert plan.argmax(dim=1)[0, columns].tolist() == labels[rows].tolist()


def test_sinkhorn_sends_nothing_where_nothing_is_demanded() -> None:
    costs = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
    short = sinkhorn(costs[..., :2], torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool), 50)
    padded = sinkhorn(costs, torch.ones(1, 2), torch.tensor([[True, True, False]]), 50)
    torch.testing.assert_close(padded[..., :2], short)


def test_ota_gives_an_object_its_best_predictions() -> None:
    box = [28.0, 28.0, 60.0, 60.0]
    logits = torch.full((1, len(POINTS), 3), -4.0)
    boxes = torch.zeros(1, len(POINTS), 4)
    inside = ((POINTS > 28) & (POINTS < 60)).all(dim=1) & (STRIDES == 8)
    good = inside.nonzero().flatten()[[3, 5, 6]]
    boxes[0, good] = torch.tensor(box)  # three overlaps of 1: three labels
    (found,) = OTA()(logits, boxes, POINTS, STRIDES, [target(box)])
    assert (found.gt_index >= 0).nonzero().flatten().tolist() == good.tolist()
    boxes[0, good[0]] = torch.tensor([28.0, 28.0, 60.0, 44.0])  # overlaps of 1, 1, 1/2: two labels
    (found,) = OTA()(logits, boxes, POINTS, STRIDES, [target(box)])
    assert (found.gt_index >= 0).nonzero().flatten().tolist() == good[1:].tolist()


def test_ota_gives_a_tiny_object_its_nearest_point() -> None:
    (found,) = assign(OTA(), target([41.0, 41.0, 43.0, 43.0]))
    (place,) = (found.gt_index == 0).nonzero().flatten().tolist()
    assert POINTS[place].tolist() == [40.0, 40.0]


def test_ota_shares_points_between_objects() -> None:
    # Both want the only two points; the better one for each goes to it, though both like the first.
    points, strides = torch.tensor([[16.0, 16.0], [24.0, 16.0]]), torch.full((2,), 8.0)
    objects = target([8.0, 8.0, 32.0, 24.0], [10.0, 8.0, 32.0, 24.0], labels=[0, 1])
    boxes = torch.tensor([[[8.0, 8.0, 32.0, 24.0], [12.0, 8.0, 32.0, 24.0]]])
    logits = torch.tensor([[[1.0, 0.5], [0.0, 0.2]]])
    (found,) = OTA(topk=1)(logits, boxes, points, strides, [objects])
    assert found.gt_index.tolist() == [0, 1]


# Hungarian


def test_hungarian_finds_the_cheapest_pairing() -> None:
    objects = crowd(9, 4)
    logits, boxes = predictions(1)
    (found,) = Hungarian()(logits, boxes, POINTS, STRIDES, [objects])
    score = logits[0].sigmoid()[:, objects.labels]
    cost = 2 * 0.25 * (1 - score) ** 2 * -(score + 1e-8).log()
    cost -= 2 * 0.75 * score**2 * -(1 - score + 1e-8).log()
    ours, theirs = (
        torch.cat(((each[:, :2] + each[:, 2:]) / 2, each[:, 2:] - each[:, :2]), dim=1) / 96
        for each in (boxes[0], objects.boxes)
    )
    cost += 5 * torch.cdist(ours, theirs, p=1)
    cost -= 2 * giou(boxes[0][:, None], objects.boxes)
    rows, columns = linear_sum_assignment(cost.numpy())
    expected = torch.full((len(POINTS),), BACKGROUND)
    expected[torch.from_numpy(rows)] = torch.from_numpy(columns)
    assert torch.equal(found.gt_index, expected)


def test_hungarian_compares_boxes_as_shares_of_the_input() -> None:
    """Twice as large a scene with twice as large boxes is the same scene."""
    logits, boxes = predictions(1)
    objects = crowd(9, 4)
    (small,) = Hungarian()(logits, boxes, POINTS, STRIDES, [objects])
    large = Target(objects.boxes * 2, objects.labels)
    (found,) = Hungarian()(logits, boxes * 2, POINTS * 2, STRIDES * 2, [large])
    assert torch.equal(found.gt_index, small.gt_index)


# ATSS


def test_atss_takes_the_best_of_the_nearest_anchors() -> None:
    # Anchors of 16 pixels around four points in a row; the nearest three are candidates.
    points, strides = torch.tensor([[8.0, 8], [16, 8], [24, 8], [80, 8]]), torch.full((4,), 2.0)
    box = [8.0, 0.0, 24.0, 16.0]  # overlaps 1/3, 1 and 1/3: mean 5/9, deviation 0.385
    boxes, logits = torch.zeros(1, 4, 4), torch.zeros(1, 4, 1)
    (found,) = ATSS(topk=3)(logits, boxes, points, strides, [target(box)])
    assert found.gt_index.tolist() == [-1, 0, -1, -1]


def test_taskaligned_weighs_score_and_overlap() -> None:
    box = [4.0, 4.0, 20.0, 20.0]
    logits = torch.full((1, len(POINTS), 3), -9.0)
    boxes = torch.zeros(1, len(POINTS), 4)
    first, second = ((POINTS == 8).all(1) | (POINTS == 16).all(1)).nonzero().flatten()[:2]
    logits[0, first, 0], logits[0, second, 0] = 0.0, 2.0  # scores 0.5 and 0.88
    boxes[0, first], boxes[0, second] = torch.tensor(box), torch.tensor([4.0, 4.0, 20.0, 18.0])
    # 0.5 against 0.88 x 0.875^6 = 0.395; without an exponent the score decides
    for beta, best in ((6.0, first), (1.0, second)):
        assigner = TaskAligned(topk=1, beta=beta)
        (found,) = assigner(logits, boxes, POINTS, STRIDES, [target(box)])
        assert (found.gt_index == 0).nonzero().flatten().tolist() == [best.item()]
