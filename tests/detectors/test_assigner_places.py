"""Where assigners draw their lines, by hand: those that see anchors, places, plans and pairs."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from torch import Tensor

from detectors.assigners import ATSS, OTA, FCOSCenter, Hungarian, MaxIoU
from detectors.assigners.ota import sinkhorn
from detectors.boxes import pairwise_iou
from detectors.interface import IGNORED, Target


def assign(
    assigner: Any,
    *boxes: list[float],
    points: Any,
    strides: Any,
    predicted: Any = None,
    logits: Any = None,
) -> list[int]:
    """Assign in one image; all objects are of the first class."""
    points = torch.as_tensor(points)
    scores = torch.zeros(len(points), 1) if logits is None else torch.as_tensor(logits)
    found = torch.zeros(len(points), 4) if predicted is None else torch.as_tensor(predicted)
    target = Target(torch.tensor(boxes), torch.zeros(len(boxes), dtype=torch.int64))
    arguments = (points, torch.as_tensor(strides), [target])
    (image,) = assigner(scores[None], found[None], *arguments)
    index: list[int] = image.gt_index.tolist()
    return index


# Max-IoU: anchors of 16 pixels around points in a row, which leave each other alone.

ROW = [[8.0, 8.0], [40.0, 8.0], [72.0, 8.0]]
SIXTEEN = {"points": ROW, "strides": [2.0] * 3}


def part(number: int, height: float) -> list[float]:
    """Return a box that is so many of the 16 pixels of an anchor high: the overlap times 16."""
    return [32.0 * number, 0.0, 32.0 * number + 16, height]


def test_maxiou_takes_from_one_bar_and_ignores_from_the_other() -> None:
    objects = [part(0, 8), part(1, 4), part(2, 3)]  # overlaps 1/2, 1/4 and 3/16
    for positive, negative, expected in (
        (0.5, 0.25, [0, IGNORED, -1]),
        (0.501, 0.251, [IGNORED, -1, -1]),
        (0.25, 0.1875, [0, 1, IGNORED]),
        (0.1875, 0.1875, [0, 1, 2]),
        (1.0, 0.0, [IGNORED] * 3),
    ):
        assigner = MaxIoU(positive, negative, match_low_quality=False)
        assert assign(assigner, *objects, **SIXTEEN) == expected


def test_maxiou_lets_an_object_take_its_best_from_the_least_overlap() -> None:
    objects = [part(0, 8), part(1, 4)]
    for least, expected in ((0.0, [0, 1, -1]), (0.25, [0, 1, -1]), (0.2501, [0, -1, -1])):
        assigner = MaxIoU(0.75, 0.6, min_overlap=least)
        assert assign(assigner, *objects, **SIXTEEN) == expected


def test_maxiou_gives_nothing_where_nothing_overlaps() -> None:
    """Even where every bar is at zero."""
    outside = [0.0, 400.0, 16.0, 416.0]
    for low_quality in (True, False):
        assigner = MaxIoU(0.0, 0.0, match_low_quality=low_quality)
        assert assign(assigner, outside, **SIXTEEN) == [IGNORED] * 3
        assert assign(assigner, part(1, 1), outside, **SIXTEEN) == [IGNORED, 0, IGNORED]
    assert assign(MaxIoU(), outside, **SIXTEEN) == [-1] * 3


def test_maxiou_gives_all_equal_anchors_and_the_last_of_rivals() -> None:
    middle = [16.0, 0.0, 32.0, 16.0]  # shares 8 x 16 with the anchors around 16 and 32
    points, strides = [[16.0, 8.0], [32.0, 8.0], [90.0, 8.0]], [2.0] * 3
    assert assign(MaxIoU(), middle, points=points, strides=strides) == [0, 0, -1]
    assert assign(MaxIoU(), middle, middle, points=points, strides=strides) == [1, 1, -1]
    low = MaxIoU(match_low_quality=False, positive_overlap=0.3, negative_overlap=0.3)
    larger = [16.0, 0.0, 33.0, 16.0]
    # 8/24 with both for the first object; 8/25 and 9/24 for the second
    found = assign(low, middle, larger, points=points, strides=strides)
    assert found == [0, 1, -1]


def test_maxiou_and_atss_compare_anchors_of_the_side_they_are_told() -> None:
    box = [0.0, 0.0, 16.0, 16.0]
    for scale, expected in ((8.0, 0), (7.0, IGNORED), (9.0, IGNORED)):  # overlap 1, 49/64, 64/81
        assigner = MaxIoU(0.9, 0.7, anchor_scale=scale, match_low_quality=False)
        assert assign(assigner, box, **SIXTEEN)[0] == expected


# ATSS


def test_atss_takes_anchors_that_reach_the_bar() -> None:
    """All candidates overlap the object by 1/4: the deviation is 0, and all are at the bar."""
    points = [[8.0, 8.0], [24.0, 8.0], [8.0, 24.0], [24.0, 24.0], [72.0, 8.0]]
    box = [0.0, 0.0, 32.0, 32.0]
    found = assign(ATSS(topk=4), box, points=points, strides=[2.0] * 5)
    assert found == [0, 0, 0, 0, -1]
    # The fifth makes the mean 1/5 and the deviation 0.1118: 1/4 is below their sum.
    assert assign(ATSS(topk=5), box, points=points, strides=[2.0] * 5) == [-1] * 5


def test_atss_looks_at_the_nearest_of_each_level() -> None:
    """One anchor of each level: overlaps 1, 1/4 and 1/16, mean 0.4375 and deviation 0.4961."""
    points = [[0.0, 0.0], [40.0, 0.0], [0.0, 8.0], [8.0, 0.0], [70.0, 0.0], [2.0, 0.0]]
    strides = [2.0, 2.0, 2.0, 4.0, 4.0, 8.0]
    small = [-8.0, -8.0, 8.0, 8.0]
    assert assign(ATSS(topk=1), small, points=points, strides=strides) == [0, -1, -1, -1, -1, -1]
    # of stride 4, the anchor around (8, 0) is 8 to the right: shares 16 x 32 of 32 x 32
    large = [-8.0, -16.0, 24.0, 16.0]
    assert assign(ATSS(topk=1), large, points=points, strides=strides) == [-1, -1, -1, 0, -1, -1]
    coarse = [-30.0, -32.0, 34.0, 32.0]
    assert assign(ATSS(topk=1), coarse, points=points, strides=strides) == [-1, -1, -1, -1, -1, 0]


def test_atss_gives_an_anchor_to_the_object_it_overlaps_most() -> None:
    points, strides = [[8.0, 8.0], [100.0, 8.0], [200.0, 8.0]], [2.0] * 3
    found = assign(
        ATSS(), [0.0, 0.0, 16.0, 14.0], [0.0, 0.0, 16.0, 15.0], points=points, strides=strides
    )
    assert found == [1, -1, -1]


# FCOS: two levels around one place; what is farther than 2 strides of 8 pixels is the coarse one's.

LEVELS = {"points": [[50.0, 50.0], [50.0, 50.0]], "strides": [8.0, 16.0]}


@pytest.mark.parametrize("side", range(4))
def test_fcos_goes_by_the_farthest_side_and_both_levels_take_the_limit(side: int) -> None:
    for far, expected in ((15.9, [0, -1]), (16.0, [0, 0]), (16.1, [-1, 0])):
        box = [40.0, 40.0, 60.0, 60.0]
        box[side] = 50 + (far if side > 1 else -far)
        assigner = FCOSCenter(center_radius=4.0, limit=2.0)
        assert assign(assigner, box, **LEVELS) == expected


def test_fcos_wants_points_inside_and_central() -> None:
    points, strides = [[50.0, 50.0], [56.0, 50.0], [62.0, 50.0]], [8.0] * 3
    box = [40.0, 40.0, 60.0, 60.0]  # the third point is outside
    for radius, expected in ((2.0, [0, 0, -1]), (0.76, [0, 0, -1]), (0.75, [0, -1, -1])):
        found = assign(FCOSCenter(center_radius=radius), box, points=points, strides=strides)
        assert found == expected


def test_fcos_bounds_no_level_below_the_first_and_above_the_last() -> None:
    tiny, huge = [49.0, 49.0, 51.0, 51.0], [-5000.0, -5000.0, 5100.0, 5100.0]
    assert assign(FCOSCenter(), tiny, **LEVELS) == [0, -1]
    assert assign(FCOSCenter(), huge, **LEVELS) == [-1, 0]
    assert assign(FCOSCenter(), huge, tiny, **LEVELS) == [1, 0]


# OTA


def scene(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Target]:
    """Draw 36 points of stride 8, their predictions of 3 classes, and 3 objects."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.cartesian_prod(torch.arange(6), torch.arange(6)).flip(1) * 8.0
    reach = 8 + 16 * torch.rand(36, 2, generator=draw)
    boxes = torch.cat((rows - reach, rows + reach), dim=1)
    logits = 2 * torch.randn(36, 3, generator=draw)
    corners = 1.3 + 18 * torch.rand(3, 2, generator=draw)
    sides = 9 + 16 * torch.rand(3, 2, generator=draw)
    objects = torch.cat((corners, corners + sides), dim=1)
    return logits, boxes, rows, torch.full((36,), 8.0), Target(objects, torch.tensor([2, 0, 1]))


def by_the_paper(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target, knobs: OTA
) -> tuple[list[int], Any]:
    """Return the plan's best supplier of each point, and by what factor it leads the next."""
    x, y = points.double().numpy().T
    objects = target.boxes.double().numpy()
    centre = (objects[:, :2] + objects[:, 2:]) / 2
    apart = np.abs(np.stack((x, y), axis=1)[None] - centre[:, None])  # [M, N, 2]
    inside = (x > objects[:, :1]) & (x < objects[:, 2:3])
    inside &= (y > objects[:, 1:2]) & (y < objects[:, 3:])
    allowed = inside & (apart < knobs.center_radius * strides.double().numpy()[:, None]).all(-1)
    for row in np.flatnonzero(~allowed.any(axis=1)):
        allowed[row, (apart[row] ** 2).sum(-1).argmin()] = True
    near = allowed.any(axis=0)
    allowed = allowed[:, near]
    ious = pairwise_iou(target.boxes.double(), boxes.double()).numpy()[:, near] * allowed
    supply = np.maximum(np.sort(ious, axis=1)[:, ::-1][:, : knobs.topk].sum(axis=1).astype(int), 1)
    supply = np.append(supply, near.sum() - supply.sum())

    score = expit(logits.double().numpy()[near])  # [K, C]
    absent = (1 - knobs.alpha) * score**knobs.gamma * -np.log(1 - score)
    present = knobs.alpha * (1 - score) ** knobs.gamma * -np.log(score)
    background = absent.sum(axis=1)
    labels = target.labels.numpy()
    classes = background + (present - absent).T[labels]  # [M, K]
    costs = classes - knobs.iou_weight * np.log(ious + 1e-7)
    costs = np.vstack((np.where(allowed, costs, np.inf), background)) / knobs.epsilon
    taking = np.zeros(near.sum())  # logarithms of the factors of points and suppliers
    giving = np.zeros(len(supply))
    for _ in range(knobs.iterations):
        taking = -logsumexp(giving[:, None] - costs, axis=0)
        giving = np.log(supply) - logsumexp(taking - costs, axis=1)
    plan = giving[:, None] - costs
    best = np.sort(plan, axis=0)
    found = np.full(len(x), -1)
    winner = plan.argmax(axis=0)
    found[near] = np.where(winner < len(objects), winner, -1)
    return found.tolist(), (best[-1] - best[-2]).min()


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"topk": 2},
        {"iou_weight": 0.5},
        {"center_radius": 1.0},
        {"epsilon": 0.5},
        {"iterations": 2},
        {"alpha": 0.75},
        {"gamma": 0.5},
    ],
    ids=str,
)
def test_ota_equals_the_paper_in_double_precision(knobs: dict[str, Any]) -> None:
    """Logarithms of the plan are of order 100, so that single precision is right within 1e-3."""
    compared, objects = 0, 0
    for seed in range(6):
        logits, boxes, points, strides, target = scene(seed)
        expected, lead = by_the_paper(logits, boxes, points, strides, target, OTA(**knobs))
        if lead < 1e-2:
            continue
        (found,) = OTA(**knobs)(logits[None], boxes[None], points, strides, [target])
        assert found.gt_index.tolist() == expected
        compared += 1
        objects += len(set(expected) - {-1})
    assert compared >= 3
    assert objects > compared


def test_sinkhorn_serves_points_then_suppliers_as_often_as_told() -> None:
    """One turn by hand: all costs are 0, so each of 4 points takes a half from both suppliers."""
    demands = torch.ones(1, 4, dtype=torch.bool)
    supply = torch.tensor([[1.0, 3.0]])
    sent = sinkhorn(torch.zeros(1, 2, 4), supply, demands, 1)
    # points send 1 / 2 each; suppliers then scale to 1 and 3: 1 / (4 / 2) and 3 / (4 / 2)
    torch.testing.assert_close(sent.exp(), torch.tensor([[[0.5] * 4, [1.5] * 4]]))
    none = sinkhorn(torch.zeros(1, 2, 4), torch.tensor([[0.0, 4.0]]), demands, 3)
    assert none.isfinite().all()
    torch.testing.assert_close(none.softmax(dim=1)[0, 1], torch.ones(4))


def test_ota_takes_the_nearest_point_only_where_an_object_has_none() -> None:
    points, strides = [[8.0, 8.0], [16.0, 8.0], [24.0, 8.0]], [8.0] * 3
    lonely = [17.0, 9.0, 19.0, 11.0]  # nearest to (16, 8)
    assert assign(OTA(), lonely, points=points, strides=strides) == [-1, 0, -1]
    box = [4.0, 4.0, 12.0, 12.0]
    assert assign(OTA(), box, lonely, points=points, strides=strides) == [0, 1, -1]


@pytest.mark.parametrize(("logit", "best"), [(-95.76, 1), (-96.96, 0)])
def test_no_overlap_costs_ota_as_much_as_one_of_a_ten_millionth(logit: float, best: int) -> None:
    """Minus 1.5 ln 1e-7 is 24.18; a score of a half saves 0.09, a wrong logit costs its quarter."""
    box = [0.0, 0.0, 24.0, 16.0]
    found = assign(
        OTA(),
        box,
        points=[[8.0, 8.0], [16.0, 8.0]],
        strides=[8.0, 8.0],
        predicted=[[0.0] * 4, box],
        logits=[[0.0], [logit]],
    )
    assert [i for i, object_ in enumerate(found) if object_ == 0] == [best]


# Hungarian: one object and two predictions; the first costs more by its class, or by its box.


def focal(logit: float) -> float:
    """Return the focal cost of a class by its formula, alpha 1/4 and gamma 2."""
    score = float(expit(logit))
    absent = 0.75 * score**2 * -np.log(1 - score)
    return float(0.25 * (1 - score) ** 2 * -np.log(score) - absent)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_hungarian_weighs_a_distance_against_a_class(axis: int, factor: float) -> None:
    """The points cover 64 x 32 pixels: a distance of 4 pixels is a share of 1/16 or of 1/8."""
    x, y = np.meshgrid(np.arange(8) * 8.0, np.arange(4) * 8.0)
    points = torch.tensor(np.stack((x.ravel(), y.ravel()), axis=1), dtype=torch.float32)
    box = torch.tensor([16.0, 8.0, 32.0, 24.0])
    predicted = torch.full((32, 4), 1000.0)
    predicted[3] = box
    predicted[5] = box + 4 * torch.tensor([1.0, 0, 1, 0] if axis == 0 else [0, 1.0, 0, 1])
    logits = torch.full((32, 1), -4.0)
    logits[3], logits[5] = -1.0, 1.0
    balance = 5 * (4 / 64 if axis == 0 else 4 / 32) / (focal(-1.0) - focal(1.0))
    assigner = Hungarian(cls_cost=balance * factor, giou_cost=0.0)
    found = assign(
        assigner, box.tolist(), points=points, strides=[8.0] * 32, predicted=predicted,
        logits=logits,
    )  # fmt: skip
    assert [i for i, object_ in enumerate(found) if object_ == 0] == [3 if factor < 1 else 5]


def test_hungarian_measures_the_input_by_its_finest_stride() -> None:
    """32 pixels: from 0 to 24 and one stride of 8, not one of the coarser level's 16."""
    points = torch.tensor([[x, y] for y in (0.0, 8, 16, 24) for x in (0.0, 8, 16, 24)] + [[0.0, 0]])
    strides = [8.0] * 16 + [16.0]
    box = torch.tensor([8.0, 8.0, 16.0, 16.0])
    predicted = torch.full((17, 4), 1000.0)
    predicted[0], predicted[16] = box, box + torch.tensor([2.0, 0, 2, 0])
    logits = torch.full((17, 1), -4.0)
    logits[0], logits[16] = -1.0, 1.0
    balance = 5 * (2 / 32) / (focal(-1.0) - focal(1.0))
    for factor, best in ((0.98, 0), (1.02, 16)):
        assigner = Hungarian(cls_cost=balance * factor, giou_cost=0.0)
        found = assign(
            assigner, box.tolist(), points=points, strides=strides, predicted=predicted,
            logits=logits,
        )  # fmt: skip
        assert [i for i, object_ in enumerate(found) if object_ == 0] == [best]


def test_hungarian_gives_every_object_of_every_image_its_own_prediction() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8], [8.0, 0, 16, 8], [0.0, 8, 8, 16], [8.0, 8, 16, 16]])
    points = boxes[:, :2]
    zeros = torch.zeros(4, dtype=torch.int64)
    targets = [
        Target(boxes[[3, 1]], zeros[:2]),
        Target(boxes[:0], zeros[:0]),
        Target(boxes[[2, 0, 1]], zeros[:3]),
    ]
    arguments = (torch.zeros(3, 4, 1), boxes.expand(3, -1, -1), points, torch.full((4,), 8.0))
    found = Hungarian()(*arguments, targets)
    assert [each.gt_index.tolist() for each in found] == [[-1, 1, -1, 0], [-1] * 4, [1, 2, 0, -1]]
