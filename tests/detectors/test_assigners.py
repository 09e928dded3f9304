"""Assigners against the reference's assignments and against scenes worked out by hand."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detectors.assigners import ATSS, DynamicSoftLabel, MaxIoU, SimOTA, TaskAligned
from detectors.assigners.scene import Objects, Scene, pad
from detectors.boxes import grid_points, pairwise_iou
from detectors.interface import IGNORED, Assignment, Target
from tests.detectors import golden
from tests.golden.golden_inputs import ASSIGNER_CASES, assigner_case

RPN = MaxIoU(positive_overlap=0.7, negative_overlap=0.3, min_overlap=0.3)
STRICT = MaxIoU(negative_overlap=0.5, min_overlap=0.5, match_low_quality=False)
SETTINGS = {
    "dsl": (DynamicSoftLabel(), "points0"),
    "simota": (SimOTA(), "points5"),
    "tal": (TaskAligned(), "points0"),
    "atss": (ATSS(), "points0"),
    "maxiou": (MaxIoU(), "points0"),
    "maxiou_rpn": (RPN, "points0"),
    "maxiou_nolow": (STRICT, "points0"),
}
CASES = list(ASSIGNER_CASES)


@cache
def scene(case: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in assigner_case(case).items()}


def assign(setting: str, cases: list[str]) -> list[Assignment]:
    assigner, priors = SETTINGS[setting]
    points = scene(cases[0])[priors]
    return assigner(
        torch.stack([scene(case)["logits"] for case in cases]),
        torch.stack([scene(case)["bboxes"] for case in cases]),
        points[:, :2],
        points[:, 2],
        [Target(scene(case)["gt_bboxes"], scene(case)["gt_labels"]) for case in cases],
    )


def assert_golden(assignment: Assignment, setting: str, case: str) -> None:
    stored = golden.arrays("assigners.npz")
    upstream = stored[f"{case}.{setting}.gt_inds"].astype(np.int64)
    expected = np.where(upstream == -1, IGNORED, upstream - 1)
    np.testing.assert_array_equal(assignment.gt_index.numpy(), expected)
    np.testing.assert_allclose(assignment.quality.numpy(), overlaps(expected, case), rtol=1e-6)
    if setting in ("dsl", "simota", "tal"):  # the others store overlaps with anchors
        found = np.where(expected >= 0, stored[f"{case}.{setting}.max_overlaps"], 0)
        np.testing.assert_allclose(assignment.quality.numpy(), found, rtol=1e-6)
    assert assignment.gt_index.dtype == torch.int64


def overlaps(expected: np.ndarray, case: str) -> np.ndarray:
    """Return the overlap of each prediction with its object, 0 where it has none."""
    result = np.zeros(len(expected), np.float32)
    found = expected >= 0
    ious = pairwise_iou(scene(case)["bboxes"], scene(case)["gt_bboxes"]).numpy()
    result[found] = ious[found, expected[found]]
    return result


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_equals_golden_assignments(setting: str, case: str) -> None:
    assert_golden(assign(setting, [case])[0], setting, case)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("cases", [CASES, CASES[::-1], ["empty", "empty"], ["border", "single"]])
def test_batches_equal_golden_assignments(setting: str, cases: list[str]) -> None:
    for case, assignment in zip(cases, assign(setting, cases), strict=True):
        assert_golden(assignment, setting, case)


POINTS, STRIDES = grid_points([(4, 4)], (8,), torch.device("cpu"))  # x and y of 0, 8, 16, 24
BOX = [4.0, 4.0, 20.0, 20.0]  # around the four points (8 or 16, 8 or 16); centre (12, 12)


def small(
    assigner: DynamicSoftLabel,
    objects: list[list[float]],
    *,
    boxes: Tensor | None = None,
    logits: Tensor | None = None,
) -> Assignment:
    """Assign on a 4x4 grid with 3 classes; object i is of class i."""
    boxes = torch.cat((POINTS - 6, POINTS + 6), dim=1) if boxes is None else boxes
    logits = torch.full((16, 3), -2.0) if logits is None else logits
    target = Target(torch.tensor(objects), torch.arange(len(objects)))
    return assigner(logits[None], boxes[None], POINTS, STRIDES, [target])[0]


def chosen(assignment: Assignment) -> list[int]:
    return (assignment.gt_index >= 0).nonzero().flatten().tolist()


def index(x: int, y: int) -> int:
    return y // 8 * 4 + x // 8


def test_takes_as_many_as_the_overlaps_add_up_to() -> None:
    found = small(DynamicSoftLabel(), [BOX])
    # each of the four points inside has a 12x12 box that shares 10x10 with the object
    overlap = 100 / (144 + 256 - 100)
    count = int(4 * overlap)
    assert count == 1
    assert len(chosen(found)) == count
    assert found.quality[chosen(found)].tolist() == pytest.approx([overlap])
    perfect = torch.tensor([BOX]).expand(16, 4)
    assert chosen(small(DynamicSoftLabel(), [BOX], boxes=perfect)) == [5, 6, 9, 10]
    assert len(chosen(small(DynamicSoftLabel(topk=2), [BOX], boxes=perfect))) == 2


def test_a_point_on_the_edge_is_no_candidate() -> None:
    assert chosen(small(DynamicSoftLabel(), [[8.0, 8.0, 16.0, 16.0]])) == []


def test_an_object_without_points_takes_the_cheapest_of_others() -> None:
    found = small(DynamicSoftLabel(), [BOX, [25.0, 12.0, 31.0, 20.0]])
    assert found.gt_index[index(16, 16)] == 1
    assert (found.gt_index == 0).sum() == 1


def test_a_prediction_wanted_twice_goes_where_it_is_cheaper() -> None:
    logits = torch.full((16, 3), -8.0)
    logits[index(8, 8)] = torch.tensor([-8.0, 3.0, -8.0])  # sure of class 1
    boxes = torch.zeros(16, 4)
    boxes[index(8, 8)] = torch.tensor(BOX)
    found = small(DynamicSoftLabel(), [BOX, BOX], boxes=boxes, logits=logits)
    assert found.gt_index[index(8, 8)] == 1
    assert found.quality[index(8, 8)] == 1


def test_class_cost_prefers_the_right_class() -> None:
    logits = torch.full((16, 3), -2.0)
    logits[index(16, 16), 0] = -0.5
    for cost in ("soft", "plain"):
        assert chosen(small(DynamicSoftLabel(class_cost=cost), [BOX], logits=logits)) == [10]
    blind = DynamicSoftLabel(cls_weight=0)
    assert torch.equal(small(blind, [BOX], logits=logits).gt_index, small(blind, [BOX]).gt_index)


def test_soft_class_cost_is_lowest_where_the_score_is_the_overlap() -> None:
    boxes = torch.cat((POINTS - 6, POINTS + 6), dim=1)  # overlap 1/3 with the object
    logits = torch.full((16, 3), -9.0)
    logits[5, 0] = torch.tensor(1 / 3).logit()
    logits[6, 0] = 4.0
    only_class = {"iou_weight": 0.0, "center_weight": 0.0}
    soft = DynamicSoftLabel(class_cost="soft", **only_class)
    plain = DynamicSoftLabel(class_cost="plain", **only_class)
    assert chosen(small(soft, [BOX], boxes=boxes, logits=logits)) == [5]
    assert chosen(small(plain, [BOX], boxes=boxes, logits=logits)) == [6]


@pytest.mark.parametrize("cost", ["soft", "plain"])
def test_class_cost_equals_a_sum_over_all_classes(cost: Any) -> None:
    torch.manual_seed(0)
    logits, ious, labels = torch.randn(2, 9, 5), torch.rand(2, 4, 9), torch.randint(0, 5, (2, 4))
    objects = Objects(torch.rand(2, 4, 4), labels, torch.ones(2, 4, dtype=torch.bool), (4, 4))
    batch = Scene(logits, torch.rand(2, 9, 4), torch.rand(1, 9, 2), torch.ones(1, 9), objects)
    ours = DynamicSoftLabel(class_cost=cost).worker()._class_cost(batch, ious)
    wanted = ious[..., None] if cost == "soft" else torch.ones(1)
    hot = torch.nn.functional.one_hot(labels, 5)[:, :, None] * wanted  # [B, M, N or 1, C]
    hot = hot.expand(2, 4, 9, 5).float()
    score = logits.sigmoid()[:, None].expand_as(hot)
    full = torch.nn.functional.binary_cross_entropy(score, hot, reduction="none")
    focus = (hot - score).abs() ** 2 if cost == "soft" else 1
    torch.testing.assert_close(ours, (full * focus).sum(-1))


def test_iou_cost_prefers_the_larger_overlap() -> None:
    boxes = torch.zeros(16, 4)
    boxes[5], boxes[10] = torch.tensor([4.0, 4.0, 20.0, 12.0]), torch.tensor([4.0, 4.0, 20.0, 13.0])
    for cost in ("log", "linear"):
        only_iou = DynamicSoftLabel(cls_weight=0, center_weight=0, iou_cost=cost)
        assert chosen(small(only_iou, [BOX], boxes=boxes)) == [10]


def test_linear_iou_cost_weighs_a_missing_overlap_less() -> None:
    boxes = torch.zeros(16, 4)
    boxes[5] = torch.tensor([4.0, 4.0, 20.0, 8.0])  # overlap 1/4, for 3 x 1.39 or 3 x 0.75 of cost
    logits = torch.full((16, 3), -2.0)
    logits[10, 0] = 2.0  # no overlap, for 3 x 16.1 or 3 x 1 of cost, but of the right class
    plain = DynamicSoftLabel(class_cost="plain", center_weight=0)
    assert chosen(small(plain, [BOX], boxes=boxes, logits=logits)) == [5]
    linear = replace(plain, iou_cost="linear")
    assert chosen(small(linear, [BOX], boxes=boxes, logits=logits)) == [10]


def test_soft_centre_prefers_the_nearer_point() -> None:
    only_center = {"cls_weight": 0.0, "iou_weight": 0.0}
    wide = [[1.0, 1.0, 17.0, 31.0]]  # centre (9, 16): nearest point (8, 16)
    assert chosen(small(DynamicSoftLabel(**only_center), wide)) == [index(8, 16)]
    far = DynamicSoftLabel(**only_center, center_base=0.1)  # a base below 1 turns the prior round
    assert chosen(small(far, wide)) != [index(8, 16)]


def test_centre_radius_scales_the_soft_cost() -> None:
    objects = pad([Target(torch.tensor([BOX]), torch.tensor([0]))])
    points, strides = torch.tensor([[[20.0, 12.0]]]), torch.tensor([[8.0]])
    batch = Scene(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4), points, strides, objects)
    for radius, cost in ((3.0, 10**-2), (1.0, 1.0), (0.0, 10.0)):
        ours = DynamicSoftLabel(center_radius=radius).worker()._center_cost(batch)
        assert ours.item() == pytest.approx(cost, rel=1e-5)


def test_hard_centre_keeps_to_the_middle_of_the_box() -> None:
    perfect = torch.tensor([[0.0, 0.0, 26.0, 26.0]]).expand(16, 4)
    whole = [[-1.0, -1.0, 27.0, 27.0]]  # every point is inside; centre (13, 13)
    hard = DynamicSoftLabel(center_prior="hard", center_radius=0.7, topk=4)
    # (8, 8), (16, 8), (8, 16) and (16, 16) are within 0.7 strides of 8 pixels along both axes
    middle = chosen(small(hard, whole, boxes=perfect))
    assert len(middle) == 3
    assert set(middle) <= {5, 6, 9, 10}
    off = replace(hard, center_weight=0.0, cls_weight=0.0)
    boxes = perfect.clone()
    boxes[:3] = torch.tensor(whole[0])  # the best overlaps are at the border
    assert chosen(small(off, whole, boxes=boxes)) == [0, 1, 2]


def test_far_points_with_infinite_cost_are_still_ranked_before_the_forbidden() -> None:
    points, strides = grid_points([(100, 100)], (8,), torch.device("cpu"))
    logits, boxes = torch.zeros(1, len(points), 2), torch.zeros(1, len(points), 4)
    near, far = [4.0, 4.0, 12.0, 12.0], [790.5, 790.5, 791.5, 791.5]
    target = Target(torch.tensor([near, far]), torch.tensor([0, 1]))
    (found,) = DynamicSoftLabel()(logits, boxes, points, strides, [target])
    assert (found.gt_index >= 0).nonzero().flatten().tolist() == [101]
    assert found.gt_index[101] == 0


def test_half_precision_predictions_are_assigned_in_single() -> None:
    case = scene("spread60")
    arguments = (case["points0"][:, :2], case["points0"][:, 2])
    target = [Target(case["gt_bboxes"], case["gt_labels"])]
    logits = case["logits"].bfloat16()[None]
    half = DynamicSoftLabel()(logits, case["bboxes"][None], *arguments, target)[0]
    single = DynamicSoftLabel()(logits.float(), case["bboxes"][None], *arguments, target)[0]
    assert torch.equal(half.gt_index, single.gt_index)
    assert half.quality.dtype == torch.float32


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            self.elements = max(self.elements, getattr(part, "numel", int)())
        return result


def test_no_tensor_holds_every_pair_and_class() -> None:
    images, classes, objects = 4, 80, 20
    points, strides = grid_points([(80, 80), (40, 40), (20, 20)], (8, 16, 32), torch.device("cpu"))
    logits = torch.randn(images, len(points), classes)
    boxes = torch.cat((points - 2 * strides[:, None], points + 2 * strides[:, None]), dim=1)
    corners = torch.rand(objects, 2) * 500
    target = Target(torch.cat((corners, corners + 100), dim=1), torch.arange(objects))
    with Largest() as largest:
        boxes = boxes.expand(images, -1, -1)
        DynamicSoftLabel()(logits, boxes, points, strides, [target] * images)
    assert largest.elements <= logits.numel()


@pytest.mark.parametrize(
    "wrong", [{"topk": 0}, {"cls_weight": -1.0}, {"center_base": 0.0}, {"center_radius": -1.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        DynamicSoftLabel(**wrong)
