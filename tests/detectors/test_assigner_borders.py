"""Where assigners draw their lines, by hand: what all look at, and those that see predictions."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from detectors.assigners import (
    ATSS,
    OTA,
    DynamicSoftLabel,
    FCOSCenter,
    Hungarian,
    MaxIoU,
    SimOTA,
    TaskAligned,
)
from detectors.assigners.candidates import compact, widen
from detectors.assigners.dynamic import dynamic_counts, match
from detectors.assigners.scene import (
    anchors,
    at,
    inside,
    levels,
    near_center,
    of_objects,
    pad,
    settle,
    squared_distance,
)
from detectors.interface import BACKGROUND, Target

DEFAULTS: dict[Any, dict[str, Any]] = {
    DynamicSoftLabel: {
        "topk": 13,
        "cls_weight": 1.0,
        "iou_weight": 3.0,
        "center_weight": 1.0,
        "class_cost": "soft",
        "iou_cost": "log",
        "center_prior": "soft",
        "center_radius": 3.0,
        "center_base": 10.0,
    },
    SimOTA: {"topk": 10, "cls_weight": 1.0, "iou_weight": 3.0, "center_radius": 2.5},
    TaskAligned: {"topk": 13, "alpha": 1.0, "beta": 6.0},
    ATSS: {"topk": 9, "anchor_scale": 8.0},
    MaxIoU: {
        "positive_overlap": 0.5,
        "negative_overlap": 0.4,
        "min_overlap": 0.0,
        "match_low_quality": True,
        "anchor_scale": 8.0,
    },
    FCOSCenter: {"center_radius": 1.5, "limit": 8.0},
    OTA: {
        "topk": 20,
        "iou_weight": 1.5,
        "center_radius": 2.5,
        "epsilon": 0.1,
        "iterations": 50,
        "alpha": 0.25,
        "gamma": 2.0,
    },
    Hungarian: {
        "cls_cost": 2.0,
        "bbox_cost": 5.0,
        "giou_cost": 2.0,
        "alpha": 0.25,
        "gamma": 2.0,
    },
}


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_settings_start_as_in_the_papers_and_their_code(kind: Any) -> None:
    assert asdict(kind()) == DEFAULTS[kind]


POINTS = torch.tensor([[x, y] for y in (8.0, 16.0, 24.0) for x in (8.0, 16.0, 24.0)])
STRIDES = torch.full((9,), 8.0)


def assign(
    assigner: Any,
    *boxes: list[float],
    points: Tensor = POINTS,
    strides: Tensor = STRIDES,
    predicted: Any = None,
    logits: Any = None,
) -> list[int]:
    """Assign in one image; object i is of class i, unless there are fewer classes."""
    scores = torch.zeros(len(points), 1) if logits is None else torch.as_tensor(logits)
    found = torch.zeros(len(points), 4) if predicted is None else torch.as_tensor(predicted)
    labels = torch.arange(len(boxes)) % scores.shape[1]
    target = Target(torch.tensor(boxes), labels)
    (image,) = assigner(scores[None], found[None], points, strides, [target])
    index: list[int] = image.gt_index.tolist()
    return index


@pytest.mark.parametrize(
    ("kind", "extreme"),
    [
        (DynamicSoftLabel, {"topk": 1}),
        (DynamicSoftLabel, {"iou_weight": 0.0}),
        (DynamicSoftLabel, {"cls_weight": 0.0, "center_weight": 0.0}),
        (DynamicSoftLabel, {"center_radius": 0.0}),
        (DynamicSoftLabel, {"center_base": 0.01}),
        (SimOTA, {"topk": 1, "center_radius": 0.0}),
        (TaskAligned, {"topk": 1}),
        (TaskAligned, {"alpha": 0.0}),
        (TaskAligned, {"beta": 0.0}),
        (ATSS, {"topk": 2, "anchor_scale": 0.5}),
        (MaxIoU, {"positive_overlap": 0.0, "negative_overlap": 0.0}),
        (MaxIoU, {"positive_overlap": 1.0, "negative_overlap": 1.0}),
        (MaxIoU, {"min_overlap": 0.0, "anchor_scale": 0.5}),
        (FCOSCenter, {"center_radius": 0.5}),
        (FCOSCenter, {"limit": 0.5}),
        (OTA, {"iterations": 1}),
        (OTA, {"epsilon": 0.5}),
        (OTA, {"center_radius": 0.5}),
        (OTA, {"iou_weight": 0.0}),
        (OTA, {"gamma": 0.0, "alpha": 0.0}),
        (OTA, {"alpha": 1.0}),
        (Hungarian, {"cls_cost": 0.0, "giou_cost": 0.0}),
    ],
)
def test_extreme_settings_are_taken(kind: Any, extreme: dict[str, Any]) -> None:
    perfect = torch.tensor([1.0, 1, 31, 31]).expand(9, 4)
    found = assign(kind(**extreme), [1.0, 1.0, 31.0, 31.0], predicted=perfect)
    assert 0 in found or kind is MaxIoU  # whose anchors overlap too little


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (DynamicSoftLabel, {"iou_weight": -0.1}),
        (DynamicSoftLabel, {"center_weight": -0.1}),
        (DynamicSoftLabel, {"center_radius": -0.1}),
        (DynamicSoftLabel, {"center_base": -0.1}),
        (SimOTA, {"topk": 0}),
        (SimOTA, {"cls_weight": -0.1}),
        (SimOTA, {"iou_weight": -0.1}),
        (TaskAligned, {"alpha": -0.1}),
        (TaskAligned, {"beta": -0.1}),
        (ATSS, {"topk": 0}),
        (ATSS, {"anchor_scale": -0.1}),
        (MaxIoU, {"negative_overlap": -0.1}),
        (MaxIoU, {"positive_overlap": 1.1}),
        (MaxIoU, {"min_overlap": -0.1}),
        (MaxIoU, {"anchor_scale": 0.0}),
        (FCOSCenter, {"center_radius": 0.0}),
        (FCOSCenter, {"limit": -0.1}),
        (OTA, {"topk": 0}),
        (OTA, {"center_radius": 0.0}),
        (OTA, {"epsilon": -0.1}),
        (OTA, {"iou_weight": -0.1}),
        (OTA, {"gamma": -0.1}),
        (OTA, {"alpha": -0.1}),
        (OTA, {"alpha": 1.1}),
        (Hungarian, {"cls_cost": -0.1}),
    ],
)
def test_settings_beyond_the_extremes_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        kind(**wrong)


# What all of them look at.


@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_a_point_on_a_side_or_within_the_margin_is_not_inside(margin: float) -> None:
    box = torch.tensor([10.0, 20.0, 30.0, 50.0])
    near, far = margin, margin + 0.125
    points = {
        (10 + near, 30.0): False, (10 + far, 30.0): True,
        (30 - near, 30.0): False, (30 - far, 30.0): True,
        (20.0, 20 + near): False, (20.0, 20 + far): True,
        (20.0, 50 - near): False, (20.0, 50 - far): True,
    }  # fmt: skip
    found = inside(torch.tensor(list(points)), box, margin)
    assert found.tolist() == list(points.values())


def test_the_region_around_a_centre_ends_before_its_sides() -> None:
    box = torch.tensor([10.0, 20.0, 30.0, 50.0])  # centre (20, 35)
    points = torch.tensor(
        [[20.0, 35], [24, 35], [23.9, 35], [16, 35], [16.1, 35], [20, 39], [20, 31.1], [23.9, 38.9]]
    )
    found = near_center(points, torch.tensor(4.0), box)
    assert found.tolist() == [True, False, True, False, True, False, True, True]
    distances = squared_distance(points[[0, 1, 3, 7]], box)
    assert distances.tolist() == pytest.approx([0, 16, 16, 3.9**2 * 2], rel=1e-4)


def test_anchors_are_squares_of_so_many_strides() -> None:
    found = anchors(torch.tensor([[10.0, 20.0], [0.0, 4.0]]), torch.tensor([8.0, 16.0]), 3.0)
    assert found.tolist() == [[-2, 8, 22, 32], [-24, -20, 24, 28]]
    strides, counts = levels(torch.tensor([8.0, 8, 8, 16, 32, 32]))
    assert (strides.tolist(), counts) == ([8, 16, 32], [3, 1, 2])


def test_images_are_filled_up_to_the_fullest() -> None:
    boxes = torch.arange(12.0).reshape(3, 4)
    labels = torch.tensor([3, 4, 5])
    empty = Target(boxes[:0], labels[:0])
    found = pad([Target(boxes[:1], labels[:1]), empty, Target(boxes[1:], labels[1:])])
    assert found.counts == (1, 0, 2)
    assert found.labels.tolist() == [[3, 0], [0, 0], [4, 5]]
    assert found.real.tolist() == [[True, False], [False, False], [True, True]]
    assert found.boxes[2].tolist() == boxes[1:].tolist()
    assert found.boxes[0].tolist() == [boxes[0].tolist(), [0.0] * 4]
    taken = of_objects(found.boxes, torch.tensor([[0, -1], [-1, -2], [1, 0]]))
    assert taken[2].tolist() == [boxes[2].tolist(), boxes[1].tolist()]
    assert taken[0, 0].tolist() == boxes[0].tolist()


def test_values_of_one_image_serve_all_and_those_of_several_each_its_own() -> None:
    index = torch.tensor([[2, 0], [1, 1]])
    shared, own = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7], [8, 9, 10]])
    assert at(shared, index).tolist() == [[7, 5], [6, 6]]
    assert at(own, index).tolist() == [[7, 5], [9, 9]]
    assert at(own, index[:, :, None]).tolist() == [[[7], [5]], [[9], [9]]]


def test_candidates_are_pushed_together_and_put_back() -> None:
    index, exists = compact(torch.tensor([[True, False, True], [False, False, True]]))
    assert (index * exists).tolist() == [[0, 2], [2, 0]]
    assert exists.tolist() == [[True, True], [True, False]]
    found = widen(torch.tensor([[1, BACKGROUND], [0, BACKGROUND]]), index, 3)
    assert found.tolist() == [[1, -1, -1], [-1, -1, 0]]
    index, exists = compact(torch.zeros(2, 3, dtype=torch.bool))
    assert index.shape == exists.shape == (2, 0)
    assert widen(index, index, 3).tolist() == [[-1] * 3] * 2


def test_merits_below_zero_are_merits_too() -> None:
    index = torch.tensor([[[0, 1], [1, 2]]])
    merits = torch.tensor([[[-0.5, -0.25], [-0.125, -torch.inf]]])
    assert settle(index, merits, 3).tolist() == [[0, 1, -1]]


# DynamicSoftLabel and SimOTA.


def test_overlaps_are_rounded_down_to_a_number_of_predictions_and_one_is_the_least() -> None:
    ious = torch.tensor([[[0.5, 0.5, 0.875, 0.0], [0.25, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]])
    for topk, expected in ((4, [1, 1, 4]), (2, [1, 1, 2]), (1, [1, 1, 1]), (9, [1, 1, 4])):
        assert dynamic_counts(ious, topk).tolist() == [expected]
    assert dynamic_counts(ious[..., :0], 3).tolist() == [[1, 1, 1]]
    assert dynamic_counts(torch.full((1, 1, 8), 0.25), 8).tolist() == [[2]]


def test_a_prediction_wanted_twice_goes_to_the_object_that_it_costs_least() -> None:
    # All want prediction 0 alone; an object that may not take a prediction goes without.
    cost = torch.tensor([[[1.0, 4, 5], [0.5, 3, 6], [2, torch.inf, torch.inf]]])
    ious = torch.zeros(1, 3, 3)
    assert match(cost, ious, 2).tolist() == [[1, -1, -1]]
    ious[0, 0, :2] = 1.0  # two predictions for the first object
    assert match(cost, ious, 2).tolist() == [[1, 0, -1]]
    ious[0, 2] = 1.0  # three for the last, of which two cannot be
    assert match(cost, ious, 3).tolist() == [[1, 0, -1]]
    assert match(cost, ious, 9).tolist() == [[1, 0, -1]]
    assert match(torch.full_like(cost, torch.inf), ious, 3).tolist() == [[-1, -1, -1]]


TWO = {"points": torch.tensor([[8.0, 8.0], [16.0, 8.0]]), "strides": torch.full((2,), 8.0)}
AROUND_BOTH = [0.0, 0.0, 24.0, 16.0]  # centre (12, 8), as far from one as from the other


@pytest.mark.parametrize(("logit", "best"), [(-48.0, 1), (-48.7, 0)])
def test_no_overlap_costs_as_much_as_one_of_a_ten_millionth(logit: float, best: int) -> None:
    """Minus 3 ln 1e-7 is 48.35; a perfect box whose class costs as much is as good."""
    predicted = [[0.0] * 4, AROUND_BOTH]
    for assigner in (
        SimOTA(),
        DynamicSoftLabel(class_cost="plain"),
        DynamicSoftLabel(class_cost="plain", center_weight=0.0),
    ):
        logits = [[60.0], [logit]]  # cross entropies against one: 0 and minus the logit
        found = assign(assigner, AROUND_BOTH, predicted=predicted, logits=logits, **TWO)
        assert [i for i, object_ in enumerate(found) if object_ == 0] == [best]


@pytest.mark.parametrize("weight", ["cls_weight", "iou_weight", "center_weight"])
@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("size", [0.5, 2.0])
def test_each_cost_counts_by_its_weight(weight: str, factor: float, size: float) -> None:
    """The first prediction has what one cost praises, the second what another does."""
    points = torch.tensor([[8.0, 8.0], [24.0, 8.0]])
    box = [0.0, 0.0, 16.0 if weight == "center_weight" else 32.0, 16.0]
    logits, predicted = torch.tensor([[60.0], [60.0]]), torch.tensor([box, box])
    weights = dict.fromkeys(("cls_weight", "iou_weight", "center_weight"), 0.0)
    if weight == "cls_weight":  # a class cost of 2 against an overlap cost of ln 2, for 1/2
        logits[0, 0] = -torch.expm1(torch.tensor(2.0)).log()
        predicted[1, 3] = 8.0
        weights["iou_weight"] = 1.0
        balance = 0.6931472 / 2.0
    elif weight == "iou_weight":  # an overlap cost of ln 2 against a class cost of 2
        predicted[0, 3] = 8.0
        logits[1, 0] = -torch.expm1(torch.tensor(2.0)).log()
        weights["cls_weight"] = 1.0
        balance = 2.0 / 0.6931472
    else:  # a centre cost of 1 and of 0.01 against a class cost of 2
        box[2] = 32.0
        points = torch.tensor([[16.0, 15.0], [16.0, 8.0]])
        predicted = torch.tensor([box, box])
        logits[1, 0] = -torch.expm1(torch.tensor(2.0)).log()
        weights["cls_weight"] = 1.0
        balance = 2.0 / (10 ** (7 / 8 - 3) - 10**-3)
    for name, value in weights.items():
        weights[name] = value * size
    weights[weight] = balance * factor * size
    assigner = DynamicSoftLabel(class_cost="plain", topk=1, **weights)
    found = assign(
        assigner, box, points=points, strides=torch.full((2,), 8.0), predicted=predicted,
        logits=logits,
    )  # fmt: skip
    assert found == ([0, -1] if factor < 1 else [-1, 0])


def test_simota_counts_nothing_twice_where_the_prior_is_off() -> None:
    far = [300.0, 0.0, 700.0, 16.0]  # the soft cost of its centre is infinite at these points
    points = torch.tensor([[301.0, 8.0], [302.0, 8.0]])
    predicted = [[0.0] * 4, far]
    assigner = DynamicSoftLabel(center_weight=0.0)
    assert assign(assigner, far, points=points, strides=torch.ones(2), predicted=predicted) == [
        -1,
        0,
    ]


def test_the_hard_prior_takes_points_inside_or_central_and_prefers_both() -> None:
    points = torch.tensor([[8.0, 8.0], [20.0, 8.0], [30.0, 8.0]])
    box = [0.0, 0.0, 18.0, 16.0]  # centre (9, 8); the second point is outside, but within 2 strides
    logits = torch.tensor([[-9.0], [9.0], [9.0]])
    knobs = {"points": points, "strides": torch.full((3,), 8.0), "logits": logits}
    assert assign(SimOTA(center_radius=2.0), box, **knobs) == [0, -1, -1]
    # Two objects: one has no point of its own, and takes the central one as the cheapest left.
    overlapping = torch.tensor([[0.0, 0, 18, 16]]).repeat(3, 1)
    assert assign(SimOTA(center_radius=2.0), box, **knobs, predicted=overlapping) == [0, 0, -1]
    assert assign(SimOTA(center_radius=1.0), box, **knobs, predicted=overlapping) == [0, -1, -1]


# TaskAligned.


def test_taskaligned_takes_the_best_scores_and_drops_those_outside() -> None:
    box = [0.0, 0.0, 18.0, 12.0]  # around the points (8, 8) and (16, 8)
    predicted = torch.tensor([box]).repeat(9, 1)
    logits = torch.arange(9.0)[:, None] - 9  # the last points, which are outside, score best
    for topk, expected in ((9, {0, 1}), (8, {1}), (7, set()), (20, {0, 1})):
        found = assign(TaskAligned(topk=topk), box, predicted=predicted, logits=logits)
        assert {i for i, object_ in enumerate(found) if object_ == 0} == expected
    predicted[0] = 0  # without overlap the product is zero, and nothing is taken
    assert assign(TaskAligned(topk=9), box, predicted=predicted, logits=logits)[:2] == [-1, 0]


@pytest.mark.parametrize(("alpha", "best"), [(0.9, 0), (1.1, 1)])
def test_taskaligned_raises_scores_and_overlaps_to_its_exponents(alpha: float, best: int) -> None:
    # Scores 1/8 and 1/2, overlaps 1 and 1/2: (1/4)^alpha against (1/2)^beta, equal at alpha 1.
    predicted = torch.tensor([AROUND_BOTH, [0.0, 0.0, 24.0, 8.0]])
    logits = torch.tensor([[0.125], [0.5]]).logit()
    for beta in (2.0, 4.0):
        assigner = TaskAligned(topk=1, alpha=alpha * beta / 2, beta=beta)
        found = assign(assigner, AROUND_BOTH, predicted=predicted, logits=logits, **TWO)
        assert found == ([0, -1] if best == 0 else [-1, 0])


def test_taskaligned_gives_a_prediction_to_the_object_it_overlaps_most() -> None:
    larger = [0.0, 0.0, 24.0, 20.0]
    logits = torch.tensor([[-3.0, 3.0], [-3.0, 3.0]])  # the class of the second object
    predicted = torch.tensor([AROUND_BOTH, AROUND_BOTH])
    found = assign(TaskAligned(), AROUND_BOTH, larger, predicted=predicted, logits=logits, **TWO)
    assert found == [0, 0]


@pytest.mark.parametrize("assigner", [TaskAligned(), ATSS(anchor_scale=2.0)])
@pytest.mark.parametrize(("gap", "taken"), [(0.009, False), (0.011, True)])
@pytest.mark.parametrize("side", range(4))
def test_a_point_is_inside_from_a_hundredth_of_a_pixel(
    assigner: Any, gap: float, taken: bool, side: int
) -> None:
    box = [-8.0, -8.0, 8.0, 8.0]
    box[side] = gap if side > 1 else -gap
    points = torch.tensor([[0.0, 0.0]] + [[500.0, 0.0]] * 4)
    strides, predicted = torch.full((5,), 8.0), torch.tensor(box).expand(5, 4)
    found = assign(assigner, box, points=points, strides=strides, predicted=predicted)
    assert found == [0 if taken else -1] + [-1] * 4
