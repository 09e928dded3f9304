"""The borders of suppression: thresholds, the limits of each way, and how many steps are enough."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import batched_nms

from detectors.suppression import group_nms, static_nms


class Calls(TorchDispatchMode):
    """Counts the calls of torchvision's NMS."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func is torch.ops.torchvision.nms.default
        return func(*args, **(kwargs or {}))


def pile(count: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes of which each overlaps the next one of its group by 7 / 9, best first."""
    place = torch.arange(count)
    left = place // groups * 1.0
    boxes = torch.stack((left, left * 0, left + 8, left * 0 + 8), dim=1)
    return boxes, torch.linspace(1, 0.5, count), place % groups


@pytest.mark.parametrize(
    ("count", "groups", "calls"),
    [(20, 2, 0), (21, 2, 2), (200, 20, 0), (201, 20, 20), (200, 30, 0), (201, 30, 30)],
)
def test_few_boxes_are_suppressed_at_once_and_many_group_by_group(
    count: int, groups: int, calls: int
) -> None:
    """Ten of a group, and two hundred in all, are few; the benchmark says why."""
    boxes, scores, labels = pile(count, groups)
    with Calls() as made:
        found = group_nms(boxes, scores, labels, 0.65)
    assert made.number == calls
    assert found.tolist() == batched_nms(boxes, scores, labels, 0.65).tolist()
    assert 0 < len(found) < count


@pytest.mark.parametrize("count", [1, 40])
def test_numbers_without_boxes_between_them_are_no_groups(count: int) -> None:
    boxes, scores, labels = pile(count, 1)
    found = group_nms(boxes, scores, labels + 7, 0.65)
    assert found.tolist() == list(range(0, count, 2))


BOTH = pytest.mark.parametrize("count", [2, 40], ids=["at once", "group by group"])


@BOTH
def test_double_precision_is_not_narrowed(count: int) -> None:
    """In double precision 0.6 is not above 0.6, as it is in single precision."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6]], dtype=torch.float64)
    far = 20 * torch.arange(1, count - 1, dtype=torch.float64)[:, None] + boxes[:1]
    boxes, scores = torch.cat((boxes, far)), torch.linspace(1, 0.5, count, dtype=torch.float64)
    groups = torch.zeros(count, dtype=torch.int64)
    for dtype, survivors in ((torch.float64, count), (torch.float32, count - 1)):
        found = group_nms(boxes.to(dtype), scores.to(dtype), groups, 0.6)
        assert len(found) == survivors
    alive = torch.ones(count, dtype=torch.bool)
    assert static_nms(boxes, groups, alive, 0.6).keep.all()
    assert not static_nms(boxes.float(), groups, alive, 0.6).keep.all()


@BOTH
@pytest.mark.parametrize("limit", [0.5, 0.25])
def test_an_overlap_equal_to_the_threshold_is_not_too_much(count: int, limit: float) -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8 * limit]]).repeat(count // 2, 1)
    groups = torch.arange(count // 2).repeat_interleave(2) // 10
    boxes += 100 * torch.arange(count // 2).repeat_interleave(2)[:, None]
    scores = torch.linspace(1, 0.5, count)
    assert len(group_nms(boxes, scores, groups, limit)) == count
    assert len(group_nms(boxes, scores, groups, limit - 1e-3)) == count // 2


def test_a_box_with_nothing_in_common_survives_a_threshold_of_zero() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [7, 7, 15, 15]])
    zeros = torch.zeros(4, dtype=torch.int64)
    scores = torch.linspace(1, 0.5, 4)
    assert group_nms(boxes, scores, zeros, 0.0).tolist() == [0, 1, 2]
    # two corners that lie apart on both axes span no common area either
    boxes[1] = torch.tensor([10.0, 10, 12, 12])
    assert group_nms(boxes[:3], scores[:3], zeros[:3], 0.0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("length", [2, 5, 9])
def test_a_chain_takes_as_many_steps_as_it_has_links(length: int) -> None:
    """Each step settles one more box, and the first needs none."""
    boxes, _, groups = pile(length, 1)
    alive = torch.ones(length, dtype=torch.bool)
    for steps in range(length + 1):
        found = static_nms(boxes, groups, alive, 0.65, steps)
        settled = min(steps + 1, length)
        assert found.keep[:settled].tolist() == ([True, False] * length)[:settled]
        assert bool(found.converged) == (steps >= length - 1)
    assert static_nms(boxes, groups, alive, 0.65).converged


def test_images_of_a_batch_converge_one_by_one() -> None:
    long, _, groups = pile(6, 1)
    apart = long + 20 * torch.arange(6)[:, None]
    boxes, labels = torch.stack((long, apart)), torch.stack((groups, groups))
    found = static_nms(boxes, labels, torch.ones(2, 6, dtype=torch.bool), 0.65, 2)
    assert found.converged.tolist() == [False, True]
    assert found.keep[1].tolist() == [True] * 6
    none = static_nms(boxes, labels, torch.zeros(2, 6, dtype=torch.bool), 0.65)
    assert none.converged.tolist() == [True, True]
    assert not none.keep.any()
