"""Losses against values worked out by hand and against the reference's."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, distributed
from torchvision.ops import sigmoid_focal_loss

from detectors.losses import (
    average_over_processes,
    focal_loss,
    giou_loss,
    quality_focal_loss,
    varifocal_loss,
)
from tests.detectors import golden
from tests.golden.golden_inputs import giou_case, qfl_case


def tensors(case: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in case.items()}


def expected(key: str) -> np.ndarray:
    return golden.arrays("rtmdet_train.npz")[key]


@pytest.mark.parametrize(
    ("score", "quality", "beta", "loss"),
    [
        (0.5, 0.0, 2.0, math.log(2) * 0.25),
        (0.5, 1.0, 2.0, math.log(2) * 0.25),
        (0.8, 0.8, 2.0, 0.0),
        (0.9, 0.6, 1.0, -(0.6 * math.log(0.9) + 0.4 * math.log(0.1)) * 0.3),
        (0.9, 1.0, 0.0, -math.log(0.9)),
    ],
)
def test_quality_focal_loss_by_hand(score: float, quality: float, beta: float, loss: float) -> None:
    logits = torch.tensor([score]).logit()
    ours = quality_focal_loss(logits, torch.tensor([quality]), beta)
    assert ours.item() == pytest.approx(loss, abs=1e-6)


def test_quality_focal_loss_equals_golden_values() -> None:
    case = tensors(qfl_case())
    logits = case["pred"].requires_grad_()
    wanted = torch.zeros_like(logits)
    positive = case["label"] < logits.shape[1]
    wanted[positive, case["label"][positive]] = case["score"][positive]
    rows = quality_focal_loss(logits, wanted).sum(dim=1)
    np.testing.assert_allclose(rows.detach().numpy(), expected("qfl_elements"), rtol=1e-5)
    weighted = (rows * case["weight"]).sum()
    assert weighted.item() == pytest.approx(expected("qfl_weighted_sum"), rel=1e-5)
    (gradient,) = torch.autograd.grad(weighted, logits)
    stored = expected("qfl_grad")
    np.testing.assert_allclose(gradient[: len(stored)].numpy(), stored, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_focal_loss_is_torchvisions(label: float) -> None:
    logits = torch.linspace(-9, 9, 37, dtype=torch.float64)
    theirs = sigmoid_focal_loss(logits, torch.full_like(logits, label), 0.3, 1.7)
    torch.testing.assert_close(focal_loss(logits, label, 0.3, 1.7), theirs)


def test_quality_focal_loss_is_finite_for_extreme_logits() -> None:
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = quality_focal_loss(logits, torch.tensor([1.0, 0.0])).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("score", "quality", "labelled", "loss"),
    [
        (0.5, 0.0, False, math.log(2) * 0.75 * 0.25),
        (0.9, 0.0, False, -math.log(0.1) * 0.75 * 0.81),
        (0.5, 1.0, True, math.log(2)),
        (0.9, 0.6, True, -0.6 * (0.6 * math.log(0.9) + 0.4 * math.log(0.1))),
        (0.9, 0.0, True, 0.0),
    ],
)
def test_varifocal_loss_by_hand(score: float, quality: float, labelled: bool, loss: float) -> None:
    logits = torch.tensor([score]).logit()
    ours = varifocal_loss(logits, torch.tensor([quality]), torch.tensor([labelled]))
    assert ours.item() == pytest.approx(loss, abs=1e-6)


def test_varifocal_weights_have_no_gradient() -> None:
    logits = torch.tensor([0.5, 0.5], requires_grad=True)
    qualities, labelled = torch.tensor([0.6, 0.0]), torch.tensor([True, False])
    varifocal_loss(logits, qualities, labelled, alpha=0.5, gamma=3.0).sum().backward()
    score = 1 / (1 + math.exp(-0.5))
    # the derivative of cross entropy is score - label
    assert logits.grad.tolist() == pytest.approx([0.6 * (score - 0.6), 0.5 * score**3 * score])


def test_varifocal_loss_is_finite_for_extreme_logits() -> None:
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    labelled = torch.tensor([True, False])
    loss = varifocal_loss(logits, labelled.float(), labelled).sum()
    loss.backward()
    assert loss.item() == pytest.approx(1e4 * 1.75)
    assert logits.grad.tolist() == [-1, 0.75]


def test_giou_loss_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    targets = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    assert giou_loss(boxes, targets).tolist() == pytest.approx([0, 1 + 1 / 3])


def test_giou_loss_equals_golden_values() -> None:
    case = tensors(giou_case())
    boxes = case["pred"].requires_grad_()
    rows = 2 * giou_loss(boxes, case["target"])
    np.testing.assert_allclose(
        rows.detach().numpy(), expected("giou_elements_x2"), rtol=1e-5, atol=1e-6
    )
    weighted = (rows * case["weight"]).sum()
    assert weighted.item() == pytest.approx(expected("giou_weighted_sum_x2"), rel=1e-5)
    (gradient,) = torch.autograd.grad(weighted, boxes)
    np.testing.assert_allclose(gradient.numpy(), expected("giou_grad"), rtol=1e-4, atol=1e-6)


def test_a_normaliser_is_averaged_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = torch.tensor(3.0)
    assert average_over_processes(mine).item() == 3
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", lambda value: value.add_(5.0))
    assert average_over_processes(mine).item() == 4
    assert mine.item() == 3
